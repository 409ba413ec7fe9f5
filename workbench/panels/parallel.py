"""`Parallel`: parallel coordinates on the screen, brushed on several axes by mouse or keyboard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import altair as alt
import anywidget
import numpy as np
import traitlets

from workbench.figures import parallel as figures
from workbench.runs.table import RunTable

__all__ = ["Parallel"]


class Parallel(anywidget.AnyWidget):
    """One line a run across upright axes; a range on an axis keeps the runs inside it.

    A range is drawn along an axis with the mouse, moved, and taken back by a click. Each axis has two handles that
    the keyboard reaches: arrows move an end by a hundredth of the axis, Page Up and Page Down by a tenth, Home and End
    to its ends, Delete takes the range back.

    Attributes:
        brushes: column -> (lowest, highest), ends included; assign to it to brush from Python.
        marked: ids of runs drawn thick.
        chosen: ids of the runs inside every range, in the order of the table.
        axes: names of the columns, from left to right.
        color: the column that colours the lines, None for one colour.
        runs: the table.
    """

    _esm = Path(__file__).with_name("parallel.js")
    _css = Path(__file__).with_name("parallel.css")
    brushes = traitlets.Dict().tag(sync=True)
    marked = traitlets.List(traitlets.Unicode()).tag(sync=True)
    chosen = traitlets.List(traitlets.Unicode())
    height = traitlets.Int(320).tag(sync=True)
    description = traitlets.Unicode("Parallel coordinates").tag(sync=True)
    _axes = traitlets.List().tag(sync=True)
    _places = traitlets.Bytes(b"").tag(sync=True)
    _groups = traitlets.Bytes(b"").tag(sync=True)
    _names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    _legend = traitlets.Dict().tag(sync=True)
    _told = traitlets.Unicode().tag(sync=True)

    def __init__(
        self,
        runs: RunTable,
        columns: Sequence[str] | None = None,
        brushes: Mapping[str, Sequence[float]] | None = None,
        color: str | None = "loss",
        *,
        log: Iterable[str] | None = None,
        **traits: Any,
    ) -> None:
        """Parallel coordinates; the arguments are those of `workbench.figures.parallel.parallel`.

        Raises:
            ValueError: a column, a range or an axis cannot be drawn.
        """
        self._held: list[figures.Axis] = []
        self.runs = runs
        super().__init__(**traits)
        self.draw(runs, columns, color, log=log)
        self.brushes = dict(brushes or {})

    def draw(
        self,
        runs: RunTable,
        columns: Sequence[str] | None = None,
        color: str | None = "loss",
        *,
        log: Iterable[str] | None = None,
    ) -> None:
        """Draw another table or other columns; ranges of columns that are still there stay.

        Raises:
            ValueError: a column or an axis cannot be drawn; the view stays as it was.
        """
        log = None if log is None else list(log)
        axes = figures.axes_of(runs, columns, log) if len(runs) else []
        color = None if color == "loss" and color not in runs else color
        groups, heading = figures.colours_of(runs, color)
        places = np.stack([a.position for a in axes], axis=1) if axes else np.empty((len(runs), 0))
        index = {label: i for i, label in enumerate(groups.labels)}
        self.runs, self.color, self._log, self._held = runs, color, log, axes
        with self.hold_sync():
            self._axes = [
                {
                    "column": a.column, "title": a.title, "log": a.log, "low": a.low, "high": a.high,
                    "ticks": [list(tick) for tick in a.ticks], "words": list(a.words),
                }
                for a in axes
            ]  # fmt: skip
            self._places = places.astype("<f4").tobytes()
            self._groups = np.array([index[label] for label in groups.of], dtype="u1").tobytes()
            self._names = runs.ids
            items = [] if heading is None else list(zip(groups.labels, groups.colours, strict=True))
            self._legend = {"title": heading or "", "items": items, "colours": groups.colours}
            self.brushes = {c: ends for c, ends in self.brushes.items() if c in self.axes}
        self._choose()

    @property
    def axes(self) -> list[str]:
        return [axis.column for axis in self._held]

    def figure(self) -> alt.LayerChart | alt.Chart:
        """The picture of this view, by `workbench.figures.parallel.parallel`."""
        return figures.parallel(
            self.runs, self.axes, self.brushes, self.color, log=[a.column for a in self._held if a.log]
        )

    def code(self, runs: str = "runs") -> str:
        """Source text that draws the picture, for a table called `runs`."""
        brushes = {column: tuple(ends) for column, ends in self.brushes.items()}
        logs = [a.column for a in self._held if a.log]
        return (
            "from workbench.figures.parallel import parallel\n\n"
            f"figure = parallel({runs}, {self.axes!r}, {brushes!r}, {self.color!r}, log={logs!r})\n"
        )

    @traitlets.validate("brushes")
    def _ranges(self, proposal: dict[str, Any]) -> dict[str, list[float]]:
        try:
            figures.inside(self._held, proposal["value"])
        except ValueError as error:
            raise traitlets.TraitError(str(error)) from None
        return {column: [float(end) for end in ends] for column, ends in proposal["value"].items()}

    @traitlets.observe("brushes")
    def _brushed(self, _: Any) -> None:
        self._choose()

    def _choose(self) -> None:
        kept = figures.inside(self._held, self.brushes) if self._held else np.ones(len(self.runs), dtype=bool)
        ids = np.array(self.runs.ids, dtype=object)[kept].tolist()
        total = f"{len(self.runs)} run{'s' if len(self.runs) != 1 else ''}"
        if not self._held:
            self._told = "The table holds no run." if not len(self.runs) else f"No column differs among the {total}."
        else:
            self._told = f"{len(ids)} of {total} inside" if self.brushes else f"{total}; drag along an axis to choose"
        self.chosen = ids
