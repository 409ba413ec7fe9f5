"""What the reader does in the job panel: axes, the log of a run, cancel, resume, the fit of what has finished."""

from __future__ import annotations

import time
from collections.abc import Callable
from html import escape
from typing import Any

from workbench.panels.base import guarded
from workbench.panels.beside import beside
from workbench.panels.fit import FitPanel
from workbench.panels.job_table import run_name

__all__ = ["JobActions"]

#: Seconds that a resumed run may go on saying how it ended before: until a worker takes it, nobody writes its status.
HOPE = 120.0


class JobActions:
    """The part of `JobPanel` that answers the reader."""

    def _connect(self) -> None:
        for control in (self.along, self.hue, self.log_of):
            control.observe(self._changed, "value")
        self.cancel.on_click(self._cancel)
        self.resume.on_click(self._resume)
        self.to_fit.on_click(self._fit)

    def _sync(self) -> None:
        """Set the controls to the state."""
        self._syncing = True
        try:
            self.along.value = self._state.x
            self.hue.value = self._state.color or ""
            if self._state.log is None:
                self.log_of.value = ""
            elif not self.log_of.value.startswith(self._state.log):
                self.log_of.value = run_name(self._state.log, self._values(self._place(self._state.log)))
        finally:
            self._syncing = False

    @guarded
    def _changed(self, _: Any) -> None:
        if not self._syncing:
            log = self._named(self.log_of.value)
            self.tell(None)
            self.state = self._state.replace(x=self.along.value, color=self.hue.value or None, log=log)

    def _named(self, text: str) -> str | None:
        """The run that a text begins to name."""
        words = text.split()
        if not words:
            return None
        found = [probe.id for probe in self.job.sweep if probe.id.startswith(words[0])]
        if len(found) != 1:
            many = f"{len(found)} runs begin" if found else "no run begins"
            raise ValueError(f"{many} with {words[0][:40]!r}; choose a run from the list, or type more of its name")
        return found[0]

    @guarded
    def _fit(self, _: Any) -> None:
        """Open the fit panel on what has finished by now, anew if it is open."""
        self.state = self._state.replace(fitted=False)
        self.state = self._state.replace(fitted=True)

    def _show_fit(self) -> None:
        if not self._state.fitted and self.fit is not None:
            self.below.children = ()
            self.fit.close()
            self.fit = None
        elif self._state.fitted and self.fit is None:
            self.fit = FitPanel(self.job.runs().good, name=self._finished)
            self.below.children = (self.fit,)
            self.copy.text = self.code()

    def _cancel(self, _: Any) -> None:
        self._hope = 0.0
        self._do("Cancelling: every run writes a checkpoint and stops.", self.job.cancel)

    def _resume(self, _: Any) -> None:
        def submit() -> None:
            self.job.queue.submit(self.job.sweep)
            self._hope = time.monotonic() + HOPE

        self._do("Resuming.", submit)

    @guarded
    def _do(self, what: str, act: Callable[[], None]) -> None:
        def meanwhile() -> None:
            self.cancel.disabled = self.resume.disabled = True
            self.stop()
            self.message.value = f'<div role="status">{escape(what)}</div>'

        beside(act, meanwhile, self._done)

    def _done(self, _: Any, error: Exception | None) -> None:
        if self._closed:
            return
        self._again()
        self.tell(error)
        if self._settled:
            self._end()
        self.start()
