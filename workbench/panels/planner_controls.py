"""The controls of the planner, and its tables."""

from __future__ import annotations

from html import escape

import ipywidgets as widgets
import numpy as np
import pandas as pd

from workbench.analysis.frontier import Frontier
from workbench.analysis.next_runs import NextRuns
from workbench.analysis.planning import ASKED
from workbench.panels.controls import button, metrics
from workbench.panels.frontier_state import computes, sizes
from workbench.panels.planner_state import DATA, PlannerState
from workbench.panels.slider import Slider
from workbench.runs.table import RunTable
from workbench.units import axis_title, human, quantity

__all__ = ["PlannerControls", "bill_html", "plan_html", "probes_html"]

_STYLE = {"description_width": "92px"}
_RIGHT = "text-align:right;padding:1px 0 1px 14px;font-variant-numeric:tabular-nums;white-space:nowrap"
_LEFT = "text-align:left"
#: Fields of the state that sliders hold, by name.
NUMBERS = (
    "budget", "money", "price", "peak", "utilisation", "gpus", "served", "serve_utilisation", "unique", "R_D",
    "probe_budget", "probes",
)  # fmt: skip


class PlannerControls:
    """The widgets of the planner; they hold values and nothing else."""

    def __init__(self, runs: RunTable, state: PlannerState) -> None:
        wide = {"width": "340px"}
        low, high = computes(runs)
        ys, ns = metrics(runs) or [state.y], sizes(runs) or ["params"]
        self.kind = widgets.Dropdown(
            description="Budget in", options=[("FLOP", False), ("money", True)], style=_STYLE, layout=wide
        )
        self.budget = _log("Budget", state.budget, low, 1e4 * high, unit="FLOP")
        self.money = _log("Money", state.money, 1.0, 1e9, unit="money")
        self.price = _log("Price", state.price, 0.1, 20.0, unit="per GPU-hour")
        self.peak = _log("Peak", state.peak, 1e12, 1e16, unit="FLOP/s per GPU")
        self.utilisation = Slider("Utilisation", state.utilisation, 0.02, 1.0, step=0.01, unit="of the peak")
        self.gpus = _log("GPUs", state.gpus, 1, 1e5, unit="at a time")
        self.serving = widgets.Checkbox(
            description="Pay for serving, too", indent=False, layout=widgets.Layout(width="auto")
        )
        self.served = _log("Served", max(state.served, 1e3), 1e3, 1e16, unit="tokens")
        self.serve_utilisation = Slider("Serving at", state.serve_utilisation, 0.02, 1.0, step=0.01, unit="of the peak")
        self.data = widgets.Dropdown(
            description="Data", options=[(words, key) for key, words in DATA.items()], style=_STYLE, layout=wide
        )
        self.unique = _log("Unique", state.unique, 1e4, 1e15, unit="tokens")
        self.R_D = _log("R_D", state.R_D, 0.1, 1000.0, unit="repetitions")
        self.y = widgets.Dropdown(
            description="Metric", options=[(axis_title(c), c) for c in ys], style=_STYLE, layout=wide
        )
        self.size = widgets.Dropdown(
            description="Size", options=[(quantity(c).meaning, c) for c in ns], style=_STYLE, layout=wide
        )
        self.where = widgets.Text(
            description="Where", placeholder="flops > 1e18", continuous_update=False, style=_STYLE, layout=wide
        )
        self.asked = widgets.Dropdown(
            description="Narrow the", options=[(words, key) for key, words in ASKED.items()], style=_STYLE, layout=wide
        )
        self.probe_budget = _log("Probe budget", state.probe_budget, low, 100 * high, unit="FLOP in all")
        self.probes = Slider("Probes", state.probes, 1, 12, step=1, unit="at most")
        self.hand = button("Hand to the probe panel", "Make these probes a sweep, and open it below")

    def layout(self) -> widgets.VBox:
        """The controls above the chart."""
        wrap = widgets.Layout(flex_flow="row wrap")
        columns = (
            [self.y, self.size, self.where, self.kind, self.budget, self.money],
            [self.price, self.peak, self.utilisation, self.gpus],
            [self.data, self.unique, self.R_D, self.serving, self.served, self.serve_utilisation],
        )
        return widgets.HBox([widgets.VBox(c, layout={"margin": "0 14px 8px 0"}) for c in columns], layout=wrap)

    def below(self) -> widgets.HBox:
        """The controls of the probes."""
        row = widgets.Layout(flex_flow="row wrap", align_items="center")
        return widgets.HBox([self.asked, self.probe_budget, self.probes, self.hand], layout=row)

    def show(self, state: PlannerState) -> None:
        """Set every control to `state`, and hide those that do not matter there."""
        for name in NUMBERS:
            slider, value = getattr(self, name), float(getattr(state, name))
            if name == "served" and not value:
                continue
            if not slider.min <= value <= slider.max:
                slider.min, slider.max = min(slider.min, value), max(slider.max, value)
            if not np.isclose(slider.value, value, rtol=1e-6, atol=0):
                slider.value = value
        self.kind.value, self.serving.value, self.data.value = state.in_money, state.served > 0, state.data
        self.asked.value = state.asked
        for control, wanted in ((self.y, state.y), (self.size, state.size)):
            if wanted in [value for _, value in control.options]:
                control.value = wanted
        for control, shown in (
            (self.budget, not state.in_money), (self.money, state.in_money), (self.served, state.served > 0),
            (self.serve_utilisation, state.served > 0), (self.unique, state.data != "unlimited"),
            (self.R_D, state.data == "assumed"),
        ):  # fmt: skip
            control.layout.display = "" if shown else "none"


def _log(description: str, value: float, low: float, high: float, unit: str) -> Slider:
    return Slider(description, value, min(low, value), max(high, value), log=True, step=0.02, unit=unit)


def plan_html(plan: Frontier, n_runs: int, held: dict[str, float]) -> str:
    """The plan as a table with intervals, everything escaped."""
    row = plan.frame.iloc[0]
    names = (
        ("params", "Parameters N"), ("tokens", "Training tokens D"), ("tokens_per_param", "Tokens per parameter"),
        (plan.target, axis_title(plan.target) + ", one new run"),
    )  # fmt: skip
    body = "".join(
        f"<tr><td>{escape(words)}</td><td style='{_RIGHT}'><b>{human(row[name], 4)}</b></td>"
        f"<td style='{_RIGHT}'>{_interval(row, name, held)}</td></tr>"
        for name, words in names
    )
    notes = [f"{plan.law} on {n_runs} runs; intervals of {plan.level:.0%} from the bootstrap over runs"]
    if held:
        epochs = row["tokens"] / held["unique_tokens"]
        passes = "pass" if abs(epochs - 1) < 1e-6 else "passes"
        notes.append(f"{human(epochs, 2)} {passes} over {human(held['unique_tokens'])} unique tokens")
    if row["extrapolation"] > 1.05:
        notes.append(f"⚠ {human(row['extrapolation'], 2)} times the largest run: nothing tests the law there")
    notes += [row["note"]] if row["note"] else []
    budget = f"At {row['flops']:.3g} FLOP".replace("e+", "e")
    return (
        f"<div style='line-height:1.45;margin-right:32px'><b>{budget}</b><table style='border-collapse:collapse'>"
        f"<tr><th style='{_LEFT}'>quantity</th>"
        f"<th style='{_RIGHT}'>best</th><th style='{_RIGHT}'>interval</th></tr>{body}</table>"
        + "".join(f"<div style='max-width:430px'>{escape(note)}</div>" for note in notes)
        + "</div>"
    )


def _interval(row: pd.Series, name: str, held: dict[str, float]) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    if held and high - low <= 1e-6 * abs(high):  # every draw of the fit meets the same limit
        return "set by the data limit"
    return f"{human(low, 4)} – {human(high, 4)}"


def bill_html(bill: pd.DataFrame, gpus: int) -> str:
    """What it costs, as a table."""
    heads = ("FLOP", "GPU-hours", "Money", f"Days on {gpus} GPU{'s' if gpus != 1 else ''}")
    top = "".join(f"<th style='{_RIGHT}'>{escape(h)}</th>" for h in heads)
    body = "".join(
        f"<tr><td>{escape(name)}</td><td style='{_RIGHT}'>{f'{row.flops:.3g}'.replace('e+', 'e')}</td>"
        + "".join(f"<td style='{_RIGHT}'>{human(v, 3)}</td>" for v in (row.gpu_hours, row.money, row.days))
        + "</tr>"
        for name, row in bill.iterrows()
        if row.flops > 0
    )
    head = f"<tr><th style='{_LEFT}'>for</th>{top}</tr>"
    return f"<table style='border-collapse:collapse;line-height:1.45'>{head}{body}</table>"


def probes_html(answer: NextRuns | None, why: str) -> str:
    """The suggested probes as a table, or why there are none."""
    if answer is None:
        return f"<div>No probes are suggested: {escape(why)}</div>"
    size = next(c for c in answer.chosen.columns if c.startswith("params"))
    heads = ("#", "Parameters N", "Training tokens D", "FLOP", "narrows by", "per FLOP", "interval after")
    top = "".join(f"<th style='{_RIGHT}'>{escape(h)}</th>" for h in heads)
    body = ""
    for i, row in enumerate(answer.chosen.to_dict("records"), start=1):
        cells = (
            str(i), human(row[size]), human(row["tokens"]), f"{row['flops']:.3g}".replace("e+", "e"),
            f"{100 * row['narrowing']:.2g} %", f"{row['narrowing'] / row['flops']:.2g}",
            f"± {100 * row['half_width']:.2g} %" if answer.relative else f"± {row['half_width']:.3g}",
        )  # fmt: skip
        body += "<tr>" + "".join(f"<td style='{_RIGHT}'>{escape(cell)}</td>" for cell in cells) + "</tr>"
    return (
        f"<div style='line-height:1.45;overflow-x:auto'>{escape(answer.verdict.replace('e+', 'e'))}"
        f"<table style='border-collapse:collapse'><tr>{top}</tr>{body}</table></div>"
    )
