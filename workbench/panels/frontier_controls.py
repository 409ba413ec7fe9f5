"""The controls of the frontier panel, and its table."""

from __future__ import annotations

from html import escape

import ipywidgets as widgets
import numpy as np
import pandas as pd

from workbench.analysis.approaches import Approaches
from workbench.analysis.slices import METHODS
from workbench.laws.base import get
from workbench.panels.controls import button, metrics
from workbench.panels.frontier_state import LAWS, FrontierState, sizes
from workbench.panels.slider import Slider
from workbench.runs.table import RunTable
from workbench.units import axis_title, human, quantity

__all__ = ["FrontierControls", "answers_html"]

_STYLE = {"description_width": "72px"}
_MOST_NAMES = 500
#: How each approach comes by its interval.
_INTERVALS = {
    "1": "whole curves drawn again",
    "2": "residuals over all budgets drawn again",
    "3": "runs drawn again",
}
_RIGHT = "text-align:right;padding:1px 0 1px 14px;font-variant-numeric:tabular-nums;white-space:nowrap"


class FrontierControls:
    """The widgets of the frontier panel; they hold values and nothing else."""

    def __init__(self, runs: RunTable, state: FrontierState, reach: tuple[float, float]) -> None:
        wide = {"width": "330px"}
        ys, ns = metrics(runs) or [state.y], sizes(runs) or ["params"]
        self.budget = Slider("Budget", state.budget, *reach, log=True, step=0.02, unit="FLOP")
        self.y = widgets.Dropdown(
            description="Metric", options=[(axis_title(c), c) for c in ys], style=_STYLE, layout=wide
        )
        self.size = widgets.Dropdown(
            description="Size", options=[(quantity(c).meaning, c) for c in ns], style=_STYLE, layout=wide
        )
        self.law = widgets.Dropdown(
            description="Law", options=[(get(n).title, n) for n in LAWS], style=_STYLE, layout=wide
        )
        self.method = widgets.Dropdown(description="IsoFLOP", options=list(METHODS), style=_STYLE, layout=wide)
        self.where = widgets.Text(
            description="Where",
            placeholder="flops > 1e18 and loss < 4",
            continuous_update=False,
            style=_STYLE,
            layout=wide,
        )
        self.run = widgets.Combobox(
            description="Leave out", placeholder="name of a run", options=runs.ids[:_MOST_NAMES],
            continuous_update=False, style=_STYLE, layout=wide,
        )  # fmt: skip
        self.out = button("Leave out marked", "Take the ringed runs out of all three approaches")
        self.back = button("All back", "Use every run again")

    def layout(self) -> widgets.VBox:
        """The controls above the chart."""
        left = widgets.VBox([self.y, self.size, self.where])
        right = widgets.VBox([self.method, self.law])
        wrap = widgets.Layout(flex_flow="row wrap")
        return widgets.VBox([widgets.HBox([left, right], layout=wrap), self.budget])

    def below(self) -> widgets.HBox:
        """The controls below the chart."""
        return widgets.HBox([self.run, self.out, self.back], layout=widgets.Layout(flex_flow="row wrap"))


def answers_html(answers: pd.DataFrame, found: Approaches, flops: float, left_out: int) -> str:
    """The allocations at the budget as a table, everything escaped.

    Args:
        answers: of `analysis.at_budget`.
        found: the approaches.
        flops: the budget.
        left_out: runs taken out by hand.
    """
    target = next((f.target for f in found.frontiers.values()), "loss")
    heads = (
        ("a", "a: N ~ C^a"), ("b", "b: D ~ C^b"), ("params", "Parameters N"), ("tokens", "Training tokens D"),
        ("tokens_per_param", "D / N"), ("loss", axis_title(target)),
    )  # fmt: skip
    top = "".join(f"<th style='{_RIGHT}'>{escape(words)}</th>" for _, words in heads)
    body, notes = "", []
    for row in answers.to_dict("records"):
        cells = "".join(f"<td style='{_RIGHT}'>{_cell(row, name)}</td>" for name, _ in heads)
        body += f"<tr><td style='white-space:nowrap'><b>{escape(row['approach'])}</b></td>{cells}</tr>"
        words = [_INTERVALS[row["approach"][0]]] if np.isfinite(row["params"]) else ["no answer"]
        if row["extrapolation"] > 1.05:
            words.append(f"{human(row['extrapolation'], 2)} times the largest compute behind it")
        words += [row["note"]] if row["note"] else []
        notes.append(f"<li>{escape(row['approach'])}: {escape('; '.join(words))}</li>")
    out = f"; {left_out} run{'s' if left_out != 1 else ''} taken out by hand" if left_out else ""
    caption = f"At {flops:.3g} FLOP, {found.level:.0%} intervals below each number{out}".replace("e+", "e")
    return (
        f"<div style='line-height:1.45;overflow-x:auto'>{escape(caption)}"
        f"<table style='border-collapse:collapse'><tr><th style='text-align:left'>approach</th>{top}</tr>{body}</table>"
        f"<ul style='margin:4px 0;padding-left:1.2em'>{''.join(notes)}</ul></div>"
    )


def _cell(row: dict, name: str) -> str:
    def show(value: float) -> str:
        return f"{value:.3f}" if name in ("a", "b") else human(value, 4 if name == "loss" else 3)

    if not np.isfinite(row[name]):
        return "—"
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    span = f"{show(low)} – {show(high)}" if np.isfinite(low) and np.isfinite(high) else "no interval"
    return f"{escape(show(row[name]))}<br><small>{escape(span)}</small>"
