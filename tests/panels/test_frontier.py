"""The frontier panel: contract, a budget that moves without a new drawing, and answers that agree with theory."""

import asyncio

import numpy as np
import pytest

import workbench
from workbench.panels import base as base_module
from workbench.panels import frontier as module
from workbench.panels.frontier import FrontierPanel, panel
from workbench.panels.shared import shared
from workbench.testing.panels import PanelContract, example_runs

pytestmark = pytest.mark.long  # sweeps of fits

#: The law that made the example runs: N_opt ~ C^a with a = beta / (alpha + beta).
A, B, ALPHA, BETA, FLOOR = 400.0, 1100.0, 0.34, 0.36, 1.7


def best_size(flops):
    """Closed form of Hoffmann et al. 2022, eq. 4, from the constants of the example runs."""
    g = (ALPHA * A / (BETA * B)) ** (1 / (ALPHA + BETA))
    return g * (flops / 6) ** (BETA / (ALPHA + BETA))


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    """Ends of intervals to two digits are not what is tested here."""
    monkeypatch.setattr(module, "RESAMPLES", 100)


@pytest.fixture(scope="module")
def runs():
    return example_runs()


@pytest.fixture
def bench():
    return FrontierPanel(example_runs())


def drawn(bench):
    namespace = {"runs": bench.runs}
    exec(bench.code(), namespace)
    return namespace["figure"].to_dict()


class TestContract(PanelContract):
    def panel(self, runs):
        return FrontierPanel(runs)


def test_approach_3_recovers_the_law_at_every_budget(bench):
    for flops in (1e17, 1e19, 3e20):
        bench.controls.budget.value = flops
        row = bench.table().set_index("approach").loc["3 parametric"]
        size = best_size(flops)
        assert row["params_low"] < size < row["params_high"]
        assert row["params"] == pytest.approx(size, rel=0.1)
        assert row["tokens"] * row["params"] * 6 == pytest.approx(flops, rel=1e-6)
        assert row["tokens_per_param"] == pytest.approx(row["tokens"] / row["params"], rel=1e-9)
        assert row["a_low"] < BETA / (ALPHA + BETA) < row["a_high"]
        loss = FLOOR + A * size**-ALPHA + B * (flops / 6 / size) ** -BETA
        assert row["loss_low"] < loss < row["loss_high"]


def test_a_moving_budget_sends_rows_and_no_new_drawing(bench):
    before, rows = bench.chart.spec, dict(bench.chart.data)
    bench.controls.budget.value = 3e18
    assert bench.state.budget == 3e18
    assert bench.chart.spec is before
    changed = {name.rpartition("_")[0] or name for name in rows if rows[name] != bench.chart.data[name]}
    assert changed == {"budget", "spots", "slice", "least", "allocations"}
    assert "3e18 FLOP" in bench.results.value
    assert drawn(bench) == bench.figure().to_dict()
    # what the live view shows is what the figure of this state would show
    live = bench.chart.data
    bench._draw()
    assert bench.chart.data.keys() == live.keys()
    for name in live:
        assert [list(r.values()) for r in bench.chart.data[name]] == [list(r.values()) for r in live[name]], name
    assert bench.chart.spec == before


def test_dragging_in_the_chart_and_the_slider_are_one_value(bench):
    bench.chart.selected = {"budget": {"x": [4.2e18]}}  # as the browser does
    assert bench.controls.budget.value == bench.state.budget == 4.2e18
    assert "4.2e18 FLOP" in bench.results.value


def test_controls_end_in_the_code(bench):
    c = bench.controls
    c.method.value = "parabola"
    c.law.value = "chinchilla_tied"
    c.where.value = "tokens > 3e7"
    assert bench.state.method == "parabola" and bench.state.law == "chinchilla_tied"
    assert bench.found.isoflop.method == "parabola"
    by_hand = workbench.approaches(
        bench.runs, law="chinchilla_tied", where="tokens > 3e7", at=bench.reach, n=module.RESAMPLES,
        isoflop_options={"method": "parabola"},
    )  # fmt: skip
    assert bench.found.frame["a"].to_numpy() == pytest.approx(by_hand.frame["a"].to_numpy(), nan_ok=True)
    assert drawn(bench) == bench.figure().to_dict()


def test_an_expression_that_leaves_nothing_is_refused_and_the_panel_goes_on(bench):
    before = bench.results.value
    bench.controls.where.value = "tokens > 1e30"
    assert "still shows the last answer" in bench.message.value
    assert bench.state.where is None and bench.results.value == before
    bench.controls.where.value = ""
    assert bench.message.value == ""


def test_runs_are_clicked_marked_and_left_out_in_all_panels_on_the_table(bench):
    other = FrontierPanel(bench.runs)
    bench.controls.out.click()
    assert "click some runs" in bench.message.value
    bench.chart.selected = {"pick": {"run": ["run 30", "run 31"]}}
    assert shared(bench.runs).marked == ("run 30", "run 31")
    assert {r["run"] for r in other.chart.data["marked_0"]} == {"run 30", "run 31"}
    assert drawn(bench) == bench.figure().to_dict()
    bench.controls.out.click()
    assert bench.state.left_out == other.state.left_out == ("run 30", "run 31")
    assert bench.found.fit.n_runs == other.found.fit.n_runs == 34
    assert "2 taken out by hand (hollow)" in workbench.figures.text(other.figure())
    assert drawn(other) == other.figure().to_dict()
    other.controls.back.click()
    assert bench.state.left_out == () and bench.found.fit.n_runs == 36
    bench.controls.run.value = "run 3"
    assert other.state.left_out == ("run 3",)


def test_in_a_notebook_the_analysis_waits_for_the_hand_and_runs_beside_it(bench, monkeypatch):
    monkeypatch.setattr(base_module, "PAUSE", 0.05)
    calls = []
    carried_out = module.approaches
    monkeypatch.setattr(module, "approaches", lambda *a, **k: calls.append(1) or carried_out(*a, **k))

    async def hand():
        for where in ("tokens > 2.5e7", "tokens > 3e7", "tokens > 4e7"):
            bench.controls.where.value = where
            await asyncio.sleep(0.01)
        assert bench.state.where is None, "nothing is computed while the hand moves"
        await asyncio.sleep(0.08)
        bench.controls.budget.value = 5e18  # answered from what is there while the other is computed
        assert bench.state.budget == 5e18
        for _ in range(400):
            await asyncio.sleep(0.05)
            if bench.state.where is not None:
                break

    asyncio.run(hand())
    assert len(calls) == 1
    assert bench.state.where == "tokens > 4e7" and bench.state.budget == 5e18
    assert bench.found.fit.n_runs == int((bench.runs["tokens"] > 4e7).sum())
    assert bench.progress.value == ""


def test_runs_of_one_length_have_no_envelope_and_the_others_answer():
    table = example_runs()
    flops = np.geomspace(1e15, 1e17, 4)[:, None]
    size = np.geomspace(1e6, 1e8, 9)[None, :] * np.array([1, 1.07, 1.14, 1.21])[:, None]  # no size trained twice
    data = flops / 6 / size
    loss = FLOOR + A * size**-ALPHA + B * data**-BETA
    frame = table.frame.iloc[[0] * 36].drop(columns="problem").reset_index(drop=True)
    frame = frame.assign(run=[f"r{i}" for i in range(36)], params=np.broadcast_to(size, data.shape).ravel(),
                         tokens=data.ravel(), flops=np.repeat(flops.ravel(), 9), loss=loss.ravel())  # fmt: skip
    bench = FrontierPanel(workbench.load(frame.drop(columns="tokens_per_param")))
    table = bench.table().set_index("approach")
    assert np.isnan(table.loc["1 envelope", "params"]) and table.loc["1 envelope", "note"]
    assert table.loc["3 parametric", "params"] == pytest.approx(best_size(bench.state.budget), rel=1e-3)
    assert "no answer" in bench.results.value
    assert drawn(bench) == bench.figure().to_dict()


def test_panel_takes_settings_and_names_a_wrong_one(runs):
    assert panel(runs, budget=1e18, method="cubic").state.method == "cubic"
    with pytest.raises(ValueError, match="no setting 'bugdet'"):
        panel(runs, bugdet=1)


def test_what_another_panel_leaves_out_is_computed_without_in_a_notebook_too(bench, monkeypatch):
    monkeypatch.setattr(base_module, "PAUSE", 0.05)
    other = FrontierPanel(bench.runs)

    async def hand():
        other.state = other.state.replace(left_out=("run 30",))
        for _ in range(400):
            await asyncio.sleep(0.05)
            if bench.found.fit.n_runs == 35 and other.found.fit.n_runs == 35:
                break

    asyncio.run(hand())
    assert bench.state.left_out == other.state.left_out == ("run 30",)
    assert bench.found.fit.n_runs == other.found.fit.n_runs == 35
    assert drawn(bench) == bench.figure().to_dict()
