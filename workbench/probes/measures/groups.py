"""Loss of groups of examples, where a task knows some."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.probes.measures.base import Measure

if TYPE_CHECKING:
    import torch

    from workbench.probes.ensemble import Ensemble

__all__ = ["group_loss"]


def _groups(ensemble: Ensemble) -> dict[str, torch.Tensor]:
    # A task's data may offer `group_losses(predict)`: losses by name of group, each [E] (float64, CPU), in the
    # task's loss, with the promises of `Data.evaluate`.
    losses = getattr(ensemble.data, "group_losses", None)
    return {} if losses is None else {f"loss.{name}": value for name, value in losses(ensemble.predict).items()}


group_loss = Measure(
    "group_loss",
    "Loss of each group of examples that the task knows (classes, domains, outliers): loss.<group>, in the task's "
    "loss; nothing where it knows none.",
    _groups,
)
