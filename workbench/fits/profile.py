"""Profile of the objective along one parameter, and the interval where it crosses a threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import f as f_distribution

from workbench.engine.covariance import covariance
from workbench.engine.solver import Problem, solve

__all__ = ["Profile", "profile", "profile_interval"]


@dataclass(frozen=True)
class Profile:
    """The objective along one parameter, everything else refitted.

    Attributes:
        symbol: the parameter.
        values: ``[K]`` values it was held at, ascending.
        rise: ``[K]`` how far the objective rose, in units of the noise scale (a likelihood-ratio statistic).
    """

    symbol: str
    values: np.ndarray
    rise: np.ndarray


def profile(problem: Problem, theta: np.ndarray, symbol: str, span: float = 16.0) -> Profile:
    """Profile of the objective in one parameter (Bates and Watts 1988, chapter 6).

    Args:
        problem: the fitted problem.
        theta: ``[P]`` the optimum.
        symbol: a free parameter.
        span: how far to look, in likelihood-ratio units.

    Returns:
        A `Profile` that reaches `span` on both sides, or the parameter's bounds.
    """
    k = problem.free_symbols.index(symbol)
    low, high = problem.bounds()
    centre = problem.to_z(theta[None])[0]
    best = problem.values(theta[None])[0]
    residuals = problem.residuals(theta[None])[0]
    zone = problem.objective.zone(problem.y)
    m2, slope_of_psi = problem.objective.noise(residuals, problem.weights, len(problem.free), zone)
    # The moments are those of psi within the zone; the absolute loss is that divided by the zone.
    unit = zone if problem.objective.shape == "absolute" else 1.0
    omega = max(m2 / slope_of_psi, 1e-30)
    spread = covariance(problem, theta)
    width = np.sqrt(spread[k, k]) if np.isfinite(spread[k, k]) and spread[k, k] > 0 else 0.1
    width = float(np.clip(width, 1e-9, 3.0))
    # Others move along with the profiled one as the covariance says: a start near the answer.
    slope = spread[:, k] / spread[k, k] if np.isfinite(spread).all() and spread[k, k] > 0 else np.zeros(centre.size)
    slope[k] = 1.0
    found: dict[float, float] = {float(centre[k]): 0.0}

    def look(at: np.ndarray) -> None:
        at = np.clip(at, low[k], high[k])
        starts = centre[None] + np.clip((at - centre[k])[:, None] * slope[None], -20, 20)
        starts[:, k] = at
        solution = solve(problem, problem.to_theta(starts), frozen=(symbol,), warm=True, tolerance=1e-9)
        for position, value in zip(at, solution.value, strict=True):
            found[float(position)] = max(0.0, 2 * unit * (value - best) / omega)

    look(centre[k] + width * np.array([-4, -3, -2.5, -2, -1.5, -1, -0.5, 0.5, 1, 1.5, 2, 2.5, 3, 4]))
    for side, bound in ((-1, low[k]), (1, high[k])):
        reach = 4.0
        while True:
            outer = min(found) if side < 0 else max(found)
            if found[outer] >= span or abs(outer - bound) < 1e-9 or reach > 4000:
                break
            look(centre[k] + side * width * reach * np.array([1.5, 2.0, 3.0]))
            reach *= 3
    z = np.array(sorted(found))
    values = np.exp(z) if problem.law.parameters[problem.free[k]].log else z
    return Profile(symbol, values, np.array([found[float(v)] for v in z]))


def profile_interval(curve: Profile, level: float, degrees: int, log: bool) -> tuple[float, float]:
    """Where a profile crosses the threshold of `level`; NaN on a side where it never does.

    The threshold is F(1, degrees), which tends to chi-square with one degree of freedom; the crossing is
    interpolated on the signed root of the rise, which is nearly a straight line.
    """
    threshold = np.sqrt(f_distribution.ppf(level, 1, max(degrees, 1)))
    z = np.log(curve.values) if log else curve.values
    root = np.sqrt(curve.rise)
    bottom = int(np.argmin(root))
    ends = []
    for order in (range(bottom, -1, -1), range(bottom, z.size)):
        end, before = np.nan, bottom
        for i in order:
            if root[i] >= threshold:
                share = (threshold - root[before]) / max(root[i] - root[before], 1e-300)
                end = z[before] + share * (z[i] - z[before])
                break
            before = i
        ends.append(np.exp(end) if log else end)
    return float(ends[0]), float(ends[1])
