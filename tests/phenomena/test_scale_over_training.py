"""Over-training."""

import numpy as np
import pytest

from workbench.phenomena import find
from workbench.phenomena.scale.over_training import LATENT, SPECTRUM, TARGETS, error_of, exponents, solve
from workbench.testing.phenomena import PhenomenonContract


class TestOverTraining(PhenomenonContract):
    phenomenon = find("over_training")


def test_with_many_samples_the_loss_is_what_the_features_cannot_express():
    loss, _ = solve(np.random.default_rng(4), 20, 40000, 0.0)
    rng = np.random.default_rng(4)
    root = np.arange(1.0, LATENT + 1) ** (-(1 + SPECTRUM) / 2)
    target = root[:, None] * rng.choice([-1.0, 1.0], (LATENT, TARGETS))
    features = root[:, None] * rng.standard_normal((LATENT, 20))
    left = np.linalg.lstsq(features, target, rcond=None)[1]
    assert loss == pytest.approx((left / (target**2).sum(0)).mean(), rel=0.01)


def test_the_exponent_of_noisy_data_is_the_best_compromise():
    """min over k of k^-a + k / T, by brute force."""
    k = np.arange(1.0, 1e6)
    for a in (0.5, 1.0, 2.0):
        best = [(k**-a + k / t).min() for t in (1e5, 1e8)]
        assert -np.log(best[1] / best[0]) / np.log(1e3) == pytest.approx(exponents(a, True)[1], abs=0.02)


@pytest.mark.parametrize("loss", [0.05, 0.4])
def test_the_sign_error_of_the_best_prediction(loss):
    rng = np.random.default_rng(2)
    seen, unseen = np.sqrt(1 - loss) * rng.standard_normal(400000), np.sqrt(loss) * rng.standard_normal(400000)
    assert error_of(loss) == pytest.approx((np.sign(seen) != np.sign(seen + unseen)).mean(), abs=0.003)
