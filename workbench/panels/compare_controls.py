"""The controls of the compare panel, and what it writes beside its figure."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import ipywidgets as widgets
import numpy as np
import pandas as pd

from workbench.analysis.outcome import percent
from workbench.analysis.shift import ShiftAt
from workbench.engine.objective import OBJECTIVES
from workbench.fits.compare import Comparison
from workbench.fits.holdout import cross_validate
from workbench.laws.base import get
from workbench.panels.compare_answer import Answer
from workbench.panels.compare_state import KINDS, RESAMPLES, VIEWS, groupings
from workbench.panels.controls import button, laws_for, metrics, scales
from workbench.panels.slider import Slider
from workbench.runs.table import RunTable
from workbench.units import axis_title

__all__ = ["CompareControls", "groups_html", "laws_html"]

_STYLE = {"description_width": "84px"}
_ROW = {"flex_flow": "row wrap", "align_items": "center"}
_MEANINGS = {
    "ΔAICc": "how much worse the likelihood, less the parameters spent, is than the best law's; 2 is hardly a "
    "difference, 10 a clear one (Burnham and Anderson 2002, section 2.6)",
    "ΔBIC": "the same with a price of log(n) a parameter, which prefers smaller laws (Schwarz 1978)",
    "CV error": "root mean square relative error on left-out tenths of the runs: interpolation",
    "held-out error": "mean absolute relative error on the held-out runs: extrapolation, if they are the larger ones",
    "held-out bias": "mean relative error on them: above 0, the law predicts too high",
    "inside 95 %": "share of held-out runs inside their 95 % prediction interval; near 95 % if the law can be trusted",
}
_CELL = "style='text-align:left;padding:1px 16px 1px 0;font-variant-numeric:tabular-nums'"


class CompareControls:
    """The widgets of the compare panel; they hold values and nothing else."""

    def __init__(self, runs: RunTable) -> None:
        wide = {"width": "350px"}
        offered, ys = laws_for(runs), metrics(runs) or ["loss"]
        titles = [(get(n).title, n) for n in offered]
        self.kind = widgets.Dropdown(description="Compare", options=list(KINDS), style=_STYLE, layout=wide)
        self.laws = widgets.SelectMultiple(description="Laws", options=titles, rows=7, style=_STYLE, layout=wide)
        self.law = widgets.Dropdown(description="Law", options=titles, style=_STYLE, layout=wide)
        columns = [(axis_title(c), c) for c in groupings(runs)]
        self.by = widgets.Dropdown(description="Groups by", options=[("nothing", None), *columns], style=_STYLE,
                                   layout=wide)  # fmt: skip
        self.groups = widgets.SelectMultiple(description="Groups", rows=4, style=_STYLE, layout=wide)
        self.y = widgets.Dropdown(description="Fit", options=[(axis_title(c), c) for c in ys], style=_STYLE,
                                  layout=wide)  # fmt: skip
        along = [("automatic", None), *((axis_title(c), c) for c in scales(runs))]
        self.x = widgets.Dropdown(description="Along", options=along, style=_STYLE, layout=wide)
        self.objective = widgets.Dropdown(description="Objective", options=list(OBJECTIVES), style=_STYLE, layout=wide)
        self.where = widgets.Text(description="Where", placeholder="flops > 1e18 and loss < 4",
                                  continuous_update=False, style=_STYLE, layout=wide)  # fmt: skip
        self.holdout = widgets.Text(description="Hold out", placeholder="20 %, or flops > 1e21",
                                    continuous_update=False, style=_STYLE, layout=wide)  # fmt: skip
        self.view = widgets.Dropdown(description="Show", options=list(VIEWS), style=_STYLE, layout=wide)
        self.first = widgets.Dropdown(description="Does", options=[], style=_STYLE, layout=wide)
        self.second = widgets.Dropdown(description="overtake", options=[], style=_STYLE, layout=wide)
        self.value = Slider("Value to reach", 1.0, 0.0, 2.0)
        self.at = Slider("Curves at", 1.0, 0.5, 2.0, log=True)
        self.stop = button("Stop", "Give up this calculation")
        self.progress = widgets.HTML(layout=widgets.Layout(flex="1 1 320px"))
        self.out = button("Leave out brushed", "Take the runs inside the brush out of every fit")
        self.mark = button("Mark brushed", "Ring the runs inside the brush in every panel on these runs")
        self.back = button("All back", "Fit every run again, and ring none")
        self.working = widgets.HBox([self.progress, self.stop], layout=widgets.Layout(**_ROW))

    def top(self) -> widgets.VBox:
        """What stands above the chart."""
        left = widgets.VBox([self.kind, self.laws, self.law, self.by, self.groups])
        right = widgets.VBox([self.y, self.x, self.objective, self.where, self.holdout, self.view])
        asked = widgets.HBox([self.first, self.second, self.value, self.at], layout=widgets.Layout(**_ROW))
        return widgets.VBox(
            [widgets.HBox([left, right], layout=widgets.Layout(flex_flow="row wrap")), asked, self.working]
        )

    def points(self) -> widgets.HBox:
        """What acts on brushed runs."""
        return widgets.HBox([self.out, self.mark, self.back], layout=widgets.Layout(**_ROW))


def laws_html(c: Comparison, notes: Sequence[str]) -> str:
    """The criteria of every law, best first, and what each criterion means."""
    table = c.table()
    head = "".join(f"<th {_CELL} scope='col'>{escape(name)}</th>" for name in table.columns)
    body = "".join(
        "<tr>" + "".join(f"<td {_cell(str(v))}>{_strong(escape(str(v)), i == 0)}</td>" for v in row) + "</tr>"
        for i, row in enumerate(table.itertuples(index=False, name=None))
    )
    best = c.frame.iloc[0]
    verdict = (
        f"{best['title']} predicts the held-out runs ({c.holdout}) best: {100 * best['heldout_error']:.2g} % off on "
        f"average, bias {100 * best['heldout_bias']:+.2g} %."
        if c.holdout
        else f"{best['title']} has the lowest AICc. No run is held out, so this says nothing about larger scales."
    )
    meanings = "".join(f"<li><b>{name}</b>: {words}</li>" for name, words in _MEANINGS.items() if name in table.columns)
    return (
        f"<div style='line-height:1.5;max-width:900px;overflow-x:auto'><b>{escape(verdict)}</b>"
        f"<table style='border-collapse:collapse'><tr>{head}</tr>{body}</table>"
        f"<details><summary>What the columns mean</summary><ul style='margin:4px 0'>{meanings}</ul></details>"
        f"{_notes(notes)}</div>"
    )


def groups_html(a: Answer, at: ShiftAt | None) -> str:
    """Verdicts on crossing, exponents and multiplier, and the groups' parameters with intervals."""
    said = [a.cross.verdict] if a.cross is not None else []
    said += [a.equal.verdict] if a.equal is not None else []
    said += [at.sentence(*a.pair)] if at is not None else []
    verdicts = "".join(f"<li>{escape(sentence)}</li>" for sentence in said)
    return (
        f"<div style='line-height:1.5;max-width:900px;overflow-x:auto'><ul style='margin:4px 0;font-weight:600'>"
        f"{verdicts}</ul>{_parameters(a)}{_equal(a)}{_notes(a.notes)}</div>"
    )


def _parameters(a: Answer) -> str:
    symbols = next(iter(a.fits.values())).law.symbols
    head = "".join(f"<th {_CELL} scope='col'>{escape(h)}</th>" for h in ("Group", "Runs", *symbols, "CV error"))
    rows = ""
    for name, fit in a.fits.items():
        table = fit.intervals("bootstrap", n=RESAMPLES)
        cells = [name, str(fit.n_runs), *(_interval(table.loc[s]) for s in symbols), percent(cross_validate(fit))]
        rows += "<tr>" + "".join(f"<td {_CELL}>{escape(c)}</td>" for c in cells) + "</tr>"
    caption = f"Parameters with 95 % intervals, bootstrap of {RESAMPLES} resamples"
    return f"<table style='border-collapse:collapse'><caption style='text-align:left'>{caption}</caption>" \
           f"<tr>{head}</tr>{rows}</table>"  # fmt: skip


def _interval(row: pd.Series) -> str:
    value = f"{row['estimate']:.3g}".replace("e+", "e")
    if not (np.isfinite(row["low"]) and np.isfinite(row["high"])):
        return value
    return f"{value} ({row['low']:.3g} to {row['high']:.3g})".replace("e+", "e")


def _equal(a: Answer) -> str:
    if a.equal is None:
        return ""
    d = a.equal.differences
    rows = "".join(
        f"<tr><td {_CELL}>{escape(f'{r.parameter}: {r.first} − {r.second}')}</td>"
        f"<td {_CELL}>{r.difference:.3g} ({r.low:.3g} to {r.high:.3g})</td><td {_CELL}>{r.p_adjusted:.2g}</td></tr>"
        for r in d.head(15).itertuples()
    )
    more = f"<p>{len(d) - 15} more pairs are not listed.</p>" if len(d) > 15 else ""
    return (
        "<details><summary>Differences of exponents between groups</summary><table style='border-collapse:collapse'>"
        f"<tr><th {_CELL}>Difference</th><th {_CELL}>95 % interval</th><th {_CELL}>p (Holm)</th></tr>"
        f"{rows}</table>{more}</details>"
    )


def _notes(notes: Sequence[str]) -> str:
    return "".join(f"<p style='margin:2px 0'>⚠ {escape(note)}</p>" for note in notes)


def _cell(text: str) -> str:
    """Short cells stay on one line; a note may wrap."""
    return _CELL if len(text) > 12 else _CELL[:-1] + ";white-space:nowrap'"


def _strong(text: str, strong: bool) -> str:
    return f"<b>{text}</b>" if strong else text
