"""The controls of the multiverse panel, and what it writes beside its figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

import ipywidgets as widgets
import pandas as pd

from workbench.analysis.brushed import in_common, stretch
from workbench.analysis.choices import DIMENSIONS
from workbench.analysis.verses import Multiverse, rounding
from workbench.fits.result import Fit
from workbench.laws.base import get
from workbench.panels.controls import button, laws_for, metrics, scales
from workbench.panels.multiverse_state import VIEWS, MultiverseState, asked, place_of
from workbench.panels.slider import Slider
from workbench.runs.table import RunTable
from workbench.units import axis_title, quantity

__all__ = ["MultiverseControls", "behind_html", "progress_html", "verdict_html"]

_STYLE = {"description_width": "72px"}
_ROW = {"flex_flow": "row wrap", "align_items": "center"}
#: Analyses and common options listed at most.
_LISTED, _COMMON = 10, 5


class MultiverseControls:
    """The widgets of the multiverse panel; they hold values and nothing else."""

    def __init__(self, runs: RunTable) -> None:
        wide = {"width": "350px"}
        self.law = widgets.Dropdown(
            description="Law", options=[(get(n).title, n) for n in laws_for(runs)], style=_STYLE, layout=wide
        )
        ys = metrics(runs) or ["loss"]
        self.y = widgets.Dropdown(
            description="Fit", options=[(axis_title(c), c) for c in ys], style=_STYLE, layout=wide
        )
        along = [("automatic", None), *((axis_title(c), c) for c in scales(runs))]
        self.x = widgets.Dropdown(description="Along", options=along, style=_STYLE, layout=wide)
        self.where = widgets.Text(
            description="Where", placeholder="flops > 1e18 and loss < 4", continuous_update=False, style=_STYLE,
            layout=wide,
        )  # fmt: skip
        self.question = widgets.Dropdown(description="Question", options=[], style=_STYLE, layout=wide)
        self.place = Slider("Asked at", 1.0, 0.5, 2.0, log=True)
        self.view = widgets.Dropdown(description="Show", options=list(VIEWS), style=_STYLE, layout=wide)
        self.stop = button("Stop", "Give up this calculation; what was finished is kept")
        self.go_on = button("Fit all analyses", "Go on with the calculation that was stopped")
        self.back = button("Put back runs left out", "Fit every run again")
        self.progress = widgets.HTML(layout=widgets.Layout(flex="1 1 320px"))
        self.low = Slider("From", 0.0, 0.0, 100.0, step=1.0, unit="%")
        self.high = Slider("to", 0.0, 0.0, 100.0, step=1.0, unit="%")
        self.clear = button("Clear brush", "Show no fits")
        self.switches: dict[tuple[str, str], widgets.Checkbox] = {}
        self.choices = widgets.VBox()
        self.working = widgets.HBox([self.progress, self.stop, self.go_on], layout=widgets.Layout(**_ROW))

    def offer(
        self, options: Mapping[str, Sequence[str]], questions: Mapping[str, str], changed: Callable[..., None]
    ) -> None:
        """The questions, and a check box for every option of every dimension with more than one."""
        self.question.options = [(words, name) for name, words in questions.items()]
        self.switches, rows = {}, []
        for dimension, names in options.items():
            if len(names) < 2:
                continue
            boxes = []
            for k, name in enumerate(names):
                box = widgets.Checkbox(
                    value=True, description=str(name) + (" (default)" if k == 0 else ""), indent=False,
                    layout=widgets.Layout(width="auto", margin="0 14px 0 0"),
                )  # fmt: skip
                box.observe(changed, "value")
                self.switches[dimension, name] = box
                boxes.append(box)
            said = DIMENSIONS.get(dimension, dimension)
            head = widgets.HTML(f"<b>{escape(said[0].upper() + said[1:])}</b>", layout=widgets.Layout(width="170px"))
            rows.append(widgets.HBox([head, *boxes], layout=widgets.Layout(**_ROW)))
        self.choices.children = tuple(rows)

    def show(self, state: MultiverseState, base: Fit | None, keep_where: bool = False) -> None:
        """Set every control to `state`; `base` is its default analysis, if it could be fitted."""
        s = state
        for control, wanted in ((self.law, s.law), (self.y, s.y), (self.x, s.x), (self.view, s.view)):
            if wanted in [o[1] if isinstance(o, tuple) else o for o in control.options]:
                control.value = wanted
        self.x.layout.display = "" if len(get(s.law).inputs) == 1 else "none"
        if not keep_where:
            self.where.value = s.where or ""
        if base is not None:
            question, at = asked(s, base)
            if question in [value for _, value in self.question.options]:
                self.question.value = question
            self._show_place(place_of(base, question), at)
        for (dimension, option), box in self.switches.items():
            box.value = option not in s.off.get(dimension, ())
        self.low.value, self.high.value = s.between or (0.0, 0.0)
        self.back.layout.display = "" if s.left_out else "none"
        self.back.description = f"Put back {len(s.left_out)} left out"

    def show_work(self, busy: bool, idle: bool) -> None:
        """Progress and Stop while fits are on their way; the other button where they were stopped."""
        self.stop.layout.display = self.progress.layout.display = "" if busy else "none"
        self.go_on.layout.display = "" if idle and not busy else "none"

    def _show_place(self, place: tuple[str, float, float, float] | None, at: Mapping[str, float]) -> None:
        slider = self.place
        slider.layout.visibility = "hidden" if place is None else "visible"
        slider.disabled = place is None
        if place is None:
            return
        column, low, _, high = place
        value = at.get(column, place[2])
        low, high = min(low, value), max(high, value)
        if (slider.min, slider.max) != (low, high):
            # Widened first, so that the value is never outside.
            slider.min, slider.max = min(low, slider.min), max(high, slider.max)
            slider.value = value
            slider.min, slider.max, slider.step = low, high, math.log10(high / low) / 200
        elif not math.isclose(slider.value, value, rel_tol=1e-3):  # else a moving slider would jitter
            slider.value = value
        slider.description = f"At {quantity(column).symbol or column}"
        slider.unit = quantity(column).unit

    def top(self) -> widgets.VBox:
        """What stands above the chart."""
        columns = [
            widgets.VBox([self.law, self.y, self.x, self.where]),
            widgets.VBox([self.question, self.place, self.view, self.back]),
        ]
        return widgets.VBox(
            [widgets.HBox(columns, layout=widgets.Layout(flex_flow="row wrap")), self.choices, self.working]
        )

    def stretch(self) -> widgets.HBox:
        """The keyboard's way to brush."""
        head = widgets.HTML("<b>Fits behind the curve</b>, in percent of the sorted analyses:")
        return widgets.HBox([head, self.low, self.high, self.clear], layout=widgets.Layout(**_ROW))


def progress_html(fraction: float, left: float | None, what: str) -> str:
    """A bar, the share done and the time left."""
    seconds = "" if left is None else f", about {max(round(left), 1)} s left"
    return (
        f"<progress value='{fraction:.3f}' max='1' style='width:180px;vertical-align:middle' "
        f"aria-label='share fitted'></progress> <span role='status'>Fitting {escape(what)}: "
        f"{fraction:.0%}{seconds}</span>"
    )


def verdict_html(m: Multiverse) -> str:
    """The verdict, and beneath it what each decision does alone and what was not varied."""
    notes = [m.one_by_one] if m.one_by_one else []
    notes += [f"Asked {m.question.why}." if m.question.why else ""]
    notes += [f"Not varied: {DIMENSIONS.get(d, d)} ({why})." for d, why in m.skipped.items()]
    listed = "".join(f"<li>{escape(note)}</li>" for note in notes if note)
    more = f"<details><summary>More on this</summary><ul style='margin:4px 0'>{listed}</ul></details>" if listed else ""
    return (
        "<div style='max-width:860px;line-height:1.5;border-left:4px solid #d55e00;padding-left:10px'>"
        f"<b>{escape(m.verdict)}</b>{more}</div>"
    )


def behind_html(m: Multiverse, between: Sequence[float]) -> str:
    """The analyses of a stretch: what they have in common, and an even choice of them as a list."""
    rows = stretch(m, *between)
    if not rows:
        return "<p>No analysis lies in this stretch; make it wider.</p>"
    number = rounding(float(m.estimates.min()), float(m.estimates.max()))
    common = in_common(m, rows)
    common = common[common["difference"].abs() >= 0.1].head(_COMMON)
    said = "; ".join(
        f"{r.share:.0%} take {escape(str(r.option))} ({escape(DIMENSIONS.get(r.dimension, r.dimension))}; "
        f"{r.overall:.0%} of all do)"
        for r in common.itertuples()
    ) or "no option is more common among them than among all"  # fmt: skip
    step = max(len(rows) / _LISTED, 1.0)
    chosen = [rows[int(i * step)] for i in range(min(_LISTED, len(rows)))]
    body = "".join(_line(m, m.frame.iloc[i], number) for i in chosen)
    rest = (
        f"<p style='margin:2px 0'>{len(rows) - len(chosen)} more are not listed.</p>" if len(rows) > len(chosen) else ""
    )
    cell = "style='text-align:left;padding:0 14px 0 0'"
    return (
        f"<div style='line-height:1.5;max-width:860px'><b>{len(rows)} analyses</b> answer "
        f"{number(float(m.frame['estimate'].iloc[rows[0]]))} to {number(float(m.frame['estimate'].iloc[rows[-1]]))}: "
        f"{said}.<table style='border-collapse:collapse'><tr><th {cell}>Answer</th><th {cell}>Runs</th>"
        f"<th {cell}>Unlike the default analysis</th></tr>{body}</table>{rest}</div>"
    )


def _line(m: Multiverse, row: pd.Series, number: Callable[[float], str]) -> str:
    other = [f"{DIMENSIONS.get(d, d)}: {row[d]}" for d in m.varied if row[d] != m.default[d]]
    cells = (number(float(row["estimate"])), str(int(row["n_runs"])), ", ".join(other) or "it is the default analysis")
    return "<tr>" + "".join(f"<td style='text-align:left;padding:0 14px 0 0'>{escape(c)}</td>" for c in cells) + "</tr>"
