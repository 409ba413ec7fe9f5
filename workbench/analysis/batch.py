"""Many fits of one law to parts of the same points under several objectives, found together.

Neighbouring analyses have neighbouring optima. Squares are fitted first, whose optimum is easy to find;
from there the quadratic zone narrows step by step down to absolute values, each objective starting where
the wider one ended. What one analysis has found is then offered to every other, so that none stays in a
valley that a neighbour knows how to leave.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from workbench.engine.objective import RUNG, Objective
from workbench.engine.solver import Problem, solve
from workbench.engine.vertex import corners
from workbench.fits.intervals import resample

__all__ = ["Optima", "draws", "optima"]

#: Starting points drawn and screened for each set of points, and how many of them are walked.
DRAWN, WALKED = 512, 4
#: Neighbours' answers that each analysis walks from, besides its own.
NEIGHBOURS = 2
#: Two objectives this close, relatively, are the same optimum.
SAME = 1e-10


@dataclass(frozen=True)
class Optima:
    """Best optimum of each combination of weights and objective.

    Attributes:
        theta: ``[O, M, P]`` parameters.
        value: ``[O, M]`` the objective there.
        converged: ``[O, M]`` whether the solver's test, or the corner's certificate, was met.
    """

    theta: np.ndarray
    value: np.ndarray
    converged: np.ndarray


def optima(
    problem: Problem,
    weights: np.ndarray,
    objectives: Sequence[Objective],
    seed: int = 0,
    start: np.ndarray | None = None,
    tick: Callable[[float], None] | None = None,
) -> Optima:
    """Optima of every objective on every set of weights.

    Args:
        problem: law, points, fixed and tied parameters; its weights and objective are not used.
        weights: ``[M, n]`` weights of the points, zero where an analysis leaves a point out.
        objectives: all on logarithms or all not.
        seed: seed of the starting points.
        start: ``[M, P]`` where to begin under squares; default the best of drawn starts.
        tick: called with the fraction done; may raise to cancel.

    Raises:
        ValueError: objectives of both kinds are mixed.
    """
    if len({o.in_logs for o in objectives}) != 1:
        raise ValueError("objectives on logarithms and on plain values cannot be walked together; call optima twice")
    m, p = len(weights), len(problem.law.parameters)
    theta, value = np.empty((len(objectives), m, p)), np.full((len(objectives), m), np.inf)
    converged = np.zeros((len(objectives), m), dtype=bool)
    here = _first(problem, weights, objectives[0].in_logs, seed) if start is None else problem.complete(start)
    say, path = tick or (lambda fraction: None), _path(objectives, problem.y)
    for done, (k, rung) in enumerate(path):
        say(0.1 + 0.5 * done / len(path))
        step = replace(problem, objective=rung)
        if k is None:
            here = solve(step, here, weights, warm=True, max_iterations=30, tolerance=1e-5).theta
            continue
        theta[k], value[k], converged[k] = _walk(step, here, weights)
        here = theta[k]
    for again in range(2):
        say(0.6 + 0.2 * again)
        if not _exchange(problem, weights, objectives, theta, value, converged):
            break
    _settle(problem, weights, objectives, theta, value, converged)
    return Optima(theta, value, converged)


def draws(
    problem: Problem,
    weights: np.ndarray,
    objectives: Sequence[Objective],
    theta: np.ndarray,
    cluster: np.ndarray,
    n: int,
    seed: int,
    tick: Callable[[float], None] | None = None,
) -> np.ndarray:
    """Bootstrap draws of several objectives on the same `n` resamples of one set of points.

    Args:
        problem: law and points.
        weights: ``[m]`` weights of the points; only those above zero are resampled.
        objectives: all on logarithms or all not.
        theta: ``[O, P]`` estimate of each objective.
        cluster: ``[m]`` group each point is resampled with.
        n: number of resamples.
        seed: seed of the resampling; the same for every analysis of the same points.
        tick: called with the fraction done; may raise to cancel.

    Returns:
        ``[O, n, P]``. Absolute values are smoothed as in `Fit.draws`.
    """
    used = weights > 0
    small = replace(problem, x={s: v[used] for s, v in problem.x.items()}, y=problem.y[used], weights=weights[used])
    groups = np.unique(cluster[used], return_inverse=True)[1]
    w = resample(groups, small.weights, n, np.random.default_rng(seed))
    out = np.empty((len(objectives), n, theta.shape[1]))
    here = None
    path = _path(objectives, small.y)
    for done, (k, rung) in enumerate(path):
        step = replace(small, objective=rung)
        start = here if k is None else np.repeat(theta[k][None], n, axis=0)
        if here is not None and k is not None:
            # The same resample under the wider objective, or the estimate under this one: the lower starts.
            closer = step.values(here, w) < step.values(start, w)
            start = np.where(closer[:, None], here, start)
        if start is None:
            continue
        # A ten-millionth of the objective is a few hundredths of a standard error.
        here = solve(step, start, w, warm=True, tolerance=1e-7 if k is not None else 1e-5).theta
        if k is not None:
            out[k] = here
        if tick is not None:
            tick((done + 1) / len(path))
    return out


def _path(objectives: Sequence[Objective], y: np.ndarray) -> list[tuple[int | None, Objective]]:
    """Objectives from the widest quadratic zone to the narrowest, with rungs (None) between distant ones."""
    order = sorted(range(len(objectives)), key=lambda k: -objectives[k].zone(y))
    name = "log-huber" if objectives[0].in_logs else "huber"
    spread = objectives[0].spread(y)
    path, last = [], spread
    for k in order:
        zone = objectives[k].zone(y)
        if np.isfinite(zone):
            gap = int(np.ceil(np.log(last / zone) / np.log(RUNG) - 1e-9)) if zone < last else 0
            path += [(None, Objective(name, last * (zone / last) ** (i / gap))) for i in range(1, gap)]
            last = min(last, zone)
        path.append((k, objectives[k]))
    return path


def _first(problem: Problem, weights: np.ndarray, in_logs: bool, seed: int) -> np.ndarray:
    """Least squares ``[M, P]`` on every set of points, from the best of the drawn starts."""
    squares = replace(problem, objective=Objective("log-mse" if in_logs else "mse"))
    drawn = problem.complete(problem.law.guess(problem.x, problem.y, DRAWN, np.random.default_rng(seed)))
    residual = np.concatenate([squares.residuals(part) for part in np.array_split(drawn, max(DRAWN // 128, 1))])
    loss = np.where(np.isfinite(residual), 0.5 * residual**2, 1e30)
    score = weights @ loss.T  # [M, DRAWN]
    few = min(WALKED, DRAWN)
    picked = np.argpartition(score, few - 1, axis=1)[:, :few]
    solution = solve(squares, drawn[picked.ravel()], np.repeat(weights, few, axis=0), max_iterations=40, tolerance=1e-4)
    best = np.argmin(solution.value.reshape(-1, few), axis=1)
    return solution.theta.reshape(len(weights), few, -1)[np.arange(len(weights)), best]


def _walk(problem: Problem, start: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Walk ``[K, P]`` downhill to the optimum; absolute values to their corner."""
    absolute = problem.objective.shape == "absolute"
    found = solve(problem, start, weights, warm=True, tolerance=1e-7 if absolute else 1e-12)
    if absolute:
        return corners(problem, found.theta, weights)
    return found.theta, found.value, found.converged


def _exchange(problem, weights, objectives, theta, value, converged) -> bool:
    """Offer every analysis the answers of the others; whether one of them was better off. Changes the arrays."""
    known = theta.reshape(-1, theta.shape[-1])
    improved = False
    residual = replace(problem, objective=objectives[0]).residuals(known)
    for k, objective in enumerate(objectives):
        step = replace(problem, objective=objective)
        loss = objective.loss(residual)
        offered = weights @ np.where(np.isfinite(loss), loss, 1e30).T  # [M, known]
        own = value[k][:, None]
        # A neighbour in the same valley has nothing to offer but the valley's own optimum.
        offered = np.where(np.abs(offered - own) <= 1e-7 * own, np.inf, offered)
        few = min(NEIGHBOURS, offered.shape[1])
        picked = np.argpartition(offered, few - 1, axis=1)[:, :few]
        rows = np.repeat(np.arange(len(weights)), few)
        useful = np.take_along_axis(offered, picked, axis=1).ravel() <= 1.05 * value[k][rows]
        if not useful.any():
            continue
        rows = rows[useful]
        ends, low, settled = _walk(step, known[picked.ravel()[useful]], weights[rows])
        for row, end, new, fine in zip(rows, ends, low, settled, strict=True):
            if new < value[k, row] * (1 - SAME) or (fine and not converged[k, row] and new <= value[k, row]):
                improved |= bool(new < value[k, row] * (1 - 1e-8))
                theta[k, row], value[k, row], converged[k, row] = end, new, fine
    return improved


def _settle(problem, weights, objectives, theta, value, converged) -> None:
    """Absolute values whose optimum is no corner, because the law bends along an edge. Changes the arrays.

    There the zone narrows until smoothing costs nothing that anyone could see.
    """
    for k, objective in enumerate(objectives):
        if objective.shape != "absolute" or converged[k].all():
            continue
        rows = np.flatnonzero(~converged[k])
        here, w, fine = theta[k, rows], weights[rows], np.ones(rows.size, dtype=bool)
        for share in (0.1, 1e-2, 1e-3, 1e-4):
            name = "log-huber" if objective.in_logs else "huber"
            step = replace(problem, objective=Objective(name, share * objective.zone(problem.y)))
            found = solve(step, here, w, warm=True, max_iterations=100, tolerance=1e-9)
            here, fine = found.theta, found.converged
        new = replace(problem, objective=objective).values(here, w)
        for row, end, low, settled in zip(rows, here, new, fine, strict=True):
            converged[k, row] = settled and low <= value[k, row] * (1 + 1e-6)
            if low < value[k, row]:
                theta[k, row], value[k, row] = end, low
