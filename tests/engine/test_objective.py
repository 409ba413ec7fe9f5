"""Objectives against scipy's Huber function, closed forms and numerical integration."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, special, stats

from workbench.engine.objective import Objective

R = np.random.default_rng(0).normal(0, 0.02, 300)
ONES, Y = np.ones(300), np.exp(np.random.default_rng(1).normal(1, 0.3, 300))


@given(r=st.floats(-1, 1), delta=st.floats(1e-6, 2))
def test_huber_is_scipys(r, delta):
    ours = Objective("log-huber", delta).loss(np.array([r]))[0]
    assert ours == pytest.approx(special.huber(delta, r), rel=1e-12, abs=1e-300)


def test_squares_give_the_normal_likelihood():
    ll = Objective("log-mse").log_likelihood(R, ONES, Y)
    assert ll == pytest.approx(stats.norm.logpdf(R, scale=np.sqrt(np.mean(R**2))).sum(), rel=1e-10)


def test_absolute_values_give_the_laplace_likelihood():
    ll = Objective("log-mae").log_likelihood(R, ONES, Y)
    assert ll == pytest.approx(stats.laplace.logpdf(R, scale=np.mean(np.abs(R))).sum(), rel=1e-10)


@pytest.mark.parametrize("delta", [1e-3, 1e-2, 0.1])
def test_huber_likelihood_is_the_best_of_a_density_that_integrates_to_one(delta):
    objective = Objective("log-huber", delta)

    def log_likelihood(t):
        mass, _ = integrate.quad(_density, -1, 1, args=(delta, t), points=[-delta, 0, delta], limit=300)
        return -special.huber(delta, R).sum() / t - R.size * np.log(mass)

    best = max(log_likelihood(t) for t in np.geomspace(1e-8, 1e-1, 400))
    ll = objective.log_likelihood(R, ONES, Y)
    assert ll == pytest.approx(best, abs=0.2)
    assert ll >= best - 1e-6


def _density(r, delta, t):
    return np.exp(-special.huber(delta, r) / t)


def test_noise_of_squares_is_the_residual_variance():
    m2, slope = Objective("log-mse").noise(R, ONES, 5, np.inf)
    assert slope == 1 and m2 == pytest.approx(np.sum(R**2) / (300 - 5))


def test_noise_of_absolute_values_is_the_sparsity_of_the_normal():
    # Least absolute deviations: variance factor 1 / (4 f(0)^2), with f(0) = 1 / (sigma sqrt(2 pi)).
    many = np.random.default_rng(2).normal(0, 0.02, 20000)
    objective = Objective("log-mae")
    m2, slope = objective.noise(many, np.ones(20000), 2, 1e-6)
    assert m2 / slope**2 == pytest.approx(np.pi / 2 * 0.02**2, rel=0.05)


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [(("log-hubber",), "did you mean 'log-huber'"), (("log-huber", -1), "positive"), (("mse", "x"), "positive")],
)
def test_bad_arguments_say_what_is_allowed(arguments, fragment):
    with pytest.raises(ValueError, match=fragment):
        Objective(*arguments)
