"""Three approaches at one budget: their frontiers, the isoFLOP curves, and the allocations with intervals."""

from __future__ import annotations

from collections.abc import Iterable

import altair as alt
import numpy as np
import pandas as pd

from workbench.analysis.approaches import Approaches
from workbench.analysis.at_budget import at_budget as answers_at
from workbench.analysis.at_budget import equal_compute
from workbench.figures.at_budget_iso import iso_panel, light
from workbench.figures.axes import scaled
from workbench.figures.data import embed
from workbench.figures.style import CATEGORIES, GREY, INK, empty, title
from workbench.runs.table import RunTable
from workbench.units import axis_title, human, quantity

__all__ = ["VIEWS", "at_budget", "budgets", "rows_at"]

#: Names of the views that a live figure listens to, as Altair numbers them.
VIEWS = {"stops": ("stops params_0", "stops tokens_1"), "runs": ("runs_0",)}

_NAMES = {"params": "Optimal parameters N", "tokens": "Optimal training tokens D"}
_DASHES = ([1, 0], [7, 4], [2, 3])
_SHAPES = ("circle", "square", "triangle-up")
#: An interval may reach this far beyond all estimates before the axis cuts it off.
_REACH = 10.0
#: Places that a rule can be dragged to, and the size of a panel in pixels.
_STOPS, _WIDTH, _HEIGHT = 161, 296, 230


def at_budget(
    found: Approaches,
    flops: float,
    *,
    n: int = 1000,
    left_out: RunTable | None = None,
    marked: Iterable[str] = (),
) -> alt.VConcatChart | alt.Chart:
    """Frontiers (top), isoFLOP curves (bottom left) and allocations (bottom right), all at the budget of the rule.

    Nothing but rows depends on the budget, so that a live view can move it without drawing anew; the axes
    reach as far as the frontiers of `found` do.

    Args:
        found: the approaches; `approaches(..., at=)` says how far their frontiers go.
        flops: budget in FLOP.
        n: bootstrap resamples of the law, as in `analysis.at_budget`.
        left_out: runs that were taken out by hand, drawn hollow.
        marked: ids of runs to ring.
    """
    if not found.frontiers:
        return empty("No frontier to draw", [f"{r.approach}: {r.note}" for r in found.frame.itertuples()])
    data = rows_at(found, flops, n=n)
    tops = [_frontier_panel(found, column, data) for column in _NAMES]
    iso = iso_panel(found, data, budgets(found), _WIDTH, _HEIGHT + 26, left_out, tuple(marked))
    forests = [_forest(found, name, data["allocations"]) for name in ("a", "b", "tokens_per_param")]
    # Altair moves the rows that the three share up to their column, so that it carries the name.
    below = alt.hconcat(iso, alt.vconcat(*forests, spacing=4).properties(name="allocations"), spacing=24)
    return alt.vconcat(alt.hconcat(*tops, spacing=24), below, spacing=14).properties(title=_title(found, left_out))


def budgets(found: Approaches) -> tuple[float, float]:
    """The smallest and the largest budget that the figure spans, in FLOP."""
    frame = next(iter(found.frontiers.values())).frame
    return float(frame["flops"].min()), float(frame["flops"].max())


def rows_at(found: Approaches, flops: float, *, n: int = 1000) -> dict[str, pd.DataFrame]:
    """The rows of the figure that depend on the budget, by name of their layer."""
    answers = answers_at(found, flops, n=n)
    answers = answers[np.isfinite(answers["params"])]
    rule = pd.DataFrame({"x": [float(flops)], "label": [f"{flops:.3g} FLOP".replace("e+", "e")]})
    spots = []
    for column in _NAMES:
        low, high = (answers[f"{column}_{end}"].to_numpy() for end in ("low", "high"))
        known = np.isfinite(low) & np.isfinite(high)
        value = answers[column].to_numpy()
        spots.append(
            pd.DataFrame(
                {"group": answers["approach"], "x": float(flops), "y": value, "column": column,
                 "low": np.where(known, low, value), "high": np.where(known, high, value)}
            )
        )  # fmt: skip
    parts = []
    for name in ("a", "b", "tokens_per_param"):
        part = answers[["approach", name, f"{name}_low", f"{name}_high"]].set_axis(
            ["group", "x", "low", "high"], axis=1
        )
        part = part.assign(what=name, text=[_words(*v) for v in part[["x", "low", "high"]].to_numpy(float)])
        parts.append(part.fillna({"low": part["x"], "high": part["x"]}))
    curve = pd.DataFrame({"x": [], "y": []})
    best = answers[answers["approach"].str.startswith("3")]
    if found.fit is not None and len(best):
        sizes = best["params"].iloc[0] * np.geomspace(1 / 30, 30, 61)
        curve = pd.DataFrame({"x": sizes, "y": equal_compute(found.fit, flops, sizes)})
    least = answers[["approach", "params", "loss"]].set_axis(["group", "x", "y"], axis=1)
    return {
        "budget": rule,
        "spots": embed(pd.concat(spots, ignore_index=True)),
        "allocations": embed(pd.concat(parts, ignore_index=True)),
        "slice": embed(curve),
        "least": embed(least.dropna()),
    }


def _words(value: float, low: float, high: float) -> str:
    if not np.isfinite(low):
        return f"{human(value)} (no interval)"
    return f"{human(value)} ({human(low)} – {human(high)})"


def _looks(found: Approaches, legend: alt.Legend | None) -> tuple[alt.Color, alt.StrokeDash, alt.Shape]:
    names = list(found.frame["approach"])
    return (
        light(alt.Color("group:N", scale=alt.Scale(domain=names, range=list(CATEGORIES[:3])), legend=legend)),
        light(alt.StrokeDash("group:N", scale=alt.Scale(domain=names, range=list(_DASHES)), legend=None)),
        light(alt.Shape("group:N", scale=alt.Scale(domain=names, range=list(_SHAPES)), legend=legend)),
    )


def _frontier_panel(found: Approaches, column: str, data: dict[str, pd.DataFrame]) -> alt.LayerChart:
    parts = []
    for name, each in found.frontiers.items():
        part = each.frame[["flops", column, f"{column}_low", f"{column}_high"]].set_axis(
            ["x", "y", "low", "high"], axis=1
        )
        parts.append(part.assign(group=name).sort_values("x"))
    lines = pd.concat(parts, ignore_index=True)
    middle = lines["y"][np.isfinite(lines["y"])]
    cut = (middle.min() / _REACH, middle.max() * _REACH)
    shown = [*middle, *(v for end in ("low", "high") for v in lines[end] if cut[0] < v < cut[1])]
    x = light(scaled(alt.X, "x", lines["x"], axis_title("flops"), count=5, pad=0.01))
    y = light(scaled(alt.Y, "y", shown, _NAMES[column], count=5))
    legend = alt.Legend(title=None, orient="top", symbolSize=110, symbolStrokeWidth=1.8)
    colour, dash, shape = _looks(found, legend)
    low, high = alt.Y("low:Q", scale=y["scale"], axis=y["axis"]), alt.Y2("high:Q")
    layers = []
    if lines["low"].notna().any():
        area = alt.Chart(embed(lines)).mark_area(fillOpacity=0.15, opacity=1, clip=True)
        layers.append(area.encode(x, low, high, colour))
    layers.append(alt.Chart(embed(lines)).mark_line(strokeWidth=2.2, clip=True).encode(x, y, colour, dash))
    minima = _minima(found, column)
    if len(minima):
        marks = alt.Chart(embed(minima)).mark_point(size=26, strokeWidth=1.3, opacity=1, clip=True)
        layers.append(marks.encode(x, y, color=alt.value(GREY), fill=alt.Fill("fill:N", scale=None, legend=None)))
    # Views have different names, so that of a dataset is given once; the other panel shares its rows.
    first = column == next(iter(_NAMES))
    named = {name: {"name": name} if first else {} for name in ("budget", "spots")}
    rule = alt.Chart(data["budget"])
    line = rule.mark_rule(color=INK, strokeWidth=1.4, strokeDash=[5, 3], clip=True)
    layers.append(line.encode(x).properties(**named["budget"]))
    here = alt.Chart(data["spots"]).transform_filter(f"datum.column == '{column}'")
    layers.append(here.mark_rule(strokeWidth=3, clip=True).encode(x, low, high, colour).properties(**named["spots"]))
    layers.append(here.mark_point(filled=True, size=70, stroke=INK, strokeWidth=1, opacity=1, clip=True).encode(
        x, y, colour, shape
    ))  # fmt: skip
    words = rule.mark_text(align="right", baseline="top", dx=-5, fontSize=11, color=INK, clip=True)
    layers.append(words.encode(x, alt.Text("label:N"), y=alt.value(3)))
    # Over all of them, so that whatever lies below, the pointer is at a budget: what it drags and reads.
    stops = _stops(found, column)
    tips = [alt.Tooltip("c:N", title="Compute (FLOP)")]
    tips += [alt.Tooltip(f"t{i}:N", title=name) for i, name in enumerate(found.frontiers)]
    left = alt.X("from:Q", scale=x["scale"], axis=x["axis"])
    catch = alt.Chart(stops, name=f"stops {column}").mark_rect(opacity=0, cursor="ew-resize")
    layers.append(catch.encode(left, alt.X2("to:Q"), tooltip=tips))
    return alt.layer(*layers).properties(width=_WIDTH, height=_HEIGHT)


def _stops(found: Approaches, column: str) -> pd.DataFrame:
    """Bars that catch the pointer, a budget each, with what the frontiers say there."""
    first, last = budgets(found)
    edges = np.geomspace(first, last, _STOPS + 1)
    x = np.sqrt(edges[1:] * edges[:-1])
    out = pd.DataFrame({"x": x, "from": edges[:-1], "to": edges[1:], "c": [f"{v:.3g}" for v in x]})
    for i, each in enumerate(found.frontiers.values()):
        frame = each.frame.sort_values("flops")
        with np.errstate(all="ignore"):
            read = [
                np.exp(np.interp(np.log(x), np.log(frame["flops"]), np.log(frame[f"{column}{end}"])))
                for end in ("", "_low", "_high")
            ]
        out[f"t{i}"] = [_words(*v) for v in zip(*read, strict=True)]
    return embed(out)


def _minima(found: Approaches, column: str) -> pd.DataFrame:
    if found.isoflop is None:
        return pd.DataFrame()
    frame = found.isoflop.frame
    frame = frame[np.isfinite(frame["params"])]
    return pd.DataFrame(
        {"x": frame["flops"], "y": frame[column], "fill": np.where(frame["used"], GREY, "white")}
    ).reset_index(drop=True)


def _forest(found: Approaches, what: str, rows: pd.DataFrame) -> alt.LayerChart:
    """Estimates and intervals of one answer, an approach a line."""
    names = list(found.frame["approach"])
    titles = {
        "a": "Exponent a of the size, N ~ C^a",
        "b": "Exponent b of the data, D ~ C^b",
        "tokens_per_param": "Tokens per parameter at the budget",
    }
    ratio = what == "tokens_per_param"
    if ratio:
        ends = pd.concat([f.frame[[what, f"{what}_low", f"{what}_high"]] for f in found.frontiers.values()])
        middle = ends[what][np.isfinite(ends[what])]
        values = ends.to_numpy(float).ravel()
        values = values[(values > middle.min() / _REACH) & (values < middle.max() * _REACH)]
    else:
        values = found.frame[[what, f"{what}_low", f"{what}_high"]].to_numpy(float).ravel()
        values = [*np.clip(values[np.isfinite(values)], -0.2, 1.2), 0.4, 0.6]
    x = light(scaled(alt.X, "x", values, titles[what], log=ratio, count=5))
    axis = {"title": None, "grid": True, "ticks": False}
    y = alt.Y("group:N", sort=names, scale={"domain": names}, axis=axis)
    colour, _, shape = _looks(found, None)
    base = alt.Chart(rows).transform_filter(f"datum.what == '{what}'")
    low = alt.X("low:Q", scale=x["scale"], axis=x["axis"])
    tips = [alt.Tooltip("group:N", title="From"), alt.Tooltip("text:N", title=f"{found.level:.0%} interval")]
    bar = base.mark_rule(strokeWidth=3, clip=True).encode(low, alt.X2("high:Q"), y, colour)
    dot = base.mark_point(filled=True, size=70, stroke=INK, strokeWidth=1, opacity=1, clip=True)
    return alt.layer(bar, dot.encode(x, y, colour, shape, tooltip=tips)).properties(width=_WIDTH - 62, height=42)


def _title(found: Approaches, left_out: RunTable | None) -> alt.Title:
    rests = [f"{r.approach}: {r.rests_on}" for r in found.frame.itertuples() if np.isfinite(r.a)]
    none = [f"{r.approach}: none ({str(r.note)[:90]})" for r in found.frame.itertuples() if not np.isfinite(r.a)]
    known = found.frame[np.isfinite(found.frame["a_low"]) & np.isfinite(found.frame["a_high"])]
    verdict = ""
    if len(known) > 1:
        together = known["a_low"].max() <= known["a_high"].min()
        verdict = f"the intervals of a {'share a value' if together else 'have no value in common'}"
    target = next(iter(found.frontiers.values())).target
    out = f"{len(left_out)} taken out by hand (hollow)" if left_out is not None and len(left_out) else ""
    bands = f"bands and bars: {found.level:.0%} intervals"
    if target != "loss":
        bands += f" of {quantity(target).meaning}"
    return title("Compute-optimal size and data by three approaches", verdict, *rests, *none, out, bands)
