"""Seeds: a dot each, the mean with its interval, recipes sorted, and letters that say what is supported."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from workbench.analysis.replicates import Replicates
from workbench.figures.axes import scaled
from workbench.figures.data import embed
from workbench.figures.style import CATEGORIES, INK, WIDTH, spoken, title
from workbench.units import axis_title

__all__ = ["replicates"]

_SPREAD = 9  # pixels that seeds of one recipe are moved apart, up and down


def replicates(r: Replicates) -> alt.LayerChart:
    """A dot a seed, diamonds for means with their intervals, best recipe on top.

    Recipes that share a letter (right) cannot be told apart by these seeds.

    Args:
        r: what `workbench.replicates` returned.
    """
    order = list(r.frame["recipe"])
    seeds = r.runs.rename(columns={"recipe": "group", "value": "x"}).copy()
    # Evenly staggered in the order of the rows: seeds of equal value stay apart, and no chance is involved.
    within = seeds.groupby("group").cumcount()
    seeds["offset"] = np.where(within % 2 == 0, 1, -1) * (2 + (within % 6) // 2 * 3)
    means = r.frame.rename(columns={"recipe": "group", "mean": "x"})[["group", "x", "low", "high", "n", "letters"]]
    values = pd.concat([seeds["x"], means["low"], means["high"]])
    # Room on the right for the letters.
    values = [*values, values.max() + 0.07 * (values.max() - values.min())]
    x = scaled(alt.X, "x", values, axis_title(r.y), log=False)
    low = alt.X("low:Q", scale=x["scale"], axis=x["axis"])
    names = [f"{g} ({n} seed{'s' if n != 1 else ''})" for g, n in zip(order, r.frame["n"], strict=True)]
    named = dict(zip(order, names, strict=True))
    seeds["group"], means["group"] = seeds["group"].map(named), means["group"].map(named)
    y = alt.Y(
        "group:N",
        scale=alt.Scale(domain=names),
        axis=alt.Axis(title=None, ticks=False, domain=False, grid=True, labelLimit=260),
    )
    shift = alt.YOffset("offset:Q", scale=alt.Scale(domain=[-_SPREAD, _SPREAD], range=[34, 10]))
    tips = [alt.Tooltip("run:N", title="Run"), alt.Tooltip("x:Q", title=axis_title(r.y), format=".6g")]
    dots = alt.Chart(embed(seeds), name="seeds").mark_circle(size=42, opacity=0.75, color=CATEGORIES[4])
    base = alt.Chart(embed(means))
    letters = base.mark_text(align="right", dx=-8, fontSize=14, fontWeight=600, color=INK)
    diamonds = base.mark_point(filled=True, shape="diamond", size=120, opacity=1, color=CATEGORIES[0])
    layers = [
        dots.encode(x, y, shift, tooltip=tips),
        base.mark_rule(strokeWidth=2.5, color=CATEGORIES[0]).encode(low, alt.X2("high:Q"), y),
        diamonds.encode(x, y).properties(name="means"),
        letters.encode(y, alt.Text("letters:N"), x=alt.value("width")),
    ]
    out = len(r.left_out)
    return alt.layer(*layers).properties(
        width=WIDTH,
        height=150 + 44 * len(order),
        title=title(
            f"{spoken(r.y).capitalize()} of {len(order)} recipes by seed, best on top",
            r.verdict,
            f"diamonds: means with {r.level:.0%} intervals",
            "recipes that share a letter cannot be told apart",
            f"pairs corrected by {r.correction}",
            f"{out} run{'s' if out != 1 else ''} without a usable value left out" if out else "",
        ),
    )
