"""What every panel does: hold a state, draw it live, and end as a picture, as text and as code.

A panel holds no mathematics. Its figure is a pure function of the data and its state, `code` is the text
of that call, and the two draw the same.
"""

from __future__ import annotations

import asyncio
import functools
import traceback
from collections.abc import Callable, Sequence
from html import escape
from typing import Any, ClassVar

import altair as alt
import ipywidgets as widgets
import pandas as pd

from workbench.panels.copytext import CopyText
from workbench.panels.kept import VIEW, Kept
from workbench.panels.live_chart import LiveChart
from workbench.panels.shared import Shared, shared
from workbench.panels.state import State
from workbench.panels.turn import in_turn, turn, undone
from workbench.runs.table import RunTable

__all__ = ["Panel", "guarded"]

#: Seconds without input after which the full figure replaces the quick one.
PAUSE = 0.25


def guarded(callback: Callable) -> Callable:
    """A callback that takes its turn, and whose exceptions appear in the panel, which then lives on."""

    @functools.wraps(callback)
    def call(self: Panel, *args: Any) -> None:
        with turn() as waited:
            try:
                if not (waited and args and undone(args[0])):
                    callback(self, *args)
            except Exception as error:
                self.tell(error)

    return call


def _has_loop() -> bool:
    """Whether an event loop runs: in a notebook one does."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _dropped(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


class Panel(widgets.VBox):
    """Base class of every panel; see `testing.PanelContract` for what subclasses promise.

    A subclass defines `State`, `_apply`, `figure`, `table` and `code`, lays out its widgets (`chart`, `message`,
    `report` and `copy` among them) as `children`, calls `redraw` when its state changes, `brushed` if it
    listens to the chart, and `follow` if it shares a selection of runs with other panels.

    Attributes:
        state: everything that decides what the panel shows.
        chart: the figure on the screen.
        message: the line that tells what is wrong.
        copy: the *Copy as code* control.
        grows: whether the figure may change while the state stays the same, as that of runs in training does.
    """

    State: ClassVar[type[State]]
    grows: ClassVar[bool] = False

    def __init__(self, state: State, **kwargs: Any) -> None:
        self._state = state
        self._later: asyncio.TimerHandle | None = None  # a full drawing that waits for the hand to rest
        self._soon: asyncio.TimerHandle | None = None  # a calculation that does
        self.redraws = 0
        self.message = widgets.HTML()
        self.report = CopyText(description="Copy report")
        self.report.layout.display = "none"
        self.copy = CopyText(description="Copy as code", inserts=True)
        # As high as the figure, so that the page does not jump before the browser has drawn.
        self.chart = LiveChart(self.table, name=type(self).__name__.removesuffix("Panel").lower())
        self.chart.layout = widgets.Layout(min_height="450px", overflow="auto")
        self.chart.observe(self._selected, "selected")
        self.shared: Shared | None = None
        self._kept = Kept(self)
        super().__init__(**kwargs)
        self.add_class("wb-panel")

    @property
    def state(self) -> State:
        """The state; assign one to change the panel and set every control."""
        return self._state

    @state.setter
    @in_turn
    def state(self, state: State) -> None:
        self._apply(state)
        self._show_state()

    def _apply(self, state: State) -> None:
        """Move to `state`, or say why not and stay."""
        raise TypeError(f"{type(self).__name__} must define _apply(state)")

    def _show_state(self) -> None:
        """Set every control to the state, where `_apply` does not."""

    def figure(self) -> alt.TopLevelMixin:
        """The figure of the state."""
        raise TypeError(f"{type(self).__name__} must define figure()")

    def table(self) -> pd.DataFrame:
        """The numbers of the state."""
        raise TypeError(f"{type(self).__name__} must define table()")

    def code(self) -> str:
        """Source text that draws the same figure, without widgets, as the variable ``figure``."""
        raise TypeError(f"{type(self).__name__} must define code()")

    @in_turn
    def redraw(self, full: Callable[[], None], quick: Callable[[], None] | None = None) -> None:
        """Draw now; with `quick`, draw that first and the full picture when the hand rests.

        While a slider moves only `quick` runs, once a message; the browser holds messages back while one
        is being answered, so that nothing queues up. Outside a notebook there is no hand to wait for.
        """
        self._later = _dropped(self._later)
        if quick is None or not _has_loop():
            self.redraw_part(full)
            return
        self.redraw_part(quick)
        self._later = self._when_rested(self._full_later, full)

    @in_turn
    def redraw_part(self, part: Callable[[], None]) -> None:
        """Draw a part of the picture now. A full drawing that waits for the hand to rest goes on waiting."""
        self.redraws += 1
        self.copy.text = self.code()
        self._kept.later()
        part()

    @in_turn
    def calculate(self, begin: Callable[[], None] | None) -> None:
        """Begin a calculation when the hand rests, in place of one that waits; with None, begin none."""
        self._soon = _dropped(self._soon)
        if begin is None:
            return
        if not _has_loop():
            begin()
            return
        self._soon = self._when_rested(self._begin_soon, begin)

    def _when_rested(self, call: Callable[[Callable[[], None]], None], what: Callable[[], None]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(PAUSE, call, what)

    @guarded
    def _full_later(self, full: Callable[[], None]) -> None:
        self._later = None
        full()

    @guarded
    def _begin_soon(self, begin: Callable[[], None]) -> None:
        self._soon = None
        begin()

    def show(self, chart: alt.TopLevelMixin, selections: Sequence[str] = ()) -> None:
        """Put `chart` on the screen and listen to these of its selections."""
        self.chart.show(chart, selections)

    @guarded
    def _selected(self, change: Any) -> None:
        old = change["old"] if isinstance(change["old"], dict) else {}
        for name, value in change["new"].items():
            if old.get(name) != value:
                self.brushed(name, value or {})

    def brushed(self, name: str, box: dict[str, list[float]]) -> None:
        """Called when the reader draws, moves or clears a brush, or clicks a point of a selection."""

    def share(self, runs: RunTable) -> None:
        """Have one selection of runs with every other panel on `runs`; `follow` hears what the others do.

        A state that leaves runs out tells the others at once; one that leaves none out takes what they have.
        Later a panel tells the others by ``self.shared.change(self, left_out=...)``.
        """
        self.shared = shared(runs)
        self.shared.listen(self._follow)
        if self._state.left_out:
            self.shared.change(self, left_out=self._state.left_out)
        else:
            self._state = self._state.replace(left_out=self.shared.left_out)

    @guarded
    def _follow(self, selection: Shared) -> None:
        self.follow(selection)

    def follow(self, selection: Shared) -> None:
        """Called when another panel on the same runs has changed their selection."""

    def tell(self, problem: str | Exception | None) -> None:
        """Show one sentence above the chart; None clears it.

        What the library says about bad input (`ValueError`, `KeyError`) is such a sentence; any other
        exception is shown with a report to copy.
        """
        self.report.layout.display = "none"
        if problem is None:
            self.message.value = ""
            return
        if isinstance(problem, ValueError | KeyError):
            problem = str(problem.args[0]) if problem.args else type(problem).__name__
        elif isinstance(problem, Exception):
            self.report.text = "".join(traceback.format_exception(problem)) + f"\n{self._state.to_json()}\n"
            self.report.layout.display = ""
            problem = f"This went wrong: {type(problem).__name__}: {problem}. The panel goes on; the report says more."
        self.message.value = f'<div role="status" class="wb-message"><b>⚠</b> {escape(problem)}</div>'

    def embedded(self) -> dict[str, Any] | None:
        """What a page without a kernel needs to answer sliders, as JSON (`panels.explorer_embed`); None for nothing."""
        return None

    def view(self) -> dict[str, Any]:
        """The live view alone, as a MIME bundle."""
        return {VIEW: super()._repr_mimebundle_()[VIEW]}

    def keep(self) -> None:
        """Make the picture that the notebook keeps again, now; by itself it follows after two seconds of rest."""
        self._kept.now()

    def close(self) -> None:
        """Take the panel off the screen; its picture stays."""
        self._kept.stop()
        self._later, self._soon = _dropped(self._later), _dropped(self._soon)
        super().close()

    def _ipython_display_(self) -> None:
        self._kept.display()

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The live view, a picture of the same state for readers without a kernel, and the state as text."""
        data, metadata = self._kept.bundle()
        return {**self.view(), **data}, metadata
