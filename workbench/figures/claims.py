"""A phenomenon's claims: the range each accepts, and what the effect and the control arm gave."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import altair as alt
import pandas as pd

from workbench.figures.axes import scaled
from workbench.figures.data import embed
from workbench.figures.style import CATEGORIES, GREY, WIDTH, title

if TYPE_CHECKING:
    from workbench.phenomena.base import Claim, Report

__all__ = ["claims"]

_ARMS = {"effect": ("circle", CATEGORIES[0]), "control": ("square", CATEGORIES[1])}


def claims(report: Report) -> alt.VConcatChart:
    """One row a claim, each with an axis of its own: the accepted range shaded, both arms with their 95 % intervals.

    A dashed line is the number of the paper or of theory. What lies far outside is drawn at the edge, and says so.
    """
    rows = [_row(report, claim) for claim in report.phenomenon.claims]
    return alt.vconcat(*rows, spacing=10).properties(
        title=title(
            report.phenomenon.title,
            report.counts,
            "shaded: accepted · dashed: paper or theory · bars: 95 % intervals",
        )
    )


def _row(report: Report, claim: Claim) -> alt.LayerChart:
    points = []
    for arm, found in report.measured.items():
        estimate = found.get(claim.name)
        if estimate is not None and (arm == "effect" or claim.controlled) and math.isfinite(estimate.value):
            points.append({"arm": arm, "value": estimate.value, "low": estimate.low, "high": estimate.high})
    effect = [p for p in points if p["arm"] == "effect"] or points
    ends = [v for v in (claim.low, claim.high, claim.expected) if v is not None and math.isfinite(v)]
    ends += [p[k] for p in effect for k in ("value", "low", "high") if math.isfinite(p[k])]
    # a control far away would press everything else into one pixel
    span = (max(ends) - min(ends)) or abs(ends[0]) or 1.0
    low, high = min(ends) - 4 * span, max(ends) + 4 * span
    near = [p for p in points if low <= p["value"] <= high]
    seen = ends + [min(max(p[k], low), high) for p in near for k in ("value", "low", "high")]
    low, high = min(seen) - 0.12 * span, max(seen) + 0.12 * span
    edge = 0.02 * (high - low)
    for p in points:
        p["note"] = "" if p in near else f"{p['value']:.3g} (off the scale)".replace("-", "−")
        for key in ("value", "low", "high"):
            p[key] = min(max(p[key], low + edge * bool(p["note"])), high - edge * bool(p["note"]))
    frame = embed(pd.DataFrame(points, columns=["arm", "value", "low", "high", "note"]))
    x = scaled(alt.X, "value", [low, high], claim.name + (f" ({claim.unit})" if claim.unit else ""), log=False, pad=0)
    arms = list(_ARMS)
    y = alt.Y("arm:N", sort=arms, scale=alt.Scale(domain=arms), axis=alt.Axis(title=None, grid=False, ticks=False))
    colour = alt.Color("arm:N", scale=alt.Scale(domain=arms, range=[_ARMS[a][1] for a in arms]), legend=None)
    shape = alt.Shape("arm:N", scale=alt.Scale(domain=arms, range=[_ARMS[a][0] for a in arms]), legend=None)
    accepted = pd.DataFrame({"low": [max(claim.low, low)], "high": [min(claim.high, high)]})
    plain = alt.Chart(frame)
    layers = [
        alt.Chart(accepted)
        .mark_rect(opacity=0.18, color=CATEGORIES[2])
        .encode(x=alt.X("low:Q", scale=x["scale"]), x2="high:Q"),
        plain.mark_rule(strokeWidth=2.5).encode(alt.X("low:Q", scale=x["scale"]), alt.X2("high:Q"), y, colour),
        plain.mark_point(filled=True, size=80, opacity=1).encode(x, y, colour, shape),
        plain.mark_text(dx=8, align="left", baseline="middle", dy=-9).encode(x, y, text="note:N")
        if all(p["value"] < (low + high) / 2 for p in points if p["note"])
        else plain.mark_text(dx=-8, align="right", baseline="middle", dy=-9).encode(x, y, text="note:N"),
    ]
    if claim.expected is not None:
        rule = alt.Chart(pd.DataFrame({"value": [claim.expected]}))
        layers.insert(
            1, rule.mark_rule(strokeDash=[5, 4], color=GREY, strokeWidth=1.5).encode(alt.X("value:Q", scale=x["scale"]))
        )
    return alt.layer(*layers).properties(width=WIDTH - 110, height=54)
