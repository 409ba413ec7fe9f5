"""Bootstraps of the robust objective: whole runs drawn again, or the same runs with noise drawn again."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from workbench.engine.solver import Problem, solve

__all__ = ["Shifted", "bootstrap", "refit", "resample", "wild_factors"]

#: Below this many clusters two signs give too few different samples; Webb's six points give enough.
FEW_CLUSTERS = 12


def resample(
    cluster: np.ndarray, weights: np.ndarray, n: int, rng: np.random.Generator, strata: np.ndarray | None = None
) -> np.ndarray:
    """Weights ``[n, m]`` of `n` bootstrap samples that draw whole clusters with replacement.

    Checkpoints of one run, or seeds of one configuration, share their errors; drawing them one by one
    would pretend they were independent (Efron and Tibshirani 1993, chapter 8).

    Args:
        cluster: ``[m]`` index of the group of each run.
        weights: ``[m]`` weights of the runs.
        n: number of samples.
        rng: source of randomness.
        strata: ``[m]`` index of the stratum of each run; clusters are then drawn within their stratum, so
            that each sample keeps the design (the same number of clusters at each budget).
    """
    groups = int(cluster.max()) + 1
    if strata is None:
        drawn = rng.integers(groups, size=(n, groups))
    else:
        home = np.zeros(groups, dtype=int)
        home[cluster] = strata
        drawn = np.empty((n, groups), dtype=int)
        for stratum in np.unique(home):
            members = np.flatnonzero(home == stratum)
            drawn[:, members] = members[rng.integers(members.size, size=(n, members.size))]
    drawn += groups * np.arange(n)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=n * groups).reshape(n, groups)
    return counts[:, cluster] * weights[None, :]


def bootstrap(
    problem: Problem,
    theta: np.ndarray,
    cluster: np.ndarray,
    n: int,
    seed: int,
    tick: Callable[[float], None] | None = None,
    strata: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """`n` refits to resampled runs, each from the estimate.

    Args:
        problem: the fitted problem.
        theta: ``[P]`` the estimate.
        cluster: ``[m]`` group of each run.
        n: number of resamples.
        seed: seed of the resampling.
        tick: progress callback.
        strata: ``[m]`` stratum of each run, see `resample`.

    Returns:
        Parameter draws ``[n, P]`` and whether each converged ``[n]``.
    """
    rng = np.random.default_rng(seed)
    w = resample(cluster, problem.weights, n, rng, strata)
    # A billionth of the objective is a thousandth of a standard error.
    solution = solve(problem, np.repeat(theta[None], n, axis=0), w, warm=True, tolerance=1e-9, tick=tick)
    return solution.theta, solution.converged


def wild_factors(cluster: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Factors ``[n, m]`` of a wild bootstrap, equal within each cluster, of mean 0 and variance 1.

    Rademacher's signs; with fewer than 12 clusters Webb's six points ``+-sqrt(1/2), +-1, +-sqrt(3/2)``
    (Webb 2023, doi 10.1111/caje.12661), since 2^G samples would be too few. Signs suit medians too, so
    Huber's loss of a narrow zone (Feng, He and Hu 2011, doi 10.1093/biomet/asr052).
    """
    groups = int(cluster.max()) + 1
    points = np.array([-1.0, 1.0])
    if groups < FEW_CLUSTERS:
        points = np.sqrt([0.5, 1.0, 1.5])
        points = np.concatenate([-points, points])
    return rng.choice(points, size=(n, groups))[:, cluster]


class Shifted:
    """Many data sets at once for the solver: the same runs, their residuals shifted by a row of `shift`.

    The row that a candidate is fitted to rides along as one more coordinate, called ``row``, which the
    solver is asked to hold.

    Args:
        problem: the runs, law and objective.
        shift: ``[B, n]`` what is added to the residuals; a lower observation raises its residual.
    """

    def __init__(self, problem: Problem, shift: np.ndarray):
        self.problem, self.shift = problem, shift
        self.law, self.y, self.weights, self.objective = problem.law, problem.y, problem.weights, problem.objective
        self.free_symbols = [*problem.free_symbols, "row"]

    def complete(self, theta: np.ndarray) -> np.ndarray:
        return np.concatenate([self.problem.complete(theta[:, :-1]), theta[:, -1:]], axis=1)

    def to_z(self, theta: np.ndarray) -> np.ndarray:
        return np.concatenate([self.problem.to_z(theta[:, :-1]), theta[:, -1:]], axis=1)

    def to_theta(self, z: np.ndarray) -> np.ndarray:
        return np.concatenate([self.problem.to_theta(z[:, :-1]), z[:, -1:]], axis=1)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        low, high = self.problem.bounds()
        return np.append(low, -np.inf), np.append(high, np.inf)

    def jacobian(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        r, jac = self.problem.jacobian(z[:, :-1])
        return r + self.shift[z[:, -1].astype(int)], np.concatenate([jac, np.zeros_like(jac[:, :1])], axis=1)

    def values(self, theta: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        with np.errstate(all="ignore"):
            r = self.problem.residuals(theta[:, :-1]) + self.shift[theta[:, -1].astype(int)]
            loss = self.objective.loss(r)
            w = self.weights if weights is None else weights
            total = np.where(w > 0, w * loss, 0.0).sum(-1)
        return np.where(np.isfinite(total), total, np.inf)


def refit(
    problem: Problem,
    starts: np.ndarray,
    shift: np.ndarray,
    frozen: tuple[str, ...] = (),
    tick: Callable[[float], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Fit every row of shifted residuals, each from its own start near the answer.

    Args:
        problem: the fitted problem.
        starts: ``[B, P]`` parameter vectors.
        shift: ``[B, n]`` what is added to the residuals.
        frozen: symbols held at their start.
        tick: progress callback.

    Returns:
        Parameters ``[B, P]`` and the objective there ``[B]``.
    """
    many = Shifted(problem, shift)
    rows = np.concatenate([starts, np.arange(len(starts))[:, None]], axis=1)
    solution = solve(many, rows, frozen=(*frozen, "row"), warm=True, tolerance=1e-9, tick=tick)
    return solution.theta[:, :-1], solution.value
