"""The state of the compare panel, where it starts, what it offers, and its source text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from workbench.figures.recipes import MOST_GROUPS
from workbench.fits.compare import DEFAULT_LAWS
from workbench.laws.base import get
from workbench.panels.controls import laws_for, metrics
from workbench.panels.fit_state import source
from workbench.panels.state import State
from workbench.runs.table import RunTable
from workbench.units import parse_number

__all__ = [
    "KINDS", "RESAMPLES", "VIEWS", "CompareState", "first_state", "groupings", "groups_of", "groups_source",
    "holdout_of", "laws_source",
]  # fmt: skip

KINDS = ("laws", "groups of runs")
VIEWS = ("overlaid", "side by side", "errors")
#: Bootstrap resamples behind every interval of the panel.
RESAMPLES = 400
#: Law of the groups to start with.
_GROUP_LAWS = ("power_constant", "power", "chinchilla")


@dataclass(frozen=True)
class CompareState(State):
    """What the compare panel shows.

    Attributes:
        kind: one of `KINDS`: several laws on the same runs, or one law on several groups of runs.
        laws: the laws.
        law, by, groups: the law of the groups, the column that tells them apart, and its values (none: all).
        y, x, where, objective, delta: as in `workbench.fit`.
        holdout: as in `workbench.compare`, as text: a share or an expression; empty for none. Laws only.
        pair: the two groups whose crossing and multiplier are asked for; empty: the first two.
        value: the value to be reached, for the multiplier; None: the middle of what the first group reaches.
        at: value of the input that is constant along the curves, for laws of two inputs; None: the usual one.
        view: one of `VIEWS`; groups have no errors.
        left_out: runs taken out by hand.
    """

    kind: str = KINDS[0]
    laws: tuple[str, ...] = ()
    law: str = "power_constant"
    by: str | None = None
    groups: tuple[str, ...] = ()
    y: str = "loss"
    x: str | None = None
    where: str | None = None
    objective: str = "log-huber"
    delta: float = 1e-3
    holdout: str = ""
    pair: tuple[str, ...] = ()
    value: float | None = None
    at: float | None = None
    view: str = VIEWS[0]
    left_out: tuple[str, ...] = ()


def first_state(runs: RunTable) -> CompareState:
    """Where a panel on `runs` starts: the usual laws that the table can feed, no hold-out."""
    laws, ys = laws_for(runs), metrics(runs)
    chosen = tuple(law for law in DEFAULT_LAWS if law in laws) or tuple(laws[:3])
    law = next((name for name in _GROUP_LAWS if name in laws), laws[0])
    by = next(iter(groupings(runs)), None)
    return CompareState(laws=chosen, law=law, y=ys[0] if ys else "loss", by=by)


def groupings(runs: RunTable) -> list[str]:
    """Columns that split the runs into a few groups, words first."""
    found = []
    for name in runs.frame.columns:
        if name in ("run", "problem"):
            continue
        column = runs.frame[name].dropna()
        if 2 <= column.nunique() <= MOST_GROUPS and column.value_counts().max() > 1:
            found.append(name)
    return sorted(found, key=lambda name: pd.api.types.is_numeric_dtype(runs.frame[name]))


def groups_of(runs: RunTable, by: str | None) -> list[str]:
    """Values of column `by` as text, in the order of `workbench.analysis.along.split_groups`."""
    if by is None or by not in runs:
        return []
    there = sorted(runs.frame[by].dropna().unique(), key=lambda v: (str(type(v)), v))
    return [str(v) for v in there]


def holdout_of(text: str) -> str | float | None:
    """The hold-out that `text` names: a share such as ``0.2`` or ``20 %``, or an expression; None for nothing."""
    text = text.strip()
    if not text:
        return None
    try:
        number = parse_number(text.removesuffix("%").strip())
    except ValueError:
        return text
    return number / 100 if text.endswith("%") else number


def fit_arguments(state: CompareState) -> dict[str, Any]:
    """What all fits of the panel share, without what is usual."""
    usual = CompareState()
    given = {k: getattr(state, k) for k in ("where", "objective", "delta")}
    return {"y": state.y} | {k: v for k, v in given.items() if v != getattr(usual, k)}


def _table(runs: str, taken: Sequence[str]) -> str:
    return f"{runs}.drop({source(list(taken))})" if taken else runs


def _arguments(given: Mapping[str, Any]) -> str:
    return "".join(f", {k}={source(v)}" for k, v in given.items())


def laws_source(state: CompareState, runs: str, taken: Sequence[str], marked: Sequence[str]) -> str:
    """Source text of the comparison of laws.

    Args:
        state: the state.
        runs: name of the variable that holds the runs.
        taken: those of its runs that are left out by hand.
        marked: runs to ring.
    """
    s, holdout = state, holdout_of(state.holdout)
    given = {"holdout": holdout, **fit_arguments(s)} if holdout is not None else fit_arguments(s)
    given |= {"x": s.x} if s.x is not None else {}
    call = f"c = workbench.compare({_table(runs, taken)}, {source(list(s.laws))}{_arguments(given)})"
    if s.view == VIEWS[2]:
        return f"import workbench\n\n{call}\nfigure = c.plot()\n"
    drawn = overlay_arguments(s, len(taken), marked)
    return (
        "import workbench\nfrom workbench.figures.overlay import overlay\n\n"
        f"{call}\nfigure = overlay(c{_arguments(drawn)})\n"
    )


def overlay_arguments(state: CompareState, taken: int, marked: Sequence[str]) -> dict[str, Any]:
    """Arguments of `figures.overlay.overlay` that differ from its own."""
    given = {"at": state.at, "facets": state.view == VIEWS[1], "left_out": taken, "marked": list(marked)}
    return {k: v for k, v in given.items() if v}


def groups_source(
    state: CompareState, runs: str, taken: Sequence[str], marked: Sequence[str], groups: Sequence[str],
    asked: Mapping[str, Any],
) -> str:  # fmt: skip
    """Source text of the comparison of groups.

    Args:
        state, runs, taken, marked: as in `laws_source`.
        groups: the groups that could be fitted.
        asked: ``pair`` (two groups) where they cross, ``value`` where the multiplier is asked for.
    """
    s = state
    given = fit_arguments(s) | ({"x": s.x} if s.x is not None and len(get(s.law).inputs) == 1 else {})
    imports = ["import workbench", "from workbench.analysis.along import split_groups"]
    lines = [
        f"parts = split_groups({_table(runs, taken)}, {source(s.by)}, {source(list(groups))})",
        f"fits = {{name: workbench.fit(part, {source(s.law)}{_arguments(given)}) for name, part in parts.items()}}",
    ]
    arguments = ["fits"]
    if "pair" in asked:
        a, b = (source(g) for g in asked["pair"])
        lines.append(f"cross = workbench.crossover(fits[{a}], fits[{b}], labels=[{a}, {b}], n={RESAMPLES})")
        arguments.append("cross")
        if "value" in asked:
            imports.append("from workbench.analysis.shift import shift")
            lines.append(f"at = shift(cross.a, cross.b, n={RESAMPLES}).at({asked['value']!r})")
            arguments.append("at")
    drawn = {"facets": s.view == VIEWS[1], "left_out": len(taken), "marked": list(marked)}
    imports.append("from workbench.figures.recipes import recipes")
    lines.append(f"figure = recipes({', '.join(arguments)}{_arguments({k: v for k, v in drawn.items() if v})})")
    return "\n".join([*imports, "", *lines, ""])
