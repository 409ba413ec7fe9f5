"""Curves over training as one looks at them: any axes, smoothed, grouped, in panes, with spikes and divergences."""

from __future__ import annotations

from collections.abc import Collection

import altair as alt
import numpy as np
import pandas as pd

from workbench.figures.axes import scaled
from workbench.figures.data import embed as embed_frame
from workbench.figures.run_lines import Pane, RunLines, run_lines
from workbench.figures.run_words import along_title, spoken_axis
from workbench.figures.style import ACCENT, HEIGHT, INK, WIDTH, title
from workbench.runs.table import RunTable
from workbench.units import axis_title, quantity

__all__ = ["datasets", "draw_lines", "run_curves", "view_name"]

# Neither `clip` nor `opacity` here: with hundreds of lines each costs the PNG renderer a layer a line, ten seconds in
# all. Values off the axis are cut in `run_lines`, and strokes have an opacity of their own.
_COLUMNS = 3
#: Height of a pane, by how many stand side by side.
_PANE_HEIGHT = {1: HEIGHT, 2: 300, 3: 230}


def run_curves(
    runs: RunTable,
    y: str = "loss",
    x: str = "step",
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
) -> alt.TopLevelMixin:
    """Curves of runs, one line each, or the mean of each group of runs with the range around it.

    At most 120 curves are drawn, and each is thinned to what the figure can show after it has been smoothed as
    a whole; minima and maxima stay. What is not on the picture is told in the subtitle.

    Args:
        runs: the table.
        y: metric of the curves.
        x: ``step``, ``tokens``, ``flops``, ``seconds``, ``relative_time`` (seconds since the run's first
            point), ``progress`` (share of the run's own steps), or any other column of the curves. Tokens and
            FLOP that were not logged are taken as proportional to the step.
        log_x: logarithmic x axis, where there are positive values; points at 0 are then off the axis.
        log_y: logarithmic y axis, where all values are positive.
        smooth: half-life of an exponential average along the run's steps, in percent of those steps; 0 for none.
        color: column of the table to colour by; default the run while they are few, else params.
        group: column whose values are groups of runs; means are drawn in place of single curves.
        facet: column whose values get a pane each, all on the same axes.
        clip: end the y axis where outliers begin.
        events: mark spikes and divergences of the logged values; see `workbench.runs.series`.
        left_out: ids of runs taken out of fits: dashed, and in no mean.
        marked: ids of runs to be looked at: bold, the others faint.
        ordered: what the table is sorted by; of more than 120 runs the first are drawn then, not an even choice.
        note: what the caller did before, for the subtitle.

    Raises:
        ValueError: no run has a curve of `y` against `x`, or a column does not exist.
    """
    return draw_lines(
        run_lines(
            runs, y, x, log_x=log_x, log_y=log_y, smooth=smooth, color=color, group=group, facet=facet, clip=clip,
            events=events, left_out=left_out, marked=marked, ordered=ordered, note=note,
        )
    )  # fmt: skip


def datasets(lines: RunLines) -> dict[str, object]:
    """The rows of every view of the figure by the view's name: what to replace when only numbers change."""
    held = {}
    for i, pane in enumerate(lines.panes):
        for name in ("curves", "raw", "events", "bands"):
            frame = getattr(pane, name)
            if len(frame):
                held[view_name(name, i, len(lines.panes))] = frame
    return held


def draw_lines(lines: RunLines) -> alt.TopLevelMixin:
    """The figure of these numbers. Its views are called ``curves``, ``hit`` (see below), ``events``, ``bands``, ..."""
    n = len(lines.panes)
    across = 1 if n == 1 else 2 if n in (2, 4) else _COLUMNS
    width = WIDTH if n == 1 else (WIDTH - 150) // across - 14
    plots = [_plot(lines, pane, i, width, _PANE_HEIGHT[across], across) for i, pane in enumerate(lines.panes)]
    heading = title(f"{quantity(lines.y).meaning} against {spoken_axis(lines.x)}", *lines.notes)
    if n == 1:
        return plots[0].properties(title=heading)
    return alt.concat(*plots, columns=across, spacing=14).resolve_scale(color="shared").properties(title=heading)


def embed(frame: pd.DataFrame) -> pd.DataFrame:
    """As `data.embed`; what is not finite inside an array is None, at which a line breaks."""
    held = embed_frame(frame)
    for name, column in frame.items():
        if len(column) and isinstance(column.iloc[0], np.ndarray) and not all(np.isfinite(a).all() for a in column):
            held[name] = pd.Series([[v if v == v else None for v in a] for a in held[name]], dtype=object)
    return held


def view_name(name: str, place: int, panes: int) -> str:
    """What a view of one of several panes is called: Altair numbers views that stand side by side, from 0."""
    return name if panes == 1 else f"{name}_{place}"


def _plot(lines: RunLines, pane: Pane, place: int, width: int, height: int, across: int) -> alt.LayerChart:
    ticks = 6 if across == 1 else 4
    left, bottom = place % across == 0, place >= len(lines.panes) - across
    x = scaled(
        alt.X, "x", lines.x_values, along_title(lines.x) if bottom else None, log=lines.log_x, pad=0.01, count=ticks
    )
    y_values = lines.y_values
    y = scaled(alt.Y, "y", y_values, axis_title(lines.y) if left else None, log=lines.log_y, count=ticks)
    layers = _bands(lines, pane, place, x, y) if len(pane.bands) else _curves(lines, pane, place, x, y)
    # Also where there is none: Altair moves the rows of layers that all have the same up to their parent, which has
    # no name, and rows without a name cannot be replaced while a slider moves.
    layers.append(_events(lines, pane, place, x, y))
    plot = alt.layer(*layers).properties(width=width, height=height)
    return plot.properties(title=alt.Title(pane.label, fontSize=12, offset=6)) if pane.label else plot


def _curves(lines: RunLines, pane: Pane, place: int, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    tips = [alt.Tooltip("run:N", title="Run")]
    if lines.heading not in (None, "Run"):
        tips.append(alt.Tooltip("group:N", title=lines.heading))
    colour, panes = lines.groups.colour(lines.heading), len(lines.panes)
    flat = alt.Chart(embed(pane.curves), name=view_name("curves", place, len(lines.panes))).transform_flatten(
        ["x", "y"]
    )
    layers = [
        flat.mark_line().encode(
            x, y, colour, alt.Detail("run:N"),
            strokeWidth=alt.StrokeWidth("width:Q", scale=None, legend=None),
            strokeOpacity=alt.StrokeOpacity("opacity:Q", scale=None, legend=None),
            strokeDash=alt.condition("datum.out", alt.value([5, 4]), alt.value([1, 0])),
        )
    ]  # fmt: skip
    if len(pane.raw):
        faint = alt.Chart(embed(pane.raw), name=view_name("raw", place, panes)).transform_flatten(["x", "y"])
        layers.insert(0, faint.mark_line(strokeWidth=1, strokeOpacity=0.25).encode(x, y, colour, alt.Detail("run:N")))
    # A line is 1.5 pixels wide; this one, invisible, gives the pointer eleven.
    under = alt.Chart(embed(pane.curves), name=view_name("hit", place, panes)).transform_flatten(["x", "y"])
    pointed = under.mark_line(strokeWidth=11, strokeOpacity=0, cursor="pointer")
    layers.append(pointed.encode(x, y, alt.Detail("run:N"), tooltip=tips))
    return layers


def _events(lines: RunLines, pane: Pane, place: int, x: alt.X, y: alt.Y) -> alt.Chart:
    shape = alt.Shape(
        "kind:N", scale=alt.Scale(domain=["spike", "diverged"], range=["triangle-down", "cross"]), legend=None
    )
    return (
        alt.Chart(embed(pane.events), name=view_name("events", place, len(lines.panes)))
        .mark_point(size=46, filled=True, color=ACCENT, stroke=INK, strokeWidth=0.6, opacity=0.9)
        .encode(
            x, y, shape,
            tooltip=[
                alt.Tooltip("kind:N", title="Event"),
                alt.Tooltip("run:N", title="Run"),
                alt.Tooltip("x_text:N", title=along_title(lines.x)),
                alt.Tooltip("logged:Q", title=f"{quantity(lines.y).meaning}, as logged", format=".4g"),
            ],
        )
    )  # fmt: skip


def _bands(lines: RunLines, pane: Pane, place: int, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    tips = [
        alt.Tooltip("group:N", title=lines.heading or "Runs"),
        alt.Tooltip("members:Q", title="Runs in the group"),
    ]
    fields = ["x", "mean", "low", "high", "n"]
    flat = alt.Chart(embed(pane.bands), name=view_name("bands", place, len(lines.panes))).transform_flatten(fields)
    band = flat.mark_area(clip=True, opacity=0.18 if len(lines.groups.labels) < 5 else 0.09).encode(
        x, y.copy(), alt.Y2("high:Q"), lines.groups.colour(lines.heading), tooltip=tips
    )
    band.encoding.y.shorthand = "low:Q"
    mean = alt.Chart(embed(pane.bands), name=view_name("means", place, len(lines.panes))).transform_flatten(fields)
    line = mean.mark_line(clip=True, strokeWidth=2.2).encode(
        x, y.copy(), lines.groups.colour(lines.heading), alt.Detail("group:N"), tooltip=tips
    )
    line.encoding.y.shorthand = "mean:Q"
    return [band, line]
