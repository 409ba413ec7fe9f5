"""Two curves and their resamples evaluated once, so that the multiplier at any value is asked at once."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from workbench.analysis.along import Curve
from workbench.analysis.multiplier import _grid, _invert, _reach, _times
from workbench.analysis.outcome import rounded
from workbench.fits.result import RESAMPLES

__all__ = ["Shift", "ShiftAt", "shift"]


@dataclass(frozen=True)
class ShiftAt:
    """The multiplier at one value.

    Attributes:
        value: the value to reach.
        a, b: scales at which either curve reaches it; infinite where it does not within the search.
        multiplier: b / a, with `low` and `high`.
        never: share of resamples in which B does not get there.
        level: nominal coverage.
    """

    value: float
    a: float
    b: float
    multiplier: float
    low: float
    high: float
    never: float
    level: float

    def sentence(self, first: str, second: str) -> str:
        """What the numbers say."""
        if not np.isfinite(self.a):
            return f"{first} does not reach {rounded(self.value, 4)} within the search."
        if not np.isfinite(self.multiplier):
            return f"{second} does not reach {rounded(self.value, 4)} within the search."
        interval = f"{self.level:.0%} interval {_times(self.low)} to {_times(self.high)}"
        return (
            f"To reach {rounded(self.value, 4)}, {second} needs {_times(self.multiplier)} times the scale of {first} "
            f"({interval})."
        )


@dataclass(frozen=True)
class Shift:
    """How many times the scale of A the other curve B needs, for every value; see `workbench.multiplier`.

    Attributes:
        a, b: the curves.
        range: largest and smallest value (in the order of the curves' scale) that A reaches between its smallest
            run and ten times its largest.
        level: nominal coverage.
        n: resamples.
    """

    a: Curve
    b: Curve
    range: tuple[float, float]
    level: float
    n: int
    _grid: np.ndarray = field(repr=False, default=None)
    _centre: tuple[np.ndarray, np.ndarray] = field(repr=False, default=())
    _spread: tuple[np.ndarray, np.ndarray] = field(repr=False, default=())

    def at(self, value: float, quick: bool = False) -> ShiftAt:
        """The multiplier at `value`, by the curves and resamples evaluated beforehand.

        Args:
            value: the value to reach.
            quick: read the two scales off the evaluated curves, too, instead of solving for them; a frontier
                takes a tenth of a second otherwise.
        """
        if quick:
            goal = np.array([[float(value)]])
            scales = [float(_invert(y[None], self._grid, goal)[0, 0]) for y in self._centre]
        else:
            scales = [_reach(c, float(value), self._grid, strictly=False) for c in (self.a, self.b)]
        goals = np.full((self.n, 1), float(value))
        mine, theirs = (_invert(values, self._grid, goals)[:, 0] for values in self._spread)
        with np.errstate(all="ignore"):
            spread = theirs / mine
        spread = np.where(np.isnan(spread), np.inf, spread)
        tail = 50 * (1 - self.level)
        low, high = np.percentile(spread, [tail, 100 - tail], method="inverted_cdf")
        a, b = (s if np.isfinite(s) else np.inf for s in scales)
        ratio = b / a if np.isfinite(a) else np.nan
        return ShiftAt(float(value), float(a), float(b), float(ratio), float(low), float(high),
                       float(np.isinf(theirs).mean()), self.level)  # fmt: skip


def shift(a: Curve, b: Curve, level: float = 0.95, n: int = RESAMPLES, seed: int = 0) -> Shift:
    """Both curves and their resamples along the search of `workbench.multiplier`, whose numbers these are.

    Args:
        a, b: the curves (`workbench.analysis.along.curve`), at least one of them fitted.
        level: nominal coverage.
        n: bootstrap resamples.
        seed: seed of how the resamples are paired.

    Raises:
        ValueError: no range to search, or no degrees of freedom to resample.
    """
    grid = _grid(a, b, None)
    spread = (a.values(a.draws(n, 2 * seed + 11), grid), b.values(b.draws(n, 2 * seed + 12), grid))
    centre = (a.values(a.theta[None], grid)[0], b.values(b.theta[None], grid)[0])
    span = np.array([a.span[0], 10 * a.span[1]])
    ends = a.values(a.theta[None], span)[0]
    return Shift(a, b, (float(ends[0]), float(ends[1])), float(level), n, grid, centre, spread)
