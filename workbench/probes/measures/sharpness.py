"""The largest eigenvalues of the loss's Hessian, by Lanczos iterations on all members at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from workbench.probes import late_torch as torch
from workbench.probes.measures.base import Measure
from workbench.probes.measures.replica import Replica
from workbench.probes.rows import row_dot

if TYPE_CHECKING:
    from workbench.probes.ensemble import Ensemble

__all__ = ["hessian_product", "lanczos", "sharpness"]

#: Lanczos iterations. The top of a network's Hessian stands apart from its bulk, so few are needed.
_ITERATIONS = 20
#: Length of the step of a central difference, as a share of the length of the weights (at least 1): between the
#: rounding of float32 gradients, which grows as 1 / step, and the next term of the series, as step^2.
_STEP = 1e-3


def hessian_product(
    replica: Replica, batch: tuple[torch.Tensor, torch.Tensor], share: float = _STEP
) -> Callable[[torch.Tensor], torch.Tensor]:
    """v [E, P] (unit rows) -> H v [E, P] (float64) of a batch's loss, by central differences of gradients.

    (g(w + h v) - g(w - h v)) / 2 h with h = share * max(1, |w|). Backward passes written by hand cannot be
    differentiated once more; gradients can always be subtracted.
    """
    at = replica.weights.data.clone()
    h = share * row_dot(at.double(), at.double()).sqrt().clamp_min(1.0)[:, None]

    def product(v: torch.Tensor) -> torch.Tensor:
        ends = []
        for sign in (1, -1):
            replica.weights.data.copy_((at.double() + sign * h * v).float())
            ends.append(replica.gradient(batch).double())
        replica.weights.data.copy_(at)
        return (ends[0] - ends[1]) / (2 * h)

    return product


def lanczos(product: Callable[[torch.Tensor], torch.Tensor], start: torch.Tensor, iterations: int) -> torch.Tensor:
    """Ritz values of a symmetric operator, one a member: [E, iterations] (float64, CPU), rising.

    Args:
        product: v [E, P] -> A v [E, P].
        start: [E, P] (float64), not zero.
        iterations: dimension of the Krylov space; each vector is made orthogonal to all before it. A member
            whose space is exhausted earlier has zeros in the rest.
    """
    q = start / row_dot(start, start).sqrt()[:, None]
    basis, diagonal, beside, largest = [q], [], [], torch.zeros(len(q), dtype=q.dtype, device=q.device)
    for _ in range(iterations):
        r = product(basis[-1])
        diagonal.append(row_dot(r, basis[-1]))
        for _ in range(2):  # twice is enough: one pass leaves rounding errors of the size of what it removes
            for one in basis:
                r = r - row_dot(r, one)[:, None] * one
        length = row_dot(r, r).sqrt()
        largest = torch.maximum(largest, diagonal[-1].abs() + length)
        alive = length > 1e-10 * largest
        length = torch.where(alive, length, 0.0)
        beside.append(length)
        basis.append(torch.where(alive[:, None], r / length.clamp_min(1e-300)[:, None], 0.0))
    matrix = torch.diag_embed(torch.stack(diagonal, 1))
    off = torch.diag_embed(torch.stack(beside, 1)[:, :-1], 1)
    # one by one and on the CPU: bits must not depend on how many members there are
    return torch.stack([_eigenvalues(one) for one in (matrix + off + off.mT).cpu()])


def _eigenvalues(matrix: torch.Tensor) -> torch.Tensor:
    """Those of a symmetric matrix, ascending; NaN for a member that has diverged."""
    return torch.linalg.eigvalsh(matrix) if bool(matrix.isfinite().all()) else torch.full_like(matrix[0], torch.nan)


def _sharpness(ensemble: Ensemble) -> dict[str, torch.Tensor]:
    replica = Replica(ensemble)
    size, width = replica.weights.size, replica.weights.data.shape[1]
    start = torch.zeros(width, dtype=torch.float64)
    start[:size] = torch.randn(size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    if ensemble.optimizer.trained is not None:
        start *= ensemble.optimizer.trained.cpu()
    start = start.to(ensemble.backend.device).expand(len(replica.weights.data), width)
    values = lanczos(hessian_product(replica, replica.batch()), start, min(_ITERATIONS, size))
    found = {f"hessian.{rank}": values[:, -rank] for rank in (1, 2, 3) if rank <= values.shape[1]}
    last = max(0, ensemble.step - 1)
    lr = torch.tensor(ensemble.optimizer.lr[last], dtype=torch.float64)
    return {"sharpness": values[:, -1], **found, "hessian.min": values[:, 0], "sharpness_lr": values[:, -1] * lr / 2}


sharpness = Measure(
    "sharpness",
    "Eigenvalues of the Hessian of the next training batch's loss (20 Lanczos iterations): sharpness is the largest, "
    "hessian.1 to hessian.3 the three largest, hessian.min the smallest found; sharpness_lr is sharpness * lr / 2, "
    "1 at the edge of stability of gradient descent.",
    _sharpness,
)
