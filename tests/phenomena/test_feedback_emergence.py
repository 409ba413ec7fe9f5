"""Emergence: the jump, and the turn."""

import numpy as np
import pytest
from scipy.stats import nbinom

from workbench.phenomena import find
from workbench.phenomena.feedback.emergence import (
    ALPHA,
    EVENNESS,
    LEVEL,
    MIDDLE,
    PLACE,
    RULE,
    TOKENS,
    cue_accuracy,
    greedy_accuracy,
    log_pass_rate,
    pass_rate,
)
from workbench.testing.phenomena import PhenomenonContract


class TestEmergence(PhenomenonContract):
    phenomenon = find("emergence")


@pytest.mark.parametrize("passes", [1, 2, 5])
@pytest.mark.parametrize("p", [0.9, 0.3, 0.02])
def test_the_log_pass_rate_is_unbiased(passes, p):
    failures = np.arange(20000)
    expected = nbinom.pmf(failures, passes, p) @ log_pass_rate(passes, failures + passes)
    assert expected == pytest.approx(np.log(p), rel=1e-8)


@pytest.mark.parametrize("size", [1e8, 1e9, 1e10])
def test_pass_rate_and_greedy_accuracy_follow_from_the_tokens(size):
    rng = np.random.default_rng(3)
    token = np.exp(-LEVEL * (size / MIDDLE) ** -ALPHA * rng.gamma(EVENNESS, 1 / EVENNESS, (200000, TOKENS)))
    assert pass_rate(size) == pytest.approx(token.prod(1).mean(), abs=0.002)
    assert greedy_accuracy(size) == pytest.approx((token > 0.5).all(1).mean(), abs=0.005)


@pytest.mark.parametrize("width", [7, 8, 50])
@pytest.mark.parametrize("cue", [0.0, 0.6])
def test_the_accuracies_of_the_best_linear_model(width, cue):
    """The normal equations with the exact covariances, and the Gaussians drawn."""
    seen = width >= PLACE
    k = width - seen
    rule = np.full(RULE, RULE**-0.5)
    inside = np.zeros((width, RULE + 1))  # the model's features in terms of the rule's features and noise
    inside[:k, :k] = np.eye(k)
    if seen:
        inside[-1] = np.append(cue * rule, np.sqrt(1 - cue**2))
    weights = np.linalg.solve(inside @ inside.T, inside @ np.append(rule, 0.0))
    rng = np.random.default_rng(1)
    drawn = rng.standard_normal((200000, RULE + 1))
    z, u = drawn[:, :RULE] @ rule, drawn @ np.append(cue * rule, np.sqrt(1 - cue**2))
    right = np.sign(drawn @ inside.T @ weights) == np.sign(z)
    against = np.sign(u) != np.sign(z)
    assert cue_accuracy(width, cue) == pytest.approx((right.mean(), right[against].mean()), abs=0.008)
