"""Loss curves under learning-rate schedules: what was logged, what a fitted law predicts, and the rate below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import numpy as np
import pandas as pd

from workbench.analysis.schedule_fit import KINDS, RESAMPLES, CurveFit
from workbench.figures.axes import scaled
from workbench.figures.data import embed, thin
from workbench.figures.groups import Groups, group
from workbench.figures.style import WIDTH, empty, title
from workbench.laws.schedules.schedule import Schedule
from workbench.units import axis_title

__all__ = ["curves", "logged"]

#: Places of one predicted line, logged points of one curve, and points of one line of the rate.
_GRID, _LOGGED, _RATE = 160, 120, 240
_HEIGHT, _SMALL = 330, 110
#: What is above the loss at this fraction of the longest schedule is not drawn.
_EARLY = 15
#: A change of the rate from one step to the next by this share of the peak is a jump.
_JUMP = 0.05
_KINDS = ("fitted", "predicted")
_DASHES = ([1, 0], [6, 3])


def curves(
    result: CurveFit,
    names: Sequence[str] | None = None,
    *,
    schedules: Sequence[Schedule] = (),
    level: float = 0.95,
    kind: str = "curve",
    n: int = RESAMPLES,
) -> alt.Chart | alt.VConcatChart:
    """Logged losses as points, the law as lines with bands, and the learning rates in a panel beneath.

    Lines of fitted curves are solid, those of curves and schedules the fit has not seen dashed.

    Args:
        result: from `workbench.analysis.schedule_curves.fit_curves`.
        names: which of its curves; default all.
        schedules: further schedules to predict, without a log.
        level: nominal coverage of the band.
        kind: what the band holds, as in `CurveFit.predict`.
        n: bootstrap resamples behind it; 0 draws no band.

    Raises:
        ValueError: a name that is no curve of `result`, or that a further schedule repeats.
    """
    names = list(result.curves) if names is None else list(names)
    for name in names:
        if name not in result.curves:
            raise ValueError(f"there is no curve {name!r} to draw; there are {', '.join(result.curves)}")
    labels = [*names, *(s.name for s in schedules)]
    if len(set(labels)) < len(labels):
        raise ValueError("two curves to draw have the same name; give each schedule a name of its own")
    if not labels:
        return empty("No curve to draw", "Name at least one curve or schedule.")
    groups = group(pd.Series(labels))
    lines, logged, rates = [], [], []
    for label, colour, schedule in zip(
        labels, groups.of, [*(result.schedules[m] for m in names), *schedules], strict=True
    ):
        known = result.curves[label] if label in names else None
        line_is = _KINDS[0] if label in result.train and known is not None else _KINDS[1]
        first = max(1, schedule.warmup) if known is None else known["step"].iloc[0]
        last = schedule.steps if known is None else known["step"].iloc[-1]
        steps = _places(schedule, first, last)
        drawn = result.predict(schedule, steps, level=level, kind=kind, n=n)
        words = {"name": label, "group": colour, "kind": line_is}
        lines.append(drawn.rename(columns={"step": "x", "prediction": "y"}).drop(columns="lr").assign(**words))
        if known is not None:
            logged.append(_dots(known, words))
        rates.append(_steps(schedule, words))
    line, rate = pd.concat(lines, ignore_index=True), pd.concat(rates, ignore_index=True)
    points = pd.concat(logged, ignore_index=True) if logged else line.iloc[:0]
    top = _top(pd.concat([line, points]), rate)
    hidden = bool(max(line["y"].max(), points["y"].max()) > top)
    line, points = line[line["y"] <= top], points[points["y"] <= top]
    above, below = _loss(line, points, rate, groups), _rates(rate, groups)
    fitted, asked = sum(m in result.train for m in names), len(labels)
    thinned = any(_many(result.curves[m]) for m in names)
    out = sum(result.left_out[m] for m in names)
    return alt.vconcat(above, below, spacing=12).properties(
        title=title(
            f"{result.fit.law.title}: loss under {asked} schedule{'s' if asked != 1 else ''}",
            f"{fitted} fitted (solid), {asked - fitted} predicted (dashed); dots are logged losses",
            f"at most {_LOGGED} dots a curve, minima and maxima kept" if thinned else "",
            f"losses above {top:.3g}, early in training, are not drawn" if hidden else "",
            f"{out} logged rows left out" if out else "",
            f"band: {level:.0%} interval {KINDS[kind]}" if line["low"].notna().any() else "",
        )
    )


def logged(curves: Mapping[str, pd.DataFrame], schedules: Mapping[str, Schedule]) -> alt.Chart | alt.VConcatChart:
    """Loss curves as logged, without a law, and the learning rates in a panel beneath.

    Args:
        curves: name -> frame with ``step`` and ``loss``, both finite.
        schedules: name -> schedule of every curve; one without a curve shows its rate only.

    Raises:
        ValueError: a curve whose schedule is not given.
    """
    for name in curves:
        if name not in schedules:
            raise ValueError(f"curve {name!r} has no schedule; there are {', '.join(schedules) or 'none'}")
    if not curves:
        return empty("No curve to draw", "Give at least one curve.")
    groups = group(pd.Series(list(schedules)))
    words = {n: {"name": n, "group": g, "kind": _KINDS[0]} for n, g in zip(schedules, groups.of, strict=True)}
    points = pd.concat([_dots(curve, words[name]) for name, curve in curves.items()], ignore_index=True)
    rate = pd.concat([_steps(s, words[name]) for name, s in schedules.items()], ignore_index=True)
    top = _top(points, rate)
    shown = points[points["y"] <= top]
    above, below = _loss(shown.assign(low=np.nan), shown, rate, groups), _rates(rate, groups)
    only = [name for name in schedules if name not in curves]
    return alt.vconcat(above, below, spacing=12).properties(
        title=title(
            f"Loss under {len(curves)} schedule{'s' if len(curves) != 1 else ''}",
            "dots are logged losses",
            f"at most {_LOGGED} a curve, minima and maxima kept" if any(map(_many, curves.values())) else "",
            f"losses above {top:.3g}, early in training, are not drawn" if len(shown) < len(points) else "",
            f"of {', '.join(only)} only the rate" if only else "",
        )
    )


def _places(schedule: Schedule, first: float, last: float) -> np.ndarray:
    """Steps of a predicted line: closer together early on and behind a jump of the rate."""
    rates = schedule.rates
    jumps = np.flatnonzero(np.abs(np.diff(rates)) > _JUMP * schedule.peak) + 1.0
    behind = (jumps[:, None] + last * np.array([0.0, 0.0005, 0.002, 0.005])).ravel()
    half = _GRID // 2
    steps = np.r_[np.geomspace(first, last, half), np.linspace(first, last, half), behind]
    return np.unique(np.clip(np.round(steps), first, last))


def _many(curve: pd.DataFrame) -> bool:
    return len(curve) > _LOGGED


def _dots(curve: pd.DataFrame, words: dict[str, str]) -> pd.DataFrame:
    keep = thin(curve["loss"].to_numpy(float), _LOGGED)
    return pd.DataFrame({"x": curve["step"].iloc[keep], "y": curve["loss"].iloc[keep]}).assign(**words)


def _steps(schedule: Schedule, words: dict[str, str]) -> pd.DataFrame:
    rate = schedule.frame()
    keep = thin(rate["lr"].to_numpy(float), _RATE)
    return pd.DataFrame({"x": rate["step"].iloc[keep], "y": rate["lr"].iloc[keep]}).assign(**words)


def _top(losses: pd.DataFrame, rate: pd.DataFrame) -> float:
    """The loss above which nothing is drawn: the first steep fall would take half the height."""
    return float(losses["y"][losses["x"] >= rate["x"].max() / _EARLY].max())


def _loss(line: pd.DataFrame, points: pd.DataFrame, rate: pd.DataFrame, groups: Groups) -> alt.LayerChart:
    colour, dash = groups.colour("Schedule"), _dash(line["kind"])
    # Both panels share the steps of the longest schedule, so that a fall of the rate stands below its effect.
    x = scaled(alt.X, "x", rate["x"], None, log=False, pad=0.01)
    y = scaled(alt.Y, "y", pd.concat([line["y"], points["y"]]), axis_title("loss"), log=False)
    tips = [
        alt.Tooltip("name:N", title="Schedule"),
        alt.Tooltip("kind:N", title="Line is"),
        alt.Tooltip("x:Q", title="Step", format=",.0f"),
        alt.Tooltip("y:Q", title="Loss", format=".4f"),
    ]
    layers = []
    if line["low"].notna().any():
        low = alt.Y("low:Q", scale=y["scale"], axis=y["axis"])
        band = alt.Chart(embed(line)).mark_area(opacity=0.18, clip=True)
        layers.append(band.encode(x, low, alt.Y2("high:Q"), colour, alt.Detail("name:N")))
    if len(points):
        dots = alt.Chart(embed(points), name="logged").mark_point(filled=True, size=9, opacity=0.45)
        layers.append(dots.encode(x, y, colour, tooltip=tips))
    plain = line[["x", "y", "name", "group", "kind"]]
    drawn = alt.Chart(embed(plain), name="predicted").mark_line(strokeWidth=1.8, clip=True)
    layers.append(drawn.encode(x, y, colour, dash, alt.Detail("name:N"), tooltip=tips))
    return alt.layer(*layers).properties(width=WIDTH - 190, height=_HEIGHT)


def _rates(rate: pd.DataFrame, groups: Groups) -> alt.Chart:
    return (
        alt.Chart(embed(rate), name="rates")
        .mark_line(strokeWidth=1.6)
        .encode(
            scaled(alt.X, "x", rate["x"], axis_title("step"), log=False, pad=0.01),
            scaled(alt.Y, "y", np.r_[0.0, rate["y"]], "Learning rate", log=False, count=4),
            groups.colour("Schedule"),
            _dash(rate["kind"]),
            alt.Detail("name:N"),
            tooltip=[
                alt.Tooltip("name:N", title="Schedule"),
                alt.Tooltip("x:Q", title="Step", format=",.0f"),
                alt.Tooltip("y:Q", title="Learning rate", format=".3g"),
            ],
        )
        .properties(width=WIDTH - 190, height=_SMALL)
    )


def _dash(kinds: pd.Series) -> alt.StrokeDash:
    used = [k for k in _KINDS if (kinds == k).any()]
    legend = alt.Legend(title="Line", symbolType="stroke", symbolSize=600) if len(used) > 1 else None
    shown = [_DASHES[_KINDS.index(k)] for k in used]
    return alt.StrokeDash("kind:N", scale=alt.Scale(domain=used, range=shown), legend=legend)
