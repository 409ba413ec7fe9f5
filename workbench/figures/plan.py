"""What to train at each budget: compute-optimal size and data, with intervals."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from workbench.analysis.frontier import Frontier
from workbench.figures.axes import scaled
from workbench.figures.data import embed
from workbench.figures.style import CATEGORIES, HEIGHT, INK, WIDTH, title
from workbench.fits.result import Fit
from workbench.units import axis_title, human

__all__ = ["plan"]

_NAMES = {"params": "Parameters N", "tokens": "Training tokens D"}


def plan(chosen: Frontier | Fit, flops: Any = None) -> alt.LayerChart:
    """Optimal parameters and tokens against compute.

    Args:
        chosen: a `Frontier`, or a `Fit` to plan with.
        flops: budgets in FLOP; needed with a fit.

    Raises:
        ValueError: a fit without budgets, or a law that has no trade-off to plan with.
    """
    if isinstance(chosen, Fit):
        if flops is None:
            raise ValueError("give the budgets to plan for: plan(fit, flops=[1e20, 1e21, 1e22])")
        chosen = chosen.plan(flops)
    frame = chosen.frame.sort_values("flops")
    parts = []
    for column, name in _NAMES.items():
        part = frame[["flops", column, f"{column}_low", f"{column}_high", "extrapolation"]].copy()
        part.columns = ["x", "y", "low", "high", "extrapolation"]
        part["text"] = [
            f"{human(y)} ({human(a)} – {human(b)})"
            for y, a, b in zip(part["y"], part["low"], part["high"], strict=True)
        ]
        part["ratio"] = [human(v) for v in frame["tokens_per_param"]]
        parts.append(part.assign(group=name))
    data = pd.concat(parts, ignore_index=True)
    legend = alt.Legend(title=None, symbolOpacity=1)
    colour = alt.Color(
        "group:N", scale=alt.Scale(domain=list(_NAMES.values()), range=list(CATEGORIES[:2])), legend=legend
    )
    shape = alt.Shape(
        "group:N", scale=alt.Scale(domain=list(_NAMES.values()), range=["circle", "square"]), legend=legend
    )
    x = scaled(alt.X, "x", data["x"], axis_title("flops"))
    y = scaled(alt.Y, "y", data[["y", "low", "high"]], "Parameters, tokens")
    low = alt.Y("low:Q", scale=y["scale"], axis=y["axis"])
    base = alt.Chart(embed(data))
    tips = [
        alt.Tooltip("x:Q", title="Compute (FLOP)", format=".3g"),
        alt.Tooltip("group:N", title="Choose"),
        alt.Tooltip("text:N", title=f"Value ({chosen.level:.0%} interval)"),
        alt.Tooltip("ratio:N", title="Tokens per parameter"),
        alt.Tooltip("extrapolation:Q", title="Times the largest run", format=".3g"),
    ]
    layers = [
        base.mark_line(strokeWidth=2).encode(x, y, colour),
        base.mark_rule(strokeWidth=1.5).encode(x, low, alt.Y2("high:Q"), colour),
        base.mark_point(filled=True, size=70, opacity=1).encode(x, y, colour, shape, tooltip=tips),
    ]
    if len(frame) > 1:
        layers.insert(0, base.mark_area(opacity=0.18).encode(x, low, alt.Y2("high:Q"), colour))
    layers += _edge(frame, x)
    ratios = sorted(frame["tokens_per_param"])
    return alt.layer(*layers).properties(
        width=WIDTH,
        height=HEIGHT,
        title=title(
            f"{chosen.law}: compute-optimal size and data",
            chosen.cost.label,
            f"{human(ratios[0], 2)} to {human(ratios[-1], 2)} tokens per parameter"
            if len(ratios) > 1
            else f"{human(ratios[0])} tokens per parameter",
            f"{chosen.level:.0%} intervals",
            f"up to {human(float(frame['extrapolation'].max()), 2)} times the largest run",
            *dict.fromkeys(note for note in frame["note"] if note),
        ),
    )


def _edge(frame: pd.DataFrame, x: alt.X) -> list[alt.Chart]:
    """A rule where the fitted runs end, if that compute is on the axis: right of it the plan extrapolates."""
    largest = float(frame["flops"].iloc[0] / frame["extrapolation"].iloc[0])
    low, high = x["scale"].to_dict()["domain"]
    if not low < largest < high:
        return []
    base = alt.Chart(embed(pd.DataFrame({"x": [largest], "label": ["largest run"]})))
    words = base.mark_text(align="left", baseline="top", dx=5, color=INK).encode(x, alt.Text("label:N"), y=alt.value(2))
    return [base.mark_rule(strokeDash=[3, 3], color=INK).encode(x), words]
