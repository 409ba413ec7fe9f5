"""Runs in and out of the fit panel: by click, by brush, by name, and by what other panels do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from workbench import figures
from workbench.fits.held import HELD
from workbench.panels.base import guarded
from workbench.panels.controls import FitControls
from workbench.panels.fit_state import FitState
from workbench.panels.fit_views import POINTS
from workbench.panels.shared import Shared

__all__ = ["RunActions"]


class RunActions:
    """What a fit panel does with single runs; its state is `FitState`, its widgets are `FitControls`."""

    controls: FitControls
    state: FitState

    def brushed(self, name: str, box: dict[str, Any]) -> None:
        """Remember a brush, on which the buttons act; a click on a run leaves it out or puts it back."""
        if name.startswith("clicked"):
            runs = [str(run) for run in box.get("run", [])]
            if runs:
                # The next click on the same run must be news again.
                self.chart.selected = {**self.chart.selected, name: {}}
                (self._turn_in if name == "clicked_left_out" else self._turn_out)(runs)
            return
        self._box = {k: v for k, v in box.items() if k in ("x", "y", "error")}
        if self.fit_now is not None:
            self.shared.change(self, marked=self._inside(("runs",)))

    def follow(self, selection: Shared) -> None:
        """Leave out and ring what another panel on the same runs has chosen."""
        self.state = self._state.replace(left_out=selection.left_out, marked=selection.marked)

    def _connect_points(self) -> None:
        c = self.controls
        c.run.observe(self._named, "value")
        for button, act in (
            (c.out, self._leave_out),
            (c.only, self._keep_only),
            (c.hold, self._hold_out),
            (c.put_back, self._put_back),
            (c.back, self._all_back),
        ):
            button.on_click(act)

    def _turn_out(self, runs: list[str]) -> None:
        """Fitted and held-out runs leave; a browser may tell of a click twice, so others are passed over."""
        gone = [run for run in runs if self.fit_now.points.left_out.get(run, HELD) == HELD]
        if gone:
            held = [run for run in self._state.held if run not in gone]
            self._choose(left_out=[*self._state.left_out, *gone], held=held)

    def _turn_in(self, runs: list[str]) -> None:
        """Runs taken out by hand come back; what is out for another reason says so."""
        back = [run for run in runs if run in self._state.left_out]
        if back:
            self._choose(left_out=[run for run in self._state.left_out if run not in back])
        for run in runs:
            why = self.fit_now.points.left_out.get(run)
            if why not in (None, HELD, "taken out"):
                raise ValueError(f"{run[:60]} cannot be put back by hand: {why}")

    @guarded
    def _named(self, change: Any) -> None:
        name = change["new"].strip()
        if self._syncing or not name:
            return
        if self.fit_now is None or name not in set(self.fit_now.points.frame["run"]):
            raise ValueError(f"no run called {name!r} is in the fit; choose one from the list")
        self._choose(left_out=[*self._state.left_out, name])

    @guarded
    def _leave_out(self, _: Any) -> None:
        chosen = self._chosen()
        self._choose(left_out=[*self._state.left_out, *chosen], held=[r for r in self._state.held if r not in chosen])

    @guarded
    def _keep_only(self, _: Any) -> None:
        inside = set(self._chosen())
        others = [run for run in self.fit_now.points.frame["run"] if run not in inside]
        self._choose(left_out=[*self._state.left_out, *others])

    @guarded
    def _hold_out(self, _: Any) -> None:
        self._choose(held=[*self._state.held, *self._chosen()])

    @guarded
    def _put_back(self, _: Any) -> None:
        chosen = set(self.controls.left.value) or set(self._inside(("left_out", "held_out", "held_out_points")))
        if not chosen:
            raise ValueError("select runs in the list of left-out runs first, or drag over hollow points of the chart")
        self._choose(
            left_out=[r for r in self._state.left_out if r not in chosen],
            held=[r for r in self._state.held if r not in chosen],
        )

    @guarded
    def _all_back(self, _: Any) -> None:
        self._choose(left_out=[], held=[])

    def _choose(self, **runs: Iterable[str]) -> None:
        """Move to these runs left out or held out, if they can be fitted; nothing is ringed any more."""
        fields = {name: tuple(dict.fromkeys(ids)) for name, ids in runs.items()}
        self.state = self._state.replace(marked=(), **fields)
        self.shared.change(self, marked=())

    def _chosen(self) -> list[str]:
        """Fitted runs inside the brush, or ringed by another panel where there is no brush here."""
        chosen = self._inside(("runs",)) if self.fit_now is not None else []
        if not chosen and self.fit_now is not None:
            fitted = set(self.fit_now.points.frame["run"])
            chosen = [run for run in self._state.marked if run in fitted]
        if not chosen:
            raise ValueError("no run is inside a brush; drag over some points of the chart first")
        return chosen

    def _inside(self, layers: tuple[str, ...]) -> list[str]:
        """Runs of these layers inside the brush."""
        if not self._box or self.fit_now is None:
            return []
        if layers == ("runs",) and self._state.view in ("curve", "residuals", "card"):
            return figures.inside(self.fit_now, self._box)
        bounds = {field: sorted(ends) for field, ends in self._box.items()}
        return [
            row["run"]
            for name in layers
            if name in POINTS
            for row in self.chart.data.get(name, [])
            if all(row.get(f) is not None and low <= row[f] <= high for f, (low, high) in bounds.items())
        ]
