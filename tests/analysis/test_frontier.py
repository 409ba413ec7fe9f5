"""Frontiers against closed forms, brute force, published tables, and the three approaches against one truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import workbench
from tests.analysis.designs import BALANCED, LEANING, exponent, isoflop_frame, loss, optimum
from tests.fits.conftest import chinchilla_frame
from workbench.analysis.approaches import approaches
from workbench.analysis.costs import InferenceCost, PowerCost
from workbench.analysis.frontier import frontier
from workbench.analysis.isoflop import isoflop
from workbench.analysis.trend import floored_power, line

SHARED = Path(__file__).parents[3] / "shared" / "runs"
TEX = {"E": np.exp(0.5267228), "A": np.exp(6.0073404), "B": np.exp(6.0179186), "alpha": 0.33917084, "beta": 0.2849083}


@pytest.fixture(scope="module")
def fit():
    return workbench.fit(chinchilla_frame(0), "chinchilla")


@pytest.mark.parametrize(
    "size, flops, tokens",
    [
        (400e6, 2.21e19, 9.2e9),
        (1e9, 1.62e20, 27.1e9),
        (10e9, 2.46e22, 410.1e9),
        (67e9, 1.71e24, 4.1e12),
        (280e9, 3.52e25, 20.1e12),
        (520e9, 1.36e26, 43.5e12),
    ],
)
def test_table_a3_of_hoffmann_et_al(size, flops, tokens):
    # Table A3, approach 3, with the parameters in the paper's TeX source; its FLOP are not quite 6ND:
    # 280B on 20.1T tokens would be 3.38e25.
    row = frontier(("chinchilla", TEX), flops).frame.iloc[0]
    assert row["params"] == pytest.approx(size, rel=0.07) and row["tokens"] == pytest.approx(tokens, rel=0.12)


def test_exponents_published_for_approach_3():
    # Hoffmann et al. 2022, table 2: a = 0.46, b = 0.54; Besiroglu et al. 2024: a = 0.513 from their constants.
    slopes = frontier(("chinchilla", TEX), 1e21).exponents()["exponent"]
    assert (round(slopes["params"], 2), round(slopes["tokens"], 2)) == (0.46, 0.54)
    again = {"E": 1.8172, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658}
    assert frontier(("chinchilla", again), 1e21).exponents()["exponent"]["params"] == pytest.approx(0.5126, abs=1e-4)


@pytest.mark.parametrize(
    "cost",
    [PowerCost(), PowerCost(8, 1.1, 0.9), InferenceCost(1e12), lambda n, d: 6 * n * d + 1e3 * n**0.8 * d],
    ids=["6ND", "power", "inference", "function"],
)
def test_no_other_split_of_the_budget_is_better(cost):
    budget = 1e23
    row = frontier(("chinchilla", LEANING), budget, cost=cost).frame.iloc[0]
    assert cost(row["params"], row["tokens"]) == pytest.approx(budget, rel=1e-6)

    # brute force: tokens by bisection on the constraint at each of many sizes
    sizes = np.geomspace(row["params"] / 1e3, row["params"] * 1e3, 3001)
    low, high = np.full(sizes.size, -50.0), np.full(sizes.size, 200.0)
    for _ in range(100):
        middle = (low + high) / 2
        over = cost(sizes, np.exp(middle)) > budget
        low, high = np.where(over, low, middle), np.where(over, middle, high)
    losses = loss(LEANING, sizes, np.exp(low))
    assert row["params"] == pytest.approx(sizes[losses.argmin()], rel=5e-3)
    assert losses.min() * (1 - 1e-6) < row["loss"] <= losses.min() * (1 + 1e-12)


def test_searched_exponents_agree_with_the_closed_form(fit):
    closed = frontier(fit, [1e20, 1e22], n=100).exponents()
    # A function is searched, although it is 6ND.
    searched = frontier(fit, [1e20, 1e22], n=100, cost=lambda n, d: 6 * n * d).exponents()
    np.testing.assert_allclose(searched[["exponent", "low", "high"]], closed[["exponent", "low", "high"]], rtol=1e-4)
    alpha, beta = fit.params["alpha"], fit.params["beta"]
    assert closed.loc["params", "exponent"] == pytest.approx(beta / (alpha + beta), rel=1e-12)
    draws = fit.draws(100)[:, 3:]
    np.testing.assert_allclose(
        closed.loc["params", ["low", "high"]].astype(float),
        np.percentile(draws[:, 1] / draws.sum(axis=1), [2.5, 97.5]),
    )


def test_exponents_under_a_power_cost():
    # alpha A N^-alpha / p = beta B D^-beta / q on N^p D^q = C / k, worked out by differences
    cost = PowerCost(6, 1.2, 0.8)
    found = frontier(("chinchilla", LEANING), [1e20, 1e22], cost=cost)
    for name in ("params", "tokens"):
        slope = np.diff(np.log(found.frame[name]))[0] / np.log(100)
        assert found.exponents().loc[name, "exponent"] == pytest.approx(slope, rel=1e-9)


def test_serving_makes_smaller_models_trained_longer():
    ratios = [
        frontier(("chinchilla", BALANCED), 1e24, cost=InferenceCost(served)).frame["tokens_per_param"][0]
        for served in (0, 1e11, 1e12, 1e13)
    ]
    assert ratios == sorted(ratios) and ratios[-1] > 5 * ratios[0]
    plain = frontier(("chinchilla", BALANCED), 1e24).frame["tokens_per_param"][0]
    assert ratios[0] == pytest.approx(plain, rel=1e-3)


def test_other_laws_are_searched_and_other_inputs_held():
    tied = workbench.fit(chinchilla_frame(1), "chinchilla_tied")
    kaplan = workbench.fit(chinchilla_frame(1), "kaplan", starts=64)
    assert frontier(tied, 1e22, n=20).exponents().loc["params", "exponent"] == pytest.approx(0.5, abs=1e-12)
    # (N_c/N)^(a_N/a_D) against D_c/D: N_opt ~ C^(1 / (1 + a_N/a_D)) for any constants
    p = kaplan.params
    slope = frontier(kaplan, 1e22, n=20).exponents().loc["params"]
    assert slope["exponent"] == pytest.approx(1 / (1 + p["alpha_N"] / p["alpha_D"]), rel=1e-4)
    assert "slope over two decades" in slope["note"]
    with pytest.raises(ValueError, match="held= names 'width'"):
        frontier(tied, 1e22, held={"width": 4})
    with pytest.raises(ValueError, match="no trade-off"):
        frontier(tied, 1e22, held={"tokens": 1e9})


def test_bad_sources_say_what_is_allowed():
    with pytest.raises(ValueError, match="got DataFrame"):
        frontier(chinchilla_frame(0), 1e22)
    with pytest.raises(ValueError, match="needs a constant 'beta'"):
        frontier(("chinchilla", {k: v for k, v in TEX.items() if k != "beta"}), 1e22)
    with pytest.raises(ValueError, match="need a fit of a law"):
        isoflop(isoflop_frame(BALANCED), n=10).frontier(1e22, cost=PowerCost())
    with pytest.raises(ValueError, match="between 0 and 1"):
        frontier(("chinchilla", TEX), 1e22, level=95)


def test_a_plan_is_a_frontier_at_one_budget(fit):
    one, many = fit.plan(1e22, n=50), frontier(fit, [1e21, 1e22], n=50)
    pd.testing.assert_frame_equal(one.frame, many.frame.iloc[[1]].reset_index(drop=True))
    assert isinstance(one, workbench.Plan) and "<script>" not in one._repr_html_()


def test_lines_and_floors_are_recovered():
    x = np.linspace(-3, 3, 9)
    assert line(x, 2 + 0.5 * x) == pytest.approx((2, 0.5))
    weights = np.linspace(1, 4, 9)
    y = np.sin(x)
    slope, level = np.polyfit(x, y, 1, w=np.sqrt(weights))
    assert line(x, y, weights) == pytest.approx((level, slope))
    found = floored_power(x, (1.7 + 0.9 * np.exp(-0.15 * x))[None])[0]
    assert found == pytest.approx([1.7, 0.9, 0.15], rel=2e-2)


def test_three_approaches_find_one_truth():
    n, d = (g.ravel() for g in np.meshgrid(np.geomspace(1e7, 1e11, 17), np.geomspace(3e8, 3e12, 17)))
    noise = np.exp(0.002 * np.random.default_rng(0).standard_normal(n.size))
    frame = pd.DataFrame({"params": n, "tokens": d, "loss": loss(BALANCED, n, d) * noise})
    found = approaches(frame, at=1e22, n=100)
    rows = found.frame.set_index("approach")
    assert list(rows.index) == ["1 envelope", "2 isoflop", "3 parametric"]
    np.testing.assert_allclose(rows["a"], exponent(BALANCED), atol=0.04)
    np.testing.assert_allclose(rows["params"], optimum(BALANCED, 1e22), rtol=0.25)
    np.testing.assert_allclose(rows["a"].iloc[1:], exponent(BALANCED), atol=0.005)
    assert (rows["a_low"] < rows["a_high"]).all() and rows["rests_on"].str.contains("289 runs").all()
    assert len(found.table()) == 3


def test_an_approach_that_cannot_be_carried_out_says_so_and_the_others_go_on():
    rng = np.random.default_rng(0)
    n, d = np.exp(rng.uniform(np.log(1e8), np.log(1e10), 12)), np.exp(rng.uniform(np.log(1e9), np.log(1e11), 12))
    frame = pd.DataFrame({"params": n, "tokens": d, "loss": loss(BALANCED, n, d)})
    frame.loc[3, "loss"] = np.nan
    found = approaches(frame, n=20).frame.set_index("approach")
    assert np.isnan(found.loc["1 envelope", "a"]) and "lengths" in found.loc["1 envelope", "note"]
    assert np.isnan(found.loc["2 isoflop", "a"]) and found.loc["2 isoflop", "note"]
    assert found.loc["3 parametric", "a"] == pytest.approx(exponent(BALANCED), abs=0.01)
    with pytest.raises(ValueError, match="no approach works"):
        approaches(frame.iloc[:2], n=20)


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the public run logs are not at {SHARED}")
def test_published_allocations_on_chinchillas_points():
    points = workbench.load(SHARED / "chinchilla" / "digitised_points.csv")
    points = points.where(points["loss"] < points["loss"].nlargest(5).min())
    huber = workbench.fit(points, "chinchilla")
    assert frontier(huber, 5.88e23, n=50).exponents().loc["params", "exponent"] == pytest.approx(0.5139, abs=1e-4)
    # least squares on the raw loss: N* = 98B with 70B to 132B by an independent package's wild bootstrap
    raw = frontier(workbench.fit(points, "chinchilla", objective="mse"), 5.88e23, n=400)
    assert raw.exponents().loc["params", "exponent"] == pytest.approx(0.545, abs=1e-3)
    row = raw.frame.iloc[0]
    assert row["params"] == pytest.approx(98e9, rel=0.01)
    assert row["params_low"] == pytest.approx(70e9, rel=0.15) and row["params_high"] == pytest.approx(132e9, rel=0.15)
    # Hoffmann et al. 2022, table 2, approach 2: a = 0.49 (0.462, 0.534), from all of their runs
    nine = [6e18, 1e19, 3e19, 6e19, 1e20, 3e20, 6e20, 1e21, 3e21]
    slope = isoflop(points, budgets=nine, tolerance=0.2, n=200).exponents().loc["params"]
    assert slope["low"] < 0.534 and slope["high"] > 0.462
