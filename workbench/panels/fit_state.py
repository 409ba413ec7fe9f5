"""The state of the fit panel, where it starts, and its source text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from workbench.fits.held import HELD
from workbench.fits.result import Fit
from workbench.panels.controls import laws_for, metrics
from workbench.panels.state import State
from workbench.runs.table import RunTable

__all__ = ["INVERSE", "FitState", "first_state", "fit_source", "source", "state_of", "taken", "weighed"]

#: Laws a panel starts with, the most general first.
_PREFERRED = ("chinchilla", "power_constant")
#: Column of weights made from a column of standard errors.
INVERSE = "inverse_variance"


@dataclass(frozen=True)
class FitState(State):
    """What the fit panel shows.

    The fields are the arguments of `workbench.fit`; then

    Attributes:
        weights: column of weights; with `variance` of standard errors, weighed by their inverse squares.
        left_out: runs taken out by hand.
        holdout: share of the runs held out, the largest.
        held: runs held out by hand.
        marked: runs ringed, here or in another panel.
        view: one of `fit_views.VIEWS`.
        question: what the influence view asks; see `workbench.analysis.conclusions.ask`.
        at: where it is asked, by column.
    """

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
    weights: str | None = None
    variance: bool = False
    holdout: float = 0.0
    held: tuple[str, ...] = ()
    marked: tuple[str, ...] = ()
    view: str = "curve"
    question: str | None = None
    at: dict[str, float] = field(default_factory=dict)


def first_state(runs: RunTable) -> FitState:
    """Where a panel on `runs` starts: the most general law the table can feed, fitted to its loss."""
    laws, ys = laws_for(runs), metrics(runs)
    law = next((name for name in _PREFERRED if name in laws), laws[0])
    return FitState(law=law, y=ys[0] if ys else "loss")


def state_of(fit: Fit) -> FitState:
    """The state whose fit is `fit`.

    Raises:
        ValueError: the runs are weighed unequally by numbers that are in no column, which the panel cannot
            reproduce.
    """
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
        weights=_weights(fit),
        held=tuple(run for run, why in fit.points.left_out.items() if why == HELD),
    )


def _weights(fit: Fit) -> str | None:
    """The column that the weights of `fit` come from; None for equal ones."""
    weights, frame = fit.points.weights, fit.points.frame
    if np.ptp(weights) == 0:
        return None
    for column in frame.columns:
        if pd.api.types.is_numeric_dtype(frame[column]) and np.array_equal(frame[column].to_numpy(float), weights):
            return column
    raise ValueError(
        "this fit weighs its runs unequally by numbers that are in no column; put them into one with "
        "runs.derive(weight=...) and fit with weights='weight', or give the panel the runs"
    )


def weighed(state: FitState, runs: RunTable) -> tuple[RunTable, str | None]:
    """The runs with a column of weights if one must be made, and its name.

    Raises:
        ValueError: the column of standard errors is missing or nowhere positive.
    """
    if state.weights is None or not state.variance:
        return runs, state.weights
    return runs.derive(**{INVERSE: _formula(state.weights)}), INVERSE


def _formula(column: str) -> str:
    return f"1 / `{column}` ** 2"


def taken(fit: Fit, state: FitState, why: str = "taken out") -> list[str]:
    """Runs of the state that are out of `fit` for this reason; its others are out for another one."""
    chosen = state.held if why == HELD else state.left_out
    return [run for run in chosen if fit.points.left_out.get(run) == why]


def fit_source(
    state: FitState, runs: str, starts: int, taken: Sequence[str], held: Sequence[str] = (), share: float = 0.0
) -> str:
    """Source text that leaves the fit of `state` behind as ``fit``, and as ``held`` what was held out from it.

    Args:
        state: the state.
        runs: name of the variable that holds the runs.
        starts: starting points.
        taken: runs to leave out after the fit; the others of `state` are out for another reason.
        held: runs to hold out by name.
        share: share of the runs to hold out.
    """
    s = state
    arguments = {"y": s.y, "x": s.x, "objective": s.objective, "delta": s.delta, "fixed": s.fixed, "where": s.where}
    arguments |= {k: v for k, v in (("tied", s.tied), ("inputs", s.inputs), ("cluster", s.cluster)) if v}
    if s.weights is not None:
        arguments["weights"] = INVERSE if s.variance else s.weights
        if s.variance:
            runs = f"{runs}.derive({INVERSE}={source(_formula(s.weights))})"
    arguments["starts"] = starts
    lines = [f"    {runs},", f"    {source(s.law)},", *(f"    {k}={source(v)}," for k, v in arguments.items())]
    without = f".without({source(taken)})" if taken else ""
    after = []
    if held or share:
        after = [f"held = fit.hold_out({source(share)}{f', {source(held)}' if held else ''})", "fit = held.fit"]
    return "\n".join(["import workbench", "", "fit = workbench.fit(", *lines, ")" + without, *after, ""])


def source(value: Any) -> str:
    """`value` as source text, strings in double quotes."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{source(k)}: {source(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(source, value)) + "]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
