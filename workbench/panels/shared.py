"""`Shared`: what all panels on one table have in common: runs left out, and runs marked."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable

from workbench.runs.table import RunTable

__all__ = ["Shared", "shared"]


class Shared:
    """One selection of runs for every panel of a kernel that shows the same table.

    Attributes:
        left_out: ids of runs taken out by hand, in the order of their leaving.
        marked: ids of runs brushed or chosen to be looked at.
    """

    def __init__(self) -> None:
        self.left_out: tuple[str, ...] = ()
        self.marked: tuple[str, ...] = ()
        self._listeners: list[weakref.WeakMethod] = []

    def listen(self, method: Callable[[Shared], None]) -> None:
        """Call the bound `method` with this object after each change, as long as its panel lives."""
        self._listeners.append(weakref.WeakMethod(method))

    def change(self, by: object, left_out: Iterable[str] | None = None, marked: Iterable[str] | None = None) -> None:
        """Replace what is given and tell every listener but `by`."""
        new = (
            self.left_out if left_out is None else tuple(left_out),
            self.marked if marked is None else tuple(marked),
        )
        if new == (self.left_out, self.marked):
            return
        self.left_out, self.marked = new
        for weak in list(self._listeners):
            method = weak()
            if method is None:
                self._listeners.remove(weak)
            elif method.__self__ is not by:
                method(self)


_ALL: dict[int, Shared] = {}


def shared(runs: RunTable) -> Shared:
    """The selection that belongs to this table: the same object for the same table, as long as it lives."""
    key = id(runs.frame)
    if key not in _ALL:
        _ALL[key] = Shared()
        weakref.finalize(runs.frame, _ALL.pop, key, None)
    return _ALL[key]
