"""Double descent: the contract, and its theory against closed forms and brute force."""

import numpy as np
import pytest

from workbench.phenomena import find
from workbench.phenomena.generalization.double_descent import best_ridge, expected_error, spectrum
from workbench.testing.phenomena import PhenomenonContract


class TestDoubleDescent(PhenomenonContract):
    phenomenon = find("double_descent")


@pytest.mark.parametrize(("n", "p"), [(300, 100), (300, 250), (300, 500)])
def test_isotropic_inputs_give_the_known_pole(n, p):
    """Hastie et al. 2022 (arXiv 1903.08560), theorem 1: isotropic inputs seen directly, that is infinite features."""
    noise = 0.5
    if p > n:
        g = p / n
        found = expected_error(np.ones(p), np.full(p, 1 / p), n, 1e9, 0.0, noise)
        assert found == pytest.approx(1 - 1 / g + noise / (g - 1) + noise, rel=1e-4)
    else:
        found = expected_error(np.ones(p), np.full(p, 1 / p), n, p * 1e6, 1e-9, noise)
        assert found == pytest.approx(noise / (1 - p / n), rel=1e-3)


def test_without_samples_worth_the_name_nothing_is_learned():
    variances, weights = spectrum(50)
    assert expected_error(variances, weights, 20, 20, 1e9, 0.3) == pytest.approx(1.3, rel=1e-3)
    assert expected_error(variances, weights, 20, 20, 0.0, 0.3) == np.inf


def test_ridge_regression_by_brute_force_lies_on_the_theory():
    n, k, dimensions, ridge, noise = 150, 220, 300, 0.7, 0.1
    variances, weights = spectrum(dimensions)
    rng = np.random.default_rng(5)
    errors = []
    for _ in range(30):
        x = rng.standard_normal((n, dimensions))
        mix = np.sqrt(variances)[:, None] * rng.standard_normal((dimensions, k)) / np.sqrt(k)
        y = x @ np.sqrt(weights) + np.sqrt(noise) * rng.standard_normal(n)
        stacked = np.vstack([x @ mix, np.sqrt(ridge) * np.eye(k)])  # ridge as additional rows of least squares
        w = np.linalg.lstsq(stacked, np.concatenate([y, np.zeros(k)]), rcond=None)[0]
        fresh = rng.standard_normal((4000, dimensions))
        errors.append(np.mean((fresh @ mix @ w - fresh @ np.sqrt(weights)) ** 2) + noise)
    assert np.mean(errors) == pytest.approx(expected_error(variances, weights, n, k, ridge, noise), rel=0.03)


def test_the_best_ridge_is_best_and_makes_more_features_better():
    variances, weights = spectrum(200)
    before = np.inf
    for k in (10, 30, 60, 100, 200, 1000):
        ridge = best_ridge(variances, weights, 60, k, 0.2)
        best, *others = (expected_error(variances, weights, 60, k, ridge * f, 0.2) for f in (1.0, 0.7, 1.4))
        assert best < min(others)
        assert best < before  # Simon et al. 2024, theorem 1
        before = best
