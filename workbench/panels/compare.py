"""The compare panel: several laws on the same runs, or one law on several groups of runs.

Fits, crossing, test of equal exponents and the resamples behind the multiplier are computed once, in a thread,
and kept; the sliders then ask what is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import ipywidgets as widgets
import numpy as np
import pandas as pd

from workbench import figures
from workbench.analysis.shift import ShiftAt
from workbench.engine.objective import OBJECTIVES
from workbench.figures.overlay import curve_rows, overlay, placed
from workbench.figures.recipes import recipes, shift_rows
from workbench.fits.compare import Comparison
from workbench.laws.base import get
from workbench.panels.base import Panel, guarded
from workbench.panels.compare_actions import CompareActions
from workbench.panels.compare_answer import Answer, answer, key_of, pair_key
from workbench.panels.compare_controls import CompareControls, groups_html, laws_html
from workbench.panels.compare_state import (
    KINDS,
    VIEWS,
    CompareState,
    first_state,
    groups_of,
    groups_source,
    laws_source,
    overlay_arguments,
)
from workbench.panels.fit_state import source
from workbench.panels.multiverse_controls import progress_html
from workbench.panels.work import Work
from workbench.runs.load import load
from workbench.runs.table import RunTable

__all__ = ["ComparePanel", "CompareState", "panel"]

NOTHING, WAITING = "Nothing is compared", "The laws are being fitted; the comparison appears here."
#: Answers kept.
_KEPT = 12


class ComparePanel(CompareActions, Panel):
    """Laws against laws, or groups of runs against each other.

    Args:
        runs: a `RunTable`, or anything `workbench.load` takes.
        state: where to start.
        name: the variable that holds `runs` in the code the panel writes.

    Attributes:
        found: the answer on the screen; None before the first.
        work: the calculation beside the event loop.
    """

    State = CompareState

    def __init__(self, runs: Any, state: CompareState | None = None, *, name: str = "runs") -> None:
        self.runs: RunTable = load(runs)
        self.name = name
        self.found: Answer | None = None
        self.work = Work(self._watch)
        self._why, self._syncing = WAITING, False
        self._wanted: CompareState | None = None
        self._answers: dict[str, Answer] = {}
        self._box: dict[str, list[float]] = {}
        super().__init__(state or first_state(self.runs))
        self.controls = CompareControls(self.runs)
        self.results = widgets.HTML()
        c = self.controls
        self.children = (c.top(), self.message, self.report, self.chart, c.points(), self.results, self.copy)
        self.share(self.runs)
        self._sync()
        self._connect()
        self._apply(self._state)
        if self.found is None:
            self.redraw(self._draw)

    def figure(self) -> alt.TopLevelMixin:
        """Curves over runs, or errors against scale."""
        a, s = self.found, self._state
        if a is None:
            return figures.empty(NOTHING, self._why)
        taken, marked = len(self._taken()), self._marked()
        if a.comparison is not None:
            if s.view == VIEWS[2]:
                return a.comparison.plot()
            return overlay(a.comparison, **overlay_arguments(s, taken, marked))
        return recipes(a.fits, a.cross, self._shift(), facets=s.view == VIEWS[1], left_out=taken, marked=marked)

    def table(self) -> pd.DataFrame:
        """The criteria, one row a law; or the parameters, one row a group and parameter."""
        if self.found is None:
            return pd.DataFrame()
        if self.found.comparison is not None:
            return self.found.comparison.frame
        rows = [f.intervals("bootstrap", n=400).assign(group=g) for g, f in self.found.fits.items()]
        return pd.concat(rows)

    def code(self) -> str:
        """The same comparison and figure as calls of the library."""
        a = self.found
        if a is None:
            words = f"{source(NOTHING)}, {source(self._why)}"
            return f"import workbench.figures\n\nfigure = workbench.figures.empty({words})\n"
        taken, marked = self._taken(), self._marked()
        if a.comparison is not None:
            return laws_source(self._state, self.name, taken, marked)
        asked: dict[str, Any] = {"pair": a.pair} if a.cross is not None else {}
        value = self._value()
        asked |= {"value": value} if value is not None else {}
        return groups_source(self._state, self.name, taken, marked, list(a.fits), asked)

    def close(self) -> None:
        """Give up what is being calculated, and take the panel off the screen."""
        self.work.stop()
        super().close()

    def _taken(self) -> list[str]:
        there = set(self.runs.ids)
        return [run for run in self._state.left_out if run in there]

    def _marked(self) -> list[str]:
        there = set(self.runs.ids)
        return [run for run in self.shared.marked if run in there] if self._state.view != VIEWS[2] else []

    def _value(self) -> float | None:
        """The value whose multiplier is asked for."""
        a = self.found
        if a is None or a.shift is None:
            return None
        if self._state.value is not None:
            return self._state.value
        low, high = sorted(a.shift.range)
        middle = np.sqrt(low * high) if low > 0 else (low + high) / 2
        return float(f"{middle:.4g}")

    def _shift(self, quick: bool = False) -> ShiftAt | None:
        value = self._value()
        return None if value is None else self.found.shift.at(value, quick)

    def _apply(self, state: CompareState) -> None:
        """Move to `state`, at once if its answer is known, else when it is found; stay if there is none."""
        _check(state)
        key = pair_key(state)
        if key in self._answers:
            self.work.stop()
            self._arrive(state, self._answers[key])
            return
        if self._wanted is not None and self.work.busy and pair_key(self._wanted) == key:
            self._wanted = state  # the same answer is on its way
            return
        before = self.found
        known = before if before is not None and before.fits and key_of(self._state) == key_of(state) else None
        self._wanted = state
        self.work.start(lambda tick: answer(self.runs, state, known, tick), self._done)
        self._sync(keep_text=True)

    @guarded
    def _done(self, result: Answer | None, error: BaseException | None) -> None:
        state, self._wanted = self._wanted, None
        if isinstance(error, ValueError | KeyError):
            sentence = str(error.args[0])
            if self.found is None:
                self._state, self._why = state, sentence
                self.redraw(self._draw)
            self._sync(keep_text=True)
            self.tell(sentence + (". The chart still shows the last answer." if self.found is not None else ""))
            return
        if error is not None:
            self._sync(keep_text=True)
            raise error
        self._answers[pair_key(state)] = result
        while len(self._answers) > _KEPT:
            self._answers.pop(next(iter(self._answers)))
        self._arrive(state, result)

    def _arrive(self, state: CompareState, found: Answer) -> None:
        moved = {"value": None, "at": None}
        same = self.found is found and self._state.replace(**moved) == state.replace(**moved)
        if self.found is not found:
            self._box = {}
        self._state, self.found, self._wanted = state, found, None
        self.tell(None)
        if self.shared.left_out != state.left_out:
            self.shared.change(self, left_out=state.left_out)
        self._sync(keep_text=True)
        self.redraw(self._draw, self._quick if same else None)

    def _draw(self) -> None:
        a, chart = self.found, self.figure()
        if a is None:
            self.show(chart)
            return
        if self._state.view == VIEWS[0] and isinstance(chart, alt.LayerChart):
            chart = chart.copy(deep=False)
            interval = alt.IntervalSelectionConfig(type="interval")
            chart.params = [alt.TopLevelSelectionParameter(name="brush", select=interval, views=["runs"])]
            self.show(chart, ["brush"])
        else:
            self.show(chart)
        self._tell_results(self._shift())

    def _tell_results(self, at: ShiftAt | None) -> None:
        a = self.found
        told = laws_html(a.comparison, a.notes) if a.comparison is not None else groups_html(a, at)
        self.results.value = told

    def _quick(self) -> None:
        """The curves, or the arrow, in the picture that is there; axes as they are."""
        a, s = self.found, self._state
        if a.comparison is None:
            at = self._shift(quick=True)
            self.chart.patch(**shift_rows(at))
            self._tell_results(at)
        elif s.view == VIEWS[0]:
            runs = placed(a.comparison, at=s.at)
            runs["marked"] = runs["run"].isin(set(self.shared.marked)).astype(int)
            self.chart.patch(lines=curve_rows(a.comparison, at=s.at), runs=runs)

    def _watch(self, fraction: float, left: float | None) -> None:
        state = self._wanted or self._state
        size = len(state.laws) if state.kind == KINDS[0] else len(state.groups or groups_of(self.runs, state.by))
        what = f"{size} law{'s' if size != 1 else ''}" if state.kind == KINDS[0] else f"{size} groups"
        self.controls.progress.value = progress_html(fraction, left, what)


def panel(of: RunTable | Comparison | Mapping[str, Any] | Sequence[Any] | Any, **state: Any) -> ComparePanel:
    """A compare panel on runs, on a comparison of laws, or on several tables as groups.

    Args:
        of: a `RunTable` or anything `workbench.load` takes; a `Comparison`, whose laws and runs are taken over
            (held-out runs are not in it: name the hold-out again); or a mapping from names to tables, which become
            groups of runs by the column ``table``.
        state: fields of `CompareState` that differ.

    Raises:
        ValueError: no such setting, or tables that share no columns.
    """
    if isinstance(of, Comparison):
        fit = of.best
        start = first_state(fit.runs).replace(
            laws=tuple(of.frame["law"]), y=fit.points.target, objective=fit.problem.objective.name,
            delta=float(fit.problem.objective.delta),
        )  # fmt: skip
        return ComparePanel(fit.runs, CompareState.of(**{**vars(start), **state}))
    if isinstance(of, Mapping):
        runs = together(of)
        start = first_state(runs).replace(kind=KINDS[1], by="table")
    else:
        runs = load(of)
        start = first_state(runs)
        if state.get("by") is not None and "kind" not in state:
            state = {**state, "kind": KINDS[1]}
    return ComparePanel(runs, CompareState.of(**{**vars(start), **state}))


def together(tables: Mapping[str, Any]) -> RunTable:
    """Several tables as one, told apart by the column ``table``.

    Raises:
        ValueError: fewer than two tables.
    """
    if len(tables) < 2:
        raise ValueError(f"{len(tables)} tables to compare; give at least two, as a mapping from names to tables")
    parts = []
    for name, runs in tables.items():
        frame = load(runs).frame.drop(columns="problem")
        parts.append(frame.assign(run=[f"{name}: {run}" for run in frame["run"]], table=str(name)))
    return load(pd.concat(parts, ignore_index=True))


def _check(state: CompareState) -> None:
    for name, offered in (("kind", KINDS), ("view", VIEWS), ("objective", tuple(OBJECTIVES))):
        if getattr(state, name) not in offered:
            raise ValueError(f"{name} is {getattr(state, name)!r}; choose one of {', '.join(offered)}")
    for law in (*state.laws, state.law):
        get(law)
