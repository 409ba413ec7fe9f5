"""The fit panel: contract, brushing, fixing, leaving out, and its way back from every error."""

import asyncio
import json

import numpy as np
import pandas as pd
import pytest

import workbench
from workbench.panels import FitPanel, FitState, panel
from workbench.panels import base as base_module
from workbench.panels.live_chart import split
from workbench.testing.panels import HOSTILE, PanelContract, example_runs


@pytest.fixture
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

    def test_the_screen_shows_the_figure(self, runs):
        """And besides the brush: clicks, a layer that waits for rings, and lines cut at axes they may outrun."""
        bench = self.panel(runs)
        drawing, data = split(bench.figure().to_dict())
        live = dict(bench.chart.spec)
        assert [p["name"] for p in live.pop("params")] == ["brush", "clicked"] == bench.chart.selections
        *layers, rings = live["layer"]
        assert rings["name"] == "marked" and bench.chart.data["marked"] == []
        for one, other in zip(layers, drawing["layer"], strict=True):
            mark = {k: v for k, v in one["mark"].items() if k not in ("clip", "cursor")}
            assert {**one, "mark": mark} == other
        assert {k: v for k, v in bench.chart.data.items() if k != "marked"} == data


def test_controls_move_state_figure_and_code_together(bench, runs):
    c = bench.controls
    c.objective.value = "log-mse"
    c.where.value = "flops > 1e15"
    c.parameters["E"].value.value = 1.69
    assert bench.state.objective == "log-mse"
    assert bench.state.where == "flops > 1e15"
    assert bench.state.fixed == {"E": 1.69}
    assert c.parameters["E"].mode.value == "fixed", "moving a value fixes the parameter"
    assert c.delta.disabled, "delta means nothing to squares"
    by_hand = workbench.fit(runs, "chinchilla", objective="log-mse", where="flops > 1e15", fixed={"E": 1.69})
    assert bench.fit.params == pytest.approx(by_hand.params, rel=1e-6)
    assert drawn(bench, runs)["figure"].to_dict() == bench.figure().to_dict()


def test_left_out_runs_are_hollow_counted_and_in_the_code(bench, runs):
    bench.state = bench.state.replace(left_out=("run 0", "run 7"))
    assert bench.fit.n_runs == 34
    assert bench.controls.left.options == (("run 0", "run 0"), ("run 7", "run 7"))
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
    bench.controls.delta.value = 0.01
    bench.chart.selected = {"brush": {"x": [1e9, 1e11]}}  # as the browser does
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
    assert list(bench.controls.parameters) == ["E", "A", "alpha"]
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


def moved(bench, act):
    """Do something as in a notebook, with a running loop, and wait for the full figure; the rows before it."""

    async def go():
        act()
        quick = dict(bench.chart.data)
        while bench._later is not None:
            await asyncio.sleep(0.05)
        return quick

    return asyncio.run(go())


@pytest.mark.parametrize("change", [{"delta": 0.05}, {"fixed": {"E": 1.72}}, {"tied": {"beta": "alpha"}}])
def test_a_moving_hand_sees_the_curve_of_the_exact_fit(bench, runs, change):
    c = bench.controls
    spec = bench.chart.spec

    def act():
        if "delta" in change:
            c.delta.value = change["delta"]
        elif "fixed" in change:
            c.parameters["E"].value.value = 1.72
        else:
            c.parameters["beta"].mode.value = "alpha"
        assert bench.chart.spec is spec, "no new drawing while the hand moves"

    quick = moved(bench, act)
    by_hand = workbench.fit(runs, "chinchilla", **change)
    line = pd.DataFrame(quick["line"])
    size = line["group"].map(workbench.units.parse_number)
    p = by_hand.params
    expected = p["E"] + p["A"] * size ** -p["alpha"] + p["B"] * line["x"] ** -p["beta"]
    assert line["y"].to_numpy() == pytest.approx(expected.to_numpy(), rel=2e-3)  # labels carry three digits
    assert bench.fit.params == pytest.approx(by_hand.params, rel=1e-5)
    assert drawn(bench, runs)["figure"].to_dict() == bench.figure().to_dict()
    settled, fresh = bench.chart.data, split(bench.figure().to_dict())[1]
    assert {k: v for k, v in settled.items() if k != "marked"} == fresh


def test_hold_out_by_slider_predicts_the_largest_runs(bench, runs):
    bench.controls.holdout.value = 20
    order = runs.frame.sort_values("flops", ascending=False)["run"].tolist()
    held = set(bench.held.runs.ids)
    assert held == set(order[: len(held)]) and len(held) >= 7, "a fifth of 36 runs, and those as large"
    rest = workbench.fit(runs.where(~runs.frame["run"].isin(held)), "chinchilla")
    assert bench.fit.params == pytest.approx(rest.params, rel=1e-5)
    truth = runs.frame[runs.frame["run"].isin(held)]
    error = rest.predict(truth)["prediction"].to_numpy() / truth["loss"].to_numpy() - 1
    assert bench.held.error == pytest.approx(np.sqrt((error**2).mean()), rel=1e-4)
    assert f"root mean square error {bench.held.error:.2%}" in workbench.figures.text(bench.figure())
    assert {row["run"] for row in bench.chart.data["held_out"]} == held
    assert drawn(bench, runs)["figure"].to_dict() == bench.figure().to_dict()


def test_hold_out_by_brush_and_back(bench, runs):
    small = runs.frame["run"][runs.frame["tokens"] < 3e7].tolist()
    bench.brushed("brush", {"x": [1e6, 3e7]})
    bench.controls.hold.click()
    assert set(bench.state.held) == set(small) == set(bench.held.runs.ids)
    assert drawn(bench, runs)["figure"].to_dict() == bench.figure().to_dict()
    bench.brushed("brush", {"x": [1e6, 3e7]})
    bench.controls.put_back.click()
    assert bench.state.held == () and bench.held is None and bench.fit.n_runs == len(runs)


def test_a_click_leaves_a_run_out_and_the_next_puts_it_back(bench):
    for layer, expected in (("clicked", ("run 4",)), ("clicked_left_out", ()), ("clicked", ("run 4",))):
        for _ in range(2):  # a browser may tell of one click twice
            bench.chart.selected = {**bench.chart.selected, layer: {"run": ["run 4"]}}
            assert bench.state.left_out == expected


def test_a_run_that_cannot_be_fitted_is_not_put_back_by_a_click(runs):
    bad = workbench.load(runs.frame.drop(columns="problem").assign(loss=lambda f: f["loss"].where(f["run"] != "run 4")))
    bench = FitPanel(bad)
    bench.chart.selected = {"clicked_left_out": {"run": ["run 4"]}}
    assert "cannot be put back" in bench.message.value and bench.state.left_out == ()


def test_panels_on_one_table_share_their_runs(runs):
    one, two = FitPanel(runs), FitPanel(runs, FitState(law="power_constant", x="flops"))
    one.chart.selected = {"clicked": {"run": ["run 4"]}}
    assert two.state.left_out == ("run 4",) and two.fit.n_runs == len(runs) - 1
    two.brushed("brush", {"x": [1e18, 1e20]})
    big = set(runs.frame["run"][runs.frame["flops"] > 1e18])
    assert set(one.state.marked) == big
    assert {row["run"] for row in one.chart.data["marked"]} == big
    one.controls.out.click()
    assert set(one.state.left_out) == {"run 4", *big} == set(two.state.left_out)
    assert FitPanel(runs).state.left_out == one.state.left_out, "a third panel begins with what the others have"


@pytest.mark.parametrize("view", ["curve", "residuals", "profiles", "influence", "card"])
def test_every_view_ends_as_code_and_answers_the_controls(bench, runs, view):
    bench.controls.view.value = view
    assert bench.state.view == view and not bench.message.value
    namespace = drawn(bench, runs)
    assert namespace["figure"].to_dict() == bench.figure().to_dict()
    assert ("card" in namespace) == (view == "card")
    bench.controls.delta.value = 0.01
    bench.chart.selected = {"clicked": {"run": ["run 4"]}}
    assert bench.state.left_out == ("run 4",)
    assert drawn(bench, runs)["figure"].to_dict() == bench.figure().to_dict()
    assert FitState.from_json(bench.state.to_json()) == bench.state


def test_influence_says_what_changes_without_a_run(bench, runs):
    bench.controls.view.value = "influence"
    offered = [question for _, question in bench.controls.question.options]
    assert offered == [None, "tokens_per_param", "optimal_params", "exponent", "loss", *bench.fit.law.symbols]
    bench.controls.question.value = "alpha"
    rows = {row["run"]: row for row in bench.chart.data["runs"]}
    without = workbench.fit(runs.where(runs.frame["run"] != "run 9"), "chinchilla").params["alpha"]
    assert float(rows["run 9"]["text"]) == pytest.approx(without, rel=2e-3)
    assert bench.controls.at.layout.display == "none", "a parameter is asked for nowhere"
    bench.controls.question.value = "optimal_params"
    bench.controls.at.value = 1e21
    assert bench.state.at == {"flops": 1e21}
    assert "1e+21 FLOP" in workbench.figures.text(bench.figure())
    assert drawn(bench, runs)["figure"].to_dict() == bench.figure().to_dict()


def test_a_view_that_cannot_be_drawn_says_why(bench, runs):
    bench.state = bench.state.replace(view="profiles", fixed=bench.fit.params)
    assert "every parameter is fixed" in str(bench.figure().to_dict())
    assert drawn(bench, runs)["figure"].to_dict() == bench.figure().to_dict()


def test_weights_by_column_and_by_inverse_variance(runs):
    noisy = runs.derive(loss_std=lambda f: 0.001 + 0.01 * np.linspace(0, 1, len(f)), share=lambda f: f["flops"] ** 0.1)
    bench = FitPanel(noisy, FitState(delta=1.0))
    bench.controls.weights.value = ("loss_std", True)
    by_hand = workbench.fit(noisy, "chinchilla", delta=1.0, weights=1 / noisy["loss_std"].to_numpy() ** 2)
    assert bench.fit.params == pytest.approx(by_hand.params, rel=1e-5)
    namespace = drawn(bench, noisy)
    assert namespace["figure"].to_dict() == bench.figure().to_dict()
    bench.controls.weights.value = ("share", False)
    by_hand = workbench.fit(noisy, "chinchilla", delta=1.0, weights="share")
    assert bench.fit.params == pytest.approx(by_hand.params, rel=1e-5)
    assert by_hand.panel().state.weights == "share"


def test_the_card_shows_no_markup_of_a_run(bench):
    hostile = example_runs(HOSTILE)
    frame = hostile.frame.drop(columns="problem").assign(**{"<img src=x onerror=alert(1)>": 1.0})
    bench = FitPanel(workbench.load(frame).with_attributes(hardware="<script>alert(1)</script>"))
    bench.controls.view.value = "card"
    assert "&lt;script&gt;" in bench.card.value and "<script" not in bench.card.value
    assert "not stated" in bench.card.value
