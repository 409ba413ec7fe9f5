"""The specification curve: every analysis' answer in order, and beneath it the choices behind each."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from workbench.analysis.choices import DIMENSIONS
from workbench.analysis.verses import Multiverse, rounding
from workbench.figures.axes import scaled
from workbench.figures.data import embed
from workbench.figures.style import ACCENT, CATEGORIES, GREY, INK, WIDTH, empty, title

__all__ = ["multiverse"]

#: Analyses drawn at most; of more, every k-th in the sorted order, with both ends and the default.
MOST = 600
_LEFT = 190  # pixels for the names of options
_ROW = 15


def multiverse(m: Multiverse) -> alt.VConcatChart:
    """Estimates of all analyses that count, sorted, with their intervals, above a matrix of their choices.

    A column is one analysis. Below, a mark in a row says that this analysis takes that option, so an option
    whose marks gather at one side moves the answer; dimensions follow in order of what they explain. The
    default analysis is orange, with its interval as a band. (Specification curve: Simonsohn et al. 2020, doi
    10.1038/s41562-020-0912-z.)

    Args:
        m: the multiverse.
    """
    counted = m.frame[m.frame["counted"]]
    if not len(counted):
        return empty(f"No analysis answers: {m.question.text}", [m.verdict])
    rows = counted.sort_values("estimate", kind="stable").reset_index(drop=True)
    total = len(rows)
    if total > MOST:
        keep = set(np.linspace(0, total - 1, MOST).round().astype(int)) | set(np.flatnonzero(rows["default"]))
        rows = rows.iloc[sorted(keep)].reset_index(drop=True)
    rows["at"] = np.arange(len(rows), dtype=float)
    width = WIDTH + 180 - _LEFT - 40
    x = alt.X("at:Q", scale=alt.Scale(domain=[-1.5, len(rows) + 0.5], nice=False), axis=None)
    moves = m.moves()
    order = [d for d in moves["moves"][moves["order"] == 1] if d in m.varied]
    explained = dict(zip(moves["moves"], moves["total"], strict=True))
    parts = [_curve(m, rows, x, width)]
    parts += [_matrix(m, rows, x, width, d, explained[d]) for d in order]
    s = m.summary()
    number = rounding(s["min"], s["max"])
    left = len(m) - total
    covered = f", which holds {s['inside']:.0%} of all analyses" if np.isfinite(s["inside"]) else ""
    return alt.vconcat(*parts, spacing=6).properties(
        title=title(
            f"{total} analyses of the same runs: {m.question.text}",
            f"median {number(s['median'])}, middle half {number(s['q25'])}–{number(s['q75'])}, all {number(s['min'])}–"
            f"{number(s['max'])}",
            f"orange: default analysis, {number(s['default'])}, and the band its {m.level:.0%} interval{covered}",
            f"grey: {m.level:.0%} intervals from {m.n} resamples" if m.n else "",
            f"{left} analyses left out: {_commonest(m)}" if left else "",
            f"{len(rows)} of {total} drawn" if len(rows) < total else "",
        )
    )


def _commonest(m: Multiverse) -> str:
    """Why most of the analyses that do not count were left out, in three words."""
    notes = m.frame["note"][~m.frame["counted"]]
    unsettled = notes.str.contains("not identified").mean()
    return "parameters not identified" if unsettled > 0.5 else "no converged answer"


def _curve(m: Multiverse, rows: pd.DataFrame, x: alt.X, width: int) -> alt.LayerChart:
    default = m.default
    values = rows[["estimate", "low", "high"]].to_numpy(float)
    centre = rows["estimate"].to_numpy(float)
    # An interval that runs out of the picture would flatten the estimates it belongs to.
    low, high = np.nanmin(centre), np.nanmax(centre)
    reach = (high / low) ** 0.35 if m.in_logs else 0.35 * (high - low)
    edges = (low / reach, high * reach) if m.in_logs else (low - reach, high + reach)
    drawn = np.clip(values, *edges)
    log = m.in_logs and high / low > 3
    band = [v for v in (default["low"], default["high"]) if np.isfinite(v)]
    y = scaled(alt.Y, "estimate", np.append(drawn, np.clip(band, *edges)), _wrapped(m.question.text), log=log, count=6)
    data = rows[["at", "estimate", "default"]].copy()
    data["low"], data["high"] = drawn[:, 1], drawn[:, 2]
    data["text"] = [str(s) for s in _spoken(m, rows)]
    tips = [alt.Tooltip("estimate:Q", format=".4g", title="Answer"), alt.Tooltip("text:N", title="Analysis")]
    layers = []
    if len(band) == 2:
        ends = pd.DataFrame({"low": [max(band[0], edges[0])], "high": [min(band[1], edges[1])]})
        base = alt.Chart(embed(ends))
        layers.append(
            base.mark_rect(color=ACCENT, opacity=0.13).encode(
                alt.Y("low:Q", scale=y["scale"], axis=y["axis"]), alt.Y2("high:Q")
            )
        )
    if m.n:
        layers.append(
            alt.Chart(embed(data.dropna()))
            .mark_rule(color=GREY, opacity=0.35, strokeWidth=1)
            .encode(x, alt.Y("low:Q", scale=y["scale"], axis=y["axis"]), alt.Y2("high:Q"))
        )
    plain, own = data[~data["default"].astype(bool)], data[data["default"].astype(bool)]
    dots = {"filled": True, "opacity": 1}
    layers.append(alt.Chart(embed(plain), name="estimates").mark_point(color=CATEGORIES[0], size=13, **dots).encode(
        x, y, tooltip=tips))  # fmt: skip
    if len(own):
        layers.append(alt.Chart(embed(own), name="default").mark_point(
            color=ACCENT, size=110, shape="diamond", **dots).encode(x, y, tooltip=tips))  # fmt: skip
    return alt.layer(*layers).properties(width=width, height=250)


def _matrix(m: Multiverse, rows: pd.DataFrame, x: alt.X, width: int, dimension: str, total: float) -> alt.LayerChart:
    options = [str(o)[:30] for o in m.dimensions[dimension]]
    data = rows[["at", "default"]].copy()
    data["option"] = [str(o)[:30] for o in rows[dimension]]
    y = alt.Y(
        "option:N",
        sort=options,
        scale=alt.Scale(domain=options, padding=0.1),
        axis=alt.Axis(
            title=None, ticks=False, domain=False, grid=False, labelLimit=_LEFT - 14, labelPadding=8,
            labelFontSize=11, minExtent=_LEFT, maxExtent=_LEFT,
        ),
    )  # fmt: skip
    tick = max(min(width / max(len(rows), 1) * 0.7, 5.0), 0.8)
    plain, own = data[~data["default"].astype(bool)], data[data["default"].astype(bool)]
    layers = [
        alt.Chart(embed(plain)).mark_tick(color=INK, thickness=tick, size=_ROW - 4, opacity=0.75, orient="vertical")
        .encode(x, y)
    ]  # fmt: skip
    if len(own):
        layers.append(
            alt.Chart(embed(own)).mark_point(color=ACCENT, size=48, shape="diamond", filled=True, opacity=1)
            .encode(x, y)
        )  # fmt: skip
    name = DIMENSIONS.get(dimension, dimension)
    head = alt.Title(
        f"{name[0].upper()}{name[1:]}: takes part in {total:.0%} of the spread", fontSize=11, fontWeight=600, offset=3,
        anchor="start", color=GREY, frame="group",
    )  # fmt: skip
    return alt.layer(*layers).properties(width=width, height=_ROW * len(options), title=head)


def _spoken(m: Multiverse, rows: pd.DataFrame) -> list[str]:
    columns = [d for d in m.dimensions if d in m.varied]
    return [", ".join(str(v) for v in r) for r in rows[columns].itertuples(index=False, name=None)]


def _wrapped(text: str) -> list[str]:
    """An axis title on two lines where it would be longer than the axis."""
    text = text[0].upper() + text[1:]
    if len(text) <= 34:
        return [text]
    cut = text.rfind(" ", 0, 36)
    return [text[:cut], text[cut + 1 :]] if cut > 0 else [text]
