"""Interval methods side by side, and which of them to trust on the data at hand.

They answer the same question under different assumptions, and where they disagree the reader should
know. All work on the robust objective actually minimised. `recommend` follows a simulation study,
``benchmarks/coverage.py``, whose table and picture are kept with the code.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.stats import t as t_distribution

from workbench.engine.covariance import covariance, sandwich
from workbench.fits.bootstrap import bootstrap, resample
from workbench.fits.jackknife import leave_one_out
from workbench.fits.profile import Profile, profile, profile_interval
from workbench.fits.simulated import simulate, wild

if TYPE_CHECKING:
    from workbench.fits.result import Fit

__all__ = [
    "OFFERED",
    "Choice",
    "Profile",
    "bootstrap",
    "confidence_draws",
    "covariance",
    "edges",
    "interval_of",
    "joint_draws",
    "no_end",
    "percentiles",
    "profile",
    "profile_interval",
    "recommend",
    "resample",
    "t_quantile",
]

#: Every method that `Fit.intervals` takes.
OFFERED = ("recommended", "bootstrap", "profile", "jacobian", "sandwich", "jackknife", "wild", "simulated")
#: Methods that take what is asked for as linear in the coordinates near the estimate.
LINEAR = ("jacobian", "sandwich", "jackknife")
#: Step of numeric derivatives in the solver's coordinates, which are logarithms or of order one.
STEP = 1e-5
#: Below this share of residuals inside Huber's quadratic zone the fit is in effect one of medians.
MEDIAN_LIKE = 0.5
#: Runs per parameter from which the large-sample theory of medians holds well enough.
MANY = 40


class Choice(NamedTuple):
    """An interval method and why it was chosen."""

    method: str
    why: str


def recommend(fit: Fit) -> Choice:
    """The method that covers on data like these; one sentence says why.

    * Runs in clusters (checkpoints of one run, seeds of one configuration): ``sandwich``, CR3 with
      Student's t of G - 1 degrees. Methods that take errors as independent cover 50 to 80 % there.
    * Single runs, squares or a wide Huber zone: ``profile`` against F(1, n - P).
    * Single runs, absolute values or a Huber zone narrower than most residuals: ``simulated`` below 40
      runs a parameter. The density of the residuals at zero, on which every formula rests, is then hardly
      known, and the other methods come out too narrow. With more runs ``profile``.
    """
    n, free = fit.n_runs, len(fit.problem.free)
    groups = int(fit.points.cluster.max()) + 1
    if groups < n:
        by = fit.points.grouped_by
        if groups < 2:
            return Choice("sandwich", f"all runs share one {by}, so their common error cannot be seen")
        return Choice("sandwich", f"{n} runs in {groups} clusters of {by} share errors: CR3 with t({groups - 1})")
    inside = _inside(fit)
    if inside >= MEDIAN_LIKE:
        return Choice("profile", f"single runs and an objective smooth on their scale: F(1, {fit.degrees})")
    if n >= MANY * free:
        return Choice("profile", f"{n} single runs for {free} parameters are many: F(1, {fit.degrees})")
    return Choice(
        "simulated",
        f"{fit.problem.objective.name} is nearly a median here ({inside:.0%} of the residuals it does not "
        f"pass through lie in its quadratic zone), and {n} runs are few for {free} parameters: "
        "refits to simulated noise",
    )


def _inside(fit: Fit) -> float:
    """Share of the residuals that lie where the objective is a parabola; 1 for squares."""
    zone = fit.problem.objective.zone(fit.problem.y)
    if not np.isfinite(zone):
        return 1.0
    # A median passes through as many runs as there are parameters, which says nothing of the noise.
    return max(float((np.abs(fit.residuals) < zone).sum() - len(fit.problem.free)), 0.0) / max(fit.degrees, 1)


def joint_draws(fit: Fit, n: int, tick: Callable[[float], None] | None = None) -> np.ndarray:
    """See `Fit.joint_draws`."""
    singles = int(fit.points.cluster.max()) + 1 == fit.n_runs
    if singles and _inside(fit) >= MEDIAN_LIKE:
        drawn = confidence_draws(fit, lambda theta: theta, "wild", n, tick)
        if np.isfinite(drawn).all(axis=1).mean() >= MEDIAN_LIKE:  # else some run alone determines a parameter
            return drawn
    return fit.draws(n, tick)


def edges(
    fit: Fit, method: str, level: float, n: int, tick: Callable[[float], None] | None = None
) -> dict[str, tuple[float, float]]:
    """Ends of the interval of every free parameter by one method; NaN or infinite where there is no end."""
    problem = fit.problem
    free = [fit.law.parameters[j] for j in problem.free]
    if method == "profile":
        return {p.symbol: profile_interval(fit.profile(p.symbol), level, fit.degrees, p.log) for p in free}
    low, high = interval_of(fit, problem.to_z, level, method, n, tick)
    with np.errstate(over="ignore"):
        ends = [(np.exp(a), np.exp(b)) if p.log else (a, b) for p, a, b in zip(free, low, high, strict=True)]
    return {p.symbol: (float(a), float(b)) for p, (a, b) in zip(free, ends, strict=True)}


def interval_of(
    fit: Fit,
    of: Callable[[np.ndarray], np.ndarray],
    level: float,
    method: str,
    n: int,
    tick: Callable[[float], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Interval ``([M], [M])`` of anything that follows from the parameters.

    Args:
        fit: the fit.
        of: takes parameter vectors ``[K, P]`` to values ``[K, M]``, on a scale where errors are symmetric.
        level: nominal coverage.
        method: one of `OFFERED` but ``profile`` and ``recommended``.
        n: resamples or simulated data sets.
        tick: progress callback.
    """
    if method in LINEAR:
        centre, spread, degrees = _linear(fit, of, method)
        reach = t_quantile(level, degrees) * spread
        return centre - reach, centre + reach
    with np.errstate(all="ignore"):
        return percentiles(confidence_draws(fit, of, method, n, tick), level)


def percentiles(drawn: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Ends ``([M], [M])`` of the middle share `level` of each column ``[B, M]``, over what is finite."""
    drawn = np.where(np.isfinite(drawn), drawn, np.nan)
    if not drawn.shape[1]:  # nothing asked for, where every parameter is fixed
        return np.empty(0), np.empty(0)
    tail = 50 * (1 - level)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column without any number has NaN ends
        low, high = np.nanpercentile(drawn, [tail, 100 - tail], axis=0)
    return low, high


def confidence_draws(
    fit: Fit,
    of: Callable[[np.ndarray], np.ndarray],
    method: str,
    n: int,
    tick: Callable[[float], None] | None = None,
) -> np.ndarray:
    """Draws ``[n, M]`` whose percentiles are the ends of `interval_of`, to which other noise may be added."""
    if method in LINEAR:
        centre, spread, degrees = _linear(fit, of, method)
        # Equally likely quantiles instead of random numbers: their percentiles are those of Student's t.
        steps = np.random.default_rng([fit.seed, 4]).permutation((np.arange(n) + 0.5) / n)
        return centre + t_distribution.ppf(steps, max(degrees, 1))[:, None] * spread
    if method == "bootstrap":
        return of(fit.draws(n, tick))
    if method == "wild":
        key = ("wild", n)
        if key not in fit._cache:
            robust = sandwich(fit.problem, fit.theta, fit.points.cluster)
            fit._cache[key] = wild(fit.problem, fit.theta, robust, fit.points.cluster, n, fit.seed, tick)
        return of(fit._cache[key])
    key = ("simulated", n)
    if key not in fit._cache:
        fit._cache[key] = simulate(fit.problem, fit.theta, n, fit.seed, tick)
    drawn, noise = fit._cache[key]
    centre = of(fit.theta[None])
    return centre - (of(drawn) - centre) / np.maximum(noise, 1e-300)[:, None]


def _linear(fit: Fit, of: Callable[[np.ndarray], np.ndarray], method: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Value, standard error ``[M]`` and degrees of freedom, with `of` taken as linear near the estimate."""
    problem = fit.problem
    z = problem.to_z(fit.theta[None])
    moved = np.concatenate([z + STEP * np.eye(z.size), z - STEP * np.eye(z.size)])
    with np.errstate(all="ignore"):
        centre = of(fit.theta[None])[0]
        ahead, behind = np.split(of(problem.to_theta(moved)), 2)
        slopes = ((ahead - behind) / (2 * STEP)).T
        if method == "sandwich":
            robust = sandwich(problem, fit.theta, fit.points.cluster)
            return centre, robust.spread(slopes), robust.degrees
        if method == "jackknife":
            values = of(leave_one_out(problem, fit.theta, fit.points.cluster)) - centre
            groups = len(values)
            degrees = groups - 1 if groups < fit.n_runs else fit.degrees
            return centre, np.sqrt((groups - 1) / groups * (values**2).sum(0)), degrees
        cov = covariance(problem, fit.theta)
        return centre, np.sqrt(np.maximum(np.einsum("mf,fg,mg->m", slopes, cov, slopes), 0.0)), fit.degrees


def no_end(method: str, low: float, high: float) -> str:
    """Why an interval has no end on some side."""
    if method == "profile":
        side = "below" if not np.isfinite(low) else "above"
        return f"the profile stays flat {side}: the data set no limit there"
    if method in ("sandwich", "wild", "jackknife"):
        return "without one run or cluster the others do not determine it, so there is no interval"
    return f"the {method} method gives no finite interval"


def t_quantile(level: float, degrees: int) -> float:
    """Two-sided Student quantile; the normal one where degrees are many."""
    return float(t_distribution.ppf(0.5 + level / 2, max(degrees, 1)))
