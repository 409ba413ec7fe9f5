"""The controls of the fit panel: labelled widgets, and the options a table allows."""

from __future__ import annotations

import ipywidgets as widgets
import numpy as np
import pandas as pd

from workbench.engine.objective import OBJECTIVES
from workbench.fits.points import input_columns
from workbench.laws.base import Law, get, names
from workbench.runs.table import RunTable
from workbench.units import axis_title

__all__ = ["FitControls", "laws_for", "metrics", "scales"]

_STYLE = {"description_width": "72px"}
#: Most runs offered by name while typing; the field takes any run.
_MOST_NAMES = 500
#: Columns that are settings or counts, never a metric to fit.
_NOT_METRICS = {"seed", "step", "steps", "epochs", "vocab", "width", "depth", "context", "batch_tokens", "lr"}


def laws_for(runs: RunTable) -> list[str]:
    """Names of the laws whose inputs the table has; all laws if there is none."""
    fed = []
    for name in names():
        try:
            input_columns(get(name), runs)
        except ValueError:
            continue
        fed.append(name)
    return fed or names()


def metrics(runs: RunTable) -> list[str]:
    """Columns one may fit: numeric, known for some run, loss first."""
    frame = runs.frame
    found = [c for c in _numeric(frame) if c not in _NOT_METRICS and np.isfinite(frame[c].to_numpy(float)).any()]
    return sorted(found, key=lambda c: c != "loss")


def scales(runs: RunTable) -> list[str]:
    """Columns a law of one input may run along: numeric, with two positive values."""
    frame = runs.frame
    return [c for c in _numeric(frame) if frame[c][frame[c] > 0].nunique() > 1]


def _numeric(frame: pd.DataFrame) -> list[str]:
    return [c for c in frame.columns if c != "run" and pd.api.types.is_numeric_dtype(frame[c])]


class FitControls:
    """The widgets of the fit panel; they hold values and nothing else."""

    def __init__(self, runs: RunTable) -> None:
        laws, ys = laws_for(runs), metrics(runs) or ["loss"]
        # A mapping, not a Layout: widgets given one Layout would share it and hide together.
        wide = {"width": "350px"}
        self.law = widgets.Dropdown(
            description="Law", options=[(get(n).title, n) for n in laws], style=_STYLE, layout=wide
        )
        self.y = widgets.Dropdown(
            description="Fit", options=[(axis_title(c), c) for c in ys], style=_STYLE, layout=wide
        )
        along = [("automatic", None), *((axis_title(c), c) for c in scales(runs))]
        self.x = widgets.Dropdown(description="Along", options=along, style=_STYLE, layout=wide)
        self.objective = widgets.Dropdown(description="Objective", options=list(OBJECTIVES), style=_STYLE, layout=wide)
        self.delta = widgets.FloatLogSlider(
            description="Delta",
            value=1e-3,
            base=10,
            min=-5,
            max=0,
            step=0.1,
            readout_format=".2g",
            style=_STYLE,
            layout=wide,
        )
        self.where = widgets.Text(
            description="Where",
            placeholder="flops > 1e18 and loss < 4",
            continuous_update=False,
            style=_STYLE,
            layout=wide,
        )
        self.out = button("Leave out brushed", "Take the runs inside the brush out of the fit")
        self.only = button("Only brushed", "Take all other runs out of the fit")
        self.back = button("All back", "Fit every run again")
        self.run = widgets.Combobox(
            description="Leave out",
            placeholder="name of a run",
            options=runs.ids[:_MOST_NAMES],
            continuous_update=False,
            style=_STYLE,
            layout=wide,
        )
        self.left = widgets.SelectMultiple(description="Left out", rows=5, style=_STYLE, layout=wide)
        self.put_back = button("Put back selected", "Fit the runs selected in the list again")
        self.fixes: dict[str, tuple[widgets.Checkbox, widgets.FloatText]] = {}
        self.fix_row = widgets.HBox(layout=widgets.Layout(flex_flow="row wrap"))

    def offer_fixes(self, law: Law) -> None:
        """A check box and a number for each parameter of `law`."""
        self.fixes = {
            s: (
                widgets.Checkbox(description=f"Fix {s}", indent=False, layout=widgets.Layout(width="auto")),
                widgets.FloatText(
                    description="at", continuous_update=False, layout=widgets.Layout(width="120px"),
                    style={"description_width": "initial"},
                ),
            )
            for s in law.symbols
        }  # fmt: skip
        pairs = [
            widgets.HBox(pair, layout=widgets.Layout(margin="0 16px 0 0", align_items="center"))
            for pair in self.fixes.values()
        ]
        self.fix_row.children = tuple(pairs)

    def layout(self) -> widgets.VBox:
        """The controls above the chart."""
        columns = [widgets.VBox([self.law, self.y, self.x]), widgets.VBox([self.objective, self.delta, self.where])]
        return widgets.VBox([widgets.HBox(columns, layout=widgets.Layout(flex_flow="row wrap")), self.fix_row])

    def points(self) -> widgets.VBox:
        """The controls below the chart: runs in and out."""
        row = widgets.HBox([self.out, self.only, self.back], layout=widgets.Layout(flex_flow="row wrap"))
        return widgets.VBox([row, self.run, self.left, self.put_back], layout=widgets.Layout(align_items="flex-start"))


def button(description: str, tooltip: str) -> widgets.Button:
    """A button as wide as its label."""
    return widgets.Button(description=description, tooltip=tooltip, layout=widgets.Layout(width="auto"))
