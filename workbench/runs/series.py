"""What is done to one logged series before it is looked at: smoothing, spikes, divergence, envelopes, axis limits.

Series are as logs have them: unevenly spaced, with gaps (NaN) and with values that are not finite. Smoothing and the
search for spikes see the full series; thinning for the screen comes after them (`workbench.figures.data.thin`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

__all__ = ["Limits", "clip_outliers", "diverged", "envelope", "halflife_of", "smooth", "spikes"]

#: A block of the exponential average spans this many half-lives, so that its weights stay far from overflow.
_BLOCK = 64.0
#: Median absolute deviation to standard deviation of a Gaussian: 1 / Phi^-1(3/4).
_SIGMA = 1.4826
#: Rows of an envelope on its own grid.
_GRID = 2000


def smooth(at: np.ndarray, values: np.ndarray, halflife: float) -> np.ndarray:
    """Exponential average of the past of a series that may be unevenly spaced.

    Point i becomes ``sum_j w_ij v_j / sum_j w_ij`` over all finite ``v_j`` with j <= i, with
    ``w_ij = 2^(-(at_i - at_j) / halflife)``. Dividing by the sum of the weights removes the pull towards the start
    ("debiasing"). Where points are a distance d apart this is TensorBoard's smoothing with weight
    ``2^(-d / halflife)``; see `halflife_of`.

    Args:
        at: ``[n]`` where the points lie, never falling: steps, tokens, FLOPs, or their logarithms.
        values: ``[n]``; what is not finite is passed over and is NaN in the result.
        halflife: distance in the unit of `at` over which an old point loses half its weight; 0 smooths nothing.

    Returns:
        ``[n]`` smoothed values.

    Raises:
        ValueError: the lengths differ, `at` falls, or `halflife` is negative or not finite.
    """
    at, values = np.asarray(at, dtype=float), np.asarray(values, dtype=float)
    if at.ndim != 1 or at.shape != values.shape:
        raise ValueError(f"at has shape {at.shape} and values {values.shape}; give one position for each value.")
    if not (math.isfinite(halflife) and halflife >= 0):
        raise ValueError(f"the half-life is {halflife}; give a finite number, 0 for no smoothing.")
    known = np.isfinite(at) & np.isfinite(values)
    result = np.full(values.size, np.nan)
    t, v = at[known], values[known]
    if (np.diff(t) < 0).any():
        raise ValueError("at falls somewhere; sort the points by position first.")
    if not t.size:
        return result
    if halflife == 0:
        result[known] = v
        return result
    with np.errstate(over="ignore"):
        age = (t - t[0]) / halflife
    blocks = np.flatnonzero(np.diff(np.floor(age / _BLOCK), prepend=-1.0))
    result[known] = _averages(age, v, blocks) if 8 * blocks.size < t.size else _one_by_one(age, v)
    return result


def _one_by_one(age: np.ndarray, v: np.ndarray) -> list[float]:
    """The average point by point: faster than `_averages` where a block is a handful of points."""
    total = weight = 0.0
    out = []
    for kept, value in zip(np.exp2(-np.diff(age, prepend=age[0])).tolist(), v.tolist(), strict=True):
        total, weight = total * kept + value, weight * kept + 1.0
        out.append(total / weight)
    return out


def _averages(age: np.ndarray, v: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """The average block by block: in a block the weights of the past are one cumulative sum."""
    out = np.empty(v.size)
    total = weight = 0.0
    before = age[0]
    for start, stop in zip(blocks, [*blocks[1:], v.size], strict=True):
        grown = np.exp2(age[start:stop] - age[start])
        carried = math.exp2(max(before - age[start], -1100.0))
        sums = total * carried + np.cumsum(grown * v[start:stop])
        weights = weight * carried + np.cumsum(grown)
        out[start:stop] = sums / weights
        total, weight, before = sums[-1] / grown[-1], weights[-1] / grown[-1], age[stop - 1]
    return out


def halflife_of(weight: float, spacing: float = 1.0) -> float:
    """Half-life of TensorBoard's smoothing `weight` for points `spacing` apart: ``spacing ln 2 / -ln weight``.

    Raises:
        ValueError: the weight is not in [0, 1).
    """
    if not 0 <= weight < 1:
        raise ValueError(f"a smoothing weight of {weight} is not possible; give 0 (none) up to, but below, 1.")
    return spacing * math.log(2) / -math.log(weight) if weight > 0 else 0.0


def spikes(values: np.ndarray, *, window: int = 32, threshold: float = 8.0, rise: float = 0.02) -> np.ndarray:
    """Where a curve jumps up out of its own recent past.

    A point is judged by the `window` finite points before it only, so that a later point never changes the verdict
    and a growing log keeps its spikes. With x the logarithm of the values (the values themselves where one of them is
    not positive), m_i the median of the window before i and r = x - m, a point is high if r_i exceeds both
    `threshold` times 1.4826 the median of the window's absolute r, and `rise`. Of neighbouring high points the
    highest is the spike. The first ``2 window`` finite points are not judged: until then the noise is not known.

    On independent Gaussian noise around a constant or falling curve fewer than 1 in 100,000 points are called
    a spike at the defaults, even where the noise exceeds `rise`.

    Args:
        values: ``[n]`` in order; what is not finite is passed over.
        window: points of the past.
        threshold: in standard deviations, as the median absolute deviation estimates them.
        rise: the least rise in logarithms, 0.02 being 2 %; of values that are not all positive, the least rise as a
            share of the median absolute value.

    Returns:
        Indices into `values`, ascending.

    Raises:
        ValueError: the window is shorter than 4 points, or `threshold` or `rise` is negative.
    """
    if window < 4 or threshold < 0 or rise < 0:
        raise ValueError(
            f"window {window}, threshold {threshold}, rise {rise}: the window takes 4 points or more, the others no "
            "negative number."
        )
    values = np.asarray(values, dtype=float)
    known = np.flatnonzero(np.isfinite(values))
    if known.size <= 2 * window:
        return np.empty(0, dtype=int)
    x = values[known]
    if (x > 0).all():
        x = np.log(x)
    else:
        rise *= float(np.median(np.abs(x))) or 1.0
    above = np.full(x.size, np.nan)
    above[window:] = x[window:] - _past_median(x, window)
    noise = _past_median(np.abs(above[window:]), window)
    late = above[2 * window :]
    high = np.zeros(x.size, dtype=bool)
    high[2 * window :] = (late > threshold * _SIGMA * noise) & (late > rise)
    edges = np.flatnonzero(np.diff(high, prepend=False, append=False))
    peaks = [start + int(np.argmax(x[start:stop])) for start, stop in edges.reshape(-1, 2)]
    return known[np.array(peaks, dtype=int)]


def _past_median(x: np.ndarray, window: int) -> np.ndarray:
    """Median of the `window` values before each of ``x[window:]``."""
    return pd.Series(x).rolling(window).median().to_numpy()[window - 1 : -1]


def diverged(values: np.ndarray) -> bool:
    """Whether a loss curve blew up. Lower is better; a curve without a finite value says nothing and gives False.

    It did if one of these holds:

    * a value is infinite;
    * it ends in NaN, for more than twice as many points as its longest gap before (a metric that is logged every
      tenth row has gaps and ends in one);
    * it ends (median of its last three finite values) more than 10 % above its best (lowest running median of
      three), and at least half of what it had gained since its start (median of the first three) is lost.

    A validation loss that rises that far by overfitting meets the rule too.
    """
    values = np.asarray(values, dtype=float)
    known = np.flatnonzero(np.isfinite(values))
    if np.isinf(values).any():
        return True
    if not known.size:
        return False
    gap = max(int(np.diff(known).max(initial=1)) - 1, int(known[0]))
    if values.size - 1 - known[-1] > 2 * gap:
        return True
    v = values[known]
    first, end = float(np.median(v[:3])), float(np.median(v[-3:]))
    best = float(np.median(np.lib.stride_tricks.sliding_window_view(v, 3), axis=1).min()) if v.size >= 3 else v.min()
    return bool(end - best > 0.1 * abs(best) and end - best >= 0.5 * (first - best))


def envelope(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]] | Iterable[tuple[np.ndarray, np.ndarray]],
    grid: np.ndarray | None = None,
    *,
    band: float | None = None,
    gap: float | None = None,
) -> pd.DataFrame:
    """Mean and spread of several curves along x.

    A curve counts at x only where it says something: between its first and its last point, and not inside a hole.
    Between two neighbouring points of a curve its value is interpolated linearly. Since curves end at different
    places, the mean may jump where one drops out; `n` shows where.

    Args:
        curves: pairs ``(x, y)`` of equal length, by name or in a row; what is not finite is passed over.
        grid: ``[m]`` ascending positions; default every x at which some curve has a value, at most 2,000 of
            them, evenly chosen.
        band: None for the lowest and highest curve, else the share of the curves in the band, 0.8 being from the
            0.1 to the 0.9 quantile.
        gap: widest distance in x across which a curve is interpolated; default four times the median of the five
            spacings around it.

    Returns:
        A frame with the columns x, mean, low, high and n (curves there), without the positions where no curve is.

    Raises:
        ValueError: `band` is not in (0, 1], `gap` is not positive, or x and y differ in length.
    """
    if band is not None and not 0 < band <= 1:
        raise ValueError(f"a band of {band} is not possible; give a share of the curves in (0, 1], or None.")
    if gap is not None and not gap > 0:
        raise ValueError(f"a gap of {gap} is not possible; give a positive distance in x, or None.")
    pairs = [_sorted(x, y) for x, y in (curves.values() if isinstance(curves, Mapping) else curves)]
    if grid is None:
        grid = np.unique(np.concatenate([x for x, _ in pairs])) if pairs else np.empty(0)
        if grid.size > _GRID:
            grid = grid[np.round(np.linspace(0, grid.size - 1, _GRID)).astype(int)]
    grid = np.asarray(grid, dtype=float)
    held = np.full((len(pairs), grid.size), np.nan)
    for row, (x, y) in enumerate(pairs):
        held[row] = _on_grid(x, y, grid, gap)
    n = np.isfinite(held).sum(axis=0)
    some = n > 0
    held, x, n = held[:, some], grid[some], n[some]
    if not x.size:
        return pd.DataFrame({"x": x, "mean": x, "low": x, "high": x, "n": n})
    ends = (0.0, 1.0) if band is None else ((1 - band) / 2, (1 + band) / 2)
    low, high = np.nanquantile(held, ends, axis=0)
    return pd.DataFrame({"x": x, "mean": np.nanmean(held, axis=0), "low": low, "high": high, "n": n})


def _sorted(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The finite points by x; of several at one x the last."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"a curve has {x.shape} positions and {y.shape} values; give one value for each position.")
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known][::-1], y[known][::-1]
    x, first = np.unique(x, return_index=True)
    return x, y[first]


def _on_grid(x: np.ndarray, y: np.ndarray, grid: np.ndarray, gap: float | None) -> np.ndarray:
    if not x.size:
        return np.full(grid.size, np.nan)
    value = np.interp(grid, x, y, left=np.nan, right=np.nan)
    if x.size > 1:
        spacing = np.diff(x)
        allowed = 4 * pd.Series(spacing).rolling(5, center=True, min_periods=1).median().to_numpy()
        holes = spacing > (allowed if gap is None else gap)
        interval = np.clip(np.searchsorted(x, grid, side="right") - 1, 0, spacing.size - 1)
        inside = (grid > x[interval]) & (grid < x[interval + 1])
        value[inside & holes[interval]] = np.nan
    return value


class Limits(NamedTuple):
    """Ends of an axis, and how many finite values lie beyond them."""

    low: float
    high: float
    left_out: int


def clip_outliers(values: np.ndarray, *, log: bool | None = None) -> Limits:
    """Axis limits that show the bulk of `values` and leave out what is far from it.

    With a and b the 5 % and 95 % quantiles (of logarithms on a logarithmic axis), a value is left out beyond
    ``a - (b - a) / 2`` or ``b + (b - a) / 2``, which is 3.3 standard deviations of a Gaussian. The limits are the
    outermost values that stay.

    Args:
        values: any shape; what is not finite (on a logarithmic axis: not positive) is passed over.
        log: whether the axis is logarithmic; default if all finite values are positive.

    Returns:
        `Limits`; ``(nan, nan, 0)`` where there is no finite value.
    """
    values = np.asarray(values, dtype=float).ravel()
    values = values[np.isfinite(values)]
    log = bool((values > 0).all()) if log is None else log
    values = values[values > 0] if log else values
    if not values.size:
        return Limits(math.nan, math.nan, 0)
    z = np.log(values) if log else values
    a, b = np.quantile(z, (0.05, 0.95))
    slack = (b - a) / 2 + 1e-12 * max(abs(a), abs(b))
    stay = (z >= a - slack) & (z <= b + slack)
    return Limits(float(values[stay].min()), float(values[stay].max()), int((~stay).sum()))
