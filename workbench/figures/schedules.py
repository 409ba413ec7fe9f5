"""Loss curves under learning-rate schedules: what was logged, what a fitted law predicts, and the rate below."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd

from workbench.analysis.schedule_curves import RESAMPLES, CurveFit
from workbench.figures.axes import scaled
from workbench.figures.data import embed, thin
from workbench.figures.groups import Groups, group
from workbench.figures.style import WIDTH, empty, title
from workbench.laws.schedules.schedule import Schedule
from workbench.units import axis_title

__all__ = ["curves"]

#: Places of one predicted line, logged points of one curve, and points of one line of the rate.
_GRID, _LOGGED, _RATE = 160, 120, 240
_HEIGHT, _SMALL = 330, 110
#: What is above the loss at this fraction of the longest schedule is not drawn.
_EARLY = 15
_KINDS = ("fitted", "predicted")
_DASHES = ([1, 0], [6, 3])


def curves(
    result: CurveFit,
    names: Sequence[str] | None = None,
    *,
    schedules: Sequence[Schedule] = (),
    level: float = 0.95,
    n: int = RESAMPLES,
) -> alt.Chart | alt.VConcatChart:
    """Logged losses as points, the law as lines with bands, and the learning rates in a panel beneath.

    Lines of fitted curves are solid, those of curves and schedules the fit has not seen dashed.

    Args:
        result: from `workbench.analysis.schedule_curves.fit_curves`.
        names: which of its curves; default all.
        schedules: further schedules to predict, without a log.
        level: nominal coverage of the band, which holds the uncertainty of the parameters.
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
        kind = _KINDS[0] if label in result.train and known is not None else _KINDS[1]
        first = max(1, schedule.warmup) if known is None else known["step"].iloc[0]
        last = schedule.steps if known is None else known["step"].iloc[-1]
        steps = np.unique(np.round(np.geomspace(first, last, _GRID)))
        drawn = result.predict(schedule, steps, level=level, n=n)
        words = {"name": label, "group": colour, "kind": kind}
        lines.append(drawn.rename(columns={"step": "x", "prediction": "y"}).drop(columns="lr").assign(**words))
        if known is not None:
            keep = thin(known["loss"].to_numpy(float), _LOGGED)
            logged.append(pd.DataFrame({"x": known["step"].iloc[keep], "y": known["loss"].iloc[keep]}).assign(**words))
        rate = schedule.frame()
        keep = thin(rate["lr"].to_numpy(float), _RATE)
        rates.append(pd.DataFrame({"x": rate["step"].iloc[keep], "y": rate["lr"].iloc[keep]}).assign(**words))
    line, rate = pd.concat(lines, ignore_index=True), pd.concat(rates, ignore_index=True)
    points = pd.concat(logged, ignore_index=True) if logged else line.iloc[:0]
    # The first steep fall would take half the height and hide what the schedules do.
    early = rate["x"].max() / _EARLY
    both = pd.concat([line, points])
    top = both["y"][both["x"] >= early].max()
    hidden = bool((both["y"] > top).any())
    line, points = line[line["y"] <= top], points[points["y"] <= top]
    above, below = _loss(line, points, rate, groups), _rates(rate, groups)
    fitted, asked = sum(m in result.train for m in names), len(labels)
    thinned = any(len(result.curves[m]) > _LOGGED for m in names)
    out = sum(result.left_out[m] for m in names)
    return alt.vconcat(above, below, spacing=12).properties(
        title=title(
            f"{result.fit.law.title}: loss under {asked} schedule{'s' if asked != 1 else ''}",
            f"{fitted} fitted (solid), {asked - fitted} predicted (dashed); dots are logged losses",
            f"at most {_LOGGED} dots a curve, minima and maxima kept" if thinned else "",
            f"losses above {top:.3g}, early in training, are not drawn" if hidden else "",
            f"{out} logged rows left out" if out else "",
            f"band: {level:.0%} interval of the parameters, without the law's own error"
            if line["low"].notna().any()
            else "",
        )
    )


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
    legend = alt.Legend(title="Line") if len(used) > 1 else None
    shown = [_DASHES[_KINDS.index(k)] for k in used]
    return alt.StrokeDash("kind:N", scale=alt.Scale(domain=used, range=shown), legend=legend)
