"""Several laws fitted to the same runs in one picture: every law's curve over the runs, or a panel a law."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd

from workbench.figures.axes import scaled
from workbench.figures.data import embed, thin_rows
from workbench.figures.lines import _ROLE_OF, _can_solve, _solve
from workbench.figures.style import ACCENT, CATEGORIES, GREY, HEIGHT, INK, WIDTH, empty, spoken, title
from workbench.fits.compare import Comparison
from workbench.units import axis_title, human

__all__ = ["MOST_LAWS", "axes_of", "curve_rows", "levels", "overlay", "placed", "usual"]

#: Laws that colours and dashes can tell apart.
MOST_LAWS = 7
_DASHES = ([1, 0], [7, 4], [2, 3], [9, 3, 2, 3], [4, 2], [12, 4], [1, 2])
_GRID = 60
#: Runs this near the value that is constant along the curves belong to them.
_NEAR = np.log(1.15)
#: How far beyond the largest run the curves go.
_BEYOND = 3.0


def overlay(
    c: Comparison,
    x: str | None = None,
    at: float | None = None,
    *,
    facets: bool = False,
    left_out: int = 0,
    marked: Sequence[str] = (),
) -> alt.TopLevelMixin:
    """Every law's curve along one scale, with the runs.

    Laws of two inputs are drawn with the other input constant; runs with (nearly) that value stand out, the
    others are faint. A law that takes other inputs gets them from C = 6ND and M = D/N, or at their medians.

    Args:
        c: the comparison.
        x: column on the x axis; see `axes_of`.
        at: value of the other input, default the one most runs have.
        facets: one panel a law, with the other laws in grey.
        left_out: runs taken out by hand, for the subtitle.
        marked: ids of runs to ring.

    Raises:
        ValueError: `x` is no input of any law.
    """
    if len(c.frame) > MOST_LAWS:
        return empty("Too many laws", f"{len(c.frame)} laws cannot be told apart; choose at most {MOST_LAWS}.")
    x_name, by = axes_of(c, x)
    at = usual(c, by) if by is not None and at is None else at
    runs = placed(c, x_name, at)
    runs["marked"] = runs["run"].isin(set(marked)).astype(int)
    drawn = curve_rows(c, x_name, at)
    names = list(c.frame["title"])
    axis = axis_title(x_name)
    x_axis = scaled(alt.X, "x", [*drawn["x"], *runs["x"]], axis, pad=0.02, count=4 if facets else 6)
    near = runs if by is None else runs[runs["near"] == 1]
    seen = pd.concat([runs["y"], drawn["y"][drawn["y"].between(0.9 * runs["y"].min(), 1.1 * runs["y"].max())]])
    y_axis = scaled(alt.Y, "y", seen, axis_title(c.best.points.target), log=bool((seen > 0).all()))
    held = runs["kind"].eq("held out").sum()
    heads = title(
        f"{len(names)} law{'s' if len(names) != 1 else ''} on the same runs: {spoken(c.best.points.target)} against "
        f"{spoken(x_name)}",
        f"{c.n_runs} runs fitted",
        f"{left_out} left out" if left_out else "",
        f"{held} held out (orange diamonds)" if held else "",
        f"curves at {axis_title(by)} = {human(at)}, with the {len(near)} runs near it" if by is not None else "",
        f"could not be fitted: {', '.join(c.failed)}" if c.failed else "",
        f"{int(runs['marked'].sum())} marked (ringed)" if runs["marked"].any() else "",
        "no bands",
    )
    if not facets:
        layers = _points(runs, x_axis, y_axis, c, named=True) + _lines(drawn, names, x_axis, y_axis, legend=True)
        return alt.layer(*layers).properties(width=WIDTH - 20, height=HEIGHT - 60, title=heads)
    columns = min(len(names), 3)
    width = (WIDTH + 80 - 60 * columns) // columns
    panels = []
    for name in names:
        rest = alt.Chart(embed(drawn[drawn["law"] != name])).mark_line(color=GREY, opacity=0.35, clip=True)
        layers = [*_points(runs, x_axis, y_axis, c), rest.encode(x_axis, y_axis, alt.Detail("law:N"))]
        layers += _lines(drawn[drawn["law"] == name], names, x_axis, y_axis, legend=False)
        head = alt.Title(name, fontSize=13, anchor="start", offset=4)
        panels.append(alt.layer(*layers).properties(width=width, height=190, title=head))
    return alt.concat(*panels, columns=columns, spacing=16).properties(title=heads)


def axes_of(c: Comparison, x: str | None = None) -> tuple[str, str | None]:
    """The column on the x axis, and the one that is constant along the curves, if any law needs one.

    Args:
        c: the comparison.
        x: an input of one of the laws; default tokens where they are an input and vary, else the first input
            that varies.

    Raises:
        ValueError: `x` is no input; the sentence lists them.
    """
    spans: dict[str, bool] = {}
    for fit in c.fits.values():
        for symbol, column in fit.points.columns.items():
            spans[column] = bool(np.ptp(fit.points.x[symbol]) > 0)
    if not spans:  # the null model alone takes any scale
        spans = {"tokens": True}
    if x is not None and x not in spans:
        raise ValueError(f"no law here runs along {x!r}; choose one of {', '.join(spans)}")
    most = max(c.fits.values(), key=lambda fit: len(fit.points.columns))
    columns = list(most.points.columns.values())
    chosen = x or min(spans, key=lambda name: (not spans[name], name != "tokens", name not in columns))
    others = [name for name in columns if name != chosen]
    two = [n for n in others if chosen in columns or len(columns) < 2 or _can_solve([chosen, n], columns[0])]
    return chosen, (two[0] if two and len(columns) > 1 else None)


def levels(c: Comparison, x: str | None = None) -> np.ndarray:
    """Different values of the column that is constant along the curves, in order; empty if there is none."""
    by = axes_of(c, x)[1]
    return np.array([]) if by is None else np.unique(_column(c, by))


def placed(c: Comparison, x: str | None = None, at: float | None = None) -> pd.DataFrame:
    """Where `overlay` draws the runs: ``run``, ``x``, ``y``, ``kind`` (fitted, held out), ``near`` (1 near `at`)."""
    x_name, by = axes_of(c, x)
    frame = c.best.points.frame
    own = pd.DataFrame({"run": frame["run"].astype(str), "x": _column(c, x_name), "y": c.best.points.y})
    own["kind"], own["by"] = "fitted", np.nan if by is None else _column(c, by)
    parts = [thin_rows(own, "y")]
    for rows in c.predictions.values():
        columns = {name: rows[name].to_numpy(float) for name in rows if name in _ROLE_OF or name in (x_name, by)}
        found = [_known(columns, name) for name in (x_name, by) if name is not None]
        if all(v is not None for v in found):
            out = pd.DataFrame({"run": rows["run"].astype(str), "x": found[0], "y": rows["measured"]})
            parts.append(out.assign(kind="held out", by=found[1] if by is not None else np.nan))
            break
    out = pd.concat(parts, ignore_index=True)
    at = usual(c, by) if by is not None and at is None else at
    with np.errstate(all="ignore"):
        out["near"] = 1 if by is None else (np.abs(np.log(out["by"] / at)) < _NEAR).astype(int)
    return out[np.isfinite(out["x"]) & (out["x"] > 0)].drop(columns="by").reset_index(drop=True)


def curve_rows(c: Comparison, x: str | None = None, at: float | None = None) -> pd.DataFrame:
    """The curves of `overlay`: ``law``, ``x``, ``y``; plain numpy, for a slider that moves."""
    x_name, by = axes_of(c, x)
    at = usual(c, by) if by is not None and at is None else at
    values = _column(c, x_name)
    grid = np.geomspace(values.min(), _BEYOND * values.max(), _GRID)
    given = {x_name: grid} | ({} if by is None else {by: np.full(grid.shape, float(at))})
    parts = []
    for law, name in zip(c.frame["law"], c.frame["title"], strict=True):
        fit, inputs = c.fits[law], {}
        for symbol, column in fit.points.columns.items():
            known = _known(given, column)
            inputs[symbol] = np.full(grid.shape, float(np.median(fit.points.x[symbol]))) if known is None else known
        with np.errstate(all="ignore"):
            y = np.broadcast_to(fit.law.predict(fit.theta, inputs or {"x": grid}), grid.shape)
        parts.append(pd.DataFrame({"law": name, "x": grid, "y": y}))
    out = pd.concat(parts, ignore_index=True)
    return out[np.isfinite(out["y"])].reset_index(drop=True)


def _known(given: dict[str, np.ndarray], column: str) -> np.ndarray | None:
    if column in given:
        return given[column]
    roles = [name for name in given if name in _ROLE_OF]
    if len(roles) >= 2 and _can_solve(roles[:2], column):
        return _solve({name: given[name] for name in roles[:2]}, column)
    return None


def _column(c: Comparison, name: str) -> np.ndarray:
    for fit in c.fits.values():
        for symbol, column in fit.points.columns.items():
            if column == name:
                return fit.points.x[symbol]
    return c.best.points.frame[name].to_numpy(float)


def usual(c: Comparison, by: str | None) -> float | None:
    """The value of column `by` that most runs have; of several such values the middle one."""
    if by is None:
        return None
    values, counts = np.unique(_column(c, by), return_counts=True)
    best = np.flatnonzero(counts == counts.max())
    return float(values[best[len(best) // 2]])


def _lines(drawn: pd.DataFrame, names: list[str], x: alt.X, y: alt.Y, legend: bool) -> list[alt.Chart]:
    key = alt.Legend(title=None, symbolOpacity=1, symbolSize=160, labelLimit=190) if legend else None
    colour = alt.Color("law:N", scale=alt.Scale(domain=names, range=list(CATEGORIES[: len(names)])), legend=key)
    dashes = alt.Scale(domain=names, range=[list(d) for d in _DASHES[: len(names)]])
    dash = alt.StrokeDash("law:N", scale=dashes, legend=key)
    line = alt.Chart(embed(drawn), **({"name": "lines"} if legend else {})).mark_line(strokeWidth=2.4, clip=True)
    return [line.encode(x, y, colour, dash)]


def _points(runs: pd.DataFrame, x: alt.X, y: alt.Y, c: Comparison, named: bool = False) -> list[alt.Chart]:
    tips = [
        alt.Tooltip("run:N", title="Run"),
        alt.Tooltip("y:Q", title=axis_title(c.best.points.target), format=".4g"),
        alt.Tooltip("kind:N", title="Run was"),
    ]
    # Values and no scales: the colours and dashes of the legend belong to the laws.
    unseen = alt.datum.kind == "held out"
    colour = alt.condition(unseen, alt.value(ACCENT), alt.value(GREY))
    shape = alt.condition(unseen, alt.value("diamond"), alt.value("circle"))
    strong = alt.condition(alt.datum.near == 1, alt.value(0.9), alt.value(0.35))
    size = alt.condition(alt.datum.near == 1, alt.value(58), alt.value(28))
    base = alt.Chart(embed(runs), **({"name": "runs"} if named else {}))
    dots = base.mark_point(filled=True).encode(x, y, color=colour, shape=shape, opacity=strong, size=size, tooltip=tips)
    layers = [dots]
    if runs["marked"].any():
        rings = alt.Chart(embed(runs[runs["marked"] == 1])).mark_point(filled=False, size=130, strokeWidth=2, color=INK)
        layers.append(rings.encode(x, y, tooltip=tips))
    return layers
