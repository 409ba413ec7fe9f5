"""The law explorer: contract, any law, sliders, terms, the guess, and what a saved notebook keeps of it."""

import asyncio
import json
import time

import numpy as np
import pandas as pd
import pytest

import workbench
from workbench.analysis.guess import judge, misfit
from workbench.figures import text
from workbench.figures.explorer import FIT, NEAR, SUM, explorer, scene
from workbench.laws.base import get, names
from workbench.laws.examples import PUBLISHED, example, ranges, spans
from workbench.laws.expression import OPERATIONS
from workbench.panels import base as base_module
from workbench.panels.explorer import ExplorerPanel, panel
from workbench.panels.explorer_controls import explorable
from workbench.panels.slider import Slider
from workbench.testing.panels import PanelContract, example_runs, walk

MEDIA = "application/vnd.workbench.panel+json"
HOFFMANN = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}
ALL = [n for n in names() if explorable(get(n))]


@pytest.fixture(scope="module")
def runs():
    return example_runs()


@pytest.fixture
def bench(runs):
    return ExplorerPanel(runs)


class TestContract(PanelContract):
    def panel(self, runs):
        return ExplorerPanel(runs)


class TestContractOfALawAlone(PanelContract):
    def panel(self, runs):
        return ExplorerPanel()

    @pytest.mark.parametrize("kind", ["any"])
    def test_poor_tables_give_a_helpful_panel(self, kind):
        assert ExplorerPanel().message.value == ""


def test_it_opens_on_the_published_chinchilla_law():
    assert panel().params == HOFFMANN
    # Hoffmann et al. 2022, their model: 70B parameters and 1.4T tokens
    assert get("chinchilla").predict(HOFFMANN, {"N": 70e9, "D": 1.4e12})[0] == pytest.approx(1.94, abs=0.005)


@pytest.mark.parametrize("name", ALL)
def test_any_law_can_be_explored(name):
    law = get(name)
    at = example(law)
    stage = scene(law)
    drawn = stage.lines(at)
    whole = drawn["y"][drawn["part"] == SUM].to_numpy()
    np.testing.assert_allclose(whole, law.predict(at, stage.grid), rtol=1e-12)
    assert np.isfinite(whole).any() and (whole > 0).any()
    terms = [drawn["y"][drawn["part"] == label].to_numpy() for label in stage.labels]
    if len(terms) > 1:
        np.testing.assert_allclose(sum(terms), whole, rtol=1e-9, atol=1e-9 * np.abs(terms).max())
    for symbol, over in ranges(law, at).items():
        bound = next(p for p in law.parameters if p.symbol == symbol)
        assert bound.low <= over.low <= at[symbol] <= over.high <= bound.high
        assert over.low < over.high and (over.low > 0 or not over.log)


def test_laws_of_schedules_are_not_offered():
    assert {"annealing", "annealing_size", "multi_power"}.isdisjoint(ALL)
    # laws that other tests add are none of the workbench's, and `broken_law` makes more breaks on demand
    shipped = {name for name in names() if type(get(name)).__module__.startswith("workbench.")}
    shipped -= {name for name in shipped if name.startswith("broken_") and name != "broken_2"}
    assert set(ALL) & shipped == shipped - {"annealing", "annealing_size", "multi_power"}
    with pytest.raises(ValueError, match="schedules"):
        panel("multi_power")


def test_published_constants_name_their_laws_parameters():
    assert all(set(values) == set(get(name).symbols) for name, values in PUBLISHED.items())


def test_a_slider_moves_state_line_and_code_together(bench, runs):
    before = bench.chart.data[SUM]
    bench.controls.params["alpha"].value = 0.3
    assert bench.state.params["alpha"] == 0.3 == bench.params["alpha"]
    assert bench.chart.data[SUM] != before
    x = np.array([row["x"] for row in bench.chart.data[SUM]])
    y = np.array([row["y"] for row in bench.chart.data[SUM]])
    by_hand = bench.params["E"] + bench.params["A"] * bench.scene.held["N"] ** -0.3
    by_hand = by_hand + bench.params["B"] * x ** -bench.params["beta"]
    np.testing.assert_allclose(y, by_hand, rtol=2e-5)  # rows carry six digits
    assert '"alpha": 0.3' in bench.code()


def test_sliders_have_the_bounds_of_the_law_and_factors_where_decades_matter(bench):
    sliders = bench.controls.params
    assert list(sliders) == ["E", "A", "B", "alpha", "beta"]
    assert [s.log for s in sliders.values()] == [False, True, True, False, False]
    assert sliders["E"].min == 0 and sliders["alpha"].max <= 20
    assert sliders["A"].max / sliders["A"].min >= 1e3
    for symbol, fitted in bench.fit.params.items():  # the fit can be reached, and is not at an end
        assert sliders[symbol].min < fitted < sliders[symbol].max


def test_held_inputs_choose_the_filled_runs(bench, runs):
    sizes = np.sort(runs.frame["params"].unique())
    bench.controls.held["N"].value = sizes[0]
    told = pd.DataFrame(bench.chart.data["runs"])
    filled = runs.frame.set_index("run").loc[told["run"][told["near"] == "yes"], "params"]
    assert len(filled) == 6 and np.abs(np.log(filled / sizes[0])).max() < np.log(NEAR)
    assert "6 filled" in text(bench.figure())
    y = np.array([row["y"] for row in bench.chart.data[SUM]])
    np.testing.assert_allclose(y, get("chinchilla").predict(bench.params, bench.scene.grid), rtol=2e-5)


def test_the_other_input_can_run_along_the_axis(bench):
    bench.controls.x.value = "N"
    assert list(bench.controls.held) == ["D"] and bench.state.x == "N"
    assert "against parameters" in text(bench.figure())


def test_a_law_of_one_input_runs_along_any_column(runs):
    bench = panel(runs, law="power_constant")
    bench.controls.x.value = "tokens"
    assert bench.state.inputs == {"x": "tokens"} and "training tokens" in text(bench.figure())
    namespace = {"runs": runs}
    exec(bench.code(), namespace)
    assert namespace["figure"].to_dict() == bench.figure().to_dict()


def test_terms_below_zero_are_named_on_a_logarithmic_axis_and_drawn_on_a_linear_one():
    bench = panel("exponential_link")
    assert "not positive" in text(bench.figure())
    bench.controls.log.value = False
    assert "not positive" not in text(bench.figure())
    below = [row["y"] for row in bench.chart.data["terms"] if row["part"].startswith("−k")]
    assert max(below) < 0


def test_guess_then_reveal(bench, runs):
    by_hand = workbench.fit(runs, "chinchilla")
    bench.controls.params["E"].value = 2.0
    assert bench.fit is not None and FIT not in bench.chart.data, "the fit is not shown before"
    assert "fitted" not in bench.table() and "%" in bench.controls.verdict.value
    bench.controls.reveal.click()
    assert bench.state.guess["E"] == 2.0
    table = bench.table()
    for symbol, value in by_hand.params.items():
        assert table.loc[symbol, "fitted"] == pytest.approx(value, rel=1e-4)
        assert table.loc[symbol, "factor"] == pytest.approx(bench.state.guess[symbol] / value, rel=1e-4)
    assert FIT in bench.chart.data and bench.controls.reveal.disabled
    bench.controls.params["E"].value = 1.8
    assert bench.state.guess["E"] == 2.0, "a guess is a guess"
    assert "now" in bench.controls.verdict.value
    namespace = {"runs": runs}
    exec(bench.code(), namespace)
    assert namespace["figure"].to_dict() == bench.figure().to_dict()
    bench.controls.again.click()
    assert bench.state.guess is None and FIT not in bench.chart.data


def test_revealing_without_runs_says_what_is_missing(runs):
    few = ExplorerPanel(runs.where(np.arange(len(runs)) < 3))
    assert "no fit to reveal" in few.message.value and few.controls.reveal.disabled
    few.controls.reveal.click()
    assert "parameters" in few.message.value and few.state.guess is None


def test_changing_the_law_forgets_what_belonged_to_the_old_one(bench):
    bench.controls.params["E"].value = 2.0
    bench.controls.reveal.click()
    bench.controls.law.value = "kaplan"
    assert bench.state.guess is None and bench.state.params == {}
    assert list(bench.controls.params) == list(get("kaplan").symbols)
    assert len(bench.chart.data[SUM]) == len(bench.scene.grid["N"])


def test_wrong_settings_are_refused_and_the_panel_stays(bench):
    before = bench.state
    for wrong in ({"params": {"omega": 1.0}}, {"x": "Q"}, {"held": {"N": -1.0}}, {"guess": {"E": 1.0}}, {"law": "no"}):
        with pytest.raises(ValueError):
            bench.state = before.replace(**wrong)
        assert bench.state == before and bench.figure()
    with pytest.raises(ValueError, match="no setting"):
        panel(lwa="power")


def test_a_value_beyond_a_slider_widens_it(bench):
    bench.state = bench.state.replace(params={"A": 1e9})
    assert bench.controls.params["A"].max >= 1e9 and bench.controls.params["A"].value == 1e9


def test_a_drag_sends_rows_only(bench, monkeypatch):
    """No drawing is compiled and Altair is not asked while the hand moves."""
    full = []
    monkeypatch.setattr(base_module, "PAUSE", 0.05)
    monkeypatch.setattr(ExplorerPanel, "_draw_full", lambda self: full.append(self.params["alpha"]))

    async def drag():
        spec = bench.chart.spec
        for value in np.linspace(0.1, 0.5, 8):
            bench.controls.params["alpha"].value = value
            assert bench.chart.spec is spec
            assert bench.chart.data[SUM][0]["y"] == pytest.approx(
                get("chinchilla").predict(bench.params, bench.scene.grid)[0], rel=1e-5
            )
        await asyncio.sleep(0.3)

    asyncio.run(drag())
    assert full == [0.5]


def test_a_panel_of_a_fit_takes_its_law_column_and_inputs(runs):
    fit = workbench.fit(runs, "power_constant", x="tokens")
    bench = panel(fit)
    assert (bench.state.law, bench.state.inputs) == ("power_constant", {"x": "tokens"})
    assert bench.fit.params == pytest.approx(fit.params, rel=0.01)  # a law that misses, so a flat optimum
    assert get("kaplan").explore().state.law == "kaplan"


def test_every_slider_says_what_its_parameter_means(bench):
    for slider in (w for w in walk(bench) if isinstance(w, Slider)):
        assert slider.description and slider.unit


def test_misfit_and_judge_against_numbers_by_hand(runs):
    fit = workbench.fit(runs, "chinchilla")
    up = dict(fit.params.items())
    up["E"], up["A"], up["B"] = 2 * up["E"], 2 * up["A"], 2 * up["B"]
    log_ratio = np.log(fit.law.predict(fit.params, fit.points.x) / fit.points.y)
    expected = np.sqrt(np.mean((log_ratio + np.log(2)) ** 2))
    assert misfit(fit.law, up, fit.points) == pytest.approx(expected, rel=1e-12)
    judged = judge(fit, up)
    assert judged.frame["factor"].tolist() == pytest.approx([2, 2, 2, 1, 1])
    assert judged.rms_fit == pytest.approx(np.sqrt(np.mean(log_ratio**2)))
    assert misfit(fit.law, {**up, "E": -100.0}, fit.points) == np.inf
    with pytest.raises(ValueError, match="lacks alpha"):
        judge(fit, {s: v for s, v in up.items() if s != "alpha"})


def evaluate(steps, values):
    """A tape, evaluated as its description says and without the code that wrote it."""
    made = []
    for kind, *rest in steps:
        if kind == "argument":
            made.append(values[rest[0]])
        elif kind == "constant":
            made.append(np.asarray(rest[0], dtype=float))
        else:
            made.append(getattr(np, kind)(*(made[i] for i in rest)))
    return made


@pytest.mark.parametrize("name", ALL)
def test_what_is_embedded_gives_the_law_again(name):
    law = get(name)
    bench = panel(name)
    held = bench.embedded()
    if held is None:
        assert name == "resampling_spread", "only a sum of hundreds of terms is too long to be written down"
        return
    assert json.loads(json.dumps(held, allow_nan=False)) == held
    assert {step[0] for step in held["steps"]} <= {"argument", "constant", *OPERATIONS}
    curve = held["curves"][0]
    grid = {s: np.array(v, dtype=float) for s, v in curve["inputs"].items()}
    moved = {s["symbol"]: s["value"] + 0.1 * (s["max"] - s["value"]) for s in held["sliders"]}
    exact = any(step[0] == "constant" and isinstance(step[1], list) for step in held["steps"])
    with np.errstate(all="ignore"):
        y = evaluate(held["steps"], {**grid, **moved})[curve["out"][0]]
        expected = law.predict(moved, bench.scene.grid if exact else grid)
    np.testing.assert_allclose(y, expected, rtol=1e-9)
    assert [row["x"] for row in curve["rows"]] == curve["inputs"][bench.scene.x]
    assert set(held["data"]) >= {c["dataset"] for c in held["curves"]}
    assert set(spans(law)) == set(curve["inputs"])


def test_runs_and_reveal_are_embedded_and_come_out_the_same_twice(bench, runs):
    held = bench.embedded()
    assert len(held["points"]["y"]) == 36 and set(held["points"]["inputs"]) == {"N", "D"}
    assert held["reveal"]["params"] == pytest.approx(bench.fit.params, rel=1e-4)
    data, _ = bench._repr_mimebundle_()
    assert json.loads(data[MEDIA]["panel"]) == json.loads(json.dumps(held)) and held == ExplorerPanel(runs).embedded()
    assert len(json.dumps(held)) < 100_000


def test_many_runs_stay_small():
    rng = np.random.default_rng(0)
    size, data = np.exp(rng.uniform(14, 20, 5000)), np.exp(rng.uniform(18, 24, 5000))
    loss = 1.7 + 400 * size**-0.34 + 1100 * data**-0.36
    began = time.monotonic()
    bench = ExplorerPanel(pd.DataFrame({"params": size, "tokens": data, "loss": loss}))
    assert len(bench.chart.data["runs"]) <= 2000 and "2000 drawn" in text(bench.figure())
    assert len(json.dumps(bench.embedded())) < 700_000
    assert time.monotonic() - began < 60


def test_the_figure_refuses_what_it_cannot_draw(runs):
    with pytest.raises(ValueError, match="lacks alpha, beta"):
        explorer("chinchilla", {"E": 1, "A": 1, "B": 1})
    with pytest.raises(ValueError, match="no input 'Q'"):
        explorer("chinchilla", HOFFMANN, x="Q")
    with pytest.raises(ValueError, match="needs the column"):
        explorer("routed", dict.fromkeys(get("routed").symbols, 1.0), runs=runs)
