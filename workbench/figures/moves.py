"""What moves the conclusion: the share of the spread that each choice explains, and which way its options push."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from workbench.analysis.choices import DIMENSIONS
from workbench.analysis.verses import Multiverse, rounding
from workbench.figures.axes import scaled
from workbench.figures.data import embed
from workbench.figures.style import ACCENT, CATEGORIES, GREY, empty, title
from workbench.units import human

__all__ = ["moves"]

_PALE = "#9ec9e2"
_TEXT, _POINTS, _BARS = 180, 340, 170  # widths of the three parts
_ROW = 19


def moves(m: Multiverse) -> alt.TopLevelMixin:
    """Shares of the spread by choice, and beside them the mean answer under each option.

    Dark: what the choice explains alone; pale: together with others. Shares are of the variance (of
    logarithms where all answers are positive), split exactly as in `Multiverse.moves`.

    Args:
        m: the multiverse.
    """
    counted = m.frame[m.frame["counted"]]
    found = m.moves()
    single = found[(found["order"] == 1) & found["moves"].isin(m.varied)].sort_values("total", ascending=False)
    if not len(counted) or not len(single):
        return empty(f"Nothing moves: {m.question.text}", [m.verdict])
    names = list(single["moves"])
    spread = _means(m, counted, names)
    number = rounding(float(counted["estimate"].min()), float(counted["estimate"].max()))
    height = _ROW * (len(spread) + len(names))
    y = alt.Y(
        "row:Q",
        axis=None,
        scale=alt.Scale(domain=[-0.5, len(spread) + len(names) - 0.5], reverse=True, nice=False, zero=False, padding=0),
    )
    mean = "geometric mean" if m.in_logs else "mean"
    parts = (_labels(spread, names, y, height), _options(m, spread, y, height), _shares(single, spread, y, height))
    return alt.hconcat(*parts, spacing=14).properties(
        title=title(
            f"What moves the answer: {m.question.text}",
            f"{len(counted)} analyses of {len(m.fit.points)} runs, {number(counted['estimate'].min())}–"
            f"{number(counted['estimate'].max())}",
            f"points: {mean} under each option with the middle half of its answers",
            "bars: share of the spread, dark alone, pale with interactions",
            "orange: the default's option; dashed: the default's answer" if m.default["counted"] else "",
        )
    )


def _known(m: Multiverse) -> list[float]:
    return [float(m.default["estimate"])] if m.default["counted"] else []


def _means(m: Multiverse, counted: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Mean answer under every option, with its row in the figure: each dimension's options follow its heading."""
    rows, at = [], 0
    for d in names:
        for k, option in enumerate(m.dimensions[d]):
            values = counted["estimate"][counted[d] == option].to_numpy(float)
            mean, low, high = np.nan, np.nan, np.nan
            if values.size:
                mean = np.exp(np.log(values).mean()) if m.in_logs else values.mean()
                low, high = np.percentile(values, [25, 75])
            rows.append((d, at, at + 1 + k, str(option), float(mean), low, high, values.size, option == m.default[d]))
        at += 1 + len(m.dimensions[d])
    columns = ["dimension", "heading", "row", "option", "mean", "low", "high", "n", "default"]
    return pd.DataFrame(rows, columns=columns)


def _labels(spread: pd.DataFrame, names: list[str], y: alt.Y, height: int) -> alt.LayerChart:
    heads = spread.groupby("dimension", sort=False)["heading"].first()
    said = pd.DataFrame({"row": heads.to_numpy(), "text": [_first_up(DIMENSIONS.get(d, d))[:34] for d in heads.index]})
    own = pd.DataFrame({"row": spread["row"], "text": [o[:30] for o in spread["option"]]})
    left = {"align": "left", "baseline": "middle", "fontSize": 12}
    return alt.layer(
        alt.Chart(embed(said)).mark_text(fontWeight=600, color=GREY, **left).encode(
            y, alt.Text("text:N"), x=alt.value(0)),
        alt.Chart(embed(own)).mark_text(**left).encode(y, alt.Text("text:N"), x=alt.value(14)),
    ).properties(width=_TEXT, height=height)  # fmt: skip


def _options(m: Multiverse, spread: pd.DataFrame, y: alt.Y, height: int) -> alt.LayerChart:
    known = [float(m.default["estimate"])] if m.default["counted"] else []
    values = np.array([*spread["mean"], *spread["low"], *spread["high"], *known], dtype=float)
    values = values[np.isfinite(values)]
    x = scaled(alt.X, "mean", values, _first_up(m.question.text), log=m.in_logs and values.max() / values.min() > 3,
               count=5)  # fmt: skip
    own = spread.drop(columns=["dimension", "heading"]).dropna()
    base = alt.Chart(embed(own.assign(text=[human(v) for v in own["mean"]])))
    hue = alt.condition(alt.datum.default, alt.value(ACCENT), alt.value(CATEGORIES[0]))
    shape = alt.condition(alt.datum.default, alt.value("diamond"), alt.value("circle"))
    tips = [alt.Tooltip("option:N", title="Option"), alt.Tooltip("text:N", title="Mean answer"),
            alt.Tooltip("n:Q", title="Analyses")]  # fmt: skip
    layers = [
        base.mark_rule(strokeWidth=2, opacity=0.6).encode(
            alt.X("low:Q", scale=x["scale"], axis=x["axis"]), alt.X2("high:Q"), y, color=hue),
        base.mark_point(filled=True, size=75, opacity=1).encode(x, y, color=hue, shape=shape, tooltip=tips),
    ]  # fmt: skip
    if known:
        rule = alt.Chart(embed(pd.DataFrame({"mean": known}))).mark_rule(strokeDash=[3, 3], color=GREY)
        layers.insert(0, rule.encode(x))
    return alt.layer(*layers).properties(width=_POINTS, height=height)


def _shares(single: pd.DataFrame, spread: pd.DataFrame, y: alt.Y, height: int) -> alt.LayerChart:
    heads = spread.groupby("dimension", sort=False)["heading"].first()
    by = single.set_index("moves").loc[heads.index]
    top = min(max(1.25 * float(by["total"].max()), 0.05), 1.16)
    bars = pd.concat(
        [
            pd.DataFrame({"row": heads.to_numpy(), "kind": kind, "share": by[column].to_numpy(float)})
            for kind, column in (("with others", "total"), ("alone", "share"))
        ],
        ignore_index=True,
    )
    axis = alt.Axis(format=".0%", title="Share of the spread", values=_ticks(top))
    x = alt.X("share:Q", scale=alt.Scale(domain=[0, top], nice=False), axis=axis, stack=None)
    shades = alt.Color("kind:N", scale=alt.Scale(domain=["with others", "alone"], range=[_PALE, CATEGORIES[0]]),
                       legend=None)  # fmt: skip
    tips = [alt.Tooltip("kind:N", title="Share"), alt.Tooltip("share:Q", format=".1%", title="of the spread")]
    base = alt.Chart(embed(bars))
    total = alt.Chart(embed(bars[bars["kind"] == "with others"]))
    return alt.layer(
        base.mark_bar(size=13, orient="horizontal").encode(x, y, shades, tooltip=tips),
        total.mark_text(align="left", dx=5).encode(x, y, alt.Text("share:Q", format=".0%")),
    ).properties(width=_BARS, height=height)


def _ticks(top: float) -> list[float]:
    step = 0.25 if top > 0.6 else 0.1 if top > 0.25 else 0.05
    return [float(v) for v in np.arange(0, min(top, 1.0) + 1e-9, step).round(2)]


def _first_up(text: str) -> str:
    return text[0].upper() + text[1:]
