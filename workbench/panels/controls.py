"""The controls of the fit panel: labelled widgets, and the options a table allows."""

from __future__ import annotations

import re

import ipywidgets as widgets
import numpy as np
import pandas as pd

from workbench.engine.objective import OBJECTIVES
from workbench.fits.points import input_columns
from workbench.laws.base import Law, get, names
from workbench.panels.fit_parameter import ParameterControl
from workbench.panels.slider import Slider
from workbench.runs.table import RunTable
from workbench.units import axis_title

__all__ = ["VIEWS", "FitControls", "button", "laws_for", "metrics", "scales", "weightings"]

_STYLE = {"description_width": "72px"}
#: A mapping, not a Layout: widgets given one Layout would share it and hide together.
_WIDE = {"width": "350px"}
#: View of the fit panel -> what the reader chooses.
VIEWS = {
    "curve": "Curve with its band",
    "residuals": "Residuals",
    "profiles": "Profile of each parameter",
    "influence": "Influence of each run",
    "card": "Card",
}
#: Most runs offered by name while typing; the field takes any run.
_MOST_NAMES = 500
#: Names of columns that hold standard errors.
_ERRORS = re.compile(r"(^|_)(std|stderr|se|sem|sd|sigma|error|err)(_|$)")
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


def weightings(runs: RunTable) -> list[tuple[str, tuple[str | None, bool]]]:
    """``(words, (column, whether it holds standard errors))`` of the weights a table allows, equal ones first."""
    found: list[tuple[str, tuple[str | None, bool]]] = [("equal", (None, False))]
    for column in _numeric(runs.frame):
        values = runs.frame[column].to_numpy(float)
        if not values.size or not np.isfinite(values).all() or (values < 0).any() or np.ptp(values) == 0:
            continue
        if _ERRORS.search(column.lower()) and (values > 0).all():
            found.append((f"1 / {column}²", (column, True)))
        found.append((f"by {column}", (column, False)))
    return found


def _numeric(frame: pd.DataFrame) -> list[str]:
    return [c for c in frame.columns if c != "run" and pd.api.types.is_numeric_dtype(frame[c])]


class FitControls:
    """The widgets of the fit panel; they hold values and nothing else."""

    def __init__(self, runs: RunTable) -> None:
        laws, ys = laws_for(runs), metrics(runs) or ["loss"]
        self.law = choice("Law", [(get(n).title, n) for n in laws])
        self.y = choice("Fit", [(axis_title(c), c) for c in ys])
        self.x = choice("Along", [("automatic", None), *((axis_title(c), c) for c in scales(runs))])
        self.objective = choice("Objective", list(OBJECTIVES))
        self.delta = Slider("Delta", 1e-3, 1e-5, 1.0, step=0.1, log=True)
        self.weights = choice("Weights", weightings(runs))
        self.where = widgets.Text(
            description="Where",
            placeholder="flops > 1e18 and loss < 4",
            continuous_update=False,
            style=_STYLE,
            layout=_WIDE,
        )
        self.holdout = Slider("Hold out", 0.0, 0.0, 60.0, step=5.0, unit="% largest")
        self.view = choice("View", [(words, name) for name, words in VIEWS.items()])
        self.question = choice("Conclusion", [("automatic", None)])
        self.at = Slider("Asked at", 1e20, 1e18, 1e22, step=0.1, log=True)
        self.out = button("Leave out brushed", "Take the brushed runs out of the fit")
        self.only = button("Only brushed", "Take all but the brushed runs out of the fit")
        self.hold = button("Hold out brushed", "Keep the brushed runs from the fit and predict them")
        self.put_back = button("Put back", "Fit the brushed runs, or those selected in the list, again")
        self.back = button("All back", "Fit every run again")
        self.run = widgets.Combobox(
            description="Leave out",
            placeholder="name of a run",
            options=runs.ids[:_MOST_NAMES],
            continuous_update=False,
            style=_STYLE,
            layout=_WIDE,
        )
        self.left = widgets.SelectMultiple(description="Not fitted", rows=4, style=_STYLE, layout=_WIDE)
        self.parameters: dict[str, ParameterControl] = {}
        self.parameter_row = widgets.HBox(layout=_wrap())

    def offer_parameters(self, law: Law) -> None:
        """A choice and a slider for each parameter of `law`."""
        self.parameters = {p.symbol: ParameterControl(p, law.symbols) for p in law.parameters}
        self.parameter_row.children = tuple(p.box for p in self.parameters.values())

    def layout(self) -> widgets.VBox:
        """The controls above the chart."""
        columns = [
            widgets.VBox([self.law, self.y, self.x]),
            widgets.VBox([self.objective, self.delta, self.weights]),
            widgets.VBox([self.where, self.holdout]),
        ]
        view = widgets.HBox([self.view, self.question, self.at], layout=_wrap())
        return widgets.VBox([widgets.HBox(columns, layout=_wrap()), self.parameter_row, view])

    def points(self) -> widgets.VBox:
        """The controls below the chart: runs in and out."""
        row = widgets.HBox([self.out, self.only, self.hold, self.put_back, self.back], layout=_wrap())
        hint = widgets.Label("Click a run to leave it out or put it back; drag over several to brush them.")
        return widgets.VBox([hint, row, self.run, self.left], layout=widgets.Layout(align_items="flex-start"))


def choice(description: str, options: list) -> widgets.Dropdown:
    """A labelled choice."""
    return widgets.Dropdown(description=description, options=options, style=_STYLE, layout=_WIDE)


def button(description: str, tooltip: str) -> widgets.Button:
    """A button as wide as its label."""
    return widgets.Button(description=description, tooltip=tooltip, layout=widgets.Layout(width="auto"))


def _wrap() -> widgets.Layout:
    return widgets.Layout(flex_flow="row wrap")
