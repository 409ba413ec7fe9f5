"""Learning-rate transfer: the contract, and the minimum of known curves."""

import math

import numpy as np
import pytest

from workbench.phenomena import find
from workbench.phenomena.hyperparameters.lr_transfer import best_rate
from workbench.testing.phenomena import PhenomenonContract


class TestLearningRateTransfer(PhenomenonContract):
    phenomenon = find("lr_transfer")


@pytest.mark.parametrize("at", [-6.3, -5.0, -4.45])
def test_the_minimum_of_a_parabola_in_logarithms_is_found(at):
    rates = 2.0 ** np.arange(-9, -2)
    losses = np.exp(1.0 + 0.02 * (np.log2(rates) - at) ** 2)
    assert math.isclose(math.log2(best_rate(rates, losses)), at, abs_tol=1e-6)


def test_ends_divergence_and_nothing_at_all():
    rates = 2.0 ** np.arange(-9, -2)
    falling = np.linspace(3, 2, 7)
    assert rates[-3] <= best_rate(rates, falling) <= rates[-1]
    assert best_rate(rates, np.where(rates > 2**-5.5, math.nan, falling)) <= 2**-6 + 1e-9
    assert math.isnan(best_rate(rates, np.full(7, math.nan)))
