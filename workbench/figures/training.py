"""Training as it goes on: the loss of each run of a sweep against what has been spent on it."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from workbench.figures.axes import scaled
from workbench.figures.data import embed, thin
from workbench.figures.groups import Groups, group
from workbench.figures.style import CATEGORIES, HEIGHT, INK, WIDTH, empty, spoken, title
from workbench.units import axis_title

__all__ = ["ALONG", "hue", "training"]

#: Columns that the x axis may show.
ALONG = ("tokens", "step", "flops")
#: Points of all curves together, and the most and fewest of one.
_BUDGET, _MOST, _FEWEST = 8_000, 600, 16
#: A loss this many times the largest first loss is off the picture.
_CEILING = 1.5
#: Shapes of the ends of curves that are no end of a training.
_ENDS = {"running": "circle", "cancelled": "square", "failed": "cross", "diverged": "triangle-up"}
_HELD = ("run", "state", "step", "tokens", "flops", "loss")


def training(
    curves: pd.DataFrame, *, x: str = "tokens", color: str | None = None, runs: int | None = None
) -> alt.Chart:
    """Loss against tokens, one line a run, on logarithmic axes.

    The end of a line is marked by its shape where the run goes on, or ended before its time. Long curves are
    thinned; each stretch keeps its minimum and maximum.

    Args:
        curves: one row a measurement: ``run``, ``state`` (running, finished, cancelled, failed, diverged or
            created), ``step``, ``tokens``, ``flops``, ``loss`` (nats per token), and further columns that
            are constant along a run; with ``planned`` (tokens) among them the axis reaches to where the runs
            will end. `workbench.launch.follow.curves` gives such a frame of a job.
        x: ``tokens``, ``step`` or ``flops``.
        color: column to colour by; default what `hue` chooses.
        runs: how many runs there are, with those that have no measurement yet; default those in `curves`.

    Raises:
        ValueError: `x` or `color` cannot be drawn, or `curves` lacks a column.
    """
    lacking = [name for name in _HELD if name not in curves]
    if lacking:
        raise ValueError(f"a frame of curves has the columns {', '.join(_HELD)}; this one lacks {', '.join(lacking)}")
    if x not in ALONG:
        raise ValueError(f"there is no axis {x!r}; choose one of {', '.join(ALONG)}")
    color = hue(curves) if color is None else color
    if color not in curves:
        raise ValueError(f"there is no column {color!r} to colour by; there are {', '.join(curves.columns)}")
    runs = curves["run"].nunique() if runs is None else runs
    known = np.isfinite(curves[x].to_numpy(float)) & np.isfinite(curves["loss"].to_numpy(float))
    good = curves[known & (curves[x].to_numpy(float) > 0) & (curves["loss"].to_numpy(float) > 0)]
    if good.empty:
        return empty("No loss yet", f"No run of {runs} has measured a loss after its first step.")
    firsts = curves[known].groupby("run", sort=False)["loss"].first()
    ceiling = _CEILING * float(firsts.max())
    inside = good[good["loss"] <= ceiling]
    high = good[good["loss"] > ceiling]["run"].nunique()
    if inside.empty:
        return empty("No loss to draw", f"All losses of {runs} runs are above {ceiling:.3g}, far above their first.")
    rows, longest, most = _lines(inside, x)
    groups = group(_of_run(inside, rows["run"], color)) if color != "run" else _each(rows["run"])
    rows["group"] = groups.of
    axes = (
        scaled(alt.X, "x", np.concatenate([*rows["x"], _horizons(good, x)]), axis_title(x), pad=0.02),
        scaled(alt.Y, "y", np.concatenate(rows["y"].to_list()), axis_title("loss")),
    )
    heading = "Run" if color == "run" else axis_title(color)
    tips = [alt.Tooltip("run:N", title="Run"), alt.Tooltip("state:N", title="State")]
    if color != "run":
        tips.append(alt.Tooltip("group:N", title=heading))
    lines = alt.Chart(embed(rows), name="curves").transform_flatten(["x", "y"])
    lines = lines.mark_line(strokeWidth=1.6, opacity=0.85, interpolate="linear")
    layers = [lines.encode(*axes, groups.colour(heading), alt.Detail("run:N"), tooltip=tips)]
    ends = rows.assign(x=[v[-1] for v in rows["x"]], y=[v[-1] for v in rows["y"]])
    ends = ends[ends["state"].isin(list(_ENDS))]
    if len(ends):
        layers.append(_marks(ends, groups, heading, axes, tips))
    lacking_loss = runs - rows["run"].nunique()
    return alt.layer(*layers).resolve_scale(color="shared").properties(
        width=WIDTH, height=HEIGHT,
        title=title(
            f"Loss against {spoken(x)}, so far" if len(ends) or lacking_loss else f"Loss against {spoken(x)}",
            f"{len(rows)} of {runs} runs have a curve" if lacking_loss else f"{runs} run{'s' if runs != 1 else ''}",
            f"{high} run{'s leave' if high != 1 else ' leaves'} the picture at the top" if high else "",
            f"thinned from up to {longest} to {most} points a run; minima and maxima kept" if longest > most else "",
            f"{spoken(x)} 0 is off the logarithmic axis" if (curves[x].to_numpy(float) <= 0).any() else "",
        ),
    )  # fmt: skip


def hue(curves: pd.DataFrame) -> str:
    """The column that tells the runs apart best: size first, then another setting that differs, then the run."""
    if curves["run"].nunique() > 1:
        if "params" in curves and curves["params"].nunique() > 1:
            return "params"
        for name in curves.columns:
            if name not in (*_HELD, "params", "planned", "seed") and curves[name].nunique() > 1:
                return name
    return "run"


def _lines(inside: pd.DataFrame, x: str) -> tuple[pd.DataFrame, int, int]:
    """One row a run with its points as arrays; the length of the longest curve and of the longest drawn."""
    most = int(np.clip(_BUDGET // inside["run"].nunique(), _FEWEST, _MOST))
    rows: list[dict[str, Any]] = []
    longest = 0
    for run, one in inside.groupby("run", sort=False):
        at, loss = one[x].to_numpy(float), one["loss"].to_numpy(float)
        longest = max(longest, at.size)
        keep = thin(loss, most, np.log(at))
        rows.append({"run": run, "state": one["state"].iloc[0], "x": at[keep], "y": loss[keep]})
    return pd.DataFrame(rows), longest, most


def _horizons(good: pd.DataFrame, x: str) -> np.ndarray:
    """Where on the axis the runs will end, as far as it is known: so the axis stands still while lines grow."""
    if "planned" not in good:
        return np.empty(0)
    return (good["planned"] * good[x] / good["tokens"].where(good["tokens"] > 0)).to_numpy(float)


def _of_run(inside: pd.DataFrame, runs: pd.Series, name: str) -> pd.Series:
    return runs.map(inside.groupby("run", sort=False)[name].first())


def _each(runs: pd.Series) -> Groups:
    """A colour a run where they can be told apart, else one for all: a legend of fifty hashes helps nobody."""
    if len(runs) <= len(CATEGORIES):
        return group(runs)
    return Groups(np.full(len(runs), "runs"), ["runs"], [CATEGORIES[0]], {}, False)


def _marks(ends: pd.DataFrame, groups: Groups, heading: str, axes: tuple, tips: list) -> alt.Chart:
    """Where each unfinished curve stands."""
    states = [state for state in _ENDS if (ends["state"] == state).any()]
    shape = alt.Shape(
        "state:N",
        scale=alt.Scale(domain=states, range=[_ENDS[state] for state in states]),
        legend=alt.Legend(title="Ends", symbolFillColor=INK, symbolStrokeColor=INK),
    )
    points = alt.Chart(embed(ends), name="ends").mark_point(filled=True, size=70, opacity=1)
    return points.encode(*axes, groups.colour(heading), shape, tooltip=tips)
