"""The job panel: a sweep while it trains. Progress, curves, a table of runs, logs; cancel, resume, and on to a fit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
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
from workbench.panels.fit import FitPanel
from workbench.panels.job_actions import JobActions
from workbench.panels.job_log import GPULoad, gpu_loads, log_html, places_html
from workbench.panels.job_table import progress_html, run_name, runs_html
from workbench.panels.state import State
from workbench.panels.turn import in_turn
from workbench.units import axis_title

__all__ = ["JobPanel", "JobState", "display", "panel"]

#: Seconds between two looks at the run folders while something runs, and while all only wait.
EVERY, IDLE = 1.0, 3.0
#: Seconds between two questions to the driver how busy its GPUs are.
ASK = 5.0
#: Most runs offered by name while typing for a log; the field takes any run.
_OFFERED = 200
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
        log: the run whose log is shown; None for none.
        fitted: whether the finished runs are shown in a fit panel below.
    """

    x: str = "tokens"
    color: str | None = None
    rows: int = 12
    log: str | None = None
    fitted: bool = False


class JobPanel(JobActions, Panel):
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
        at_change: called whenever the state has changed.
        fit: the fit panel on the finished runs, if it was asked for.
    """

    State = JobState
    grows = True

    def __init__(self, job: Job, state: JobState | None = None, *, name: str = "job") -> None:
        self.job, self.name = job, name
        self.follower = Follower(job)
        self.at_end: list[Callable[[], Any]] = []
        self.at_change: list[Callable[[], Any]] = []
        self.fit: FitPanel | None = None
        self._loads: dict[str, GPULoad] = {}
        self._asked, self._hope = 0.0, 0.0
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
            options=[("automatic", ""), *((axis_title(c) if c != "run" else "Run", c) for c in offered)],
            style=_STYLE,
            layout=wide,
        )
        self.cancel = button("Cancel", "Stop all runs of this sweep; what they wrote stays, Resume goes on from there")
        self.resume = button("Resume", "Go on with every run that was cancelled, failed or lost")
        self.log_of = widgets.Combobox(
            description="Log of", placeholder="a run: choose, or type how its name begins", continuous_update=False,
            options=[run_name(p.id, self._values(i)) for i, p in enumerate(job.sweep.probes[:_OFFERED])],
            style=_STYLE, layout={"width": "460px", "max_width": "100%"},
        )  # fmt: skip
        self.to_fit = button("Fit finished runs", "Open a fit panel below on every run that has finished so far")
        self.progress, self.runs, self.places = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self.log_text, self.below = widgets.HTML(), widgets.VBox()
        row = widgets.Layout(flex_flow="row wrap", align_items="center")
        self.children = (
            widgets.HBox([self.progress, self.cancel, self.resume, self.to_fit], layout=row),
            self.places,
            widgets.HBox([self.along, self.hue], layout=row),
            self.message,
            self.report,
            self.chart,
            self.runs,
            self.log_of,
            self.log_text,
            self.copy,
            self.below,
        )
        self._check(self._state)
        self._sync()
        self._connect()
        self._show_fit()
        self.redraw(self._draw)
        self.start()

    @property
    def state(self) -> JobState:
        """The state; assign one to change the panel."""
        return self._state

    @state.setter
    @in_turn
    def state(self, state: JobState) -> None:
        self._check(state)
        self._state = state
        self._sync()
        self._show_fit()
        self.redraw(self._draw)
        for call in self.at_change:
            call()

    def figure(self) -> alt.TopLevelMixin:
        """The curves as of the last look."""
        return training(self.curves, x=self._state.x, color=self._state.color, runs=len(self.rows))

    def table(self) -> pd.DataFrame:
        """One row a run, as `Job.table` has it, as of the last look."""
        return self.rows

    def code(self) -> str:
        """The same figure as a call of `workbench.figures.training.training`; with a fit, its runs and the fit, too."""
        color = "None" if self._state.color is None else f'"{self._state.color}"'
        return (
            "from workbench.figures.training import training\n"
            "from workbench.launch.follow import curves\n\n"
            f'figure = training(curves({self.name}), x="{self._state.x}", color={color}, runs=len({self.name}.sweep))\n'
        ) + (f"runs = {self._finished}\n" if self.fit is not None else "")

    @property
    def _finished(self) -> str:
        """Source text of the runs that have finished."""
        return f"{self.name}.runs().good"

    @property
    def over(self) -> bool:
        """Whether nothing of the job runs or waits any more, as of the last look."""
        return bool(self.rows["state"].isin(told.OVER).all())

    @property
    def _settled(self) -> bool:
        """Whether nothing more is to be expected: all is over, and nothing was resumed just now."""
        if not self.over:
            self._hope = 0.0
        return self.over and time.monotonic() >= self._hope

    @property
    def watching(self) -> bool:
        """Whether the panel will look again by itself."""
        return self._timer is not None

    def start(self) -> None:
        """Look again every second until all runs have ended. Without a running event loop nothing happens."""
        if self._closed or self._timer is not None or self._settled:
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
        if self.fit is not None:
            self.fit.close()
        super().close()

    @in_turn
    def refresh(self) -> None:
        """Look at the run folders now, and draw what has changed."""
        self._look()
        self.redraw(self._draw)

    def _look(self) -> None:
        self.rows = self.job.table()
        self.curves = self.follower.frame(self.rows)

    def _values(self, place: int) -> dict[str, Any]:
        """The settings in which the run at this place of the sweep differs from the others."""
        return {name: values[place] for name, values in self.follower.settings.items()}

    def _ask_gpus(self) -> None:
        """Have the GPUs asked how busy they are, beside the event loop, if any trains."""
        places = self.rows["place"][self.rows["state"] == "running"].dropna()
        on_gpu = any(str(place).startswith(("GPU", "MIG")) for place in places)
        if on_gpu and time.monotonic() - self._asked > ASK:
            self._asked = time.monotonic()
            future = asyncio.get_running_loop().run_in_executor(None, gpu_loads)
            future.add_done_callback(lambda done: setattr(self, "_loads", done.result()))

    @in_turn
    def _tick(self) -> None:
        self._timer = None
        if self._closed:
            return
        began = time.monotonic()
        self._again()
        took = time.monotonic() - began
        if self._settled:
            self._end()
        else:
            self._ask_gpus()
            pause = EVERY if (self.rows["state"] == "running").any() or self.over else IDLE
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
        self.places.value = places_html(self.rows, self._loads)
        self._show_log()
        self.to_fit.disabled = not bool((self.rows["state"] == "finished").any())
        open_ = self.rows["state"].isin(["cancelled", "failed", "created"]).any()
        hoped = self.over and time.monotonic() < self._hope
        self.cancel.disabled, self.resume.disabled = self.over and not hoped, hoped or not bool(open_)
        chart = self.figure()
        drawn = chart.to_json()
        if drawn != self._drawn:  # the browser draws anew whatever it is given
            self._drawn = drawn
            self.show(chart)

    def _check(self, state: JobState) -> None:
        colours = [option[1] or None for option in self.hue.options]
        if state.x not in ALONG or state.color not in colours or not 0 <= state.rows <= 10_000:
            names = ", ".join(str(c) for c in colours)
            raise ValueError(
                f"a job panel cannot have the state {state.to_json()}; x is one of {', '.join(ALONG)}, color one of "
                f"{names}, rows 0 to 10000"
            )
        if state.log is not None and state.log not in [probe.id for probe in self.job.sweep]:
            raise ValueError(f"a job panel cannot have the state log={state.log!r}: no run of this job is called so")

    def _place(self, run: str) -> int:
        return next(i for i, probe in enumerate(self.job.sweep) if probe.id == run)

    def _show_log(self) -> None:
        run = self._state.log
        if run is None:
            self.log_text.value = ""
            return
        place = self._place(run)
        verdict = self.rows["verdict"].iloc[place]
        name = run_name(run, self._values(place))
        self.log_text.value = log_html(self.job.queue.root / run, name, verdict if isinstance(verdict, str) else None)


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

    if getattr(get_ipython(), "kernel", None) is None:
        print(told.as_text(job.table(), job.sweep))
        return
    shown = job.__dict__.get("_panel")
    if shown is None or shown._closed:
        shown = job.__dict__["_panel"] = JobPanel(job)
        shown._kept.words = lambda: told.as_text(shown.rows, shown.job.sweep)
    shown.refresh()
    shown._kept.display()
    if not shown.over:
        shown.at_end.append(shown.keep)
    shown.start()
