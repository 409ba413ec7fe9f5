"""The multiverse panel: would I decide the same, had I analysed it another way?

Fitting takes seconds and happens in a thread. What was fitted is kept, so that another question, another place
to ask it, or an option switched off costs no fit at all, and one switched on only those it needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import altair as alt
import ipywidgets as widgets
import pandas as pd

from workbench import figures
from workbench.analysis.analyses import Analyses
from workbench.analysis.verses import Multiverse
from workbench.figures.analyses import analyses as behind
from workbench.figures.moves import moves
from workbench.figures.multiverse import frames, reach
from workbench.fits.fit import fit as fit_law
from workbench.fits.result import Fit
from workbench.laws.base import get
from workbench.panels.base import Panel, guarded
from workbench.panels.fit_state import source
from workbench.panels.live_chart import LiveChart
from workbench.panels.multiverse_controls import MultiverseControls, behind_html, progress_html, verdict_html
from workbench.panels.multiverse_state import (
    VIEWS,
    MultiverseState,
    analyses_key,
    asked,
    first_state,
    fit_arguments,
    keep_of,
    multiverse_source,
    place_of,
    questions,
    start_of,
    stretch_of,
    task_key,
)
from workbench.panels.shared import Shared
from workbench.panels.work import Work
from workbench.runs.load import load
from workbench.runs.table import RunTable

__all__ = ["MultiversePanel", "MultiverseState", "panel"]

NOTHING = "No analysis yet"
STOPPED = "The calculation was stopped before the first answer; press 'Fit all analyses' to go on."
WAITING = "Every analysis is being fitted; the answer appears here."
#: Default analyses whose fits are kept.
_KEPT = 4


class MultiversePanel(Panel):
    """One question, answered by every defensible analysis of the same runs.

    Args:
        runs: a `RunTable`, or anything `workbench.load` takes.
        state: where to start.
        name: the variable that holds `runs` in the code the panel writes.

    Attributes:
        found: the multiverse on the screen; None before the first answer.
        work: the calculation beside the event loop.
    """

    State = MultiverseState

    def __init__(self, runs: Any, state: MultiverseState | None = None, *, name: str = "runs") -> None:
        self.runs: RunTable = load(runs)
        self.name = name
        self.found: Multiverse | None = None
        self.work = Work(self._watch)
        self._why, self._syncing = WAITING, False
        self._wanted: MultiverseState | None = None
        self._analyses: dict[str, Analyses] = {}
        self._offered: Analyses | None = None
        self._edges: tuple[float, float] | None = None
        self.behind = LiveChart(name="analyses")
        super().__init__(state or first_state(self.runs))
        self.controls = MultiverseControls(self.runs)
        self.verdict, self.listed = widgets.HTML(), widgets.HTML()
        self._below = widgets.VBox([self.controls.stretch(), self.behind, self.listed])
        self.children = (
            self.controls.top(), self.message, self.report, self.verdict, self.chart, self._below, self.copy,
        )  # fmt: skip
        self.share(self.runs)
        self._sync()
        self._connect()
        self._apply(self._state)
        if self.found is None:
            self.redraw(self._draw)

    def figure(self) -> alt.TopLevelMixin:
        """The specification curve with the fits behind the brush, or what moves the answer."""
        m, s = self.found, self._state
        if m is None:
            return figures.empty(NOTHING, self._why)
        if s.view == VIEWS[1]:
            return moves(m)
        if not s.between:
            return m.plot()
        return alt.vconcat(m.plot(s.between), behind(m, s.between), spacing=30)

    def table(self) -> pd.DataFrame:
        """One row an analysis: its options, answer, runs, and why it does not count."""
        return pd.DataFrame(columns=["estimate", "n_runs", "note"]) if self.found is None else self.found.frame

    def code(self) -> str:
        """The same figure as calls of `workbench.fit` and `Fit.multiverse`."""
        if self.found is None:
            words = f"{source(NOTHING)}, {source(self._why)}"
            return f"import workbench.figures\n\nfigure = workbench.figures.empty({words})\n"
        analyses = self._analyses[analyses_key(self._state)]
        question, at = asked(self._state, analyses.base)
        taken = [r for r, why in analyses.base.points.left_out.items() if why == "taken out"]
        keep = keep_of(self._state.off, analyses.options)
        return multiverse_source(self._state, self.name, question, at, keep, taken)

    def close(self) -> None:
        """Give up what is being calculated, and take the panel off the screen."""
        self.work.stop()
        super().close()

    def _apply(self, state: MultiverseState) -> None:
        """Move to `state`, at once where everything it needs is fitted, else when it is; stay if it cannot be."""
        if state.view not in VIEWS:
            raise ValueError(f"view is {state.view!r}; choose one of {', '.join(VIEWS)}")
        try:
            analyses = self._analysed(state)
            keep = keep_of(state.off, analyses.options)
            question, at = asked(state, analyses.base)
            missing = analyses.missing(keep)
        except (ValueError, KeyError) as error:
            sentence = str(error.args[0])
            if self.found is None and not self.work.busy:
                self._state, self._why = state, sentence
                self.redraw(self._draw)
            self.tell(sentence + (". The chart still shows the last answer." if self.found is not None else ""))
            self._sync(keep_where=True)
            return
        self.tell(None)
        self._offer(analyses)
        if not missing:
            self.work.stop()
            self._arrive(state, analyses.ask(question, keep=keep, **at))
            return
        if self._wanted is not None and self.work.busy and task_key(self._wanted) == task_key(state):
            self._wanted = state  # the same fits are on their way
            return
        self._wanted, self._size = state, missing
        self.work.start(lambda tick: analyses.ask(question, keep=keep, tick=tick, **at), self._done)
        self._sync()

    def _analysed(self, state: MultiverseState) -> Analyses:
        """The analyses around the default one of `state`, fitted or not."""
        key = analyses_key(state)
        if key not in self._analyses:
            base = fit_law(self.runs, state.law, **fit_arguments(state))
            inside = set(base.points.frame["run"])
            taken = [run for run in state.left_out if run in inside]
            self._analyses[key] = Analyses(base.without(taken) if taken else base)
            while len(self._analyses) > _KEPT:
                shown = analyses_key(self._state)
                self._analyses.pop(next(k for k in self._analyses if k not in (key, shown)))
        return self._analyses[key]

    @guarded
    def _done(self, result: Multiverse | None, error: BaseException | None) -> None:
        state, self._wanted = self._wanted, None
        if error is not None:
            self._sync()
            self.tell(error if isinstance(error, Exception) else RuntimeError(str(error)))
            return
        # By now another question may be wanted, whose fits are the same: it costs nothing.
        if state is not None:
            self._apply(state)

    def _arrive(self, state: MultiverseState, found: Multiverse) -> None:
        same = self.found is not None and _drawing(self._state, found.fit) == _drawing(state, found.fit)
        self._state, self.found, self._wanted = state, found, None
        if self.shared.left_out != state.left_out:
            self.shared.change(self, left_out=state.left_out)
        self._sync(keep_where=True)
        self.redraw(self._draw, self._quick if same else None)

    def _draw(self) -> None:
        m, s = self.found, self._state
        if m is None:
            self.show(self.figure())
            self._below.layout.display = "none"
            return
        self.verdict.value = verdict_html(m)
        self._edges = reach(m) if len(m.estimates) else None
        curve = s.view == VIEWS[0] and self._edges is not None
        self._below.layout.display = "" if curve else "none"
        if not curve:
            self.show(self.figure())
            return
        chart = m.plot(tuple(s.between) or None)
        interval = alt.IntervalSelectionConfig(type="interval", encodings=["x"])
        # Altair numbers the views of a concatenation.
        chart.params = [alt.TopLevelSelectionParameter(name="brush", select=interval, views=["estimates_0"])]
        self.show(chart, ["brush"])
        self.behind.layout.display = "" if s.between else "none"
        self.listed.value = behind_html(m, s.between) if s.between else (
            "<p>Drag over the dots, or move the sliders, to see which analyses they are and what they predict.</p>"
        )  # fmt: skip
        if s.between:
            self.behind.show(behind(m, s.between, self.shared.marked))

    def _quick(self) -> None:
        """New answers in the picture that is there, axes as they are."""
        m, s = self.found, self._state
        if s.view != VIEWS[0] or self._edges is None or not len(m.estimates):
            return
        known = {name.rsplit("_", 1)[0]: name for name in self.chart.data}
        new = frames(m, tuple(s.between) or None, self._edges)
        self.chart.patch(**{known[name]: frame for name, frame in new.items() if name in known})
        if s.between:
            self.listed.value = behind_html(m, s.between)

    def _watch(self, fraction: float, left: float | None) -> None:
        self.controls.progress.value = progress_html(fraction, left, f"{self._size} analyses")

    def brushed(self, name: str, box: dict[str, list[float]]) -> None:
        """Show the fits of the brushed stretch. A brush that vanishes with a new drawing changes nothing."""
        if self.found is None or not box:
            return
        drawn = sum(len(frame) for key, frame in frames(self.found).items() if key in ("estimates", "default"))
        between = stretch_of(box, drawn)
        if between:
            self._apply(self._state.replace(between=between))

    def follow(self, selection: Shared) -> None:
        """Fit without the runs another panel took out; ring those it marked."""
        if selection.left_out != (self._wanted or self._state).left_out:
            self._apply((self._wanted or self._state).replace(left_out=selection.left_out))
        elif self.found is not None and self._state.between:
            self._draw()

    def _connect(self) -> None:
        c = self.controls
        for control in (c.law, c.y, c.x, c.where):
            control.observe(self._redefined, "value")
        for control in (c.question, c.place, c.view):
            control.observe(self._asked_anew, "value")
        for control in (c.low, c.high):
            control.observe(self._stretched, "value")
        c.stop.on_click(self._stop)
        c.go_on.on_click(self._go_on)
        c.back.on_click(self._back)
        c.clear.on_click(self._clear)

    @guarded
    def _redefined(self, _: Any) -> None:
        """Another default analysis; questions, options and brush belong to the old one."""
        c, s = self.controls, self._state
        if self._syncing:
            return
        single = len(get(c.law.value).inputs) == 1
        same = c.law.value == s.law and c.x.value == s.x
        changed = {"question": s.question, "at": s.at} if same else {"question": None, "at": {}}
        where = c.where.value.strip() or None
        x = c.x.value if single else None
        self._apply(s.replace(law=c.law.value, y=c.y.value, x=x, where=where, off={}, between=(), **changed))

    @guarded
    def _asked_anew(self, change: Any) -> None:
        c, s = self.controls, self._wanted or self._state
        if self._syncing or self._offered is None:
            return
        at = s.at
        if change["owner"] is c.place:
            place = place_of(self._offered.base, c.question.value)
            at = {place[0]: float(f"{c.place.value:.3g}")} if place else {}
        if change["owner"] is c.question and place_of(self._offered.base, c.question.value) is None:
            at = {}
        self._apply(s.replace(question=c.question.value, at=at, view=c.view.value))

    @guarded
    def _switched(self, _: Any) -> None:
        if self._syncing:
            return
        off: dict[str, list[str]] = {}
        for (dimension, option), box in self.controls.switches.items():
            if not box.value:
                off.setdefault(dimension, []).append(option)
        self._apply((self._wanted or self._state).replace(off=off))

    @guarded
    def _stretched(self, change: Any) -> None:
        c = self.controls
        if self._syncing:
            return
        low, high = c.low.value, c.high.value
        if low > high:  # the slider that moves pushes the other
            low = high = change["new"]
        self._apply(self._state.replace(between=(low, high) if high > low else ()))

    @guarded
    def _stop(self, _: Any) -> None:
        self.work.stop()
        self._wanted = None
        if self.found is None:
            self._why = STOPPED
            self.redraw(self._draw)
        self._sync()

    @guarded
    def _go_on(self, _: Any) -> None:
        self._apply(self._state)

    @guarded
    def _back(self, _: Any) -> None:
        self._apply(self._state.replace(left_out=()))

    @guarded
    def _clear(self, _: Any) -> None:
        self._apply(self._state.replace(between=()))

    def _offer(self, analyses: Analyses) -> None:
        """Switches and questions of these analyses."""
        if analyses is not self._offered:
            self._offered = analyses
            with self._quietly():
                self.controls.offer(analyses.options, questions(analyses.base), self._switched)

    def _sync(self, keep_where: bool = False) -> None:
        """Set every control to the state that is wanted, without asking for it."""
        base = None if self._offered is None else self._offered.base
        with self._quietly():
            self.controls.show(self._wanted or self._state, base, keep_where=keep_where)
            self.controls.show_work(self.work.busy, self.found is None and self._offered is not None)

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        self._syncing = True
        try:
            yield
        finally:
            self._syncing = False


def panel(of: RunTable | Fit | Multiverse | Any, **state: Any) -> MultiversePanel:
    """A multiverse panel on runs, or around the runs of a fit or a multiverse.

    Args:
        of: a `RunTable`, a `Fit`, a `Multiverse`, or anything `workbench.load` takes. A fit is the default
            analysis; its weights, if unequal, are not kept.
        state: fields of `MultiverseState` that differ.

    Raises:
        ValueError: no such setting.
    """
    fit = of.fit if isinstance(of, Multiverse) else of
    if not isinstance(fit, Fit):
        runs = load(fit)
        return MultiversePanel(runs, MultiverseState.of(**{**vars(first_state(runs)), **state}))
    return MultiversePanel(fit.runs, MultiverseState.of(**{**vars(start_of(fit)), **state}))


def _drawing(state: MultiverseState, base: Fit) -> tuple[str, str, str]:
    """What the drawing depends on; another place or brush only moves its rows."""
    return task_key(state), asked(state, base)[0], state.view
