"""Runs before any fit: one metric against scale, and loss curves over training."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from workbench.figures.axes import scaled
from workbench.figures.data import MOST_ROWS, embed, thin, thin_rows
from workbench.figures.groups import Groups, group
from workbench.figures.style import CATEGORIES, HEIGHT, INK, WIDTH, empty, spoken, title
from workbench.runs.table import RunTable
from workbench.units import SCALES, axis_title, human, quantity

__all__ = ["curves", "scatter"]

#: Points of all curves of one figure together, and the most and fewest of one curve.
_BUDGET, _MOST, _FEWEST = 12_000, 2_000, 24


def scatter(
    runs: RunTable,
    x: str | None = None,
    y: str = "loss",
    color: str | None = None,
    *,
    log_x: bool = True,
    log_y: bool = True,
    left_out: Collection[str] = (),
    marked: Collection[str] = (),
    note: str = "",
) -> alt.Chart:
    """One point a run.

    Args:
        runs: the table.
        x: column on the x axis; default the first of flops, tokens, params, steps that varies.
        y: column on the y axis.
        color: column to colour and shape by.
        log_x: logarithmic x axis, where all values are positive.
        log_y: the same of the y axis.
        left_out: ids of runs taken out of fits: hollow.
        marked: ids of runs to be looked at: large, the others faint.
        note: what the caller did before, for the subtitle.

    Raises:
        ValueError: no such column; the sentence lists the table's.
    """
    if x is None:
        varied = [c for c in SCALES if c in runs and runs[c].nunique() > 1]
        x = varied[0] if varied else "flops"
    frame = runs.frame
    for name in filter(None, (x, y, color)):
        if name not in frame:
            raise ValueError(f"there is no column {name!r} to draw; this table has {', '.join(frame.columns)}")
    for name in (x, y):
        if not pd.api.types.is_numeric_dtype(frame[name]):
            raise ValueError(
                f"{name!r} holds words, not numbers; draw {', '.join(frame.select_dtypes('number').columns)}"
            )
    data = pd.DataFrame({"run": frame["run"], "x": frame[x].to_numpy(float), "y": frame[y].to_numpy(float)})
    groups = group(frame[color]) if color else _one(len(frame))
    data["group"], data["problem"] = groups.of, frame["problem"].astype(str)
    logs = [wanted and bool((data[c].dropna() > 0).all()) for c, wanted in (("x", log_x), ("y", log_y))]
    data["out"], bold = data["run"].isin(list(left_out)).astype(int), data["run"].isin(list(marked))
    data["size"], data["strength"] = np.where(bold, 150, 50), np.where(bold | (not bold.any()), 0.85, 0.3)
    good = np.isfinite(data["x"]) & np.isfinite(data["y"])
    if not good.any():
        return empty("No run to draw", f"None of {len(frame)} runs has both {x} and {y}.")
    shown = thin_rows(data[good], "y")
    words = shown.assign(x_text=[human(v, 4) for v in shown["x"]])
    tips = [
        alt.Tooltip("run:N", title="Run"),
        alt.Tooltip("x_text:N", title=quantity(x).meaning),
        alt.Tooltip("y:Q", title=quantity(y).meaning, format=".4g"),
        *([alt.Tooltip("group:N", title=quantity(color).meaning)] if color else []),
        *([alt.Tooltip("problem:N", title="Problem")] if (shown["problem"] != "").any() else []),
    ]
    heading = axis_title(color) if color else None
    marks = [groups.colour(heading), groups.shape(heading)]
    bad, out, bold = int((shown["problem"] != "").sum()), int(shown["out"].sum()), int((shown["size"] > 50).sum())
    # A run with a problem is hollow, as in every figure of the workbench.
    points = alt.Chart(embed(words), name="runs").mark_point(
        size=50, filled=True, opacity=0.85, **({"stroke": INK, "strokeWidth": 1.3} if bad or out else {})
    )
    chart = points.encode(
        scaled(alt.X, "x", shown["x"], axis_title(x), log=logs[0]),
        scaled(alt.Y, "y", shown["y"], axis_title(y), log=logs[1]),
        *marks,
        fillOpacity=alt.condition("datum.problem == '' && !datum.out", alt.value(0.85), alt.value(0)),
        **(
            {
                "size": alt.Size("size:Q", scale=None, legend=None),
                "opacity": alt.Opacity("strength:Q", scale=None, legend=None),
            }
            if bold
            else {}
        ),
        tooltip=tips,
    )
    return chart.properties(
        width=WIDTH,
        height=HEIGHT,
        title=title(
            f"{quantity(y).meaning} against {spoken(x)}",
            note,
            f"{len(frame)} runs",
            f"{int((~good).sum())} lack a coordinate" if not good.all() else "",
            f"{bad} with a problem (hollow)" if bad else "",
            f"{out} left out (hollow)" if out else "",
            f"{bold} marked (large)" if bold else "",
            f"{MOST_ROWS} drawn, lowest and highest kept" if int(good.sum()) > MOST_ROWS else "",
        ),
    )


def curves(runs: RunTable, y: str = "loss", x: str = "step", color: str | None = None) -> alt.Chart:
    """Curves over training, one a run, from the runs that logged any.

    Long curves are thinned to what the figure can show; each stretch keeps its minimum and maximum, so
    that spikes stay visible.

    Args:
        runs: the table.
        y: metric of the curves.
        x: ``step``, or another column of the curves; ``tokens`` is steps times the run's tokens per step
            where the curves do not hold it.
        color: column of the table to colour by; default the run, or params beyond twelve runs.

    Raises:
        ValueError: no run has a curve of `y` against `x`, or `color` is no column.
    """
    frame = runs.frame
    if color is None:
        color = "run" if len(frame) <= 12 or "params" not in frame else "params"
    if color not in frame:
        raise ValueError(f"there is no column {color!r} to colour by; this table has {', '.join(frame.columns)}")
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for row in frame.to_dict(orient="records"):
        if row["run"] in runs.curves:
            pair = _pair(runs.curves[row["run"]], row, x, y)
            if pair is not None and pair[0].size:
                found[row["run"]] = pair
    if not found:
        offered = sorted({c for run in list(runs.curves)[:20] for c in runs.curves[run].columns})
        told = f"the curves hold {', '.join(offered)}" if offered else "no run of this table logged a curve"
        raise ValueError(f"no run has a curve of {y!r} against {x!r}; {told}")
    most = int(np.clip(_BUDGET // len(found), _FEWEST, _MOST))
    groups = group(frame[color][frame["run"].isin(found)])
    longest = max(values.size for _, values in found.values())
    positive = np.concatenate([at[at > 0] for at, _ in found.values()])
    log_x = positive.size > 0 and positive.max() > 100 * positive.min()
    hidden = log_x and any((at <= 0).any() for at, _ in found.values())
    rows = []
    for (run, (at, values)), label in zip(found.items(), groups.of, strict=True):
        if log_x:
            at, values = at[at > 0], values[at > 0]
            if not at.size:
                continue
        keep = thin(values, most, np.log(at) if log_x else at)
        rows.append({"run": run, "group": label, "x": at[keep], "y": values[keep]})
    all_x, all_y = (np.concatenate([row[axis] for row in rows]) for axis in ("x", "y"))
    heading = axis_title(color) if color != "run" else "Run"
    return (
        # one row a run, flattened in the browser: a name a curve instead of a name a point
        alt.Chart(embed(pd.DataFrame(rows)), name="curves")
        .transform_flatten(["x", "y"])
        .mark_line(strokeWidth=1.4, opacity=0.9)
        .encode(
            scaled(alt.X, "x", all_x, axis_title(x), log=log_x, pad=0.01),
            scaled(alt.Y, "y", all_y, axis_title(y), log=bool((all_y > 0).all())),
            groups.colour(heading),
            alt.Detail("run:N"),
            tooltip=[alt.Tooltip("run:N", title="Run")],
        )
        .properties(
            width=WIDTH,
            height=HEIGHT,
            title=title(
                f"{quantity(y).meaning} over training",
                f"{len(found)} of {len(frame)} runs have a curve" if len(found) < len(frame) else f"{len(found)} runs",
                f"thinned from up to {longest:_} to {most:_} points a run; minima and maxima kept".replace(
                    "_", "\u202f"
                )
                if longest > most
                else "",
                f"{spoken(x)} 0 is off the logarithmic axis" if hidden else "",
            ),
        )
    )


def _one(n: int) -> Groups:
    return Groups(np.full(n, "runs"), ["runs"], [CATEGORIES[0]], {}, False)


def _pair(curve: pd.DataFrame, row: dict[str, Any], x: str, y: str) -> tuple[np.ndarray, np.ndarray] | None:
    """The two series, at the steps where both are known."""
    if y not in curve:
        return None
    if x in curve:
        at = curve[x].to_numpy(float)
    elif x == "tokens" and np.isfinite(row.get("batch_tokens", np.nan)):
        at = curve["step"].to_numpy(float) * row["batch_tokens"]
    elif x == "tokens" and row.get("steps", 0) > 0 and np.isfinite(row.get("tokens", np.nan)):
        at = curve["step"].to_numpy(float) * row["tokens"] / row["steps"]
    else:
        return None
    values = curve[y].to_numpy(float)
    known = np.isfinite(at) & np.isfinite(values)
    return at[known], values[known]
