"""One at a time: what changes panels takes its turn.

JupyterLab 4.4 and later has ipykernel 7 answer widgets in a thread of its own (a *subshell*), while cells, timers
that cells have set, and the first messages of a new widget run in the main thread. Two threads that draw the same
panel would send an older picture after a newer one.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable

__all__ = ["TURN", "in_turn"]

#: Held by whoever changes a panel; one for all, since panels change one another. Calculations never take it.
TURN = threading.RLock()


def in_turn(callback: Callable) -> Callable:
    """A callback that waits until no other thread changes a panel."""

    @functools.wraps(callback)
    def call(*args, **kwargs):
        with TURN:
            return callback(*args, **kwargs)

    return call
