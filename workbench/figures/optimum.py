"""Sweeps with their minima, and the minima against scale."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from workbench.analysis.optimum import Optimum
from workbench.figures.axes import scaled
from workbench.figures.data import embed, thin_rows
from workbench.figures.groups import Groups, group
from workbench.figures.style import GREY, HEIGHT, INK, WIDTH, sequence, spoken, title
from workbench.fits.fit import Fit
from workbench.units import axis_title, human, quantity

__all__ = ["MOST_CELLS", "optimum", "scaling"]

#: Cells that can be told apart in one figure.
MOST_CELLS = 12
#: Rise above the lowest minimum beyond which runs are cut off, as a share of the range the minima span.
_HEADROOM = 0.6


def optimum(found: Optimum, over: str | None = None, cells: str | None = None) -> alt.LayerChart:
    """The metric against a swept column: runs, the fitted curve, and each cell's minimum.

    A diamond is the minimum, the thin bar through it its interval, the thick pale one the plateau. A triangle
    stands at the end of a sweep that has its best run there and points to where the optimum must lie; a cross
    marks the best run of a sweep without any minimum. With two swept columns the minima lie in their plane.

    Args:
        found: optima.
        over: which swept column is drawn, if two were; default both.
        cells: expression over the columns of ``found.frame`` that chooses cells (``"tokens == 65536"``); default
            at most twelve of them, evenly chosen.

    Raises:
        ValueError: a column that was not swept, or an expression that chooses no cell or cannot be evaluated.
    """
    if over is not None and over not in found.over:
        raise ValueError(f"{over!r} was not swept; choose one of {', '.join(found.over)}")
    shown, dropped = _chosen(found, cells)
    names = _labels(found, shown)
    groups = group(pd.Series([names[i] for i in shown.index]))
    order = list(names.values())
    groups = Groups(groups.of, order, sequence(len(order)), {}, False)
    if len(found.over) == 2:
        return _plane(found, shown, names, groups, dropped)
    column = over or found.over[0]
    runs = found.points[found.points["cell"].isin(shown.index)]
    runs = pd.DataFrame(
        {"x": runs[column], "y": runs[found.y], "run": runs["run"], "group": [names[c] for c in runs["cell"]]}
    )
    curves, marks = _curves(found, shown, names, column), _marks(found, shown, names, column)
    # A few diverged runs would flatten everything that matters.
    best = runs.groupby("group")["y"].min()
    top = max(best.max() * 1.02, best.max() + _HEADROOM * (best.max() - best.min()))
    hidden = int((runs["y"] > top).sum())
    runs, curves = thin_rows(runs[runs["y"] <= top], "y"), curves[curves["y"] <= top]
    x = scaled(alt.X, "x", runs["x"], axis_title(column))
    y = scaled(alt.Y, "y", [*runs["y"], *curves["y"]], axis_title(found.y))
    legend = ", ".join(quantity(c).meaning for c in _differing(found, shown)) or None
    colour, shape = groups.colour(legend), groups.shape(legend)
    tips = [alt.Tooltip("run:N", title="Run"), alt.Tooltip("group:N", title="Cell")]
    tips += [alt.Tooltip("x:Q", title=quantity(column).meaning, format=".4g")]
    tips += [alt.Tooltip("y:Q", title=quantity(found.y).meaning, format=".4g")]
    layers = [
        alt.Chart(embed(curves), name="curves").mark_line(strokeWidth=1.6, opacity=0.8).encode(x, y, colour),
        alt.Chart(embed(runs), name="runs")
        .mark_point(filled=True, size=26, opacity=0.55)
        .encode(x, y, colour, shape, tooltip=tips),
        *_bars(marks, x, y, colour),
        *_symbols(marks, x, y, colour),
    ]
    return alt.layer(*layers).properties(
        width=WIDTH,
        height=HEIGHT,
        title=title(
            f"{quantity(found.y).meaning} against {spoken(column)}, and its optimum",
            f"diamonds: minima with {found.level:.0%} intervals (thin) and plateaus within {found.plateau:.2%} (thick)",
            "triangles: best at an end of the sweep" if (shown["status"] == "edge").any() else "",
            "crosses: no minimum" if shown["status"].isin(["not convex", "too few"]).any() else "",
            f"{hidden} runs above the figure not drawn" if hidden else "",
            f"{len(shown)} of {len(found.frame)} cells" if dropped else "",
            f"{sum(found.left_out.values())} runs left out" if found.left_out else "",
        ),
    )


def scaling(
    found: Optimum, law: Fit | Any = "power", x: str | None = None, over: str | None = None, **options: Any
) -> alt.LayerChart:
    """The optimum against scale, with a fitted law.

    Filled points are optima with their intervals, hollow ones those whose interval has no end within the
    window, triangles bounds from sweeps that end too early; only the points enter the fit.

    Args:
        found: optima.
        law: a `Fit` of the optima, or a law's name, which is fitted by `Optimum.fit`; None draws none.
        x: column of `within` on the axis; default the first.
        over: which swept column; default the first.
        options: for `Optimum.fit`.

    Raises:
        ValueError: `x` is no column of the cells, there is no optimum to draw, or the law cannot be drawn
            against `x`.
    """
    over = found.over[0] if over is None else over
    if over not in found.over:
        raise ValueError(f"{over!r} was not swept; choose one of {', '.join(found.over)}")
    x = (found.within or ("",))[0] if x is None else x
    if x not in found.within:
        raise ValueError(
            f"{x!r} is no column of the cells; choose one of {', '.join(found.within) or '(there is none)'}"
        )
    if not len(found.good):
        raise ValueError("no cell has an optimum, so there is nothing to draw against scale")
    fit = law if isinstance(law, Fit) or law is None else found.fit(law, over, **options)
    others = [c for c in found.within if c != x]
    frame = found.frame
    by = group(frame[others[0]]) if others else group(pd.Series(["all"] * len(frame)))
    data = pd.DataFrame({"x": frame[x], "y": frame[over], "low": frame[f"{over}_low"], "high": frame[f"{over}_high"]})
    data = data.assign(group=by.of, status=frame["status"], note=frame["note"])
    drawn = data[data["status"].isin(["ok", "open"])].copy()
    # On a side without an end no bar is drawn; the hollow point says so.
    drawn["low"], drawn["high"] = drawn["low"].fillna(drawn["y"]), drawn["high"].fillna(drawn["y"])
    drawn["text"] = [f"{human(a)} – {human(b)}" for a, b in zip(drawn["low"], drawn["high"], strict=True)]
    bounds = data[(data["status"] == "edge") & (data["low"].notna() | data["high"].notna())].copy()
    bounds["up"] = bounds["low"].notna()
    bounds["y"] = bounds["low"].fillna(bounds["high"])
    line = _law_line(fit, x, by, others, drawn) if fit is not None else pd.DataFrame(columns=["x", "y", "group"])
    spread = [*drawn["y"], *drawn["low"], *drawn["high"], *bounds["y"]]
    cx = scaled(alt.X, "x", data["x"], axis_title(x))
    cy = scaled(
        alt.Y, "y", spread, f"Best {spoken(over)}" + (f" ({quantity(over).unit})" if quantity(over).unit else "")
    )
    legend = quantity(others[0]).meaning if others else None
    colour, shape = by.colour(legend), by.shape(legend)
    low = alt.Y("low:Q", scale=cy["scale"], axis=cy["axis"])
    tips = [
        alt.Tooltip("group:N", title=legend or "Cells"),
        alt.Tooltip("x:Q", title=quantity(x).meaning, format=".4g"),
    ]
    tips += [alt.Tooltip("y:Q", title=f"Best {spoken(over)}", format=".3g"), alt.Tooltip("text:N", title="Interval")]
    layers = []
    if len(line):
        layers.append(alt.Chart(embed(line), name="law").mark_line(strokeWidth=1.8, clip=True).encode(cx, cy, colour))
    layers.append(
        alt.Chart(embed(drawn), name="intervals").mark_rule(opacity=0.45).encode(cx, low, alt.Y2("high:Q"), colour)
    )
    for status, filled in (("ok", True), ("open", False)):
        part = drawn[drawn["status"] == status]
        if len(part):
            points = alt.Chart(embed(part), name=status).mark_point(filled=filled, size=55, opacity=1)
            layers.append(points.encode(cx, cy, colour, shape, tooltip=tips))
    for up in (True, False):
        part = bounds[bounds["up"] == up]
        if len(part):
            mark = alt.Chart(embed(part[["x", "y", "group", "note"]]), name="bounds up" if up else "bounds down")
            mark = mark.mark_point(shape="triangle-up" if up else "triangle-down", filled=True, size=110, color=GREY)
            layers.append(mark.encode(cx, cy, tooltip=[alt.Tooltip("note:N", title="Edge")]))
    missing = len(frame) - len(drawn)
    return alt.layer(*layers).properties(
        width=WIDTH,
        height=HEIGHT,
        title=title(
            f"Best {spoken(over)} against {spoken(x)}",
            ", ".join(f"{s} = {v:.3g}" for s, v in fit.params.items()) + f" ({fit.law.title})" if fit else "",
            f"{found.level:.0%} intervals",
            "hollow: no end of the interval within the window" if (drawn["status"] == "open").any() else "",
            f"{missing} cells without an optimum"
            + (f", {len(bounds)} of them bounds (triangles)" if len(bounds) else "")
            if missing
            else "",
        ),
    )


def _chosen(found: Optimum, cells: str | None) -> tuple[pd.DataFrame, bool]:
    frame = found.frame
    if cells is not None:
        try:
            keep = frame.eval(cells, engine="python", local_dict={}, global_dict={})
            frame = frame[keep]
        except Exception as error:
            raise ValueError(
                f"cannot choose cells by {cells!r}: {str(error).splitlines()[0]}; the columns are "
                f"{', '.join(frame.columns)}"
            ) from None
        if not len(frame):
            raise ValueError(f"cells={cells!r} chooses none of the {len(found.frame)} cells; loosen it")
    if len(frame) > MOST_CELLS:
        frame = frame.iloc[np.unique(np.linspace(0, len(frame) - 1, MOST_CELLS).round().astype(int))]
    return frame, len(frame) < len(found.frame)


def _labels(found: Optimum, shown: pd.DataFrame) -> dict[int, str]:
    """Cell -> what it is called in the legend, by the columns that differ."""
    differ = _differing(found, shown)

    def words(value):
        return human(float(value)) if isinstance(value, int | float | np.number) else str(value)

    names = {i: ", ".join(words(row[c]) for c in differ) or "all runs" for i, row in shown.iterrows()}
    if len(set(names.values())) < len(names):
        names = {i: ", ".join(str(row[c]) for c in differ) for i, row in shown.iterrows()}
    return names


def _differing(found: Optimum, shown: pd.DataFrame) -> list[str]:
    return [c for c in found.within if shown[c].nunique() > 1] or list(found.within[:1])


def _curves(found: Optimum, shown: pd.DataFrame, names, column: str) -> pd.DataFrame:
    parts = [pd.DataFrame({"x": [], "y": [], "group": []})]
    for i in shown.index:
        basin = found.basins.get(i)
        if basin is not None and shown["status"][i] in ("ok", "open"):
            u = np.linspace(basin.low[0], basin.high[0], 60)
            parts.append(pd.DataFrame({"x": np.exp(u), "y": np.exp(basin(u[:, None])), "group": names[i]}))
    return pd.concat([p for p in parts if len(p)] or parts, ignore_index=True)


def _marks(found: Optimum, shown: pd.DataFrame, names, column: str) -> pd.DataFrame:
    rows = []
    for i, row in shown.iterrows():
        part = found.points[found.points["cell"] == i]
        ends = (part[column].min(), part[column].max()) if len(part) else (np.nan, np.nan)
        mark = {"group": names[i], "status": row["status"], "note": row["note"], "x": row[column], "y": row[found.y]}
        mark |= {"low": row[f"{column}_low"], "high": row[f"{column}_high"]}
        mark |= {"plateau_low": row[f"{column}_plateau_low"], "plateau_high": row[f"{column}_plateau_high"]}
        if row["status"] in ("ok", "open"):
            mark["low"], mark["high"] = np.nanmax([mark["low"], ends[0]]), np.nanmin([mark["high"], ends[1]])
        elif len(part):
            means = part.groupby(column)[found.y].mean()
            mark["x"], mark["y"] = float(means.idxmin()), float(means.min())
        rows.append(mark)
    out = pd.DataFrame(rows)
    out["up"] = out["low"].notna() & (out["status"] == "edge")
    out["text"] = [f"{human(a)} – {human(b)}" for a, b in zip(out["low"], out["high"], strict=True)]
    return out


def _bars(marks: pd.DataFrame, x, y, colour) -> list[alt.Chart]:
    good = marks[marks["status"].isin(["ok", "open"])]
    if not len(good):
        return []
    base = alt.Chart(embed(good[["y", "low", "high", "plateau_low", "plateau_high", "group"]]))

    def start(field):
        return alt.X(f"{field}:Q", scale=x["scale"], axis=x["axis"])

    return [
        base.mark_rule(strokeWidth=9, opacity=0.28, clip=True).encode(
            start("plateau_low"), y, alt.X2("plateau_high:Q"), colour
        ),
        base.mark_rule(strokeWidth=1.6, clip=True).encode(start("low"), y, alt.X2("high:Q"), colour),
    ]


def _symbols(marks: pd.DataFrame, x, y, colour) -> list[alt.Chart]:
    kinds = (
        ("minimum", marks["status"].isin(["ok", "open"]), "diamond", 90),
        ("edge above", (marks["status"] == "edge") & marks["up"], "triangle-right", 150),
        ("edge below", (marks["status"] == "edge") & ~marks["up"], "triangle-left", 150),
        ("no minimum", marks["status"].isin(["not convex", "too few"]), "cross", 110),
    )
    layers = []
    for name, chosen, shape, size in kinds:
        part = marks[chosen & marks["x"].notna()]
        if not len(part):
            continue
        tips = [alt.Tooltip("group:N", title="Cell"), alt.Tooltip("x:Q", title="Best", format=".4g")]
        tips += [alt.Tooltip("text:N", title="Interval"), alt.Tooltip("note:N", title="Note")]
        angle = {"angle": 45} if shape == "cross" else {}
        mark = alt.Chart(embed(part[["x", "y", "group", "text", "note"]]), name=name).mark_point(
            filled=True, shape=shape, size=size, opacity=1, stroke=INK, strokeWidth=1, clip=True, **angle
        )
        layers.append(mark.encode(x, y, colour, tooltip=tips))
    return layers


def _plane(found: Optimum, shown: pd.DataFrame, names, groups: Groups, dropped: bool) -> alt.LayerChart:
    """Minima in the plane of two swept columns: settings tried, both intervals, and the plateau as an ellipse."""
    a, b = found.over
    runs = found.points[found.points["cell"].isin(shown.index)][[a, b]].drop_duplicates()
    tried = pd.DataFrame({"x": runs[a], "y": runs[b]})
    good = shown[shown["status"].isin(["ok", "open"])]
    marks = pd.DataFrame({"x": good[a], "y": good[b], "group": [names[i] for i in good.index]})
    for o, axis, ends in ((a, "x", tried["x"]), (b, "y", tried["y"])):
        marks[f"{axis}_low"] = good[f"{o}_low"].fillna(ends.min())
        marks[f"{axis}_high"] = good[f"{o}_high"].fillna(ends.max())
    turn = np.linspace(0, 2 * np.pi, 73)
    rings = [pd.DataFrame({"x": [], "y": [], "order": [], "group": []})]
    for i, row in good.iterrows():
        c = found.basins[i].coefficients
        hessian = np.array([[2 * c[3], c[4]], [c[4], 2 * c[5]]])
        root = np.linalg.inv(np.linalg.cholesky(hessian)).T * np.sqrt(2 * np.log1p(found.plateau))
        ring = np.log(row[[a, b]].to_numpy(float)) + np.stack([np.cos(turn), np.sin(turn)], 1) @ root.T
        rings.append(
            pd.DataFrame({"x": np.exp(ring[:, 0]), "y": np.exp(ring[:, 1]), "order": range(73), "group": names[i]})
        )
    x, y = scaled(alt.X, "x", tried["x"], axis_title(a)), scaled(alt.Y, "y", tried["y"], axis_title(b))
    legend = ", ".join(quantity(c).meaning for c in _differing(found, shown)) or None
    colour, shape = groups.colour(legend), groups.shape(legend)
    ring = embed(pd.concat([r for r in rings if len(r)] or rings, ignore_index=True))
    base = alt.Chart(embed(marks))
    layers = [
        alt.Chart(embed(tried), name="tried").mark_point(filled=True, size=14, color=GREY, opacity=0.5).encode(x, y),
        alt.Chart(ring, name="plateau").mark_line(strokeWidth=1.4, clip=True).encode(x, y, colour, order="order:Q"),
        base.mark_rule(clip=True).encode(
            alt.X("x_low:Q", scale=x["scale"], axis=x["axis"]), y, alt.X2("x_high:Q"), colour
        ),
        base.mark_rule(clip=True).encode(
            x, alt.Y("y_low:Q", scale=y["scale"], axis=y["axis"]), alt.Y2("y_high:Q"), colour
        ),
        alt.Chart(embed(marks), name="minimum").mark_point(filled=True, size=80, opacity=1).encode(x, y, colour, shape),
    ]
    return alt.layer(*layers).properties(
        width=WIDTH,
        height=HEIGHT,
        title=title(
            f"Optimum of {spoken(found.y)} in {spoken(a)} and {spoken(b)}",
            f"bars: {found.level:.0%} intervals",
            f"ellipses: {found.y} within {found.plateau:.2%} of the minimum",
            "grey: settings tried",
            f"{len(shown) - len(good)} cells without an optimum" if len(good) < len(shown) else "",
            f"{len(shown)} of {len(found.frame)} cells" if dropped else "",
        ),
    )


def _law_line(fit: Fit, x: str, by: Groups, others: list[str], drawn: pd.DataFrame) -> pd.DataFrame:
    """The law along `x` for each value of the other column."""
    inputs = fit.points.columns
    unknown = [c for c in inputs.values() if c != x and c not in others[:1]]
    if unknown:
        raise ValueError(
            f"{fit.law.name} takes {', '.join(inputs.values())}, and this figure holds {x}"
            + (f" and {others[0]}" if others else "")
            + f" only; fit a law without {unknown[0]}"
        )
    grid = np.geomspace(drawn["x"].min(), drawn["x"].max(), 60)
    flat = not (set(inputs.values()) & set(others))
    parts = []
    for label, value in by.centres.items() if by.centres and not flat else [(by.labels[-1], np.nan)]:
        columns = {s: grid if c == x else np.full(grid.size, value) for s, c in inputs.items()}
        parts.append(pd.DataFrame({"x": grid, "y": fit.law.predict(fit.theta, columns), "group": label}))
    return pd.concat(parts, ignore_index=True)
