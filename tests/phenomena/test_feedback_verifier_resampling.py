"""Resampling with an imperfect verifier."""

import numpy as np
import pytest

from workbench.phenomena import find
from workbench.phenomena.feedback.verifier_resampling import SAMPLES, _resampled, coverage_weight
from workbench.testing.phenomena import PhenomenonContract


class TestVerifierResampling(PhenomenonContract):
    phenomenon = find("verifier_resampling")


@pytest.mark.parametrize("attempts", [1, 2, 64])
def test_the_coverage_weight_is_the_ratio_of_the_losses_derivatives(attempts):
    p = np.array([1e-4, 0.01, 0.2, 0.6])
    step = 1e-7
    up, down = (np.log(1 - (1 - p - side) ** attempts) for side in (step, -step))
    slope = (up - down) / (2 * step)
    assert coverage_weight(p, attempts) == pytest.approx(slope * p, rel=1e-4)


def test_the_coverage_weight_reaches_its_limits():
    assert coverage_weight(np.array([0.0, 1.0]), 64) == pytest.approx([1.0, 0.0], abs=1e-12)


def test_one_problem_follows_the_geometric_series():
    rng = np.random.default_rng(5)
    right, wrong = _resampled(rng, np.full(4000, 0.2), 0.1)
    k = np.array(SAMPLES)
    answered = 1 - (0.8 * 0.9) ** k
    assert right == pytest.approx(0.2 / 0.28 * answered, abs=0.03)  # four standard errors of 4000 problems
    assert wrong == pytest.approx(0.08 / 0.28 * answered, abs=0.03)
