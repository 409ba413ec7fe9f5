"""The law explorer: a slider for each parameter, the terms drawn apart, a guess before the fit is revealed."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from workbench.analysis.guess import judge, misfit
from workbench.figures.explorer import FIT, SUM, drawable, explorer, scene
from workbench.fits.fit import fit as fit_law
from workbench.fits.points import Points, gather
from workbench.fits.result import Fit
from workbench.laws.base import Law, get, names
from workbench.laws.examples import Range, example, ranges
from workbench.panels.base import Panel, guarded
from workbench.panels.controls import laws_for, metrics, scales
from workbench.panels.explorer_controls import ExplorerControls, explorable, guess_html, misfit_html
from workbench.panels.explorer_embed import explorer_embedded
from workbench.panels.explorer_state import STARTS, ExplorerState, explorer_source
from workbench.runs.load import load
from workbench.runs.table import RunTable

__all__ = ["ExplorerPanel", "ExplorerState", "panel"]


class ExplorerPanel(Panel):
    """Any law, moved by hand.

    Args:
        runs: runs to draw around it: a `RunTable`, or anything `workbench.load` takes; None for the law alone.
        state: where to start.
        name: the variable that holds `runs` in the code the panel writes.

    Attributes:
        scene: where the law is evaluated.
        params: every parameter, as the sliders stand.
        fit: the fit that is, or will be, revealed; None without enough runs.
    """

    State = ExplorerState

    def __init__(self, runs: Any = None, state: ExplorerState | None = None, *, name: str = "runs") -> None:
        self.runs: RunTable | None = None if runs is None else load(runs)
        self.name = name
        self.fit: Fit | None = None
        self._points: Points | None = None
        self._key: tuple = ()
        self._why = ""
        self._syncing = False
        super().__init__(state or ExplorerState())
        ys = None if self.runs is None else metrics(self.runs) or ["loss"]
        self.controls = ExplorerControls(ys, None if self.runs is None else _fed(self.runs))
        self._scales = [] if self.runs is None else scales(self.runs)
        self.children = (
            self.controls.above(), self.message, self.report, self.chart, self.controls.below(), self.copy,
        )  # fmt: skip
        self._move(self._state)
        self._connect()
        self.redraw(self._draw_full)

    @property
    def state(self) -> ExplorerState:
        """The state; assigning one sets every control."""
        return self._state

    @state.setter
    def state(self, state: ExplorerState) -> None:
        moved = state.replace(params=self._state.params, held=self._state.held) == self._state
        self._move(state)
        self.redraw(self._draw_full, self._draw_quick if moved else None)

    def figure(self) -> alt.TopLevelMixin:
        """The law, its terms, the runs, and the fit once it is revealed."""
        return explorer(
            self._state.law, self.params, fit=self._revealed(), terms=self._state.terms, log=self._state.log,
            y=self._state.y, _scene=self.scene,
        )  # fmt: skip

    def table(self) -> pd.DataFrame:
        """One row a parameter: its ``value``; ``guess``, ``fitted``, ``factor`` and ``difference`` once revealed."""
        frame = pd.DataFrame({"value": self.params})
        frame.index.name = "parameter"
        if self._revealed() is None or self._state.guess is None:
            return frame
        return frame.join(judge(self.fit, self._state.guess).frame)

    def code(self) -> str:
        """The same figure as a call of `workbench.figures.explorer.explorer`."""
        drawn = self.name if self._points is not None else None
        return explorer_source(
            self._state, self.params, self.scene.x, self.scene.held, drawn, self._revealed() is not None
        )

    def embedded(self) -> dict[str, Any]:
        """What a page without a kernel needs to go on; see `workbench.panels.explorer_embed`."""
        return explorer_embedded(self)

    def _revealed(self) -> Fit | None:
        return self.fit if self._state.guess is not None else None

    def _move(self, state: ExplorerState) -> None:
        """Go to `state`; a state that cannot be shown is refused before anything changes."""
        law = get(state.law)
        if not explorable(law):
            raise ValueError(f"{law.name} has no value without learning-rate schedules; choose another law")
        key = (state.law, state.y, tuple(sorted(state.inputs.items())))
        fresh = key != self._key
        points, fit, why, start, reach = (
            self._set_up(law, state) if fresh else (self._points, self.fit, self._why, self._start, self._reach)
        )
        if fresh or (state.x, state.held) != (self._state.x, self._state.held):
            at = scene(law, x=state.x, held=state.held, points=points)
        else:
            at = self.scene
        unknown = [s for s in [*state.params, *(state.guess or {})] if s not in law.symbols]
        if unknown:
            raise ValueError(f"{law.name} has no parameter {unknown[0]!r}; it has {', '.join(law.symbols)}")
        if state.guess is not None and (fit is None or set(state.guess) != set(law.symbols)):
            raise ValueError(why or f"a guess at {law.name} names each of {', '.join(law.symbols)}")
        self._points, self.fit, self._why, self._start, self._reach = points, fit, why, start, reach
        self._key, self._state, self.scene = key, state, at
        self.params = start | {s: float(v) for s, v in state.params.items()}
        self.tell(why or None)
        self._sync(fresh)

    def _set_up(self, law: Law, state: ExplorerState) -> tuple:
        """Points, fit, what is wrong with them, and where the sliders start and end, for a law and a column."""
        points, fit, why = None, None, ""
        if self.runs is not None:
            try:
                points = gather(law, self.runs, state.y, None, state.inputs)
                if not len(points):
                    raise ValueError("none of the runs has what the law needs")
            except (ValueError, KeyError) as error:
                points, why = None, f"{_sentence(error)}. The law is shown without runs."
        if points is not None:
            try:
                fit = fit_law(self.runs, law, y=state.y, inputs=state.inputs, starts=STARTS)
            except (ValueError, KeyError) as error:
                why = f"{_sentence(error)}. There is no fit to reveal."
        start = _start(law, points)
        reach = ranges(law, start)
        if fit is not None:
            reach = {s: _wide(over, fit.params[s]) for s, over in reach.items()}
        return points, fit, why, start, {s: over.holding(start[s]) for s, over in reach.items()}

    def _draw_full(self) -> None:
        self.show(self.figure())
        self._tell_misfit()

    def _draw_quick(self) -> None:
        lines = drawable(self.scene.lines(self.params), self._state.log)
        rows = {SUM: lines[lines["part"] == SUM]}
        if self._state.terms and len(self.scene.labels) > 1:
            rows["terms"] = lines[lines["part"] != SUM]
        if self.scene.held and self.scene.points is not None:
            rows["runs"] = self.scene.rows()
        fit = self._revealed()
        if fit is not None and self.scene.held:
            told = self.scene.lines(fit.params)
            rows[FIT] = drawable(told[told["part"] == SUM].assign(part=FIT), self._state.log)
        self.chart.patch(**rows)
        self._tell_misfit()

    def _tell_misfit(self) -> None:
        told = ""
        if self._points is not None:
            now = misfit(self.scene.law, self.params, self._points)
            if self._revealed() is not None:
                told = guess_html(judge(self.fit, self._state.guess), now)
            else:
                told = misfit_html(now, len(self._points))
        self.controls.verdict.value = told

    def _connect(self) -> None:
        c = self.controls
        for control in (c.law, c.x, c.y, c.terms, c.log):
            control.observe(self._changed, "value")
        for pressed, act in ((c.reveal, self._reveal), (c.again, self._again), (c.start, self._back)):
            pressed.on_click(act)

    @guarded
    def _changed(self, change: Any) -> None:
        if self._syncing:
            return
        c, s = self.controls, self._state
        if change["owner"] in (c.law, c.y):  # parameters and inputs belong to a law and mean nothing to another
            self.state = s.replace(law=c.law.value, y=c.y.value, params={}, held={}, x=None, inputs={}, guess=None)
        elif change["owner"] is c.x and len(self.scene.law.inputs) == 1:
            self.state = s.replace(inputs={self.scene.x: c.x.value}, params={}, guess=None)
        elif change["owner"] is c.x:
            self.state = s.replace(x=c.x.value, held={})
        else:
            self.state = s.replace(terms=c.terms.value, log=c.log.value)

    @guarded
    def _slid(self, change: Any) -> None:
        if self._syncing:
            return
        c, value = self.controls, float(f"{change['new']:.6g}")
        for symbol, slider in c.params.items():
            if slider is change["owner"]:
                self.state = self._state.replace(params={**self.params, symbol: value})
        for symbol, slider in c.held.items():
            if slider is change["owner"]:
                self.state = self._state.replace(held={**self.scene.held, symbol: value})

    @guarded
    def _reveal(self, _: Any) -> None:
        if self.fit is None:
            raise ValueError(self._why or "there are no runs to fit; give the panel some")
        self.state = self._state.replace(guess=dict(self.params))

    @guarded
    def _again(self, _: Any) -> None:
        self.state = self._state.replace(guess=None)

    @guarded
    def _back(self, _: Any) -> None:
        self.state = self._state.replace(params={}, held={})

    def _sync(self, fresh: bool) -> None:
        """Set every control to the state."""
        c, s = self.controls, self._state
        self._syncing = True
        try:
            if fresh or list(c.held) != list(self.scene.held):
                reach = {n: over.holding(self.params[n]) for n, over in self._reach.items()}
                c.offer(self.scene, reach, self.params, self._scales)
                for slider in (*c.params.values(), *c.held.values()):
                    slider.observe(self._slid, "value")
            for slider, value in [
                *((c.params[n], v) for n, v in self.params.items()),
                *((c.held[n], v) for n, v in self.scene.held.items()),
            ]:
                if not np.isclose(slider.value, value, rtol=1e-6, atol=0):  # else a moving slider would jitter
                    slider.min, slider.max = min(slider.min, value), max(slider.max, value)
                    slider.value = value
            along = self.scene.x
            if len(self.scene.law.inputs) == 1 and self._points is not None:
                along = self._points.columns[along]
            for control, wanted in ((c.law, s.law), (c.y, s.y), (c.x, along)):
                if wanted in [option[1] for option in control.options]:
                    control.value = wanted
            c.terms.value, c.log.value = s.terms, s.log
            c.terms.disabled = len(self.scene.labels) < 2
            c.reveal.disabled = self.fit is None or s.guess is not None
            c.again.disabled = s.guess is None
        finally:
            self._syncing = False


def _fed(runs: RunTable) -> list[str]:
    fed = [n for n in laws_for(runs) if explorable(get(n))]
    return fed or [n for n in names() if explorable(get(n))]


def _start(law: Law, points: Points | None) -> dict[str, float]:
    """An ordinary curve over the runs' own ranges, which is no fit to them."""
    if points is None:
        return example(law)
    between = {}
    for symbol, values in points.x.items():
        good = values[values > 0]
        if not good.size:
            return example(law)
        low, high = float(good.min()), float(good.max())
        between[symbol] = (low, high) if high > low else (low / 3, low * 3)
    y = points.y[points.y > 0]
    if not y.size:
        return example(law)
    low, high = float(y.min()), float(y.max())
    return example(law, between, (0.8 * low, high if high > low else 1.5 * low))


def _wide(over: Range, fitted: float) -> Range:
    """`over` with the fit well inside, so that the reader can get there and is not told by the end of the slider."""
    if not np.isfinite(fitted):
        return over
    if over.log and fitted > 0:
        return over.holding(float(f"{fitted / 20:.1g}")).holding(float(f"{fitted * 20:.1g}"))
    return over.holding(float(f"{1.5 * fitted:.2g}"))


def _sentence(error: Exception) -> str:
    return str(error.args[0]).rstrip(".") if error.args else type(error).__name__


def panel(of: Any = None, **state: Any) -> ExplorerPanel:
    """A law explorer.

    Args:
        of: a law or its name; or runs to draw around the law: a `RunTable`, a `Fit` (its runs, and its law), or
            anything `workbench.load` takes.
        state: fields of `ExplorerState` that differ.

    Raises:
        ValueError: no such setting, law, parameter or column.
    """
    if of is None or isinstance(of, Law) or (isinstance(of, str) and of in names()):
        return ExplorerPanel(None, ExplorerState.of(**{**({} if of is None else {"law": get(of).name}), **state}))
    if isinstance(of, Fit):
        inputs = {s: c for s, c in of.points.columns.items() if c != next(
            i.quantity for i in of.law.inputs if i.symbol == s)}  # fmt: skip
        given = {"law": of.law.name, "y": of.points.target, "inputs": inputs}
        return ExplorerPanel(of.runs, ExplorerState.of(**{**given, **state}))
    runs = load(of)
    fed = _fed(runs)
    first = next((n for n in ("chinchilla", "power_constant") if n in fed), fed[0])
    ys = metrics(runs)
    return ExplorerPanel(runs, ExplorerState.of(**{"law": first, "y": ys[0] if ys else "loss", **state}))
