"""Depth at initialization, against real weight matrices, exact moments and the published limits."""

import math

import numpy as np
import pytest
from scipy import integrate, stats
from scipy.special import digamma, polygamma

from workbench.phenomena import find
from workbench.phenomena.stability.depth_signal import (
    correlations,
    distances,
    log_sizes,
    relu_constant,
    tanh_critical,
)
from workbench.testing.phenomena import PhenomenonContract


class TestDepthSignal(PhenomenonContract):
    phenomenon = find("depth_signal")


def test_tanh_is_critical_where_it_says() -> None:
    weight, bias, constant = tanh_critical(0.5)

    def average(f):
        return integrate.quad(lambda z: f(math.sqrt(0.5) * z) * stats.norm.pdf(z), -12, 12)[0]

    assert weight * average(lambda u: 1 / np.cosh(u) ** 4) == pytest.approx(1, rel=1e-8)
    assert weight * average(lambda u: np.tanh(u) ** 2) + bias == pytest.approx(0.5, rel=1e-8)
    # hardly any correlation is left to gain after a long way: 1 - c = constant / l
    assert tanh_critical(1.0)[2] == pytest.approx(2e4 * distances("tanh", 0.0, (20_000,))[0], rel=0.01)
    assert constant > tanh_critical(1.0)[2]  # a smaller signal sees a straighter tanh, and forgets more slowly


def test_relu_reaches_its_limit() -> None:
    near, far = (depth**2 * distances("relu", 0.0, (depth,))[0] / relu_constant() for depth in (10**3, 10**5))
    assert abs(far - 1) < 0.001 and abs(far - 1) < abs(near - 1)


@pytest.mark.parametrize("kind", ["relu", "tanh"])
@pytest.mark.parametrize("start", [-0.4, 0.3, 0.95])
def test_one_layer_of_the_map_is_an_expectation(kind: str, start: float) -> None:
    act, (weight, bias) = (lambda u: np.maximum(u, 0), (2.0, 0.0)) if kind == "relu" else (np.tanh, tanh_critical()[:2])
    z = np.random.default_rng(0).standard_normal((2, 2_000_000))
    other = start * z[0] + math.sqrt(1 - start**2) * z[1]
    products = act(z[0]) * act(other)
    one = 1 - (weight * products.mean() + bias)
    assert distances(kind, start, (2,))[0] == pytest.approx(one, abs=5 * weight * products.std() / len(other) ** 0.5)


@pytest.mark.parametrize("kind", ["relu", "tanh"])
def test_products_alone_are_a_network(kind: str) -> None:
    """The chain of products has the same distribution as networks with real matrices."""
    width, depth, networks, rng = 30, 6, 1500, np.random.default_rng(1)
    act, weight, bias = (lambda u: np.maximum(u, 0), 2.0, 0.0) if kind == "relu" else (np.tanh, *tanh_critical()[:2])
    chain = [correlations(kind, 0.0, width, (depth,), False, rng)[0] for _ in range(networks)]
    real = []
    for _ in range(networks):
        # the first layer's population has variance 1 and correlation 0
        h = act(rng.standard_normal((width, 2)))
        for _ in range(depth - 2):
            w = rng.standard_normal((width, width)) * math.sqrt(weight / width)
            h = act(w @ h + math.sqrt(bias) * rng.standard_normal((width, 1)))
        gram = weight * h.T @ h / width + bias
        real.append(1 - gram[0, 1] / math.sqrt(gram[0, 0] * gram[1, 1]))
    assert stats.ks_2samp(chain, real).pvalue > 0.01
    assert np.std(real) > 0.1 * np.mean(real)  # finite width is seen, so a chain without it would be found out


def test_log_sizes_have_the_exact_variance() -> None:
    """Of k ~ Binomial(n, 1/2) open units the squares are chi-square: a layer's log has variance
    E[trigamma(k / 2)] + Var[digamma(k / 2)]."""
    width, depth = 40, 5
    k = np.arange(1, width + 1)
    share = stats.binom.pmf(k, width, 0.5)
    exact = share @ polygamma(1, k / 2) + share @ digamma(k / 2) ** 2 - (share @ digamma(k / 2)) ** 2
    found = log_sizes(width, (depth,), 40_000, False, np.random.default_rng(2))[:, 0]
    assert found.var() == pytest.approx(depth * exact, rel=0.04)
    linear = log_sizes(width, (depth,), 40_000, True, np.random.default_rng(3))[:, 0]
    assert linear.var() == pytest.approx(depth * polygamma(1, width / 2), rel=0.04)
