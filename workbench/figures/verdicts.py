"""All claims of all phenomena in one picture, each on the scale of the range it accepts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from workbench.figures.data import embed
from workbench.figures.style import CATEGORIES, WIDTH, empty, title

__all__ = ["verdicts"]

#: How far outside its range a number is still drawn where it is; beyond, it lies on the edge.
_EDGE = 1.5


def verdicts(rows: Sequence[Mapping[str, Any]]) -> alt.TopLevelMixin:
    """One line a claim, one panel a theme.

    Args:
        rows: one a claim and arm: ``theme``, ``phenomenon``, ``claim``, ``arm`` (``effect`` or ``control``), and
            ``value``, ``low``, ``high`` on the scale on which the accepted range is 0 to 1, and this range again as
            ``from`` and ``to``, one of them infinite where only one side is claimed.
    """
    if not rows:
        return empty("No phenomenon has been run", "python data/phenomena/make.py runs them")
    frame = pd.DataFrame(rows)
    frame = frame[np.isfinite(frame["value"])]
    for key in ("value", "low", "high", "from", "to"):
        frame[key] = frame[key].clip(-_EDGE, 1 + _EDGE)
    frame["line"] = frame["phenomenon"] + ": " + frame["claim"]
    charts = [_theme(theme, part) for theme, part in frame.groupby("theme", sort=False)]
    count = frame[frame["arm"] == "effect"]["line"].nunique()
    return alt.vconcat(*charts, spacing=16).properties(
        title=title(
            "What the phenomena claim, and what was measured",
            f"{count} claims of {frame['phenomenon'].nunique()} phenomena",
            "shaded: accepted range, each on its own scale · on the edge: farther out",
            "bars: 95 % intervals",
        )
    )


def _theme(theme: str, part: pd.DataFrame) -> alt.LayerChart:
    lines = list(dict.fromkeys(part["line"]))
    x = alt.X(
        "value:Q",
        scale=alt.Scale(domain=[-_EDGE - 0.06, 1 + _EDGE + 0.06], nice=False),
        axis=alt.Axis(values=[0, 1], labelExpr="datum.value ? 'most' : 'least'", title="Accepted", grid=False),
    )
    y = alt.Y("line:N", sort=lines, axis=alt.Axis(title=None, labelLimit=460, labelFontSize=11, ticks=False))
    arms = ["effect", "control"]
    legend = alt.Legend(title=None, orient="top")
    colour = alt.Color("arm:N", sort=arms, scale=alt.Scale(domain=arms, range=list(CATEGORIES[:2])), legend=legend)
    shape = alt.Shape("arm:N", sort=arms, scale=alt.Scale(domain=arms, range=["circle", "square"]), legend=legend)
    chart = alt.Chart(embed(part[["line", "arm", "value", "low", "high"]]))
    band = alt.Chart(embed(part[part["arm"] == "effect"][["line", "from", "to"]]))
    return alt.layer(
        band.mark_bar(opacity=0.18, color=CATEGORIES[2], height=16).encode(
            alt.X("from:Q", scale=x["scale"], axis=x["axis"]), alt.X2("to:Q"), y
        ),
        chart.mark_rule(strokeWidth=2).encode(
            alt.X("low:Q", scale=x["scale"], axis=x["axis"]), alt.X2("high:Q"), y, colour
        ),
        chart.mark_point(filled=True, size=55, opacity=1).encode(x, y, colour, shape),
    ).properties(width=WIDTH - 330, height=18 * len(lines), title=alt.Title(theme, fontSize=13))
