"""The jobs that a probe panel offers to show again: those of its queue, and those it has shown before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import ipywidgets as widgets

from workbench.launch.queue import Job
from workbench.panels.job import JobPanel
from workbench.panels.probes_price import flop

__all__ = ["EarlierJobs"]

#: Most jobs of the queue that are offered.
_MOST = 40
_NONE = "the sweep described above"


class EarlierJobs:
    """A list of jobs, of which one or none is chosen; the id of a job is that of its sweep.

    Args:
        field: the list on the screen.
        listed: gives the queue's jobs, the latest first.
        watched: panels of the jobs shown before, by id; the queue need not know these jobs.
        chosen: called with the id that the reader has chosen, empty for none; not after `offer` and `mark`.
    """

    def __init__(
        self,
        field: widgets.Dropdown,
        listed: Callable[[], list[Job]],
        watched: Mapping[str, JobPanel],
        chosen: Callable[[str], None],
    ) -> None:
        self._field, self._listed, self._watched, self._chosen = field, listed, watched, chosen
        self._syncing = False
        field.observe(self._heard, "value")

    def known(self) -> list[Job]:
        """The queue's jobs, and those shown before."""
        return [*self._listed(), *(shown.job for shown in self._watched.values())]

    def offer(self, id: str | None) -> None:
        """List the jobs anew, the latest first, and choose this one if it is among them."""
        jobs = {job.sweep.id: job for job in self._listed()[:_MOST]}
        for shown in self._watched.values():
            jobs.setdefault(shown.job.sweep.id, shown.job)
        options = [(_NONE, "")]  # a value of None would show nothing
        self._set(id if id in jobs else "", [*options, *((_words(job), known) for known, job in jobs.items())])

    def mark(self, id: str | None) -> None:
        """Choose this job, or none."""
        if id is not None and id not in [value for _, value in self._field.options]:
            self.offer(id)
        self._set(id or "")

    def _set(self, value: str, options: list[tuple[str, str]] | None = None) -> None:
        before, self._syncing = self._syncing, True
        try:
            if options is not None:
                self._field.options = options
            self._field.value = value
        finally:
            self._syncing = before

    def _heard(self, change: Any) -> None:
        if not self._syncing:
            self._chosen(change["new"])


def _words(job: Job) -> str:
    """``24 runs of transformer on bigram, 3e12 FLOP (1f00ab)``."""
    first, runs = job.sweep[0], len(job.sweep)
    total = flop(sum(probe.flops for probe in job.sweep))
    return f"{runs} run{'' if runs == 1 else 's'} of {first.model} on {first.task}, {total} FLOP ({job.sweep.id[:6]})"
