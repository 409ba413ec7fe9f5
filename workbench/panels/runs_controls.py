"""The controls of the runs panel: labelled widgets, and the options a table allows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ipywidgets as widgets
import numpy as np

from workbench.figures.run_words import along_title
from workbench.panels.controls import button
from workbench.panels.run_table import RunTableView
from workbench.panels.runs_state import POLICIES, RunsState, columns_of_numbers
from workbench.panels.slider import Slider
from workbench.runs.checkpoints import ALONG
from workbench.runs.logged import axes_logged, metrics_logged
from workbench.runs.table import RunTable
from workbench.units import axis_title, quantity

__all__ = ["RunsControls", "traits"]

_STYLE = {"description_width": "72px"}
#: A mapping, not a Layout: widgets given one Layout would share it and hide together.
_WIDE = {"width": "285px"}
#: Columns with more values than this are no groups of runs.
_MOST_VALUES = 200


def traits(runs: RunTable) -> list[str]:
    """Columns that tell runs apart: with two values or more, and not so many that each run has its own."""
    frame = runs.frame
    return [
        c
        for c in frame.columns
        if c not in ("run", "problem") and 1 < frame[c].nunique(dropna=False) <= max(_MOST_VALUES, 2)
    ]


class RunsControls:
    """The widgets of the runs panel; they hold values and nothing else."""

    def __init__(self, runs: RunTable, act: Callable[[dict[str, Any]], None]) -> None:
        self.filter = _text("Filter", "part of a name, /regex/ or loss < 3")
        self.y, self.x = _choice("Metric"), _choice("Along")
        self.color, self.group, self.facet = _choice("Colour"), _choice("Mean by"), _choice("Panes by")
        self.log_x, self.log_y = _tick("Logarithmic x"), _tick("Logarithmic y")
        self.clip, self.events = _tick("Clip outliers"), _tick("Mark spikes")
        self.smooth = Slider("Smoothing", 0.0, 0.0, 20.0, step=0.1, unit="% of a run")
        self.click = _choice("A click", [("marks the run", "marked"), ("leaves the run out", "left_out")])
        self.table = RunTableView(act, "Runs")
        self.out = button("Leave out marked", "Take the marked runs out of fits")
        self.only = button("Use only marked", "Take all other runs out of fits")
        self.back = button("Use all", "Take every run into fits again")
        self.mark = button("Mark all listed", "Mark every run that the filter lets through")
        self.unmark = button("Unmark all", "Mark no run")
        self.tag = _text("Tag", "tag for the marked runs, Enter")
        self.untag = button("Remove tag", "Take the tag from the marked runs")
        self.policy = _choice("Fit takes", [(words, name) for name, words in POLICIES.items()])
        self.k = Slider("Points", 5, 1, 100, step=1)
        self.along = _choice("Fixed", [(axis_title(c), c) for c in ALONG])
        self.at = Slider("At", 1.0, 0.5, 2.0, step=0.01, log=True)
        self.live = _tick("Follow growing logs")
        self.parallel = _tick("Parallel coordinates")
        self.coordinates = widgets.VBox()
        self.told = widgets.HTML()
        self.offer(runs)

    def offer(self, runs: RunTable, tagged: bool = False) -> None:
        """Set the options to what `runs` have; a choice that is still there stays. No column is an empty text:
        a list whose value is None shows nothing as chosen."""
        if metrics := metrics_logged(runs):
            ys, xs = metrics, axes_logged(runs)
        else:
            ys = xs = columns_of_numbers(runs) or ["loss"]
        told_apart = [(axis_title(c), c) for c in traits(runs)]
        if tagged and "tag" not in runs:
            told_apart.append(("Tag", "tag"))
        _reoffer(self.y, [(axis_title(c), c) for c in ys])
        _reoffer(self.x, [(along_title(c), c) for c in xs])
        run = [("Run", "run")] if len(runs) <= 12 else []
        _reoffer(self.color, [("automatic", ""), *run, *told_apart])
        _reoffer(self.group, [("single runs", ""), *told_apart])
        _reoffer(self.facet, [("one pane", ""), *run, *told_apart])

    def reach(self, low: float, high: float, value: float) -> None:
        """Bounds and value of the slider of the policy ``at``."""
        with self.at.hold_trait_notifications():
            self.at.min, self.at.max = min(low, self.at.min), max(high, self.at.max)
            self.at.value = value
            self.at.min, self.at.max = low, high
        self.at.step = float(np.log10(high / low)) / 200

    def follow_policy(self, state: RunsState) -> None:
        """Show the controls that the policy needs."""
        for control, needed in ((self.k, "last"), (self.along, "at"), (self.at, "at")):
            control.layout.display = "" if state.policy == needed else "none"
        self.at.description = f"At {quantity(state.along).symbol or state.along}"

    def above(self) -> widgets.VBox:
        """The controls above the chart."""
        return widgets.VBox(
            [
                _row(self.filter, self.y, self.x),
                _row(self.color, self.group, self.facet),
                _row(self.smooth, self.click),
                _row(self.log_x, self.log_y, self.clip, self.events),
            ]
        )

    def below(self) -> widgets.VBox:
        """The controls below the chart: the table, and what becomes of the runs."""
        return widgets.VBox(
            [
                self.table,
                _row(self.out, self.only, self.back, self.mark, self.unmark),
                _row(self.tag, self.untag),
                _row(self.policy, self.k, self.along, self.at),
                self.told,
                _row(self.parallel, self.live),
                self.coordinates,
            ]
        )


def _row(*controls: widgets.Widget) -> widgets.HBox:
    return widgets.HBox(controls, layout=widgets.Layout(flex_flow="row wrap", align_items="center"))


def _choice(description: str, options: list | None = None) -> widgets.Dropdown:
    return widgets.Dropdown(description=description, options=options or [], style=_STYLE, layout=_WIDE)


def _text(description: str, hint: str) -> widgets.Text:
    return widgets.Text(
        description=description, placeholder=hint, continuous_update=False, style=_STYLE, layout=_WIDE
    )  # fmt: skip


def _tick(description: str) -> widgets.Checkbox:
    return widgets.Checkbox(
        description=description, indent=False, layout=widgets.Layout(width="auto", margin="2px 12px 2px 6px")
    )


def _reoffer(control: widgets.Dropdown, options: list[tuple[str, Any]]) -> None:
    if list(control.options) == options:
        return
    before = control.value
    control.options = options
    if before in [value for _, value in options]:
        control.value = before
