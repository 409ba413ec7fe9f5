"""What the fit panel puts on the screen: exactly when the hand rests, rows of the drawing there is while it moves."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable

import altair as alt
import numpy as np
import pandas as pd

from workbench.figures.curve_rows import CurveRows
from workbench.panels import fit_views as views
from workbench.panels.controls import FitControls
from workbench.panels.fit_state import FitState
from workbench.panels.fit_views import RESAMPLES
from workbench.panels.results import card_html, parameters_html

__all__ = ["FitDrawing", "in_notebook"]

#: Seconds between the steps of an exact drawing, in which another input may come first.
BREATH = 0.1
#: Fields whose change leaves the axes where they are, so that rows alone are replaced.
_SAME_AXES = {
    "objective", "delta", "fixed", "tied", "left_out", "holdout", "held", "marked", "cluster", "weights", "variance",
}  # fmt: skip


class FitDrawing:
    """The part of `FitPanel` that draws.

    It remembers the state that the drawing on the screen shows, and the rows of its curve.
    """

    controls: FitControls
    _drawn: FitState | None
    _rows: tuple[FitState, CurveRows] | None

    def _draw_full(self) -> None:
        """Everything, exactly: at once, or in steps where there is a hand to wait for, which may move between them."""
        card = self._state.view == "card"
        self.chart.layout.display = "none" if card else ""
        self.results.layout.display = "none" if card else ""
        self._offer_questions()
        steps = [self._draw_card] if card and self.fit_now is not None else [self._draw_figure, self._draw_table]
        if not card:
            self.card.value = ""
        if in_notebook() and self._drawn is not None:
            self._step(steps if card or not self._same_axes() else [self._draw_rows, *steps])
        else:
            for step in steps:
                step()

    def _step(self, steps: list[Callable[[], None]]) -> None:
        """Do the first of `steps`, and the others after a breath each, unless something is asked for before."""
        first, *others = steps
        first()
        if others:
            self._later = asyncio.get_running_loop().call_later(
                BREATH, self._full_later, functools.partial(self._step, others)
            )

    def _draw_card(self) -> None:
        self.card.value = card_html(self.fit.card())

    def _draw_table(self) -> None:
        self.results.value = self._told(self.table())

    def _draw_rows(self) -> None:
        """The exact fit in the drawing on the screen."""
        if self.fit is not None:
            self._patch()

    def _draw_figure(self) -> None:
        fit = self.fit
        self._put(self.figure() if fit is None else views.draw(fit, self._held, self._state, ready=True))
        self._drawn = self._state

    def _draw_quick(self) -> None:
        """Estimates, and rows of the drawing on the screen; a drawing without its band where axes change."""
        fit = self.fit_now
        if not (self._same_axes() and self._patch()) and self._state.view == "curve":
            self._put(fit.plot(band=False, marked=list(self._state.marked)))
            self._drawn = self._state
        estimates = {s: float(f"{v:.4g}") for s, v in fit.params.items()}
        self.results.value = self._told(
            pd.DataFrame({"estimate": estimates, "low": np.nan, "high": np.nan, "note": "…"})
        )

    def _same_axes(self) -> bool:
        if self._drawn is None:
            return False
        changed = {n for n, value in vars(self._state).items() if value != getattr(self._drawn, n)}
        return changed <= _SAME_AXES

    def _patch(self) -> bool:
        """Renew the rows of the layers there are; those that have nothing to show any more lose theirs."""
        fit, view = self.fit_now, self._state.view
        if view == "residuals":
            new = views.residual_rows(fit)
        elif view == "curve":
            logs = str(fit.problem.objective.in_logs)  # which decides what runs there are
            key = self._state.replace(objective=logs, delta=0.0, fixed={}, tied={})
            if self._rows is not None and self._rows[0] == key:
                new = self._rows[1].moved(fit)
                gone = ("band", "floor")
            else:
                self._rows = (key, views.rows(fit, self._held, self._state))
                new = self._rows[1].layers()
                gone = ("band", "floor", "left_out", "held_out")
            new |= {name: [] for name in gone if name not in new}
        else:
            new = {}
        if any(len(of) and name not in self.chart.data for name, of in new.items() if name in ("left_out", "held_out")):
            new.pop("runs", None)  # until the new drawing has a layer for them, these runs stay where they were
        new = {name: of for name, of in new.items() if name in self.chart.data}
        return bool(new) and self.chart.patch(**new)

    def _put(self, chart: alt.TopLevelMixin) -> None:
        if self.fit_now is None:
            self.show(chart)
            return
        self.chart.show(*views.live(chart))

    def _told(self, table: pd.DataFrame) -> str:
        return parameters_html(self.fit_now, table, RESAMPLES) if self.fit_now is not None else ""


def in_notebook() -> bool:
    """Whether there is a hand to wait for: a running event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
