"""The fit panel: contract, brushing, fixing, leaving out, and its way back from every error."""

import asyncio
import json

import altair as alt
import numpy as np
import pytest

import workbench
from workbench.panels import FitPanel, FitState, panel
from workbench.panels import base as base_module
from workbench.testing.panels import PanelContract, example_runs


@pytest.fixture(scope="module")
def runs():
    return example_runs()


@pytest.fixture
def bench(runs):
    return FitPanel(runs)


def drawn(bench, runs):
    namespace = {"runs": runs}
    exec(bench.code(), namespace)
    return namespace


class TestContract(PanelContract):
    def panel(self, runs):
        return FitPanel(runs)


def test_controls_move_state_figure_and_code_together(bench, runs):
    c = bench.controls
    c.objective.value = "log-mse"
    c.where.value = "flops > 1e15"
    c.fixes["E"][1].value = 1.69
    assert bench.state.objective == "log-mse"
    assert bench.state.where == "flops > 1e15"
    assert bench.state.fixed == {"E": 1.69}
    assert c.fixes["E"][0].value, "typing a value fixes the parameter"
    assert c.delta.disabled, "delta means nothing to squares"
    by_hand = workbench.fit(runs, "chinchilla", objective="log-mse", where="flops > 1e15", fixed={"E": 1.69})
    assert bench.fit.params == pytest.approx(by_hand.params, rel=1e-6)
    assert drawn(bench, runs)["figure"].to_dict() == bench.figure().to_dict()


def test_left_out_runs_are_hollow_counted_and_in_the_code(bench, runs):
    bench.state = bench.state.replace(left_out=("run 0", "run 7"))
    assert bench.fit.n_runs == 34
    assert bench.controls.left.options == ("run 0", "run 7")
    assert "2 left out (hollow)" in workbench.figures.text(bench.figure())
    namespace = drawn(bench, runs)
    assert namespace["fit"].n_runs == 34
    assert namespace["figure"].to_dict() == bench.figure().to_dict()


def test_brush_takes_out_keeps_and_gives_back(bench, runs):
    big = runs.frame["run"][runs.frame["tokens"] > 1e9].tolist()
    bench.brushed("brush", {"x": [1e9, 1e11]})
    bench.controls.out.click()
    assert set(bench.state.left_out) == set(big)
    bench.controls.back.click()
    assert bench.state.left_out == () and bench.fit.n_runs == len(runs)
    bench.brushed("brush", {"x": [1e9, 1e11], "y": [0.1, 100]})
    bench.controls.only.click()
    assert set(bench.fit.points.frame["run"]) == set(big)
    bench.controls.left.value = ("run 0",)
    bench.controls.put_back.click()
    assert set(bench.fit.points.frame["run"]) == {*big, "run 0"}


def test_buttons_without_a_brush_say_what_to_do(bench):
    for button in (bench.controls.out, bench.controls.only):
        button.click()
        assert "drag over some points" in bench.message.value
    bench.controls.put_back.click()
    assert "select runs" in bench.message.value


def test_a_brush_still_counts_after_the_chart_was_redrawn(bench):
    """Assigning a chart drops the observers of its selections; the panel puts them back."""
    bench.controls.delta.value = 0.01
    live = bench._live
    live._vl_selections = {"brush": {"value": {"x": [1e9, 1e11]}, "store": []}}
    assert bench._box == {"x": [1e9, 1e11]}


def test_leaving_out_by_name_works_without_a_mouse(bench):
    bench.controls.run.value = "run 3"
    assert bench.state.left_out == ("run 3",)
    assert bench.controls.run.value == ""
    bench.controls.run.value = "run 3"
    assert "in the fit" in bench.message.value, "it is out already"


def test_too_few_runs_left_is_refused_and_the_panel_goes_on(bench):
    bench.brushed("brush", {"x": [0, 3e7]})
    bench.controls.where.value = "tokens < 3e7 and params < 1e7"
    assert "free parameters" in bench.message.value
    assert bench.state.where is None
    bench.controls.where.value = ""
    assert bench.message.value == ""


def test_changing_the_law_forgets_what_belonged_to_the_old_one(bench, runs):
    bench.state = bench.state.replace(fixed={"beta": 0.36}, left_out=("run 1",))
    bench.controls.law.value = "power_constant"
    assert bench.state.fixed == {}
    assert bench.state.left_out == ("run 1",)
    assert list(bench.controls.fixes) == ["E", "A", "alpha"]
    assert bench.controls.x.layout.display == ""
    bench.controls.x.value = "tokens"
    assert bench.fit.points.columns == {"x": "tokens"}
    assert drawn(bench, runs)["figure"].to_dict() == bench.figure().to_dict()


def test_an_unforeseen_exception_appears_with_a_report_and_the_panel_lives(bench, monkeypatch):
    def broken(self, state):
        raise RuntimeError("solver <b>gone</b>")

    with monkeypatch.context() as patch:
        patch.setattr(FitPanel, "_fitted", broken)
        bench.controls.delta.value = 0.1
    assert "RuntimeError" in bench.message.value and "<b>gone" not in bench.message.value
    assert bench.report.layout.display == "" and "Traceback" in bench.report.text
    bench.controls.delta.value = 0.01
    assert bench.message.value == "" and bench.state.delta == 0.01
    assert bench.report.layout.display == "none"


def test_a_drag_draws_quickly_and_fully_once_at_its_end(bench, monkeypatch):
    full, quick = [], []
    monkeypatch.setattr(base_module, "PAUSE", 0.05)
    monkeypatch.setattr(FitPanel, "_draw_full", lambda self: full.append(self.state.delta))
    monkeypatch.setattr(FitPanel, "_draw_quick", lambda self: quick.append(self.state.delta))

    async def drag():
        for exponent in np.linspace(-3, -1, 8):
            bench.controls.delta.value = 10.0**exponent
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.3)

    asyncio.run(drag())
    assert len(quick) == 7, "the first value is the one it has"
    assert full == [0.1]


def test_panel_of_a_fit_starts_from_its_settings(runs):
    fit = workbench.fit(runs, "chinchilla", fixed={"E": 1.7}, tied={"beta": "alpha"}, where="flops > 1e15", delta=0.01)
    bench = fit.without("run 35").panel()
    assert bench.state == FitState(
        delta=0.01, fixed={"E": 1.7}, tied={"beta": "alpha"}, where="flops > 1e15", left_out=("run 35",)
    )
    assert bench.fit.params == pytest.approx(fit.without("run 35").params, rel=1e-6)
    assert drawn(bench, fit.runs)["figure"].to_dict() == bench.figure().to_dict()


def test_panel_takes_settings_and_names_a_wrong_one(runs):
    assert panel(runs, law="power_constant", x="tokens").state.x == "tokens"
    with pytest.raises(ValueError, match="no setting 'lwa'"):
        panel(runs, lwa="power")
    weighted = workbench.fit(runs, "chinchilla", weights=np.linspace(1, 2, len(runs)))
    with pytest.raises(ValueError, match="weighs its runs"):
        panel(weighted)


def test_state_is_plain_json(bench):
    plain = json.loads(bench.state.to_json())
    assert plain["law"] == "chinchilla" and plain["left_out"] == [] and plain["fixed"] == {}


def test_the_chart_fetches_nothing_and_offers_no_online_editor(bench):
    assert alt.JupyterChart._is_offline
    assert "esm.sh" not in alt.JupyterChart._esm
    assert bench._live.embed_options["actions"]["editor"] is False


def test_live_chart_is_the_figure_plus_a_brush(bench):
    live, figure = bench._live.spec, bench.figure().to_dict()
    assert [p["name"] for p in live["params"]] == ["brush"]
    assert {k: v for k, v in live.items() if k != "params"} == {k: v for k, v in figure.items() if k != "params"}
