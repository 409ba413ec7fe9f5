"""One solver for every law: many starts at once, screened, then a damped Newton method on the robust loss.

The whole batch of candidate parameter vectors moves together through numpy. Each step solves

    (H + mu diag H) step = -gradient,    H = H_true + mu H_irls

where H_true counts only residuals inside the quadratic zone of the loss (the Gauss-Newton Hessian of
the Huber loss) and H_irls gives every residual its iteratively-reweighted weight psi(r)/r. With mu near
one this is reweighted least squares with Marquardt's damping (Holland and Welsch 1977, doi
10.1080/03610927708827533; Marquardt 1963, doi 10.1137/0111030), safe far away; as mu falls it becomes
Newton's method, which ends the slow tail that reweighting alone has when the zone is much narrower than
the residuals. A step is taken only if it lowers the objective.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from workbench.engine.dual import value_and_tangents
from workbench.engine.objective import Objective, huber
from workbench.laws.base import HUGE, TINY, Law

__all__ = ["Problem", "Solution", "solve"]

#: Candidates advanced together: enough to share numpy's cost per call, few enough for the cache.
CHUNK = 192
#: Damping that a walk from near its optimum begins with.
WARM_DAMPING = 1e-4
#: A candidate has converged when a Newton step promises less than this fraction of the objective.
TOLERANCE = 1e-12


@dataclass(frozen=True)
class Problem:
    """A law, the points and the objective, in the coordinates the solver works in.

    Attributes:
        law: the law.
        x: input symbol -> values ``[n]``.
        y: observed values ``[n]``.
        weights: one weight per point ``[n]``, zero for points left out.
        objective: what is summed.
        fixed: parameter symbol -> value it is held at.
        tied: parameter symbol -> the symbol it is kept equal to.
    """

    law: Law
    x: dict[str, np.ndarray]
    y: np.ndarray
    weights: np.ndarray
    objective: Objective
    fixed: dict[str, float]
    tied: dict[str, str]

    @property
    def free(self) -> list[int]:
        """Indices of the parameters that move."""
        return [
            j for j, p in enumerate(self.law.parameters) if p.symbol not in self.fixed and p.symbol not in self.tied
        ]

    @property
    def free_symbols(self) -> list[str]:
        return [self.law.symbols[j] for j in self.free]

    def complete(self, theta: np.ndarray) -> np.ndarray:
        """`theta` ``[..., P]`` with the fixed and tied entries written in."""
        theta = np.array(theta, dtype=float)
        symbols = self.law.symbols
        for symbol, value in self.fixed.items():
            theta[..., symbols.index(symbol)] = value
        for symbol, other in self.tied.items():
            theta[..., symbols.index(symbol)] = theta[..., symbols.index(other)]
        return theta

    def to_z(self, theta: np.ndarray) -> np.ndarray:
        """Free coordinates ``[K, F]`` of parameter vectors ``[K, P]``: logarithms where the law allows."""
        columns = [np.log(theta[:, j]) if self.law.parameters[j].log else theta[:, j] for j in self.free]
        return np.stack(columns, axis=1) if columns else np.empty((theta.shape[0], 0))

    def to_theta(self, z: np.ndarray) -> np.ndarray:
        """Parameter vectors ``[K, P]`` of free coordinates ``[K, F]``."""
        theta = np.zeros((z.shape[0], len(self.law.parameters)))
        for k, j in enumerate(self.free):
            theta[:, j] = np.exp(z[:, k]) if self.law.parameters[j].log else z[:, k]
        return self.complete(theta)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bound of the free coordinates, each ``[F]``."""
        low, high = [], []
        for j in self.free:
            p = self.law.parameters[j]
            low.append(np.log(max(p.low, TINY)) if p.log else max(p.low, -HUGE))
            high.append(np.log(min(p.high, HUGE)) if p.log else min(p.high, HUGE))
        return np.array(low), np.array(high)

    def residuals(self, theta: np.ndarray) -> np.ndarray:
        """Residuals ``[K, n]`` of parameter vectors ``[K, P]``; infinite where the law gives no valid value."""
        columns = [self.x[i.symbol] for i in self.law.inputs]
        with np.errstate(all="ignore"):
            value = self.law.formula(*columns, *(theta[:, j, None] for j in range(theta.shape[1])))
            r = np.log(value) - np.log(self.y) if self.objective.in_logs else value - self.y
        return np.where(np.isfinite(r), r, np.inf)

    def values(self, theta: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        """The objective ``[K]`` at parameter vectors ``[K, P]``; `weights` may differ by candidate ``[K, n]``."""
        w = self.weights if weights is None else weights
        out = np.empty(theta.shape[0])
        with np.errstate(all="ignore"):
            size = max(4 * CHUNK // self.law.cost, 1)
            for begin in range(0, theta.shape[0], size):
                part = slice(begin, begin + size)
                loss = self.objective.loss(self.residuals(theta[part]))
                wp = w if w.ndim == 1 else w[part]
                out[part] = np.where(wp > 0, wp * loss, 0.0).sum(-1)
        return np.where(np.isfinite(out), out, np.inf)

    def jacobian(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Residuals ``[K, n]`` and their derivatives ``[K, F, n]`` in the free coordinates ``[K, F]``."""
        theta = self.to_theta(z)
        columns = [self.x[i.symbol] for i in self.law.inputs]
        symbols = self.law.symbols
        own = {s: symbols.index(self.tied.get(s, s)) for s in symbols}
        logs = np.array([self.law.parameters[own[s]].log for s in symbols])
        with np.errstate(all="ignore"):
            dual = value_and_tangents(self.law.formula, columns, theta, np.where(logs, theta, 1.0))
            value, tangents = dual.value, dict(dual.tangents)
            r = np.log(value) - np.log(self.y) if self.objective.in_logs else value - self.y
            factor = 1.0 / value if self.objective.in_logs else 1.0
            for symbol, other in self.tied.items():
                j, target = symbols.index(symbol), symbols.index(other)
                if j in tangents:
                    tangents[target] = tangents.get(target, 0.0) + tangents.pop(j)
            jacobian = np.empty((z.shape[0], len(self.free), self.y.size))
            for k, j in enumerate(self.free):
                np.multiply(tangents.get(j, 0.0), factor, out=jacobian[:, k])
            total = jacobian.sum()
        if not np.isfinite(total):  # a start far off the data; its objective is infinite and stops it
            jacobian = np.nan_to_num(jacobian, nan=0.0, posinf=0.0, neginf=0.0)
        return r, jacobian


@dataclass(frozen=True)
class Solution:
    """Where each candidate ended.

    Attributes:
        theta: ``[K, P]`` parameter vectors.
        value: ``[K]`` the objective there.
        gradient: ``[K]`` norm of the projected gradient in the solver's coordinates.
        converged: ``[K]`` whether the promised decrease fell below the tolerance.
        iterations: ``[K]`` steps used.
    """

    theta: np.ndarray
    value: np.ndarray
    gradient: np.ndarray
    converged: np.ndarray
    iterations: np.ndarray


def solve(
    problem: Problem,
    starts: np.ndarray,
    weights: np.ndarray | None = None,
    frozen: tuple[str, ...] = (),
    warm: bool = False,
    max_iterations: int = 200,
    tolerance: float = TOLERANCE,
    tick: Callable[[float], None] | None = None,
) -> Solution:
    """Walk every start downhill.

    Args:
        problem: what to minimise.
        starts: ``[K, P]`` starting parameter vectors.
        weights: ``[K, n]`` weights of the points, one row per start (a bootstrap); default the problem's.
        frozen: symbols that keep the value each start gives them (a profile).
        warm: the starts are near their optima already, so the walk begins under the true objective.
        max_iterations: steps allowed to each start.
        tolerance: stop when a step promises less than this fraction of the objective.
        tick: called with the fraction done after each batch; may raise to cancel.

    Returns:
        A `Solution` with one entry per start, in the order given.
    """
    z = problem.to_z(problem.complete(starts))
    still = np.array([s in frozen for s in problem.free_symbols], dtype=bool)
    w = np.broadcast_to(problem.weights if weights is None else weights, (len(z), problem.y.size))
    if not warm:
        for wide in problem.objective.ladder(problem.y):
            # A coarse answer under a wider zone is a start near the optimum under the true one.
            z = _descend(problem, z, w, still, wide, 25, 1e-5, 1.0)[0]
    zone, damping = problem.objective.zone(problem.y), WARM_DAMPING if warm else 1.0
    z, gradient, converged, steps = _descend(problem, z, w, still, zone, max_iterations, tolerance, damping, tick)
    theta = problem.to_theta(z)
    # What was walked down is the objective itself, but for absolute values, which were smoothed.
    return Solution(theta, problem.values(theta, weights), gradient, converged, steps)


def _descend(
    problem: Problem,
    starts: np.ndarray,
    weights: np.ndarray,
    still: np.ndarray,
    zone: float,
    max_iterations: int,
    tolerance: float,
    damping: float,
    tick: Callable[[float], None] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Damped Newton from every start ``[K, F]``; see `solve` for the arguments.

    A fixed number of candidates moves at once. One that has stopped hands its place to the next start,
    so that the batch stays full to the end and numpy's cost per call is shared by many.
    """
    low, high = problem.bounds()
    starts = np.where(still, starts, np.clip(starts, low, high))
    k, f = starts.shape
    ends, gradient = starts.copy(), np.zeros(k)
    converged, steps = np.ones(k, dtype=bool), np.zeros(k, dtype=int)
    if f == 0:
        return ends, gradient, converged, steps

    place = np.arange(min(max(CHUNK // problem.law.cost, 1), k))  # which start each place of the batch holds
    waiting = place.size
    target = starts[place]
    here, downhill = target.copy(), np.ones(place.size, dtype=bool)
    value, mu, taken = np.full(place.size, np.inf), np.full(place.size, damping), np.zeros(place.size, dtype=int)
    r, jac = np.empty((place.size, problem.y.size)), np.empty((place.size, f, problem.y.size))
    eye = np.eye(f)
    while place.size:
        w = weights[place]
        r_new, jac_new = problem.jacobian(target)
        value_new = _sum(r_new, w, zone)
        fresh = taken == 0
        better = fresh | (downhill & (value_new < value))
        here[better], value[better] = target[better], value_new[better]
        r[better], jac[better] = r_new[better], jac_new[better]
        mu = np.where(fresh, mu, np.where(better, np.maximum(mu * 0.2, 1e-12), mu * 5.0))

        size = np.abs(r)
        with np.errstate(all="ignore"):
            share = np.minimum(1.0, zone / size)
        curvature = w * ((size <= zone) + mu[:, None] * share)
        if not np.isfinite(curvature.sum()):  # 0/0 where a residual is no number; its start has stopped
            curvature = np.nan_to_num(curvature)
        g = (jac @ (w * np.clip(r, -zone, zone))[:, :, None])[:, :, 0]
        matrix = (jac * curvature[:, None, :]) @ jac.transpose(0, 2, 1)
        # At a bound the gradient that points outwards is no reason to move.
        held = ((here <= low) & (g > 0)) | ((here >= high) & (g < 0)) | still
        g = np.where(held, 0.0, g)
        matrix = np.where(held[:, :, None] | held[:, None, :], 0.0, matrix)
        ridge = np.einsum("kff->kf", matrix) * (mu[:, None] + 1e-14) + 1e-300
        matrix += eye * np.where(held, 1.0, ridge)[:, None, :]
        # Symmetric scaling: prefactors and exponents differ by orders of magnitude.
        scale = 1.0 / np.sqrt(np.maximum(np.einsum("kff->kf", matrix), 1e-300))
        step = -_solve(matrix * scale[:, :, None] * scale[:, None, :], g * scale) * scale
        # e^4 per step is far enough for any prefactor; shortened as a whole, it still points downhill.
        step *= np.minimum(1.0, 4.0 / np.maximum(np.abs(step).max(-1, keepdims=True), 1e-300))
        target = np.where(still, here, np.clip(here + step, low, high))
        promised = -np.einsum("kf,kf->k", g, target - here)
        # A near-singular matrix can return a step uphill: that is no promise, and asks for more damping.
        downhill = promised >= 0
        finished = downhill & (promised <= tolerance * value) & (mu <= 1.0)
        stop = finished | (taken >= max_iterations) | (mu > 1e12) | ~np.isfinite(value)
        taken += 1
        if not stop.any():
            continue
        gone = place[stop]
        ends[gone], converged[gone], steps[gone] = here[stop], finished[stop], taken[stop]
        gradient[gone] = np.sqrt((g[stop] ** 2).sum(-1))
        free = np.flatnonzero(stop)[: k - waiting]
        place[free] = np.arange(waiting, waiting + free.size)
        waiting += free.size
        target[free] = here[free] = starts[place[free]]
        value[free], mu[free], taken[free], downhill[free] = np.inf, damping, 0, True
        stop[free] = False
        if stop.any():
            place, target, here, downhill = place[~stop], target[~stop], here[~stop], downhill[~stop]
            value, mu, taken, r, jac = value[~stop], mu[~stop], taken[~stop], r[~stop], jac[~stop]
        if tick is not None:
            tick((waiting - place.size) / k)
    return ends, gradient, converged, steps


def _sum(r: np.ndarray, weights: np.ndarray, zone: float) -> np.ndarray:
    """Weighted Huber loss of each row of residuals; infinite where the law gave no number."""
    psi = np.clip(r, -zone, zone)
    with np.errstate(all="ignore"):
        total = np.einsum("kn,kn,kn->k", weights, psi, r - 0.5 * psi)
        if not np.isfinite(total).all():  # a point of weight zero may be anything
            total = np.where(weights > 0, weights * huber(r, zone), 0.0).sum(-1)
    return np.where(np.isfinite(total), total, np.inf)


def _solve(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve the batch ``[K, F, F]``; a singular member gets the least-norm answer instead of an error."""
    matrix, right = np.nan_to_num(matrix), np.nan_to_num(right)
    try:
        return np.linalg.solve(matrix, right[:, :, None])[:, :, 0]
    except np.linalg.LinAlgError:
        return (np.linalg.pinv(matrix, hermitian=True) @ right[:, :, None])[:, :, 0]
