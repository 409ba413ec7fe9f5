"""Where loss curves end: measured and predicted last losses, and the last loss against the share of the decay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import numpy as np
import pandas as pd

from workbench.analysis.schedule_fit import KINDS, RESAMPLES, CurveFit
from workbench.figures.axes import scaled
from workbench.figures.data import embed
from workbench.figures.style import CATEGORIES, INK, WIDTH, empty, shapes, title
from workbench.laws.schedules.schedule import Schedule
from workbench.units import axis_title

__all__ = ["decay_shares", "ends"]

_ROW, _HEIGHT = 40, 430
#: Shares of the decay at which a line is computed.
_SHARES = (0.02, 0.04, 0.06, 0.08, *np.round(np.arange(0.1, 1.01, 0.05), 2))
MEASURED = "measured"
_LEGEND = alt.Legend(title="Last loss", symbolOpacity=1)


def ends(
    fits: Mapping[str, CurveFit],
    names: Sequence[str] | None = None,
    *,
    level: float = 0.95,
    kind: str = "curve",
    n: int = RESAMPLES,
) -> alt.Chart | alt.LayerChart:
    """The last logged loss of each curve and what each fit predicts for it, lowest curve on top.

    Args:
        fits: label -> a fit; the curves are those of the first.
        names: which of its curves; default those that no fit was given.
        level: nominal coverage of the interval.
        kind: what the interval holds, as in `CurveFit.predict`.
        n: bootstrap resamples behind it; 0 draws none.

    Raises:
        ValueError: a name that is no curve of every fit.
    """
    if not fits:
        return empty("No fit to draw", "Give at least one fit with a label.")
    first = next(iter(fits.values()))
    if names is None:
        names = [name for name in first.curves if not any(name in f.train for f in fits.values())]
    measured, rows = [], []
    for name in names:
        for label, result in fits.items():
            if name not in result.curves:
                raise ValueError(f"there is no curve {name!r} in {label!r}; there are {', '.join(result.curves)}")
            last = [result.curves[name]["step"].iloc[-1]]
            at = result.predict(name, last, level=level, kind=kind, n=n).iloc[0]
            rows.append({"name": name, "by": label, "x": at["prediction"], "low": at["low"], "high": at["high"]})
        measured.append({"name": name, "by": MEASURED, "x": float(first.curves[name]["loss"].iloc[-1])})
    if not rows:
        return empty("No curve to draw", "Every curve was fitted; name the curves to draw.")
    truth, drawn = pd.DataFrame(measured).sort_values("x", kind="stable"), pd.DataFrame(rows)
    span = np.r_[truth["x"], drawn[["x", "low", "high"]].to_numpy(float).ravel()]
    order, labels = list(truth["name"]), [*fits, MEASURED]
    x = scaled(alt.X, "x", span, f"{axis_title('loss')} at the last step", log=False)
    y = alt.Y("name:N", sort=order, axis=alt.Axis(title=None, ticks=False, domain=False, grid=True))
    offset = alt.YOffset("by:N", sort=labels, scale=alt.Scale(domain=labels, paddingOuter=0.5))
    colours = [*CATEGORIES[: len(fits)], INK]
    colour = alt.Color("by:N", scale=alt.Scale(domain=labels, range=colours), legend=_LEGEND)
    shape = alt.Shape(
        "by:N",
        scale=alt.Scale(domain=labels, range=[*shapes(len(fits) + 1)[: len(fits)], "diamond"]),
        legend=_LEGEND,
    )
    tips = [
        alt.Tooltip("name:N", title="Schedule"),
        alt.Tooltip("by:N", title="From"),
        alt.Tooltip("x:Q", title="Last loss", format=".4f"),
    ]
    layers = []
    barred = bool(drawn["low"].notna().any())
    if barred:
        low = alt.X("low:Q", scale=x["scale"], axis=x["axis"])
        bars = alt.Chart(embed(drawn)).mark_rule(strokeWidth=1.6, opacity=0.7)
        layers.append(bars.encode(low, alt.X2("high:Q"), y, offset, colour))
    dots = pd.concat([drawn[["name", "by", "x"]], truth], ignore_index=True)
    points = alt.Chart(embed(dots), name="ends").mark_point(filled=True, size=60, opacity=1)
    layers.append(points.encode(x, y, offset, colour, shape, tooltip=tips))
    return alt.layer(*layers).properties(
        width=WIDTH,
        height=_ROW * len(order) + 130,
        title=title(
            "Loss at the end of the run: measured and predicted",
            "lowest on top",
            f"bars: {level:.0%} interval {KINDS[kind]}" if barred else "",
            *_sources(fits),
        ),
    )


def _sources(fits: Mapping[str, CurveFit]) -> list[str]:
    """On which curves each fit was made, said once for fits that share them."""
    by: dict[tuple[str, ...], list[str]] = {}
    for label, result in fits.items():
        by.setdefault(result.train, []).append(label)
    if len(by) == 1:
        return [f"fitted on {', '.join(next(iter(by)))}"]
    return [f"{', '.join(labels)}: fitted on {', '.join(train)}" for train, labels in by.items()]


def decay_shares(
    fits: Mapping[str, CurveFit],
    steps: int,
    trained: pd.DataFrame,
    *,
    peak: float | None = None,
    end: float = 0.0,
    warmup: int | None = None,
    shape: str = "linear",
    level: float = 0.95,
    kind: str = "curve",
    n: int = RESAMPLES,
) -> alt.LayerChart:
    """The predicted last loss of warm-up, stable, decay schedules against the share of the decay, and runs.

    Args:
        fits: label -> a fit.
        steps: length of the schedules.
        trained: ``share`` of the steps after the warm-up and last ``loss`` of runs that were trained.
        peak, end: first and last rate of the decay; the peak is by default that of the fitted schedules.
        warmup: steps of the warm-up; default that of the first fitted schedule.
        shape: of the decay, one of `DECAYS`.
        level: nominal coverage of the band.
        kind: what the band holds, as in `CurveFit.predict`.
        n: bootstrap resamples behind it; 0 draws none.

    Raises:
        ValueError: an unknown shape, or no fit.
    """
    if not fits:
        raise ValueError("there is no fit to draw; give at least one with a label")
    parts = []
    for label, result in fits.items():
        fitted = [result.schedules[name] for name in result.train]
        top = max(s.peak for s in fitted) if peak is None else peak
        rise = fitted[0].warmup if warmup is None else warmup
        for share in _SHARES:
            length = max(round(share * (steps - rise)), 1)
            schedule = Schedule.wsd(steps, top, length, end, shape=shape, warmup=rise)
            at = result.predict(schedule, [steps], level=level, kind=kind, n=n).iloc[0]
            values = {"x": float(share), "y": at["prediction"], "low": at["low"], "high": at["high"]}
            parts.append({"by": label, **values})
    line = pd.DataFrame(parts)
    runs = pd.DataFrame({"x": trained["share"].to_numpy(float), "y": trained["loss"].to_numpy(float), "by": MEASURED})
    banded = bool(line["low"].notna().any())
    labels = [*fits, MEASURED]
    x = scaled(alt.X, "x", [0.0, 1.0], "Share of the steps after the warm-up that the decay takes", log=False)
    y = scaled(alt.Y, "y", np.r_[line["y"], runs["y"]], f"{axis_title('loss')} at the last step", log=False, pad=0.08)
    domain = alt.Scale(domain=labels, range=[*CATEGORIES[: len(fits)], INK])
    colour = alt.Color("by:N", scale=domain, legend=_LEGEND)
    tips = [
        alt.Tooltip("by:N", title="From"),
        alt.Tooltip("x:Q", title="Share", format=".0%"),
        alt.Tooltip("y:Q", title="Last loss", format=".4f"),
    ]
    layers = []
    if banded:
        low = alt.Y("low:Q", scale=y["scale"], axis=y["axis"])
        band = alt.Chart(embed(line)).mark_area(opacity=0.15, clip=True)
        layers.append(band.encode(x, low, alt.Y2("high:Q"), colour))
    plain = line[["x", "y", "by"]]
    layers.append(alt.Chart(embed(plain), name="shares").mark_line(strokeWidth=1.8).encode(x, y, colour, tooltip=tips))
    best = plain.loc[plain.groupby("by", sort=False)["y"].idxmin()]
    layers.append(alt.Chart(embed(best), name="best").mark_point(filled=True, size=90, opacity=1).encode(x, y, colour))
    diamonds = alt.Chart(embed(runs), name="trained").mark_point(filled=True, shape="diamond", size=55, opacity=0.9)
    layers.append(diamonds.encode(x, y, colour, tooltip=tips))
    return alt.layer(*layers).properties(
        width=WIDTH,
        height=_HEIGHT,
        title=title(
            f"How long to decay: last loss after {steps:,} steps",
            f"{shape} decay to {end:g}",
            "lines and their lowest points: predicted; diamonds: trained runs",
            f"band: {level:.0%} interval {KINDS[kind]}; it may leave the frame" if banded else "",
        ),
    )
