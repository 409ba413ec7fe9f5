"""`PanelContract`: what every panel promises, as tests that a panel's own test class inherits.

class TestFitPanel(PanelContract):
    def panel(self, runs):
        return FitPanel(runs)
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import ipywidgets as widgets
import numpy as np
import pandas as pd
import pytest

from workbench.panels.base import Panel
from workbench.panels.copytext import CopyText
from workbench.panels.live_chart import LiveChart, split
from workbench.panels.parallel import Parallel
from workbench.panels.run_table import RunTableView
from workbench.panels.shared import Shared
from workbench.panels.slider import Slider
from workbench.runs.load import load
from workbench.runs.table import RunTable

__all__ = ["HOSTILE", "PanelContract", "example_runs", "sent", "walk"]

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
    widgets.Text, widgets.Textarea, widgets.ToggleButton, widgets.ToggleButtons, CopyText, Parallel, RunTableView,
    Slider,
)  # fmt: skip
#: Those that always hold a value which may be turned.
_SETTINGS = (
    widgets.Checkbox, widgets.Dropdown, widgets.RadioButtons, widgets.ToggleButton, widgets.ToggleButtons, Slider,
)  # fmt: skip
_SHOWN = (widgets.Box, widgets.HTML, widgets.HTMLMath, widgets.Label, widgets.Output, LiveChart)


def walk(widget: widgets.Widget) -> Iterator[widgets.Widget]:
    """`widget` and everything inside it."""
    yield widget
    for child in getattr(widget, "children", ()):
        yield from walk(child)


def sent(widget: widgets.Widget) -> int:
    """Bytes of JSON that opening `widget` sends to the browser, the drawing library apart."""
    inside = {id(w): w for w in walk(widget)}
    return sum(len(json.dumps(w.get_state(), default=str)) for w in inside.values())


def example_runs(names: tuple[str, ...] = (), side: int = 6) -> RunTable:
    """Runs of a Chinchilla law with 0.3 % noise, `side` sizes times as many lengths, 36 unless told.

    Args:
        names: what the first runs are called.
        side: sizes, and lengths of training.
    """
    rng = np.random.default_rng(5)
    size, data = (v.ravel() for v in np.meshgrid(np.geomspace(1e6, 3e8, side), np.geomspace(2e7, 6e9, side)))
    loss = (1.7 + 400 * size**-0.34 + 1100 * data**-0.36) * np.exp(0.003 * rng.standard_normal(size.size))
    ids = [*names, *(f"run {i}" for i in range(len(names), size.size))]
    return load(pd.DataFrame({"run": ids, "params": size, "tokens": data, "flops": 6 * size * data, "loss": loss}))


class _Listener:
    def __init__(self, heard: list[tuple[str, ...]]) -> None:
        self.heard = heard

    def hear(self, selection: Shared) -> None:
        self.heard.append(selection.left_out)


def _broken(self: Panel, *_: Any) -> Any:
    raise RuntimeError("<b>gone</b> to the moon")


def _turn(control: widgets.Widget) -> bool:
    """Give `control` another value, as a reader would; whether it has one."""
    if isinstance(control, widgets.Dropdown | widgets.ToggleButtons | widgets.RadioButtons):
        others = [value for value in control._options_values if value != control.value]
        if not others:
            return False
        control.value = others[0]
    elif isinstance(control, widgets.Checkbox | widgets.ToggleButton):
        control.value = not control.value
    else:
        control.value = control.min if control.value > control.min else control.max
    return True


def _without_brushes(spec: Any) -> Any:
    """A drawing without its selections and the name that Altair counts up."""
    return {k: v for k, v in spec.items() if k not in ("params", "name")}


class PanelContract:
    """Tests of one panel class. A subclass defines `panel`, and `namespace` if its code names other data.

    Attributes:
        most_bytes: what opening the panel on `example_runs` may send to the browser.
    """

    most_bytes = 300_000

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

    def test_the_screen_shows_the_figure(self, runs: RunTable) -> None:
        """What the browser is sent is `figure()`, but for the brushes it may draw on it."""
        panel = self.panel(runs)
        spec, data = split(panel.figure().to_dict())
        assert _without_brushes(panel.chart.spec) == _without_brushes(spec)
        assert panel.chart.data == data

    def test_opening_sends_little(self, runs: RunTable) -> None:
        assert sent(self.panel(runs)) < self.most_bytes

    def test_an_exception_appears_with_a_report_and_the_panel_lives_on(
        self, runs: RunTable, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Something unforeseen while drawing: no control may raise, the reader can copy what happened, all goes on."""
        panel = self.panel(runs)
        assert panel.report.layout.display == "none"
        tried = 0
        for control in [w for w in walk(panel) if isinstance(w, _SETTINGS) and not w.disabled]:
            old = control.value
            with monkeypatch.context() as patch:
                for name in ("figure", "code"):  # one of the two is asked for at every redrawing
                    patch.setattr(type(panel), name, _broken)
                if not _turn(control):
                    continue
                tried += 1
                broke = panel.report.layout.display == ""
                if broke:
                    assert "RuntimeError" in panel.message.value and "<b>gone" not in panel.message.value
                    assert "Traceback" in panel.report.text and "the moon" in panel.report.text
            if broke:
                control.value = old
                assert "RuntimeError" not in panel.message.value, "an error that is over still stands there"
                panel.figure()
                assert self.drawn(panel, runs) == panel.figure().to_dict()
                return
        if tried:
            raise AssertionError(f"{tried} controls were turned and none drew the figure; who shows its exception?")
        pytest.skip("this panel has no setting that could be turned")

    def test_runs_taken_out_elsewhere_are_taken_out_here_and_told(self, runs: RunTable) -> None:
        """Panels on one table have one selection; a panel that shares none is not asked."""
        panel = self.panel(runs)
        if panel.shared is None:
            pytest.skip("this panel shares no selection of runs")
        other = self.panel(runs)
        if other.shared is not panel.shared:
            pytest.skip("these two panels were given different tables")
        before = panel.figure().to_dict()
        heard: list[tuple[str, ...]] = []
        listener = _Listener(heard)
        panel.shared.listen(listener.hear)
        names = runs.ids[1:4:2]
        panel.shared.change(None, left_out=names)
        assert heard == [tuple(names)], "a panel that follows must not answer back"
        assert panel.shared.left_out == tuple(names)
        after = panel.figure().to_dict()
        if "left_out" in vars(panel.state):
            assert tuple(panel.state.left_out) == tuple(names) == tuple(other.state.left_out)
            assert after != before, "runs were taken out and the figure shows it nowhere"
            panel.state = panel.state.replace(left_out=(names[0],))
            assert panel.shared.left_out == (names[0],) == tuple(other.state.left_out), "its own change was not told"
        assert self.drawn(panel, runs) == panel.figure().to_dict()
        panel.shared.change(None, left_out=())
        assert panel.figure().to_dict() == before
        panel.shared.change(None, left_out=["no such run"])
        assert "Traceback" not in panel.message.value
        assert self.drawn(panel, runs) == panel.figure().to_dict()

    def test_five_thousand_runs_open_and_are_drawn(self) -> None:
        """Without curves: nothing hangs, and what a browser cannot hold is thinned before it is sent."""
        many = example_runs(side=71).where(np.arange(71 * 71) < 5000)
        panel = self.panel(many)
        assert len(many) == 5000
        assert "Traceback" not in panel.message.value and panel.report.layout.display == "none"
        assert sent(panel) < 2_000_000
        assert self.drawn(panel, many) == panel.figure().to_dict()

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
