"""The frontier panel: approaches 1, 2 and 3 in one view, read off at a budget that can be dragged."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import altair as alt
import ipywidgets as widgets
import numpy as np
import pandas as pd

from workbench import figures
from workbench.analysis.approaches import Approaches, approaches
from workbench.analysis.at_budget import ANSWERS
from workbench.analysis.at_budget import at_budget as answers_at
from workbench.figures.at_budget import VIEWS, at_budget, rows_at
from workbench.figures.at_budget_iso import ring
from workbench.panels.base import Panel, guarded
from workbench.panels.fit_state import source
from workbench.panels.frontier_controls import FrontierControls, answers_html
from workbench.panels.frontier_state import REACH, FrontierState, arguments, computes, first_state, frontier_source
from workbench.panels.shared import Shared
from workbench.panels.work import SaidWork
from workbench.runs.load import load
from workbench.runs.table import RunTable

__all__ = ["FrontierPanel", "FrontierState", "panel"]

#: Bootstrap resamples: enough for an interval to two digits.
RESAMPLES = 400
NOTHING = "No frontier to draw"
#: Dragged in the chart: with the button down, every budget that the pointer crosses.
_DRAG = "pointerdown, [pointerdown, window:pointerup] > pointermove"


class FrontierPanel(Panel):
    """Compute-optimal size and data by three approaches, at a budget under the hand.

    Args:
        runs: a `RunTable`, or anything `workbench.load` takes.
        state: where to start.
        name: the variable that holds `runs` in the code the panel writes.

    Attributes:
        found: the approaches, or None where none works.
    """

    State = FrontierState

    def __init__(self, runs: Any, state: FrontierState | None = None, *, name: str = "runs") -> None:
        self.runs: RunTable = load(runs)
        self.name = name
        self.found: Approaches | None = None
        self._why, self._key, self._syncing = "", "", False
        low, high = computes(self.runs)
        self.reach = float(f"{REACH * high:.2g}")
        state = state or first_state(self.runs)
        if state.budget is None:
            state = state.replace(budget=first_state(self.runs).budget)
        super().__init__(state)
        self.share(self.runs)
        state = self._state
        self.controls = FrontierControls(self.runs, state, (low, self.reach))
        self.results, self.progress = widgets.HTML(), widgets.HTML()
        self.work = SaidWork("Three approaches", self.progress)
        self.children = (
            self.controls.layout(), self.message, self.report, self.progress, self.results, self.chart,
            self.controls.below(), self.copy,
        )  # fmt: skip
        self._wanted = state
        try:
            self._take(state, self._compute(state))
        except (ValueError, KeyError) as error:
            self._why, self._key = str(error.args[0]), self._of(state)
            self.tell(error)
        self._show_state()
        self._connect()
        self.redraw(self._draw)

    def figure(self) -> alt.TopLevelMixin:
        """Frontiers, isoFLOP curves and allocations at the budget; where nothing works, why not."""
        if self.found is None:
            return figures.empty(NOTHING, self._why)
        taken = self._taken(self._state)
        left = self.runs.where(self.runs["run"].isin(taken)) if taken else None
        return at_budget(self.found, self._state.budget, n=RESAMPLES, left_out=left, marked=self._marked())

    def table(self) -> pd.DataFrame:
        """The answers at the budget with intervals, one row an approach."""
        if self.found is None:
            return pd.DataFrame(columns=["approach", *ANSWERS, "note"])
        return answers_at(self.found, self._state.budget, n=RESAMPLES)

    def code(self) -> str:
        """The same figure as a call of `workbench.approaches`."""
        if self.found is None:
            words = f"{source(NOTHING)}, {source(self._why)}"
            return f"import workbench.figures\n\nfigure = workbench.figures.empty({words})\n"
        return frontier_source(self._state, self.name, self.reach, RESAMPLES, self._taken(self._state), self._marked())

    def _compute(self, state: FrontierState) -> Approaches:
        if not len(self.runs):
            raise ValueError("this table has no runs; load some with sizes, tokens or compute, and a loss")
        taken = self._taken(state)
        kept = self.runs.drop(taken) if taken else self.runs
        return approaches(kept, **arguments(state, self.reach, RESAMPLES))

    def _take(self, state: FrontierState, found: Approaches) -> None:
        if not found.frontiers:
            raise ValueError(
                "none of the three approaches gives a frontier: "
                + "; ".join(f"{r.approach}: {r.note}" for r in found.frame.itertuples())
            )
        self._state, self.found, self._key, self._why = state, found, self._of(state), ""

    def _of(self, state: FrontierState) -> str:
        """Everything in `state` that the approaches depend on."""
        return state.replace(budget=None).to_json()

    def _taken(self, state: FrontierState) -> list[str]:
        known = set(self.runs.ids)
        return [run for run in state.left_out if run in known]

    def _marked(self) -> tuple[str, ...]:
        known = set(self.runs.ids)
        return tuple(run for run in self.shared.marked if run in known)

    def _apply(self, state: FrontierState) -> None:
        """Move to `state`: at once where only the budget moves, else when the hand rests and the answer has come."""
        if not (isinstance(state.budget, int | float) and np.isfinite(state.budget) and state.budget > 0):
            self.tell(f"a budget is a positive number of FLOP such as 1e21, got {state.budget!r}")
            return
        before, self._wanted = self._wanted, state.replace(budget=float(state.budget))
        state = self._wanted
        if self._of(state) == self._key:
            self.calculate(None)
            self.work.stop()
            self._state = state
            self.tell(self._why or None)
            self.redraw_part(self._draw_budget)
            return
        self._state = self._state.replace(budget=state.budget)
        self.redraw_part(self._draw_budget)
        if not (self.work.busy and self._of(state) == self._of(before)):  # else what is wanted is being computed
            self.calculate(self._begin)

    def _begin(self) -> None:
        state = self._wanted
        self.work.start(functools.partial(self._compute, state), functools.partial(self._came, state))

    @guarded
    def _came(self, state: FrontierState, found: Approaches | None, error: Exception | None) -> None:
        """Take what was computed for `state`, or say why nothing was and stay."""
        try:
            if error is not None:
                raise error
            self._take(state.replace(budget=self._wanted.budget), found)
        except (ValueError, KeyError) as problem:
            sentence = str(problem.args[0])
            if self.found is None:
                self._why = sentence
            self.tell(sentence + (". The chart still shows the last answer." if self.found else ""))
            self._wanted = self._state
            self._show_state(keep_where=True)
            return
        self._wanted = self._state
        self.tell(None)
        self.shared.change(self, left_out=self._state.left_out)
        self._show_state(keep_where=True)
        self.redraw(self._draw)

    def close(self) -> None:
        """Take the panel off the screen; what is being computed is forgotten."""
        self.work.stop()
        super().close()

    def _draw(self) -> None:
        chart = self.figure()
        if self.found is not None:
            chart = chart.copy(deep=False)
            drag = alt.PointSelectionConfig(type="point", fields=["x"], on=_DRAG, toggle=False, clear=False)
            pick = alt.PointSelectionConfig(type="point", fields=["run"], on="click", toggle="true")
            chart.params = [
                alt.TopLevelSelectionParameter(name="budget", select=drag, views=list(VIEWS["stops"])),
                alt.TopLevelSelectionParameter(name="pick", select=pick, views=list(VIEWS["runs"])),
            ]
        self.show(chart, ["budget", "pick"] if self.found is not None else [])
        self._tabulate()

    def _draw_budget(self) -> None:
        """Move the rule and what is read off there: rows only, the drawing stays."""
        if self.found is None:
            return
        self._tabulate()
        if not self._patch(rows_at(self.found, self._state.budget, n=RESAMPLES)):
            self._draw()

    def _patch(self, rows: dict[str, pd.DataFrame]) -> bool:
        # Altair numbers the views of a concatenation, so that `spots` is called `spots_0`.
        names = {key.rpartition("_")[0] or key: key for key in self.chart.data}
        return self.chart.patch(**{names.get(name, name): frame for name, frame in rows.items() if len(frame)})

    def _tabulate(self) -> None:
        self.results.value = (
            answers_html(self.table(), self.found, self._state.budget, len(self._taken(self._state)))
            if self.found is not None
            else ""
        )

    def brushed(self, name: str, box: dict[str, list]) -> None:
        """The rule was dragged, or a run was clicked."""
        if name == "budget" and box.get("x"):
            self.controls.budget.value = float(f"{float(box['x'][0]):.4g}")
        elif name == "pick":
            self.shared.change(self, marked=[str(run) for run in box.get("run", [])])
            self._ring()

    def follow(self, selection: Shared) -> None:
        """Take out what other panels take out, and ring what they mark."""
        if selection.left_out != self._wanted.left_out:
            self._apply(self._wanted.replace(left_out=selection.left_out))
        self._ring()

    def _ring(self) -> None:
        if self.found is not None:
            self._patch({"marked": ring(self.found, self._marked())} if self._marked() else {})
            self.redraw(self._draw, lambda: None)

    def _connect(self) -> None:
        c = self.controls
        for control in (c.budget, c.y, c.size, c.law, c.method, c.where):
            control.observe(self._changed, "value")
        c.run.observe(self._named, "value")
        c.out.on_click(self._leave_out)
        c.back.on_click(self._all_back)

    @guarded
    def _changed(self, _: Any) -> None:
        if self._syncing:
            return
        c = self.controls
        self._apply(
            self._wanted.replace(
                budget=c.budget.value, y=c.y.value, size=c.size.value, law=c.law.value, method=c.method.value,
                where=c.where.value.strip() or None,
            )
        )  # fmt: skip

    @guarded
    def _named(self, change: Any) -> None:
        name = change["new"].strip()
        if self._syncing or not name:
            return
        if name not in set(self.runs.ids):
            raise ValueError(f"no run is called {name!r}; choose one from the list")
        self._take_out([name])
        self.controls.run.value = ""

    @guarded
    def _leave_out(self, _: Any) -> None:
        if not self._marked():
            raise ValueError("no run is marked; click some runs in the isoFLOP chart first")
        self._take_out(self._marked())

    @guarded
    def _all_back(self, _: Any) -> None:
        self._apply(self._wanted.replace(left_out=()))

    def _take_out(self, runs: Iterable[str]) -> None:
        self._apply(self._wanted.replace(left_out=tuple(dict.fromkeys([*self._wanted.left_out, *runs]))))

    def _show_state(self, keep_where: bool = False) -> None:
        """Set every control to the state, without asking for anything."""
        c, s = self.controls, self._wanted
        self._syncing = True
        try:
            for control, wanted in ((c.y, s.y), (c.size, s.size), (c.law, s.law), (c.method, s.method)):
                if wanted in [o[1] if isinstance(o, tuple) else o for o in control.options]:
                    control.value = wanted
            if not c.budget.min <= s.budget <= c.budget.max:
                c.budget.min, c.budget.max = min(c.budget.min, s.budget), max(c.budget.max, s.budget)
            if not np.isclose(c.budget.value, s.budget, rtol=1e-6, atol=0):
                c.budget.value = s.budget
            if not keep_where:
                c.where.value = s.where or ""
        finally:
            self._syncing = False


def panel(of: RunTable | Any, **state: Any) -> FrontierPanel:
    """A frontier panel on runs.

    Args:
        of: a `RunTable`, or anything `workbench.load` takes.
        state: fields of `FrontierState` that differ.

    Raises:
        ValueError: no such setting.
    """
    runs = load(of)
    return FrontierPanel(runs, FrontierState.of(**{**vars(first_state(runs)), **state}))
