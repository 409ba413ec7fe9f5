"""The state of the fit panel, where it starts, and its source text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workbench.fits.result import Fit
from workbench.panels.controls import laws_for, metrics
from workbench.panels.state import State
from workbench.runs.table import RunTable

__all__ = ["FitState", "first_state", "fit_source", "source", "state_of"]

#: Laws a panel starts with, the most general first.
_PREFERRED = ("chinchilla", "power_constant")


@dataclass(frozen=True)
class FitState(State):
    """What the fit panel shows; the fields are the arguments of `workbench.fit`, and the runs taken out by hand."""

    law: str = "chinchilla"
    y: str = "loss"
    x: str | None = None
    objective: str = "log-huber"
    delta: float = 1e-3
    fixed: dict[str, float] = field(default_factory=dict)
    where: str | None = None
    left_out: tuple[str, ...] = ()
    tied: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    cluster: str | None = None


def first_state(runs: RunTable) -> FitState:
    """Where a panel on `runs` starts: the most general law the table can feed, fitted to its loss."""
    laws, ys = laws_for(runs), metrics(runs)
    law = next((name for name in _PREFERRED if name in laws), laws[0])
    return FitState(law=law, y=ys[0] if ys else "loss")


def state_of(fit: Fit) -> FitState:
    """The state whose fit is `fit`.

    Raises:
        ValueError: the runs are weighed unequally, which the panel cannot reproduce.
    """
    if np.ptp(fit.points.weights) > 0:
        raise ValueError("this fit weighs its runs unequally and the panel fits with equal weights; give it the runs")
    columns, single = dict(fit.points.columns), len(fit.law.inputs) == 1
    standard = {i.symbol: i.quantity for i in fit.law.inputs}
    return FitState(
        law=fit.law.name,
        y=fit.points.target,
        x=next(iter(columns.values())) if single else None,
        objective=fit.problem.objective.name,
        delta=float(fit.problem.objective.delta),
        fixed=dict(fit.problem.fixed),
        where=fit.where,
        left_out=tuple(run for run, why in fit.points.left_out.items() if why == "taken out"),
        tied=dict(fit.problem.tied),
        inputs={} if single else {s: c for s, c in columns.items() if c != standard[s]},
        cluster=fit.points.grouped_by,
    )


def fit_source(state: FitState, runs: str, starts: int, taken: Sequence[str]) -> str:
    """Source text that leaves the fit of `state` behind as the variable ``fit``.

    Args:
        state: the state.
        runs: name of the variable that holds the runs.
        starts: starting points.
        taken: runs to leave out after the fit; the others of `state` are out for another reason.
    """
    s = state
    arguments = {"y": s.y, "x": s.x, "objective": s.objective, "delta": s.delta, "fixed": s.fixed, "where": s.where}
    arguments |= {k: v for k, v in (("tied", s.tied), ("inputs", s.inputs), ("cluster", s.cluster)) if v} | {
        "starts": starts
    }
    lines = [f"    {runs},", f"    {source(s.law)},", *(f"    {k}={source(v)}," for k, v in arguments.items())]
    without = f".without({source(taken)})" if taken else ""
    return "\n".join(["import workbench", "", "fit = workbench.fit(", *lines, ")" + without, ""])


def source(value: Any) -> str:
    """`value` as source text, strings in double quotes."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{source(k)}: {source(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(source, value)) + "]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
