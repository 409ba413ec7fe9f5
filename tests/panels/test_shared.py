"""One selection of runs for all panels on one table."""

import gc
import weakref

import altair as alt
import pandas as pd
import pytest
import traitlets

from tests.panels.demo import DemoPanel, scatter
from workbench.panels import shared as module
from workbench.panels.shared import shared
from workbench.panels.slider import Slider
from workbench.testing.panels import PanelContract, example_runs


class Listener:
    def __init__(self, runs):
        self.heard, self.of = [], shared(runs)
        self.of.listen(self.hear)

    def hear(self, selection):
        self.heard.append(selection.left_out)


def test_panels_on_one_table_hear_each_other_and_not_themselves():
    runs, other = example_runs(), example_runs()
    a, b, c = Listener(runs), Listener(runs), Listener(other)
    a.of.change(a, left_out=["run 1"])
    assert (a.heard, b.heard, c.heard) == ([], [("run 1",)], [])
    a.of.change(a, left_out=["run 1"])
    assert len(b.heard) == 1, "what has not changed is not told"
    b.of.change(b, marked=["run 2"])
    assert a.heard == [("run 1",)] and a.of.marked == ("run 2",)


def test_a_panel_that_is_gone_is_forgotten_and_so_is_a_table():
    runs = example_runs()
    a, b = Listener(runs), Listener(runs)
    gone = weakref.ref(b)
    del b
    gc.collect()
    assert gone() is None
    a.of.change(None, left_out=["run 1"])
    assert len(a.of._listeners) == 1 and a.heard == [("run 1",)]
    before = len(module._ALL)
    del runs, a
    gc.collect()
    assert len(module._ALL) == before - 1


def test_a_slider_keeps_its_bounds_and_refuses_what_cannot_be_drawn():
    slider = Slider("Delta", 1e-3, 1e-5, 1.0, log=True)
    slider.value = 7.0
    assert slider.value == 1.0
    with pytest.raises(traitlets.TraitError, match="finite"):
        slider.value = float("nan")
    for bounds in ((1.0, 1.0), (2.0, 1.0), (0.0, float("inf"))):
        with pytest.raises(ValueError, match="no room"):
            Slider("x", 1.0, *bounds)
    with pytest.raises(ValueError, match="cannot begin at 0"):
        Slider("x", 1.0, 0.0, 1.0, log=True)


class TestDemoPanel(PanelContract):
    """The contract itself, on the smallest panel that shares a selection."""

    def panel(self, runs):
        return DemoPanel(runs)

    def namespace(self, runs):
        return {"runs": runs, "scatter": scatter}


def test_the_contract_notices_a_panel_that_neither_follows_nor_draws_its_figure():
    class Deaf(DemoPanel):
        def follow(self, selection):
            pass

        def _full(self):
            self.show(alt.Chart(pd.DataFrame({"x": [1]})).mark_bar())

    class Contract(PanelContract):
        def panel(self, runs):
            return Deaf(runs)

    with pytest.raises(AssertionError):
        Contract().test_runs_taken_out_elsewhere_are_taken_out_here_and_told(example_runs())
    with pytest.raises(AssertionError):
        Contract().test_the_screen_shows_the_figure(example_runs())
