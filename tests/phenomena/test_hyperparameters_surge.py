"""The surge: the contract, and the exact one-step theory against brute force."""

import numpy as np
import pytest

from workbench.phenomena import find
from workbench.phenomena.hyperparameters.surge import BATCHES, COUPLING, DIMENSION, RATIO, SIGNAL, best_rate
from workbench.testing.phenomena import PhenomenonContract


class TestSurge(PhenomenonContract):
    phenomenon = find("surge")


@pytest.mark.parametrize("optimizer", ["sign", "adam", "sgd"])
@pytest.mark.parametrize("batch", [1, 64])
def test_best_rate_is_the_lowest_of_a_grid_of_simulated_steps(optimizer, batch):
    rng = np.random.default_rng(3)
    mu, sigma = rng.normal(0.3, 0.2, 4), rng.uniform(0.5, 2.0, 4)
    root = rng.standard_normal((4, 4))
    hessian = root @ root.T + np.eye(4)
    drawn = mu + sigma * rng.standard_normal((400_000, 4)) / np.sqrt(batch)
    steps = {"sign": np.sign(drawn), "adam": drawn / np.sqrt((drawn**2).mean(0)), "sgd": drawn}[optimizer]
    first, second = (steps @ mu).mean(), np.einsum("ni,ij,nj->n", steps, hessian, steps).mean()
    rates = np.linspace(0, 2, 4001) * best_rate(optimizer, mu, sigma, hessian, batch)
    changes = -rates * first + rates**2 * second / 2
    # 400 000 draws leave less than a percent of noise in either mean
    assert rates[np.argmin(changes)] == pytest.approx(best_rate(optimizer, mu, sigma, hessian, batch), rel=0.02)


@pytest.mark.parametrize("optimizer", ["sign", "adam"])
def test_the_peak_has_its_closed_height_and_moves_fourfold(optimizer):
    mu, sigma = np.full(DIMENSION, SIGNAL), np.ones(DIMENSION)
    hessian = (1 - COUPLING) * np.eye(DIMENSION) + COUPLING
    batches = np.geomspace(1, 1e7, 20_001)
    rates = np.array([best_rate(optimizer, mu, sigma, hessian, b) for b in batches])
    assert rates.max() / best_rate(optimizer, mu, sigma, hessian, np.inf) == pytest.approx(2.6, rel=1e-6)
    half = np.array([best_rate(optimizer, mu / 2, sigma, hessian, b) for b in batches])
    assert batches[half.argmax()] / batches[rates.argmax()] == pytest.approx(4.0, rel=2e-3)
    assert pytest.approx(2.6) == RATIO / (2 * np.sqrt(RATIO - 1))


@pytest.mark.parametrize("optimizer", ["sign", "adam", "sgd"])
def test_a_diagonal_hessian_has_no_surge(optimizer):
    mu, sigma = np.full(DIMENSION, SIGNAL), np.ones(DIMENSION)
    rates = [best_rate(optimizer, mu, sigma, np.eye(DIMENSION), b) for b in np.geomspace(1, 2e4, 200)]
    assert (np.diff(rates) > 0).all()  # beyond, a sign is right to the last digit


def test_the_exponent_of_the_rise_is_that_of_the_exact_theory():
    mu, sigma = np.full(DIMENSION, SIGNAL), np.ones(DIMENSION)
    hessian = (1 - COUPLING) * np.eye(DIMENSION) + COUPLING
    batches = np.array([b for b in BATCHES if b <= 8], dtype=float)
    rates = [best_rate("sign", mu, sigma, hessian, b) for b in batches]
    claim = next(c for c in find("surge").claims if "exponent" in c.name)
    assert np.polyfit(np.log(batches), np.log(rates), 1)[0] == pytest.approx(claim.expected, abs=0.005)


def test_correlated_noise_nearly_removes_adams_surge():
    # E[s_i s_j] = f^2 + (1 - f^2) rho for noise correlated as the Hessian, so that s'Hs is 1 + (R-1)(f^2 + (1-f^2) rho)
    f = np.linspace(1e-3, 1, 100_001)
    rate = f / (1 + (RATIO - 1) * (f**2 + (1 - f**2) * COUPLING))
    rng = np.random.default_rng(0)
    shared, own = rng.standard_normal((2, 20_000, 1)), rng.standard_normal((2, 20_000, 30))
    noise = np.sqrt(COUPLING) * shared[0] + np.sqrt(1 - COUPLING) * own[0]
    moved = 0.6 + 0.8 * noise  # mean square 1, f = 0.6
    hessian = (1 - COUPLING) * np.eye(30) + COUPLING
    simulated = np.einsum("ni,ij,nj->n", moved, hessian, moved).mean() / 30
    ratio = 1 + COUPLING * 29
    assert simulated == pytest.approx(1 + (ratio - 1) * (0.36 + 0.64 * COUPLING), rel=0.02)
    assert rate.max() / rate[-1] == pytest.approx(1.1, abs=0.05)
