"""The one figure everybody draws: runs, the fitted curve through them, and how far to trust it."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd

from workbench.figures.axes import scaled
from workbench.figures.curve_rows import CurveRows, curve_rows
from workbench.figures.data import MOST_ROWS, embed
from workbench.figures.groups import Groups
from workbench.figures.style import ACCENT, GREY, HEIGHT, INK, WIDTH, spoken, title
from workbench.figures.tooltip import run_tips
from workbench.fits.held import HeldOut
from workbench.fits.result import RESAMPLES, Fit
from workbench.runs.table import RunTable
from workbench.units import axis_title, human

__all__ = ["curve", "held_out"]


def curve(
    fit: Fit,
    *,
    x: str | None = None,
    color: str | None = None,
    level: float = 0.95,
    excluded: bool = True,
    extend: float | None = None,
    extra: RunTable | pd.DataFrame | None = None,
    band: bool = True,
    marked: Sequence[str] | None = None,
    n: int = RESAMPLES,
    note: str = "",
) -> alt.LayerChart:
    """Runs and fitted curve, against scale.

    A law of one input is one curve; a law of two is one curve for each value of the other input (for
    each of six ranges where there are more than twelve values, drawn at the mean of its runs).

    Layers are named ``line``, ``band``, ``floor``, ``runs``, ``left_out``, ``held_out`` and ``marked``, those
    there are; `figures.curve_rows` gives their rows.

    Args:
        fit: the fit.
        x: column on the x axis, default tokens or the law's first input; see `figures.lines`.
        color: column to colour and shape the runs by; default the input held constant along each curve.
        level: nominal coverage of the band around the expected curve.
        excluded: draw runs that were left out, hollow, where they have both coordinates.
        extend: draw the curves up to this x, in its unit.
        extra: runs the fit has not seen (held out, or fresh): inputs, fitted column and `run` if known;
            drawn as large diamonds with the prediction interval of a single run.
        band: draw the band; its bootstrap takes most of the time.
        marked: ids of runs to ring; an empty list keeps the layer ready.
        n: bootstrap resamples.
        note: a sentence to begin the subtitle with.

    Raises:
        ValueError: `x`, `color`, `level` or `extend` cannot be drawn, or `extra` lacks a column.
    """
    if extend is not None and not (isinstance(extend, int | float) and np.isfinite(extend) and extend > 0):
        raise ValueError(f"extend is {extend!r}; give the value of the x axis up to which to draw, a positive number")
    rows = curve_rows(
        fit, x=x, color=color, level=level if band else None, extend=extend, extra=extra, marked=marked, n=n
    )
    data = rows.layers()
    if not excluded:
        data.pop("left_out", None)
    axes = _axes(fit, rows, excluded)
    if rows.layout.by is None:
        colour = alt.ColorValue(INK)
    else:
        colour = rows.groups.colour(rows.heading) if rows.along is rows.groups else alt.ColorValue(GREY)
    tips = run_tips(fit, rows.layout)
    layers = _line_layers(data, colour, axes)
    if "floor" in data:
        layers += _floor_layers(data["floor"], axes)
    layers.append(_run_layer(data["runs"], rows.groups, rows.heading, axes, tips))
    if "left_out" in data:
        layers.append(_hollow_layer(data["left_out"], axes, tips))
    if "held_out" in data:
        layers += _fresh_layers(data["held_out"], axes, tips)
    if "marked" in data:
        layers.append(_ring_layer(data["marked"], axes))
    heads = _title(fit, rows, excluded, level, note)
    return alt.layer(*layers).properties(width=WIDTH, height=HEIGHT, title=heads)


def held_out(held: HeldOut, **arguments) -> alt.LayerChart:
    """`curve` of a fit with the runs held out from it, and how far it misses them.

    Args:
        held: from `Fit.hold_out`.
        **arguments: of `curve`.
    """
    return curve(held.fit, extra=held.runs, note=held.verdict, **arguments)


def _axes(fit: Fit, rows: CurveRows, excluded: bool) -> tuple[alt.X, alt.Y]:
    drawn_left = rows.left if excluded else rows.left.iloc[:0]
    across = pd.concat([f["x"] for f in (rows.runs, drawn_left, rows.fresh, rows.line) if len(f)])
    up = [
        f[c] for f in (rows.runs, drawn_left, rows.fresh, rows.line) for c in ("y", "low", "high") if c in f and len(f)
    ]
    if rows.floor is not None:
        up.append(pd.Series([rows.floor]))
    return (
        scaled(alt.X, "x", across, rows.layout.title),
        scaled(alt.Y, "y", pd.concat(up), axis_title(fit.points.target), log=bool((rows.runs["y"] > 0).all())),
    )


def _line_layers(data: dict[str, pd.DataFrame], colour: alt.Color | alt.ColorValue, axes: tuple) -> list[alt.Chart]:
    x, y = axes
    low = alt.Y("low:Q", scale=y["scale"], axis=y["axis"])
    layers = []
    if "band" in data:
        layers.append(
            alt.Chart(embed(data["band"]), name="band")
            .mark_area(opacity=0.18)
            .encode(x, low, alt.Y2("high:Q"), colour, alt.Detail("group:N"))
        )
    lines = alt.Chart(embed(data["line"]), name="line").mark_line(strokeWidth=2)
    return [*layers, lines.encode(x, y, colour, alt.Detail("group:N"))]


def _floor_layers(floor: pd.DataFrame, axes: tuple) -> list[alt.Chart]:
    base = alt.Chart(embed(floor))
    # On the left, where runs are small and their losses far above the floor.
    words = base.mark_text(align="left", baseline="bottom", dy=-4, dx=6, color=GREY)
    rule = base.mark_rule(strokeDash=[6, 4], color=GREY, strokeWidth=1.3).properties(name="floor")
    return [
        rule.encode(axes[1]),
        words.encode(axes[1], alt.Text("label:N"), x=alt.value(0)),
    ]


def _run_layer(runs: pd.DataFrame, groups: Groups, heading: str | None, axes: tuple, tips: list) -> alt.Chart:
    points = alt.Chart(embed(runs), name="runs").mark_point(filled=True, size=46, opacity=0.85)
    return points.encode(*axes, groups.colour(heading), groups.shape(heading), tooltip=tips)


def _hollow_layer(left: pd.DataFrame, axes: tuple, tips: list) -> alt.Chart:
    points = alt.Chart(embed(left), name="left_out").mark_point(
        filled=False, shape="circle", size=52, strokeWidth=1.3, color=INK, opacity=0.8
    )
    return points.encode(*axes, tooltip=[*tips, alt.Tooltip("why:N", title="Left out")])


def _fresh_layers(fresh: pd.DataFrame, axes: tuple, tips: list) -> list[alt.Chart]:
    base = alt.Chart(embed(fresh))
    points = base.mark_point(
        filled=True, shape="diamond", size=150, color=ACCENT, opacity=1, stroke="white", strokeWidth=1
    )
    points = points.properties(name="held_out_points")
    if fresh["low"].isna().all():
        return [points.properties(name="held_out").encode(*axes, tooltip=tips)]
    x, y = axes
    whisker = base.mark_rule(color=ACCENT, strokeWidth=1.5).properties(name="held_out")
    interval = [
        alt.Tooltip("low:Q", title="Interval of one run, from", format=".4g"),
        alt.Tooltip("high:Q", title="to", format=".4g"),
    ]
    return [
        whisker.encode(x, alt.Y("low:Q", scale=y["scale"], axis=y["axis"]), alt.Y2("high:Q")),
        points.encode(*axes, tooltip=[*tips, *interval]),
    ]


def _ring_layer(marked: pd.DataFrame, axes: tuple) -> alt.Chart:
    rings = alt.Chart(embed(marked), name="marked").mark_point(
        filled=False, shape="circle", size=190, strokeWidth=1.8, color=INK, opacity=1
    )
    return rings.encode(*axes)


def _title(fit: Fit, rows: CurveRows, excluded: bool, level: float, note: str) -> alt.Title:
    layout, runs, left, fresh = rows.layout, rows.runs, rows.left, rows.fresh
    parts = [note, f"{fit.n_runs} run{'s' if fit.n_runs != 1 else ''}"]
    out = len(set(fit.points.left_out) - set(fresh["run"]))
    if out:
        hollow = "hollow" if len(left) == out else f"{len(left)} hollow, {out - len(left)} without coordinates"
        parts.append(f"{out} left out ({hollow if excluded else 'not drawn'})")
    if len(fresh):
        parts.append(f"{len(fresh)} not seen by the fit (diamonds)")
    if max(len(runs), len(left), len(fresh)) > MOST_ROWS:
        parts.append(f"{MOST_ROWS} points drawn, lowest and highest kept")
    objective = fit.problem.objective
    parts.append(objective.name + (f", δ = {objective.delta:g}" if objective.shape == "huber" else ""))
    if rows.along.binned and layout.by is not None:
        parts.append("curves at the mean of each range")
    if layout.held:
        parts.append("curves at " + ", ".join(f"{c} = {human(v)}" for c, v in layout.held.items()))
    if rows.has_band:
        parts.append(f"band: {level:.0%} interval of the curve")
    elif fit.degrees < 1:
        parts.append("no band: no degrees of freedom")
    names = (spoken(c) for c in (fit.points.target, layout.x))
    return title(f"{fit.law.title}: {' against '.join(names)}", *parts)
