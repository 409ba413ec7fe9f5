"""How far a law may be trusted: the error of its forecasts against how far they reach."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from workbench.analysis.rolling import RollingOrigin
from workbench.figures.axes import scaled
from workbench.figures.data import embed, thin_rows
from workbench.figures.style import ACCENT, CATEGORIES, INK, WIDTH, shapes, spoken, title

__all__ = ["rolling"]

_KINDS = ("inside the interval", "outside")
_MOST = 400  # forecasts drawn of each law


def rolling(r: RollingOrigin) -> alt.VConcatChart:
    """Every forecast's error against how far it extrapolates; beneath, typical error and coverage by range.

    Args:
        r: what `workbench.rolling_origin` returned.
    """
    order = list(dict.fromkeys(r.frame["title"]))
    points = pd.concat([thin_rows(part, "error", _MOST) for _, part in r.frame.groupby("law", sort=False)])
    drawn = points[["run", "title", "extrapolation", "error", "n_fitted"]].copy()
    drawn["error"] *= 100
    drawn["kind"] = np.where(points["inside"], *_KINDS)
    lower = alt.hconcat(
        _by_range(r, order, "error", "Typical error (% of measured)"),
        _by_range(r, order, "coverage", f"Inside the {r.level:.0%} interval (%)", nominal=100 * r.level),
        spacing=30,
    )
    most = r.frame.groupby("law").size().max() > _MOST
    return (
        alt.vconcat(_points(drawn, order), lower, spacing=22)
        .resolve_scale(color="independent", shape="independent")
        .properties(
            title=title(
                "Forecasts of larger runs from smaller ones",
                r.verdict,
                f"{len(r.edges)} windows along {spoken(r.along)}, {r.frame['run'].nunique()} runs forecast",
                f"{_MOST} forecasts of each law drawn, extremes kept" if most else "",
                f"could not be judged: {', '.join(r.failed)}" if r.failed else "",
            )
        )
    )


def _points(drawn: pd.DataFrame, order: list[str]) -> alt.FacetChart:
    columns = min(len(order), 3)
    width = (WIDTH - 90 - 20 * (columns - 1)) // columns
    x = scaled(alt.X, "extrapolation", drawn["extrapolation"], "Scale over the largest fitted (×)", count=5)
    y = scaled(alt.Y, "error", [*drawn["error"], 0.0], "Error (% of measured)", log=False)
    legend = alt.Legend(title=None, orient="top", symbolOpacity=1)
    colour = alt.Color("kind:N", scale=alt.Scale(domain=list(_KINDS), range=["#667085", ACCENT]), legend=legend)
    shape = alt.Shape("kind:N", scale=alt.Scale(domain=list(_KINDS), range=["circle", "diamond"]), legend=legend)
    tips = [
        alt.Tooltip("run:N", title="Run"),
        alt.Tooltip("n_fitted:Q", title="Fitted on runs"),
        alt.Tooltip("extrapolation:Q", title="Times the largest fitted", format=".3g"),
        alt.Tooltip("error:Q", title="Error, %", format="+.2f"),
    ]
    marks = alt.Chart().mark_point(filled=True, size=30, opacity=0.6).encode(x, y, colour, shape, tooltip=tips)
    zero = alt.Chart().mark_rule(color=INK, strokeWidth=1).transform_aggregate(error="min(zero)").encode(y)
    return (
        alt.layer(zero, marks, data=embed(drawn.assign(zero=0.0)))
        .properties(width=width, height=210)
        .facet(alt.Facet("title:N", sort=order, title=None), columns=columns, spacing=20)
    )


def _by_range(
    r: RollingOrigin, order: list[str], column: str, name: str, nominal: float | None = None
) -> alt.LayerChart:
    ranges = sorted(set(r.summary["range"]), key=lambda w: float(w.split("×")[0].split(" ")[-1]) + ("over" in w))
    data = r.summary[["title", "range", "forecasts"]].assign(value=100 * r.summary[column], zero=0.0)
    x = alt.X("range:N", sort=ranges, axis=alt.Axis(title="Extrapolation", labelAngle=0, labelFontSize=11))
    up = [0.0, 100.0] if nominal else [0.0, *data["value"]]
    y = scaled(alt.Y, "value", up, name, log=False, count=4)
    legend = alt.Legend(title=None, orient="bottom", symbolOpacity=1) if len(order) > 1 else None
    colours = [CATEGORIES[i % len(CATEGORIES)] for i in range(len(order))]
    colour = alt.Color("title:N", scale=alt.Scale(domain=order, range=colours), legend=legend)
    shape = alt.Shape("title:N", scale=alt.Scale(domain=order, range=shapes(len(order))), legend=legend)
    base = alt.Chart(embed(data))
    tips = [
        alt.Tooltip("title:N", title="Law"),
        alt.Tooltip("value:Q", title=name, format=".3g"),
        alt.Tooltip("forecasts:Q", title="Forecasts"),
    ]
    layers = [
        base.mark_line(strokeWidth=2).encode(x, y, colour),
        base.mark_point(filled=True, size=75, opacity=1).encode(x, y, colour, shape, tooltip=tips),
    ]
    if nominal:
        rule = alt.Chart(embed(pd.DataFrame({"value": [nominal]}))).mark_rule(strokeDash=[6, 4], color=INK)
        layers.insert(0, rule.encode(y))
    return alt.layer(*layers).properties(width=(WIDTH - 170) // 2, height=150)
