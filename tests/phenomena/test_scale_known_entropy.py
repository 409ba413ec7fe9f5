"""The known-entropy language."""

import numpy as np
import pytest

from workbench.phenomena import find
from workbench.phenomena.scale.known_entropy import tail_exponent
from workbench.testing.phenomena import PhenomenonContract


class TestKnownEntropy(PhenomenonContract):
    phenomenon = find("known_entropy")


@pytest.mark.parametrize("s", [0.8, 1.0, 1.5])
def test_the_tail_of_a_power_law_spectrum(s):
    """Squares of k^-s summed beyond d, by brute force and with the integral for the far end."""
    k = np.arange(1.0, 2_000_001.0)
    far = k[-1] ** (1 - 2 * s) / (2 * s - 1)
    tail = np.cumsum(k[::-1] ** (-2 * s))[::-1] + far  # tail[d] is the sum over k > d
    measured = -np.log(tail[1000] / tail[100]) / np.log(10)
    assert measured == pytest.approx(tail_exponent(s), abs=0.01)


def test_the_divergence_of_small_logits_is_half_their_mean_square():
    """The second-order statement that the exponent rests on, for random logits of a whole row."""
    rng = np.random.default_rng(0)
    z = 1e-2 * rng.standard_normal((200, 400))
    logp = z - np.log(np.exp(z).sum(1, keepdims=True))
    divergence = (np.exp(logp) * (logp + np.log(400))).sum(1).mean()
    assert divergence == pytest.approx(0.5 * z.var(axis=1).mean(), rel=0.01)
