"""The probe panel: describe a sweep by form, see its price, launch it, watch it, and go on to a fit."""

from __future__ import annotations

import re
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import altair as alt
import ipywidgets as widgets
import pandas as pd

from workbench.figures.sweep import sweep_map
from workbench.launch.local import LocalQueue
from workbench.launch.queue import Job, Queue
from workbench.panels.base import Panel, guarded
from workbench.panels.beside import beside
from workbench.panels.job import JobPanel, JobState
from workbench.panels.probes_code import described, launched
from workbench.panels.probes_controls import ProbeControls
from workbench.panels.probes_form import typed
from workbench.panels.probes_jobs import EarlierJobs
from workbench.panels.probes_price import Pricer, flop, place, price_html, sentence
from workbench.panels.probes_state import ProbeState, recipe, state_of
from workbench.panels.turn import in_turn
from workbench.probes.listing import listing
from workbench.probes.sweep import Sweep

if TYPE_CHECKING:
    from workbench.probes.cost import Cost

__all__ = ["ProbePanel", "ProbeState", "panel"]

#: Folder of the runs where no queue is given.
ROOT = "runs"
#: Seconds above which a launch is asked for twice.
DEAR = 3600.0


class ProbePanel(Panel):
    """A sweep of probes by form: what is trained, what is varied, its price, its launch, and the job while it trains.

    Every setting takes one value, several (``1e-3, 1e-2``) or a range (``1e-4 .. 1e-1, 5 log``). A value that is
    not allowed leaves a sentence beside its field; the picture and the price stay with the last good sweep.

    Args:
        queue: where to train; default ``LocalQueue("runs")``, made at the first launch.
        sweep: a sweep to start from, as a planner hands it over; its probes are kept as they are.
        state: where to start instead.
        name: the variable that holds `queue` in the code the panel writes, where one is given.

    Attributes:
        sweep: the sweep that is described.
        cost: its price, once it is known (`price` finds it at once).
        job: the job that is shown, if it was launched or chosen.
        job_panel: the panel that watches it.

    Raises:
        ValueError, TypeError: both `sweep` and `state`, or a state that describes no sweep.
    """

    State = ProbeState

    def __init__(
        self, queue: Queue | None = None, sweep: Sweep | None = None, state: ProbeState | None = None, *,
        name: str = "queue",
    ) -> None:  # fmt: skip
        self.pricer, self._watched = Pricer(self._priced), {}
        if sweep is not None and state is not None:
            raise ValueError("give a probe panel a sweep or a state, not both; state_of(sweep) is the state of one.")
        if queue is not None and not isinstance(queue, Queue):
            raise TypeError(f"queue={queue!r:.60} is no queue; give a LocalQueue or a SlurmQueue.")
        start = state or (state_of(sweep) if sweep is not None else ProbeState())
        self._queue, self.name = queue, name
        self.recipe = recipe(start)
        self.sweep = self.recipe.build()
        self.cost: Cost | None = None
        self.job: Job | None = None
        self.job_panel: JobPanel | None = None
        self._syncing, self._closed, self._sure = True, False, False
        super().__init__(start)
        self.controls = c = ProbeControls(self._changed, self._rebuilt)
        self.area, self._map = widgets.VBox(), self.chart
        row = widgets.Layout(flex_flow="row wrap", align_items="center")
        self.children = (
            *c.layout(), self.message, self.report, c.price, c.buckets, widgets.HBox([c.launch, c.jobs], layout=row),
            self.chart, self.area, self.copy,
        )  # fmt: skip
        c.launch.on_click(self._launch)
        c.forget.on_click(self._forget)
        self._earlier = EarlierJobs(c.jobs, self._jobs, self._watched, self._chosen)
        self._show_form()
        self._earlier.offer(start.launched)
        self._syncing = False
        if start.launched is not None:
            self._reopen(start)
        self.redraw(self._draw_full)
        self._ask_price()

    @property
    def queue(self) -> Queue:
        """Where probes are trained; the default queue is made when it is first needed."""
        if self._queue is None:
            self._queue, self.name = LocalQueue(ROOT), ""
        return self._queue

    @property
    def state(self) -> ProbeState:
        """The state; assigning one describes its sweep, and shows its job if it has one."""
        if self.job_panel is not None and not self._syncing:
            self._state = self._state.replace(job=asdict(self.job_panel.state))
        return self._state

    @state.setter
    @in_turn
    def state(self, state: ProbeState) -> None:
        made = recipe(state)
        sweep = made.build()
        self._adopt(state, made, sweep)
        self._show_form()
        self._close_job()
        if state.launched is not None:
            self._reopen(state)
        self.tell(None)
        self.redraw(self._draw_full)
        self._ask_price()

    def figure(self) -> alt.TopLevelMixin:
        """What the sweep varies, with its price once it is known; after the launch, the curves so far."""
        if self.job_panel is not None:
            return self.job_panel.figure()
        return sweep_map(self.sweep, self.cost)

    def table(self) -> pd.DataFrame:
        """One row a run: size, horizon, compute and varied settings; after the launch, how it stands."""
        return listing(self.sweep) if self.job_panel is None else self.job_panel.table()

    def code(self) -> str:
        """The sweep as calls of `Probe` and `Sweep`, its launch, and the same figure."""
        root = ROOT if self._queue is None or not self.name else None
        name = self.name or "queue"
        if self.job_panel is not None:
            return launched(self.recipe, self.job_panel, name, root)
        return described(self.recipe, self.cost, self._queue, name, root)

    def price(self) -> Cost:
        """The price of the sweep, found now; the first one calibrates this machine, about a second."""
        device, slots, _ = place(self._queue)
        self._priced(self.sweep, self.sweep.cost(device, slots=slots))
        return self.cost

    def close(self) -> None:
        """Stop pricing and watching, and take the panel off the screen; jobs go on."""
        if "chart" not in vars(self):  # it was refused before it was made
            return
        self._closed = True
        self.pricer.forget()
        for shown in self._watched.values():
            shown.close()
        super().close()

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """As of every panel; the state includes that of the job panel inside."""
        self._state = self.state
        return super()._repr_mimebundle_(**kwargs)

    def _adopt(self, state: ProbeState, made: Any, sweep: Sweep) -> None:
        if sweep != self.sweep:
            self.cost = None
        self._state, self.recipe, self.sweep, self._sure = state, made, sweep, False

    def _changed(self, _: Any) -> None:
        """A field has another text: describe the sweep anew, or say beside the field what is wrong with it."""
        if self._syncing:
            return
        self._take()

    @guarded
    def _take(self) -> None:
        c = self.controls
        state, c.faults = typed(c, self._state)
        problem = next(iter(c.faults.values()), None)
        if problem is None:
            try:
                made = recipe(state)
                sweep = made.build()
            except (ValueError, TypeError) as error:
                problem = str(error)
                word = re.match(r"\w+", problem)
                if word is not None:
                    c.faults = {word[0]: problem}
        self._syncing = True
        try:
            c.build()
        finally:
            self._syncing = False
        if problem is not None:
            c.launch.disabled = True
            self.tell(f"{problem.rstrip('.')}. The picture and the price are of the last good sweep.")
            return
        same = sweep == self.sweep
        if same:  # another way to say the same
            state = state.replace(launched=self._state.launched, job=self._state.job)
        self._adopt(state, made, sweep)
        self.tell(None)
        if not same:
            self._close_job()
        self.redraw(self._draw_full, None if same else self._draw_quick)
        self._ask_price()

    def _rebuilt(self) -> None:
        """Another group of settings is shown; nothing has changed."""

    def _show_form(self) -> None:
        c = self.controls
        before, self._syncing = self._syncing, True
        try:
            c.show(self._state)
            rows = len(self._state.rows)
            c.forget.layout.display = "" if rows else "none"
            many = "" if rows == 1 else "s"
            words = f"{rows} probe{many} handed over; what they share can be changed, swept and repeated."
            c.handed.value = f"<div>{escape(words)}</div>" if rows else ""
        finally:
            self._syncing = before

    @guarded
    def _forget(self, _: Any) -> None:
        self.state = self._state.replace(rows=(), launched=None, job={})

    def _draw_full(self) -> None:
        if self.job_panel is None:
            self.show(self.figure())
        self._tell_price()
        self.copy.text = self.code()

    def _draw_quick(self) -> None:
        self._tell_price()

    def _ask_price(self) -> None:
        if self.cost is None and self.job is None:
            self.pricer.ask(self.sweep, self._queue)

    @guarded
    def _priced(self, sweep: Sweep, found: Any) -> None:
        if self._closed or sweep != self.sweep:
            return
        if isinstance(found, Exception):
            self.controls.price.value = f"<div role='status'>No price: {escape(str(found))}</div>"
            self.controls.buckets.value = ""
            return
        self.cost = found
        self.redraw(self._draw_full)

    def _tell_price(self) -> None:
        c = self.controls
        c.launch.disabled = self.job is not None
        if self.cost is None:
            runs, buckets = len(self.sweep), len(self.sweep.buckets())
            total = flop(sum(probe.flops for probe in self.sweep))
            words = f"{runs} run{'' if runs == 1 else 's'}, {buckets} shape{'' if buckets == 1 else 's'}, {total} FLOP"
            wait = (
                ""
                if self.job is not None
                else "; the price follows (the first one times this machine for some seconds) …"
            )
            c.price.value, c.buckets.value = f"<div role='status'>{escape(words + wait)}</div>", ""
            return
        words = sentence(self.cost, place(self._queue)[2]) + " Workers take some seconds to start."
        c.price.value = f"<div role='status'><b>{escape(words)}</b></div>"
        c.buckets.value = price_html(self.cost)

    @guarded
    def _launch(self, _: Any) -> None:
        if self.cost is not None and self.cost.seconds > DEAR and not self._sure:
            self._sure = True
            raise ValueError(f"this takes {sentence(self.cost)} Press Launch again to start it all the same.")
        sweep = self.sweep
        words = f"Starting {len(sweep)} run{'' if len(sweep) == 1 else 's'} in {self.queue.root}."

        def meanwhile() -> None:
            self.controls.launch.disabled = True
            self.message.value = f'<div role="status">{escape(words)}</div>'

        beside(lambda: self.queue.submit(sweep), meanwhile, lambda job, error: self._launched(sweep, job, error))

    @guarded
    def _launched(self, sweep: Sweep, job: Job | None, error: Exception | None) -> None:
        if self._closed:
            return
        if error is not None:
            self.controls.launch.disabled = False
            self.tell(error)
            return
        self.tell(None)
        self._earlier.offer(self._state.launched)
        if sweep == self.sweep:  # else the form has moved on; the job waits in the list
            self._open(job)

    def _open(self, job: Job, state: JobState | None = None) -> None:
        """Show the job in place of the picture of the sweep."""
        self.pricer.forget()
        shown = self._watched.get(job.sweep.id)
        if shown is None:
            shown = self._watched[job.sweep.id] = JobPanel(job, state)
            shown.copy.layout.display = "none"  # one button is enough: this panel's code holds the other's
            shown.at_change.append(self._job_changed)
        elif state is not None:
            shown.state = state
        self.job, self.job_panel = job, shown
        shown.job = job
        shown.refresh()
        shown.start()
        self.area.children = (shown,)
        self._map.layout.display = "none"
        self.chart = shown.chart  # the figure on the screen
        self._state = self._state.replace(launched=job.sweep.id, job=asdict(shown.state))
        self._earlier.mark(job.sweep.id)
        self.redraw(self._draw_full)

    def _close_job(self) -> None:
        """Show the picture of the sweep again; the job goes on."""
        if self.job_panel is not None:
            self.job_panel.stop()
        self.job = self.job_panel = None
        self.area.children = ()
        self.chart = self._map
        self._map.layout.display = ""
        self._state = self._state.replace(launched=None, job={})
        self._earlier.mark(None)

    def _reopen(self, state: ProbeState) -> None:
        """Show the job that a state names, if this queue has it."""
        found = next((job for job in self._jobs() if job.sweep.id == state.launched), None)
        if found is None or found.sweep != self.sweep:
            self._state = self._state.replace(launched=None, job={})
            self.tell("this queue has no job of this sweep any more; press Launch to train it")
            return
        self._open(found, JobState.of(**state.job) if state.job else None)

    def _jobs(self) -> list[Job]:
        if self._queue is None and not (Path(ROOT) / ".queue").is_dir():
            return []
        return self.queue.jobs()

    @guarded
    def _chosen(self, id: str) -> None:
        """Show an earlier job, with its sweep in the form; or the picture of the sweep again."""
        if not id:
            self._close_job()
            self.redraw(self._draw_full)
            self._ask_price()
            return
        job = next(job for job in self._earlier.known() if job.sweep.id == id)
        self.state = state_of(job.sweep)
        self._open(job)

    def _job_changed(self) -> None:
        """The panel inside has other settings, so the code is another."""
        if self.job_panel is not None:
            self.copy.text = self.code()


def panel(of: Queue | Sweep | None = None, **state: Any) -> ProbePanel:
    """A probe panel on a queue, on a sweep to start from, or on neither.

    Args:
        of: a `Queue`, or a `Sweep` to be trained in the default queue.
        state: fields of `ProbeState` that differ; without a sweep.

    Raises:
        TypeError: `of` is neither.
        ValueError: no such setting, or settings beside a sweep.
    """
    if isinstance(of, Sweep):
        if state:
            raise ValueError(f"a sweep says it all; {', '.join(state)} cannot be set beside it.")
        return ProbePanel(sweep=of)
    return ProbePanel(of, state=ProbeState.of(**state) if state else None)
