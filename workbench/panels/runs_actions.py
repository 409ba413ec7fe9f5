"""What the reader does in the runs panel: controls, the table, clicks and brushes on the chart, other panels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from workbench.panels.base import guarded
from workbench.panels.runs_rows import PAGE
from workbench.panels.shared import Shared
from workbench.runs.table import RunTable

__all__ = ["RunsActions"]


class RunsActions:
    """The part of `RunsPanel` that answers the reader."""

    def share(self, runs: RunTable) -> None:
        """As `Panel.share`; what is marked is shared too."""
        super().share(runs)
        if self._state.marked:
            self.shared.change(self, marked=self._state.marked)
        self._state = self._state.replace(marked=self.shared.marked)

    def follow(self, selection: Shared) -> None:
        """Another panel has left runs out or marked some."""
        self._state = self._state.replace(left_out=selection.left_out, marked=selection.marked)
        self.redraw(self._draw_full, self._draw_quick)

    def _connect(self) -> None:
        c = self.controls
        for control in (
            c.filter, c.y, c.x, c.color, c.group, c.facet, c.log_x, c.log_y, c.clip, c.events, c.smooth, c.policy, c.k,
            c.along, c.at, c.live, c.parallel,
        ):  # fmt: skip
            control.observe(self._changed, "value")
        c.tag.observe(self._tagged, "value")
        for button, act in (
            (c.out, self._leave_out),
            (c.only, self._use_only),
            (c.back, self._use_all),
            (c.mark, self._mark_all),
            (c.unmark, self._unmark),
            (c.untag, self._untag),
        ):
            button.on_click(act)

    @guarded
    def _changed(self, change: Any) -> None:
        if self._syncing:
            return
        c, s = self.controls, self._state
        at = s.at
        if change["owner"] is c.at:
            at = float(f"{c.at.value:.4g}")
        elif change["owner"] is c.along:
            at = None
        wanted = s.replace(
            filter=c.filter.value.strip(), y=c.y.value, x=c.x.value, color=c.color.value or None,
            group=c.group.value or None, facet=c.facet.value or None, log_x=c.log_x.value, log_y=c.log_y.value,
            clip=c.clip.value, events=c.events.value, smooth=float(f"{c.smooth.value:.3g}"), policy=c.policy.value,
            k=round(c.k.value), along=c.along.value, at=at, live=c.live.value, parallel=c.parallel.value,
            span=s.span if c.x.value == s.x else (),
        )  # fmt: skip
        done = self._apply(wanted)
        # what was refused stays in the field of text, for its owner to mend; everything else goes back
        self._show_state(keep=c.filter if not done and change["owner"] is c.filter else None)

    def _show_state(self, keep: Any = None) -> None:
        """Set every control to the state, without an answer."""
        c, s = self.controls, self._state
        self._syncing = True
        try:
            c.offer(self.runs, bool(s.tags))
            for name in ("y", "x", "color", "group", "facet", "policy", "along"):
                control, wanted = getattr(c, name), getattr(s, name) or ""
                if wanted in [value for _, value in control.options]:
                    control.value = wanted
            for name in ("log_x", "log_y", "clip", "events", "live", "parallel"):
                getattr(c, name).value = getattr(s, name)
            for control, wanted in ((c.smooth, s.smooth), (c.k, float(s.k))):
                if not np.isclose(control.value, wanted, rtol=5e-3, atol=1e-9):  # else a moving slider would jitter
                    control.value = wanted
            low, high, start = self._reach(s)
            wanted = start if s.at is None else min(max(s.at, low), high)
            if not np.isclose(c.at.value, wanted, rtol=1e-3, atol=0) or c.at.min != low or c.at.max != high:
                c.reach(low, high, wanted)
            if keep is not c.filter:
                c.filter.value = s.filter
            c.color.disabled = s.group is not None
            c.smooth.disabled = c.clip.disabled = c.events.disabled = c.group.disabled = not self._curved
            c.facet.disabled = not self._curved
            c.policy.disabled = not self._curved
            c.live.disabled = not self.runs.sources
            c.follow_policy(s)
        finally:
            self._syncing = False

    @guarded
    def _table_told(self, message: dict[str, Any]) -> None:
        s = self._state
        act = message["act"]
        if act == "page":
            last = max(-(-len(self.chosen) // PAGE) - 1, 0)
            self._apply(s.replace(page=int(min(max(message.get("to", 0), 0), last))))
        elif act == "sort":
            key = str(message.get("key", ""))
            if s.sort != key:
                self._apply(s.replace(sort=key, descending=False))
            elif not s.descending:
                self._apply(s.replace(descending=True, page=0))
            else:
                self._apply(s.replace(sort="", descending=False))
        else:
            runs = [run for run in message.get("runs", []) if isinstance(run, str)]
            field = "marked" if act == "mark" else "left_out"
            add = bool(message.get("on")) == (field == "marked")
            self._change(field, runs, add)

    def _change(self, field: str, runs: Iterable[str], add: bool) -> None:
        """Put runs into ``marked`` or ``left_out``, or take them from it."""
        runs = list(runs)
        held = getattr(self._state, field)
        new = dict.fromkeys([*held, *runs]) if add else [run for run in held if run not in set(runs)]
        self._apply(self._state.replace(**{field: tuple(new)}))

    @guarded
    def _ranged(self, change: Any) -> None:
        """A range was drawn in the parallel coordinates: the runs inside all ranges are marked."""
        if self._syncing:
            return
        brushes = {k: [float(f"{v:.6g}") for v in ends] for k, ends in change["new"].items()}
        marked = tuple(change["owner"].chosen) if brushes else ()
        self._apply(self._state.replace(brushes=brushes, marked=marked))

    def brushed(self, name: str, box: dict[str, list[float]]) -> None:
        """A range of x, or of points, was drawn; or a run was clicked."""
        if name == "click":
            self._click(box.get("run", []))
        elif name == "span" and box.get("x"):
            span = tuple(float(f"{v:.4g}") for v in box["x"])
            if self._curved:
                self._apply(self._state.replace(span=span))
            elif box.get("y"):
                self._apply(self._state.replace(marked=tuple(self._inside(box))))

    def _click(self, runs: list[str]) -> None:
        """A click on a run changes whether it is marked, or left out. Pressing the button has cleared the last one."""
        field = self.controls.click.value
        for run in runs:
            self._change(field, [run], run not in getattr(self._state, field))

    def _inside(self, box: dict[str, list[float]]) -> list[str]:
        frame = self.chosen.frame
        chosen = np.ones(len(frame), dtype=bool)
        for channel, column in (("x", self._state.x), ("y", self._state.y)):
            values, (low, high) = frame[column].to_numpy(float), sorted(box[channel])
            chosen &= (values >= low) & (values <= high)
        return frame["run"][chosen].tolist()

    def _marked_now(self) -> list[str]:
        marked = self._present(self._state.marked)
        if not marked:
            raise ValueError("no run is marked; tick some in the table, or click their curves, first")
        return marked

    @guarded
    def _leave_out(self, _: Any) -> None:
        self._change("left_out", self._marked_now(), True)

    @guarded
    def _use_only(self, _: Any) -> None:
        marked = set(self._marked_now())
        self._apply(self._state.replace(left_out=tuple(run for run in self.runs.ids if run not in marked)))

    @guarded
    def _use_all(self, _: Any) -> None:
        self._apply(self._state.replace(left_out=()))

    @guarded
    def _mark_all(self, _: Any) -> None:
        self._apply(self._state.replace(marked=tuple(self.chosen.ids)))

    @guarded
    def _unmark(self, _: Any) -> None:
        self._apply(self._state.replace(marked=()))

    @guarded
    def _tagged(self, change: Any) -> None:
        word = change["new"].strip()
        if self._syncing or not word:
            return
        tags = {**self._state.tags, **dict.fromkeys(self._marked_now(), word)}
        if self._apply(self._state.replace(tags=tags)):
            self._show_state()
        self._syncing = True
        try:
            self.controls.tag.value = ""
        finally:
            self._syncing = False

    @guarded
    def _untag(self, _: Any) -> None:
        marked = set(self._marked_now())
        self.state = self._state.replace(tags={r: t for r, t in self._state.tags.items() if r not in marked})
