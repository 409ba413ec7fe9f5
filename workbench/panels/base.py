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

from workbench.figures.render import png, size
from workbench.panels.copytext import CopyText
from workbench.panels.state import State

__all__ = ["Panel", "guarded"]

#: Seconds without input after which the full figure replaces the quick one.
PAUSE = 0.25
#: No "open in online editor": a chart may hold unpublished runs.
_MENU = {"actions": {"export": True, "source": False, "compiled": False, "editor": False}}


def guarded(callback: Callable) -> Callable:
    """A callback whose exceptions appear in the panel, which then lives on."""

    @functools.wraps(callback)
    def call(self: Panel, *args: Any) -> None:
        try:
            callback(self, *args)
        except Exception as error:
            self.tell(error)

    return call


class Panel(widgets.VBox):
    """Base class of every panel; see `testing.PanelContract` for what subclasses promise.

    A subclass defines `State`, `figure`, `table` and `code`, lays out its widgets (`chart_area`,
    `message` and `copy` among them) as `children`, calls `redraw` when its state changes, and
    `brushed` if it listens to the chart.

    Attributes:
        state: everything that decides what the panel shows.
        message: the line that tells what is wrong.
        copy: the *Copy as code* control.
    """

    State: ClassVar[type[State]]

    def __init__(self, state: State, **kwargs: Any) -> None:
        self._state = state
        self._live: alt.JupyterChart | None = None
        self._later: asyncio.TimerHandle | None = None
        self.redraws = 0
        self.message = widgets.HTML()
        self.report = CopyText(description="Copy report")
        self.report.layout.display = "none"
        self.copy = CopyText(description="Copy as code")
        # As high as the figure, so that the page does not jump while the browser redraws.
        self.chart_area = widgets.Box(layout=widgets.Layout(min_height="450px", overflow="auto"))
        super().__init__(**kwargs)

    @property
    def state(self) -> State:
        """The state; assign one to change the panel."""
        return self._state

    def figure(self) -> alt.TopLevelMixin:
        """The figure of the state."""
        raise TypeError(f"{type(self).__name__} must define figure()")

    def table(self) -> pd.DataFrame:
        """The numbers of the state."""
        raise TypeError(f"{type(self).__name__} must define table()")

    def code(self) -> str:
        """Source text that draws the same figure, without widgets, as the variable ``figure``."""
        raise TypeError(f"{type(self).__name__} must define code()")

    def redraw(self, full: Callable[[], None], quick: Callable[[], None] | None = None) -> None:
        """Draw now; with `quick`, draw that first and the full picture when the hand rests.

        While a slider moves only `quick` runs, once a message; the browser holds messages back while one
        is being answered, so that nothing queues up. Outside a notebook there is no hand to wait for.
        """
        self.redraws += 1
        self.copy.text = self.code()
        if self._later is not None:
            self._later.cancel()
            self._later = None
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        if quick is None or loop is None:
            full()
            return
        quick()
        self._later = loop.call_later(PAUSE, self._full_later, full)

    @guarded
    def _full_later(self, full: Callable[[], None]) -> None:
        self._later = None
        full()

    def show(self, chart: alt.TopLevelMixin, selections: Sequence[str] = ()) -> None:
        """Put `chart` on the screen and listen to its selections.

        The only place that assigns `JupyterChart.chart`: assigning replaces the chart's selections, and
        observers of the old ones are silently dropped.
        """
        if self._live is None:
            alt.JupyterChart.enable_offline(True)
            self._live = alt.JupyterChart(chart, embed_options=_MENU)
            self.chart_area.children = (self._live,)
        else:
            self._live.chart = chart
        if selections:
            self._live.selections.observe(self._selected, list(selections))

    @guarded
    def _selected(self, change: Any) -> None:
        self.brushed(change["name"], change["new"].value or {})

    def brushed(self, name: str, box: dict[str, list[float]]) -> None:
        """Called when the reader draws, moves or clears a brush."""

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

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The live view, a picture of the same state for readers without a kernel, and the state as text."""
        bundle, image = super()._repr_mimebundle_(**kwargs), png(self.figure())
        return {**bundle, "image/png": image, "text/plain": self._state.to_json()}, {"image/png": size(image)}
