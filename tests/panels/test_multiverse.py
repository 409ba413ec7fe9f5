"""The multiverse panel: contract, switches, questions without fits, the brush, and the thread it calculates in."""

import asyncio
import time

import numpy as np
import pandas as pd
import pytest

import workbench
from workbench.analysis.analyses import Analyses
from workbench.analysis.brushed import in_common, stretch
from workbench.panels import base as base_module
from workbench.panels import multiverse as module
from workbench.panels.multiverse import MultiversePanel, panel
from workbench.panels.multiverse_controls import behind_html
from workbench.panels.work import Stopped, Work, time_left
from workbench.testing.panels import HOSTILE, PanelContract, example_runs

FEW = {"objective": ["log-huber 0.01", "huber 0.001", "mse", "mae"], "subset": ["params > 7.6M", "D/N > 20"]}


@pytest.fixture(scope="module")
def runs():
    return example_runs()


@pytest.fixture(scope="module")
def built(runs):
    return panel(runs)


@pytest.fixture
def bench(built):
    built.state = panel_state(built)
    return built


def panel_state(built):
    return type(built.state)(law="chinchilla", y="loss")


def drawn(bench, runs):
    namespace = {"runs": runs}
    exec(bench.code(), namespace)
    return namespace


class TestContract(PanelContract):
    def panel(self, runs):
        return MultiversePanel(runs)


def test_the_panel_is_the_library(bench, runs):
    by_hand = workbench.multiverse(runs, "chinchilla", flops=bench.found.question and 1.1e20)
    pd.testing.assert_frame_equal(bench.found.frame, by_hand.frame)
    assert by_hand.verdict.split(";")[0] in bench.verdict.value


def test_switching_options_off_and_on_refits_nothing_that_shares_points(bench, runs, monkeypatch):
    before = bench.found.frame
    monkeypatch.setattr("workbench.analysis.analyses.fit_family", None)  # any fit would now fail
    for dimension, options in FEW.items():
        for option in options:
            bench.controls.switches[dimension, option].value = False
    assert bench.state.off == FEW
    kept = ~before["objective"].isin(FEW["objective"]) & ~before["subset"].isin(FEW["subset"])
    assert len(bench.found) == kept.sum() == 3 * 4 * 2 * 3
    expected = before[kept].reset_index(drop=True)
    pd.testing.assert_series_equal(bench.found.frame["estimate"], expected["estimate"])
    monkeypatch.undo()
    namespace = drawn(bench, runs)
    assert namespace["figure"].to_dict() == bench.figure().to_dict()
    bench.controls.switches["subset", "D/N > 20"].value = True
    assert len(bench.found) == 3 * 4 * 2 * 4


def test_only_missing_families_are_fitted(runs):
    analyses = Analyses(workbench.fit(runs, "chinchilla"))
    assert analyses.missing({"exponents": ["free"]}) == len(analyses) / 2 == 140
    part = analyses.ask(keep={"exponents": ["free"]})
    assert analyses.missing() == 140 and analyses.missing({"exponents": ["free"]}) == 0
    whole = analyses.ask()
    free = whole.frame[whole.frame["exponents"] == "free"].reset_index(drop=True)
    pd.testing.assert_frame_equal(part.frame[["estimate", "note"]], free[["estimate", "note"]])


def test_every_option_of_a_dimension_off_is_refused(bench):
    bench.controls.switches["exponents", "free"].value = False
    assert bench.found.default["exponents"] == "beta = alpha"
    bench.controls.switches["exponents", "beta = alpha"].value = False
    assert "leave at least one on" in bench.message.value
    assert bench.controls.switches["exponents", "beta = alpha"].value, "the switch goes back"


def test_the_default_moves_when_its_option_is_off_and_keeps_an_interval(bench, runs):
    bench.controls.switches["objective", "log-huber 0.001"].value = False
    row = bench.found.default
    again = workbench.fit(runs, "chinchilla", objective=row["objective"].split()[0], delta=0.01)
    p = again.params
    g = (p["alpha"] * p["A"] / (p["beta"] * p["B"])) ** (1 / (p["alpha"] + p["beta"]))
    n = g * (1.1e20 / 6) ** (p["beta"] / (p["alpha"] + p["beta"]))  # Hoffmann et al. 2022, eq. 4
    assert row["estimate"] == pytest.approx(1.1e20 / 6 / n**2, rel=1e-3)
    assert row["low"] < row["estimate"] < row["high"]


def test_another_question_costs_no_fit(bench, runs, monkeypatch):
    monkeypatch.setattr("workbench.analysis.analyses.fit_family", None)
    bench.controls.question.value = "alpha"
    assert bench.found.default["estimate"] == pytest.approx(bench.found.fit.params["alpha"], rel=1e-6)
    assert bench.controls.place.disabled
    bench.controls.question.value = "loss"
    bench.controls.place.value = 1e21
    m = bench.found
    assert bench.state.at == {"flops": 1e21} and "spent best" in m.question.text
    monkeypatch.undo()
    by_hand = workbench.multiverse(runs, "chinchilla", question="loss", flops=1e21)
    pd.testing.assert_series_equal(by_hand.frame["estimate"], m.frame["estimate"])
    assert drawn(bench, runs)["figure"].to_dict() == bench.figure().to_dict()


def test_a_moving_slider_sends_rows_and_no_drawing(bench, monkeypatch):
    monkeypatch.setattr(base_module, "PAUSE", 0.05)

    async def drag():
        spec, said = bench.chart.spec, []
        for budget in (2e20, 3e20, 4e20):
            bench.controls.place.value = budget
            assert bench.chart.spec is spec
            key = next(k for k in bench.chart.data if k.startswith("default_"))
            said.append(bench.chart.data[key][0]["answer"])
            assert said[-1] == pytest.approx(bench.found.default["estimate"], rel=1e-4)
        await asyncio.sleep(0.4)
        return said

    said = asyncio.run(drag())
    assert len(set(said)) == 3
    assert f"{bench.found.question.text}" in str(bench.chart.spec["title"])


def test_brush_lists_the_fits_and_draws_their_curves(bench, runs):
    m = bench.found
    count = int(m.frame["counted"].sum())
    bench.brushed("brush", {"at": [-0.5, count / 4 - 0.5]})
    assert bench.state.between == (0.0, 25.0)
    rows = stretch(m, 0, 25)
    estimates = m.frame["estimate"].to_numpy()
    assert len(rows) == count // 4
    assert max(estimates[rows]) <= np.sort(estimates[m.frame["counted"]])[count // 4]
    assert f"<b>{len(rows)} analyses</b>" in bench.listed.value
    assert bench.behind.layout.display == "" and bench.behind.spec
    assert drawn(bench, runs)["figure"].to_dict() == bench.figure().to_dict()
    bench.controls.clear.click()
    assert bench.state.between == () and bench.behind.layout.display == "none"


def test_the_keyboard_brushes_with_sliders_that_push_each_other(bench):
    bench.controls.high.value = 30.0
    assert bench.state.between == (0.0, 30.0)
    bench.controls.low.value = 20.0
    assert bench.state.between == (20.0, 30.0)
    bench.controls.low.value = 60.0
    assert bench.state.between == ()


def test_what_moves_it_is_drawn_and_ends_as_code(bench, runs):
    bench.controls.view.value = "what moves it"
    assert "What moves the answer" in workbench.figures.text(bench.figure())
    assert drawn(bench, runs)["figure"].to_dict() == bench.figure().to_dict()


def test_left_out_runs_are_shared_and_refit(runs):
    table = example_runs()
    first, second = panel(table), workbench.fit(table, "chinchilla").panel()
    first.shared.change(second, left_out=("run 0", "run 7"))
    assert first.state.left_out == ("run 0", "run 7")
    assert first.found.fit.n_runs == 34 and "36" not in first.table()["n_runs"].astype(str).to_numpy()
    assert drawn(first, table)["fit"].n_runs == 34
    first.controls.back.click()
    assert first.shared.left_out == () and first.found.fit.n_runs == 36


def test_panel_of_a_fit_starts_from_its_settings(runs):
    fit = workbench.fit(runs, "power_constant", x="tokens", objective="log-mse", where="flops > 1e15").without("run 9")
    bench = panel(fit, question="alpha")
    assert (bench.state.law, bench.state.x, bench.state.left_out) == ("power_constant", "tokens", ("run 9",))
    assert bench.found.default["estimate"] == pytest.approx(fit.params["alpha"], rel=1e-6)
    assert drawn(bench, fit.runs)["figure"].to_dict() == bench.figure().to_dict()
    with pytest.raises(ValueError, match="no setting 'lwa'"):
        panel(runs, lwa="power")


def test_in_a_notebook_the_fits_are_made_in_a_thread_and_can_be_stopped(runs, monkeypatch):
    real, seen = module.Analyses, []

    class Slow(real):
        def fit(self, keep=None, tick=None):
            if self._unfitted(self.rows(keep)) and tick is not None:
                for i in range(100):
                    tick(i / 200, "fitting")
                    time.sleep(0.01)
            seen.append(keep)
            return super().fit(keep, tick)

    monkeypatch.setattr(module, "Analyses", Slow)
    monkeypatch.setattr("workbench.panels.work.EVERY", 0.02)
    monkeypatch.setattr("workbench.panels.work.SOON", 0.1)

    async def session():
        began = time.monotonic()
        bench = panel(runs, off=FEW)
        assert bench.work.busy and bench.found is None, "the constructor does not wait"
        assert "being fitted" in str(bench.figure().to_dict())
        longest, last = 0.0, time.monotonic()
        while "s left" not in bench.controls.progress.value:
            await asyncio.sleep(0.01)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
            assert last - began < 10
        bench.controls.stop.click()
        assert not bench.work.busy and bench.controls.go_on.layout.display == ""
        await asyncio.sleep(0.2)
        assert bench.found is None and not seen, "a stopped calculation ends without a result"
        bench.controls.go_on.click()
        while bench.found is None:
            await asyncio.sleep(0.02)
            assert time.monotonic() - began < 30
        assert bench.controls.stop.layout.display == "none"
        before = bench.found
        bench.controls.where.value = "flops > 1e14"  # another default analysis: fits again
        assert bench.work.busy and bench.found is before, "the old answer stays meanwhile"
        bench.controls.stop.click()
        assert bench.state.where is None and bench.controls.where.value in ("", "flops > 1e14")
        bench.close()

    asyncio.run(session())


def test_an_error_in_the_thread_appears_in_the_panel(runs, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("solver <b>gone</b>")

    async def session():
        monkeypatch.setattr("workbench.analysis.analyses.fit_family", broken)
        bench = panel(runs)
        while bench.work.busy:
            await asyncio.sleep(0.01)
        assert "RuntimeError" in bench.message.value and "<b>gone" not in bench.message.value
        monkeypatch.undo()
        bench.controls.go_on.click()
        while bench.work.busy:
            await asyncio.sleep(0.01)
        assert bench.found is not None and bench.message.value == ""

    asyncio.run(session())


def test_an_overtaken_calculation_is_dropped():
    done = []

    async def session():
        work = Work(lambda fraction, left: None)

        def long(tick):
            for _ in range(500):
                tick(0.5)
                time.sleep(0.005)
            return "long"

        work.start(long, lambda result, error: done.append((result, error)))
        await asyncio.sleep(0.05)
        work.start(lambda tick: "short", lambda result, error: done.append((result, error)))
        began = time.monotonic()
        while work.busy:
            await asyncio.sleep(0.01)
            assert time.monotonic() - began < 2, "the first calculation was not stopped"
        await asyncio.sleep(0.1)

    asyncio.run(session())
    assert done == [("short", None)]
    with pytest.raises(Stopped):
        raise Stopped


def test_time_left_is_the_rule_of_three():
    assert time_left(0.25, 10.0) == pytest.approx(30.0)
    assert time_left(0.25, 0.1) is None and time_left(0.0, 10.0) is None


def test_in_common_counts_options(built):
    m = built.found
    rows = stretch(m, 0, 20)
    table = in_common(m, rows).set_index(["dimension", "option"])
    chosen = m.frame.iloc[rows]
    assert table.loc[("exponents", "free"), "share"] == (chosen["exponents"] == "free").mean()
    overall = m.frame["exponents"][m.frame["counted"]]
    assert table.loc[("exponents", "free"), "overall"] == (overall == "free").mean()
    for _, part in table.groupby("dimension"):
        assert part["share"].sum() == pytest.approx(1) and part["overall"].sum() == pytest.approx(1)
    with pytest.raises(ValueError, match="two percentages"):
        stretch(m, 50, 20)


def test_hostile_columns_stay_text():
    table = example_runs()
    frame = table.frame.rename(columns={"params": HOSTILE[1]}).drop(columns=["problem", "flops"])
    bench = panel(workbench.load(frame), law="power_constant", x=HOSTILE[1])
    assert bench.found is not None
    assert "<img" not in bench.verdict.value and "<img" not in behind_html(bench.found, (0, 100))
