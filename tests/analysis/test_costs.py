"""Cost models against their own definitions: what tokens buy, split again, costs the budget."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from workbench.analysis.costs import SIX_ND, Cost, InferenceCost, MeasuredCost, PowerCost, cost_model

N = np.geomspace(1e6, 1e12, 7)


class Attention(Cost):
    """6ND and a term that grows with the square root of N, with no closed form given."""

    def __call__(self, params, tokens):
        return 6 * params * tokens + 1e4 * np.sqrt(params) * tokens


@pytest.mark.parametrize(
    "cost",
    [SIX_ND, PowerCost(7.5, 0.95, 1.02), InferenceCost(1e12), InferenceCost(3e11, PowerCost(6, 0.9, 1)), Attention()],
    ids=lambda c: c.label,
)
def test_every_way_to_spend_a_budget_costs_the_budget(cost):
    tokens = cost.tokens(1e26, N)
    bought = np.isfinite(tokens)
    assert bought.sum() >= 4
    np.testing.assert_allclose(cost(N[bought], tokens[bought]), 1e26, rtol=1e-6)
    for ratio in (1e-3, 20.0, 1e5):
        params = cost.params(1e22, ratio)
        np.testing.assert_allclose(cost(params, ratio * params), 1e22, rtol=1e-6)


def test_six_flop_a_parameter_and_token():
    # Chinchilla: 70B parameters on 1.4T tokens are 5.88e23 FLOP
    assert SIX_ND(70e9, 1.4e12) == pytest.approx(5.88e23)
    assert SIX_ND.tokens(5.88e23, 70e9) == pytest.approx(1.4e12)


def test_serving_adds_two_flop_a_parameter_and_token_and_can_take_everything():
    cost = InferenceCost(2e12)
    assert cost(1e9, 1e10) == pytest.approx(6e19 + 4e21)
    assert np.isnan(cost.tokens(1e21, 1e9))
    assert InferenceCost(0)(1e9, 1e10) == SIX_ND(1e9, 1e10)


def test_measured_cost_finds_the_exponents_it_was_made_with():
    rng = np.random.default_rng(0)
    params, tokens = np.exp(rng.uniform(np.log(1e7), np.log(1e10), (2, 60)))
    flops = 9.0 * params**0.93 * tokens * np.exp(rng.normal(0, 0.01, 60))
    found = MeasuredCost.of(pd.DataFrame({"params": params, "tokens": tokens, "flops": flops}))
    assert (found.a, found.b) == (pytest.approx(0.93, abs=0.005), pytest.approx(1.0, abs=0.005))
    assert found.error == pytest.approx(0.01, rel=0.4) and found.n_runs == 60 and not found.note


def test_what_the_runs_do_not_determine_is_held_and_said():
    params = np.geomspace(1e7, 1e9, 12)
    found = MeasuredCost.of(pd.DataFrame({"params": params, "tokens": 20 * params, "flops": 120 * params**2}))
    assert found.b == 1 and "exponent of tokens" in found.note
    assert found(1e8, 2e9) == pytest.approx(6 * 1e8 * 2e9, rel=1e-6)
    one = MeasuredCost.of(pd.DataFrame({"params": [1e8], "tokens": [2e9], "flops": [1.3e18]}))
    assert (one.a, one.b) == (1, 1) and one(1e8, 2e9) == pytest.approx(1.3e18)


@pytest.mark.parametrize("bad", [0, -6, float("nan"), "six", None])
def test_bad_constants_say_what_is_allowed(bad):
    with pytest.raises(ValueError, match="positive number"):
        PowerCost(k=bad)


def test_bad_costs_say_what_is_allowed():
    with pytest.raises(ValueError, match="positive number"):
        InferenceCost(-1)
    with pytest.raises(ValueError, match="training alone"):
        InferenceCost(1e9, InferenceCost(1e9))
    with pytest.raises(ValueError, match="must rise"):
        cost_model(lambda n, d: 6 * n + 0 * d)
    with pytest.raises(ValueError, match="a function of parameters and tokens"):
        cost_model(lambda n: n)
    with pytest.raises(ValueError, match="PowerCost"):
        cost_model(6.0)
    with pytest.raises(ValueError, match=r"needs the column 'gpu_hours'.*PowerCost"):
        MeasuredCost.of(pd.DataFrame({"params": [1e8], "tokens": [1e9], "loss": [3.0]}), flops="gpu_hours")
