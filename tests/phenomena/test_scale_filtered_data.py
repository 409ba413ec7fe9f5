"""Filtered and repeated data, with its theory against descent that is followed on drawn examples."""

import numpy as np
import pandas as pd
import pytest

from workbench.laws.data.quality import QualityPool
from workbench.phenomena import find
from workbench.phenomena.scale import filtered_data, repeated_descent
from workbench.phenomena.scale.filtered_data import POOL, QUALITY, crossing, expected_loss, fitted_pools, train
from workbench.phenomena.scale.repeated_descent import flow_loss, fresh_loss, fresh_worth, problem, settled_loss
from workbench.testing.phenomena import PhenomenonContract

FEATURES, UNIQUE = 128, 40


class TestFilteredData(PhenomenonContract):
    phenomenon = find("filtered_data")


@pytest.fixture(scope="module")
def flows() -> dict[float, np.ndarray]:
    """Passes -> loss of gradient flow on drawn examples; after infinitely many, of the least norm."""
    spectrum, squared = problem(FEATURES)
    weights, rng, found = np.sqrt(squared), np.random.default_rng(0), {1: [], 4: [], 64: [], np.inf: []}
    for _ in range(300):
        x = rng.standard_normal((UNIQUE, FEATURES)) * np.sqrt(spectrum)
        _, values, axes = np.linalg.svd(x, full_matrices=False)
        for passes, losses in found.items():
            if np.isinf(passes):
                error = weights - np.linalg.lstsq(x, x @ weights, rcond=None)[0]
            else:
                left = np.exp(-repeated_descent.RATE / spectrum.sum() * passes * values**2)
                error = weights - axes.T @ ((1 - left) * (axes @ weights))
            losses.append(error**2 @ spectrum)
    return {passes: np.array(losses) for passes, losses in found.items()}


def test_flow_on_the_same_examples_is_as_the_theory_says(flows):
    # the theory is for many features: a few per cent at forty examples
    for passes in (1, 4, 64):
        expected = flow_loss(passes, UNIQUE, FEATURES)[0]
        error = flows[passes].std() / np.sqrt(len(flows[passes]))
        assert flows[passes].mean() == pytest.approx(expected, rel=0.03, abs=3 * error)


def test_the_end_of_descent_is_the_least_norm(flows):
    assert flows[np.inf].mean() == pytest.approx(settled_loss(UNIQUE, FEATURES), rel=0.05)
    assert flow_loss(1e5, UNIQUE, FEATURES)[0] == pytest.approx(settled_loss(UNIQUE, FEATURES), rel=1e-3)
    assert flow_loss(1e-6, UNIQUE, FEATURES)[0] == pytest.approx(1, abs=1e-4)


def test_the_end_of_descent_has_a_known_form_for_equal_variances(monkeypatch):
    # Hastie et al. 2022: with d features and n < d examples of unit variance the bias is 1 - n / d
    monkeypatch.setattr(repeated_descent, "problem", lambda d: (np.ones(d), np.full(d, 1 / d)))
    assert settled_loss(30, 120) == pytest.approx(1 - 30 / 120, rel=1e-6)


def test_as_many_examples_as_features_are_refused():
    with pytest.raises(ValueError, match="fewer examples than features"):
        settled_loss(128, 128)


def test_new_examples_give_the_exact_loss():
    loss = train(np.random.default_rng(0), 200, FEATURES, [(0,)], lambda done: None, fresh=True, rate=0.4)[:, 0]
    for place, passes in ((0, 0.5), (2, 1), (6, 4), (14, 64)):
        error = loss[place].std() / np.sqrt(200)
        assert abs(loss[place].mean() - fresh_loss(POOL * passes, FEATURES, 0.4)) < 4 * error
    assert fresh_worth(fresh_loss(77.0, FEATURES), FEATURES) == pytest.approx(77)


def test_nothing_is_repeated_before_the_pools_end():
    once = expected_loss([30.0, 59.0], 1, FEATURES)
    diluted = expected_loss(np.array([30.0, 59.0]) * 4 / sum(QUALITY), 4, FEATURES)
    np.testing.assert_allclose(once, diluted, rtol=1e-12)


def test_the_crossing_is_the_last_one():
    x = np.array([1.0, 2.0, 4.0, 8.0])
    assert crossing(x, np.exp([0.2, 0.2, -0.2, -0.3])) == pytest.approx(np.sqrt(8))
    assert crossing(x, np.exp([0.2, -0.2, 0.1, -0.3])) == pytest.approx(4 * 2**0.25)
    assert crossing(x, np.exp([0.2, 0.2, 0.2, 0.1])) == 8
    assert crossing(x, np.exp([-0.2, -0.2, -0.2, -0.1])) == 1


def test_the_law_is_found_again_in_its_own_losses():
    seen = np.array([round(POOL * passes) for passes in filtered_data.PASSES])
    b, tau = np.array([0.45, 0.4, 0.35, 0.3]), np.array([8.0, 12.0, 16.0, 20.0])
    alone = [name for name, pools in filtered_data.DIETS.items() if len(pools) == 1]
    rows = pd.concat(
        pd.DataFrame(
            {
                "diet": diet,
                "passes": seen / POOL,
                "seen": seen,
                "loss": QualityPool.formula(seen.astype(float), POOL, 0.0, 1.7, b[i], tau[i]),
            }
        )
        for i, diet in enumerate(alone)
    )
    scale, found_b, found_tau = fitted_pools(rows)
    assert scale == pytest.approx(1.7, rel=1e-3)
    np.testing.assert_allclose(found_b, b, rtol=1e-3)
    np.testing.assert_allclose(found_tau, tau, rtol=1e-3)
