"""The numbers of a figure of many curves: which are drawn, in what panes and colours, smoothed, thinned and clipped."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from workbench.figures import groups as grouping
from workbench.figures.groups import Groups
from workbench.figures.run_rows import (
    Curve,
    curve_row,
    event_rows,
    events_frame,
    faint_row,
    group_bands,
    no_bands,
    no_events,
    no_rows,
    thinned,
)  # fmt: skip
from workbench.figures.run_words import (
    count_runs,
    counted,
    events_told,
    half_life,
    made_from_steps,
    put_aside,
    spaced,
    spoken_axis,
)  # fmt: skip
from workbench.figures.style import CATEGORIES, spoken
from workbench.runs.logged import RunSeries
from workbench.runs.series import clip_outliers
from workbench.runs.table import RunTable
from workbench.units import axis_title, human

__all__ = ["Pane", "RunLines", "run_lines"]

#: Points of all curves together, the most and fewest of one, and the most curves.
_BUDGET, _MOST, _FEWEST, _CURVES = 12_000, 2_000, 80, 120
#: The logged curve is drawn faintly behind the smoothed one for so many curves.
_FAINT = 8
#: Values of each curve that decide where outliers begin.
_SAMPLE = 64


@dataclass
class Pane:
    """One plot: its heading and its rows. Arrays in a cell are flattened in the browser, a row a curve."""

    label: str
    curves: pd.DataFrame
    raw: pd.DataFrame
    events: pd.DataFrame
    bands: pd.DataFrame


@dataclass
class RunLines:
    """What `run_curves` draws.

    Attributes:
        y: metric.
        x: axis.
        log_x: whether the axis is logarithmic; it is not where no value is positive.
        log_y: the same of the metric; it is not where some value is not positive.
        panes: one for each value of the column of facets.
        heading: title of the legend, None for one colour.
        groups: colours.
        colours: run id -> colour of its curve.
        x_values: what the x axis spans.
        y_values: what the y axis spans.
        notes: parts of the subtitle: n, exclusions, smoothing, clipping.
    """

    y: str
    x: str
    log_x: bool
    log_y: bool
    panes: list[Pane]
    heading: str | None
    groups: Groups
    colours: dict[str, str]
    x_values: np.ndarray
    y_values: np.ndarray
    notes: list[str] = field(default_factory=list)


def run_lines(
    runs: RunTable,
    y: str,
    x: str,
    *,
    log_x: bool = True,
    log_y: bool = True,
    smooth: float = 0.0,
    color: str | None = None,
    group: str | None = None,
    facet: str | None = None,
    clip: bool = True,
    events: bool = True,
    left_out: Collection[str] = (),
    marked: Collection[str] = (),
    ordered: str = "",
    note: str = "",
    points: int = _BUDGET,
    series: RunSeries | None = None,
) -> RunLines:
    """The numbers of `run_curves`, whose arguments these are; and further

    Args:
        points: of all curves together.
        series: the curves of `runs`, where they have been read before.

    Raises:
        ValueError: no such column, or no run has such a curve; the sentence says what there is.
    """
    frame = runs.frame
    for name in (color, group, facet):
        if name is not None and name not in frame:
            raise ValueError(f"there is no column {name!r} to tell runs apart by; there are {', '.join(frame.columns)}")
    series = series or RunSeries(runs)
    with_curve = [run for run in frame["run"] if run in runs.curves]
    chosen = _chosen(with_curve, marked, bool(ordered)) if group is None else with_curve
    found = {run: pair for run in chosen if (pair := series.smoothed(run, y, x, smooth)) is not None}
    if len(found) < len(chosen) < len(with_curve):  # few have logged it: read all curves to find them
        with_curve = [run for run in with_curve if series.pair(run, y, x) is not None]
        chosen = _chosen(with_curve, marked, bool(ordered))
        found = {run: series.smoothed(run, y, x, smooth) for run in chosen}
    elif len(chosen) == len(with_curve):
        with_curve = list(found)
    if not found:
        raise ValueError(_why(runs, y, x))
    hue = group or color or _hue(frame)
    label_of, groups = _labels(frame, with_curve, hue)
    pane_of, panes = ({}, [""]) if facet is None else _facets(frame, with_curve, facet)
    positive = max((float(at.max()) for at, _ in found.values()), default=0.0) > 0
    log_x = log_x and positive
    curves, hidden = [], 0
    for run, (at, values) in found.items():
        if log_x and at[0] <= 0:
            kept = at > 0
            hidden += 1
            at, values = at[kept], values[kept]
        if at.size:
            curves.append(Curve(run, at, values, label_of.get(run, ""), pane_of.get(run, "")))
    if not curves:
        raise ValueError(f"every point lies at {spoken_axis(x)} 0, which is off a logarithmic axis; make it linear")
    log_y_possible = all(float(c.values.min()) > 0 for c in curves)
    lines = RunLines(
        y, x, log_x, log_y and log_y_possible, [], axis_title(hue) if hue not in (None, "run") else
        ("Run" if hue == "run" else None), groups, {}, np.empty(0), np.empty(0),
    )  # fmt: skip
    by_label = dict(zip(groups.labels, groups.colours, strict=True))
    lines.colours = {run: by_label[label] for run, label in label_of.items() if label in by_label}
    out, chosen_by_hand = set(left_out), set(marked)
    most = int(np.clip(points // len(curves), _FEWEST, _MOST))
    low, high, clipped = _limits(curves, log_x, lines.log_y) if clip else (-np.inf, np.inf, "")
    seen_x, seen_y = [], []
    spiky = spikes = broken = 0
    for pane in panes:
        here = [c for c in curves if c.pane == pane]
        if not here:
            continue
        if group is not None:
            bands = group_bands([c for c in here if c.run not in out], log_x)
            lines.panes.append(Pane(pane, no_rows(), no_rows(), no_events(), bands))
            seen_x += bands["x"].tolist()
            seen_y += [v for name in ("low", "high") for v in bands[name]]
            continue
        rows, raw, marks = [], [], []
        for curve in here:
            keep = thinned(curve.values, most, curve.at, log_x)
            rows.append(curve_row(curve, keep, out, chosen_by_hand, (low, high)))
            if smooth > 0 and len(curves) <= _FAINT:
                raw.append(faint_row(series, curve, y, x, log_x, most, (low, high)))
            if events:
                found_here, n, ended = event_rows(series, curve, y, x, (low, high))
                marks += found_here
                spiky, spikes, broken = spiky + (n > 0), spikes + n, broken + ended
        lines.panes.append(
            Pane(pane, pd.DataFrame(rows), pd.DataFrame(raw) if raw else no_rows(), events_frame(marks), no_bands())
        )
        seen_x += [row["x"] for row in rows]
        seen_y += [row["y"] for row in rows]
    lines.x_values = np.concatenate(seen_x) if seen_x else np.empty(0)
    values = np.concatenate(seen_y) if seen_y else np.empty(0)
    lines.y_values = np.clip(values[np.isfinite(values)], low, high)
    longest = max(c.at.size for c in curves)
    lines.notes = [
        note,
        counted(len(frame), len(with_curve), len(curves), group, ordered),
        half_life(smooth),
        f"thinned from up to {spaced(longest)} to {spaced(most)} points a run, minima and maxima kept"
        if group is None and longest > most else "",
        put_aside(out, chosen_by_hand, [c.run for c in curves], group),
        clipped,
        events_told(spikes, spiky, broken),
        f"{spoken_axis(x)} 0 is off the logarithmic axis" if hidden else "",
        f"{spoken(y)} is not above 0 everywhere: linear axis" if log_y and not log_y_possible else "",
        made_from_steps(runs, x, [c.run for c in curves]),
    ]  # fmt: skip
    return lines


def _why(runs: RunTable, y: str, x: str) -> str:
    held = sorted({c for run in list(runs.curves)[:20] for c in runs.curves[run].columns})
    told = f"the curves hold {', '.join(held)}" if held else "no run of this table logged a curve"
    return f"no run has a curve of {y!r} against {x!r}; {told}"


def _chosen(ids: list[str], marked: Collection[str], ordered: bool) -> list[str]:
    """At most `_CURVES` runs: the first of a sorted table, else an even choice; and those marked."""
    if len(ids) <= _CURVES:
        return ids
    if ordered:
        some = set(ids[:_CURVES])
    else:
        some = {ids[i] for i in np.linspace(0, len(ids) - 1, _CURVES).round().astype(int)}
    some |= set(list(marked)[:_CURVES])
    return [run for run in ids if run in some]


def _hue(frame: pd.DataFrame) -> str | None:
    """What tells the runs apart best: themselves while they are few, else their size."""
    if len(frame) <= len(CATEGORIES):
        return "run"
    return "params" if "params" in frame and frame["params"].nunique() > 1 else None


def _labels(frame: pd.DataFrame, runs: list[str], hue: str | None) -> tuple[dict[str, str], Groups]:
    if hue is None:
        one = Groups(np.full(len(runs), "runs"), ["runs"], [CATEGORIES[0]], {}, False)
        return dict.fromkeys(runs, "runs"), one
    values = frame.set_index("run")[hue].loc[runs] if hue != "run" else pd.Series(runs, index=runs)
    groups = grouping.group(values)
    return dict(zip(runs, groups.of, strict=True)), groups


def _facets(frame: pd.DataFrame, runs: list[str], facet: str) -> tuple[dict[str, str], list[str]]:
    of, groups = _labels(frame, runs, facet)
    head = axis_title(facet) if facet != "run" else "Run"
    return {run: f"{head}: {label}" for run, label in of.items()}, [f"{head}: {label}" for label in groups.labels]


def _limits(curves: Sequence[Curve], log_x: bool, log_y: bool) -> tuple[float, float, str]:
    """Where the y axis ends, and what is said about it. Each curve counts evenly along the axis as it is drawn."""
    samples = []
    for c in curves:
        places = (np.geomspace if log_x else np.linspace)(c.at[0], c.at[-1], _SAMPLE)
        samples.append(c.values[np.clip(np.searchsorted(c.at, places), 0, c.at.size - 1)])
    sample = np.concatenate(samples)
    low, high, _ = clip_outliers(sample, log=log_y)
    # A quarter more on both sides: the true ends lie a little beyond those of a sample.
    if log_y:
        low, high = low / (high / low) ** 0.25, high * (high / low) ** 0.25
    else:
        low, high = low - (high - low) / 4, high + (high - low) / 4
    tops, bottoms = [float(c.values.max()) for c in curves], [float(c.values.min()) for c in curves]
    above, below = sum(v > high for v in tops), sum(v < low for v in bottoms)
    parts = []
    if above:
        parts.append(f"{count_runs(above)} above {human(high)}, up to {human(max(tops))}")
    else:
        high = np.inf
    if below:
        parts.append(f"{count_runs(below)} below {human(low)}, down to {human(min(bottoms))}")
    else:
        low = -np.inf
    return low, high, f"axis clipped, off the picture: {' and '.join(parts)}" if parts else ""
