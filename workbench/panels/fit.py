"""The fit panel: a law, an objective, points in or out; the curve answers while the hand moves."""

from __future__ import annotations

from typing import Any

import altair as alt
import ipywidgets as widgets
import numpy as np
import pandas as pd

from workbench import figures
from workbench.engine.objective import OBJECTIVES
from workbench.figures.curve_rows import CurveRows
from workbench.fits.fit import fit as fit_law
from workbench.fits.held import HELD, HeldOut
from workbench.fits.result import Fit
from workbench.laws.base import get
from workbench.panels import fit_views as views
from workbench.panels.base import Panel, guarded
from workbench.panels.controls import FitControls
from workbench.panels.explorer_embed import fit_embedded
from workbench.panels.fit_drawing import FitDrawing, in_notebook
from workbench.panels.fit_parameter import FIXED, FREE
from workbench.panels.fit_points import RunActions
from workbench.panels.fit_state import FitState, first_state, fit_source, source, state_of, taken, weighed
from workbench.panels.fit_views import RESAMPLES
from workbench.runs.load import load
from workbench.runs.table import RunTable

__all__ = ["FitPanel", "FitState", "panel"]

#: Starting points of a live fit.
STARTS = 64
NOTHING = "Nothing is fitted"
#: Fields whose change a refit from the present optimum follows.
_WARM = {"objective", "delta", "fixed", "tied"}
#: Fields that no fit depends on.
_ONLY_SHOWN = {"view", "question", "at", "marked"}


class FitPanel(RunActions, FitDrawing, Panel):
    """Fit one law to one table, by hand.

    Args:
        runs: a `RunTable`, or anything `workbench.load` takes.
        state: where to start; default the most general law the table can feed.
        name: the variable that holds `runs` in the code the panel writes.
    """

    State = FitState

    def __init__(self, runs: Any, state: FitState | None = None, *, name: str = "runs") -> None:
        self.runs: RunTable = load(runs)
        self.name = name
        self.fit_now: Fit | None = None  # what the screen shows: exact, or on its way there
        self._held: HeldOut | None = None
        self._exact = True
        self._why = ""
        self._base: tuple[str, Fit] | None = None
        self._drawn: FitState | None = None
        self._rows: tuple[FitState, CurveRows] | None = None
        self._box: dict[str, list[float]] = {}
        self._syncing = False
        super().__init__(state or first_state(self.runs))
        self.controls = FitControls(self.runs)
        self.results, self.card = widgets.HTML(), widgets.HTML()
        below = widgets.HBox([self.controls.points(), self.results], layout=widgets.Layout(flex_flow="row wrap"))
        self.children = (
            self.controls.layout(), self.message, self.report, self.chart, self.card, below, self.copy
        )  # fmt: skip
        self.share(self.runs)
        try:
            self.fit_now, self._held = self._fitted(self._state)
        except (ValueError, KeyError) as error:
            self._why = str(error.args[0])
            self.tell(error)
        self._show_state()
        self._connect()
        self.redraw(self._draw_full)

    @property
    def fit(self) -> Fit | None:
        """The fit of the state, without the runs held out; None where nothing can be fitted."""
        if not self._exact:
            self.fit_now, self._held = self._fitted(self._state)
            self._exact = True
        return self.fit_now

    @property
    def held(self) -> HeldOut | None:
        """The runs held out and how they are predicted; None where none is."""
        return self._held if self.fit is not None else None

    def figure(self) -> alt.TopLevelMixin:
        """The view of the state; where nothing can be fitted, why not."""
        if self.fit is None:
            return figures.empty(NOTHING, self._why)
        return views.draw(self.fit, self._held, self._state)

    def embedded(self) -> dict[str, Any] | None:
        """What a page without a kernel needs to move the curves; None for a view without them."""
        return fit_embedded(self.fit, self.figure())

    def table(self) -> pd.DataFrame:
        """Estimates with bootstrap intervals, one row a parameter; empty where nothing can be fitted."""
        if self.fit is None:
            return pd.DataFrame(columns=["estimate", "low", "high", "note"])
        return self.fit.table("bootstrap", n=RESAMPLES, digits=4)

    def code(self) -> str:
        """The same fit and figure as a call of `workbench.fit`."""
        if self.fit_now is None:
            words = f"{source(NOTHING)}, {source(self._why)}"
            return f"import workbench.figures\n\nfigure = workbench.figures.empty({words})\n"
        state, fit = self._state, self.fit_now
        held = taken(fit, state, HELD)
        text = fit_source(state, self.name, STARTS, taken(fit, state), held, state.holdout)
        return text + views.text(fit, self._held is not None, state)

    def _fitted(self, state: FitState) -> tuple[Fit, HeldOut | None]:
        """The fit of `state`. Runs taken out by hand are refitted from the fit with them, as `code` does."""
        runs, weights = weighed(state, self.runs)
        key = state.replace(left_out=(), held=(), marked=(), holdout=0.0, view="", question=None, at={}).to_json()
        if self._base is None or self._base[0] != key:
            base = fit_law(
                runs, state.law, y=state.y, x=state.x, inputs=state.inputs, where=state.where, fixed=state.fixed,
                tied=state.tied, objective=state.objective, delta=state.delta, cluster=state.cluster, weights=weights,
                starts=STARTS,
            )  # fmt: skip
        else:
            base = self._base[1]
        inside = set(base.points.frame["run"])
        gone = [run for run in state.left_out if run in inside]
        fit = base.without(gone) if gone else base
        apart_by_hand = [run for run in state.held if run in inside and run not in set(gone)]
        held = fit.hold_out(state.holdout, apart_by_hand) if apart_by_hand or state.holdout else None
        self._base = (key, base)
        return (fit, None) if held is None else (held.fit, held)

    def _apply(self, state: FitState) -> None:
        """Move to `state` if it can be fitted; else say why not and stay."""
        changed = {name for name, value in vars(state).items() if value != getattr(self._state, name)}
        try:
            if self.fit_now is not None and changed <= _ONLY_SHOWN:
                fit, held, exact = self.fit_now, self._held, self._exact
            elif in_notebook() and self._can_follow(state, changed):
                fit = self.fit_now.refit(
                    objective=state.objective, delta=state.delta, fixed=state.fixed, tied=state.tied
                )
                held, exact = self._held, False
            else:
                (fit, held), exact = self._fitted(state), True
        except (ValueError, KeyError) as error:
            sentence = str(error.args[0])
            kept = self.fit_now is not None
            if not kept:
                self._why = sentence
            self.tell(sentence + (". The chart still shows the last fit." if kept else ""))
            return
        self._state, self.fit_now, self._held, self._exact = state, fit, held, exact
        if "left_out" in changed:  # what came from the others is theirs already
            self.shared.change(self, left_out=state.left_out)
        self.tell(None)
        # Another view is asked for once, not by a moving hand.
        self.redraw(self._draw_full, None if changed & {"view", "question"} else self._draw_quick)

    def _can_follow(self, state: FitState, changed: set[str]) -> bool:
        """Whether a refit from the present optimum follows the change."""
        return (
            self.fit_now is not None
            and changed <= _WARM
            and OBJECTIVES.get(state.objective, (None,))[0] == self.fit_now.problem.objective.in_logs
        )

    def _connect(self) -> None:
        c = self.controls
        for control in (c.law, c.y, c.x, c.objective, c.delta, c.weights, c.where, c.holdout):
            control.observe(self._changed, "value")
        for control in (c.view, c.question, c.at):
            control.observe(self._viewed, "value")
        self._connect_points()

    @guarded
    def _changed(self, change: Any) -> None:
        if self._syncing:
            return
        c, s = self.controls, self._state
        single = len(get(c.law.value).inputs) == 1
        same_law = c.law.value == s.law
        moved = next((n for n, p in c.parameters.items() if p.value is change["owner"]), None)
        fixed, tied = dict(s.fixed), dict(s.tied)
        for name, control in c.parameters.items():
            mode = FIXED if name == moved else control.mode.value
            was = FIXED if name in s.fixed else s.tied.get(name, FREE)
            if mode == was and name != moved:
                continue
            fixed.pop(name, None), tied.pop(name, None)
            if mode == FIXED:
                fixed[name] = float(f"{control.value.value:.6g}")
            elif mode != FREE:
                tied[name] = mode
        weights, variance = c.weights.value
        self._apply(
            s.replace(
                law=c.law.value,
                y=c.y.value,
                x=c.x.value if single else None,
                objective=c.objective.value,
                delta=_moved(c.delta.value, s.delta),
                # parameters, inputs and what is asked of them belong to a law and mean nothing to another
                fixed=fixed if same_law else {},
                tied=tied if same_law else {},
                inputs=s.inputs if same_law else {},
                question=s.question if same_law else None,
                at=s.at if same_law else {},
                where=c.where.value.strip() or None,
                weights=weights,
                variance=variance,
                holdout=float(f"{c.holdout.value / 100:.4g}"),
            )
        )
        self._show_state(keep_where=True)

    @guarded
    def _viewed(self, change: Any) -> None:
        if self._syncing:
            return
        c, s = self.controls, self._state
        question = c.question.value
        at = s.at if question == s.question else {}
        if change["owner"] is c.at:
            at = {views.at_column(self.fit_now, question): float(f"{c.at.value:.4g}")}
        self._apply(s.replace(view=c.view.value, question=question, at=at))
        self._show_state(keep_where=True)

    def _offer_questions(self) -> None:
        """The conclusions of the present fit, and where one is asked; only beside the view that asks."""
        c, s = self.controls, self._state
        asking = s.view == "influence" and self.fit_now is not None
        c.question.layout.display = "" if asking else "none"
        column = views.at_column(self.fit_now, s.question) if asking else None
        c.at.layout.display = "" if column else "none"
        if not asking:
            return
        self._syncing = True
        try:
            c.question.options = [("automatic", None), *views.questions(self.fit_now)]
            if s.question in [value for _, value in c.question.options]:
                c.question.value = s.question
            if column:
                low, high, value = views.places(self.fit_now, column, s.at)
                c.at.min, c.at.max = min(low, c.at.min), max(high, c.at.max)
                c.at.value, c.at.unit = value, views.unit_of(column)
                c.at.min, c.at.max = low, high
        finally:
            self._syncing = False

    def _show_state(self, keep_where: bool = False) -> None:
        """Set every control to the state, without asking for a refit."""
        c, s = self.controls, self._state
        self._syncing = True
        try:
            law = get(s.law)
            if list(c.parameters) != list(law.symbols):
                c.offer_parameters(law)
                for control in c.parameters.values():
                    control.mode.observe(self._changed, "value")
                    control.value.observe(self._changed, "value")
            for symbol, control in c.parameters.items():
                mode = FIXED if symbol in s.fixed else s.tied.get(symbol, FREE)
                control.show(s.fixed.get(symbol, self._estimate(symbol)), mode, bool(self.message.value))
            for control, wanted in (
                (c.law, s.law), (c.y, s.y), (c.x, s.x), (c.objective, s.objective), (c.view, s.view),
                (c.weights, (s.weights, s.variance)),
            ):  # fmt: skip
                if wanted in [o[1] if isinstance(o, tuple) else o for o in control.options]:
                    control.value = wanted
            if not np.isclose(c.delta.value, s.delta, rtol=1e-3, atol=0):  # else a moving slider would jitter
                c.delta.value = s.delta
            if not np.isclose(c.holdout.value, 100 * s.holdout):
                c.holdout.value = 100 * s.holdout
            c.delta.disabled = OBJECTIVES.get(s.objective, ("", ""))[1] != "huber"
            c.x.layout.display = "" if len(law.inputs) == 1 else "none"
            if not keep_where:
                c.where.value = s.where or ""
            c.run.value = ""
            names = [(run, run) for run in s.left_out] + [(f"{run} (held out)", run) for run in s.held]
            if list(c.left.options) != names:
                c.left.options = names
            if self._state.view != "influence":
                c.question.layout.display = c.at.layout.display = "none"
        finally:
            self._syncing = False

    def _estimate(self, symbol: str) -> float:
        return self.fit_now.params.get(symbol, 0.0) if self.fit_now is not None else np.nan


def panel(of: Fit | RunTable | Any, **state: Any) -> FitPanel:
    """A fit panel on runs, or on a fit from whose settings it starts.

    Args:
        of: a `Fit`, a `RunTable`, or anything `workbench.load` takes.
        state: fields of `FitState` that differ.

    Raises:
        ValueError: no such setting, or a fit with unequal weights that are in no column.
    """
    if not isinstance(of, Fit):
        runs = load(of)
        return FitPanel(runs, FitState.of(**{**vars(first_state(runs)), **state}))
    start = state_of(of)
    return FitPanel(of.runs, FitState.of(**{**vars(start), **state}))


def _moved(value: float, was: float) -> float:
    """What a slider says, unless that is what it was told."""
    return was if np.isclose(value, was, rtol=1e-3, atol=0) else float(f"{value:.4g}")
