"""Grokking: the contract; the flow against plain gradient descent, the neurons' share against waves and chance."""

import numpy as np
import pytest

from workbench.phenomena import find
from workbench.phenomena.generalization.grokking import flow_time, neuron_share
from workbench.testing.phenomena import PhenomenonContract


class TestGrokking(PhenomenonContract):
    phenomenon = find("grokking")


def test_the_flow_is_that_of_small_steps_of_gradient_descent():
    rng = np.random.default_rng(3)
    x, truth = rng.standard_normal((10, 16)), np.zeros(16)
    truth[:2] = 1.0, -1.0
    scale, decay, step = 2.0, 0.05, 2e-4
    u, v, t = np.full(16, scale), np.full(16, scale), 0.0
    while ((u**2 - v**2 - truth) ** 2).sum() / 2 > 0.05:
        pull = x.T @ (x @ (u**2 - v**2 - truth)) / 10
        u, v, t = u - step * (2 * u * pull + decay * u), v - step * (-2 * v * pull + decay * v), t + step
        assert t < 200
    assert flow_time(x, truth, scale, decay) == pytest.approx(t, rel=0.01)


def test_without_decay_a_large_start_never_finds_the_rule():
    rng = np.random.default_rng(3)
    x, truth = rng.standard_normal((10, 30)), np.zeros(30)
    truth[0] = 1.0
    assert flow_time(x, truth, 4.0, 0.0) == np.inf
    assert np.isfinite(flow_time(x, truth, 4.0, 0.05))


def test_a_wave_a_neuron_has_share_one_and_chance_is_known():
    p = 23
    waves = np.cos(2 * np.pi * np.outer(np.arange(p), [1, 5, 9]) / p + [0.1, 1.0, 2.0])
    assert neuron_share(waves + 3.0) == pytest.approx(1.0)
    # powers of white noise are exponential; the largest of 11 has the mean share (1 + 1/2 + ... + 1/11) / 11
    noise = np.random.default_rng(0).standard_normal((p, 20_000))
    assert neuron_share(noise) == pytest.approx(sum(1 / k for k in range(1, 12)) / 11, abs=0.005)
