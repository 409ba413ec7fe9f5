"""Two recipes against scale: where they cross, how surely, and how far one is shifted from the other."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from workbench.analysis.along import Curve
from workbench.analysis.crossover import Crossover
from workbench.analysis.multiplier import Multiplier
from workbench.figures.axes import scaled
from workbench.figures.data import embed
from workbench.figures.style import CATEGORIES, GREY, INK, WIDTH, spoken, title
from workbench.units import axis_title

__all__ = ["crossover", "multiplier"]

#: Colours far apart in lightness too; dashes and shapes double them.
_COLOURS, _DASHES, _SHAPES = [CATEGORIES[0], "#D55E00"], [[1, 0], [7, 4]], ["circle", "triangle-up"]
_PANEL = WIDTH - 190  # beside it stands the legend


def crossover(c: Crossover) -> alt.VConcatChart:
    """Both curves with their bands, the crossing with its interval shaded, and the probability beneath.

    Runs are drawn where the law has one input; along a compute-optimal frontier they lie above it by design
    and are left out.

    Args:
        c: what `workbench.crossover` returned.
    """
    along, labels = c.a.along, [c.a.label, c.b.label]
    x_values = np.array(c.between)
    parts = []
    for key, label in zip("ab", labels, strict=True):
        part = c.frame[[along, key, f"{key}_low", f"{key}_high"]].set_axis(["x", "y", "low", "high"], axis=1)
        parts.append(part.assign(group=label))
    lines = pd.concat(parts, ignore_index=True)
    runs = pd.concat([_runs(made) for made in (c.a, c.b)], ignore_index=True)
    inside = runs[(runs["x"] >= x_values[0]) & (runs["x"] <= x_values[1])]
    colour, dash, shape = _channels(labels)
    known = c.a.fit is not None or c.b.fit is not None
    x = scaled(alt.X, "x", x_values, None if known else axis_title(along), pad=0.0)
    up = pd.concat([lines["y"], lines["low"], lines["high"], inside["y"]])
    y = scaled(alt.Y, "y", up, axis_title(c.a.target), log=bool((up.dropna() > 0).all()))
    low = alt.Y("low:Q", scale=y["scale"], axis=y["axis"])
    base = alt.Chart(embed(lines))
    layers = _crossing(c, x)
    if (lines["high"] > lines["low"]).any():
        layers.append(base.mark_area(opacity=0.18, clip=True).encode(x, low, alt.Y2("high:Q"), colour))
    layers.append(base.mark_line(strokeWidth=2.2, clip=True).encode(x, y, colour, dash))
    if len(inside):
        tips = [alt.Tooltip("run:N", title="Run"), alt.Tooltip("y:Q", title=axis_title(c.a.target), format=".4g")]
        points = alt.Chart(embed(inside), name="runs").mark_point(filled=True, size=48, opacity=0.9)
        layers.append(points.encode(x, y, colour, shape, tooltip=tips))
    else:  # a few marks on each curve, so that the legend has a shape beside the colour
        few = lines.groupby("group").nth(slice(len(c.frame) // 16, None, len(c.frame) // 8))
        layers.append(alt.Chart(embed(few)).mark_point(filled=True, size=70, opacity=1).encode(x, y, colour, shape))
    layers += _largest(c, x)
    upper = alt.layer(*layers).properties(width=_PANEL, height=270)
    # Each panel keeps its own legend beside it.
    own = dict.fromkeys(("color", "shape", "strokeDash"), "independent")
    panels = [upper, _probability(c, x_values)] if c.a.fit or c.b.fit else [upper]
    return alt.vconcat(*panels, spacing=10).resolve_scale(**own).properties(
        title=title(
            _heading(c),
            c.verdict,
            f"bands: {c.level:.0%} intervals of the curves, {c.n} resamples" if c.a.fit or c.b.fit else
            "given parameters: no uncertainty is known",
            _outside(len(runs) - len(inside)),
            "runs not drawn: they lie above their compute-optimal frontier" if c.a.frontier or c.b.frontier else "",
        )
    )  # fmt: skip


def multiplier(m: Multiplier) -> alt.LayerChart:
    """How many times the scale of A the other recipe needs, against the scale of A, with its band.

    Args:
        m: what `workbench.multiplier` returned.
    """
    data = m.frame.rename(columns={m.a.along: "x", "multiplier": "y"})[["x", "y", "low", "high"]]
    known = data.replace([np.inf, -np.inf], np.nan)
    x = scaled(alt.X, "x", data["x"], f"{axis_title(m.a.along)} of {m.a.label}")
    up = [*known["y"], *known["low"], *known["high"].clip(upper=20 * np.nanmax([*known["y"], 1.0])), 1.0]
    y = scaled(alt.Y, "y", up, f"Times that for {m.b.label}")
    # An interval without an upper end runs off the top of the figure.
    known["high"] = data["high"].where(np.isfinite(data["high"]), y["scale"].to_dict()["domain"][1])
    low = alt.Y("low:Q", scale=y["scale"], axis=y["axis"])
    base = alt.Chart(embed(known))
    one = alt.Chart(embed(pd.DataFrame({"y": [1.0]}))).mark_rule(strokeDash=[6, 4], color=GREY).encode(y)
    colour = alt.ColorValue(CATEGORIES[0])
    band = base.mark_area(opacity=0.18, clip=True).encode(x, low, alt.Y2("high:Q"), colour)
    line = base.mark_line(strokeWidth=2, point={"size": 60, "filled": True}, clip=True).encode(x, y, colour)
    lost = int((~np.isfinite(data["y"])).sum())
    return alt.layer(band, one, line).properties(
        width=WIDTH,
        height=320,
        title=title(
            f"{m.b.label} for what {m.a.label} reaches: times the {spoken(m.a.along)}",
            m.verdict,
            f"band: {m.level:.0%} interval" if m.a.fit or m.b.fit else "given parameters: no uncertainty is known",
            f"{lost} scales at which {m.b.label} never gets there are not drawn" if lost else "",
        ),
    )


def _channels(labels: list[str]) -> tuple[alt.Color, alt.StrokeDash, alt.Shape]:
    legend = alt.Legend(title=None, symbolOpacity=1, symbolStrokeWidth=0)
    return (
        alt.Color("group:N", scale=alt.Scale(domain=labels, range=_COLOURS), legend=legend),
        alt.StrokeDash("group:N", scale=alt.Scale(domain=labels, range=_DASHES), legend=None),
        alt.Shape("group:N", scale=alt.Scale(domain=labels, range=_SHAPES), legend=legend),
    )


def _runs(c: Curve) -> pd.DataFrame:
    if c.fit is None or c.frontier or len(c.columns) > 1:
        return pd.DataFrame({"run": [], "x": [], "y": [], "group": []})
    p = c.fit.points
    return pd.DataFrame({"run": p.frame["run"], "x": next(iter(p.x.values())), "y": p.y, "group": c.label})


def _crossing(c: Crossover, x: alt.X) -> list[alt.Chart]:
    """The interval as a shaded strip to the edge it leaves by, and the crossing as a rule."""
    layers = []
    low, high = np.clip([c.low, c.high], *c.between)
    if np.isfinite([low, high]).all() and high > low and np.isfinite(c.at):
        strip = alt.Chart(embed(pd.DataFrame({"x": [low], "x2": [high]})))
        layers.append(strip.mark_rect(color=GREY, opacity=0.16).encode(x, alt.X2("x2:Q")))
    if np.isfinite(c.at):
        rule = alt.Chart(embed(pd.DataFrame({"x": [c.at]}))).mark_rule(color=INK, strokeWidth=1.3)
        layers.append(rule.encode(x))
    return layers


def _largest(c: Crossover, x: alt.X) -> list[alt.Chart]:
    """Where the series that ends first ends: right of it one of the curves extrapolates."""
    ends = [made.span[1] for made in (c.a, c.b) if np.isfinite(made.span[1])]
    if not ends or not c.between[0] < min(ends) < c.between[1]:
        return []
    base = alt.Chart(embed(pd.DataFrame({"x": [min(ends)], "label": ["extrapolated →"]})))
    words = base.mark_text(align="left", baseline="top", dx=5, color=GREY).encode(
        x, alt.Text("label:N"), y=alt.value(2)
    )
    return [base.mark_rule(strokeDash=[3, 3], color=GREY).encode(x), words]


def _probability(c: Crossover, x_values: np.ndarray) -> alt.LayerChart:
    # Not "at" or "in": what a single run does and what is true on average are two curves.
    names = ["in expectation", "one run of each"]
    part = [
        c.frame[[c.a.along, column]].set_axis(["x", "y"], axis=1).assign(kind=name)
        for column, name in zip(("probability", "probability_run"), names, strict=True)
    ]
    x = scaled(alt.X, "x", x_values, axis_title(c.a.along), pad=0.0)
    axis = alt.Axis(values=[0, 0.5, 1], format=".0%", title=["Probability that", f"{c.a.label[:24]} is better"])
    y = alt.Y("y:Q", scale=alt.Scale(domain=[0, 1], nice=False), axis=axis)
    dash = alt.StrokeDash("kind:N", scale=alt.Scale(domain=names, range=[[1, 0], [2, 3]]),
                          legend=alt.Legend(title=None))  # fmt: skip
    lines = alt.Chart(embed(pd.concat(part, ignore_index=True)), name="probability").mark_line(strokeWidth=2)
    layers = [*_crossing(c, x), lines.encode(x, y, dash, color=alt.value(INK))]
    return alt.layer(*layers).properties(width=_PANEL, height=110)


def _heading(c: Crossover) -> str:
    if not c.crossings:
        return f"{c.a.label} and {c.b.label} do not cross here"
    later = c.b.label if c.first == c.a.label else c.a.label
    return f"Where {later} overtakes {c.first}"


def _outside(count: int) -> str:
    return f"{count} run{'s' if count != 1 else ''} outside the range not drawn" if count else ""
