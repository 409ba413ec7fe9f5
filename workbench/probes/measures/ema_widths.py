"""Loss of averaged weights against the width of the average, from two stored averages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.probes.measures.base import Measure
from workbench.probes.optimizers.post_hoc import reconstruct

if TYPE_CHECKING:
    import torch

    from workbench.probes.ensemble import Ensemble

__all__ = ["ema_widths"]

#: sigma_rel of the averages that are evaluated.
_WIDTHS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.25)


def _ema_widths(ensemble: Ensemble) -> dict[str, torch.Tensor]:
    kept = ensemble.optimizer.post_hoc
    if kept is None or ensemble.step < kept.points[0]:
        return {}
    found = {}
    for width in _WIDTHS:
        flat, _ = reconstruct(
            kept.slots["snapshots"], ensemble.probes[0].ema_profiles, kept.points, width, ensemble.step
        )
        found[f"loss_ema.{width}"] = ensemble.data.evaluate(lambda x, flat=flat: ensemble.predict(x, flat))["loss"]
    return found


ema_widths = Measure(
    "ema_widths",
    "Loss of power-function averages of the weights whose widths sigma_rel are 0.02 to 0.25: loss_ema.<sigma_rel>, "
    "reconstructed from what ema_profiles= keeps (nothing without it, nor at step 0).",
    _ema_widths,
)
