"""Refits to noise drawn anew around the fitted curve: the wild bootstrap, and errors studentised by simulation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from workbench.engine.covariance import Sandwich
from workbench.engine.solver import Problem
from workbench.fits.bootstrap import refit, wild_factors

__all__ = ["draw_errors", "noise_scale", "simulate", "wild"]

#: Runs a parameter up to which errors are drawn from a normal law alone.
NORMAL_BELOW = 8


def draw_errors(
    problem: Problem, residuals: np.ndarray, shape: tuple[int, ...], rng: np.random.Generator
) -> np.ndarray:
    """Errors ``[B, ...]`` of single runs, in the space of the residuals and of their size.

    Some of the rows are residuals drawn with replacement, the rest normal with the same standard deviation.
    A few runs a parameter say little about the shape of the errors, and less of their tails, so up to eight
    runs a parameter all rows are normal; with many runs half of them are, as a hedge.

    Least squares leaves residuals that are too small by ``sqrt((n - F)/n)``; a narrow zone leaves F of
    them at zero, and those are no sample of anything and are not drawn.
    """
    n, free = residuals.size, len(problem.free)
    share = problem.weights / problem.weights.sum()
    if np.isfinite(problem.objective.zone(problem.y)):
        kept = np.argsort(np.abs(residuals))[free:]
        pool, share = residuals[kept], share[kept] / share[kept].sum()
    else:
        pool = (residuals - share @ residuals) * np.sqrt(n / (n - free))
    out = np.empty(shape)
    half = int(shape[0] * np.clip(1 - NORMAL_BELOW * free / n, 0.0, 0.5))
    # Smoothed a little: an optimum of medians depends on the density at zero, which bare residuals lack.
    width = 0.5 * 1.06 * 1.4826 * np.median(np.abs(pool)) * n**-0.2
    out[:half] = rng.choice(pool, size=out[:half].shape, p=share) + width * rng.normal(size=out[:half].shape)
    out[half:] = np.sqrt(share @ pool**2) * rng.normal(size=out[half:].shape)
    return out


def noise_scale(problem: Problem, residuals: np.ndarray) -> np.ndarray:
    """Size of the residuals ``[..., n]``, in the power that suits the objective: root mean square or mean absolute."""
    if problem.objective.shape == "square":
        return np.sqrt((problem.weights * residuals**2).sum(-1))
    return (problem.weights * np.abs(residuals)).sum(-1)


def simulate(
    problem: Problem, theta: np.ndarray, n: int, seed: int, tick: Callable[[float], None] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Refit to `n` data sets drawn around the fitted curve, and the size of the noise each refit sees.

    The deviation of a refit over its own noise is a pivot: its distribution hardly depends on the unknown
    parameters and not at all on the size of the noise. Its quantiles times the noise of the data give an
    interval (bootstrap-t with one scale: Efron and Tibshirani 1993, section 12.5; Dufour 2006, doi
    10.1016/j.jeconom.2005.06.007, on tests by simulated pivots).

    Returns:
        Parameters ``[n, P]`` and, relative to that of the data, the noise ``[n]``.
    """
    rng = np.random.default_rng([seed, 2])
    residuals = problem.residuals(theta[None])[0]
    errors = draw_errors(problem, residuals, (n, residuals.size), rng)
    shift = errors - residuals
    refitted, _ = refit(problem, np.repeat(theta[None], n, axis=0), shift, tick=tick)
    scale = noise_scale(problem, problem.residuals(refitted) + shift)
    return refitted, scale / max(noise_scale(problem, residuals), 1e-300)


def wild(
    problem: Problem,
    theta: np.ndarray,
    robust: Sandwich,
    cluster: np.ndarray,
    n: int,
    seed: int,
    tick: Callable[[float], None] | None = None,
) -> np.ndarray:
    """Draws ``[n, P]`` of the wild cluster bootstrap: every run keeps its place, its residual changes sign.

    Residuals are inflated by their cluster's leverage (CR3) and flip together within a cluster, see
    `wild_factors`; each sample is scaled by ``sqrt(df / chi2_df)``, so that percentiles have the width of
    Student's t and not of the normal law.

    Wild bootstrap: Wu 1986 (doi 10.1214/aos/1176350142), Liu 1988; clusters: Cameron, Gelbach and Miller
    2008 (doi 10.1162/rest.90.3.414). This is the version with refits, not the score bootstrap of Kline
    and Santos 2012, which moves along the tangent only.
    """
    rng = np.random.default_rng([seed, 3])
    factors = wild_factors(cluster, n, rng)
    factors *= np.sqrt(robust.degrees / rng.chisquare(robust.degrees, n))[:, None]
    residuals = problem.residuals(theta[None])[0]
    return refit(problem, np.repeat(theta[None], n, axis=0), factors * robust.residuals - residuals, tick=tick)[0]
