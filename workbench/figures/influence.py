"""Which runs the conclusion hangs on: the most influential ones ranked, and where all of them lie."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from workbench.analysis.influence import Influence
from workbench.figures.axes import scaled
from workbench.figures.data import embed, thin_rows
from workbench.figures.style import ACCENT, CATEGORIES, GREY, INK, WIDTH, title
from workbench.units import axis_title, human

__all__ = ["influence"]

_MARGIN = 190


def influence(i: Influence, *, rows: int = 12) -> alt.VConcatChart:
    """What the answer becomes without each of the most influential runs, and all runs coloured by their pull.

    Runs of the natural set that moves the answer most are ringed, whichever pull they have alone.

    Args:
        i: the influence of the runs.
        rows: runs in the ranking.

    Raises:
        ValueError: `rows` is less than 1.
    """
    if rows < 1:
        raise ValueError(f"rows is {rows!r}; draw at least one run")
    rule, ids, value = i.natural
    said = f"ringed: the {len(ids)} runs of {rule}; without all of them {human(value)}" if ids else ""
    unknown = int((~np.isfinite(i.frame["change"].to_numpy(float))).sum())
    return (
        alt.vconcat(_ranking(i, rows), _plane(i, set(ids)), spacing=22)
        .resolve_scale(color="independent")
        .properties(
            title=title(
                f"What {i.question.text} hangs on",
                f"{human(i.estimate)} from all {len(i.frame)} runs",
                f"95% interval {human(i.low)}–{human(i.high)} (shaded)",
                said,
                f"{unknown} runs without an answer not drawn" if unknown else "",
            )
        )
    )


def _ranking(i: Influence, rows: int) -> alt.LayerChart:
    top = i.frame[np.isfinite(i.frame["without"].to_numpy(float))].head(rows)
    data = pd.DataFrame({"run": [str(r)[:40] for r in top["run"]], "without": top["without"], "all": i.estimate})
    data["text"] = [i.number(v) for v in data["without"]]
    data["up"] = data["without"] > i.estimate
    band = [v for v in (i.low, i.high) if np.isfinite(v)]
    inner = data["without"].to_numpy(float)
    # An interval far wider than the runs reach is a ground that fills the picture, or they would be a line in it.
    away = (lambda v: np.abs(np.log(v / i.estimate))) if i.in_logs else (lambda v: np.abs(v - i.estimate))
    span = max(float(away(inner).max()), 1e-12) if len(inner) else 1.0
    near = [v for v in band if (v > 0 or not i.in_logs) and away(v) <= 5 * span]
    name = i.question.text[0].upper() + i.question.text[1:] + ", without the run"
    log = i.in_logs and span > 0.2
    ends = [f([*inner, i.estimate, *near]) for f in (min, max)]
    # Room for the numbers beside the points, which would otherwise run into the ids
    room = 0.14 * (np.log(ends[1] / ends[0]) if log else ends[1] - ends[0])
    ends = [ends[0] * np.exp(-room), ends[1] * np.exp(room)] if log else [ends[0] - room, ends[1] + room]
    x = scaled(alt.X, "without", [*inner, i.estimate, *near, *ends], name, log=log, count=6)
    y = alt.Y("run:N", sort=list(data["run"]), axis=alt.Axis(title=None, ticks=False, domain=False, grid=False,
              labelPadding=8, labelLimit=_MARGIN - 10))  # fmt: skip
    colour = alt.condition(alt.datum.up, alt.value(ACCENT), alt.value(CATEGORIES[0]))
    base = alt.Chart(embed(data))
    axis = {"scale": x["scale"], "axis": x["axis"]}
    layers = []
    if len(band) == 2:
        shade = alt.Chart(embed(pd.DataFrame({"low": [band[0]], "high": [band[1]]})))
        layers.append(
            shade.mark_rect(color=GREY, opacity=0.12, clip=True).encode(alt.X("low:Q", **axis), alt.X2("high:Q"))
        )
    layers += [
        alt.Chart(embed(pd.DataFrame({"all": [i.estimate]})))
        .mark_rule(color=INK, strokeWidth=1.2)
        .encode(alt.X("all:Q", **axis)),
        base.mark_rule(strokeWidth=2.5).encode(alt.X("all:Q", **axis), alt.X2("without:Q"), y, color=colour),
        base.mark_point(filled=True, size=70, opacity=1).encode(x, y, color=colour),
        base.transform_filter(alt.datum.up).mark_text(align="left", dx=8).encode(x, y, alt.Text("text:N")),
        base.transform_filter(~alt.datum.up).mark_text(align="right", dx=-8).encode(x, y, alt.Text("text:N")),
    ]  # fmt: skip
    return alt.layer(*layers).properties(width=WIDTH - _MARGIN, height=22 * len(data) + 8)


def _plane(i: Influence, ringed: set[str]) -> alt.LayerChart:
    columns, target = list(i.fit.points.columns.values()), i.fit.points.target
    x_name = "tokens" if "tokens" in columns else columns[-1]
    frame = i.frame[np.isfinite(i.frame["change"].to_numpy(float))]
    data = pd.DataFrame({"run": frame["run"].astype(str), "x": frame[x_name], "y": frame[target]})
    data["change"] = 100 * np.expm1(frame["change"]) if i.in_logs else frame["change"]
    data["size"] = np.abs(data["change"])
    data["text"] = [i.number(v) for v in frame["without"]]
    data["ring"] = [str(run) in ringed for run in frame["run"]]
    rest = thin_rows(data[~data["ring"]], "y")
    data = pd.concat([rest, data[data["ring"]]])
    # Large ones on top; of those that weigh alike the run's name decides, not a last digit that depends on the machine.
    data["rank"] = [float(f"{size:.2g}") for size in data["size"]]
    data = data.sort_values(["rank", "run"]).drop(columns="rank")
    log_x, log_y = bool((data["x"] > 0).all()), bool((data["y"] > 0).all())
    x = scaled(alt.X, "x", data["x"], axis_title(x_name), log=log_x)
    y = scaled(alt.Y, "y", data["y"], axis_title(target), log=log_y, count=5)
    # The colour saturates at the twentieth run: one giant must not make all others look like nothing.
    limit = max(float(np.sort(data["size"])[-min(20, len(data))]), 1e-9)
    colour = alt.Color(
        "change:Q",
        scale=alt.Scale(
            domain=[-limit, 0, limit], range=[CATEGORIES[0], "#d0d5dd", ACCENT], clamp=True, interpolate="rgb"
        ),
        legend=alt.Legend(
            title=["Change without", "the run" + (" (%)" if i.in_logs else "")], gradientLength=110, format=".2~g"
        ),
    )  # fmt: skip
    tips = [
        alt.Tooltip("run:N", title="Run"),
        alt.Tooltip("x:Q", title=axis_title(x_name), format=".4g"),
        alt.Tooltip("y:Q", title=axis_title(target), format=".4g"),
        alt.Tooltip("text:N", title="Answer without it"),
    ]
    size = alt.Size("size:Q", scale=alt.Scale(domain=[0, limit], range=[22, 150], clamp=True), legend=None)
    base = alt.Chart(embed(data), name="runs")
    rings = alt.Chart(embed(data[data["ring"]])).mark_point(size=260, color=INK, strokeWidth=1.6, filled=False)
    dots = base.mark_point(filled=True, opacity=0.95, stroke="white", strokeWidth=0.4).encode(
        x, y, colour, size, tooltip=tips
    )
    return alt.layer(dots, rings.encode(x, y)).properties(width=WIDTH - 220, height=260)
