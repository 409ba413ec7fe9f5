"""IsoFLOP curves beside the frontiers, and the law's own curve of equal compute at the budget of the rule."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from workbench.analysis.approaches import Approaches
from workbench.analysis.at_budget import at_budget
from workbench.figures.axes import scaled
from workbench.figures.data import embed, thin_rows
from workbench.figures.style import ACCENT, CATEGORIES, INK
from workbench.runs.table import RunTable
from workbench.units import axis_title, human

__all__ = ["iso_panel", "light", "ring"]


def iso_panel(
    found: Approaches,
    data: dict[str, pd.DataFrame],
    span: tuple[float, float],
    width: int,
    height: int,
    left_out: RunTable | None,
    marked: tuple[str, ...],
) -> alt.LayerChart:
    """Runs against size, coloured by compute; isoFLOP curves with minima; the law at the budget.

    Args:
        found: the approaches.
        data: the rows that depend on the budget.
        span: smallest and largest budget that may come, in FLOP: their optima stay on the axes.
        width, height: in pixels.
        left_out: runs drawn hollow.
        marked: ids of runs to ring.
    """
    runs, target = _runs(found)
    out = _hollow(left_out, found, target)
    ends = pd.concat([at_budget(found, flops, n=1) for flops in span]) if found.fit is not None else pd.DataFrame()
    best = [ends["params"], ends["loss"]] if len(ends) else [[], []]
    x = light(scaled(alt.X, "x", [*runs["x"], *out["x"], *best[0]], axis_title("params"), count=5))
    y = light(scaled(alt.Y, "y", [*runs["y"], *out["y"], *best[1]], axis_title(target), count=5))
    bar = alt.Legend(
        title="Compute (FLOP)", orient="bottom", direction="horizontal", gradientLength=150, gradientThickness=9,
        labelExpr="replace(format(datum.value, '.0~e'), 'e+', 'e')", tickCount=3, titleOrient="left",
    )  # fmt: skip
    domain = [float(runs["c"].min()), float(runs["c"].max())] if len(runs) else [1.0, 10.0]
    if domain[0] == domain[1]:
        domain[1] *= 10
    scale = {"type": "log", "scheme": "viridis", "domain": domain, "nice": False}
    colour = light(alt.Color("c:Q", scale=scale, legend=bar))
    tips = [
        alt.Tooltip("run:N", title="Run"),
        alt.Tooltip("c_text:N", title="Compute (FLOP)"),
        alt.Tooltip("x_text:N", title="Parameters"),
        alt.Tooltip("d_text:N", title="Training tokens"),
        alt.Tooltip("y:Q", title=axis_title(target), format=".4g"),
    ]
    layers = []
    if found.isoflop is not None:
        lines = found.isoflop.curves.rename(columns={"params": "x", "loss": "y"})
        lines["c"] = found.isoflop.frame["flops"].to_numpy()[lines["budget"].to_numpy(int)]
        curves = alt.Chart(embed(lines)).mark_line(strokeWidth=1.5, clip=True)
        layers.append(
            curves.encode(
                x, y, alt.Color("c:Q", scale=scale, legend=None), alt.Detail("budget:N"), order=alt.Order("x:Q")
            )
        )
    if len(data["slice"]):
        law = alt.Chart(data["slice"], name="slice").mark_line(strokeWidth=2.2, strokeDash=[2, 3], clip=True)
        layers.append(law.encode(x, y, color=alt.value(CATEGORIES[2])))
    dots = alt.Chart(embed(thin_rows(runs, "y")), name="runs").mark_point(filled=True, size=26, opacity=0.8)
    layers.append(dots.encode(x, y, colour, tooltip=tips))
    if len(out):
        hollow = alt.Chart(embed(out), name="out").mark_point(size=30, strokeWidth=1.2, opacity=1, fill="white")
        layers.append(hollow.encode(x, y, color=alt.value(INK), tooltip=[*tips[:1], *tips[2:]]))
    rings = alt.Chart(ring(found, marked), name="marked").mark_point(
        size=110, strokeWidth=1.8, color=ACCENT, opacity=1, clip=True
    )
    layers.append(rings.encode(x, y))
    if found.isoflop is not None:
        layers += _minima(found, x, y)
    names = list(found.frame["approach"])
    least = alt.Chart(data["least"], name="least").mark_point(
        filled=True, size=70, stroke=INK, strokeWidth=1, opacity=1, clip=True
    )
    own = alt.Color("group:N", scale={"domain": names, "range": list(CATEGORIES[:3])}, legend=None)
    shape = alt.Shape("group:N", scale={"domain": names, "range": ["circle", "square", "triangle-up"]}, legend=None)
    layers.append(least.encode(x, y, own, shape, tooltip=[alt.Tooltip("group:N", title="Optimum by")]))
    return alt.layer(*layers).resolve_scale(color="independent").properties(width=width, height=height)


def light(channel: Any) -> Any:
    """The same channel with its scale, axis and legend as plain dicts, which Altair copies ten times faster."""
    for part in ("scale", "axis", "legend"):
        with suppress(KeyError):  # an axis has no legend, and the other way round
            if isinstance(channel[part], alt.SchemaBase):
                channel[part] = channel[part].to_dict()
    return channel


def ring(found: Approaches, marked: tuple[str, ...]) -> pd.DataFrame:
    """Where the marked runs lie: ``run``, ``x``, ``y``."""
    runs, _ = _runs(found)
    return embed(runs[runs["run"].isin(marked)][["run", "x", "y"]])


def _runs(found: Approaches) -> tuple[pd.DataFrame, str]:
    """Runs of the isoFLOP analysis, or of the fit where there is none, and the name of the metric."""
    if found.isoflop is not None:
        points, target = found.isoflop.points, found.isoflop.target
    elif found.fit is not None:
        points, target = found.fit.points.frame, found.fit.points.target
    else:
        points, target = found.envelope.curves, found.envelope.target
        points = points.rename(columns={"loss": target})
    size = next((c for c in points.columns if c.startswith("params")), None)
    params = points[size].to_numpy(float) if size else np.full(len(points), np.nan)
    flops = points["flops"].to_numpy(float) if "flops" in points else 6 * params * points["tokens"].to_numpy(float)
    tokens = points["tokens"].to_numpy(float) if "tokens" in points else flops / (6 * params)
    frame = pd.DataFrame({"run": points["run"].astype(str), "x": params, "y": points[target], "c": flops, "d": tokens})
    return _texts(frame).reset_index(drop=True), target


def _hollow(left_out: RunTable | None, found: Approaches, target: str) -> pd.DataFrame:
    columns = ["run", "x", "y", "x_text", "d_text"]
    if left_out is None or not len(left_out):
        return pd.DataFrame(columns=columns)
    frame = left_out.frame
    size = next(iter(found.frontiers.values())).size
    size = size if size in frame else "params"
    tokens = frame.get("tokens", np.nan)
    out = pd.DataFrame({"run": frame["run"], "x": frame[size], "y": frame[target], "c": np.nan, "d": tokens})
    return _texts(out[np.isfinite(out["x"]) & np.isfinite(out["y"])])[columns]


def _texts(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame.assign(x_text=[human(v, 4) for v in frame["x"]], d_text=[human(v, 4) for v in frame["d"]])
    return frame.assign(c_text=[f"{v:.3g}" for v in frame["c"]])


def _minima(found: Approaches, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    frame = found.isoflop.frame
    frame = frame[np.isfinite(frame["params"])]
    if not len(frame):
        return []
    rows = pd.DataFrame(
        {
            "x": frame["params"],
            "y": frame["loss"],
            "low": frame["params_low"].where(frame["used"]),
            "high": frame["params_high"].where(frame["used"]),
            "fill": np.where(frame["used"], INK, "white"),
            "why": np.where(frame["used"], "enters the exponent", "flagged: " + frame["note"]),
            "budget": [f"{v:.3g}" for v in frame["flops"]],
        }
    )
    tips = [alt.Tooltip("budget:N", title="Budget (FLOP)"), alt.Tooltip("why:N", title="IsoFLOP minimum")]
    base = alt.Chart(embed(rows))
    ends = alt.X("low:Q", scale=x["scale"], axis=x["axis"])
    bars = base.mark_rule(color=INK, strokeWidth=1.4, clip=True).encode(ends, alt.X2("high:Q"), y)
    marks = base.mark_point(shape="diamond", size=55, strokeWidth=1.3, opacity=1, color=INK, clip=True)
    return [bars, marks.encode(x, y, fill=alt.Fill("fill:N", scale=None, legend=None), tooltip=tips)]
