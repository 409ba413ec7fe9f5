"""What a button asks of a queue, done beside the event loop: making folders and stopping workers takes seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

__all__ = ["beside"]


def beside(
    act: Callable[[], Any], meanwhile: Callable[[], None], done: Callable[[Any, Exception | None], None]
) -> None:
    """Call `act` in a thread, so that the notebook answers meanwhile; without a running event loop, at once.

    Args:
        act: what to do.
        meanwhile: called first, where there is something to wait for.
        done: called on the event loop's thread with the result, or with None and what went wrong.

    Raises:
        Exception: without an event loop, what `act` raises.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        done(act(), None)
        return
    meanwhile()

    def ended(future: asyncio.Future) -> None:
        error = future.exception()
        if error is None:
            done(future.result(), None)
        else:
            done(None, error if isinstance(error, Exception) else RuntimeError(str(error)))

    loop.run_in_executor(None, act).add_done_callback(ended)
