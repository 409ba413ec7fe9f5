"""Several groups of runs, each with its own fit of one law, in one picture: curves, crossing, and shift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import numpy as np
import pandas as pd

from workbench.analysis.along import Curve, curve
from workbench.analysis.crossover import Crossover
from workbench.analysis.shift import ShiftAt
from workbench.figures.axes import scaled
from workbench.figures.data import embed, thin_rows
from workbench.figures.lines import lines
from workbench.figures.style import CATEGORIES, GREY, HEIGHT, INK, WIDTH, empty, shapes, spoken, title
from workbench.fits.result import Fit
from workbench.units import axis_title, human

__all__ = ["MOST_GROUPS", "placed", "recipes", "shift_rows"]

#: Groups that colours and shapes can tell apart.
MOST_GROUPS = 7
_DASHES = ([1, 0], [7, 4], [2, 3], [9, 3, 2, 3], [4, 2], [12, 4], [1, 2])
_GRID = 60


def recipes(
    fits: Mapping[str, Fit],
    cross: Crossover | None = None,
    shift: ShiftAt | None = None,
    *,
    along: str | None = None,
    held: Mapping[str, float] | None = None,
    level: float = 0.95,
    n: int = 400,
    facets: bool = False,
    left_out: int = 0,
    marked: Sequence[str] = (),
) -> alt.TopLevelMixin:
    """Every group's runs, curve and band along one scale.

    Args:
        fits: group -> its fit, all of one law.
        cross: of two of the groups; its crossing is drawn as a rule and its interval as a strip.
        shift: the multiplier of two groups at one value; drawn as an arrow between the two curves there.
        along, held: the scale, as in `workbench.crossover`.
        level: nominal coverage of the bands.
        n: bootstrap resamples of the bands; 0 for none.
        facets: one panel a group instead of one for all, with the other groups' curves in grey; no arrow.
        left_out: runs taken out by hand, for the subtitle.
        marked: ids of runs to ring.

    Raises:
        ValueError: no fits, or a law that is no curve along the scale.
    """
    if not fits:
        raise ValueError("no fits to draw; give at least one group")
    if len(fits) > MOST_GROUPS:
        return empty("Too many groups", f"{len(fits)} groups cannot be told apart; choose at most {MOST_GROUPS}.")
    curves = {g: curve(f, along, held, g) for g, f in fits.items()}
    first = next(iter(curves.values()))
    spans = np.array([c.span for c in curves.values()])
    reach = [spans[:, 0].min(), 3 * spans[:, 1].max()]
    if cross is not None:
        places = [v for v in (cross.at, cross.low, cross.high) if np.isfinite(v) and v > 0]
        reach[1] = max([reach[1], *(min(1.5 * v, cross.between[1]) for v in places)])
    grid = np.geomspace(*reach, _GRID)
    drawn = pd.concat([_line(c, grid, level, n) for c in curves.values()], ignore_index=True)
    runs = pd.concat([thin_rows(part, "y", 600) for part in _placed(fits, curves)], ignore_index=True)
    runs["marked"] = runs["run"].isin(set(marked)).astype(int)
    target = axis_title(first.target)
    seen = pd.concat([drawn["y"], drawn["low"], drawn["high"], runs["y"]]).dropna()
    x = scaled(alt.X, "x", grid, axis_title(first.along), pad=0.0, count=6 if not facets else 4)
    y = scaled(alt.Y, "y", seen, target, log=bool((seen > 0).all()))
    names = list(curves)
    strip = _crossing(cross, x) + _shift(shift, x, y)
    total = sum(f.n_runs for f in fits.values())
    heads = title(
        f"{first.law.title} in {len(fits)} groups: {spoken(first.target)} against {spoken(first.along)}",
        f"{total} runs: " + ", ".join(f"{g[:24]} {f.n_runs}" for g, f in fits.items()),
        f"{left_out} left out" if left_out else "",
        f"bands: {level:.0%} intervals of the curves, {n} resamples" if n else "no bands",
        "curves where the budget is spent best, runs lie above" if first.frontier else "",
        "curves at " + ", ".join(f"{c} = {human(v)}" for c, v in held.items()) if held else "",
        "vertical rule: crossing, grey its interval" if cross is not None and np.isfinite(cross.at) else "",
        "level line: the chosen value" if shift is not None and not facets else "",
        f"{int(runs['marked'].sum())} marked (ringed)" if runs["marked"].any() else "",
    )
    if not facets:
        layers = [*strip, *_layers(drawn, runs, names, x, y, target)]
        return alt.layer(*layers).properties(width=WIDTH - 40, height=HEIGHT - 60, title=heads)
    columns = min(len(names), 3)
    width = (WIDTH + 60 - 60 * columns) // columns
    panels = []
    for g in names:
        rest = alt.Chart(embed(drawn[drawn["group"] != g])).mark_line(color=GREY, opacity=0.35, clip=True)
        own = _layers(drawn[drawn["group"] == g], runs[runs["group"] == g], names, x, y, target, legend=False)
        head = alt.Title(g[:36], fontSize=13, anchor="start", offset=4)
        stack = alt.layer(*_crossing(cross, x), rest.encode(x, y, alt.Detail("group:N")), *own)
        panels.append(stack.properties(width=width, height=200, title=head))
    return alt.concat(*panels, columns=columns, spacing=16).properties(title=heads)


def shift_rows(shift: ShiftAt | None) -> dict[str, pd.DataFrame]:
    """Rows of the views ``level`` and ``arrow``, for a figure that is already on the screen."""
    nothing = pd.DataFrame({"y": [], "x": [], "x2": [], "text": []})
    if shift is None:
        return {"level": nothing[["y"]], "arrow": nothing}
    level = pd.DataFrame({"y": [shift.value]})
    if not (np.isfinite(shift.a) and np.isfinite(shift.b)):
        return {"level": level, "arrow": nothing}
    text = f"× {shift.multiplier:.3g} ({shift.low:.3g} to {shift.high:.3g})".replace("e+", "e").replace("inf", "∞")
    return {
        "level": level,
        "arrow": pd.DataFrame({"y": [shift.value], "x": [shift.a], "x2": [shift.b], "text": [text]}),
    }


def _line(c: Curve, grid: np.ndarray, level: float, n: int) -> pd.DataFrame:
    y = c.values(c.theta[None], grid)[0]
    low = high = np.full(grid.shape, np.nan)
    if n and c.fit is not None and c.fit.degrees >= 1:
        tail = 50 * (1 - level)
        with np.errstate(all="ignore"):
            low, high = np.nanpercentile(c.values(c.draws(n, 1), grid), [tail, 100 - tail], axis=0)
    return pd.DataFrame({"group": c.label, "x": grid, "y": y, "low": low, "high": high}).dropna(subset="y")


def placed(fits: Mapping[str, Fit], along: str | None = None, held: Mapping[str, float] | None = None) -> pd.DataFrame:
    """Where `recipes` draws the runs: ``run``, ``x``, ``y``, ``group``."""
    curves = {g: curve(f, along, held, g) for g, f in fits.items()}
    return pd.concat(_placed(fits, curves), ignore_index=True)


def _placed(fits: Mapping[str, Fit], curves: Mapping[str, Curve]) -> list[pd.DataFrame]:
    parts = []
    for g, c in curves.items():
        p = fits[g].points
        columns = {column: p.x[s] for s, column in p.columns.items()}
        x = columns[c.along] if c.along in columns else lines(fits[g], c.along).x_of(columns)
        parts.append(pd.DataFrame({"run": p.frame["run"].astype(str), "x": x, "y": p.y, "group": g}))
    return parts


def _layers(
    drawn: pd.DataFrame, runs: pd.DataFrame, names: list[str], x: alt.X, y: alt.Y, target: str, legend: bool = True
) -> list[alt.Chart]:
    colours, dashes = list(CATEGORIES[: len(names)]), [list(d) for d in _DASHES[: len(names)]]
    key = alt.Legend(title=None, symbolOpacity=1, labelLimit=160) if legend else None
    colour = alt.Color("group:N", scale=alt.Scale(domain=names, range=colours), legend=key)
    shape = alt.Shape("group:N", scale=alt.Scale(domain=names, range=shapes(len(names))), legend=key)
    dash = alt.StrokeDash("group:N", scale=alt.Scale(domain=names, range=dashes), legend=None)
    low = alt.Y("low:Q", scale=y["scale"], axis=y["axis"])
    layers = []
    if drawn["low"].notna().any():
        band = alt.Chart(embed(drawn.dropna())).mark_area(opacity=0.15, clip=True)
        layers.append(band.encode(x, low, alt.Y2("high:Q"), colour))
    line = alt.Chart(embed(drawn[["group", "x", "y"]])).mark_line(strokeWidth=2.2, clip=True)
    layers.append(line.encode(x, y, colour, dash))
    tips = [
        alt.Tooltip("run:N", title="Run"),
        alt.Tooltip("group:N", title="Group"),
        alt.Tooltip("y:Q", title=target, format=".4g"),
    ]
    dots = alt.Chart(embed(runs), **({"name": "runs"} if legend else {})).mark_point(filled=True, size=48, opacity=0.9)
    layers.append(dots.encode(x, y, colour, shape, tooltip=tips))
    if runs["marked"].any():
        rings = alt.Chart(embed(runs[runs["marked"] == 1])).mark_point(filled=False, size=130, strokeWidth=2, color=INK)
        layers.append(rings.encode(x, y, tooltip=tips))
    return layers


def _crossing(c: Crossover | None, x: alt.X) -> list[alt.Chart]:
    if c is None or not np.isfinite(c.at):
        return []
    low, high = np.clip([c.low, c.high], *c.between)
    layers = []
    if np.isfinite([low, high]).all() and high > low:
        strip = alt.Chart(embed(pd.DataFrame({"x": [low], "x2": [high]})))
        layers.append(strip.mark_rect(color=GREY, opacity=0.16, clip=True).encode(x, alt.X2("x2:Q")))
    rule = alt.Chart(embed(pd.DataFrame({"x": [c.at]}))).mark_rule(color=INK, strokeWidth=1.3, clip=True)
    return [*layers, rule.encode(x)]


def _shift(shift: ShiftAt | None, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    if shift is None:
        return []
    rows = shift_rows(shift)
    level = alt.Chart(embed(rows["level"]), name="level").mark_rule(color=GREY, strokeDash=[4, 3], clip=True)
    arrow, words = alt.Chart(embed(rows["arrow"]), name="arrow"), alt.Chart(embed(rows["arrow"]))
    return [
        level.encode(y),
        arrow.mark_rule(color=INK, strokeWidth=3, clip=True).encode(x, alt.X2("x2:Q"), y),
        words.mark_text(dy=-9, align="left", fontWeight=600, clip=True).encode(x, y, alt.Text("text:N")),
    ]
