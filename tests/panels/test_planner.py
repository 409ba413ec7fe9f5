"""The planner: contract, plans that agree with closed forms, honest limits, and probes handed over."""

import numpy as np
import pandas as pd
import pytest

import workbench
from workbench.analysis.costs import SIX_ND, InferenceCost
from workbench.analysis.planning import Hardware, along_sizes, bill, next_probes, served
from workbench.panels import planner as module
from workbench.panels.planner import PlannerPanel, panel
from workbench.probes import Probe, Sweep
from workbench.testing.panels import PanelContract, example_runs

A, B, ALPHA, BETA, FLOOR = 400.0, 1100.0, 0.34, 0.36, 1.7


def best_size(flops):
    """Closed form of Hoffmann et al. 2022, eq. 4, from the constants of the example runs."""
    return (ALPHA * A / (BETA * B)) ** (1 / (ALPHA + BETA)) * (flops / 6) ** (BETA / (ALPHA + BETA))


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    """Ends of intervals to two digits are not what is tested here."""
    monkeypatch.setattr(module, "RESAMPLES", 100)


@pytest.fixture
def bench():
    return PlannerPanel(example_runs())


@pytest.fixture(scope="module")
def fit():
    return workbench.fit(example_runs(), "chinchilla")


def drawn(bench):
    namespace = {"runs": bench.runs}
    exec(bench.code(), namespace)
    return namespace["figure"].to_dict()


class TestContract(PanelContract):
    def panel(self, runs):
        return PlannerPanel(runs)


def test_plan_is_the_closed_form_and_its_interval_holds_the_truth(bench):
    for flops in (1e18, 1e20):
        bench.controls.budget.value = flops
        row, size = bench.table().iloc[0], best_size(flops)
        assert row["params_low"] < size < row["params_high"]
        loss = FLOOR + A * size**-ALPHA + B * (flops / 6 / size) ** -BETA
        assert row["loss_low"] < loss < row["loss_high"]


def test_money_buys_what_a_hand_calculation_says(bench):
    c = bench.controls
    c.kind.value = True
    c.money.value, c.price.value, c.peak.value, c.utilisation.value = 1e4, 2.5, 4e14, 0.5
    hours = 1e4 / 2.5
    assert bench.table()["flops"].iloc[0] == pytest.approx(hours * 3600 * 2e14, rel=1e-9)
    assert c.money.layout.display == "" and c.budget.layout.display == "none"
    hardware = Hardware(2.5, 4e14, 0.5)
    costs = bill(bench.plan, hardware, gpus=10)
    assert costs.loc["total", "gpu_hours"] == pytest.approx(hours, rel=1e-6)
    assert costs.loc["total", "money"] == pytest.approx(1e4, rel=1e-6)
    assert costs.loc["total", "days"] == pytest.approx(hours / 240, rel=1e-6)
    assert drawn(bench) == bench.figure().to_dict()


def test_serving_is_paid_from_the_same_budget_at_its_own_utilisation(fit):
    hardware = Hardware(2.0, 1e15, 0.4)
    cost = served(1e10, hardware, 0.1)
    assert isinstance(cost, InferenceCost) and cost.served == pytest.approx(4e10)
    assert served(0, hardware) is SIX_ND
    plan = workbench.frontier(fit, 1e19, cost=cost, n=50)
    costs = bill(plan, hardware, serve_utilisation=0.1)
    row = plan.frame.iloc[0]
    assert costs.loc["serving", "flops"] == pytest.approx(2 * row["params"] * 1e10)
    assert costs.loc["serving", "gpu_hours"] == pytest.approx(2 * row["params"] * 1e10 / (1e15 * 0.1) / 3600)
    assert costs.loc["total", "gpu_hours"] == pytest.approx(hardware.hours(1e19), rel=1e-6)
    assert row["params"] < best_size(1e19), "a model that is used is smaller"


def test_each_token_once_is_the_best_model_on_all_the_data(bench):
    flops = 1e20
    unlimited = flops / 6 / best_size(flops)
    bench.state = bench.state.replace(budget=flops, data="once", unique=unlimited / 4)
    row = bench.table().iloc[0]
    assert row["tokens"] == pytest.approx(unlimited / 4, rel=1e-3)
    assert row["params"] == pytest.approx(flops / 6 / (unlimited / 4), rel=1e-3)
    assert drawn(bench) == bench.figure().to_dict()
    bench.state = bench.state.replace(unique=unlimited * 10)
    assert bench.table()["params"].iloc[0] == pytest.approx(best_size(flops), rel=0.1), "a limit that does not bind"
    with_repeats = bench.state.replace(unique=unlimited / 4, data="assumed")
    bench.state = with_repeats
    assert unlimited / 4 < bench.table()["tokens"].iloc[0] < unlimited
    bench.state = with_repeats.replace(data="fitted")
    assert "repeat tokens" in bench.message.value and bench.state == with_repeats


def test_loss_along_sizes_is_the_law_at_equal_cost(fit):
    sizes = np.geomspace(1e7, 1e9, 7)
    cost = InferenceCost(1e9)
    rows = along_sizes(fit, 1e19, sizes, cost=cost, n=50)
    tokens = (1e19 - 2 * rows["params"] * 1e9) / (6 * rows["params"])
    p = fit.params
    law = p["E"] + p["A"] * rows["params"] ** -p["alpha"] + p["B"] * tokens ** -p["beta"]
    assert rows["loss"].to_numpy() == pytest.approx(law.to_numpy(), rel=1e-9)
    assert (rows["low"] < rows["loss"]).all() and (rows["loss"] < rows["high"]).all()
    assert along_sizes(fit, 1e10, np.array([1e9]), cost=cost, n=50).empty, "serving alone costs more"


def test_suggested_probes_narrow_as_much_as_running_them_does():
    """The promised half width against refits with the chosen runs added, from the law that made the runs."""
    rng = np.random.default_rng(0)
    runs = example_runs()
    fit = workbench.fit(runs, "chinchilla", objective="log-mse")
    answer = next_probes(fit, 1e21, "loss", budget=3e19, n=3)
    place = answer.chosen
    assert place["flops"].sum() <= 3e19
    assert place["half_width"].is_monotonic_decreasing
    extra = pd.DataFrame({"run": [f"new {i}" for i in range(len(place))], **place[["params", "tokens"]]})
    extra["flops"] = 6 * extra["params"] * extra["tokens"]
    extra["loss"] = (FLOOR + A * extra["params"] ** -ALPHA + B * extra["tokens"] ** -BETA) * np.exp(
        0.003 * rng.standard_normal(len(extra))
    )
    more = workbench.load(pd.concat([runs.frame, extra]).drop(columns=["problem", "tokens_per_param"]))
    at = workbench.frontier(fit, 1e21, n=1).frame.iloc[0]
    widths = []
    for table in (runs, more):
        fitted = workbench.fit(table, "chinchilla", objective="log-mse")
        there = fitted.predict(params=at["params"], tokens=at["tokens"], kind="curve", method="jacobian").iloc[0]
        widths.append(np.log(there["high"] / there["low"]) / 2)
    promised = place["half_width"].iloc[-1] / answer.half_width
    assert widths[1] / widths[0] == pytest.approx(promised, rel=0.25)


def test_a_size_that_the_data_limit_sets_needs_no_probes(bench):
    bench.state = bench.state.replace(budget=1e20, data="once", unique=1e9, asked="size")
    assert bench.answer is None and "set by the data limit" in bench.suggested.value
    assert drawn(bench) == bench.figure().to_dict()


def test_probes_are_handed_over_as_a_sweep(bench):
    bench.controls.hand.click()
    assert "base=Probe" in bench.message.value and bench.probes is None
    taken = []
    base = Probe(task="bigram", model="transformer", batch_tokens=4096)
    other = PlannerPanel(bench.runs, base=base, on_probes=taken.append)
    other.controls.probe_budget.value = 1e17
    other.controls.hand.click()
    assert taken == [other.probes] and isinstance(taken[0], Sweep)
    wanted = other.answer.chosen
    assert len(taken[0]) == len(wanted)
    for probe, (_, row) in zip(taken[0], wanted.iterrows(), strict=True):
        assert 1 / 1.5 < probe.params / row["params"] < 1.5
        assert probe.tokens == pytest.approx(row["tokens"], rel=1e-3)
    assert sum(p.flops for p in taken[0]) < 3 * 1e17


def test_probe_panel_opens_below(bench):
    pytest.importorskip("workbench.panels.probes")
    other = PlannerPanel(bench.runs, base=Probe(batch_tokens=4096))
    other.controls.probe_budget.value = 1e17
    other.controls.hand.click()
    (below,) = other.area.children
    assert type(below).__name__ == "ProbePanel" and below.sweep == other.probes
    below.close()


def test_runs_left_out_elsewhere_are_left_out_here(bench):
    other = workbench.panels.FitPanel(bench.runs)
    bench.shared.change(other, left_out=["run 30", "run 31"])
    assert bench.state.left_out == ("run 30", "run 31") and bench.fit.n_runs == 34
    assert drawn(bench) == bench.figure().to_dict()


def test_panel_takes_settings_and_names_a_wrong_one():
    runs = example_runs()
    assert panel(runs, budget=1e18, data="once", unique=1e9).state.data == "once"
    with pytest.raises(ValueError, match="no setting 'bugdet'"):
        panel(runs, bugdet=1)
    for name in ("price", "peak", "utilisation"):
        with pytest.raises(ValueError, match=name):
            Hardware(**{name: 0.0})
