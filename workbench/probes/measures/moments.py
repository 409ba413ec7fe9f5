"""Moments of activations and of gradients, layer by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.probes import late_torch as torch
from workbench.probes.measures.base import Measure
from workbench.probes.measures.replica import Replica
from workbench.probes.rows import row_mean, row_sum

if TYPE_CHECKING:
    from workbench.probes.ensemble import Ensemble

__all__ = ["activations", "gradients", "moments", "weight_norms"]


def moments(x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Mean, root mean square and kurtosis (3 for a normal distribution) of each member's entries, [E] (float64, CPU).

    The kurtosis is about the mean, and NaN where all entries are equal.
    """
    x = x.double()
    mean = row_mean(x)
    centered = x - mean.view(-1, *[1] * (x.dim() - 1))
    square = centered * centered
    kurtosis = row_mean(square * square) / row_mean(square).square()
    found = {"mean": mean, "rms": row_mean(x * x).sqrt(), "kurtosis": kurtosis}
    return {name: value.cpu() for name, value in found.items()}


def _columns(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"{prefix}_{kind}.{name}": v for name, x in tensors.items() for kind, v in moments(x).items()}


def _activations(ensemble: Ensemble) -> dict[str, torch.Tensor]:
    replica = Replica(ensemble)
    return _columns("act", replica.see(replica.batch()))


def _gradients(ensemble: Ensemble) -> dict[str, torch.Tensor]:
    return _columns("grad", Replica(ensemble).named_gradient())


def _norms(ensemble: Ensemble) -> dict[str, torch.Tensor]:
    squares = {name: row_sum(w.double().square()) for name, w in ensemble.weights.master.items()}
    total = row_sum(torch.stack(list(squares.values()), 1))
    found = {"norm": total, **{f"norm.{name}": square for name, square in squares.items()}}
    return {name: square.sqrt().cpu() for name, square in found.items()}


activations = Measure(
    "activations",
    "Mean, root mean square and kurtosis of what the model shows on the next training batch: act_mean.<name>, "
    "act_rms.<name>, act_kurtosis.<name>, where <name> is a layer's (0.mlp) or output (logits).",
    _activations,
)
gradients = Measure(
    "gradients",
    "Mean, root mean square and kurtosis over the entries of each weight's gradient on the next training batch, "
    "before clipping: grad_mean.<weight>, grad_rms.<weight>, grad_kurtosis.<weight>.",
    _gradients,
)
weight_norms = Measure(
    "weight_norms",
    "Euclidean (Frobenius) norm of every weight, norm.<weight>, and of all together, norm.",
    _norms,
)
