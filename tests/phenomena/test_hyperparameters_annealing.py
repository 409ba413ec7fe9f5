"""The annealing law: the contract, and the exact risk against simulated SGD and a closed form."""

import numpy as np
import pytest

from workbench.phenomena import find
from workbench.phenomena.hyperparameters.annealing import problem, risk, schedules
from workbench.testing.phenomena import PhenomenonContract


class TestAnnealing(PhenomenonContract):
    phenomenon = find("annealing")


def test_the_risk_is_that_of_simulated_sgd():
    spectrum, start, noise, batch = np.array([1.0, 0.4, 0.1]), np.array([0.5, 1.0, 2.0]), 0.7, 4
    rates = np.concatenate([np.full(30, 0.25), np.full(20, 0.05)])
    exact = risk(rates[None], spectrum, start, noise, batch)[0]
    rng = np.random.default_rng(0)
    runs = 40_000
    error = np.sqrt(start) * rng.standard_normal((runs, 3))
    simulated = []
    for eta in rates:
        x = np.sqrt(spectrum) * rng.standard_normal((runs, batch, 3))
        residual = np.einsum("nbi,ni->nb", x, error) + noise * rng.standard_normal((runs, batch))
        error -= eta * np.einsum("nb,nbi->ni", residual, x) / batch
        simulated.append((error**2 @ spectrum).mean())
    # the mean of 40 000 squares is known to about a percent
    np.testing.assert_allclose(exact, simulated, rtol=0.03)


def test_the_risk_settles_at_its_fixed_point():
    eta, batch, noise = 0.1, 4, 0.5
    settled = risk(np.full((1, 2000), eta), np.ones(1), np.ones(1), noise, batch)[0, -1]
    # C = C (1 - 2 eta + eta^2 (1 + 1/b)) + eta^2 (C + noise^2) / b, solved for C
    assert settled == pytest.approx(eta * noise**2 / batch / (2 - eta * (1 + 2 / batch)), rel=1e-9)


def test_schedules_of_one_problem_share_peak_and_length():
    spectrum, start, noise = problem(50, np.random.default_rng(1))
    assert start @ spectrum == pytest.approx(1.0) and (np.diff(spectrum) < 0).all() and 0.5 <= noise <= 1
    plans = schedules(200, 0.3)
    assert {plan.steps for plan in plans} == {200}
    assert [plan.peak for plan in plans] == pytest.approx([0.3] * 5, rel=0.01)  # a gradual fall begins at once
    # the sudden drop is to a tenth, the gradual ones end at zero
    assert [round(plan.rates[-1] / 0.3, 6) for plan in plans] == [1.0, 0.1, 0.0, 0.0, 0.0]
