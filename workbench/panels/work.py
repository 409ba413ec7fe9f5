"""One long calculation at a time, beside the event loop: how far it is, how long it takes, and a way to stop it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from html import escape
from typing import Any

import ipywidgets as widgets

from workbench.panels.turn import in_turn

__all__ = ["SaidWork", "Stopped", "Work", "time_left"]

#: Seconds between two looks at the progress.
EVERY = 0.2
#: Seconds and share of the work before the time left is guessed.
SOON, LITTLE = 1.0, 0.02
#: Seconds before anything is said about work of unknown length.
QUIET = 0.5


class Stopped(Exception):
    """Raised inside a calculation that is no longer wanted."""


class Work:
    """Runs a calculation in a thread, so that the notebook answers meanwhile.

    A calculation is a function of ``tick``, which it calls with the fraction done (0 to 1) and a word; that is
    where it is stopped. Without a running event loop it is done at once.

    Args:
        watch: called on the event loop's thread with the fraction done and the seconds left (None: not known yet).
    """

    def __init__(self, watch: Callable[[float, float | None], None]) -> None:
        self.watch = watch
        self._stop: threading.Event | None = None
        self._turn = threading.Lock()  # an overtaken calculation ends before the next begins
        self._fraction, self._began = 0.0, 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def busy(self) -> bool:
        """Whether a calculation runs whose result is still wanted."""
        return self._stop is not None

    def start(
        self,
        calculate: Callable[[Callable[[float, str], None]], Any],
        done: Callable[[Any, BaseException | None], None],
    ) -> None:
        """Calculate, in place of what is being calculated, and call ``done(result, error)`` on this thread."""
        self.stop()
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            try:
                result = calculate(lambda fraction, what="": None)
            except Exception as error:
                done(None, error)
            else:
                done(result, None)
            return
        stop = self._stop = threading.Event()
        self._fraction, self._began = 0.0, time.monotonic()

        def tick(fraction: float, what: str = "") -> None:
            if stop.is_set():
                raise Stopped
            self._fraction = fraction
            time.sleep(0)  # the event loop's thread may go first

        def call() -> None:
            result, error = None, None
            try:
                with self._turn:
                    tick(0.0)
                    result = calculate(tick)
            except BaseException as caught:
                error = caught
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._ended, stop, done, result, error)

        # A daemon: closing the notebook must not wait for it, as it would for a thread of an executor.
        threading.Thread(target=call, name="workbench-work", daemon=True).start()
        self.watch(0.0, None)
        self._timer = loop.call_later(EVERY, self._look, loop)

    def stop(self) -> None:
        """Give up what is being calculated; it ends at its next tick, and `done` is not called."""
        if self._stop is not None:
            self._stop.set()
            self._stop = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @in_turn
    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        if self.busy:
            self.watch(self._fraction, time_left(self._fraction, time.monotonic() - self._began))
            self._timer = loop.call_later(EVERY, self._look, loop)

    @in_turn
    def _ended(self, stop: threading.Event, done: Callable, result: Any, error: BaseException | None) -> None:
        if stop is self._stop:  # else another calculation, or nothing, is wanted by now
            self.stop()
            done(result, error)


class SaidWork(Work):
    """Work of unknown length, which says how long it has been at it and how long it took the last time.

    Args:
        what: what is calculated, for the sentence.
        line: where it is said; empty while nothing is calculated.
    """

    def __init__(self, what: str, line: widgets.HTML) -> None:
        super().__init__(self._say)
        self._what, self._line, self._usual = what, line, 0.0

    def start(self, calculate: Callable[[], Any], done: Callable[[Any, BaseException | None], None]) -> None:
        """As `Work.start`, of a calculation without ticks: it can be given up, but runs to its end."""

        def timed(_: Any) -> Any:
            began = time.monotonic()
            try:
                return calculate()
            finally:
                self._usual = time.monotonic() - began

        super().start(timed, done)

    def stop(self) -> None:
        """Let nothing come of what is running."""
        super().stop()
        self._line.value = ""

    def _say(self, fraction: float, left: float | None) -> None:
        spent = time.monotonic() - self._began
        if spent > QUIET:
            usual = f" of about {self._usual:.0f} s" if self._usual > 1 else ""
            words = escape(f"{self._what}: {spent:.0f} s{usual} …")
            self._line.value = f'<div role="status"><progress></progress> {words}</div>'


def time_left(fraction: float, seconds: float) -> float | None:
    """Seconds a calculation still takes that did `fraction` in `seconds`; None while that cannot be told."""
    if seconds < SOON or fraction < LITTLE:
        return None
    return seconds * (1 - fraction) / fraction
