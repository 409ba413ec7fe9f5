"""One at a time: what changes panels takes its turn.

JupyterLab 4.4 and later has ipykernel 7 answer widgets in a thread of its own (a *subshell*), while cells, timers
that cells have set, and the first messages of a new widget run in the main thread. Two threads that draw the same
panel would send an older picture after a newer one, and one would read a control that the other is setting.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["in_turn", "turn", "undone"]

#: Held by whoever changes a panel; one for all, since panels change one another. Calculations never take it.
_TURN = threading.RLock()


@contextmanager
def turn() -> Iterator[bool]:
    """Wait until no other thread changes a panel; yields whether another one did."""
    waited = not _TURN.acquire(blocking=False)
    if waited:
        _TURN.acquire()
    try:
        yield waited
    finally:
        _TURN.release()


def in_turn(callback: Callable) -> Callable:
    """A callback that takes its turn."""

    @functools.wraps(callback)
    def call(*args: Any, **kwargs: Any) -> Any:
        with turn():
            return callback(*args, **kwargs)

    return call


def undone(change: Any) -> bool:
    """Whether a change of a control was undone by the thread it had to wait for; if so it is made again.

    That thread set all controls to the state as it was before the reader's change. Making the change again calls
    those who observe it.
    """
    try:
        owner, name, new = change["owner"], change["name"], change["new"]
        if getattr(owner, name) == new:
            return False
    except (KeyError, TypeError, AttributeError, ValueError):  # no change of a control
        return False
    setattr(owner, name, new)
    owner.send_state(name)  # a widget that is being answered does not tell the browser what the browser said
    return True
