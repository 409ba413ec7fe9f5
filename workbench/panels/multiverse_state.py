"""The state of the multiverse panel, where it starts, the questions it offers, and its source text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workbench.analysis.allocation import AT
from workbench.analysis.conclusions import BEYOND
from workbench.fits.result import Fit
from workbench.panels.controls import laws_for, metrics
from workbench.panels.fit_state import source
from workbench.panels.state import State
from workbench.runs.table import RunTable
from workbench.units import FLOPS_PER_PARAM_TOKEN, quantity

__all__ = [
    "VIEWS", "MultiverseState", "analyses_key", "asked", "first_state", "fit_arguments", "keep_of",
    "multiverse_source", "place_of", "questions", "start_of", "stretch_of", "task_key",
]  # fmt: skip

VIEWS = ("specification curve", "what moves it")
#: Laws a panel starts with, the most general first.
_PREFERRED = ("chinchilla", "power_constant")


@dataclass(frozen=True)
class MultiverseState(State):
    """What the multiverse panel shows.

    Attributes:
        law, y, x, where, objective, delta, fixed, tied: the default analysis, as in `workbench.fit`.
        left_out: runs taken out by hand.
        question: what is decided on, as in `workbench.multiverse`; None asks its default.
        at: where it is asked, by column.
        off: dimension -> options switched off.
        between: the brushed stretch of the sorted analyses, in percent; empty for none.
        view: one of `VIEWS`.
    """

    law: str = "chinchilla"
    y: str = "loss"
    x: str | None = None
    where: str | None = None
    left_out: tuple[str, ...] = ()
    question: str | None = None
    at: dict[str, float] = field(default_factory=dict)
    off: dict[str, list[str]] = field(default_factory=dict)
    between: tuple[float, ...] = ()
    view: str = VIEWS[0]
    objective: str = "log-huber"
    delta: float = 1e-3
    fixed: dict[str, float] = field(default_factory=dict)
    tied: dict[str, str] = field(default_factory=dict)


def first_state(runs: RunTable) -> MultiverseState:
    """Where a panel on `runs` starts: the most general law the table can feed, its default question."""
    laws, ys = laws_for(runs), metrics(runs)
    law = next((name for name in _PREFERRED if name in laws), laws[0])
    return MultiverseState(law=law, y=ys[0] if ys else "loss")


def start_of(fit: Fit) -> MultiverseState:
    """The state whose default analysis is `fit`."""
    columns, objective = list(fit.points.columns.values()), fit.problem.objective
    return MultiverseState(
        law=fit.law.name,
        y=fit.points.target,
        x=columns[0] if len(columns) == 1 else None,
        where=fit.where,
        left_out=tuple(run for run, why in fit.points.left_out.items() if why == "taken out"),
        objective=objective.name,
        delta=float(objective.delta),
        fixed=dict(fit.problem.fixed),
        tied=dict(fit.problem.tied),
    )


def fit_arguments(state: MultiverseState) -> dict[str, Any]:
    """Arguments of `workbench.fit` for the default analysis."""
    return {name: getattr(state, name) for name in ("y", "x", "where", "objective", "delta", "fixed", "tied")}


def analyses_key(state: MultiverseState) -> str:
    """What the fits depend on, whatever is asked and shown."""
    return repr((state.law, sorted(fit_arguments(state).items(), key=str), state.left_out))


def task_key(state: MultiverseState) -> str:
    """Which fits are needed."""
    return analyses_key(state) + repr(sorted((d, sorted(o)) for d, o in state.off.items()))


def asked(state: MultiverseState, base: Fit) -> tuple[str, dict[str, float]]:
    """The question of `state`, and where it is asked, spelled out."""
    question = state.question or next(iter(questions(base)))
    place = place_of(base, question)
    return question, dict(state.at) or ({} if place is None else {place[0]: place[2]})


def trades(fit: Fit) -> bool:
    """Whether the law weighs size against data, so that a budget can be spent best."""
    columns = list(fit.points.columns.values())
    roles = {"params" if c.startswith("params") else c for c in columns}
    return len(columns) == 2 and len(roles) == 2 and all(c in AT for c in columns)


def questions(fit: Fit) -> dict[str, str]:
    """Question -> what people call it, the default one first."""
    target = fit.points.target
    named = quantity(target).meaning
    out = {}
    if trades(fit):
        out |= {
            "tokens_per_param": "Tokens per parameter",
            "optimal_params": "Optimal parameters",
            "exponent": "Exponent of optimal parameters",
            "loss": f"{named}, budget spent best",
        }
    else:
        out["loss"] = named
    return out | {p.symbol: f"Parameter {p.symbol}: {p.meaning}" for p in fit.law.parameters}


def place_of(fit: Fit, question: str) -> tuple[str, float, float, float] | None:
    """Column along which `question` can be moved, its smallest, usual and largest place; None if it has none."""
    if question in fit.law.symbols:
        return None
    x, columns = fit.points.x, fit.points.columns
    if trades(fit):
        by = {("params" if c.startswith("params") else c): x[s] for s, c in columns.items()}
        compute = by.get("flops")
        if compute is None:
            if "params" in by and "tokens" in by:
                compute = FLOPS_PER_PARAM_TOKEN * by["params"] * by["tokens"]
            elif "params" in by:
                compute = FLOPS_PER_PARAM_TOKEN * by["params"] ** 2 * by["tokens_per_param"]
            else:
                compute = FLOPS_PER_PARAM_TOKEN * by["tokens"] ** 2 / by["tokens_per_param"]
        column, values = "flops", compute
    elif len(columns) == 1:
        column, values = next(iter(columns.values())), next(iter(x.values()))
    else:
        return None
    largest = float(values.max())
    low = float(f"{float(values.min()):.2g}")
    return column, low, float(f"{BEYOND * largest:.2g}"), float(f"{1e4 * largest:.2g}")


def keep_of(off: Mapping[str, Sequence[str]], options: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """What `off` leaves of the options of each dimension in which it leaves something out.

    Raises:
        ValueError: a dimension with every option switched off.
    """
    kept = {}
    for dimension, gone in off.items():
        if dimension in options and set(gone) & set(options[dimension]):
            kept[dimension] = [o for o in options[dimension] if o not in gone]
            if not kept[dimension]:
                raise ValueError(f"{dimension}: every option is switched off; leave at least one on")
    return kept


def multiverse_source(
    state: MultiverseState, runs: str, question: str, at: Mapping[str, float], keep: Mapping[str, Sequence[str]],
    taken: Sequence[str],
) -> str:  # fmt: skip
    """Source text that leaves the multiverse of `state` as ``m`` and its figure as ``figure``.

    Args:
        state: the state.
        runs: name of the variable that holds the runs.
        question, at: what is asked, and where.
        keep: dimension -> options, where not all are kept.
        taken: runs to leave out after the fit.
    """
    s, usual = state, MultiverseState()
    arguments = {"y": s.y} | {k: v for k, v in fit_arguments(s).items() if v != getattr(usual, k)}
    head = ", ".join([runs, source(s.law), *(f"{k}={source(v)}" for k, v in arguments.items())])
    without = f".without({source(list(taken))})" if taken else ""
    asked = [f"    {source(question)},", *(f"    {k}={source(v)}," for k, v in at.items())]
    asked += [f"    keep={source({d: list(o) for d, o in keep.items()})},"] if keep else []
    lines = [f"fit = workbench.fit({head}){without}", "m = fit.multiverse(", *asked, ")"]
    imports = ["import workbench"]
    if s.view == VIEWS[1]:
        imports.append("from workbench.figures.moves import moves")
        lines.append("figure = moves(m)")
    elif s.between:
        imports = ["import altair as alt", "", *imports, "from workbench.figures.analyses import analyses"]
        stretch = f"({s.between[0]!r}, {s.between[1]!r})"
        lines.append(f"figure = alt.vconcat(m.plot({stretch}), analyses(m, {stretch}), spacing=30)")
    else:
        lines.append("figure = m.plot()")
    return "\n".join([*imports, "", *lines, ""])


def stretch_of(box: Mapping[str, Sequence[float]], drawn: int) -> tuple[float, ...]:
    """The brushed stretch in percent of the `drawn` analyses; empty for no brush."""
    ends = box.get("at")
    if not ends or drawn < 1:
        return ()
    low, high = (float(np.clip(100 * (v + 0.5) / drawn, 0, 100)) for v in sorted(ends))
    return (round(low, 1), round(high, 1)) if high > low else ()
