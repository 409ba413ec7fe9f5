"""`Estimate`: a measured number with its 95 % interval, and the usual ways to get one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

__all__ = ["Estimate", "bootstrap", "exact", "mean", "proportion", "slope"]

_LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number, its 95 % interval, and on how many independent observations it rests.

    Attributes:
        value: NaN if it could not be measured.
        low, high: the interval's ends.
        n: independent observations (runs, seeds), not checkpoints of one run.
    """

    value: float
    low: float
    high: float
    n: int

    def text(self, digits: int = 2) -> str:
        """``2.01 [1.95, 2.08]``: `digits` significant digits of the value, the ends to the same decimal."""
        if not math.isfinite(self.value):
            return "not measured"
        scale = max(abs(self.value), (self.high - self.low) if math.isfinite(self.high - self.low) else 0.0)
        decimals = digits if scale == 0 else max(0, digits - 1 - math.floor(math.log10(scale)))
        value, low, high = (f"{part:.{decimals}f}" for part in (self.value, self.low, self.high))
        said = value if low == high else f"{value} [{low}, {high}]"
        return said.replace("-", "−")

    def to_dict(self) -> dict[str, float]:
        """Plain numbers."""
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}


def mean(values: Sequence[float]) -> Estimate:
    """The mean of independent observations with Student's interval.

    Raises:
        ValueError: fewer than two observations: nothing is known of their spread.
    """
    values = np.asarray(values, dtype=float)
    if values.size < 2:
        raise ValueError(f"a mean with an interval needs two observations; got {values.size}.")
    half = stats.t.ppf(0.5 + _LEVEL / 2, values.size - 1) * values.std(ddof=1) / math.sqrt(values.size)
    return Estimate(float(values.mean()), float(values.mean() - half), float(values.mean() + half), values.size)


def slope(x: Sequence[float], y: Sequence[float], log: bool = False, seeds: Sequence | None = None) -> Estimate:
    """The slope of a straight line by least squares, with Student's interval.

    Args:
        x, y: observations [n].
        log: take the logarithm of both first: the slope is then an exponent.
        seeds: which observations belong together [n]. The line is then fitted to each seed by itself, and the
            interval is that of the mean slope: right even where the points of one seed are not independent, or
            where the line is only nearly straight.

    Raises:
        ValueError: fewer than three points, or two seeds.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if log:
        x, y = np.log(x), np.log(y)
    if seeds is not None:
        seeds = np.asarray(seeds)
        return mean([np.polyfit(x[seeds == s], y[seeds == s], 1)[0] for s in dict.fromkeys(seeds.tolist())])
    if x.size < 3:
        raise ValueError(f"a slope with an interval needs three points; got {x.size}.")
    line = stats.linregress(x, y)
    half = stats.t.ppf(0.5 + _LEVEL / 2, x.size - 2) * line.stderr
    return Estimate(float(line.slope), float(line.slope - half), float(line.slope + half), x.size)


def proportion(successes: int, trials: int) -> Estimate:
    """A share with Wilson's score interval (Wilson 1927, JASA 22), which is sound at 0 and 1 too.

    Raises:
        ValueError: no trials.
    """
    if trials < 1:
        raise ValueError("a share needs at least one trial; got none.")
    found = stats.binomtest(successes, trials).proportion_ci(_LEVEL, method="wilson")
    return Estimate(successes / trials, float(found.low), float(found.high), trials)


def bootstrap(
    groups: Sequence[np.ndarray], statistic: Callable[[list[np.ndarray]], float], seed: int = 0, n: int = 500
) -> Estimate:
    """A statistic of independent groups (seeds, runs), with the percentile interval of resampled groups.

    With fewer than some eight groups the interval is too narrow; use `mean` of a number a group where one can.

    Args:
        groups: one entry an independent repetition.
        statistic: of a list of groups.
        seed: of the resampling.
        n: resamples.

    Raises:
        ValueError: fewer than two groups.
    """
    if len(groups) < 2:
        raise ValueError(f"a bootstrap needs two groups; got {len(groups)}.")
    rng = np.random.default_rng(seed)
    draws = [statistic([groups[i] for i in rng.integers(0, len(groups), len(groups))]) for _ in range(n)]
    low, high = np.nanquantile(draws, [0.5 - _LEVEL / 2, 0.5 + _LEVEL / 2])
    return Estimate(float(statistic(list(groups))), float(low), float(high), len(groups))


def exact(value: float, error: float = 0.0) -> Estimate:
    """A number that no chance enters, known to within `error` (of a grid, of arithmetic)."""
    return Estimate(float(value), float(value) - error, float(value) + error, 1)
