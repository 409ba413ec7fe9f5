"""Parallel coordinates: one upright axis a column, one line a run, and ranges of several columns at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from workbench.figures.axes import linear_ticks, log_ticks
from workbench.figures.data import embed
from workbench.figures.groups import Groups, group
from workbench.figures.style import GREY, HEIGHT, INK, WIDTH, empty, title
from workbench.runs.columns import nearest
from workbench.runs.table import RunTable
from workbench.units import QUANTITIES, axis_title, human

__all__ = ["Axis", "axes_of", "colours_of", "columns_of", "inside", "parallel"]

#: Lines drawn in a picture; the view on the screen draws all.
MOST_LINES = 1000
#: Axes chosen where nobody says which, and words that an axis can tell apart.
_USUAL, _MOST_WORDS = 6, 24
#: Positive numbers spread over more than this factor are drawn on a logarithmic axis; settings over more than 3.
_WIDE = 20.0
_UNUSUAL = ("seed", "seconds", "params_non_embedding", "steps")


@dataclass(frozen=True)
class Axis:
    """One axis. Words stand at 0, 1, 2, ... in alphabetical order, and ranges of them are stated in these numbers.

    Attributes:
        column: name of the column.
        title: with symbol and unit.
        log: whether it is logarithmic.
        low, high: its ends, the lowest and highest finite value.
        ticks: ``(position in [0, 1], label)``.
        position: ``[runs]`` where each run stands, 0 at the lower end; NaN if it has no such value.
        value: ``[runs]`` the numbers behind them.
        words: of a column of words, in order.
    """

    column: str
    title: str
    log: bool
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    position: np.ndarray
    value: np.ndarray
    words: tuple[str, ...] = ()

    def at(self, value: Any) -> Any:
        """Where on the axis `value` is, 0 at the lower end and 1 at the upper."""
        low, high = (np.log(self.low), np.log(self.high)) if self.log else (self.low, self.high)
        with np.errstate(all="ignore"):
            place = np.log(value) if self.log else np.asarray(value, dtype=float)
        return (place - low) / (high - low) if high > low else np.where(np.isfinite(place), 0.5, np.nan)


def columns_of(runs: RunTable) -> list[str]:
    """The columns that tell these runs apart best: settings first, the loss last, six at most."""
    frame = runs.frame
    varied = [c for c in frame.columns if c not in ("run", "problem", "cluster") and _varies(frame[c])]
    usual = [c for c in varied if c in QUANTITIES and c not in _UNUSUAL]
    others = [c for c in varied if c not in QUANTITIES]
    settings = [c for c in usual if c != "loss"][: _USUAL - 1]
    settings += others[: max(_USUAL - 1 - len(settings), 0)]
    return [*settings, "loss"] if "loss" in usual else settings


def _varies(column: pd.Series) -> bool:
    if pd.api.types.is_bool_dtype(column) or pd.api.types.is_numeric_dtype(column):
        values = column.to_numpy(float, na_value=np.nan)
        return np.unique(values[np.isfinite(values)]).size > 1
    return 1 < column.nunique() <= _MOST_WORDS


def axes_of(runs: RunTable, columns: Sequence[str] | None = None, log: Iterable[str] | None = None) -> list[Axis]:
    """The axes of `columns`.

    Args:
        runs: the runs.
        columns: default `columns_of`.
        log: columns on logarithmic axes; default positive settings that span more than a factor of 3, and other
            columns more than 20.

    Raises:
        ValueError: a column is not there, is named twice, holds no value, has too many different words, or is to be
            logarithmic without being positive.
    """
    columns = columns_of(runs) if columns is None else list(columns)
    logs = None if log is None else set(log)
    for column in columns:
        if column not in runs.frame:
            raise ValueError(f"there is no column {column!r}; {nearest(str(column), runs.frame.columns)}.")
    if len(set(columns)) < len(columns):
        raise ValueError(f"the columns {', '.join(columns)} name one of them twice; name each once.")
    return [_axis(runs, column, logs) for column in columns]


def _axis(runs: RunTable, column: str, logs: set[str] | None) -> Axis:
    values, words = _numbers(runs.frame[column], column)
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise ValueError(f"the column {column!r} holds no value; choose another.")
    low, high = float(finite.min()), float(finite.max())
    if logs is None:
        log = not words and low > 0 and high / low > (_WIDE if column == "loss" or column not in QUANTITIES else 3)
    else:
        log = column in logs
        if log and (words or low <= 0):
            raise ValueError(f"{column!r} is not positive throughout, so its axis cannot be logarithmic.")
    axis = Axis(column, axis_title(column), log, low, high, (), np.empty(0), values)
    at = range(len(words)) if words else log_ticks(low, high, 5) if log and high > low else linear_ticks(low, high, 5)
    names = words or _labels(list(at))
    ticks = tuple((float(axis.at(t)), name) for t, name in zip(at, names, strict=True))
    places = np.asarray(axis.at(values), dtype=float)
    return Axis(column, axis.title, log, low, high, ticks, places, values, tuple(words))


def _labels(ticks: list[float]) -> list[str]:
    for digits in (3, 5, 8, 15):
        names = [human(t, digits) for t in ticks]
        if len(set(names)) == len(names):
            break
    return names


def _numbers(column: pd.Series, name: str) -> tuple[np.ndarray, list[str]]:
    """The numbers of a column, or the places of its words and the words."""
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        values = column.to_numpy(float, na_value=np.nan)
        return np.where(np.isfinite(values), values, np.nan), []
    known = column.notna().to_numpy()
    words = sorted(set(column[known].astype(str)))
    if len(words) > _MOST_WORDS:
        raise ValueError(
            f"the column {name!r} has {len(words)} different words, more than an axis can show ({_MOST_WORDS}); "
            "choose one of numbers or with fewer words."
        )
    place = {word: float(i) for i, word in enumerate(words)}
    return np.array([place[str(c)] if k else np.nan for c, k in zip(column, known, strict=True)], dtype=float), words


def inside(axes: Sequence[Axis], brushes: Mapping[str, Sequence[float]]) -> np.ndarray:
    """Which runs lie in every range: bool ``[runs]``. A run without a value lies in no range of that column.

    Args:
        axes: the axes, at least one.
        brushes: column -> (lowest, highest), ends included.

    Raises:
        ValueError: a range is of a column without an axis, or its ends are not in order.
    """
    by = {axis.column: axis for axis in axes}
    kept = np.ones(axes[0].value.size if axes else 0, dtype=bool)
    for column, ends in brushes.items():
        if column not in by:
            raise ValueError(f"there is no axis {column!r} to brush; {nearest(str(column), by, 'axes')}.")
        try:
            low, high = (float(end) for end in ends)
        except (TypeError, ValueError):
            low, high = np.nan, np.nan
        if not low <= high:
            raise ValueError(f"the range of {column!r} is {ends!r}; give (lowest, highest).")
        with np.errstate(invalid="ignore"):
            kept &= (by[column].value >= low) & (by[column].value <= high)
    return kept


def colours_of(runs: RunTable, color: str | None) -> tuple[Groups, str | None]:
    """The groups that the lines are coloured by, and the legend's title.

    Raises:
        ValueError: there is no such column.
    """
    if color is None:
        return group(pd.Series(["runs"] * len(runs))), None
    if color not in runs.frame:
        raise ValueError(f"there is no column {color!r} to colour by; {nearest(color, runs.frame.columns)}.")
    return group(runs.frame[color]), axis_title(color)


def parallel(
    runs: RunTable,
    columns: Sequence[str] | None = None,
    brushes: Mapping[str, Sequence[float]] | None = None,
    color: str | None = "loss",
    *,
    log: Iterable[str] | None = None,
) -> alt.LayerChart | alt.Chart:
    """Parallel coordinates of runs (Inselberg 1985, The Visual Computer 1:69-91): a line a run across upright axes.

    Runs outside a brushed range are grey. A line is broken where a run has no value. Long tables are thinned: at most
    1,000 lines are drawn, evenly chosen, brushed ones first.

    Args:
        runs: the runs, those with a problem included.
        columns: the axes from left to right, numbers or up to 24 words; default the settings that vary, and the loss.
        brushes: column -> (lowest, highest); words count 0, 1, 2, ... in alphabetical order.
        color: column to colour by, None for one colour.
        log: columns on logarithmic axes; default positive settings that span more than a factor of 3, and other
            columns more than 20.

    Raises:
        ValueError: a column, a range or an axis cannot be drawn; the sentence says why.
    """
    brushes = dict(brushes or {})
    if columns is None:
        columns = columns_of(runs)
    if not len(runs) or not columns:
        why = "The table holds no run." if not len(runs) else "No column differs between these runs; choose columns."
        return empty("No parallel coordinates", why)
    axes = axes_of(runs, columns, log)
    groups, heading = colours_of(runs, None if color == "loss" and color not in runs else color)
    kept = inside(axes, brushes)
    drawn = _drawn(kept)
    lines = pd.DataFrame(
        {
            "run": runs.frame["run"].to_numpy()[drawn],
            "group": groups.of[drawn],
            "kept": kept[drawn],
            "place": drawn,
        }
    )
    x = alt.X("x:Q", axis=None, scale=alt.Scale(domain=[-0.35, len(axes) - 0.65], nice=False))
    y = alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[0, 1], nice=False))
    tips = [alt.Tooltip("run:N", title="Run")] + ([alt.Tooltip("group:N", title=heading)] if heading else [])
    places = np.stack([axis.position for axis in axes], axis=1)

    def heights(of: pd.Series) -> list[list[float | None]]:
        return [[None if np.isnan(at) else round(at, 4) for at in places[run].tolist()] for run in of]

    layers = []
    for rows, colour, opacity in (
        (lines[~lines["kept"]], alt.ColorValue("#c3c8d0"), 0.5),
        (lines[lines["kept"]], groups.colour(heading), float(np.clip(60 / max(kept.sum(), 1), 0.25, 0.8))),
    ):
        if len(rows):
            held = embed(rows[["run", "group"]]).assign(
                x=[list(range(len(axes)))] * len(rows), y=heights(rows["place"])
            )
            base = alt.Chart(held).transform_flatten(["x", "y"])
            mark = base.mark_line(strokeWidth=1.4, opacity=opacity)
            layers.append(mark.encode(x, y, colour, alt.Detail("run:N"), tooltip=tips))
    layers += _axis_layers(axes, x, y)
    if brushes:
        layers.append(_brush_layer(axes, brushes, x))
    parts = [
        f"{kept.sum()} of {len(runs)} runs in the ranges" if brushes else f"{len(runs)} runs",
        f"{drawn.size} lines drawn, evenly chosen" if drawn.size < len(runs) else "",
        _lacking(axes),
    ]
    return alt.layer(*layers).properties(
        width=WIDTH, height=HEIGHT, title=title("Parallel coordinates", *parts, *_said(axes, brushes))
    )


def _drawn(kept: np.ndarray) -> np.ndarray:
    """Positions of the lines to draw, ascending."""
    if kept.size <= MOST_LINES:
        return np.arange(kept.size)
    inner, outer = np.flatnonzero(kept), np.flatnonzero(~kept)
    inner = _even(inner, MOST_LINES)
    return np.sort(np.concatenate([inner, _even(outer, MOST_LINES - inner.size)]))


def _even(places: np.ndarray, most: int) -> np.ndarray:
    if places.size <= most:
        return places
    return places[np.linspace(0, places.size - 1, most).round().astype(int)] if most else places[:0]


def _axis_layers(axes: list[Axis], x: alt.X, y: alt.Y) -> list[alt.Chart]:
    place = np.arange(len(axes), dtype=float)
    ticks = [(float(i), at, name) for i, axis in enumerate(axes) for at, name in axis.ticks]
    words = pd.DataFrame(ticks, columns=["x", "y", "label"])
    bars = pd.DataFrame({"x": place, "y": 0.0, "top": 1.0})
    wide = max(int(0.92 * WIDTH / len(axes) / 6.6), 8)
    names = [_lines(axis.title, wide) for axis in axes]
    most = max(map(len, names))
    # Titles end at one height: text of several lines grows downwards.
    names = ["\n".join([" "] * (most - len(name)) + name) for name in names]
    heads = pd.DataFrame({"x": place, "y": 1.0, "label": names})
    upright = alt.Chart(embed(bars)).mark_rule(color=GREY, strokeWidth=1.4).encode(x, y, alt.Y2("top:Q"))
    dots = alt.Chart(embed(words)).mark_tick(color=GREY, size=7, thickness=1, orient="horizontal").encode(x, y)
    # A halo in the page's colour, so that numbers stay legible on the lines.
    halo = {"align": "left", "baseline": "middle", "dx": 7, "fontSize": 11, "clip": False}
    behind = alt.Chart(embed(words)).mark_text(
        **halo, stroke="white", strokeWidth=3.5, strokeJoin="round", color="white"
    )
    before = alt.Chart(embed(words)).mark_text(**halo, color=INK)
    text = alt.Text("label:N")
    top = alt.Chart(embed(heads)).mark_text(
        baseline="bottom",
        dy=4 - 14 * most,
        fontSize=12,
        fontWeight=500,
        lineBreak="\n",
        lineHeight=14,
        color=INK,
        limit=400,
    )
    return [upright, dots, behind.encode(x, y, text), before.encode(x, y, text), top.encode(x, y, text)]


def _lines(text: str, wide: int) -> list[str]:
    """`text` in lines of about `wide` characters, broken at blanks."""
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > wide:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return [line if len(line) <= wide + 4 else line[: wide + 3] + "…" for line in lines]


def _brush_layer(axes: list[Axis], brushes: dict[str, Sequence[float]], x: alt.X) -> alt.Chart:
    rows = []
    for i, axis in enumerate(axes):
        if axis.column in brushes:
            low, high = (float(np.clip(_end(axis, end, side), 0, 1)) for side, end in enumerate(brushes[axis.column]))
            rows.append((i - 0.06, i + 0.06, low, high))
    boxes = pd.DataFrame(rows, columns=["x", "right", "y", "top"])
    y = alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[0, 1], nice=False))
    mark = alt.Chart(embed(boxes)).mark_rect(fill=GREY, fillOpacity=0.25, stroke=INK, strokeWidth=1.2)
    return mark.encode(x, y, alt.X2("right:Q"), alt.Y2("top:Q"))


def _end(axis: Axis, end: float, side: int) -> float:
    place = float(axis.at(end)) if not axis.log or end > 0 else np.nan
    return place if np.isfinite(place) else float(side)


def _said(axes: list[Axis], brushes: dict[str, Sequence[float]]) -> list[str]:
    by = {axis.column: axis for axis in axes}
    said = []
    for column, (low, high) in brushes.items():
        ends = (human(float(low)), human(float(high)))
        said.append(f"{by[column].title} {ends[0]} – {ends[1]}")
    return said


def _lacking(axes: list[Axis]) -> str:
    broken = np.isnan(np.stack([axis.position for axis in axes])).any(axis=0).sum()
    return f"{broken} lines broken where a value is missing" if broken else ""
