"""The fit panel: a law, an objective, points in or out; the curve answers while the hand moves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import altair as alt
import ipywidgets as widgets
import numpy as np
import pandas as pd

from workbench import figures
from workbench.engine.objective import OBJECTIVES
from workbench.fits.fit import fit as fit_law
from workbench.fits.result import Fit
from workbench.laws.base import get
from workbench.panels.base import Panel, guarded
from workbench.panels.controls import FitControls
from workbench.panels.fit_state import FitState, first_state, fit_source, source, state_of
from workbench.panels.results import parameters_html
from workbench.runs.load import load
from workbench.runs.table import RunTable

__all__ = ["FitPanel", "FitState", "panel"]

#: Starting points and bootstrap resamples of a live fit: enough for the eye, few enough for a slider.
STARTS, RESAMPLES = 64, 200
NOTHING = "Nothing is fitted"


class FitPanel(Panel):
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
        self.fit: Fit | None = None
        self._why = ""
        self._base: tuple[str, Fit] | None = None
        self._box: dict[str, list[float]] = {}
        self._syncing = False
        super().__init__(state or first_state(self.runs))
        self.controls = FitControls(self.runs)
        self.results = widgets.HTML()
        below = widgets.HBox([self.controls.points(), self.results], layout=widgets.Layout(flex_flow="row wrap"))
        self.children = (self.controls.layout(), self.message, self.report, self.chart_area, below, self.copy)
        try:
            self.fit = self._fitted(self._state)
        except (ValueError, KeyError) as error:
            self._why = str(error.args[0])
            self.tell(error)
        self._show_state()
        self._connect()
        self.redraw(self._draw_full)

    @property
    def state(self) -> FitState:
        """The state; assigning one refits and sets every control."""
        return self._state

    @state.setter
    def state(self, state: FitState) -> None:
        self._apply(state)
        self._show_state()

    def figure(self) -> alt.TopLevelMixin:
        """Runs, curve and band of the state; where nothing can be fitted, why not."""
        if self.fit is None:
            return figures.empty(NOTHING, self._why)
        return self.fit.plot(n=RESAMPLES)

    def table(self) -> pd.DataFrame:
        """Estimates with bootstrap intervals, one row a parameter; empty where nothing can be fitted."""
        if self.fit is None:
            return pd.DataFrame(columns=["estimate", "low", "high", "note"])
        return self.fit.table("bootstrap", n=RESAMPLES, digits=4)

    def code(self) -> str:
        """The same fit and figure as a call of `workbench.fit`."""
        if self.fit is None:
            words = f"{source(NOTHING)}, {source(self._why)}"
            return f"import workbench.figures\n\nfigure = workbench.figures.empty({words})\n"
        taken = _present(self._base[1], self._state.left_out)
        return fit_source(self._state, self.name, STARTS, taken) + f"figure = fit.plot(n={RESAMPLES})\n"

    def _fitted(self, state: FitState) -> Fit:
        """The fit of `state`. Runs taken out by hand are refitted from the fit with them, as `code` does."""
        key = state.replace(left_out=()).to_json()
        if self._base is None or self._base[0] != key:
            base = fit_law(
                self.runs, state.law, y=state.y, x=state.x, inputs=state.inputs, where=state.where, fixed=state.fixed,
                tied=state.tied, objective=state.objective, delta=state.delta, cluster=state.cluster, starts=STARTS,
            )  # fmt: skip
        else:
            base = self._base[1]
        taken = _present(base, state.left_out)
        fitted = base.without(taken) if taken else base
        self._base = (key, base)
        return fitted

    def _apply(self, state: FitState) -> None:
        """Move to `state` if it can be fitted; else say why not and stay."""
        try:
            fitted = self._fitted(state)
        except (ValueError, KeyError) as error:
            sentence = str(error.args[0])
            kept = self.fit is not None
            if not kept:
                self._why = sentence
            self.tell(sentence + (". The chart still shows the last fit." if kept else ""))
            return
        self._state, self.fit, self._box = state, fitted, {}
        self.tell(None)
        self.redraw(self._draw_full, self._draw_quick)

    def _draw_full(self) -> None:
        self._put(self.figure())
        self.results.value = self._told(self.table())

    def _draw_quick(self) -> None:
        self._put(self.fit.plot(band=False))
        estimates = {s: float(f"{v:.4g}") for s, v in self.fit.params.items()}
        self.results.value = self._told(
            pd.DataFrame({"estimate": estimates, "low": np.nan, "high": np.nan, "note": "…"})
        )

    def _put(self, chart: alt.TopLevelMixin) -> None:
        if self.fit is None:
            self.show(chart)
            return
        chart = chart.copy(deep=False)
        interval = alt.IntervalSelectionConfig(type="interval")
        chart.params = [alt.TopLevelSelectionParameter(name="brush", select=interval, views=["runs"])]
        self.show(chart, ["brush"])

    def _told(self, table: pd.DataFrame) -> str:
        return parameters_html(self.fit, table, RESAMPLES) if self.fit is not None else ""

    def brushed(self, name: str, box: dict[str, list[float]]) -> None:
        """Remember the box; the buttons act on it."""
        self._box = {k: v for k, v in box.items() if k in ("x", "y")}

    def _connect(self) -> None:
        c = self.controls
        for control in (c.law, c.y, c.x, c.objective, c.delta, c.where):
            control.observe(self._changed, "value")
        c.run.observe(self._named, "value")
        for button, act in (
            (c.out, self._leave_out),
            (c.only, self._keep_only),
            (c.back, self._all_back),
            (c.put_back, self._put_back),
        ):
            button.on_click(act)

    @guarded
    def _changed(self, _: Any) -> None:
        if self._syncing:
            return
        c, s = self.controls, self._state
        single = len(get(c.law.value).inputs) == 1
        same_law = c.law.value == s.law
        self._apply(
            s.replace(
                law=c.law.value,
                y=c.y.value,
                x=c.x.value if single else None,
                objective=c.objective.value,
                delta=float(f"{c.delta.value:.4g}")
                if not np.isclose(c.delta.value, s.delta, rtol=1e-3, atol=0)
                else s.delta,
                # parameters and inputs belong to a law and mean nothing to another
                fixed={n: value.value for n, (box, value) in c.fixes.items() if box.value} if same_law else {},
                tied=s.tied if same_law else {},
                inputs=s.inputs if same_law else {},
                where=c.where.value.strip() or None,
            )
        )
        self._show_state(keep_where=True)

    @guarded
    def _value_typed(self, change: Any) -> None:
        """Typing a value fixes the parameter at it."""
        if self._syncing:
            return
        for box, value in self.controls.fixes.values():
            if value is change["owner"] and not box.value:
                box.value = True
                return
        self._changed(change)

    @guarded
    def _named(self, change: Any) -> None:
        name = change["new"].strip()
        if self._syncing or not name:
            return
        if self.fit is None or name not in set(self.fit.points.frame["run"]):
            raise ValueError(f"no run called {name!r} is in the fit; choose one from the list")
        self._take_out([name])
        self._show_state()

    @guarded
    def _leave_out(self, _: Any) -> None:
        self._take_out(self._inside())

    @guarded
    def _keep_only(self, _: Any) -> None:
        inside = set(self._inside())
        self._take_out([run for run in self.fit.points.frame["run"] if run not in inside])

    @guarded
    def _all_back(self, _: Any) -> None:
        self.state = self._state.replace(left_out=())

    @guarded
    def _put_back(self, _: Any) -> None:
        chosen = set(self.controls.left.value)
        if not chosen:
            raise ValueError("select runs in the list of left-out runs first")
        self.state = self._state.replace(left_out=tuple(r for r in self._state.left_out if r not in chosen))

    def _inside(self) -> list[str]:
        inside = figures.inside(self.fit, self._box) if self.fit is not None else []
        if not inside:
            raise ValueError("no run is inside a brush; drag over some points of the chart first")
        return inside

    def _take_out(self, runs: Iterable[str]) -> None:
        self.state = self._state.replace(left_out=tuple(dict.fromkeys([*self._state.left_out, *runs])))

    def _show_state(self, keep_where: bool = False) -> None:
        """Set every control to the state, without asking for a refit."""
        c, s = self.controls, self._state
        self._syncing = True
        try:
            law = get(s.law)
            if list(c.fixes) != list(law.symbols):
                c.offer_fixes(law)
                for box, value in c.fixes.values():
                    box.observe(self._changed, "value")
                    value.observe(self._value_typed, "value")
            if not self.message.value:  # a value that was refused stays, for its owner to mend
                for symbol, (box, value) in c.fixes.items():
                    box.value = symbol in s.fixed
                    value.value = float(f"{s.fixed.get(symbol, self._estimate(symbol)):.4g}")
            for control, wanted in ((c.law, s.law), (c.y, s.y), (c.x, s.x), (c.objective, s.objective)):
                if wanted in [o[1] if isinstance(o, tuple) else o for o in control.options]:
                    control.value = wanted
            if not np.isclose(c.delta.value, s.delta, rtol=1e-3, atol=0):  # else a moving slider would jitter
                c.delta.value = min(max(s.delta, c.delta.base**c.delta.min), c.delta.base**c.delta.max)
            c.delta.disabled = OBJECTIVES.get(s.objective, ("", ""))[1] != "huber"
            c.x.layout.display = "" if len(law.inputs) == 1 else "none"
            if not keep_where:
                c.where.value = s.where or ""
            c.run.value = ""
            c.left.options = list(s.left_out)
        finally:
            self._syncing = False

    def _estimate(self, symbol: str) -> float:
        return self.fit.params.get(symbol, 0.0) if self.fit is not None else 0.0


def panel(of: Fit | RunTable | Any, **state: Any) -> FitPanel:
    """A fit panel on runs, or on a fit from whose settings it starts.

    Args:
        of: a `Fit`, a `RunTable`, or anything `workbench.load` takes.
        state: fields of `FitState` that differ.

    Raises:
        ValueError: no such setting, or a fit with unequal weights, which the panel cannot reproduce.
    """
    if not isinstance(of, Fit):
        runs = load(of)
        return FitPanel(runs, FitState.of(**{**vars(first_state(runs)), **state}))
    start = state_of(of)
    return FitPanel(of.runs, FitState.of(**{**vars(start), **state}))


def _present(base: Fit, runs: Iterable[str]) -> list[str]:
    """Those of `runs` that are in the fit; others are already out for another reason."""
    inside = set(base.points.frame["run"])
    return [run for run in runs if run in inside]
