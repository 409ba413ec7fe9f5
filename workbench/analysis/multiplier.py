"""`multiplier`: how many times more compute (or data) one recipe needs to be as good as another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from workbench.analysis.along import Curve, pair, scale_text
from workbench.analysis.outcome import Outcome, rounded, strict
from workbench.fits.result import RESAMPLES
from workbench.late import late
from workbench.laws.base import Law

__all__ = ["Multiplier", "multiplier"]

#: How many times beyond the runs of either series B is followed; a multiplier that needs more is "more than".
REACH = 1e4
_GRID, _FRONTIER_GRID = 481, 97
#: Scales of A at which the multiplier is given when nobody says.
_ROWS = 9


@dataclass(frozen=True, repr=False)
class Multiplier(Outcome):
    """How many times the scale of A the other recipe B needs for the same value.

    Attributes:
        frame: one row a scale of A: the scale, ``value`` A reaches there, ``b_scale`` B needs for it,
            ``multiplier`` = ``b_scale`` / scale with ``low`` and ``high``, ``never``: share of resamples in
            which B never gets there, ``extrapolation``: the farther of the two scales over the largest run
            of its own series. Infinite where B does not reach the value within the search.
        a, b: the curves.
        change: multiplier at the last row over that at the first, with ``change_low`` and ``change_high``:
            1 if B is A shifted along the axis, which holds iff exponents and floors are equal.
        level: nominal coverage.
        n: resamples.
    """

    frame: pd.DataFrame
    a: Curve
    b: Curve
    change: float
    change_low: float
    change_high: float
    level: float
    n: int

    plot = late("workbench.figures.crossover:multiplier", "The multiplier against scale, with its band.")

    @property
    def verdict(self) -> str:
        """One sentence: the multiplier, its interval, where, and whether it changes with scale."""
        a, b, along = self.a.label, self.b.label, self.a.along
        reached = self.frame[np.isfinite(self.frame["multiplier"])]
        if not len(reached):
            return f"{b} does not reach what {a} reaches anywhere in the range searched."
        row = reached.iloc[-1]
        fixed = self.a.fit is None and self.b.fit is None
        interval = "" if fixed else f" ({self.level:.0%} interval {_times(row['low'])} to {_times(row['high'])})"
        far = f", {row['extrapolation']:.2g} times beyond its runs" if row["extrapolation"] > 1 else ""
        head = (
            f"{b} needs {_times(row['multiplier'])} times the scale of {a}{interval} to be as good as {a} at "
            f"{scale_text(row[along], along)}{far}"
        )
        if len(self.frame) < 2 or not np.isfinite(self.change):
            return head + "."
        steady = abs(np.log(self.change)) < 1e-06 if fixed else self.change_low <= 1 <= self.change_high
        first = f"{_times(reached.iloc[0]['multiplier'])} at {scale_text(reached.iloc[0][along], along)}"
        return head + (
            "; no change with scale can be told." if steady and not fixed
            else "; it does not change with scale." if steady
            else f"; it changes with scale, from {first}."
        )  # fmt: skip

    def table(self, digits: int = 3) -> pd.DataFrame:
        """`frame` for reading."""
        f = self.frame
        out = pd.DataFrame({f"{self.a.along} of {self.a.label}": [f"{v:.3g}" for v in f[self.a.along]]})
        out["value"] = [rounded(v, digits + 1) for v in f["value"]]
        out[f"{self.a.along} of {self.b.label}"] = [_times(v) for v in f["b_scale"]]
        out["multiplier"] = [_times(v, digits) for v in f["multiplier"]]
        out[f"{self.level:.0%} interval"] = [
            f"{_times(lo, digits)} to {_times(hi, digits)}" for lo, hi in zip(f["low"], f["high"], strict=True)
        ]
        out["never"] = [f"{v:.1%}" if v else "" for v in f["never"]]
        out["extrapolation"] = ["—" if not np.isfinite(v) else f"{v:.2g}×" for v in f["extrapolation"]]
        return out

    def to_dict(self) -> dict:
        """The answer as strict JSON types."""
        return strict(
            {
                "along": self.a.along,
                "a": self.a.label,
                "b": self.b.label,
                "change": self.change,
                "change_low": self.change_low,
                "change_high": self.change_high,
                "level": self.level,
                "n": self.n,
                "verdict": self.verdict,
                "multipliers": self.frame,
            }
        )


def multiplier(
    a: Any,
    b: Any = None,
    *,
    at: Any = None,
    at_scale: Any = None,
    along: str | None = None,
    held: Mapping[str, float] | None = None,
    by: str | None = None,
    groups: Sequence[Any] | None = None,
    law: str | Law = "power_constant",
    labels: Sequence[str] | None = None,
    level: float = 0.95,
    n: int = RESAMPLES,
    seed: int = 0,
    **options: Any,
) -> Multiplier:
    """How many times more of the scale B needs to reach what A reaches: the shift between two curves.

    For two bare power laws it is ``(A_b / A_a)^(1/alpha_b) x^(alpha_a/alpha_b - 1)`` at A's scale x, so it is
    one number only if the exponents are equal. Two recipes that differ by a constant factor of compute or
    data (as "effective data" and "compute multiplier" assume) are curves shifted along the axis.

    Args:
        a, b, along, held, by, groups, law, labels, level, n, seed, options: as in `crossover`.
        at: values to reach, in the unit of the fitted column; each is reached by A somewhere.
        at_scale: scales of A, e.g. budgets in FLOP. Default nine scales over the runs of A.

    Returns:
        A `Multiplier`.

    Raises:
        ValueError: both `at` and `at_scale`, a value that A does not reach, or what `crossover` refuses.
    """
    if at is not None and at_scale is not None:
        raise ValueError("give at= (values to reach) or at_scale= (scales of A), not both")
    if not (isinstance(level, int | float) and 0 < level < 1):
        raise ValueError(f"level is {level!r}; a nominal coverage lies between 0 and 1, such as 0.95")
    first, second = pair(a, b, along=along, held=held, by=by, groups=groups, law=law, labels=labels, **options)
    given = None if at_scale is None else _positive(at_scale, "at_scale")
    wanted = None if at is None else _positive(at, "at")
    grid = _grid(first, second, given)
    if wanted is not None:
        given = np.array([_reach(first, value, grid) for value in wanted])
    elif given is None:
        span = first.span if np.isfinite(first.span[1]) else (grid[0] * REACH, grid[-1] / REACH)
        given = np.geomspace(*span, _ROWS)
    value = first.values(first.theta[None], given)[0]
    needed = np.array([_reach(second, v, grid, strictly=False) for v in value])
    drawn = (first.draws(n, 2 * seed + 11), second.draws(n, 2 * seed + 12))
    # A value to reach is the same in every resample; a scale of A is, and the value there then varies.
    reached = _invert(first.values(drawn[0], grid), grid, np.broadcast_to(value, (n, len(value)))) if at is not None \
        else np.broadcast_to(given, (n, len(given)))  # fmt: skip
    goal = np.broadcast_to(value, (n, len(value))) if at is not None else first.values(drawn[0], given)
    spread = _invert(second.values(drawn[1], grid), grid, goal) / reached
    spread = np.where(np.isnan(spread), np.inf, spread)
    tail = 50 * (1 - level)
    low, high = np.percentile(spread, [tail, 100 - tail], axis=0, method="inverted_cdf")
    with np.errstate(all="ignore"):
        shift = spread[:, -1] / spread[:, 0]
        change = needed[-1] / given[-1] / (needed[0] / given[0])
    shift = shift[~np.isnan(shift)]
    ends = np.percentile(shift, [tail, 100 - tail], method="inverted_cdf") if shift.size else (np.nan, np.nan)
    if first.fit is None and second.fit is None:
        low, high, ends = needed / given, needed / given, (change, change)
    beyond = np.fmax(given / first.span[1], needed / second.span[1])
    frame = pd.DataFrame(
        {
            first.along: given,
            "value": value,
            "b_scale": needed,
            "multiplier": needed / given,
            "low": low,
            "high": high,
            "never": np.isinf(spread).mean(axis=0),
            "extrapolation": beyond,
        }
    )
    return Multiplier(frame, first, second, float(change), float(ends[0]), float(ends[1]), float(level), n)


def _positive(values: Any, name: str) -> np.ndarray:
    try:
        out = np.atleast_1d(np.asarray(values, dtype=float))
    except (TypeError, ValueError):
        out = np.array([np.nan])
    if out.ndim != 1 or not out.size or not (np.isfinite(out).all() and (out > 0).all()):
        raise ValueError(f"{name} is {values!r}; give one or several positive numbers")
    return out


def _grid(a: Curve, b: Curve, given: np.ndarray | None) -> np.ndarray:
    known = [v for c in (a, b) for v in c.span if np.isfinite(v)]
    known += [] if given is None else [given.min(), given.max()]
    if not known:
        raise ValueError("laws with given parameters have no runs to take scales from; give at_scale=")
    size = _FRONTIER_GRID if a.frontier or b.frontier else _GRID
    return np.geomspace(min(known) / REACH, max(known) * REACH, size)


def _reach(curve: Curve, value: float, grid: np.ndarray, strictly: bool = True) -> float:
    """Scale at which `curve` first reaches `value`, infinite if it does not within the grid."""

    def gap(log_scale):
        return float(curve.values(curve.theta[None], np.exp(np.array([log_scale])))[0, 0]) - value

    values = curve.values(curve.theta[None], grid)[0] - value
    turns = np.flatnonzero(np.sign(values[:-1]) * np.sign(values[1:]) <= 0)
    if turns.size:
        i = turns[0]
        return float(np.exp(brentq(gap, np.log(grid[i]), np.log(grid[i + 1]), xtol=1e-13)))
    if strictly:
        raise ValueError(
            f"{curve.label} does not reach {value:g} between {grid[0]:.3g} and {grid[-1]:.3g}; ask for a value between "
            f"{values[-1] + value:.4g} and {values[0] + value:.4g}"
        )
    return np.inf if abs(values[-1]) <= abs(values[0]) else np.nan


def _invert(values: np.ndarray, grid: np.ndarray, goals: np.ndarray) -> np.ndarray:
    """First scale ``[n, m]`` at which each curve ``[n, G]`` reaches its goals ``[n, m]``; infinite where it does not.

    Interpolated between logarithms, in which a power law is straight.
    """
    log_grid = np.log(grid)
    positive = (values > 0).all() and (goals > 0).all()
    v, g = (np.log(values), np.log(goals)) if positive else (values, goals)
    out = np.full(goals.shape, np.inf)
    for j in range(goals.shape[1]):
        gap = v - g[:, j, None]
        turns = np.sign(gap[:, :-1]) * np.sign(gap[:, 1:]) <= 0
        i = turns.argmax(axis=1)
        rows = np.arange(len(v))
        before, after = gap[rows, i], gap[rows, i + 1]
        with np.errstate(all="ignore"):
            share = np.where(before == after, 0.0, before / (before - after))
            found = np.exp(log_grid[i] + share * (log_grid[i + 1] - log_grid[i]))
        out[:, j] = np.where(turns.any(axis=1), found, np.inf)
    return out


def _times(value: float, digits: int = 3) -> str:
    if np.isnan(value):
        return "—"
    return "∞" if np.isinf(value) else f"{value:.{digits}g}".replace("e+", "e")
