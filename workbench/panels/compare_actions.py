"""What the reader does in the compare panel: controls, brushes on the chart, other panels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from workbench.figures.overlay import axes_of, levels, usual
from workbench.figures.overlay import placed as placed_laws
from workbench.figures.recipes import placed as placed_groups
from workbench.panels.base import guarded
from workbench.panels.compare_controls import CompareControls
from workbench.panels.compare_state import KINDS, VIEWS, groups_of
from workbench.panels.shared import Shared
from workbench.units import axis_title, quantity

__all__ = ["CompareActions"]


class CompareActions:
    """The part of `ComparePanel` that answers the reader."""

    controls: CompareControls

    def brushed(self, name: str, box: dict[str, list[float]]) -> None:
        """Remember the box; the buttons act on it."""
        self._box = {k: v for k, v in box.items() if k in ("x", "y")}

    def follow(self, selection: Shared) -> None:
        """Fit without the runs another panel took out; ring those it marked."""
        state = self._wanted or self._state
        if selection.left_out != state.left_out:
            self._apply(state.replace(left_out=selection.left_out))
        elif self.found is not None:
            self.redraw(self._draw)

    def _inside(self) -> list[str]:
        a, box = self.found, self._box
        if a is None or not box:
            raise ValueError("no run is inside a brush; drag over some points of the overlaid chart first")
        runs = placed_laws(a.comparison, at=self._state.at) if a.comparison is not None else placed_groups(a.fits)
        chosen = np.ones(len(runs), dtype=bool)
        for axis, ends in box.items():
            chosen &= runs[axis].between(*sorted(ends)).to_numpy()
        found = runs["run"][chosen].tolist()
        if not found:
            raise ValueError("no run is inside the brush; drag over some points of the chart")
        return found

    def _connect(self) -> None:
        c = self.controls
        for control in (c.kind, c.laws, c.law, c.by, c.groups, c.y, c.x, c.objective, c.where, c.holdout, c.view):
            control.observe(self._changed, "value")
        for control in (c.first, c.second):
            control.observe(self._paired, "value")
        c.value.observe(self._value_moved, "value")
        c.at.observe(self._level_moved, "value")
        for control, act in ((c.out, self._leave_out), (c.mark, self._mark), (c.back, self._all_back)):
            control.on_click(act)
        c.stop.on_click(self._stop)

    @guarded
    def _changed(self, change: Any) -> None:
        if self._syncing:
            return
        c, s = self.controls, self._wanted or self._state
        if change["owner"] is c.holdout and c.kind.value == KINDS[1]:
            raise ValueError("a hold-out ranks laws and means nothing to groups of runs; compare laws instead")
        by_changed = change["owner"] is c.by
        redefined = change["owner"] in (c.kind, c.law, c.by, c.groups, c.y, c.x, c.laws)
        kind = c.kind.value
        every = set(c.groups.options) == set(c.groups.value)
        self._apply(
            s.replace(
                kind=kind,
                laws=tuple(c.laws.value),
                law=c.law.value,
                by=c.by.value,
                groups=() if by_changed or every else tuple(c.groups.value),
                y=c.y.value,
                x=c.x.value,
                objective=c.objective.value,
                where=c.where.value.strip() or None,
                holdout=c.holdout.value.strip(),
                view=VIEWS[0] if kind == KINDS[1] and c.view.value == VIEWS[2] else c.view.value,
                pair=() if by_changed else s.pair,
                value=None if redefined else s.value,
                at=None if redefined else s.at,
            )
        )

    @guarded
    def _paired(self, change: Any) -> None:
        if self._syncing:
            return
        c = self.controls
        pair = (c.second.value, c.first.value)
        if pair[0] == pair[1]:
            self._sync(keep_text=True)
            raise ValueError("a group is not compared with itself; choose two different groups")
        self._apply((self._wanted or self._state).replace(pair=pair, value=None))

    @guarded
    def _value_moved(self, _: Any) -> None:
        if not self._syncing and self.found is not None:
            self._apply(self._state.replace(value=float(f"{self.controls.value.value:.4g}")))

    @guarded
    def _level_moved(self, _: Any) -> None:
        if not self._syncing and self.found is not None:
            self._apply(self._state.replace(at=float(f"{self.controls.at.value:.4g}")))

    @guarded
    def _leave_out(self, _: Any) -> None:
        state = self._state
        self._apply(state.replace(left_out=tuple(dict.fromkeys([*state.left_out, *self._inside()]))))

    @guarded
    def _mark(self, _: Any) -> None:
        self.shared.change(self, marked=self._inside())
        self.redraw(self._draw)

    @guarded
    def _all_back(self, _: Any) -> None:
        self.shared.change(self, marked=())
        self._apply((self._wanted or self._state).replace(left_out=()))
        self.redraw(self._draw)

    @guarded
    def _stop(self, _: Any) -> None:
        self.work.stop()
        self._wanted = None
        if self.found is None:
            self._why = "The calculation was stopped; change any setting to start again."
            self.redraw(self._draw)
        self._sync(keep_text=True)

    def _sync(self, keep_text: bool = False) -> None:
        """Set every control to the state that is wanted, without asking for it."""
        c, s = self.controls, self._wanted or self._state
        groups = s.kind == KINDS[1]
        with self._quietly():
            for control, wanted in (
                (c.kind, s.kind), (c.law, s.law), (c.by, s.by), (c.y, s.y), (c.x, s.x), (c.objective, s.objective),
                (c.view, s.view),
            ):  # fmt: skip
                if wanted in [o[1] if isinstance(o, tuple) else o for o in control.options]:
                    control.value = wanted
            offered = [value for _, value in c.laws.options]
            c.laws.value = tuple(law for law in s.laws if law in offered)
            names = groups_of(self.runs, s.by)
            c.groups.options = names
            c.groups.value = tuple(g for g in names if not s.groups or g in s.groups)
            if not keep_text:
                c.where.value, c.holdout.value = s.where or "", s.holdout
            for control, shown in (
                (c.laws, not groups), (c.holdout, not groups), (c.law, groups), (c.by, groups), (c.groups, groups),
                (c.first, groups), (c.second, groups), (c.value, groups),
            ):  # fmt: skip
                control.layout.display = "" if shown else "none"
            self._sync_pair(groups)
            self._sync_level(groups)
            c.progress.layout.display = c.stop.layout.display = "" if self.work.busy else "none"

    def _sync_pair(self, groups: bool) -> None:
        c, a = self.controls, self.found
        if a is None or not groups or len(a.fits) < 2:
            return
        for control, chosen in ((c.first, a.pair[1]), (c.second, a.pair[0])):
            control.options = list(a.fits)
            control.value = chosen
        value = self._value()
        c.value.disabled = value is None
        if value is not None:
            low, high = sorted(a.shift.range)
            _move(c.value, min(low, value), max(high, value), value)
            c.value.description, c.value.unit = "Value to reach", quantity(self._state.y).unit

    def _sync_level(self, groups: bool) -> None:
        c, a, s = self.controls, self.found, self._state
        by = None
        if a is not None and a.comparison is not None and s.view != VIEWS[2]:
            by = axes_of(a.comparison)[1]
        c.at.layout.display = "none" if by is None or groups else ""
        if by is None:
            return
        values = levels(a.comparison)
        value = s.at if s.at is not None else usual(a.comparison, by)
        if len(values) > 1:
            _move(c.at, min(float(values[0]), value), max(float(values[-1]), value), value)
        c.at.description, c.at.unit = f"Curves at {quantity(by).symbol or axis_title(by)}", quantity(by).unit

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        self._syncing = True
        try:
            yield
        finally:
            self._syncing = False


def _move(slider: Any, low: float, high: float, value: float) -> None:
    """New bounds and value, in an order in which the value is never outside."""
    if not high > low:
        low, high = low / 1.5, high * 1.5
    if not (np.isclose(slider.min, low) and np.isclose(slider.max, high)):
        slider.min, slider.max = min(low, slider.min), max(high, slider.max)
        slider.value = value
        slider.min, slider.max = low, high
        slider.step = float(np.log10(high / low) if slider.log else high - low) / 200
    elif not np.isclose(slider.value, value, rtol=1e-3, atol=0):  # else a moving slider would jitter
        slider.value = value
