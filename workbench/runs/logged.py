"""The curves behind a table, one run at a time: against any axis, smoothed, and with what went wrong in them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from workbench.runs import series
from workbench.runs.columns import nearest
from workbench.runs.table import RunTable
from workbench.units import QUANTITIES

__all__ = ["SMOOTHED", "RunSeries", "axes_logged", "metrics_logged", "ordered"]

#: What `ordered` calls the last value of the smoothed curve.
SMOOTHED = "smoothed"
#: Columns of a curve that tell the time of day in seconds since 1970.
_CLOCKS = ("timestamp", "_timestamp", "wall_time", "wall time")
#: Columns that count what has been spent; no metric to draw upwards.
_COUNTS = ("step", "tokens", "flops", "seconds", "epochs", "relative_time", "progress", *_CLOCKS)
#: Runs looked at to learn which columns the curves of a table hold.
_LOOKED_AT = 24
#: Points kept ready at the same time; 32 bytes each.
_KEPT = 4_000_000


class RunSeries:
    """Curves of one table, extracted when they are asked for.

    Attributes:
        runs: the table.
        rows: run id -> its settings.
    """

    def __init__(self, runs: RunTable) -> None:
        self.runs = runs
        self.rows: dict[str, dict[str, Any]] = {row["run"]: row for row in runs.frame.to_dict(orient="records")}
        self._pairs: dict[tuple[str, str, str], tuple[np.ndarray, ...] | None] = {}
        self._events: dict[tuple[str, str], tuple[np.ndarray, bool]] = {}
        self._held = 0

    def pair(self, run: str, y: str, x: str) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Position on the axis `x`, `y`, and step of every point of `run` at which both are known.

        Training tokens and compute follow from the step where the curve does not hold them: they grow in
        proportion to it while a run trains. Seconds do not, and are never made up.

        Returns:
            Three arrays of one length, ordered by step, or None where the run has no such curve.
        """
        key = (run, y, x)
        if key not in self._pairs:
            if self._held > _KEPT:
                self._pairs.clear()
                self._held = 0
            self._pairs[key] = found = self._pair(run, y, x)
            self._held += found[0].size if found is not None else 1
        return self._pairs[key]

    def smoothed(self, run: str, y: str, x: str, smooth: float) -> tuple[np.ndarray, np.ndarray] | None:
        """Position and smoothed `y` of every point.

        The average runs along the run's steps, whatever axis is drawn, so that a value does not depend on how
        one looks at it. Its half-life is `smooth` percent of the steps between the run's first and last point.
        """
        found = self.pair(run, y, x)
        if found is None:
            return None
        at, values, step = found
        span = float(step[-1] - step[0]) if step.size else 0.0
        if smooth <= 0 or span <= 0:
            return at, values
        return at, _average(step, values, smooth / 100 * span)

    def final(self, run: str, y: str, smooth: float) -> float:
        """Last value of the smoothed curve; what the table holds where there is no curve."""
        found = self.smoothed(run, y, "step", smooth)
        if found is None:
            value = self.rows[run].get(y, np.nan)
            return float(value) if isinstance(value, int | float | np.number) else float("nan")
        return float(found[1][-1])

    def events(self, run: str, y: str) -> tuple[np.ndarray, bool]:
        """Steps of the spikes of a curve, and whether it diverged; both of the values as logged."""
        key = (run, y)
        if key not in self._events:
            found = self.pair(run, y, "step")
            if found is None:
                return np.empty(0), False
            self._events[key] = (
                found[2][series.spikes(found[1])],
                bool(series.diverged(self.runs.curves[run][y].to_numpy(float))),
            )
        return self._events[key]

    def _pair(self, run: str, y: str, x: str) -> tuple[np.ndarray, ...] | None:
        if run not in self.runs.curves:
            return None
        curve = self.runs.curves[run]
        if y not in curve:
            return None
        at = self._axis(curve, self.rows.get(run, {}), x)
        if at is None:
            return None
        values, step = curve[y].to_numpy(float), curve["step"].to_numpy(float)
        known = np.isfinite(at) & np.isfinite(values)
        if not known.any():
            return None
        return (at, values, step) if known.all() else (at[known], values[known], step[known])

    @staticmethod
    def _axis(curve: pd.DataFrame, row: dict[str, Any], x: str) -> np.ndarray | None:
        if x in curve:
            return curve[x].to_numpy(float)
        step = curve["step"].to_numpy(float)
        if x == "progress":
            return step / step[-1] if step.size and step[-1] > 0 else None
        if x == "relative_time":
            clock = next((c for c in ("seconds", *_CLOCKS) if c in curve), None)
            if clock is None:
                return None
            time = curve[clock].to_numpy(float)
            known = time[np.isfinite(time)]
            return time - known[0] if known.size else None
        if x == "tokens" and _known(row, "batch_tokens"):
            return step * row["batch_tokens"]
        if x in ("tokens", "flops") and _known(row, "steps") and _known(row, x):
            return step * (row[x] / row["steps"])
        return None


def metrics_logged(runs: RunTable) -> list[str]:
    """Columns of the curves that one may draw, loss first; empty where no run logged a curve."""
    names = dict.fromkeys(c for curve in _some(runs) for c in curve.columns if c not in _COUNTS)
    return sorted(names, key=lambda c: (c != "loss", c not in QUANTITIES and "loss" not in c))


def axes_logged(runs: RunTable) -> list[str]:
    """Axes that the curves of `runs` can be drawn along: counts first, then every logged column."""
    held = dict.fromkeys(c for curve in _some(runs) for c in curve.columns)
    frame = runs.frame
    scaled = [x for x in ("tokens", "flops") if x in frame and "steps" in frame]
    if "batch_tokens" in frame:
        scaled = ["tokens", *scaled]
    timed = ["relative_time"] if any(c in held for c in ("seconds", *_CLOCKS)) else []
    first = [c for c in ("step", "tokens", "flops", "seconds") if c in held or c in scaled]
    return list(dict.fromkeys([*first, *timed, "progress", *held])) if held else []


def ordered(runs: RunTable, by: str, descending: bool = False, *, y: str = "loss", smooth: float = 0.0) -> RunTable:
    """`runs` with its rows sorted; runs for which the value is not known come last.

    Args:
        runs: the table.
        by: a column, or ``smoothed``: the last value of the smoothed curve of `y`, see `RunSeries.final`.
        descending: largest first.
        y: metric, for ``smoothed``.
        smooth: half-life in percent of a run's steps, for ``smoothed``.

    Raises:
        ValueError: there is no such column.
    """
    if by == SMOOTHED and SMOOTHED not in runs:
        series = RunSeries(runs)
        values = pd.Series([series.final(run, y, smooth) for run in runs.ids], dtype=float)
    elif by in runs:
        values = runs.frame[by]
    else:
        raise ValueError(f"there is no column {by!r} to sort by; {nearest(by, [SMOOTHED, *runs.frame.columns])}")
    places = values.reset_index(drop=True).sort_values(ascending=not descending, kind="stable", na_position="last")
    return replace(runs, frame=runs.frame.iloc[places.index.to_numpy()].reset_index(drop=True))


def _average(step: np.ndarray, values: np.ndarray, halflife: float) -> np.ndarray:
    """`series.smooth`; where points are evenly spaced as the recursion that it is then, which is several times faster.

    With d = 2^(-spacing / halflife) the sums are s_i = v_i + d s_(i-1), and their weights a geometric series.
    """
    spacing = float(step[-1] - step[0]) / max(step.size - 1, 1)
    decay = 2.0 ** (-spacing / halflife)
    if step.size < 64 or not 0 < decay < 1 or np.abs(np.diff(step) - spacing).max() > 1e-9 * spacing:
        return series.smooth(step, values, halflife)
    from scipy.signal import lfilter

    weights = -np.expm1(np.arange(1, step.size + 1) * np.log(decay)) / (1.0 - decay)
    return lfilter([1.0], [1.0, -decay], values) / weights


def _some(runs: RunTable) -> list[pd.DataFrame]:
    """The curves of a few runs, evenly chosen."""
    ids = [run for run in runs.ids if run in runs.curves]
    chosen = np.unique(np.linspace(0, len(ids) - 1, min(len(ids), _LOOKED_AT)).round().astype(int))
    return [runs.curves[ids[i]] for i in chosen]


def _known(row: dict[str, Any], name: str) -> bool:
    value = row.get(name)
    return isinstance(value, int | float) and np.isfinite(value) and value > 0
