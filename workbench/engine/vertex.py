"""Least absolute deviations for many fits at once: from corner to corner, with a certificate at the end.

The optimum of a sum of absolute residuals lies in a corner where as many residuals vanish as there are
free parameters. A corner is a (local) optimum if the weighted signs of all other residuals can be
balanced by multipliers no larger than the weights of the vanishing ones; if one multiplier is too large,
its point leaves, and a weighted median along the edge says which point enters (Barrodale and Roberts
1973, doi 10.1137/0710069, here with the corner solved for by Newton's method after each exchange).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.engine.solver import Problem

__all__ = ["corners"]

#: A residual this small relative to the data's logarithms is zero.
ZERO = 1e-11


def corners(
    problem: Problem, theta: np.ndarray, weights: np.ndarray, exchanges: int = 60
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Walk from near the optima ``theta`` ``[K, P]`` of the absolute loss to them.

    Args:
        problem: what to minimise; its objective is an absolute one.
        theta: ``[K, P]`` points near the optima, such as those of a narrow Huber loss.
        weights: ``[K, n]`` weights of the points.
        exchanges: points exchanged at most.

    Returns:
        Parameters ``[K, P]``, the objective there ``[K]``, and whether the corner is certified ``[K]``.
        What could not be certified (a parameter at its bound, a singular corner) comes back no worse
        than it was.
    """
    z = problem.to_z(problem.complete(theta))
    count, free = z.shape
    best, value = z.copy(), problem.values(problem.to_theta(z), weights)
    certified = np.zeros(count, dtype=bool)
    if not free:
        return problem.to_theta(best), value, ~certified
    low, high = problem.bounds()
    r, jac = problem.jacobian(z)
    # The state of each walk still going: its last corner, the exchange under trial, and how shy it has become.
    alive = np.flatnonzero(((z > low) & (z < high)).all(axis=1) & ((weights > 0).sum(axis=1) > free))
    z, trial = z[alive], _nearest(r[alive], jac[alive], weights[alive], free)
    basis, corner, last = trial.copy(), z.copy(), np.full(alive.size, np.inf)
    shy = np.zeros(alive.size, dtype=int)
    for _ in range(exchanges):
        if not alive.size:
            break
        w, rows = weights[alive], np.arange(alive.size)
        z, r, jac, solved = _newton(problem, z, trial, low, high)
        r[rows[:, None], trial] = 0.0
        new = np.where(w > 0, w * np.abs(np.where(np.isfinite(r), r, np.inf)), 0.0).sum(axis=1)
        better = solved & (new < last)
        corner[better], basis[better], last[better], shy[better] = z[better], trial[better], new[better], 0
        lower = better & (new < value[alive])
        best[alive[lower]], value[alive[lower]] = z[lower], new[lower]
        # An exchange that raised the sum went too far along a bent edge: the same edge again, a shorter way.
        shy[~better] += 1
        if not better.all():
            r, jac = problem.jacobian(corner)
            r[rows[:, None], basis] = 0.0
        known = np.isfinite(last)
        step = _edge(r, jac, w, basis, shy, known)
        certified[alive[step.balanced]] = last[step.balanced] <= value[alive[step.balanced]] * (1 + 1e-12)
        go = step.open & known
        z = corner + np.where(go, step.length, 0.0)[:, None] * step.direction
        trial = basis.copy()
        trial[rows, step.leaving] = step.entering
        alive, z, trial, basis, corner, last, shy = (a[go] for a in (alive, z, trial, basis, corner, last, shy))
    return problem.to_theta(best), value, certified


def _nearest(r: np.ndarray, jac: np.ndarray, weights: np.ndarray, free: int) -> np.ndarray:
    """Points ``[K, F]`` of small residual whose gradients differ: pivoted Gram-Schmidt on gradient over residual."""
    rows = np.arange(len(r))
    size = np.where(weights > 0, np.abs(r), np.inf)
    scale = np.maximum(np.sort(size, axis=1)[:, min(3 * free, size.shape[1] - 1)], 1e-300)
    length = np.sqrt((jac**2).sum(axis=2, keepdims=True))
    with np.errstate(invalid="ignore"):  # a start that gave no number keeps none
        left = jac / np.maximum(length, 1e-300) / (1e-3 + size / scale[:, None])[:, None, :]
    left = np.nan_to_num(left)
    picked = np.empty((len(r), free), dtype=int)
    for k in range(free):
        norm = np.sqrt((left**2).sum(axis=1))
        norm[rows[:, None], picked[:, :k]] = -1.0
        picked[:, k] = np.argmax(norm, axis=1)
        unit = left[rows, :, picked[:, k]]
        unit = unit / np.maximum(np.sqrt((unit**2).sum(axis=1, keepdims=True)), 1e-300)
        left = left - unit[:, :, None] * (unit[:, :, None] * left).sum(axis=1, keepdims=True)
    return picked


@dataclass(frozen=True)
class _Step:
    """The next exchange of each walk: which point leaves, along what, how far, which enters; ``[K]`` each."""

    leaving: np.ndarray
    entering: np.ndarray
    direction: np.ndarray
    length: np.ndarray
    balanced: np.ndarray
    open: np.ndarray


def _edge(
    r: np.ndarray, jac: np.ndarray, w: np.ndarray, basis: np.ndarray, shy: np.ndarray, known: np.ndarray
) -> _Step:
    rows = np.arange(len(r))
    inside = np.zeros(w.shape, dtype=bool)
    inside[rows[:, None], basis] = True
    others = ~inside & (w > 0)
    pull = (jac * np.where(others, w * np.sign(r), 0.0)[:, None, :]).sum(axis=2)
    face = jac[rows[:, None], :, basis]  # [k, point, parameter]
    regular = known & (np.abs(np.linalg.det(_scaled(face))) > 1e-12)
    face = np.where(regular[:, None, None], face, np.eye(basis.shape[1]))
    multiplier = -np.linalg.solve(face.transpose(0, 2, 1), pull[:, :, None])[:, :, 0]
    own = w[rows[:, None], basis]
    excess = np.abs(multiplier) - own
    leaving = np.argmax(excess, axis=1)
    over = excess[rows, leaving]
    balanced = regular & (over <= 1e-9 * own.max(axis=1))
    aim = np.zeros(basis.shape)
    aim[rows, leaving] = np.sign(multiplier[rows, leaving])
    direction = np.linalg.solve(face, aim[:, :, None])[:, :, 0]
    speed = (jac * direction[:, :, None]).sum(axis=1)
    with np.errstate(all="ignore"):
        at = -r / speed
    at = np.where(others & np.isfinite(at) & (at > 0), at, np.inf)
    order = np.argsort(at, axis=1)
    gain = np.cumsum(np.take_along_axis(2 * w * np.abs(speed), order, axis=1), axis=1)
    # The weighted median along the edge, and after a failure half as many crossings.
    crossing = np.argmax(gain >= over[:, None], axis=1)
    tried_all = (shy > 0) & (crossing >> np.maximum(shy - 1, 0) == 0)
    entering = order[rows, crossing >> shy]
    length = at[rows, entering]
    return _Step(leaving, entering, direction, length, balanced, regular & ~balanced & ~tried_all & np.isfinite(length))


def _scaled(face: np.ndarray) -> np.ndarray:
    """Each column, then each row divided by its largest entry, so that a determinant near 0 means singular."""
    face = face / np.maximum(np.abs(face).max(axis=1, keepdims=True), 1e-300)
    return face / np.maximum(np.abs(face).max(axis=2, keepdims=True), 1e-300)


def _newton(
    problem: Problem, z: np.ndarray, basis: np.ndarray, low: np.ndarray, high: np.ndarray, steps: int = 8
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The point near `z` ``[K, F]`` where the residuals of `basis` ``[K, F]`` vanish, and whether it was reached."""
    rows = np.arange(len(z))[:, None]
    spread = problem.objective.spread(problem.y)
    for step in range(steps):
        r, jac = problem.jacobian(z)
        corner, rest = jac[rows, :, basis], r[rows, basis]
        regular = np.isfinite(rest).all(axis=1) & (np.abs(np.linalg.det(_scaled(corner))) > 1e-12)
        solved = regular & (np.abs(rest).max(axis=1) <= ZERO * spread)
        if step == steps - 1 or (solved | ~regular).all():
            break
        eye = np.eye(z.shape[1])
        corner = np.where(regular[:, None, None], corner, eye)
        move = np.where(regular[:, None], np.linalg.solve(corner, rest[:, :, None])[:, :, 0], 0.0)
        # at most a factor of e^2 in any parameter, so that a bad corner does not leave the law's range
        move *= np.minimum(1.0, 2.0 / np.maximum(np.abs(move).max(axis=1, keepdims=True), 1e-300))
        z = np.where(solved[:, None], z, np.clip(z - move, low, high))
    return z, r.copy(), jac, solved
