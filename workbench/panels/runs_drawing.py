"""What the runs panel puts on the screen: its chart, the page of its table, parallel coordinates, what a fit gets."""

from __future__ import annotations

from html import escape
from typing import Any

import altair as alt

from workbench.figures.run_curves import datasets, draw_lines, view_name
from workbench.figures.run_lines import run_lines
from workbench.figures.run_words import spaced
from workbench.panels.runs_controls import RunsControls
from workbench.panels.runs_rows import PAGE, columns_of, page_of
from workbench.runs.logged import SMOOTHED

__all__ = ["RunsDrawing"]

#: Points of all curves together while a slider moves.
_QUICK = 6_000


class RunsDrawing:
    """The part of `RunsPanel` that draws: all of it, or only rows while a slider moves."""

    controls: RunsControls

    def _draw_full(self) -> None:
        self._settle()
        if self._why or not self._curved:
            self._put(self.figure(), "runs", ["x", "y"])
        else:
            lines = self._lines(self._state)
            self._put(draw_lines(lines), "curves", ["x"], len(lines.panes))
        self._draw_below()

    def _draw_quick(self) -> None:
        if self._why:
            return
        if self._curved:
            arguments = self._line_arguments(self._state)
            rows = datasets(
                run_lines(self.chosen, self._state.y, self._state.x, **arguments, points=_QUICK, series=self._series)
            )
            self.chart.patch(**{name: frame for name, frame in rows.items() if name in self.chart.data})
        self._draw_table()

    def _put(self, chart: alt.TopLevelMixin, view: str, channels: list[str], panes: int = 1) -> None:
        """Show `chart` with a brush and with runs that answer a click."""
        if self._why:
            self.show(chart)
            return
        names = [view_name(view, i, panes) for i in range(panes)]
        if view == "curves" and self._state.group is not None:
            names = [name.replace("curves", "bands") for name in names]
            clicks = []
        else:
            hit = [name.replace("curves", "hit") for name in names]
            point = alt.PointSelectionConfig(type="point", fields=["run"], toggle=False, clear="mousedown")
            clicks = [alt.TopLevelSelectionParameter(name="click", select=point, views=hit)]
        interval = alt.IntervalSelectionConfig(type="interval", encodings=channels)
        brush = alt.TopLevelSelectionParameter(name="span", select=interval, views=names)
        chart = chart.copy(deep=False)
        chart.params = [brush, *clicks]
        self.show(chart, ["span", *(["click"] if clicks else [])])

    def _draw_below(self) -> None:
        self._draw_table()
        self._draw_coordinates()
        self.controls.follow_policy(self._state)
        self.controls.told.value = self._points_told()

    def _points_told(self) -> str:
        if self._why:
            return ""
        out = len(self._present(self._state.left_out))
        if self._state.policy == "final":  # one row a run, known without reading every curve
            words = f"A fit gets the last point of {spaced(len(self.chosen) - out)} runs: points()"
            return f'<div role="status">{escape(words)}</div>'
        points = self.points()
        good = int((points.frame["problem"] == "").sum())
        bad = f", {len(points) - good} of them with a problem" if good < len(points) else ""
        words = f"A fit gets {spaced(len(points))} rows from {spaced(len(self.chosen) - out)} runs{bad}: points()"
        return f'<div role="status">{escape(words)}</div>'

    def _columns(self) -> list[dict[str, Any]]:
        s = self._state
        return columns_of(self.chosen, s.y, self._curved and (s.smooth > 0 or s.sort == SMOOTHED), s.sort)

    def _draw_table(self) -> None:
        s, n = self._state, len(self.chosen)
        columns = self._columns()
        colours = self._numbers[2].colours if self._curved and not self._why and self._numbers is not None else {}
        rows = page_of(
            self.chosen, columns, s.page, marked=s.marked, left_out=s.left_out, colours=colours, smoothed=self._last
        )
        first, pages = s.page * PAGE, max(-(-n // PAGE), 1)
        total = f"{spaced(n)} of {spaced(len(self.runs))} runs" if n < len(self.runs) else f"{spaced(n)} runs"
        count = f"Rows {first + 1}–{first + len(rows)} of {total}" if n > PAGE else total
        out, marked = len(self._present(s.left_out)), len(self._present(s.marked))
        count += "".join(f", {k} {word}" for k, word in ((marked, "marked"), (out, "left out")) if k)
        self.controls.table.show(
            columns, rows, sort=s.sort, descending=s.descending, page=s.page, pages=pages, count=count
        )

    def _last(self, run: str) -> float:
        """Last value of the smoothed curve, kept until the smoothing changes."""
        key = (run, self._state.y, self._state.smooth)
        if key not in self._smoothed:
            if len(self._smoothed) > 20_000:
                self._smoothed.clear()
            self._smoothed[key] = self._series.final(*key)
        return self._smoothed[key]

    def _draw_coordinates(self) -> None:
        """Parallel coordinates of the runs shown, where they are asked for."""
        s, c = self._state, self.controls
        if not s.parallel or self._why:
            c.coordinates.children = ()
            return
        color = next((c for c in (s.color, s.y) if c is not None and c in self.chosen), None)
        frame, was_drawn = self.chosen.frame, self._coordinates
        was, self._syncing = self._syncing, True
        try:
            if not c.coordinates.children:
                from workbench.panels.parallel import Parallel

                widget = Parallel(self.chosen, color=color)
                widget.observe(self._ranged, "brushes")
                c.coordinates.children = (widget,)
            elif was_drawn is None or was_drawn[0] is not frame or was_drawn[1] != color:
                c.coordinates.children[0].draw(self.chosen, color=color)
            self._coordinates = (frame, color)
            widget = c.coordinates.children[0]
            widget.brushes = {k: v for k, v in s.brushes.items() if k in widget.axes}
            widget.marked = self._present(s.marked)
        finally:
            self._syncing = was
