"""Published numbers: Chinchilla's points as Besiroglu et al. refit them, Gadre et al.'s over-training forecasts.

The values are those of the logs' own README and of the survey of peers beside it; skipped where the logs
are not at hand.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import workbench
from workbench.engine.objective import Objective
from workbench.engine.solver import Problem
from workbench.laws import get

SHARED = Path(__file__).parents[3] / "shared" / "runs"
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason=f"the public run logs are not at {SHARED}")

#: Compute of Chinchilla and Gopher, at which the allocation is asked for (Hoffmann et al. 2022).
BUDGET = 5.88e23
#: Exact optimum of the summed Huber loss on 240 points.
OPTIMUM = 0.0010182740178


@pytest.fixture(scope="module")
def all_points():
    return workbench.load(SHARED / "chinchilla" / "digitised_points.csv")


@pytest.fixture(scope="module")
def points(all_points):
    """The usual cut: without the five highest losses."""
    kept = all_points.where(all_points["loss"] < all_points["loss"].nlargest(5).min())
    assert len(kept) == 240
    return kept


@pytest.fixture(scope="module")
def fitted(points):
    return workbench.fit(points, "chinchilla")


def huber_sum(p: dict[str, float], runs, delta: float = 1e-3) -> float:
    """The objective of Hoffmann et al. 2022, eq. 3, written out again."""
    log_predicted = np.log(p["E"] + p["A"] * runs["params"] ** -p["alpha"] + p["B"] * runs["tokens"] ** -p["beta"])
    r = np.abs(log_predicted - np.log(runs["loss"]))
    return float(np.where(r <= delta, r * r / 2, delta * (r - delta / 2)).sum())


def test_240_points_from_default_starts(fitted, points):
    p = fitted.params
    assert p["E"] == pytest.approx(1.817218, abs=5e-6)
    assert p["alpha"] == pytest.approx(0.347311, abs=2e-6) and p["beta"] == pytest.approx(0.367172, abs=2e-6)
    assert p["A"] == pytest.approx(477.826, rel=1e-4) and p["B"] == pytest.approx(2143.42, rel=1e-4)
    assert fitted.value == pytest.approx(OPTIMUM, rel=1e-8)
    assert huber_sum(p, points) == pytest.approx(OPTIMUM, rel=1e-8)
    assert fitted.diagnostics.converged and fitted.diagnostics.agreeing > 1 and not fitted.diagnostics.unidentified


def test_the_answer_does_not_depend_on_the_seed_of_the_starts(points):
    values = [workbench.fit(points, "chinchilla", seed=seed).value for seed in (1, 2, 3)]
    assert values == pytest.approx([OPTIMUM] * 3, rel=1e-8)


def test_all_245_points_tell_another_story(all_points, fitted):
    everything = workbench.fit(all_points, "chinchilla")
    p = everything.params
    assert everything.n_runs == 245
    assert (round(p["alpha"], 3), round(p["beta"], 3), round(p["E"], 3)) == (0.349, 0.453, 1.891)
    ratios = [f.plan(BUDGET, n=50).frame["tokens_per_param"][0] for f in (fitted, everything)]
    assert [round(r) for r in ratios] == [18, 7]


def test_published_parameters_of_hoffmann_rounded_and_not(points):
    rounded = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}
    tex = {"E": np.exp(0.5267228), "A": np.exp(6.0073404), "B": np.exp(6.0179186), "alpha": 0.33917084}
    tex["beta"] = 0.2849083
    law = get("chinchilla")
    x = {"N": points["params"].to_numpy(), "D": points["tokens"].to_numpy()}
    problem = Problem(law, x, points["loss"].to_numpy(), np.ones(240), Objective("log-huber", 1e-3), {}, {})
    values = problem.values(np.array([[p[s] for s in law.symbols] for p in (rounded, tex)]))
    assert values == pytest.approx([0.00412, 0.00123], abs=5e-6)
    assert values == pytest.approx([huber_sum(p, points) for p in (rounded, tex)], rel=1e-10)


def test_bootstrap_standard_errors_and_intervals(fitted):
    draws = pd.DataFrame(fitted.draws(4000), columns=fitted.law.symbols)
    # 4000 resamples know a standard error to 1 %, its published value to as much again
    assert draws["alpha"].std() == pytest.approx(0.0154, rel=0.05)
    assert draws["beta"].std() == pytest.approx(0.0206, rel=0.05)
    assert draws["E"].std() == pytest.approx(0.02566, rel=0.05)
    published = {"alpha": (0.317, 0.373), "beta": (0.331, 0.415), "E": (1.769, 1.871)}
    table = fitted.intervals("bootstrap", n=4000)
    for symbol, ends in published.items():
        assert (table["low"][symbol], table["high"][symbol]) == pytest.approx(ends, abs=0.004), symbol
    share = draws["beta"] / (draws["alpha"] + draws["beta"])
    assert np.percentile(share, [10, 90]) == pytest.approx([0.491, 0.543], abs=0.004)


def test_least_squares_on_logarithms_with_standard_errors(points):
    fitted = workbench.fit(points, "chinchilla", objective="log-mse")
    p = fitted.params
    assert p["E"] == pytest.approx(1.8645, abs=1e-4)
    assert (p["alpha"], p["beta"]) == pytest.approx((0.3603, 0.4059), abs=5e-5)
    assert p["A"] == pytest.approx(593.3, rel=1e-3) and p["B"] == pytest.approx(4875, rel=1e-3)
    table = fitted.intervals("jacobian", level=0.95)
    t = 1.97011  # Student's 97.5 % quantile at 235 degrees of freedom
    for symbol, error in {"alpha": 0.0105, "beta": 0.0091}.items():
        half = (np.log(table["high"][symbol]) - np.log(table["low"][symbol])) / 2  # the fit walks log alpha
        assert half / t * p[symbol] == pytest.approx(error, abs=1e-4)


def test_least_squares_on_losses(points):
    fitted = workbench.fit(points, "chinchilla", objective="mse")
    p = fitted.params
    assert p["E"] == pytest.approx(1.8828, abs=5e-5)
    assert (p["alpha"], p["beta"]) == pytest.approx((0.3576, 0.4276), abs=5e-5)
    assert p["A"] == pytest.approx(567.8, rel=1e-3) and p["B"] == pytest.approx(7581.9, rel=1e-3)
    assert 2 * fitted.value == pytest.approx(0.0832038, abs=5e-8)  # residual sum of squares


def test_least_absolute_deviations(points):
    fitted = workbench.fit(points, "chinchilla", objective="log-mae")
    p = fitted.params
    assert p["E"] == pytest.approx(1.816864, abs=2e-6)
    assert (p["alpha"], p["beta"]) == pytest.approx((0.347813, 0.365854), abs=2e-6)
    assert p["A"] == pytest.approx(482.006, abs=0.01) and p["B"] == pytest.approx(2085.436, abs=0.1)
    assert int((np.abs(fitted.residuals) < 1e-9).sum()) == 5  # the optimum is a corner


def test_the_objective_alone_moves_the_allocation(points, fitted):
    share = {}
    for objective in ("log-huber", "log-mse", "mse"):
        p = workbench.fit(points, "chinchilla", objective=objective).params
        share[objective] = p["beta"] / (p["alpha"] + p["beta"])
    assert [round(v, 4) for v in share.values()] == [0.5139, 0.5298, 0.5446]


def test_criteria_of_rival_laws(points):
    """AIC = n log(RSS / n) + 2 k, the noise's scale counted as a parameter."""
    rivals = {"chinchilla": {}, "chinchilla_tied": {}, "no floor": {"fixed": {"E": 0.0}}}
    aic, bic, k = {}, {}, {}
    for name, options in rivals.items():
        law = "chinchilla" if name == "no floor" else name
        fitted = workbench.fit(points, law, objective="log-mse", **options)
        k[name] = len(fitted.problem.free) + 1
        aic[name] = 240 * np.log(2 * fitted.value / 240) + 2 * k[name]
        bic[name] = aic[name] + k[name] * (np.log(240) - 2)
    assert aic == pytest.approx({"chinchilla": -2375.8, "chinchilla_tied": -2367.5, "no floor": -1986.6}, abs=0.06)
    assert bic["chinchilla"] == pytest.approx(-2355.0, abs=0.06)
    assert bic["chinchilla_tied"] == pytest.approx(-2350.0, abs=0.06)
    # the comparison's own columns are the same up to a constant, and corrected for the sample's size
    frame = workbench.compare(points, ["chinchilla", "chinchilla_tied"], objective="log-mse").frame.set_index("law")
    corrected = {name: aic[name] + 2 * k[name] * (k[name] + 1) / (240 - k[name] - 1) for name in frame.index}
    difference = corrected["chinchilla_tied"] - corrected["chinchilla"]
    assert frame["delta_aicc"]["chinchilla_tied"] == pytest.approx(difference, abs=1e-6)
    assert frame["delta_bic"]["chinchilla_tied"] == pytest.approx(bic["chinchilla_tied"] - bic["chinchilla"], abs=1e-6)


def test_two_ways_to_tie_are_one(points):
    tied = workbench.fit(points, "chinchilla_tied")
    same = workbench.fit(points, "chinchilla", tied={"beta": "alpha"})
    assert same.value == pytest.approx(tied.value, rel=1e-9)
    assert same.params["alpha"] == same.params["beta"] == pytest.approx(tied.params["alpha"], rel=1e-6)


def test_a_subset_of_the_points_by_another_reader_agrees(points):
    """kyo-takano's 234 of the same points, with D given instead of derived."""
    runs = workbench.load(SHARED / "chinchilla" / "kyo_takano_points.csv")
    fitted = workbench.fit(runs, "chinchilla")
    assert fitted.n_runs == 234
    assert fitted.value == pytest.approx(huber_sum(fitted.params, runs), rel=1e-9)
    low, high = workbench.fit(points, "chinchilla").intervals("profile", level=0.99).loc["alpha", ["low", "high"]]
    assert low < fitted.params["alpha"] < high


@pytest.fixture(scope="module")
def over_training():
    """Gadre et al.'s 35 models; their tokens per parameter are 20 times the multiplier in the name."""
    path = SHARED / "over_training" / "models" / "*.json"
    runs = workbench.load(str(path), columns={"loss": "results[c4_val].loss"})
    return runs.derive(tokens_per_param=20 * runs["hyperparameters.chinchilla_multiplier"])


def test_over_training_forecasts(over_training):
    """Fitted on five small runs by plain least squares, as its authors do; larger runs within a percent."""
    names = ["d=96_l=8_h=4-1.0", "d=512_l=8_h=4-1.0", "d=576_l=24_h=8-1.0", "d=1024_l=24_h=8-1.0", "d=96_l=8_h=4-16.0"]
    small = over_training.where(over_training["run"].isin([f"rpj-{name}" for name in names]))
    fitted = workbench.fit(small, "over_training", objective="mse")
    p = fitted.params
    assert fitted.n_runs == 5 and p["E"] == pytest.approx(1.83665, abs=5e-6)
    assert p["eta"] == pytest.approx(0.27285 / 2, abs=5e-6)
    assert p["a"] / 6 ** p["eta"] == pytest.approx(166.21, abs=0.005) and p["b"] == pytest.approx(366.69, abs=0.005)
    large = over_training.where("run == 'rpj-open_lm_1b-32.0' or run == 'rpj-open_lm_7b-1.0'")
    said = fitted.predict(large, n=50)
    errors = 100 * np.abs(said["prediction"] / large["loss"] - 1)
    assert list(errors) == pytest.approx([0.7103, 0.7320], abs=5e-5)
    assert said["extrapolation"].min() > 100, "both lie far beyond the fitted runs, and the table says so"
    # one degree of freedom: no interval is to be taken at its word
    assert any("5 runs for 4 free parameters" in w for w in fitted.diagnostics.warnings)


def test_a_free_fit_to_all_small_runs_extrapolates_worse(over_training):
    small = over_training.where("params < 5e8")
    fitted = workbench.fit(small, "chinchilla")
    large = over_training.where("run == 'rpj-open_lm_7b-1.0'")
    said = fitted.law.predict(fitted.theta, {"N": large["params"].to_numpy(), "D": large["tokens"].to_numpy()})
    assert fitted.n_runs == 32
    assert 100 * float(said[0] / large["loss"][0] - 1) == pytest.approx(-3.0, abs=0.05)
