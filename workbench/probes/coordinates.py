"""The coordinate check: how the sizes of activations, and of what training adds to them, follow width.

A parametrization says how a model behaves as it grows. Training the same probe for a few steps at several
widths, and watching every named activation, shows whether the code does what was meant (Yang et al. 2022,
arXiv 2203.03466, appendix D.1).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from workbench.probes.spec import Probe

if TYPE_CHECKING:
    import torch

    from workbench.probes.ensemble import Ensemble

__all__ = ["coordinate_check", "width_exponents"]

#: Quantities of the frame of `coordinate_check`.
QUANTITIES = ("size", "change")


def coordinate_check(
    probe: Probe, widths: Sequence[int], steps: Iterable[int] = (0, 1, 2, 4), seeds: Iterable[int] = range(3),
    device: str | torch.device | None = "cpu",
) -> pd.DataFrame:  # fmt: skip
    """Sizes of the named activations of a probe, and of their change since the start, at several widths.

    The learning rate is constant, without warm-up, whatever the probe's schedule. Activations are those that the
    model shows (`Ops.see`) and ``output``, all on the first training batch of the seed.

    Args:
        probe: what is trained, but for width, seed, tokens and schedule.
        widths: widths of the model, at least two.
        steps: optimizer steps after which is looked; 0 is the start.
        seeds: runs at each width, trained as one stack.
        device: as in `workbench.probes.trainer.train`.

    Returns:
        One row a width, seed, activation and step: ``parametrization``, ``width``, ``seed``, ``activation``,
        ``step``, ``size`` (root mean square over batch and features) and ``change`` (the same of the difference
        to step 0), both in the activation's own units.

    Raises:
        ValueError: fewer than two widths, no seed, or a negative step.
    """
    widths, seeds = sorted(set(widths)), list(dict.fromkeys(seeds))
    looked = sorted({0, *steps})
    if len(widths) < 2 or not seeds or looked[0] < 0:
        raise ValueError(
            f"a coordinate check of widths={widths}, seeds={seeds}, steps={looked} has no exponent; give at least two "
            "widths, a seed, and steps from 0 on."
        )
    rows: list[dict[str, Any]] = []
    for width in widths:
        horizon = {"tokens": max(1, looked[-1]) * probe.batch_tokens, "evals": 1}
        base = probe.replace(width=width, warmup=0.0, schedule="constant", table=None, **horizon)
        rows += _one_width([base.replace(seed=seed) for seed in seeds], looked, device)
    return pd.DataFrame(rows)


def width_exponents(frame: pd.DataFrame) -> pd.DataFrame:
    """Exponents p of ``size ~ width^p`` by least squares on logarithms, one for every activation and step.

    Args:
        frame: from `coordinate_check`; several can be stacked.

    Returns:
        One row a parametrization, activation, step and quantity (``size`` or ``change``): ``exponent``, its
        ``error`` (one standard error; NaN for two points) and ``points``. What is zero at a width (an output whose
        head starts at zero) or not finite (a diverged run) is left out; no row where fewer than two widths are left.
    """
    rows = []
    for (kind, name, step), part in frame.groupby(["parametrization", "activation", "step"], sort=False):
        for quantity in QUANTITIES:
            y, x = part[quantity].to_numpy(float), part["width"].to_numpy(float)
            kept = np.isfinite(y) & (y > 0)
            if len(np.unique(x[kept])) < 2:
                continue
            exponent, error = _slope(np.log(x[kept]), np.log(y[kept]))
            rows.append(
                {"parametrization": kind, "activation": name, "step": step, "quantity": quantity,
                 "exponent": exponent, "error": error, "points": int(kept.sum())}
            )  # fmt: skip
    columns = ["parametrization", "activation", "step", "quantity", "exponent", "error", "points"]
    return pd.DataFrame(rows, columns=columns)


def _slope(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    centred = x - x.mean()
    slope = float(centred @ y / (centred @ centred))
    rest = y - y.mean() - slope * centred
    error = np.sqrt(rest @ rest / (len(x) - 2) / (centred @ centred)) if len(x) > 2 else np.nan
    return slope, float(error)


def _one_width(probes: list[Probe], steps: list[int], device: Any) -> list[dict[str, Any]]:
    from workbench.probes.backend import choose_backend, numerics, select_device
    from workbench.probes.ensemble import Ensemble

    backend = choose_backend(probes[0], select_device(device))
    rows = []
    with numerics(backend.matmul, backend.threads):
        ensemble = Ensemble(probes, backend)
        start: dict[str, torch.Tensor] = {}
        for step in steps:
            ensemble.advance(step)
            seen = _activations(ensemble)
            start = start or seen
            for name, x in seen.items():
                size, change = _root_mean_square(x), _root_mean_square(x - start[name])
                rows += [
                    {"parametrization": probe.parametrization, "width": probe.width, "seed": probe.seed,
                     "activation": name, "step": step, "size": size[index], "change": change[index]}
                    for index, probe in enumerate(probes)
                ]  # fmt: skip
    return rows


def _activations(ensemble: Ensemble) -> dict[str, torch.Tensor]:
    """What the model shows on its first training batch, by name, each [E, ...]."""
    import torch

    seen: dict[str, torch.Tensor] = {}

    def keep(name: str, x: torch.Tensor) -> None:
        seen[name] = x.detach().float().clone()

    with torch.no_grad():
        ensemble.weights.refresh()
        ensemble.loss(*ensemble.batch(0), observe=keep)
    return seen


def _root_mean_square(x: torch.Tensor) -> list[float]:
    return x.double().square().flatten(1).mean(1).sqrt().tolist()
