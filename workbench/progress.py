"""Progress for a terminal: a bar with time left where someone watches, a line per stage where nobody does."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TextIO

__all__ = ["Progress"]

WIDTH = 28


class Progress:
    """A bar on standard error. Use as a context manager; call it with the fraction done.

    On a terminal the bar is redrawn in place, at most ten times a second, with the time left. Elsewhere
    (a log file, CI) only the first and the last line of each stage are written.

    Args:
        label: what is being done.
        stream: where to write; default standard error, so that standard output stays clean for results.
    """

    def __init__(self, label: str, stream: TextIO | None = None):
        self.label = label
        self.stream = stream or sys.stderr
        self.live = bool(getattr(self.stream, "isatty", lambda: False)())
        self.started = time.monotonic()
        self._drawn = 0.0
        self._length = 0

    def __enter__(self) -> Progress:
        self._write(f"{self.label} …", end="" if self.live else "\n")
        return self

    def __call__(self, fraction: float, note: str = "") -> None:
        """Show that `fraction` of the work is done."""
        now = time.monotonic()
        if not self.live or (now - self._drawn < 0.1 and fraction < 1):
            return
        self._drawn = now
        elapsed = now - self.started
        left = elapsed / fraction - elapsed if fraction > 0.02 else None
        filled = round(WIDTH * min(max(fraction, 0), 1))
        bar = "█" * filled + "·" * (WIDTH - filled)
        eta = f"{_seconds(left)} left" if left is not None and fraction < 1 else _seconds(elapsed)
        self._write(f"{self.label} {bar} {fraction:4.0%}  {eta}  {note}")

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        verdict = "done" if kind is None else "stopped"
        self._write(f"{self.label}: {verdict} in {_seconds(time.monotonic() - self.started)}", end="\n")

    def _write(self, text: str, end: str = "") -> None:
        if self.live:
            self.stream.write("\r" + text.ljust(self._length) + end)
            self._length = 0 if end else len(text)
        else:
            self.stream.write(text + (end or "\n"))
        self.stream.flush()


def _seconds(value: float) -> str:
    if value < 60:
        return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
    minutes, seconds = divmod(round(value), 60)
    return f"{minutes} min {seconds:02d} s"
