"""Logarithmic and linear axes whose ticks read as people write numbers: 10M, 1B, 1e21, 2.5."""

from __future__ import annotations

import math
from typing import Any

import altair as alt
import numpy as np

__all__ = ["label", "linear_ticks", "log_ticks", "scaled"]

_POWER = "replace(replace(format(datum.value, '.2~e'), 'e+', 'e'), 'e−', 'e-')"
#: Vega expression for tick labels: SI suffixes with B for billions, powers of ten for what is tiny.
_PLAIN = (
    f"datum.value == 0 ? '0' : abs(datum.value) < 0.00099999 ? {_POWER} "
    ": abs(datum.value) >= 999.99 ? replace(format(datum.value, '.4~s'), 'G', 'B') : format(datum.value, '.6~')"
)


def label(largest: float) -> str:
    """Vega expression for the tick labels of an axis that ends at `largest`.

    Beyond 1e15 no suffix is common, so that axis has powers of ten throughout.
    """
    return _POWER if largest >= 1e15 else _PLAIN


def log_ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Between about `count` / 2 and 2 `count` ticks for a logarithmic axis from `low` to `high`.

    Vega draws no label at all on a logarithmic axis that spans less than a decade, which is where most
    losses live, so ticks are always given: powers of ten (every k-th), 1-3-10 or 1-2-5 series, and round
    linear steps when the span is short.
    """
    decades = math.log10(high / low)
    if decades < 0.7:
        return linear_ticks(low, high, count)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for multiples in ((1, 2, 3, 4, 5, 6, 8), (1, 2, 5), (1, 3), (1,)):
        ticks = [m * 10.0**e for e in range(first, last + 1) for m in multiples]
        ticks = [float(f"{t:.12g}") for t in ticks if low * (1 - 1e-9) <= t <= high * (1 + 1e-9)]
        if len(ticks) <= max(1.34 * count, 2):
            return ticks
    step = math.ceil(len(ticks) / count)
    return ticks[(len(ticks) - 1) % step // 2 :: step]


def linear_ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Round, evenly spaced ticks within ``[low, high]``."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    base = 10.0 ** math.floor(math.log10(raw))
    step = next(base * m for m in (1, 2, 2.5, 5, 10) if base * m >= raw * 0.999)
    start = math.ceil(low / step - 1e-9)
    return [float(f"{i * step:.12g}") for i in range(start, math.floor(high / step + 1e-9) + 1)]


def scaled(
    channel: type,
    field: str,
    values: Any,
    title: str | None,
    *,
    log: bool = True,
    count: int = 6,
    pad: float = 0.04,
    **more: Any,
) -> Any:
    """An x or y channel over `values` with its own domain, ticks and labels.

    Args:
        channel: ``alt.X`` or ``alt.Y``.
        field: field of the chart's data.
        values: everything that must be visible; what is not finite (or, on a log axis, not positive) is
            passed over.
        title: axis title, from `workbench.units.axis_title`.
        log: logarithmic, else linear.
        count: ticks wanted.
        pad: empty margin on both sides, as a share of the span.
        more: further arguments of the channel.
    """
    values = np.asarray(values, dtype=float).ravel()
    values = values[np.isfinite(values) & ((values > 0) | (not log))]
    low, high = (float(values.min()), float(values.max())) if values.size else (1.0, 10.0)
    if log:
        if high / low < 1.0 + 1e-6:
            low, high = low / 1.5, high * 1.5
        margin = (high / low) ** pad
        low, high = low / margin, high * margin
        ticks, scale = log_ticks(low, high, count), alt.Scale(type="log", domain=[low, high], nice=False)
    else:
        if high - low < 1e-12 * max(abs(high), 1.0):
            low, high = low - max(abs(low) * 0.1, 1.0), high + max(abs(high) * 0.1, 1.0)
        low, high = low - pad * (high - low), high + pad * (high - low)
        ticks, scale = linear_ticks(low, high, count), alt.Scale(domain=[low, high], nice=False, zero=False)
    return channel(f"{field}:Q", scale=scale, axis=alt.Axis(values=ticks, labelExpr=label(high), title=title), **more)
