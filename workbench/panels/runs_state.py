"""The state of the runs panel, where it starts, and its source text."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from workbench.panels.fit_state import source
from workbench.panels.state import State
from workbench.runs.logged import SMOOTHED, axes_logged, metrics_logged
from workbench.runs.table import RunTable
from workbench.units import SCALES

__all__ = ["POLICIES", "RunsState", "chosen_source", "columns_of_numbers", "first_state", "points_source"]

#: Checkpoint policy -> what the reader chooses; see `workbench.runs.checkpoints`.
POLICIES = {
    "final": "its last point",
    "best": "its lowest point",
    "last": "mean of its last points",
    "at": "at fixed compute, tokens or step",
    "all": "all points in the brush",
}


@dataclass(frozen=True)
class RunsState(State):
    """What the runs panel shows.

    Attributes:
        y: metric.
        x: axis, as `workbench.figures.run_curves.run_curves` takes it; of a table without curves a column.
        log_x: logarithmic x axis, where that is possible.
        log_y: the same of the y axis.
        smooth: half-life in percent of a run's own steps.
        color: column to colour by, None for a choice by the program.
        group: column whose values are averaged over.
        facet: column with a pane for each value.
        clip: end the y axis where outliers begin.
        events: mark spikes and divergences.
        filter: what `workbench.runs.search.search` takes.
        sort: a column, ``smoothed``, or empty for the order of the table.
        descending: largest first.
        page: of the table of runs, from 0.
        tags: run -> its tag, the column ``tag``.
        left_out: runs taken out of fits, dashed.
        marked: runs to be looked at, bold.
        policy: which point of each curve is handed to a fit: a key of `POLICIES`.
        k: points averaged by the policy ``last``.
        along: quantity of the policy ``at``.
        at: its value, None for the smallest end of a run.
        span: the brushed range of x, empty or two numbers.
        live: whether growing logs are read again every two seconds.
        parallel: whether parallel coordinates are shown below the table.
        brushes: their ranges, column -> lowest and highest; runs inside all of them are marked.
    """

    y: str = "loss"
    x: str = "step"
    log_x: bool = True
    log_y: bool = True
    smooth: float = 0.0
    color: str | None = None
    group: str | None = None
    facet: str | None = None
    clip: bool = True
    events: bool = True
    filter: str = ""
    sort: str = ""
    descending: bool = False
    page: int = 0
    tags: dict[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    marked: tuple[str, ...] = ()
    policy: str = "final"
    k: int = 5
    along: str = "flops"
    at: float | None = None
    span: tuple[float, ...] = ()
    live: bool = False
    parallel: bool = False
    brushes: dict[str, list[float]] = field(default_factory=dict)


def first_state(runs: RunTable) -> RunsState:
    """Where a panel on `runs` starts: loss over tokens, or over whatever the runs logged."""
    metrics = metrics_logged(runs)
    if metrics:
        axes = axes_logged(runs)
        return RunsState(y=metrics[0], x="tokens" if "tokens" in axes else axes[0], along=_along(runs))
    numbers = columns_of_numbers(runs)
    y = "loss" if "loss" in numbers or not numbers else numbers[-1]
    varied = [c for c in SCALES if c in numbers and runs[c].nunique() > 1]
    others = [c for c in numbers if c != y]
    x = (varied or others or ["flops"])[0]
    return RunsState(y=y, x=x, along=_along(runs))


def columns_of_numbers(runs: RunTable) -> list[str]:
    """Columns of a table that an axis can show."""
    return [
        c
        for c in runs.frame.columns
        if c != "run" and pd.api.types.is_numeric_dtype(runs.frame[c]) and not pd.api.types.is_bool_dtype(runs.frame[c])
    ]


def _along(runs: RunTable) -> str:
    return next((c for c in ("flops", "tokens", "steps") if c in runs), "steps")


def chosen_source(state: RunsState, name: str, reload: str | list[str] | None) -> tuple[list[str], list[str]]:
    """Imports, and the lines that leave the runs shown by `state` behind as ``chosen``.

    Args:
        state: the state.
        name: the variable that holds all runs.
        reload: what the runs were read from, where they have grown since they were given to the panel.
    """
    s, imports, lines, last = state, [], [], name
    if reload is not None:
        imports.append("import workbench")
        lines.append(f"{name} = workbench.load({source(reload)})")
    if s.tags:
        lines.append(f"tags = {source(s.tags)}")
        lines.append(f'chosen = {last}.derive(tag=lambda frame: frame["run"].map(tags).fillna(""))')
        last = "chosen"
    if s.filter:
        imports.append("from workbench.runs.search import search")
        lines.append(f"chosen = search({last}, {source(s.filter)})")
        last = "chosen"
    if s.sort:
        imports.append("from workbench.runs.logged import ordered")
        more = f", y={source(s.y)}, smooth={s.smooth!r}" if s.sort == SMOOTHED else ""
        lines.append(f"chosen = ordered({last}, {source(s.sort)}, descending={s.descending}{more})")
        last = "chosen"
    if last == name:
        lines.append(f"chosen = {name}")
    return imports, lines


def points_source(state: RunsState, out: list[str], options: dict) -> str:
    """The line that leaves the points for a fit behind as ``points``."""
    given = "".join(f", {k}={source(v)}" for k, v in options.items())
    runs = f"chosen.drop({source(out)})" if out else "chosen"
    return f"points = pick({runs}, {source(state.policy)}{given})"
