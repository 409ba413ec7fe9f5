"""Laws of task scores, sampling and value-based reinforcement learning."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy.special import roots_jacobi

import workbench
from workbench.laws import get
from workbench.laws.tasks.pass_rate import pass_at_k, pass_until
from workbench.laws.tasks.resampling import best_samples, outcomes
from workbench.laws.tasks.value_rl import best_ratio, compute_needed
from workbench.testing.laws import LawContract

K = {"K": np.array([1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128, 256], float)}


class TestExponentialLink(LawContract):
    law, target = "exponential_link", "error"
    truth = {"epsilon": 0.857, "k": 2.206, "gamma": 0.7146}  # Gadre et al. 2024, RedPajama, 17 tasks
    grid = {"L": np.linspace(1.8, 5.5, 40)}


class TestSigmoidLink(LawContract):
    law, target = "sigmoid_link", "score"
    truth = {"c": 0.25, "a": 0.6, "L_0": 2.4, "w": 0.25}
    grid = {"L": np.linspace(1.5, 5.0, 40)}


class TestPassRate(LawContract):
    law, truth = "pass_rate", {"c": 300.0, "alpha": 0.28}
    share = True
    grid = {"N": np.geomspace(3e7, 1e10, 40)}


class TestResampling(LawContract):
    law, truth, grid = "resampling", {"q": 0.12, "f": 0.03}, K
    share = True


class TestResamplingSpread(LawContract):
    law, truth, grid = "resampling_spread", {"a": 0.6, "b": 1.4, "f": 0.1}, K
    noise, share = 0.001, True


class TestValueRL(LawContract):
    law, truth = "value_rl", {"D_min": 2e5, "beta": 4e7, "alpha": 0.7}
    grid = {"sigma": np.geomspace(0.25, 32, 40)}


def test_the_links_at_their_landmarks():
    link = get("exponential_link")
    p = {"epsilon": 0.857, "k": 2.206, "gamma": 0.7146}
    said = link.predict(p, {"L": np.array([1e3, 0.0, 3.0, 3.0 + np.log(2) / 0.7146])})
    assert said[0] == pytest.approx(0.857) and said[1] == pytest.approx(0.857 - 2.206)
    assert 0.857 - said[3] == pytest.approx((0.857 - said[2]) / 2), "a loss log(2)/gamma higher halves the gain"
    sigmoid = get("sigmoid_link")
    q = {"c": 0.25, "a": 0.6, "L_0": 2.4, "w": 0.25}
    L = np.array([2.4, 2.4 + 0.25 * np.log(3), -1e4, 1e4])
    np.testing.assert_allclose(sigmoid.predict(q, {"L": L}), 0.25 + 0.6 * np.array([0.5, 0.25, 1.0, 0.0]), rtol=1e-12)
    # far above L_0 the sigmoid is the exponential link of 1 - score
    tail = np.linspace(6, 8, 5)
    exponential = {"epsilon": 0.75, "k": 0.6 * np.exp(2.4 / 0.25), "gamma": 4.0}
    np.testing.assert_allclose(1 - sigmoid.predict(q, {"L": tail}), link.predict(exponential, {"L": tail}), atol=1e-6)


def test_pass_until_is_unbiased_and_covers():
    """Negative binomial sampling by simulation, at a rate a thousand single samples would rarely see."""
    rng = np.random.default_rng(0)
    for rate, passes in ((0.002, 3), (0.3, 5)):
        tries = rng.negative_binomial(passes, rate, size=20000) + passes
        estimate, low, high = pass_until(passes, tries, level=0.9)
        assert estimate.mean() == pytest.approx(rate, abs=4 * estimate.std() / np.sqrt(tries.size))
        naive = (passes / tries).mean()
        assert naive > 1.1 * rate, "r/K is biased upwards, which is why it is not used"
        covered = ((low <= rate) & (rate <= high)).mean()
        assert 0.89 <= covered <= 0.97
    assert pass_until(4, 4)[2] == 1.0


def test_pass_rates_sampled_until_they_pass_predict_the_largest_model():
    """Synthetic tasks with PU = exp(-c N^-0.28): the exponent and the pass rate of an unseen size come back."""
    rng = np.random.default_rng(0)
    N = np.geomspace(3e7, 2.4e9, 8)
    truth = get("pass_rate").predict({"c": 400.0, "alpha": 0.28}, {"N": N})
    assert truth[0] < 0.06 < 0.35 < truth[-1]
    measured = [pass_until(3, rng.negative_binomial(3, p, size=400) + 3)[0].mean() for p in truth]
    runs = pd.DataFrame({"params": N, "pass": measured})
    fitted = workbench.fit(runs.iloc[:-1], "pass_rate", y="pass")
    assert fitted.params["alpha"] == pytest.approx(0.28, abs=0.04)
    assert fitted.predict(params=N[-1], n=50)["prediction"][0] == pytest.approx(truth[-1], rel=0.08)


def test_pass_until_says_what_it_takes():
    with pytest.raises(ValueError, match="at least 2 passes"):
        pass_until(1, 10)
    with pytest.raises(ValueError, match="as many tries as passes"):
        pass_until(5, 4)
    with pytest.raises(ValueError, match="level is 95"):
        pass_until(3, 10, level=95)
    with pytest.raises(ValueError, match="1 <= k <= samples"):
        pass_at_k(10, 3, 11)


def test_pass_at_k_counts_subsets():
    for n, c in ((6, 0), (6, 2), (6, 6), (7, 3)):
        flags = [1] * c + [0] * (n - c)
        for k in range(1, n + 1):
            share = np.mean([any(s) for s in combinations(flags, k)])
            assert pass_at_k(n, c, k) == pytest.approx(share, abs=1e-12)
    assert pass_at_k(200_000, 3, 1000) == pytest.approx(1 - np.prod(1 - 1000 / (200_000 - np.arange(3))), rel=1e-6)


def simulate(q: np.ndarray, f: float, most: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One attempt per problem and K: sample until the verifier accepts; shares right and wrong after 1..most."""
    right, wrong = np.zeros((2, most))
    open_ = np.ones(q.size, dtype=bool)
    done_right = np.zeros(q.size, dtype=bool)
    for k in range(most):
        correct = rng.random(q.size) < q
        accepted = correct | (rng.random(q.size) < f)
        done_right |= open_ & correct
        open_ &= ~accepted
        right[k], wrong[k] = done_right.mean(), (~done_right & ~open_).mean()
    return right, wrong


def test_resampling_by_simulation():
    rng = np.random.default_rng(0)
    K = np.arange(1, 31)
    law = get("resampling")
    measured, _ = simulate(np.full(200_000, 0.12), 0.03, 30, rng)
    np.testing.assert_allclose(measured, law.predict({"q": 0.12, "f": 0.03}, {"K": K}), atol=0.005)
    ceiling = law.predict({"q": 0.12, "f": 0.03}, {"K": np.array([1e6])})[0]
    assert ceiling == pytest.approx(0.12 / (0.12 + 0.03 * 0.88))
    # a perfect verifier is pass@K
    np.testing.assert_allclose(law.predict({"q": 0.12, "f": 0.0}, {"K": K}), 1 - 0.88**K, rtol=1e-12)
    right, wrong = simulate(rng.beta(0.6, 1.4, 200_000), 0.1, 30, rng)
    said_right, said_wrong = outcomes(K, 0.6, 1.4, 0.1)
    np.testing.assert_allclose(right, said_right, atol=0.005)
    np.testing.assert_allclose(wrong, said_wrong, atol=0.005)


def test_resampling_over_a_beta_spread_is_the_integral():
    law, K = get("resampling_spread"), np.array([1.0, 2.0, 7.0, 40.0, 300.0])
    for a, b, f in ((0.6, 1.4, 0.1), (3.0, 2.0, 0.02), (0.3, 5.0, 0.4)):
        single = get("resampling")
        nodes, weights = roots_jacobi(400, b - 1, a - 1)
        q = (nodes + 1) / 2
        each = np.stack([single.predict({"q": v, "f": f}, {"K": K}) for v in q])
        np.testing.assert_allclose(
            law.predict({"a": a, "b": b, "f": f}, {"K": K}), weights @ each / weights.sum(), rtol=1e-6
        )


@pytest.mark.parametrize(("mean", "ceiling", "best"), [(0.3, 0.645, 2), (0.5, 0.829, 5), (0.8, 0.956, 8)])
def test_a_cost_of_wrong_answers_makes_few_samples_best(mean, ceiling, best):
    """Spread Beta(2 m, 2 (1 - m)), false positives 10 %, a wrong answer costs two right ones."""
    a, b = 2 * mean, 2 * (1 - mean)
    right, _ = outcomes(np.array([3000]), a, b, 0.1)
    assert right[0] == pytest.approx(ceiling, abs=0.004)
    K, utility = best_samples(a, b, 0.1, 2.0)
    assert abs(K - best) <= 1 and K < 10 and utility > 0
    tried = np.array([r - 2 * w for r, w in (outcomes(k, a, b, 0.1) for k in range(1, 60))]).ravel()
    assert tried.argmax() + 1 == K and tried.max() == pytest.approx(utility)
    if mean == 0.3:
        assert tried[19] < 0, "by twenty samples the weak model does harm"
        strong = outcomes(1, 1.6, 0.4, 0.1)[0][0]
        assert right[0] < strong, "and never reaches one sample of the strong one"


def test_best_samples_may_be_none_at_all():
    assert best_samples(0.1, 5.0, 0.5, 10.0) == (0, 0.0)
    with pytest.raises(ValueError, match="f between 0 and 1"):
        outcomes(3, 1.0, 1.0, 1.5)


def test_best_updates_per_data_against_a_closed_form_and_a_grid():
    """With alpha = 1 and a fixed batch the cost is k D_min s + price beta / s + const, least at a square root."""
    found = best_ratio(1e5, 3e5, 1.0, price=40.0, batch=2.0, per_example=5.0)
    assert found["sigma"] == pytest.approx(np.sqrt(40.0 * 3e5 / (10.0 * 1e5)), rel=1e-6) and not found["at_bound"]
    assert found["data"] == pytest.approx(1e5 + 3e5 / found["sigma"])
    assert found["compute"] == pytest.approx(10.0 * found["sigma"] * found["data"])
    fitted = {"D_min": 2e5, "beta": 4e7, "alpha": 0.7}
    found = best_ratio(**fitted, price=3.0, batch=256.0, batch_exponent=0.31, per_example=0.01)
    sigma = np.geomspace(1e-3, 1e3, 200_001)
    data = get("value_rl").predict(fitted, {"sigma": sigma})
    cost = compute_needed(sigma, data, 256.0, 0.31, 0.01) + 3.0 * data
    assert found["sigma"] == pytest.approx(sigma[cost.argmin()], rel=1e-3)
    assert found["cost"] == pytest.approx(cost.min(), rel=1e-9)
    # dearer data ask for more updates
    dearer = best_ratio(**fitted, price=30.0, batch=256.0, batch_exponent=0.31, per_example=0.01)
    assert dearer["sigma"] > found["sigma"]
    assert best_ratio(1e5, 3e5, 1.0, price=1e9)["at_bound"] == 1.0
    with pytest.raises(ValueError, match="price is 0"):
        best_ratio(1e5, 3e5, 1.0, price=0)


def test_best_batch_and_learning_rate_are_plain_power_laws_of_the_ratio():
    """B* ~ sigma^-0.31 as Rybkin et al. 2025 report it: the power law with another x."""
    sigma = np.array([0.5, 1, 2, 4, 8, 16])
    runs = pd.DataFrame({"updates_per_data": sigma, "best_batch": 512 * sigma**-0.31})
    fitted = workbench.fit(runs, "power", y="best_batch", x="updates_per_data")
    assert fitted.params["alpha"] == pytest.approx(0.31, rel=1e-6)
