"""The compare panel: several laws on the same runs, or one law on several groups of runs.

Fits, crossing, test of equal exponents and the resamples behind the multiplier are computed once, in a thread,
and kept; the sliders then ask what is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import altair as alt
import ipywidgets as widgets
import numpy as np
import pandas as pd

from workbench import figures
from workbench.analysis.shift import ShiftAt
from workbench.engine.objective import OBJECTIVES
from workbench.figures.overlay import axes_of, curve_rows, levels, overlay, usual
from workbench.figures.overlay import placed as placed_laws
from workbench.figures.recipes import placed as placed_groups
from workbench.figures.recipes import recipes, shift_rows
from workbench.fits.compare import Comparison
from workbench.laws.base import get
from workbench.panels.base import Panel, guarded
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
from workbench.panels.shared import Shared
from workbench.panels.work import Work
from workbench.runs.load import load
from workbench.runs.table import RunTable
from workbench.units import axis_title, quantity

__all__ = ["ComparePanel", "CompareState", "panel"]

NOTHING, WAITING = "Nothing is compared", "The laws are being fitted; the comparison appears here."
#: Answers kept.
_KEPT = 12


class ComparePanel(Panel):
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
            runs = placed_laws(a.comparison, at=s.at)
            runs["marked"] = runs["run"].isin(set(self.shared.marked)).astype(int)
            self.chart.patch(lines=curve_rows(a.comparison, at=s.at), runs=runs)

    def _watch(self, fraction: float, left: float | None) -> None:
        state = self._wanted or self._state
        size = len(state.laws) if state.kind == KINDS[0] else len(state.groups or groups_of(self.runs, state.by))
        what = f"{size} law{'s' if size != 1 else ''}" if state.kind == KINDS[0] else f"{size} groups"
        self.controls.progress.value = progress_html(fraction, left, what)

    def brushed(self, name: str, box: dict[str, list[float]]) -> None:
        """Remember the box; the buttons act on it."""
        self._box = {k: v for k, v in box.items() if k in ("x", "y")}

    def follow(self, selection: Shared) -> None:
        """Fit without the runs another panel took out; ring those it marked."""
        state = self._wanted or self._state
        if selection.left_out != state.left_out:
            self._apply(state.replace(left_out=selection.left_out))
        elif self.found is not None:
            self.redraw(self._draw)

    def _inside(self) -> list[str]:
        a, box = self.found, self._box
        if a is None or not box:
            raise ValueError("no run is inside a brush; drag over some points of the overlaid chart first")
        runs = placed_laws(a.comparison, at=self._state.at) if a.comparison is not None else placed_groups(a.fits)
        chosen = np.ones(len(runs), dtype=bool)
        for axis, ends in box.items():
            chosen &= runs[axis].between(*sorted(ends)).to_numpy()
        found = runs["run"][chosen].tolist()
        if not found:
            raise ValueError("no run is inside the brush; drag over some points of the chart")
        return found

    def _connect(self) -> None:
        c = self.controls
        for control in (c.kind, c.laws, c.law, c.by, c.groups, c.y, c.x, c.objective, c.where, c.holdout, c.view):
            control.observe(self._changed, "value")
        for control in (c.first, c.second):
            control.observe(self._paired, "value")
        c.value.observe(self._value_moved, "value")
        c.at.observe(self._level_moved, "value")
        for control, act in ((c.out, self._leave_out), (c.mark, self._mark), (c.back, self._all_back)):
            control.on_click(act)
        c.stop.on_click(self._stop)

    @guarded
    def _changed(self, change: Any) -> None:
        if self._syncing:
            return
        c, s = self.controls, self._wanted or self._state
        if change["owner"] is c.holdout and c.kind.value == KINDS[1]:
            raise ValueError("a hold-out ranks laws and means nothing to groups of runs; compare laws instead")
        by_changed = change["owner"] is c.by
        redefined = change["owner"] in (c.kind, c.law, c.by, c.groups, c.y, c.x, c.laws)
        kind = c.kind.value
        every = set(c.groups.options) == set(c.groups.value)
        self._apply(
            s.replace(
                kind=kind,
                laws=tuple(c.laws.value),
                law=c.law.value,
                by=c.by.value,
                groups=() if by_changed or every else tuple(c.groups.value),
                y=c.y.value,
                x=c.x.value,
                objective=c.objective.value,
                where=c.where.value.strip() or None,
                holdout=c.holdout.value.strip(),
                view=VIEWS[0] if kind == KINDS[1] and c.view.value == VIEWS[2] else c.view.value,
                pair=() if by_changed else s.pair,
                value=None if redefined else s.value,
                at=None if redefined else s.at,
            )
        )

    @guarded
    def _paired(self, change: Any) -> None:
        if self._syncing:
            return
        c = self.controls
        pair = (c.second.value, c.first.value)
        if pair[0] == pair[1]:
            self._sync(keep_text=True)
            raise ValueError("a group is not compared with itself; choose two different groups")
        self._apply((self._wanted or self._state).replace(pair=pair, value=None))

    @guarded
    def _value_moved(self, _: Any) -> None:
        if not self._syncing and self.found is not None:
            self._apply(self._state.replace(value=float(f"{self.controls.value.value:.4g}")))

    @guarded
    def _level_moved(self, _: Any) -> None:
        if not self._syncing and self.found is not None:
            self._apply(self._state.replace(at=float(f"{self.controls.at.value:.4g}")))

    @guarded
    def _leave_out(self, _: Any) -> None:
        state = self._state
        self._apply(state.replace(left_out=tuple(dict.fromkeys([*state.left_out, *self._inside()]))))

    @guarded
    def _mark(self, _: Any) -> None:
        self.shared.change(self, marked=self._inside())
        self.redraw(self._draw)

    @guarded
    def _all_back(self, _: Any) -> None:
        self.shared.change(self, marked=())
        self._apply((self._wanted or self._state).replace(left_out=()))
        self.redraw(self._draw)

    @guarded
    def _stop(self, _: Any) -> None:
        self.work.stop()
        self._wanted = None
        if self.found is None:
            self._why = "The calculation was stopped; change any setting to start again."
            self.redraw(self._draw)
        self._sync(keep_text=True)

    def _sync(self, keep_text: bool = False) -> None:
        """Set every control to the state that is wanted, without asking for it."""
        c, s = self.controls, self._wanted or self._state
        groups = s.kind == KINDS[1]
        with self._quietly():
            for control, wanted in (
                (c.kind, s.kind), (c.law, s.law), (c.by, s.by), (c.y, s.y), (c.x, s.x), (c.objective, s.objective),
                (c.view, s.view),
            ):  # fmt: skip
                if wanted in [o[1] if isinstance(o, tuple) else o for o in control.options]:
                    control.value = wanted
            offered = [value for _, value in c.laws.options]
            c.laws.value = tuple(law for law in s.laws if law in offered)
            names = groups_of(self.runs, s.by)
            c.groups.options = names
            c.groups.value = tuple(g for g in names if not s.groups or g in s.groups)
            if not keep_text:
                c.where.value, c.holdout.value = s.where or "", s.holdout
            for control, shown in (
                (c.laws, not groups), (c.holdout, not groups), (c.law, groups), (c.by, groups), (c.groups, groups),
                (c.first, groups), (c.second, groups), (c.value, groups),
            ):  # fmt: skip
                control.layout.display = "" if shown else "none"
            self._sync_pair(groups)
            self._sync_level(groups)
            c.progress.layout.display = c.stop.layout.display = "" if self.work.busy else "none"

    def _sync_pair(self, groups: bool) -> None:
        c, a = self.controls, self.found
        if a is None or not groups or len(a.fits) < 2:
            return
        for control, chosen in ((c.first, a.pair[1]), (c.second, a.pair[0])):
            control.options = list(a.fits)
            control.value = chosen
        value = self._value()
        c.value.disabled = value is None
        if value is not None:
            low, high = sorted(a.shift.range)
            _move(c.value, min(low, value), max(high, value), value)
            c.value.description, c.value.unit = "Value to reach", quantity(self._state.y).unit

    def _sync_level(self, groups: bool) -> None:
        c, a, s = self.controls, self.found, self._state
        by = None
        if a is not None and a.comparison is not None and s.view != VIEWS[2]:
            by = axes_of(a.comparison)[1]
        c.at.layout.display = "none" if by is None or groups else ""
        if by is None:
            return
        values = levels(a.comparison)
        value = s.at if s.at is not None else usual(a.comparison, by)
        if len(values) > 1:
            _move(c.at, min(float(values[0]), value), max(float(values[-1]), value), value)
        c.at.description, c.at.unit = f"Curves at {quantity(by).symbol or axis_title(by)}", quantity(by).unit

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        self._syncing = True
        try:
            yield
        finally:
            self._syncing = False


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


def _move(slider: Any, low: float, high: float, value: float) -> None:
    """New bounds and value, in an order in which the value is never outside."""
    if not high > low:
        low, high = low / 1.5, high * 1.5
    if not (np.isclose(slider.min, low) and np.isclose(slider.max, high)):
        slider.min, slider.max = min(low, slider.min), max(high, slider.max)
        slider.value = value
        slider.min, slider.max = low, high
        slider.step = float(np.log10(high / low) if slider.log else high - low) / 200
    elif not np.isclose(slider.value, value, rtol=1e-3, atol=0):  # else a moving slider would jitter
        slider.value = value
