"""What the laws of whole loss curves share: they are bound to schedules and evaluated at (step, schedule)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar, Self

import numpy as np

from workbench.laws.base import Input, Law
from workbench.laws.schedules.changes import RATIO, Terms, terms
from workbench.laws.schedules.schedule import Schedule

__all__ = ["ScheduleLaw"]

#: Sets of points whose blocks are remembered; a fit asks for the same few thousands of times.
_REMEMBERED = 4


class ScheduleLaw(Law):
    """A law whose value at a step depends on the learning rates of all steps before it.

    Its inputs are the step ``t`` and the number ``j`` of the schedule, counted from 1. The law in the
    registry knows no schedule; `bind` returns one that does, and everything that takes a law takes it::

        law = get("multi_power").bind([Schedule.cosine(24_000, 3e-4), Schedule.constant(24_000, 3e-4)])

    `workbench.analysis.schedule_curves.fit_curves` does this from logged curves.

    Attributes:
        schedules: the schedules j = 1, 2, ...
        ratio: coarseness of the blocks that changes of the rate are gathered in (see
            `workbench.laws.schedules.changes`); 1 sums over every change.
        by_area: whether the effect of a change depends on its age in area, else in steps.
    """

    inputs = (Input("t", "step"), Input("j"))
    trend = ""
    by_area: ClassVar[bool] = True

    def __init__(self, schedules: Sequence[Schedule] = (), ratio: float = RATIO):
        self.schedules = (schedules,) if isinstance(schedules, Schedule) else tuple(schedules)
        if not all(isinstance(s, Schedule) for s in self.schedules):
            raise TypeError("a schedule law is bound to Schedules; make them with Schedule.cosine(...) and the like")
        names = [s.name for s in self.schedules]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"two schedules are called {twice[0]!r}; give each a name of its own")
        if not ratio >= 1:
            raise ValueError(f"ratio is {ratio!r}; give 1 for the exact sum, or a little more")
        self.ratio = float(ratio)
        self._remembered: dict[tuple, Terms] = {}

    @cached_property
    def cost(self) -> int:
        """Blocks of a point at the end of the schedule that has most."""
        if not self.schedules:
            return 1
        ends = np.array([s.steps for s in self.schedules], dtype=float)
        found = terms(self.schedules, ends, np.arange(ends.size), self.ratio, self.by_area)
        return int(np.diff(found.first, append=found.drop.size).max())

    def bind(self, schedules: Sequence[Schedule], ratio: float | None = None) -> Self:
        """This law for these schedules, in place of any before.

        Raises:
            TypeError: something else than a `Schedule`.
            ValueError: two of one name.
        """
        return type(self)(schedules, self.ratio if ratio is None else ratio)

    def number(self, name: str) -> int:
        """The number j of the schedule called `name`.

        Raises:
            ValueError: there is none; the sentence lists those there are.
        """
        names = [s.name for s in self.schedules]
        if name not in names:
            raise ValueError(f"{self.name} is bound to no schedule {name!r}; it has {', '.join(names) or 'none yet'}")
        return names.index(name) + 1

    def terms(self, t: np.ndarray, j: np.ndarray) -> Terms:
        """The blocks of points at steps `t` ``[n]`` under schedules `j` ``[n]``.

        Raises:
            ValueError: the law is bound to no schedule, j is no number of one, or a step lies beyond its end.
        """
        if not self.schedules:
            raise ValueError(
                f"{self.name} needs learning-rate schedules: bind(...) it to some, or fit whole curves with "
                "workbench.analysis.schedule_curves.fit_curves"
            )
        t, j = np.atleast_1d(np.asarray(t, dtype=float)), np.atleast_1d(np.asarray(j, dtype=float))
        t, j = (np.ascontiguousarray(a) for a in np.broadcast_arrays(t, j))
        key = (t.tobytes(), j.tobytes())
        if key not in self._remembered:
            which = j.astype(int) - 1
            known = (which + 1 == j) & (which >= 0) & (which < len(self.schedules))
            if not known.all():
                raise ValueError(
                    f"{self.name} is bound to the schedules 1 to {len(self.schedules)}; there is no number "
                    f"{j[~known][0]:g}"
                )
            ends = np.array([s.steps for s in self.schedules])[which]
            outside = ~((t >= 1) & (t <= ends))
            if outside.any():
                i = int(np.argmax(outside))
                schedule = self.schedules[which[i]]
                raise ValueError(
                    f"step {t[i]:g} lies outside schedule {schedule.name!r}, which has the steps 1 to {schedule.steps}"
                )
            while len(self._remembered) >= _REMEMBERED:
                del self._remembered[next(iter(self._remembered))]
            self._remembered[key] = terms(self.schedules, t, which, self.ratio, self.by_area)
        return self._remembered[key]
