"""The square-root rule: the contract, the reading of a curve, and the theory against a simulated Adam."""

import numpy as np
import pytest

from workbench.laws.hyperparameters.sde import square_root_rule
from workbench.phenomena import find
from workbench.phenomena.hyperparameters.square_root_rule import examples_until
from workbench.testing.phenomena import PhenomenonContract


class TestSquareRootRule(PhenomenonContract):
    phenomenon = find("square_root_rule")


def test_examples_until_reads_an_exponential_curve_exactly():
    seen = np.arange(0, 1000, 100)
    assert examples_until(seen, 3 * np.exp(-seen / 200)) == pytest.approx(200 * np.log(5))
    assert np.isnan(examples_until(seen, np.full(10, 2.0)))


def test_the_arms_differ_in_the_learning_rate_alone():
    one = find("square_root_rule")
    effect, control = (one.sweep(arm, "cpu", 0) for arm in ("effect", "control"))
    for a, b in zip(effect, control, strict=True):
        kappa = a.batch_tokens / 8
        assert b.lr == pytest.approx(a.lr * kappa**0.5) and a.replace(lr=b.lr) == b
        assert kappa * 0.02 == pytest.approx(1 - a.beta1) and a.tokens == 2**14


@pytest.mark.parametrize("budget", ["cpu", "gpu"])
def test_the_rule_is_used_where_it_warns_of_little(budget):
    beta1 = [probe.beta1 for probe in find("square_root_rule").sweep("effect", budget, 0)]
    assert 1 - min(beta1) < 0.33


def _settled(batch, lr, beta1, beta2, distance=0.0, steps=4000):
    """Mean square of a weight that Adam moves on w^2/2 with gradient noise of variance 1/B, over 400 chains.

    Written out here, without the workbench's optimizers; with a distance, the steps to half of it instead.
    """
    rng = np.random.default_rng(0)
    w, m, v = np.full(400, distance), 0.0, 0.0
    squares = []
    for t in range(1, steps + 1):
        g = w + rng.standard_normal(400) / np.sqrt(batch)
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        w = w - lr * (m / (1 - beta1**t)) / np.sqrt(v / (1 - beta2**t))
        if distance and w.mean() < distance / 2:
            return t
        squares.append((w**2).mean())
    return np.mean(squares[steps // 2 :])


def test_noise_leaves_the_same_loss_under_the_square_root_and_root_kappa_under_the_linear_rule():
    base = {"lr": 0.002, "beta1": 0.98, "beta2": 0.998}
    first = _settled(1, **base)
    new = square_root_rule(8, **base)
    settings = {"beta1": new.beta1, "beta2": new.beta2}
    # 400 chains, correlated over some 100 steps: a few percent; the steps are small but not infinitely so
    assert _settled(8, lr=new.lr, **settings) == pytest.approx(first, rel=0.1)
    assert _settled(8, lr=8 * base["lr"], **settings) == pytest.approx(first * 8**0.5, rel=0.15)


def test_without_noise_the_square_root_rule_needs_more_examples():
    # far from the minimum the gradient dwarfs the noise: a step has the length lr, whatever the batch
    base = {"lr": 0.01, "beta1": 0.9, "beta2": 0.99}
    steps = _settled(100, **base, distance=50.0, steps=10_000)
    new = square_root_rule(4, **base)
    larger = _settled(400, lr=new.lr, beta1=new.beta1, beta2=new.beta2, distance=50.0, steps=10_000)
    assert 4 * larger / steps == pytest.approx(2.0, rel=0.1)
