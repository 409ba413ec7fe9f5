"""The views of the fit panel: which figure each is, its rows while a hand moves, and its source text."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from workbench import figures
from workbench.analysis.conclusions import ask
from workbench.figures.curve_rows import CurveRows, curve_rows
from workbench.figures.lines import lines
from workbench.figures.plane import fitted
from workbench.figures.tooltip import with_words
from workbench.fits.held import HeldOut
from workbench.fits.result import Fit
from workbench.panels.fit_state import FitState, source
from workbench.panels.live_chart import specification
from workbench.units import quantity

__all__ = [
    "POINTS",
    "RESAMPLES",
    "at_column",
    "draw",
    "live",
    "places",
    "questions",
    "refusal",
    "text",
    "unit_of",
]

#: Bootstrap resamples of a live figure: enough for the eye, few enough to wait for.
RESAMPLES = 200
#: Layers whose marks are runs, which may be brushed and clicked.
POINTS = ("runs", "left_out", "held_out", "held_out_points")
#: Most runs whose residuals follow a moving hand; more are renewed when it rests.
_MOST_LIVE = 500
_REFUSED = "This view cannot be drawn"


def refusal(fit: Fit, state: FitState) -> str:
    """Why the view of `state` cannot be drawn; empty where it can."""
    if state.view == "profiles" and not fit.problem.free:
        return "every parameter is fixed; free one to see its profile"
    if state.view in ("profiles", "influence") and fit.degrees < (2 if state.view == "influence" else 1):
        return f"{fit.n_runs} runs for {len(fit.problem.free)} free parameters: add runs or fix parameters"
    if state.view == "influence":
        try:
            ask(state.question, fit, **state.at)
        except ValueError as error:
            return str(error.args[0])
    return ""


def draw(fit: Fit, held: HeldOut | None, state: FitState, ready: bool = False) -> alt.TopLevelMixin:
    """The figure of the state's view; `ready` to ring runs later, with a layer that may be empty."""
    why = refusal(fit, state)
    if why:
        return figures.empty(_REFUSED, why)
    if state.view == "residuals":
        return figures.residuals(fit)
    if state.view == "profiles":
        return fit.plot_profiles()
    if state.view == "influence":
        return fit.influence(state.question, n=RESAMPLES, sets=False, **state.at).plot()
    rings = {"marked": list(state.marked)} if state.marked or ready else {}
    return (held or fit).plot(n=RESAMPLES, **rings)


def text(fit: Fit, held: bool, state: FitState) -> str:
    """Source text after that of the fit, which leaves ``figure`` behind."""
    why = refusal(fit, state)
    if why:
        return f"import workbench.figures\n\nfigure = workbench.figures.empty({source(_REFUSED)}, {source(why)})\n"
    if state.view == "residuals":
        return "import workbench.figures\n\nfigure = workbench.figures.residuals(fit)\n"
    if state.view == "profiles":
        return "figure = fit.plot_profiles()\n"
    if state.view == "influence":
        at = "".join(f", {k}={v!r}" for k, v in state.at.items())
        return (
            f"influence = fit.influence({source(state.question)}, n={RESAMPLES}, sets=False{at})\n"
            "figure = influence.plot()\n"
        )
    rings = f", marked={source(state.marked)}" if state.marked else ""
    card = "card = fit.card()\n" if state.view == "card" else ""
    return f"{card}figure = {'held' if held else 'fit'}.plot(n={RESAMPLES}{rings})\n"


def rows(fit: Fit, held: HeldOut | None, state: FitState) -> CurveRows:
    """The rows of the state's curve, whose lines then follow a moving hand: `CurveRows.moved`.

    Intervals are propagated through the Jacobian, which takes milliseconds and looks much the same.
    """
    extra = held.runs if held is not None else None
    return curve_rows(fit, extra=extra, marked=list(state.marked), n=RESAMPLES, method="jacobian")


def residual_rows(fit: Fit) -> dict[str, pd.DataFrame]:
    """Rows of the residuals; none where there are too many to send while a hand moves."""
    layout = lines(fit)
    runs = fitted(fit, layout)
    return {"runs": with_words(runs, layout)} if len(runs) <= _MOST_LIVE else {}


def live(chart: alt.TopLevelMixin) -> tuple[dict[str, Any], list[str]]:
    """`chart` for the screen and its selections: a brush, clicks, and lines cut at the axes they may outrun."""
    spec = specification(chart)
    found = set()

    def walk(node: Any) -> None:
        if isinstance(node, list):
            for item in node:
                walk(item)
        elif isinstance(node, dict):
            name = node.get("name")
            if name == "runs_1":  # Altair counts the names inside a concatenation
                name = node["name"] = "runs"
            if name in POINTS and isinstance(node.get("mark"), dict) and node["mark"].get("type") == "point":
                found.add(name)
                node["mark"]["cursor"] = "pointer"
            if name in ("line", "band", "floor", "held_out", "held_out_points") and isinstance(node.get("mark"), dict):
                node["mark"]["clip"] = True
            for child in node.values():
                walk(child)

    walk({k: v for k, v in spec.items() if k != "datasets"})
    if "runs" not in found:
        return spec, []
    click = {"type": "point", "fields": ["run"], "on": "click", "toggle": False, "clear": False}
    # One selection a layer: Vega-Lite gives a selection of two layers twice the same signals.
    clicks = {("clicked" if name == "runs" else f"clicked_{name}"): name for name in POINTS if name in found}
    spec["params"] = [
        {"name": "brush", "select": {"type": "interval"}, "views": ["runs"]},
        *({"name": name, "select": dict(click), "views": [view]} for name, view in clicks.items()),
    ]
    return spec, ["brush", *clicks]


def questions(fit: Fit) -> list[tuple[str, str]]:
    """``(words, question)`` that may be asked of `fit`."""
    offered = []
    words = {
        "tokens_per_param": "Optimal tokens per parameter",
        "optimal_params": "Optimal parameters",
        "exponent": "Exponent of optimal size in compute",
        fit.points.target: f"Prediction of {fit.points.target}",
    }
    for question, said in words.items():
        try:
            ask(question, fit)
        except ValueError:
            continue
        offered.append((said, question))
    return offered + [(f"{p.symbol} ({p.meaning})", p.symbol) for p in fit.law.parameters]


def at_column(fit: Fit, question: str | None) -> str | None:
    """Column along which the place of a question moves; None where it has none."""
    if question in fit.law.symbols:
        return None
    try:
        ask("exponent", fit)
    except ValueError:
        return next(iter(fit.points.columns.values())) if len(fit.points.columns) == 1 else None
    return "flops" if "flops" not in fit.points.columns.values() or question != fit.points.target else None


def places(fit: Fit, column: str, at: dict[str, float]) -> tuple[float, float, float]:
    """Ends and position of a slider for the place of a question: from the largest run to ten thousand times it."""
    known = {c: fit.points.x[s] for s, c in fit.points.columns.items()}
    scale = known[column] if column in known else lines(fit, column).x_of(known)
    largest = float(scale.max())
    value = at.get(column, float(f"{10 * largest:.2g}"))
    low, high = min(largest, value), max(1e4 * largest, value)
    return low, high, value


def unit_of(column: str) -> str:
    """Unit of a column, as a slider prints it."""
    return quantity(column).unit
