"""The planner: a budget of FLOP or money to size, tokens and loss, and the probes that would teach most."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import altair as alt
import ipywidgets as widgets
import pandas as pd

from workbench import figures
from workbench.analysis.frontier import Frontier, frontier
from workbench.analysis.next_runs import NextRuns
from workbench.analysis.planning import bill, next_probes
from workbench.figures.planner import planner, rows_at
from workbench.fits.result import Fit
from workbench.panels.base import Panel, guarded
from workbench.panels.fit_state import source
from workbench.panels.frontier_state import computes
from workbench.panels.planner_controls import NUMBERS, PlannerControls, bill_html, plan_html, probes_html
from workbench.panels.planner_probes import base_of, sweep_of
from workbench.panels.planner_state import (
    PlannerState,
    budget_of,
    cost_of,
    first_state,
    fitted,
    hardware_of,
    held_of,
    planner_source,
)
from workbench.panels.shared import Shared
from workbench.panels.work import SaidWork
from workbench.probes.spec import Probe
from workbench.probes.sweep import Sweep
from workbench.runs.load import load
from workbench.runs.table import RunTable

__all__ = ["PlannerPanel", "PlannerState", "panel"]

#: Bootstrap resamples: enough for an interval to two digits.
RESAMPLES = 400
NOTHING = "Nothing to plan with"


class PlannerPanel(Panel):
    """What to train for a budget, what it costs, and which probes would make that more certain.

    Args:
        runs: a `RunTable`, or anything `workbench.load` takes.
        state: where to start.
        base: the probe that suggested probes are like; default the one that the runs' sweep states.
        on_probes: called with the `Sweep` when the reader hands the suggested probes over; by default the probe
            panel opens below.
        name: the variable that holds `runs` in the code the panel writes.

    Attributes:
        fit: the fit that plans, or None where there is none.
        plan: the plan at the budget, a `Frontier`.
        answer: the suggested probes, a `NextRuns`, or None.
        probes: the sweep handed over last.
    """

    State = PlannerState

    def __init__(
        self,
        runs: Any,
        state: PlannerState | None = None,
        *,
        base: Probe | None = None,
        on_probes: Callable[[Sweep], Any] | None = None,
        name: str = "runs",
    ) -> None:
        self.runs: RunTable = load(runs)
        self.name, self.on_probes = name, on_probes
        self.base = base or base_of(self.runs)
        self.fit: Fit | None = None
        self.plan: Frontier | None = None
        self.answer: NextRuns | None = None
        self.probes: Sweep | None = None
        self._why, self._why_none, self._key, self._answered, self._syncing = "", "", "", "", False
        state = state or first_state(self.runs)
        super().__init__(state)
        self.share(self.runs)
        state = self._state
        self._wanted = state
        self.controls = PlannerControls(self.runs, state)
        self.results, self.bill, self.suggested = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self.progress, self.area = widgets.HTML(), widgets.VBox()
        self.work = SaidWork("Fit and bootstrap", self.progress)
        wrap = widgets.Layout(flex_flow="row wrap", align_items="flex-start")
        self.children = (
            self.controls.layout(), self.message, self.report, self.progress,
            widgets.HBox([self.results, self.bill], layout=wrap), self.chart, self.controls.below(), self.suggested,
            self.copy, self.area,
        )  # fmt: skip
        try:
            self._take(state, self._compute(state))
        except (ValueError, KeyError) as error:
            self._why, self._key = str(error.args[0]), self._of(state)
            self.tell(error)
        self._show_state()
        self._connect()
        self.redraw(self._draw)

    def figure(self) -> alt.TopLevelMixin:
        """The loss that the budget buys, sizes near the best, candidates for probes; if there is no fit, why not."""
        if self.fit is None:
            return figures.empty(NOTHING, self._why)
        self._suggest()
        s = self._state
        return planner(
            self.fit, budget_of(s), cost=cost_of(s), held=held_of(s), span=self._span(), probes=self.answer, n=RESAMPLES
        )

    def table(self) -> pd.DataFrame:
        """The plan with intervals: one row; empty where nothing can be planned."""
        return self.plan.frame if self.plan is not None else pd.DataFrame(columns=["flops", "params", "tokens"])

    def code(self) -> str:
        """The same fit, probes and figure as calls of the library."""
        if self.fit is None:
            words = f"{source(NOTHING)}, {source(self._why)}"
            return f"import workbench.figures\n\nfigure = workbench.figures.empty({words})\n"
        derive = "unique_tokens" not in self.runs
        taken = self._taken(self._state)
        return planner_source(self._state, self.name, derive, taken, self._span(), RESAMPLES, self.answer is not None)

    def _span(self) -> tuple[float, float]:
        low, high = computes(self.runs)
        return low, float(f"{max(100 * high, 3 * budget_of(self._state)):.2g}")

    def _taken(self, state: PlannerState) -> list[str]:
        known = set(self.runs.ids)
        return [run for run in state.left_out if run in known]

    def _of(self, state: PlannerState) -> str:
        """Everything in `state` that the fit depends on."""
        rate = state.R_D if state.data == "assumed" else None
        return repr((state.data, rate, state.y, state.size, state.where, state.left_out))

    def _compute(self, state: PlannerState) -> Fit:
        fit = fitted(self.runs, state, self._taken(state))
        if fit.degrees >= 1:
            fit.joint_draws(RESAMPLES)
        return fit

    def _planned(self, fit: Fit, state: PlannerState) -> Frontier:
        return frontier(fit, [budget_of(state)], cost=cost_of(state), held=held_of(state), n=RESAMPLES)

    def _take(self, state: PlannerState, fit: Fit) -> None:
        plan = self._planned(fit, state)  # refuses settings that make no sense before anything is taken over
        bill(plan, hardware_of(state), gpus=state.gpus, serve_utilisation=state.serve_utilisation)
        self._state, self.fit, self.plan, self._key, self._why = state, fit, plan, self._of(state), ""

    def _suggest(self) -> None:
        """Choose probes for the state, unless they are chosen already."""
        s = self._state
        key = s.to_json()
        if key == self._answered or self.fit is None:
            return
        try:
            self.answer = next_probes(
                self.fit, budget_of(s), s.asked, budget=s.probe_budget, n=s.probes, cost=cost_of(s), held=held_of(s)
            )
            self._why_none = ""
        except ValueError as error:
            self.answer, self._why_none = None, str(error)
        self._answered = key
        self.copy.text = self.code()

    def _apply(self, state: PlannerState) -> None:
        """Move to `state`: at once with the fit there is, else when the hand rests and the fit has come."""
        before, self._wanted = self._wanted, state
        if self._of(state) == self._key:
            self.calculate(None)
            self.work.stop()
            if self.fit is None:
                return
            try:
                self._take(state, self.fit)
            except (ValueError, KeyError) as error:
                self._refuse(error)
                return
            self.tell(None)
            self.redraw(self._draw, self._draw_quick)
        elif not (self.work.busy and self._of(state) == self._of(before)):
            self.calculate(self._begin)

    def _begin(self) -> None:
        state = self._wanted
        self.work.start(functools.partial(self._compute, state), functools.partial(self._came, state))

    @guarded
    def _came(self, state: PlannerState, fit: Fit | None, error: Exception | None) -> None:
        """Take what was fitted for `state`, or say why nothing was and stay."""
        try:
            if error is not None:
                raise error
            self._take(self._wanted if self._of(self._wanted) == self._of(state) else state, fit)
        except (ValueError, KeyError) as problem:
            self._refuse(problem)
            return
        self._wanted = self._state
        self.tell(None)
        self.shared.change(self, left_out=self._state.left_out)
        self._show_state(keep_where=True)
        self.redraw(self._draw)

    def _refuse(self, problem: Exception) -> None:
        sentence = str(problem.args[0])
        if self.fit is None:
            self._why = sentence
        self.tell(sentence + (". The chart still shows the last plan." if self.fit else ""))
        self._wanted = self._state
        self._show_state(keep_where=True)

    def _draw(self) -> None:
        self.show(self.figure())
        self._tabulate()
        self.suggested.value = probes_html(self.answer, self._why_none) if self.fit is not None else ""

    def _draw_quick(self) -> None:
        """The plan at once; axes and probes follow when the hand rests."""
        self._tabulate()
        s = self._state
        rows = rows_at(self.fit, budget_of(s), cost=cost_of(s), held=held_of(s), n=RESAMPLES, plan=self.plan)
        # Altair numbers the views of a concatenation, so that `spot` is called `spot_0`.
        names = {key.rpartition("_")[0] or key: key for key in self.chart.data}
        if not self.chart.patch(**{names.get(k, k): rows[k] for k in ("spot", "along", "least")}):
            self._draw()

    def _tabulate(self) -> None:
        if self.plan is None:
            self.results.value = self.bill.value = ""
            return
        s = self._state
        self.results.value = plan_html(self.plan, self.fit.n_runs, held_of(s))
        costs = bill(self.plan, hardware_of(s), gpus=s.gpus, serve_utilisation=s.serve_utilisation)
        self.bill.value = bill_html(costs, s.gpus)

    def follow(self, selection: Shared) -> None:
        """Take out what other panels take out."""
        if selection.left_out != self._wanted.left_out:
            self._apply(replace(self._wanted, left_out=selection.left_out))

    def _connect(self) -> None:
        c = self.controls
        for control in (
            c.kind, c.serving, c.data, c.y, c.size, c.where, c.asked, *(getattr(c, name) for name in NUMBERS)
        ):  # fmt: skip
            control.observe(self._changed, "value")
        c.hand.on_click(self._hand_over)

    @guarded
    def _changed(self, _: Any) -> None:
        if self._syncing:
            return
        c = self.controls
        values: dict[str, Any] = {name: getattr(c, name).value for name in NUMBERS}
        values |= {"gpus": max(1, round(values["gpus"])), "probes": max(1, round(values["probes"]))}
        values["served"] = values["served"] if c.serving.value else 0.0
        values |= {"in_money": c.kind.value, "data": c.data.value, "y": c.y.value, "size": c.size.value}
        values |= {"asked": c.asked.value, "where": c.where.value.strip() or None}
        self._apply(replace(self._wanted, **values))
        self._show_state(keep_where=True)

    @guarded
    def _hand_over(self, _: Any) -> None:
        self._suggest()
        if self.answer is None:
            raise ValueError(f"there are no probes to hand over: {self._why_none or self._why}")
        if self.base is None:
            raise ValueError(
                "these runs do not say which probe they were made with, so that sizes alone do not make a sweep; open "
                "the planner with base=Probe(...), or train the sizes of the table by your own means"
            )
        self.probes, notes = sweep_of(self.answer.chosen, self.runs, self.base, self._state.size)
        self.tell("; ".join(notes) or None)
        if self.on_probes is not None:
            self.on_probes(self.probes)
            return
        from workbench.panels.probes import ProbePanel  # launches things, so only where it is asked for

        for old in self.area.children:
            old.close()
        self.area.children = (ProbePanel(sweep=self.probes),)

    def close(self) -> None:
        """Take the panel off the screen; what is being computed is forgotten."""
        self.work.stop()
        super().close()

    def _show_state(self, keep_where: bool = False) -> None:
        self._syncing = True
        try:
            self.controls.show(self._wanted)
            if not keep_where:
                self.controls.where.value = self._wanted.where or ""
        finally:
            self._syncing = False


def panel(of: RunTable | Any, *, base: Probe | None = None, on_probes: Any = None, **state: Any) -> PlannerPanel:
    """A planner on runs.

    Args:
        of: a `RunTable`, or anything `workbench.load` takes.
        base, on_probes: as in `PlannerPanel`.
        state: fields of `PlannerState` that differ.

    Raises:
        ValueError: no such setting.
    """
    runs = load(of)
    start = PlannerState.of(**{**vars(first_state(runs)), **state})
    return PlannerPanel(runs, start, base=base, on_probes=on_probes)
