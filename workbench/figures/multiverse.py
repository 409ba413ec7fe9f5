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

__all__ = ["frames", "multiverse", "reach"]

#: Analyses drawn at most; of more, every k-th in the sorted order, with both ends and the default.
MOST = 600
_LEFT = 190  # pixels for the names of options
_ROW = 15


def multiverse(m: Multiverse, between: tuple[float, float] | None = None) -> alt.VConcatChart:
    """Estimates of all analyses that count, sorted, with their intervals, above a matrix of their choices.

    A column is one analysis. Below, a mark in a row says that this analysis takes that option, so an option
    whose marks gather at one side moves the answer; dimensions follow in order of what they explain. The
    default analysis is orange, with its interval as a band. (Specification curve: Simonsohn et al. 2020, doi
    10.1038/s41562-020-0912-z.)

    Args:
        m: the multiverse.
        between: a stretch of the sorted analyses to shade, in percent of them.
    """
    counted = m.frame[m.frame["counted"]]
    if not len(counted):
        return empty(f"No analysis answers: {m.question.text}", [m.verdict])
    total, rows = len(counted), _sorted(m)
    held = frames(m, between)
    width = WIDTH + 180 - _LEFT - 40
    x = alt.X("at:Q", scale=alt.Scale(domain=[-1.5, len(rows) + 0.5], nice=False), axis=None)
    moves = m.moves()
    order = [d for d in moves["moves"][moves["order"] == 1] if d in m.varied]
    explained = dict(zip(moves["moves"], moves["total"], strict=True))
    parts = [_curve(m, held, x, width)]
    parts += [_matrix(m, held, x, width, d, explained[d]) for d in order]
    s = m.summary()
    number = rounding(s["min"], s["max"])
    left = len(m) - total
    covered = f", which holds {s['inside']:.0%} of all analyses" if np.isfinite(s["inside"]) else ""
    band = f", and the band its {m.level:.0%} interval{covered}" if np.isfinite(s["default_low"]) else ""
    return alt.vconcat(*parts, spacing=6).properties(
        title=title(
            f"{total} analyses of the same runs: {m.question.text}",
            f"median {number(s['median'])}, middle half {number(s['q25'])}–{number(s['q75'])}, all {number(s['min'])}–"
            f"{number(s['max'])}",
            f"orange: default analysis, {number(s['default'])}" + band
            if m.default["counted"]
            else "the default analysis does not count",
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


def frames(
    m: Multiverse, between: tuple[float, float] | None = None, edges: tuple[float, float] | None = None
) -> dict[str, pd.DataFrame]:
    """The rows of each named view of `multiverse`, for a figure that is already on the screen.

    Args:
        m: the multiverse; at least one analysis counts.
        between: as in `multiverse`.
        edges: smallest and largest answer that the axis shows, default those of `reach`.
    """
    rows = _sorted(m)
    edges = edges or reach(m)
    drawn = np.clip(rows[["estimate", "low", "high"]].to_numpy(float), *edges)
    data = pd.DataFrame({"at": rows["at"], "estimate": drawn[:, 0], "answer": rows["estimate"]})
    data["text"], own = _spoken(m, rows), rows["default"].to_numpy(bool)
    out = {"estimates": data[~own], "default": data[own]}
    whiskers = pd.DataFrame({"at": rows["at"], "low": drawn[:, 1], "high": drawn[:, 2]}).dropna()
    out["whiskers"] = whiskers if m.n else whiskers.iloc[:0]
    ends = m.default[["low", "high"]].to_numpy(float)
    ends = np.clip(ends, *edges) if np.isfinite(ends).all() and m.default["counted"] else np.full(2, edges[0])
    out["band"] = pd.DataFrame({"low": [ends[0]], "high": [ends[1]]})
    stretch = [-1.0, -1.0] if not between else [v / 100 * len(rows) - 0.5 for v in between]
    out["shaded"] = pd.DataFrame({"from": [stretch[0]], "to": [stretch[1]]})
    for d in m.varied:
        chosen = pd.DataFrame({"at": rows["at"], "option": [str(o)[:30] for o in rows[d]]})
        out[f"options {d}"], out[f"default {d}"] = chosen[~own], chosen[own]
    return out


def reach(m: Multiverse) -> tuple[float, float]:
    """Smallest and largest answer drawn: an interval that runs far out would flatten the estimates."""
    centre = m.estimates
    low, high = float(np.nanmin(centre)), float(np.nanmax(centre))
    if m.in_logs:
        return low / (high / low) ** 0.35, high * (high / low) ** 0.35
    return low - 0.35 * (high - low), high + 0.35 * (high - low)


def _sorted(m: Multiverse) -> pd.DataFrame:
    """The analyses that count in the order of their answers, at most `MOST`, with their place ``at``."""
    rows = m.frame[m.frame["counted"]].sort_values("estimate", kind="stable").reset_index(drop=True)
    if len(rows) > MOST:
        spread = np.linspace(0, len(rows) - 1, MOST).round().astype(int)
        rows = rows.iloc[sorted(set(spread) | set(np.flatnonzero(rows["default"])))].reset_index(drop=True)
    return rows.assign(at=np.arange(len(rows), dtype=float))


def _curve(m: Multiverse, held: dict[str, pd.DataFrame], x: alt.X, width: int) -> alt.LayerChart:
    low, high = float(m.estimates.min()), float(m.estimates.max())
    log = m.in_logs and high / low > 3
    seen = [held[name][c] for name, c in (("estimates", "estimate"), ("default", "estimate"), ("whiskers", "low"),
                                          ("whiskers", "high"), ("band", "low"), ("band", "high"))]  # fmt: skip
    seen = seen if held["band"].iloc[0].nunique() > 1 else seen[:4]
    y = scaled(alt.Y, "estimate", pd.concat(seen), _wrapped(m.question.text), log=log, count=6)
    tips = [alt.Tooltip("answer:Q", format=".4g", title="Answer"), alt.Tooltip("text:N", title="Analysis")]
    from_low = alt.Y("low:Q", scale=y["scale"], axis=y["axis"])
    dots = {"filled": True, "opacity": 1, "clip": True}

    def view(name: str) -> alt.Chart:
        return alt.Chart(embed(held[name]), name=name)

    layers = [
        view("shaded").mark_rect(color=GREY, opacity=0.16, clip=True).encode(
            alt.X("from:Q", scale=x["scale"], axis=None), alt.X2("to:Q")),
        view("band").mark_rect(color=ACCENT, opacity=0.13, clip=True).encode(from_low, alt.Y2("high:Q")),
        view("whiskers").mark_rule(color=GREY, opacity=0.35, strokeWidth=1, clip=True).encode(
            x, from_low, alt.Y2("high:Q")),
        view("estimates").mark_point(color=CATEGORIES[0], size=13, **dots).encode(x, y, tooltip=tips),
        view("default").mark_point(color=ACCENT, size=110, shape="diamond", **dots).encode(x, y, tooltip=tips),
    ]  # fmt: skip
    return alt.layer(*layers).properties(width=width, height=250)


def _matrix(
    m: Multiverse, held: dict[str, pd.DataFrame], x: alt.X, width: int, dimension: str, total: float
) -> alt.LayerChart:
    options = [str(o)[:30] for o in m.dimensions[dimension]]
    y = alt.Y(
        "option:N",
        sort=options,
        scale=alt.Scale(domain=options, padding=0.1),
        axis=alt.Axis(
            title=None, ticks=False, domain=False, grid=False, labelLimit=_LEFT - 14, labelPadding=8,
            labelFontSize=11, minExtent=_LEFT, maxExtent=_LEFT,
        ),
    )  # fmt: skip
    plain, own = f"options {dimension}", f"default {dimension}"
    tick = max(min(width / max(len(held[plain]) + 1, 1) * 0.7, 5.0), 0.8)
    layers = [
        alt.Chart(embed(held[plain]), name=plain)
        .mark_tick(color=INK, thickness=tick, size=_ROW - 4, opacity=0.75, orient="vertical").encode(x, y),
        alt.Chart(embed(held[own]), name=own)
        .mark_point(color=ACCENT, size=48, shape="diamond", filled=True, opacity=1).encode(x, y),
    ]  # fmt: skip
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
