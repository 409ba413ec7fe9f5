"""Growing logs: looked at every two seconds beside the event loop, so that the panel never waits for a disk."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from workbench.panels.turn import in_turn
from workbench.runs.table import RunTable

if TYPE_CHECKING:
    from workbench.panels.runs import RunsPanel

__all__ = ["EVERY", "Live"]

#: Seconds between two looks.
EVERY = 2.0


class Live:
    """The looks of one panel at its logs.

    Args:
        panel: the panel.

    Attributes:
        looks: how many have been finished.
    """

    def __init__(self, panel: RunsPanel) -> None:
        self._panel = panel
        self._follower = None
        self._timer: asyncio.TimerHandle | None = None
        self._on = False
        self.looks = 0

    def start(self) -> None:
        """Look every two seconds; without a running event loop only `look` does."""
        self._on = True
        self._panel.grows = True
        self._later(0.0)

    def stop(self) -> None:
        """Look no more."""
        self._on = False
        self._panel.grows = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def look(self) -> bool:
        """Look once and wait for it; whether something had grown."""
        table = self._read()
        self.looks += 1
        if table is not None:
            self._panel.grown(table)
        return table is not None

    def _later(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        self._timer = loop.call_later(seconds, self._begin)

    def _begin(self) -> None:
        self._timer = None
        asyncio.get_running_loop().run_in_executor(None, self._read).add_done_callback(self._done)

    def _read(self) -> RunTable | None:
        from workbench.runs.follow import follow

        if self._follower is None:
            self._follower = follow(self._panel.runs)
        return self._follower.poll()

    @in_turn
    def _done(self, future: asyncio.Future[RunTable | None]) -> None:
        self.looks += 1
        if not self._on or future.cancelled():
            return
        error = future.exception()
        if error is not None:
            self._panel.tell(error if isinstance(error, Exception) else RuntimeError(str(error)))
        elif (table := future.result()) is not None:
            self._panel.grown(table)
        self._later(EVERY)
