"""The controls of the law explorer: what is shown, one slider a parameter, and the guess."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import ipywidgets as widgets
import numpy as np

from workbench.analysis.guess import Guess
from workbench.figures.explorer import Scene, input_name
from workbench.laws.base import FAMILIES, Law, get, names
from workbench.laws.examples import Range, spans
from workbench.laws.expression import symbol_text
from workbench.panels.controls import button
from workbench.panels.slider import Slider
from workbench.units import axis_title, human

__all__ = ["ExplorerControls", "explorable", "guess_html", "misfit_html"]

_STYLE = {"description_width": "72px"}
_ROW = {"flex_flow": "row wrap", "align_items": "center"}


def explorable(law: Law) -> bool:
    """Whether the law has a value on its own; laws of schedules need to be bound to some first."""
    try:
        with np.errstate(all="ignore"):
            law.predict(np.ones(len(law.symbols)), {s: np.array(v) for s, v in spans(law).items()})
    except (ValueError, TypeError):
        return False
    return True


class ExplorerControls:
    """The widgets of the law explorer; they hold values and nothing else."""

    def __init__(self, ys: list[str] | None, laws: list[str] | None = None) -> None:
        """The widgets.

        Args:
            ys: columns that may be on the y axis; None without runs.
            laws: names on offer; default all that can be explored.
        """
        wide = {"width": "350px"}
        offered = laws or [n for n in names() if explorable(get(n))]
        families = {n: FAMILIES.index(get(n).family) if get(n).family in FAMILIES else len(FAMILIES) for n in offered}
        offered = sorted(offered, key=lambda n: (families[n], get(n).title))
        self.law = widgets.Dropdown(
            description="Law", options=[(get(n).title, n) for n in offered], style=_STYLE, layout=wide
        )
        self.x = widgets.Dropdown(description="Along", style=_STYLE, layout=wide)
        self.y = widgets.Dropdown(
            description="Data", options=[(axis_title(c), c) for c in ys or ["loss"]], style=_STYLE, layout=wide
        )
        self.y.layout.display = "" if ys else "none"
        narrow = {"width": "auto", "margin": "0 12px 0 0"}
        self.terms = widgets.Checkbox(description="Draw the terms", value=True, indent=False, layout=narrow)
        self.log = widgets.Checkbox(description="Logarithmic y axis", value=True, indent=False, layout=narrow)
        self.formula = widgets.HTMLMath()
        self.params: dict[str, Slider] = {}
        self.held: dict[str, Slider] = {}
        self.sliders = widgets.Box(layout=widgets.Layout(flex_flow="row wrap"))
        self.start = button("Back to the start", "Put every slider where it stood at first")
        self.reveal = button("Reveal the fit", "Fit the law to the runs and compare your guess with it")
        self.again = button("Guess again", "Hide the fit")
        self.verdict = widgets.HTML()
        if not ys:
            self.reveal.layout.display = self.again.layout.display = "none"

    def offer(
        self, scene: Scene, reach: Mapping[str, Range], params: Mapping[str, float], scales: Sequence[str] = ()
    ) -> None:
        """A slider for each parameter of the law and each input that is held, at their values.

        Args:
            scene: where the law is evaluated.
            reach: what each parameter's slider runs over.
            params: parameter symbol -> value.
            scales: columns that a law of one input may run along.
        """
        self.params = {
            p.symbol: _slider(symbol_text(p.symbol), reach[p.symbol], params[p.symbol], _what(scene, p))
            for p in scene.law.parameters
        }
        self.held = {s: _held(scene, s, value) for s, value in scene.held.items()}
        self.sliders.children = (*self.params.values(), *self.held.values())
        law = scene.law
        self.formula.value = f"$${law.latex}$$ <small>{escape(law.reference)}</small>"
        if len(law.inputs) > 1:
            self.x.options = [(input_name(scene, i.symbol), i.symbol) for i in law.inputs]
        else:
            self.x.options = [(axis_title(c), c) for c in scales if scene.points is not None]
        self.x.layout.display = "" if len(self.x.options) > 1 else "none"

    def above(self) -> widgets.VBox:
        """The controls above the chart."""
        choices = widgets.HBox([self.law, self.x, self.y, self.terms, self.log], layout=widgets.Layout(**_ROW))
        return widgets.VBox([choices, self.formula, self.sliders])

    def below(self) -> widgets.VBox:
        """The controls below the chart: the guess."""
        row = widgets.HBox([self.reveal, self.again, self.start], layout=widgets.Layout(**_ROW))
        return widgets.VBox([row, self.verdict])


def _what(scene: Scene, parameter) -> str:
    unit = {"loss": "", "x": ""}.get(parameter.unit, parameter.unit)
    return f"{parameter.meaning}{f' ({unit})' if unit else ''}"


def _slider(name: str, over: Range, value: float, said: str) -> Slider:
    made = Slider(name, value, over.low, over.high, log=over.log, unit=said)
    made.layout = widgets.Layout(width="535px")
    return made


def _held(scene: Scene, symbol: str, value: float) -> Slider:
    low, high = spans(scene.law)[symbol]
    if scene.points is not None:
        values = scene.points.x[symbol][scene.points.x[symbol] > 0]
        if values.size and values.max() > values.min():
            low, high = float(values.min()), float(values.max())
    low, high = min(low, value), max(high, value)
    return _slider(f"at {symbol}", Range(low, high if high > low else low * 10, low > 0), value, "held")


def misfit_html(rms: float, runs: int) -> str:
    """How far the curve is from the runs, while the reader guesses."""
    if not runs:
        return ""
    return f"<p>Your sliders miss the {runs} runs by <b>{_percent(rms)}</b> (root mean square of the logarithm).</p>"


def guess_html(guess: Guess, rms_now: float) -> str:
    """The guess beside the fit, as a small table and a sentence."""
    rows = "".join(
        f"<tr><td>{escape(symbol_text(s))}</td><td>{human(r.guess, 3)}</td><td>{human(r.fitted, 3)}</td>"
        f"<td>{_factor(r.factor, r.difference)}</td></tr>"
        for s, r in guess.frame.iterrows()
    )
    ratio = guess.rms / guess.rms_fit if guess.rms_fit > 0 else np.inf
    words = (
        f"Your guess missed the {guess.runs} runs by <b>{_percent(guess.rms)}</b>, the fit by "
        f"<b>{_percent(guess.rms_fit)}</b>" + (f": {human(ratio, 3)} times as far." if np.isfinite(ratio) else ".")
    )
    if abs(rms_now - guess.rms) > 1e-9 * max(guess.rms, 1e-12):
        words += f" The sliders stand at {_percent(rms_now)} now."
    head = "<tr><th>parameter</th><th>guess</th><th>fit</th><th>off by</th></tr>"
    return f'<p>{words}</p><table class="wb-guess" style="border-spacing:14px 2px">{head}{rows}</table>'


def _percent(rms: float) -> str:
    """A misfit in words: per cent where that means something, else a factor."""
    if not np.isfinite(rms):
        return "an unbounded factor"
    return f"{100 * rms:.3g} %" if rms < 0.5 else f"a factor {human(float(np.exp(min(rms, 600))), 3)}"


def _factor(factor: float, difference: float) -> str:
    if not np.isfinite(factor):
        return f"{difference:+.3g}"
    if abs(factor - 1) < 5e-4:
        return "nothing"
    return f"a factor {max(factor, 1 / factor):.3g}, too {'high' if factor > 1 else 'low'}"
