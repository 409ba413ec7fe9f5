"""The fits behind a stretch of a specification curve: what each of them makes of the same runs."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd

from workbench.analysis.allocation import AT, allocation
from workbench.analysis.brushed import stretch
from workbench.analysis.verses import Multiverse
from workbench.figures.axes import scaled
from workbench.figures.data import embed, thin_rows
from workbench.figures.lines import lines
from workbench.figures.style import ACCENT, CATEGORIES, GREY, INK, empty, title
from workbench.units import axis_title, human

__all__ = ["analyses"]

#: Curves drawn at most, an even choice of the sorted analyses; scales each is drawn at.
MOST, _GRID = 60, 40
#: How far beyond the largest run the curves go.
REACH = 100.0
_WIDTH = 350  # of each of two panels


def analyses(m: Multiverse, between: tuple[float, float], marked: Sequence[str] = ()) -> alt.TopLevelMixin:
    """Curves of the analyses in a stretch of the sorted ones, the default analysis in orange.

    Of a law that trades size against data: the loss at its compute-optimal frontier, with the runs, and the
    tokens per parameter there. Of any other law: its curve along its first input that varies.

    Args:
        m: the multiverse; its analyses are single fits (`Multiverse.theta`).
        between: the stretch in percent, as in `workbench.analysis.brushed.stretch`.
        marked: ids of runs to ring.

    Raises:
        ValueError: a bad stretch, or a multiverse whose analyses are more than one fit.
    """
    if m.theta is None:
        raise ValueError("the analyses of this multiverse are pairs of fits; refit(row) gives both of one")
    rows = stretch(m, *between)
    heading = f"The fits between {between[0]:g} % and {between[1]:g} % of the analyses"
    if not rows:
        return empty(heading, "No analysis lies in this stretch; make it wider.")
    drawn = [rows[i] for i in np.unique(np.linspace(0, len(rows) - 1, min(MOST, len(rows))).round().astype(int))]
    own = bool(m.default["counted"])
    theta = m.theta[[*drawn, *([0] if own else [])]]
    kinds = [*["analysis"] * len(drawn), *(["default"] if own else [])]
    low, high = m.frame["estimate"].iloc[[rows[0], rows[-1]]]
    parts = (
        f"{len(rows)} analyses" + (f", {len(drawn)} drawn" if len(drawn) < len(rows) else ""),
        f"answers {human(low)}–{human(high)}",
        f"{len(m.fit.points)} runs" + (f", {len(set(marked))} marked (ringed)" if len(set(marked)) else ""),
        "orange: default analysis" if own else "",
    )
    columns = m.fit.points.columns
    roles = {"params" if c.startswith("params") else c for c in columns.values()}
    if len(columns) == 2 and len(roles) == 2 and all(c in AT for c in columns.values()):
        chart = _frontier(m, theta, kinds, marked)
    else:
        chart = _single(m, theta, kinds, marked)
    return chart.properties(title=title(heading, *parts))


def _frontier(m: Multiverse, theta: np.ndarray, kinds: list[str], marked: Sequence[str]) -> alt.HConcatChart:
    layout = lines(m.fit, "flops")
    runs = _runs(m, layout, marked)
    largest = float(runs["x"].max())
    budgets = np.geomspace(runs["x"].min(), REACH * largest, _GRID)
    found = [allocation(m.fit.law, m.fit.points.columns, theta, budget) for budget in budgets]
    ratio, _, loss = (np.stack(values, axis=1) for values in zip(*found, strict=True))
    x = scaled(alt.X, "x", budgets, axis_title("flops"), count=4, pad=0.02)
    target = axis_title(m.fit.points.target)
    losses = _lines(budgets, loss, kinds)
    y = scaled(alt.Y, "y", pd.concat([_middle(losses), runs["y"]]), target, log=_positive(losses, runs))
    left = alt.layer(*_curves(losses, x, y), *_points(runs, x, y, target), *_edge(largest, x))
    ratios = _lines(budgets, ratio, kinds)
    up = scaled(alt.Y, "y", _middle(ratios), axis_title("tokens_per_param"))
    right = alt.layer(*_curves(ratios, x, up), *_edge(largest, x))
    heads = ("Loss where the budget is spent best; runs lie above", "Tokens per parameter at that optimum")
    panels = [
        part.properties(width=_WIDTH, height=260, title=_small(head))
        for part, head in zip((left, right), heads, strict=True)
    ]
    return alt.hconcat(*panels, spacing=24)


def _single(m: Multiverse, theta: np.ndarray, kinds: list[str], marked: Sequence[str]) -> alt.LayerChart:
    layout = lines(m.fit)
    runs = _runs(m, layout, marked)
    level = None if layout.by is None else float(runs["by"].median())
    grid = np.geomspace(runs["x"].min(), REACH * runs["x"].max(), _GRID)
    given = layout.inputs_at(grid, level)
    with np.errstate(all="ignore"):
        values = m.fit.law.predict(theta, {s: given[c] for s, c in m.fit.points.columns.items()})
    data, target = _lines(grid, values, kinds), axis_title(m.fit.points.target)
    x = scaled(alt.X, "x", grid, layout.title, pad=0.02)
    y = scaled(alt.Y, "y", pd.concat([_middle(data), runs["y"]]), target, log=_positive(data, runs))
    chart = alt.layer(*_curves(data, x, y), *_points(runs, x, y, target), *_edge(float(runs["x"].max()), x))
    head = "" if level is None else f"Curves at {layout.by} = {human(level)}"
    return chart.properties(width=2 * _WIDTH, height=280, **({"title": _small(head)} if head else {}))


def _runs(m: Multiverse, layout, marked: Sequence[str]) -> pd.DataFrame:
    p = m.fit.points
    columns = {c: p.x[s] for s, c in p.columns.items()}
    by = columns[layout.by] if layout.by else np.full(len(p), np.nan)
    frame = pd.DataFrame({"run": p.frame["run"].astype(str), "x": layout.x_of(columns), "y": p.y, "by": by})
    frame["marked"] = frame["run"].isin(set(marked)).astype(int)
    return thin_rows(frame, "y")


def _lines(x: np.ndarray, values: np.ndarray, kinds: list[str]) -> pd.DataFrame:
    parts = [pd.DataFrame({"line": k, "x": x, "y": v, "kind": kinds[k]}) for k, v in enumerate(values)]
    data = pd.concat(parts, ignore_index=True)
    return data[np.isfinite(data["y"])]


def _middle(data: pd.DataFrame) -> pd.Series:
    """Values without the farthest hundredth, which one strange analysis would stretch the axis by."""
    if not len(data):
        return data["y"]
    low, high = data["y"].quantile([0.01, 0.99])
    return data["y"][data["y"].between(low, high)]


def _positive(data: pd.DataFrame, runs: pd.DataFrame) -> bool:
    return bool((_middle(data) > 0).all() and (runs["y"] > 0).all())


def _curves(data: pd.DataFrame, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    count = max(data["line"].nunique(), 1)
    thin, own = data[data["kind"] == "analysis"], data[data["kind"] == "default"]
    line = {"clip": True, "color": CATEGORIES[0], "opacity": float(np.clip(8 / count, 0.25, 0.9))}
    layers = [alt.Chart(embed(thin)).mark_line(strokeWidth=1.3, **line).encode(x, y, alt.Detail("line:N"))]
    if len(own):
        layers.append(alt.Chart(embed(own)).mark_line(clip=True, color=ACCENT, strokeWidth=2.6).encode(x, y))
    return layers


def _points(runs: pd.DataFrame, x: alt.X, y: alt.Y, target: str) -> list[alt.Chart]:
    tips = [alt.Tooltip("run:N", title="Run"), alt.Tooltip("y:Q", title=target, format=".4g")]
    dots = alt.Chart(embed(runs.drop(columns="by"))).mark_point(
        filled=True, size=18, color=GREY, opacity=0.7, clip=True
    )
    ringed = runs[runs["marked"] == 1].drop(columns="by")
    layers = [dots.encode(x, y, tooltip=tips)]
    if len(ringed):
        rings = alt.Chart(embed(ringed)).mark_point(filled=False, size=80, strokeWidth=2, color=INK, clip=True)
        layers.append(rings.encode(x, y, tooltip=tips))
    return layers


def _edge(largest: float, x: alt.X) -> list[alt.Chart]:
    base = alt.Chart(embed(pd.DataFrame({"x": [largest], "label": ["extrapolated →"]})))
    words = base.mark_text(align="left", baseline="top", dx=5, color=GREY, fontSize=11)
    return [
        base.mark_rule(strokeDash=[3, 3], color=GREY).encode(x),
        words.encode(x, alt.Text("label:N"), y=alt.value(2)),
    ]


def _small(text: str) -> alt.Title:
    return alt.Title(text, fontSize=12, fontWeight=600, anchor="start", color=GREY, offset=6)
