"""The one figure everybody draws: runs, the fitted curve through them, and how far to trust it."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from workbench.figures.axes import scaled
from workbench.figures.data import MOST_ROWS, embed
from workbench.figures.groups import Groups, group
from workbench.figures.lines import Lines, lines
from workbench.figures.plane import fitted, left_out, unseen
from workbench.figures.style import ACCENT, CATEGORIES, GREY, HEIGHT, INK, WIDTH, spoken, title
from workbench.figures.tooltip import run_tips, with_words
from workbench.fits.result import RESAMPLES, Fit
from workbench.runs.table import RunTable
from workbench.units import axis_title, human

__all__ = ["curve"]

_GRID = 48  # points along each fitted line: smooth at figure width, small in the notebook
_SAME = np.log(1.2)  # unseen runs this near a line's value of `by` belong to the line


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
    n: int = RESAMPLES,
) -> alt.LayerChart:
    """Runs and fitted curve, against scale.

    A law of one input is one curve; a law of two is one curve for each value of the other input (for
    each of six ranges where there are more than twelve values, drawn at the mean of its runs).

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
        n: bootstrap resamples.

    Raises:
        ValueError: `x`, `color`, `level` or `extend` cannot be drawn, or `extra` lacks a column.
    """
    if extend is not None and not (isinstance(extend, int | float) and np.isfinite(extend) and extend > 0):
        raise ValueError(f"extend is {extend!r}; give the value of the x axis up to which to draw, a positive number")
    layout = lines(fit, x)
    runs, left, fresh = fitted(fit, layout), left_out(fit, layout), unseen(fit, layout, extra, level, n)
    groups, heading = _grouping(fit, layout, runs, color)
    along = groups if color in (None, layout.by) or layout.by is None else group(runs["by"])
    line = _curves(fit, layout, along, runs, fresh, extend, level if band else None, n)
    runs["group"] = groups.of
    floor = _floor(fit, runs["y"].min())

    drawn_left = left if excluded else left.iloc[:0]
    across = pd.concat([f["x"] for f in (runs, drawn_left, fresh, line) if len(f)])
    up = [f[c] for f in (runs, drawn_left, fresh, line) for c in ("y", "low", "high") if c in f and len(f)]
    if floor is not None:
        up.append(pd.Series([floor]))
    axes = (
        scaled(alt.X, "x", across, layout.title),
        scaled(alt.Y, "y", pd.concat(up), axis_title(fit.points.target), log=bool((runs["y"] > 0).all())),
    )
    if layout.by is None:
        colour = alt.ColorValue(INK)
    else:
        colour = groups.colour(heading) if along is groups else alt.ColorValue(GREY)
    layers = _line_layers(line, colour, axes)
    if floor is not None:
        layers += _floor_layers(fit, floor, axes)
    layers.append(_run_layer(with_words(runs, layout), groups, heading, axes, run_tips(fit, layout)))
    if len(drawn_left):
        layers.append(_hollow_layer(with_words(drawn_left, layout), axes, run_tips(fit, layout)))
    if len(fresh):
        layers += _fresh_layers(with_words(fresh, layout), axes, run_tips(fit, layout))
    heads = _title(
        fit,
        layout,
        runs,
        left,
        fresh,
        excluded,
        along.binned and layout.by is not None,
        level if line["low"].notna().any() else None,
    )
    return alt.layer(*layers).properties(width=WIDTH, height=HEIGHT, title=heads)


def _grouping(fit: Fit, layout: Lines, runs: pd.DataFrame, color: str | None) -> tuple[Groups, str | None]:
    color = color or layout.by
    if color is None:
        return Groups(np.full(len(runs), "runs"), ["runs"], [CATEGORIES[0]], {"runs": 1.0}, False), None
    if color == layout.by:
        return group(runs["by"]), axis_title(color)
    if color not in fit.points.frame:
        raise ValueError(
            f"there is no column {color!r} to colour by; this table has {', '.join(fit.points.frame.columns)}"
        )
    return group(fit.points.frame[color]), axis_title(color)


def _curves(
    fit: Fit,
    layout: Lines,
    along: Groups,
    runs: pd.DataFrame,
    fresh: pd.DataFrame,
    extend: float | None,
    level: float | None,
    n: int,
) -> pd.DataFrame:
    """One fitted line for each label of `along`, over the x of its runs; band if `level` is given."""
    single = layout.by is None
    parts = []
    for label, value in ({"runs": None} if single else along.centres).items():
        mine = runs["x"] if single else runs["x"][along.of == label]
        near = fresh["x"] if single else fresh["x"][np.abs(np.log(fresh["by"] / value)) < _SAME]
        start, stop = mine.min(), max([mine.max(), *near, *([extend] if extend else [])])
        grid = np.geomspace(min(start, stop / 1.2), stop, _GRID)
        parts.append(pd.DataFrame({"group": label, "x": grid, **_safe(layout.inputs_at(grid, value), fit)}))
    line = pd.concat(parts, ignore_index=True)
    inputs = {s: line[f"input {s}"].to_numpy(float) for s in fit.points.columns}
    out = line[["group", "x"]].assign(y=fit.law.predict(fit.theta, inputs), low=np.nan, high=np.nan)
    if level is not None and fit.degrees >= 1:
        interval = fit.predict({c: inputs[s] for s, c in fit.points.columns.items()}, level=level, kind="curve", n=n)
        out["low"], out["high"] = interval["low"], interval["high"]
    return out


def _safe(inputs: dict[str, np.ndarray], fit: Fit) -> dict[str, np.ndarray]:
    """Inputs under names that cannot collide with x and group."""
    return {f"input {s}": inputs[c] for s, c in fit.points.columns.items()}


def _floor(fit: Fit, lowest: float) -> float | None:
    """The irreducible value, if the law has one, the data determine it and it is near enough to be drawn."""
    symbol = fit.law.floor
    if symbol is None or symbol in fit.diagnostics.unidentified or len(fit.law.symbols) == 1:
        return None
    return fit.params[symbol] if fit.params[symbol] > lowest / 3 > 0 else None


def _line_layers(line: pd.DataFrame, colour: alt.Color | alt.ColorValue, axes: tuple) -> list[alt.Chart]:
    x, y = axes
    low = alt.Y("low:Q", scale=y["scale"], axis=y["axis"])
    layers = []
    if line["low"].notna().any():
        layers.append(
            alt.Chart(embed(line))
            .mark_area(opacity=0.18)
            .encode(x, low, alt.Y2("high:Q"), colour, alt.Detail("group:N"))
        )
    plain = line[["group", "x", "y"]]
    layers.append(alt.Chart(embed(plain)).mark_line(strokeWidth=2).encode(x, y, colour, alt.Detail("group:N")))
    return layers


def _floor_layers(fit: Fit, floor: float, axes: tuple) -> list[alt.Chart]:
    label = f"{fit.law.floor} = {human(floor, 4)}"
    base = alt.Chart(embed(pd.DataFrame({"y": [floor], "label": [label]})))
    # On the left, where runs are small and their losses far above the floor.
    words = base.mark_text(align="left", baseline="bottom", dy=-4, dx=6, color=GREY)
    return [
        base.mark_rule(strokeDash=[6, 4], color=GREY, strokeWidth=1.3).encode(axes[1]),
        words.encode(axes[1], alt.Text("label:N"), x=alt.value(0)),
    ]


def _run_layer(runs: pd.DataFrame, groups: Groups, heading: str | None, axes: tuple, tips: list) -> alt.Chart:
    points = alt.Chart(embed(runs), name="runs").mark_point(filled=True, size=46, opacity=0.85)
    return points.encode(*axes, groups.colour(heading), groups.shape(heading), tooltip=tips)


def _hollow_layer(left: pd.DataFrame, axes: tuple, tips: list) -> alt.Chart:
    points = alt.Chart(embed(left)).mark_point(
        filled=False, shape="circle", size=52, strokeWidth=1.3, color=INK, opacity=0.8
    )
    return points.encode(*axes, tooltip=[*tips, alt.Tooltip("why:N", title="Left out")])


def _fresh_layers(fresh: pd.DataFrame, axes: tuple, tips: list) -> list[alt.Chart]:
    base = alt.Chart(embed(fresh))
    points = base.mark_point(
        filled=True, shape="diamond", size=150, color=ACCENT, opacity=1, stroke="white", strokeWidth=1
    )
    if fresh["low"].isna().all():
        return [points.encode(*axes, tooltip=tips)]
    x, y = axes
    whisker = base.mark_rule(color=ACCENT, strokeWidth=1.5)
    interval = [
        alt.Tooltip("low:Q", title="Interval of one run, from", format=".4g"),
        alt.Tooltip("high:Q", title="to", format=".4g"),
    ]
    return [
        whisker.encode(x, alt.Y("low:Q", scale=y["scale"], axis=y["axis"]), alt.Y2("high:Q")),
        points.encode(*axes, tooltip=[*tips, *interval]),
    ]


def _title(
    fit: Fit,
    layout: Lines,
    runs: pd.DataFrame,
    left: pd.DataFrame,
    fresh: pd.DataFrame,
    excluded: bool,
    binned: bool,
    level: float | None,
) -> alt.Title:
    parts = [f"{fit.n_runs} run{'s' if fit.n_runs != 1 else ''}"]
    out = len(fit.points.left_out)
    if out:
        hollow = "hollow" if len(left) == out else f"{len(left)} hollow, {out - len(left)} without coordinates"
        parts.append(f"{out} left out ({hollow if excluded else 'not drawn'})")
    if len(fresh):
        parts.append(f"{len(fresh)} not seen by the fit (diamonds)")
    if max(len(runs), len(left), len(fresh)) > MOST_ROWS:
        parts.append(f"{MOST_ROWS} points drawn, lowest and highest kept")
    objective = fit.problem.objective
    parts.append(objective.name + (f", δ = {objective.delta:g}" if objective.shape == "huber" else ""))
    if binned:
        parts.append("curves at the mean of each range")
    if layout.held:
        parts.append("curves at " + ", ".join(f"{c} = {human(v)}" for c, v in layout.held.items()))
    if level is not None:
        parts.append(f"band: {level:.0%} interval of the curve")
    elif fit.degrees < 1:
        parts.append("no band: no degrees of freedom")
    names = (spoken(c) for c in (fit.points.target, layout.x))
    return title(f"{fit.law.title}: {' against '.join(names)}", *parts)
