"""`PanelContract`: what every panel promises, as tests that a panel's own test class inherits.

class TestFitPanel(PanelContract):
    def panel(self, runs):
        return FitPanel(runs)
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import altair as alt
import ipywidgets as widgets
import numpy as np
import pandas as pd
import pytest

from workbench.panels.base import Panel
from workbench.panels.copytext import CopyText
from workbench.runs.load import load
from workbench.runs.table import RunTable

__all__ = ["HOSTILE", "PanelContract", "example_runs", "walk"]

#: Names of runs that would act if they reached a page as markup.
HOSTILE = (
    "<script>alert('run')</script>",
    '<img src="x" onerror="alert(1)">',
    "</script><b onclick=alert(2)>",
    "'\"&<x>",
)
#: Widget kinds that the keyboard reaches and works.
_KEYBOARD = (
    widgets.Button, widgets.Checkbox, widgets.Combobox, widgets.Dropdown, widgets.FloatLogSlider, widgets.FloatSlider,
    widgets.FloatText, widgets.IntSlider, widgets.IntText, widgets.RadioButtons, widgets.Select, widgets.SelectMultiple,
    widgets.Text, widgets.Textarea, widgets.ToggleButton, widgets.ToggleButtons, CopyText,
)  # fmt: skip
_SHOWN = (widgets.Box, widgets.HTML, widgets.HTMLMath, widgets.Label, widgets.Output, alt.JupyterChart)


def walk(widget: widgets.Widget) -> Iterator[widgets.Widget]:
    """`widget` and everything inside it."""
    yield widget
    for child in getattr(widget, "children", ()):
        yield from walk(child)


def example_runs(names: tuple[str, ...] = ()) -> RunTable:
    """Thirty-six runs of a Chinchilla law with 0.3 % noise; the first are called `names`."""
    rng = np.random.default_rng(5)
    size, data = (v.ravel() for v in np.meshgrid(np.geomspace(1e6, 3e8, 6), np.geomspace(2e7, 6e9, 6)))
    loss = (1.7 + 400 * size**-0.34 + 1100 * data**-0.36) * np.exp(0.003 * rng.standard_normal(size.size))
    ids = [*names, *(f"run {i}" for i in range(len(names), size.size))]
    return load(pd.DataFrame({"run": ids, "params": size, "tokens": data, "flops": 6 * size * data, "loss": loss}))


class PanelContract:
    """Tests of one panel class. A subclass defines `panel`, and `namespace` if its code names other data."""

    def panel(self, runs: RunTable) -> Panel:
        """The panel under test, on `runs`."""
        raise TypeError(f"{type(self).__name__} must define panel(runs)")

    def namespace(self, runs: RunTable) -> dict[str, Any]:
        """Variables the panel's code expects."""
        return {"runs": runs}

    def drawn(self, panel: Panel, runs: RunTable) -> dict[str, Any]:
        """The figure that the panel's code leaves behind, as a Vega-Lite specification."""
        namespace = self.namespace(runs)
        exec(panel.code(), namespace)
        return namespace["figure"].to_dict()

    @pytest.fixture
    def runs(self) -> RunTable:
        return example_runs()

    def test_state_survives_json(self, runs: RunTable) -> None:
        panel = self.panel(runs)
        again = type(panel.state).from_json(panel.state.to_json())
        assert again == panel.state
        before = panel.figure().to_dict()
        panel.state = again
        assert panel.state == again
        assert panel.figure().to_dict() == before

    def test_unknown_state_is_refused_in_one_sentence(self, runs: RunTable) -> None:
        state = type(self.panel(runs).state)
        for text in ("[1]", "{", '{"no such field": 1}'):
            with pytest.raises(ValueError, match=r"state|setting"):
                state.from_json(text)

    def test_code_draws_the_same_figure_without_widgets(self, runs: RunTable) -> None:
        panel = self.panel(runs)
        code = panel.code()
        assert "panel" not in code and "widget" not in code
        assert panel.copy.text == code
        assert self.drawn(panel, runs) == panel.figure().to_dict()

    def test_mimebundle_holds_view_picture_and_state(self, runs: RunTable) -> None:
        panel = self.panel(runs)
        bundle, metadata = panel._repr_mimebundle_()
        assert "application/vnd.jupyter.widget-view+json" in bundle
        assert bundle["image/png"].startswith(b"\x89PNG\r\n")
        assert type(panel.state).from_json(bundle["text/plain"]) == panel.state
        assert metadata["image/png"]["width"] > 300, "without a size the picture is shown twice as large"
        assert self.panel(runs)._repr_mimebundle_()[0]["text/plain"] == bundle["text/plain"]

    def test_table_is_a_frame(self, runs: RunTable) -> None:
        assert isinstance(self.panel(runs).table(), pd.DataFrame)

    def test_every_control_is_labelled_and_works_from_the_keyboard(self, runs: RunTable) -> None:
        controls = [w for w in walk(self.panel(runs)) if not isinstance(w, _SHOWN)]
        assert controls
        for control in controls:
            assert isinstance(control, _KEYBOARD), f"{type(control).__name__} cannot be reached by keyboard"
            assert control.description.strip(), f"a {type(control).__name__} has no visible label"

    def test_hostile_names_never_become_markup(self) -> None:
        runs = example_runs(HOSTILE)
        panel = self.panel(runs)
        self._assert_harmless(panel)
        for control in walk(panel):
            if isinstance(control, widgets.Text):  # what is typed comes back in messages
                for name in HOSTILE:
                    control.value = name
                    self._assert_harmless(panel)
        assert self.drawn(panel, runs) == panel.figure().to_dict()

    def _assert_harmless(self, panel: Panel) -> None:
        for widget in walk(panel):
            if isinstance(widget, widgets.HTML | widgets.HTMLMath | widgets.Label):
                lowered = widget.value.lower()
                for tag in ("<script", "</script", "<img", "<b onclick", "<x>"):
                    assert tag not in lowered, f"{tag} reached the page: {widget.value[:300]}"
            if getattr(widget, "description_allow_html", False):
                raise AssertionError(f"{type(widget).__name__} renders its label as markup")

    def test_bad_text_leaves_a_message_and_the_figure(self, runs: RunTable) -> None:
        for index in range(sum(1 for _ in self._typed(self.panel(runs)))):
            panel = self.panel(runs)
            before = panel.figure().to_dict()
            control = list(self._typed(panel))[index]
            control.value = -1e300 if isinstance(control, widgets.FloatText) else "((( no such thing"
            assert panel.message.value, f"{control.description} took nonsense without a word"
            assert "Traceback" not in panel.message.value
            assert panel.figure().to_dict() == before

    def _typed(self, panel: Panel) -> Iterator[widgets.Widget]:
        return (
            w
            for w in walk(panel)
            if isinstance(w, widgets.Text | widgets.Textarea | widgets.FloatText | widgets.IntText)
        )

    @pytest.mark.parametrize("kind", ["empty", "one run", "all NaN"])
    def test_poor_tables_give_a_helpful_panel(self, kind: str, runs: RunTable) -> None:
        frame = runs.frame.drop(columns="problem")
        if kind == "empty":
            poor = runs.where(np.zeros(len(frame), dtype=bool))
        elif kind == "one run":
            poor = runs.where(np.arange(len(frame)) == 0)
        else:
            poor = load(frame.assign(loss=np.nan))
        panel = self.panel(poor)
        assert len(panel.message.value) > 40, "a reader needs a sentence on what is missing"
        assert "Traceback" not in panel.message.value
        figure = panel.figure().to_dict()
        assert self.drawn(panel, poor) == figure
        assert panel._repr_mimebundle_()[0]["image/png"].startswith(b"\x89PNG")
        json.dumps(figure, allow_nan=False)
