"""The gradient-noise scale: the batch size at which noise and gradient are equally large."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from workbench.probes import late_torch as torch
from workbench.probes.measures.base import Measure
from workbench.probes.measures.replica import Replica
from workbench.probes.rows import row_dot

if TYPE_CHECKING:
    from workbench.probes.ensemble import Ensemble

__all__ = ["noise_scale", "split_gradient"]

#: Batches that are compared with their mean.
_BATCHES = 8


def split_gradient(gradients: Iterable[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Unbiased estimates of |G|^2 and of tr(C), each [E] (float64), from gradients [E, P] of independent batches.

    G is the expected gradient and C the covariance of one batch's gradient. With K batches of size B these
    are the estimates of McCandlish et al. 2018 (arXiv 1812.06162, appendix A.1) for the sizes B and K B:
    |G|^2 = (K |g_KB|^2 - |g_B|^2) / (K - 1) and tr(C) = (|g_B|^2 - |g_KB|^2) K / (K - 1), |g_B|^2 averaged
    over the batches. |G|^2 can come out negative where noise hides the gradient.

    Raises:
        ValueError: fewer than two gradients.
    """
    count, total, squares = 0, 0.0, 0.0
    for gradient in gradients:
        g = gradient.double()
        total, squares, count = total + g, squares + row_dot(g, g), count + 1
    if count < 2:
        raise ValueError(f"the noise of a gradient needs at least 2 batches; got {count}.")
    small, large = squares / count, row_dot(total, total) / count**2
    return (count * large - small) / (count - 1), (small - large) * count / (count - 1)


def _noise_scale(ensemble: Ensemble) -> dict[str, torch.Tensor]:
    replica = Replica(ensemble)
    square, trace = split_gradient(replica.gradient(replica.batch(k)) for k in range(_BATCHES))
    tokens = ensemble.probes[0].batch_tokens
    found = {"noise_scale": tokens * trace / square, "grad_square": square, "grad_variance": trace}
    return {name: value.cpu() for name, value in found.items()}


noise_scale = Measure(
    "noise_scale",
    "Simple gradient-noise scale tr(Sigma) / |G|^2 in tokens, noise_scale, from 8 training batches; its parts, both "
    "unbiased, are |G|^2, grad_square, and the trace of the covariance of one batch's gradient, grad_variance: "
    "average them over points or seeds before dividing where the scale is noisy or negative.",
    _noise_scale,
)
