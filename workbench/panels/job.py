"""The job panel: a sweep while it trains. Progress, the loss curves, a table of runs; cancel and resume."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

import altair as alt
import ipywidgets as widgets
import pandas as pd

from workbench.figures.training import ALONG, training
from workbench.launch import told
from workbench.launch.follow import Follower
from workbench.launch.queue import Job
from workbench.panels.base import Panel, guarded
from workbench.panels.controls import button
from workbench.panels.job_table import progress_html, runs_html
from workbench.panels.state import State
from workbench.units import axis_title

__all__ = ["JobPanel", "JobState", "display", "panel"]

#: Seconds between two looks at the run folders while something runs, and while all only wait.
EVERY, IDLE = 1.0, 3.0
#: Looking takes at most this share of the time: hundreds of folders on a slow disk take a while to read.
SHARE = 0.1
_STYLE = {"description_width": "72px"}


@dataclass(frozen=True)
class JobState(State):
    """What the job panel shows.

    Attributes:
        x: axis of the curves: ``tokens``, ``step`` or ``flops``.
        color: setting to colour them by; None chooses one.
        rows: rows of the table; of more runs, those that failed or are in work come first.
    """

    x: str = "tokens"
    color: str | None = None
    rows: int = 12


class JobPanel(Panel):
    """A job while it trains; it looks again every second until all runs have ended or it is closed.

    Args:
        job: the job.
        state: where to start.
        name: the variable that holds `job` in the code the panel writes.

    Attributes:
        job: the job.
        rows: its table, as of the last look.
        curves: its curves, as of the last look (`workbench.launch.follow.curves`).
        at_end: called once, when all runs have ended.
    """

    State = JobState

    def __init__(self, job: Job, state: JobState | None = None, *, name: str = "job") -> None:
        self.job, self.name = job, name
        self.follower = Follower(job)
        self.at_end: list[Callable[[], Any]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._closed, self._syncing, self._troubled, self._drawn = False, False, False, ""
        super().__init__(state or JobState())
        self.rows, self.curves = pd.DataFrame(), pd.DataFrame()
        self._look()
        wide = {"width": "300px"}
        self.along = widgets.Dropdown(
            description="Along", options=[(axis_title(c), c) for c in ALONG], style=_STYLE, layout=wide
        )
        offered = ["run", *[c for c in dict.fromkeys(("params", *self.follower.settings)) if c != "tokens"]]
        self.hue = widgets.Dropdown(
            description="Colour",
            options=[("automatic", None), *((axis_title(c) if c != "run" else "Run", c) for c in offered)],
            style=_STYLE,
            layout=wide,
        )
        self.cancel = button("Cancel", "Stop all runs of this sweep; what they wrote stays, Resume goes on from there")
        self.resume = button("Resume", "Go on with every run that was cancelled, failed or lost")
        self.progress, self.runs = widgets.HTML(), widgets.HTML()
        row = widgets.Layout(flex_flow="row wrap", align_items="center")
        self.children = (
            widgets.HBox([self.progress, self.cancel, self.resume], layout=row),
            widgets.HBox([self.along, self.hue], layout=row),
            self.message,
            self.report,
            self.chart_area,
            self.runs,
            self.copy,
        )
        self._sync()
        for control in (self.along, self.hue):
            control.observe(self._changed, "value")
        self.cancel.on_click(self._cancel)
        self.resume.on_click(self._resume)
        self.redraw(self._draw)
        self.start()

    @property
    def state(self) -> JobState:
        """The state; assign one to change the panel."""
        return self._state

    @state.setter
    def state(self, state: JobState) -> None:
        self._check(state)
        self._state = state
        self._sync()
        self.redraw(self._draw)

    def figure(self) -> alt.TopLevelMixin:
        """The curves as of the last look."""
        return training(self.curves, x=self._state.x, color=self._state.color, runs=len(self.rows))

    def table(self) -> pd.DataFrame:
        """One row a run, as `Job.table` has it, as of the last look."""
        return self.rows

    def code(self) -> str:
        """The same figure as a call of `workbench.figures.training.training`."""
        color = "None" if self._state.color is None else f'"{self._state.color}"'
        return (
            "from workbench.figures.training import training\n"
            "from workbench.launch.follow import curves\n\n"
            f'figure = training(curves({self.name}), x="{self._state.x}", color={color}, runs=len({self.name}.sweep))\n'
        )

    @property
    def over(self) -> bool:
        """Whether nothing of the job runs or waits any more, as of the last look."""
        return bool(self.rows["state"].isin(told.OVER).all())

    @property
    def watching(self) -> bool:
        """Whether the panel will look again by itself."""
        return self._timer is not None

    def start(self) -> None:
        """Look again every second until all runs have ended. Without a running event loop nothing happens."""
        if self._closed or self._timer is not None or self.over:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        self._timer = loop.call_later(EVERY, self._tick)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """Stop looking, and take the panel off the screen; the job goes on."""
        self._closed = True
        self.stop()
        super().close()

    def refresh(self) -> None:
        """Look at the run folders now, and draw what has changed."""
        self._look()
        self.redraw(self._draw)

    def _look(self) -> None:
        self.rows = self.job.table()
        self.curves = self.follower.frame(self.rows)

    def _tick(self) -> None:
        self._timer = None
        if self._closed:
            return
        began = time.monotonic()
        self._again()
        took = time.monotonic() - began
        if self.over:
            self._end()
        else:
            pause = EVERY if (self.rows["state"] == "running").any() else IDLE
            self._timer = asyncio.get_running_loop().call_later(max(pause, took / SHARE), self._tick)

    @guarded
    def _end(self) -> None:
        calls, self.at_end = self.at_end, []
        for call in calls:
            call()

    @guarded
    def _again(self) -> None:
        try:
            self.refresh()
        except Exception:
            self._troubled = True
            raise
        if self._troubled:  # what was wrong with the last look is over
            self._troubled = False
            self.tell(None)

    def _draw(self) -> None:
        probes = self.job.sweep.probes
        self.progress.value = progress_html(self.rows, probes)
        self.runs.value = runs_html(self.rows, probes, self.follower.settings, self._state.rows)
        open_ = self.rows["state"].isin(["cancelled", "failed", "created"]).any()
        self.cancel.disabled, self.resume.disabled = self.over, not bool(open_)
        chart = self.figure()
        drawn = chart.to_json()
        if drawn != self._drawn:  # the browser draws anew whatever it is given
            self._drawn = drawn
            self.show(chart)

    def _sync(self) -> None:
        """Set the controls to the state."""
        self._syncing = True
        try:
            self.along.value = self._state.x
            self.hue.value = self._state.color
        finally:
            self._syncing = False

    def _check(self, state: JobState) -> None:
        colours = [option[1] for option in self.hue.options]
        if state.x not in ALONG or state.color not in colours or not 0 <= state.rows <= 10_000:
            names = ", ".join(str(c) for c in colours)
            raise ValueError(
                f"a job panel cannot have the state {state.to_json()}; x is one of {', '.join(ALONG)}, color one of "
                f"{names}, rows 0 to 10000"
            )

    @guarded
    def _changed(self, _: Any) -> None:
        if not self._syncing:
            self.state = self._state.replace(x=self.along.value, color=self.hue.value)

    def _cancel(self, _: Any) -> None:
        self._do("Cancelling: every run writes a checkpoint and stops.", self.job.cancel)

    def _resume(self, _: Any) -> None:
        self._do("Resuming.", lambda: self.job.queue.submit(self.job.sweep))

    @guarded
    def _do(self, what: str, act: Callable[[], Any]) -> None:
        """Do it beside the event loop, which would stand still for the seconds that workers take to stop."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            act()
            self._done(None)
            return
        self.cancel.disabled = self.resume.disabled = True
        self.stop()
        self.message.value = f'<div role="status">{escape(what)}</div>'
        future = loop.run_in_executor(None, act)
        future.add_done_callback(lambda done: self._done(done.exception()))

    def _done(self, error: BaseException | None) -> None:
        if self._closed:
            return
        self._again()
        if error is None:
            self.tell(None)
        else:
            self.tell(error if isinstance(error, Exception) else RuntimeError(str(error)))
        if self.over:
            self._end()
        self.start()


def panel(job: Job, **state: Any) -> JobPanel:
    """A panel on `job`, which watches it until all runs have ended.

    Args:
        job: the job.
        state: fields of `JobState` that differ.

    Raises:
        ValueError: no such setting.
    """
    made = JobPanel(job)
    if state:
        made.state = JobState.of(**state)
    return made


def display(job: Job) -> None:
    """Show the job's panel in a notebook, with a picture and the table as text for readers without a kernel.

    The picture in a saved notebook would be of the first moment, so it is replaced when all runs have ended.
    Where there is no notebook the text is printed.
    """
    from IPython import get_ipython
    from IPython.display import display as put

    if getattr(get_ipython(), "kernel", None) is None:
        print(told.as_text(job.table(), job.sweep))
        return
    shown = job.__dict__.get("_panel")
    if shown is None or shown._closed:
        shown = job.__dict__["_panel"] = JobPanel(job)
    shown.refresh()
    bundle, metadata = _bundle(shown)
    handle = put(bundle, metadata=metadata, raw=True, display_id=True)
    if not shown.over:
        shown.at_end.append(lambda: _replace(handle, shown))
    shown.start()


def _replace(handle: Any, shown: JobPanel) -> None:
    bundle, metadata = _bundle(shown)
    handle.update(bundle, metadata=metadata, raw=True)


def _bundle(shown: JobPanel) -> tuple[dict[str, Any], dict[str, Any]]:
    bundle, metadata = shown._repr_mimebundle_()
    return {**bundle, "text/plain": told.as_text(shown.rows, shown.job.sweep)}, metadata
