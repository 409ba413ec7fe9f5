"""The compare panel: contract, laws and groups against the library, sliders without fits, and several tables."""

import asyncio

import numpy as np
import pandas as pd
import pytest

import workbench
from workbench.analysis.shift import shift
from workbench.panels import base as base_module
from workbench.panels.compare import ComparePanel, panel
from workbench.testing.panels import HOSTILE, PanelContract, example_runs

A, B = (10.0, 0.05), (15.3, 0.06)  # two power laws of compute, which cross at 3e18 FLOP


@pytest.fixture(scope="module")
def runs():
    return example_runs()


@pytest.fixture(scope="module")
def recipes():
    return two_recipes()


def two_recipes(names=("adam", "sgd"), noise=2e-4):
    """Two pure power laws with little noise: every answer is known in closed form."""
    rng = np.random.default_rng(2)
    x = np.geomspace(1e17, 1e20, 12)
    parts = [
        pd.DataFrame({"recipe": name, "flops": x, "loss": a * x**-b * np.exp(noise * rng.standard_normal(x.size))})
        for name, (a, b) in zip(names, (A, B), strict=True)
    ]
    frame = pd.concat(parts, ignore_index=True)
    return workbench.load(frame.assign(run=[f"run {i}" for i in range(len(frame))]))


def grouped(table, **more):
    return panel(table, by="recipe", law="power", x="flops", **more)


def drawn(bench, runs):
    namespace = {"runs": runs}
    exec(bench.code(), namespace)
    return namespace


class TestContract(PanelContract):
    def panel(self, runs):
        return ComparePanel(runs)


class TestGroupsContract(PanelContract):
    def panel(self, runs):
        return panel(runs, by="params", law="power_constant", x="tokens")


def test_laws_are_those_of_compare(runs):
    bench = panel(runs, holdout="15 %")
    by_hand = workbench.compare(runs, holdout=0.15)
    pd.testing.assert_frame_equal(bench.table(), by_hand.frame)
    best = by_hand.frame.iloc[0]
    assert f"{100 * best['heldout_error']:.2g}"[:3] in bench.results.value and "held-out error" in bench.results.value
    assert "What the columns mean" in bench.results.value
    for view in ("side by side", "errors", "overlaid"):
        bench.controls.view.value = view
        assert drawn(bench, runs)["figure"].to_dict() == bench.figure().to_dict()
    bench.controls.laws.value = ("chinchilla", "kaplan")
    assert list(bench.found.comparison.fits) == ["chinchilla", "kaplan"]
    bench.controls.laws.value = ()
    assert "select at least one" in bench.message.value and bench.state.laws == ("chinchilla", "kaplan")


def test_curves_are_those_of_the_fits(runs):
    bench = panel(runs, at=3e6)
    rows = pd.DataFrame(bench.chart.data["lines"])
    for law, fit in bench.found.comparison.fits.items():
        own = rows[rows["law"] == fit.law.title]
        columns = {"params": 3e6, "tokens": own["x"].to_numpy(), "flops": 18e6 * own["x"].to_numpy()}
        columns["tokens_per_param"] = columns["tokens"] / 3e6
        x = {s: np.broadcast_to(columns[c], len(own)) for s, c in fit.points.columns.items()}
        assert own["y"].to_numpy() == pytest.approx(
            np.broadcast_to(fit.law.predict(fit.theta, x or {"x": 1.0}), len(own)), rel=1e-4
        ), law


def test_the_crossing_and_the_multiplier_of_two_power_laws_are_known(recipes):
    bench = grouped(recipes)
    cross = bench.found.cross
    at = (B[0] / A[0]) ** (1 / (B[1] - A[1]))
    assert cross.low <= at <= cross.high and cross.at == pytest.approx(at, rel=0.05)
    assert f"sgd overtakes adam at {cross.at:.3g}".replace("e+", "e") in bench.results.value
    bench.controls.value.value = 1.2
    value = bench.state.value
    a, b = ((c / value) ** (1 / e) for c, e in (A, B))
    found = bench._shift()
    assert found.multiplier == pytest.approx(b / a, rel=0.03) and found.low <= b / a <= found.high
    assert found.low < found.multiplier < found.high
    assert "exponent" in bench.results.value or "alpha differs" in bench.results.value
    assert bench.found.equal.rejected, "exponents 0.05 and 0.06 at noise 0.0002"
    assert drawn(bench, recipes)["figure"].to_dict() == bench.figure().to_dict()


def test_shift_is_the_multiplier_of_the_library(recipes):
    fits = {g: workbench.fit(recipes.where(f"recipe == '{g}'"), "power", x="flops") for g in ("adam", "sgd")}
    cross = workbench.crossover(fits["adam"], fits["sgd"], labels=["adam", "sgd"], n=200)
    once = shift(cross.a, cross.b, n=200)
    for value in (1.1, 1.3):
        row = workbench.multiplier(fits["adam"], fits["sgd"], at=value, n=200).frame.iloc[0]
        found, quick = once.at(value), once.at(value, quick=True)
        for name in ("multiplier", "low", "high", "never"):
            assert getattr(found, name) == pytest.approx(row[name], rel=1e-9)
            assert getattr(quick, name) == pytest.approx(row[name], rel=1e-3)
    far = once.at(1e-9)
    assert not np.isfinite(far.multiplier) and "does not reach" in far.sentence("adam", "sgd")


def test_turning_the_pair_inverts_the_multiplier_without_new_fits(recipes, monkeypatch):
    bench = grouped(recipes)
    first, fits = bench._shift().multiplier, bench.found.fits
    value = bench._value()
    monkeypatch.setattr("workbench.panels.compare_answer.fit", None)
    bench.state = bench.state.replace(pair=("sgd", "adam"), value=value)
    assert bench.found.pair == ("sgd", "adam") and bench.found.fits["adam"] is fits["adam"]
    assert bench._shift().multiplier == pytest.approx(1 / first, rel=1e-6)
    bench.controls.first.value = bench.controls.second.value
    assert "not compared with itself" in bench.message.value and bench.found.pair == ("sgd", "adam")


def test_a_moving_slider_sends_rows_and_no_drawing(recipes, runs, monkeypatch):
    monkeypatch.setattr(base_module, "PAUSE", 0.05)
    groups, laws = grouped(recipes), panel(runs)

    async def drag():
        for bench, slider, view in ((groups, groups.controls.value, "arrow"), (laws, laws.controls.at, "lines")):
            spec, seen = bench.chart.spec, []
            start = slider.value
            for factor in (1.02, 1.04, 1.06):
                slider.value = start * factor
                assert bench.chart.spec is spec
                seen.append(bench.chart.data[view][0])
            assert seen[0] != seen[1] != seen[2]
            await asyncio.sleep(0.5)

    asyncio.run(drag())
    at = groups._shift()
    row = groups.chart.data["arrow"][0]
    assert (row["x"], row["x2"]) == (pytest.approx(at.a, rel=1e-4), pytest.approx(at.b, rel=1e-4))


def test_brushed_runs_are_left_out_and_marked_everywhere(recipes):
    table = two_recipes()
    bench, other = grouped(table), workbench.fit(table, "power", x="flops").panel()
    bench.controls.out.click()
    assert "drag over some points" in bench.message.value
    bench.brushed("brush", {"x": [5e19, 2e20]})
    bench.controls.mark.click()
    big = table.frame["run"][table.frame["flops"] > 5e19].tolist()
    assert sorted(bench.shared.marked) == sorted(big)
    assert f"{len(big)} marked" in workbench.figures.text(bench.figure())
    assert drawn(bench, table)["figure"].to_dict() == bench.figure().to_dict()
    bench.brushed("brush", {"x": [5e19, 2e20]})
    bench.controls.out.click()
    assert sorted(bench.state.left_out) == sorted(big)
    assert {f.n_runs for f in bench.found.fits.values()} == {12 - len(big) // 2}
    assert drawn(bench, table)["figure"].to_dict() == bench.figure().to_dict()
    if other.shared is not None:
        assert sorted(other.state.left_out) == sorted(big)
    bench.controls.back.click()
    assert bench.shared.left_out == () == bench.shared.marked


def test_a_group_that_cannot_be_fitted_is_named_and_left_out():
    table = two_recipes()
    frame = pd.concat([table.frame.drop(columns="problem"), pd.DataFrame(
        {"run": ["lone"], "recipe": ["<b>lone</b>"], "flops": [1e18], "loss": [1.3]})], ignore_index=True)  # fmt: skip
    runs = workbench.load(frame)
    bench = grouped(runs)
    assert set(bench.found.fits) == {"adam", "sgd"}
    assert "lone" in bench.results.value and "<b>lone" not in bench.results.value
    assert drawn(bench, runs)["figure"].to_dict() == bench.figure().to_dict()


def test_hostile_group_names_stay_text():
    table = two_recipes((HOSTILE[0], HOSTILE[1]))
    bench = grouped(table)
    assert "<script" not in bench.results.value and "<img" not in bench.results.value
    assert drawn(bench, table)["figure"].to_dict() == bench.figure().to_dict()


def test_several_tables_are_groups(recipes):
    tables = {g: recipes.where(f"recipe == '{g}'") for g in ("adam", "sgd")}
    bench = panel(tables, law="power", x="flops")
    assert bench.state.by == "table" and list(bench.found.fits) == ["adam", "sgd"]
    assert bench.found.cross.at == pytest.approx(grouped(recipes).found.cross.at, rel=1e-6)
    assert drawn(bench, bench.runs)["figure"].to_dict() == bench.figure().to_dict()
    with pytest.raises(ValueError, match="at least two"):
        panel({"one": recipes})


def test_panel_of_a_comparison_takes_its_laws(runs):
    bench = panel(workbench.compare(runs, ["chinchilla", "kaplan"], objective="log-mse"))
    assert set(bench.state.laws) == {"chinchilla", "kaplan"} and bench.state.objective == "log-mse"
    with pytest.raises(ValueError, match="no setting 'lwa'"):
        panel(runs, lwa="power")
    with pytest.raises(ValueError, match="choose one of"):
        panel(runs, view="upside down")


def test_in_a_notebook_the_answer_comes_from_a_thread(recipes):
    async def session():
        bench = grouped(recipes)
        assert bench.work.busy and bench.found is None
        while bench.work.busy:
            await asyncio.sleep(0.02)
        assert bench.found is not None and "overtakes" in bench.results.value
        bench.controls.where.value = "(((  nonsense"
        while bench.work.busy:
            await asyncio.sleep(0.02)
        assert bench.message.value and bench.state.where is None
        bench.close()

    asyncio.run(session())
