"""The rows of a figure of many curves: a curve and its spikes as drawn, and the band of a group of curves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from workbench.figures.data import thin
from workbench.runs.logged import RunSeries
from workbench.runs.series import envelope
from workbench.units import human

__all__ = [
    "Curve", "curve_row", "event_rows", "events_frame", "faint_row", "group_bands", "no_bands", "no_events", "no_rows",
    "thinned",
]  # fmt: skip

#: Most spikes marked in one figure, the tallest first in each run.
_MOST_SPIKES, _SPIKES_A_RUN = 300, 12
#: Points of a mean over runs.
_GRID = 160
#: What a mean over runs says at each of them.
_BAND = ("x", "mean", "low", "high", "n")


@dataclass
class Curve:
    """One curve of a figure, smoothed as a whole.

    Attributes:
        run: its id.
        at: ``[n]`` positions on the axis, never falling, above 0 where it is logarithmic.
        values: ``[n]``.
        group: its label in the legend.
        pane: the pane it is drawn in.
    """

    run: str
    at: np.ndarray
    values: np.ndarray
    group: str
    pane: str


def curve_row(curve: Curve, keep: np.ndarray, out: set[str], marked: set[str], limits: tuple[float, float]) -> dict:
    """The curve at the points `keep`, within `limits` of the y axis; bold if marked, faint beside marked ones."""
    bold = curve.run in marked
    return {
        "run": curve.run,
        "group": curve.group,
        "width": 3.2 if bold else 1.5,
        "opacity": 1.0 if bold else 0.3 if marked or curve.run in out else 0.9,
        "out": int(curve.run in out),
        "x": curve.at[keep],
        "y": _inside(curve.values[keep], limits),
    }


def thinned(values: np.ndarray, most: int, at: np.ndarray, log: bool) -> np.ndarray:
    """What `data.thin` gives, for hundreds of long curves at the pace of a slider: no loop over stretches.

    Where a stretch holds its minimum or maximum several times, all of them stay.
    """
    if values.size <= most:
        return np.arange(values.size)
    stretches = max((most - 2) // 2, 1)
    ends = np.geomspace(at[0], at[-1], stretches + 1) if log else np.linspace(at[0], at[-1], stretches + 1)
    starts = np.unique(np.concatenate([[0], np.searchsorted(at, ends[1:-1])]))
    starts = starts[starts < values.size]
    counts = np.diff(starts, append=values.size)
    keep = np.zeros(values.size, dtype=bool)
    for extreme in (np.minimum, np.maximum):
        keep |= values == np.repeat(extreme.reduceat(values, starts), counts)
    keep[[0, -1]] = True
    places = np.flatnonzero(keep)
    return places if places.size <= most else thin(values, most, np.log(at) if log else at)


def _inside(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """NaN where a value is off the axis: the line breaks there."""
    return np.where((values >= limits[0]) & (values <= limits[1]), values, np.nan)


def faint_row(
    series: RunSeries, curve: Curve, y: str, x: str, log_x: bool, most: int, limits: tuple[float, float]
) -> dict:
    """The curve as it was logged, for behind the smoothed one."""
    at, values, _ = series.pair(curve.run, y, x)
    if log_x:
        at, values = at[at > 0], values[at > 0]
    keep = thinned(values, most, at, log_x)
    return {"run": curve.run, "group": curve.group, "x": at[keep], "y": _inside(values[keep], limits)}


def event_rows(
    series: RunSeries, curve: Curve, y: str, x: str, limits: tuple[float, float]
) -> tuple[list[dict], int, bool]:
    """Rows of the spikes and the divergence of one curve: on the line that is drawn, or where the axis ends.

    Returns:
        The rows, how many spikes there are (not all need have a row), and whether the curve diverged.
    """
    steps, ended = series.events(curve.run, y)
    if not steps.size and not ended:
        return [], 0, False
    at, logged, step = series.pair(curve.run, y, x)
    shift = step.size - curve.at.size  # points that a logarithmic axis has no place for
    places = np.searchsorted(step, steps)
    tallest = places[np.argsort(-logged[places], kind="stable")[:_SPIKES_A_RUN]]
    rows = [(int(p), "spike") for p in np.sort(tallest)] + ([(step.size - 1, "diverged")] if ended else [])
    return (
        [
            {
                "run": curve.run,
                "kind": kind,
                "x": float(at[p]),
                "y": float(np.clip(curve.values[p - shift], *limits)),
                "x_text": human(float(at[p]), 4),
                "logged": float(logged[p]),
            }
            for p, kind in rows
            if p >= shift
        ],
        int(steps.size),
        ended,
    )


def events_frame(marks: list[dict]) -> pd.DataFrame:
    """Rows of `event_rows` as a frame: of many spikes the tallest, and every divergence."""
    if not marks:
        return no_events()
    frame = pd.DataFrame(marks)
    if len(frame) > _MOST_SPIKES:
        ended = frame[frame["kind"] == "diverged"]
        frame = pd.concat([ended, frame[frame["kind"] == "spike"].nlargest(_MOST_SPIKES, "logged")])
    return frame.reset_index(drop=True)


def group_bands(curves: list[Curve], log_x: bool) -> pd.DataFrame:
    """Mean and envelope over the runs of each group, on positions where the group has logged."""
    rows = []
    for label in dict.fromkeys(c.group for c in curves):
        members = [c for c in curves if c.group == label]
        start, stop = min(float(c.at[0]) for c in members), max(float(c.at[-1]) for c in members)
        grid = (np.geomspace if log_x else np.linspace)(start, stop, _GRID) if stop > start else np.array([start])
        # Positions in the grid in place of x: a gap is then a gap on any axis, and a thousand long curves are short.
        band = envelope([_on_grid(c, grid) for c in members], np.arange(grid.size, dtype=float), gap=1.5)
        band["x"] = grid[band["x"].to_numpy(int)]
        rows.append(
            {"group": label, "members": len(members), **{k: band[k].to_numpy(float) for k in _BAND}}
        )  # fmt: skip
    return pd.DataFrame(rows) if rows else no_bands()


def _on_grid(curve: Curve, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places in `grid` at which a curve says something, and its values there.

    Nothing beyond its ends, nor between two points that lie more than four times as far apart as is usual there.
    """
    at = curve.at
    if at.size < 2:
        near = np.abs(grid - at[0]).argmin()
        return np.array([float(near)]), curve.values[:1]
    place = np.clip(np.searchsorted(at, grid, side="right") - 1, 0, at.size - 2)
    spacing = np.diff(at)
    usual = np.median(spacing[np.clip(place[:, None] + np.arange(-2, 3), 0, spacing.size - 1)], axis=1)
    hole = (spacing[place] > 4 * usual) & (grid > at[place]) & (grid < at[place + 1])
    good = np.flatnonzero((grid >= at[0]) & (grid <= at[-1]) & ~hole)
    return good.astype(float), np.interp(grid[good], at, curve.values)


def no_rows() -> pd.DataFrame:
    """A frame of curves without any."""
    return pd.DataFrame({name: [] for name in ("run", "group", "x", "y")})


def no_events() -> pd.DataFrame:
    """A frame of spikes and divergences without any."""
    return pd.DataFrame({name: [] for name in ("run", "kind", "x", "y", "x_text", "logged")})


def no_bands() -> pd.DataFrame:
    """A frame of bands without any."""
    return pd.DataFrame({name: [] for name in ("group", "members", *_BAND)})
