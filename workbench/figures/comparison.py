"""Which law extrapolates: the error of every law on the runs it was fitted to and on those it was not."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from workbench.figures.axes import label, linear_ticks, log_ticks, scaled
from workbench.figures.data import embed, thin_rows
from workbench.figures.style import ACCENT, CATEGORIES, GREY, INK, WIDTH, title
from workbench.fits.compare import Comparison
from workbench.fits.result import Fit
from workbench.units import SCALES, axis_title, human

__all__ = ["comparison"]

_KINDS = ("fitted", "held out")
_MARGIN = 160  # left of both plots, for the names of laws


def comparison(c: Comparison) -> alt.VConcatChart:
    """Errors of every law against scale, best law first, and below them one number a law.

    With a hold-out: held-out runs stand out from the fitted ones, and the bars rank the laws by their
    mean absolute error on them. Without one: cross-validated error and the difference in AICc.

    Args:
        c: the comparison.
    """
    order = list(c.frame["title"])
    points = pd.concat(
        [_errors(c, law, name) for law, name in zip(c.frame["law"], order, strict=True)], ignore_index=True
    )
    scale = points["scale"].iloc[0]
    grid = _grid(points, scale, order)
    held = int((points["kind"] == "held out").sum() / max(len(order), 1))
    best = c.frame.iloc[0]
    if c.holdout:
        summary = _lollipops(c, "heldout_error", "Mean error on held-out runs", 100, " %")
        verdict = f"{best['title']} predicts the held-out runs best: {100 * best['heldout_error']:.2g} % off on average"
    else:
        pair = [
            _lollipops(c, "cv_error", "Cross-validated error", 100, " %"),
            _lollipops(c, "delta_aicc", "AICc above the best", 1, ""),
        ]
        summary = alt.hconcat(*pair, spacing=30)
        verdict = f"{best['title']} has the lowest AICc; no run was held out, so this says nothing about larger scales"
    return alt.vconcat(grid, summary, spacing=24).properties(
        title=title(
            f"{len(order)} laws on the same runs: predicted − measured"
            if len(order) > 1
            else f"{order[0]}: predicted − measured",
            verdict,
            f"{c.n_runs} runs fitted (grey dots)",
            f"{held} held out (orange diamonds): {c.holdout}" if c.holdout else "",
            f"could not be fitted: {', '.join(c.failed)}" if c.failed else "",
        )
    )


def _errors(c: Comparison, law: str, name: str) -> pd.DataFrame:
    fitted = c.fits[law]
    own = pd.DataFrame({"run": fitted.points.frame["run"], "measured": fitted.points.y})
    own["predicted"] = fitted.law.predict(fitted.theta, fitted.points.x)
    taken = {column for f in c.fits.values() for column in f.points.columns.values()}
    first = next(iter(fitted.points.columns.values()))
    # Laws that all run along one scale are drawn along it; where they take different inputs, along compute
    scale = first if len(taken) == 1 else next((s for s in SCALES if s in fitted.points.frame), first)
    own["x"] = fitted.points.frame[scale].to_numpy(float)
    parts = [own.assign(kind="fitted")]
    if law in c.predictions:
        rows = c.predictions[law]
        out = pd.DataFrame({"run": rows["run"], "measured": rows["measured"], "predicted": rows["prediction"]})
        out["x"] = _scale_of(rows, scale, fitted)
        parts.append(out.assign(kind="held out"))
    data = pd.concat(parts, ignore_index=True)
    data["error"] = 100 * (data["predicted"] / data["measured"] - 1)
    data["law"], data["scale"] = name, scale
    data = data[np.isfinite(data["x"]) & (data["x"] > 0) & np.isfinite(data["error"])]
    return pd.concat([thin_rows(part, "error", 300) for _, part in data.groupby("kind")], ignore_index=True)


def _scale_of(rows: pd.DataFrame, scale: str, fitted: Fit) -> np.ndarray:
    """Scale of held-out runs: given, counted by C = 6ND, or read off their extrapolation ratio."""
    if scale in rows:
        return rows[scale].to_numpy(float)
    if scale == "flops" and {"params", "tokens"} <= set(rows):
        return 6.0 * rows["params"].to_numpy(float) * rows["tokens"].to_numpy(float)
    return rows["extrapolation"].to_numpy(float) * fitted.points.frame[scale].to_numpy(float).max()


def _grid(points: pd.DataFrame, scale: str, order: list[str]) -> alt.FacetChart:
    columns = len(order) if len(order) <= 3 else min((len(order) + 1) // 2, 4)
    width = (WIDTH - _MARGIN - 18 * (columns - 1)) // columns
    x = scaled(alt.X, "x", points["x"], axis_title(scale), count=3 if columns > 2 else 5)
    y = _error_axis(points["error"])
    # No legend: the subtitle names both kinds, and a legend of a grid ends up far from it.
    colour = alt.Color("kind:N", scale=alt.Scale(domain=list(_KINDS), range=["#98a2b3", ACCENT]), legend=None)
    shape = alt.Shape("kind:N", scale=alt.Scale(domain=list(_KINDS), range=["circle", "diamond"]), legend=None)
    size = alt.condition(alt.datum.kind == "held out", alt.value(70), alt.value(22))
    tips = [
        alt.Tooltip("run:N", title="Run"),
        alt.Tooltip("x_text:N", title=axis_title(scale)),
        alt.Tooltip("measured:Q", title="Measured", format=".4g"),
        alt.Tooltip("predicted:Q", title="Predicted", format=".4g"),
        alt.Tooltip("error:Q", title="Error, %", format="+.2f"),
    ]
    data = points.drop(columns="scale").assign(x_text=[human(v) for v in points["x"]], zero=0).sort_values("kind")
    marks = alt.Chart().mark_point(filled=True, opacity=0.85).encode(x, y, colour, shape, size=size, tooltip=tips)
    zero = alt.Chart().mark_rule(color=INK, strokeWidth=1).transform_aggregate(error="min(zero)").encode(y)
    return (
        alt.layer(zero, marks, data=embed(data))
        .properties(width=width, height=180 if len(order) <= 3 else 150)
        .facet(alt.Facet("law:N", sort=order, title=None), columns=columns, spacing=18)
    )


def _error_axis(errors: pd.Series) -> alt.Y:
    """Errors in percent; on a scale that is linear near zero and logarithmic beyond where they span much.

    The null model is off by a hundred percent where good laws are off by one: on a linear axis every
    good law would be a flat line.
    """
    name = "Error (% of measured)"
    largest = float(errors.abs().max())
    typical = float(errors.abs().quantile(0.5))
    if largest < 12 * max(typical, 1e-9):
        return scaled(alt.Y, "error", [*errors, 0.0], name, log=False)
    constant = 10.0 ** round(float(np.log10(max(typical, 1e-6))))
    sizes = [m * 10.0**e for e in range(-6, 7) for m in (1, 3)]
    ticks = [0.0] + [s * size for size in sizes for s in (-1, 1) if constant <= size <= 1.6 * largest]
    low, high = float(errors.min()), float(errors.max())
    scale = alt.Scale(
        type="symlog", constant=constant, domain=[min(1.3 * low, -constant), max(1.3 * high, constant)], nice=False
    )
    shown = [t for t in sorted(ticks) if min(1.3 * low, -constant) <= t <= max(1.3 * high, constant)]
    if len(shown) > 9:
        shown = [t for t in shown if t == 0 or float(np.log10(abs(t))).is_integer()]
    return alt.Y("error:Q", scale=scale, axis=alt.Axis(values=shown, labelExpr=label(100), title=name))


def _lollipops(c: Comparison, column: str, name: str, factor: float, unit: str) -> alt.LayerChart:
    values = c.frame[column].to_numpy(float) * factor
    known = np.isfinite(values)
    rows = pd.DataFrame({"law": c.frame["title"], "value": np.where(known, values, np.nan)})
    rows["text"] = [f"{v:.3g}{unit}" if ok else "not known" for v, ok in zip(values, known, strict=True)]
    finite = values[known]
    top = float(finite.max()) if finite.size and finite.max() > 0 else 1.0
    ranks = finite[finite > 0]
    log = bool(ranks.size == len(rows) and top / ranks.min() > 30)
    low = ranks.min() / 2 if log else 0.0
    rows["from"] = low
    half = column != "heldout_error"
    scale = alt.Scale(type="log" if log else "linear", domain=[low, top * (3 if log else 1.18)], nice=False)
    axis = alt.Axis(
        title=f"{name}{' (%)' if unit else ''}",
        labelExpr=label(top),
        values=log_ticks(low, top, 4) if log else linear_ticks(0, top, 4),
    )
    x = alt.X("value:Q", scale=scale, axis=axis)
    y = alt.Y(
        "law:N",
        sort=list(c.frame["title"]),
        axis=alt.Axis(title=None, ticks=False, domain=False, grid=False, labelPadding=10),
    )
    base = alt.Chart(embed(rows))
    best = alt.condition(
        alt.datum.law == c.frame["title"].iloc[0], alt.value(ACCENT if c.holdout else CATEGORIES[0]), alt.value(GREY)
    )
    layers = [
        base.mark_rule(strokeWidth=3).encode(alt.X("from:Q", scale=scale, axis=axis), alt.X2("value:Q"), y, color=best),
        base.mark_point(filled=True, size=90, opacity=1).encode(x, y, color=best),
        base.mark_text(align="left", dx=9).encode(x, y, alt.Text("text:N")),
    ]
    return alt.layer(*layers).properties(
        width=(WIDTH - 380) // 2 if half else WIDTH - _MARGIN, height=24 * len(rows) + 6
    )
