"""Laws of learning rate, batch size and critical batch: the contract, published numbers, theory."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import workbench
from workbench.laws import get
from workbench.laws.hyperparameters import critical_batch, sde, step_law, width_transfer
from workbench.testing.laws import LawContract

B = {"B": np.geomspace(2**12, 2**24, 40)}


class TestStepLaw(LawContract):
    law, truth = "step_law", {"c": 1.79, "a": -0.713, "b": 0.307}  # Li et al. 2025
    grid = {"N": np.geomspace(6e7, 1e9, 6), "D": np.geomspace(2e9, 1e11, 6)}


class TestStepLawBatch(LawContract):
    law, truth = "step_law_batch", {"c": 0.58, "b": 0.571}  # Li et al. 2025
    grid = {"D": np.geomspace(2e9, 1e11, 20)}


class TestLrBatchSGD(LawContract):
    law, truth, grid = "lr_batch_sgd", {"eta_m": 0.3, "B_n": 3e5}, B


class TestLrBatchSurge(LawContract):
    law, truth, grid = "lr_batch_surge", {"eta_m": 3e-3, "B_n": 5e5}, B


class TestLrBatchPower(LawContract):
    law, truth, grid = "lr_batch_power", {"c": 1e-6, "p": 0.5}, B


class TestStepsBatchNoise(LawContract):
    law, truth, grid = "steps_batch_noise", {"S_m": 2300.0, "B_n": 1.5e6}, B


class TestStepsBatchPower(LawContract):
    law, truth, grid = "steps_batch_power", {"a": 1900.0, "b": 5e9, "alpha": 1.08}, B


class TestCriticalBatchLoss(LawContract):
    law, truth = "critical_batch_loss", {"B_s": 2.1e8, "alpha": 0.21}  # Kaplan et al. 2020
    grid, target = {"L": np.geomspace(2.0, 6.0, 30)}, "critical_batch"


class TestCriticalBatchData(LawContract):
    law, truth = "critical_batch_data", {"c": 18.0, "p": 0.47}
    grid = {"D": np.geomspace(1e9, 3e10, 20)}


class TestTimeTransfer(LawContract):
    law, truth = "time_transfer", {"eta_m": 4e-3, "k": 1e-4, "q": 1.0}
    grid = {"T": np.geomspace(1e9, 1e11, 6), "B": np.geomspace(2**14, 2**23, 8)}


class TestWidthTransfer(LawContract):
    law, truth, grid = "width_transfer", {"kappa": 0.5, "p": 0.9}, {"n": np.geomspace(64, 8192, 20)}


def test_step_law_at_one_billion_parameters():
    """1.79 N^-0.713 D^0.307 and 0.58 D^0.571 in logarithms by hand: 10^-3.0107 and 10^6.0011 at 1e9 and 1e11."""
    advice = step_law.suggest(params=1e9, tokens=1e11)
    assert np.log10(advice.lr) == pytest.approx(np.log10(1.79) - 9 * 0.713 + 11 * 0.307)
    assert np.log10(advice.batch_tokens) == pytest.approx(np.log10(0.58) + 11 * 0.571)
    assert advice.lr == pytest.approx(1.6338e-3, rel=1e-3) and advice.batch_tokens == pytest.approx(1.107e6, rel=1e-3)
    assert advice.steps * advice.batch_tokens == pytest.approx(1e11)
    with pytest.raises(ValueError, match="tokens"):
        step_law.suggest(1e9, -1)


def test_sgd_rate_is_the_best_step_on_a_noisy_quadratic():
    """One step of SGD on G x + x H x / 2 with gradient noise Sigma/B, minimised by brute force over the rate."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(5, 5))
    hessian, gradient = root @ root.T, rng.normal(size=5)
    sigma = np.diag(rng.uniform(0.5, 5.0, 5))
    noise_scale = np.trace(hessian @ sigma) / (gradient @ hessian @ gradient)
    largest = gradient @ gradient / (gradient @ hessian @ gradient)
    rates = np.linspace(0, largest, 200_001)
    for batch in noise_scale * np.array([0.05, 0.5, 2.0, 50.0]):
        quadratic = 0.5 * (gradient @ hessian @ gradient + np.trace(hessian @ sigma) / batch)
        best = rates[np.argmin(-rates * (gradient @ gradient) + rates**2 * quadratic)]
        predicted = get("lr_batch_sgd").predict({"eta_m": largest, "B_n": noise_scale}, {"B": [batch]})[0]
        assert predicted == pytest.approx(best, rel=1e-3)


def test_surge_rises_as_a_root_peaks_at_the_noise_scale_and_falls_as_a_root():
    surge, p = get("lr_batch_surge"), {"eta_m": 0.01, "B_n": 1e5}
    batches = np.geomspace(1, 1e10, 2001)
    rates = surge.predict(p, {"B": batches})
    assert batches[np.argmax(rates)] == pytest.approx(1e5, rel=0.02) and rates.max() == pytest.approx(0.01, rel=1e-4)
    slopes = np.gradient(np.log(rates), np.log(batches))
    assert slopes[5] == pytest.approx(0.5, abs=1e-3) and slopes[-5] == pytest.approx(-0.5, abs=1e-3)


def test_time_transfer_has_the_three_regimes():
    law, p = get("time_transfer"), {"eta_m": 4e-3, "k": 1e-4, "q": 1.0}

    def slope(tokens, batch):
        ends = law.predict(p, {"T": np.array([tokens, tokens * 1.01]), "B": np.full(2, batch)})
        return np.log(ends[1] / ends[0]) / np.log(1.01)

    critical = 1e-4 * 1e10
    assert slope(1e10, critical / 1e5) == pytest.approx(-0.5, abs=1e-3)
    assert slope(1e10, critical) == pytest.approx(0.0, abs=5e-3)
    assert slope(1e10, critical * 1e5) == pytest.approx(0.5, abs=1e-3)


# Steps to a target loss of Zhang et al. 2024 (arXiv 2410.21676), from the notebook published with the paper: batches
# of 64 to 16384 sequences of 512 tokens, by model size in millions.
BATCHES = 64 * 2.0 ** np.arange(9)
STEPS = {
    85: [46000, 23000, 13282, 7000, 3840, 2500, 1800, 1600, 1600],
    151: [96000, 49000, 24000, 11951, 7128, 4200, 2760, 2400, 2300],
    302: [196000, 90000, 46000, 23400, 13300, 7224, 4980, 3400, 2879],
    604: [311000, 166000, 81000, 37440, 21320, 11400, 7199, 4700, 3800],
    1200: [643000, 331000, 176000, 94000, 46500, 25000, 15360, 8900, 6500],
}


def fitted(law, steps):
    runs = pd.DataFrame({"batch": BATCHES, "steps": np.array(steps, dtype=float)})
    return workbench.fit(runs, law, y="steps", inputs={"B": "batch"}, objective="log-mse")


def slope(values):
    return np.polyfit(np.log(list(STEPS)), np.log(values), 1)[0]


def test_two_definitions_of_the_critical_batch_disagree_on_the_published_table():
    """An independent refit of the same table gives these ten numbers and the exponents 0.61 and 0.36."""
    noise = [fitted("steps_batch_noise", s).params["B_n"] for s in STEPS.values()]
    np.testing.assert_allclose(noise, [2235, 3303, 5433, 7907, 11140], rtol=1e-3)
    assert slope(noise) == pytest.approx(0.61, abs=0.005)
    power = [fitted("steps_batch_power", s).params for s in STEPS.values()]
    overhead = [critical_batch.overhead_batch(p["a"], p["b"], p["alpha"], reference=256) for p in power]
    np.testing.assert_allclose(overhead, [824, 1234, 1637, 2267, 2059], rtol=3e-3)
    assert slope(overhead) == pytest.approx(0.36, abs=0.005)


def test_overhead_batch_solves_its_equation():
    a, b, alpha = np.array([1900.0, 3400.0, 5.0]), np.array([8.8e6, 3.7e7, 1e6]), np.array([1.08, 0.97, 1.0])
    batch = critical_batch.overhead_batch(a, b, alpha, reference=256, overhead=0.2)
    examples = lambda x: x * (a + b * x**-alpha)  # noqa: E731
    np.testing.assert_allclose(examples(batch), 1.2 * examples(256.0), rtol=1e-9)
    # with alpha = 1 the answer is in closed form: B a + b = 1.2 (256 a + b)
    assert batch[2] == pytest.approx((1.2 * (256 * 5.0 + 1e6) - 1e6) / 5.0)
    assert np.isnan(critical_batch.overhead_batch(0.0, 1e6, 1.0, reference=256))
    with pytest.raises(ValueError, match="positive"):
        critical_batch.overhead_batch(1.0, 1e6, 1.0, reference=0)


def test_the_noise_scale_doubles_steps_and_examples():
    law, p = get("steps_batch_noise"), {"S_m": 1000.0, "B_n": 500.0}
    steps = law.predict(p, {"B": np.array([500.0, 7.0])})
    examples, least = steps * [500.0, 7.0], 1000.0 * 500.0
    assert steps[0] == pytest.approx(2000) and examples[0] == pytest.approx(2 * least)
    np.testing.assert_allclose((steps / 1000 - 1) * (examples / least - 1), 1.0)


#: Adam's exponents of Everett et al. 2024 as commonly quoted: embedding, hidden, readout.
EVERETT = {
    ("standard", "full"): (0, 1, 1),
    ("standard", "none"): (0, 0.5, 0.5),
    ("mup", "full"): (0.5, 1, 0.5),
}


@pytest.mark.parametrize(("parametrization", "alignment"), EVERETT)
def test_width_exponents_of_adam(parametrization, alignment):
    found = [width_transfer.width_exponent(parametrization, "adam", e, alignment) for e in width_transfer.LAYERS]
    assert tuple(found) == EVERETT[parametrization, alignment]


@pytest.mark.parametrize(("one", "other"), [("standard", "ntk"), ("mup", "mean-field")])
@pytest.mark.parametrize("alignment", ["full", "none"])
@pytest.mark.parametrize(("optimizer", "shift"), [("sgd", 2), ("adam", 1), ("adafactor", 0)])
def test_moving_a_factor_from_initialisation_to_multiplier_shifts_the_exponent(one, other, alignment, optimizer, shift):
    """(a, b) -> (a + theta, b - theta) is the same network if p falls by 2, 1 or 0 theta."""
    for layer in width_transfer.LAYERS:
        theta = width_transfer.PARAMETRIZATIONS[other][layer][0] - width_transfer.PARAMETRIZATIONS[one][layer][0]
        change = width_transfer.width_exponent(other, optimizer, layer, alignment) - width_transfer.width_exponent(
            one, optimizer, layer, alignment
        )
        assert change == pytest.approx(-shift * theta)


def test_maximal_update_under_sgd_needs_no_scaling():
    """muP was found as the parametrization in which one rate serves every width (Yang and Hu 2021)."""
    assert {width_transfer.width_exponent("mup", "sgd", e) for e in width_transfer.LAYERS} == {0.0}
    assert width_transfer.width_exponent("standard", "adam") == 1.0
    with pytest.raises(ValueError, match="choose one of"):
        width_transfer.width_exponent("mup", "lion")


def adam_variance(batch, s, chains=1500, examples=2**18, seed=0):
    """Stationary mean square of chains of Adam on h x^2 / 2 with gradient noise 1 / sqrt(batch)."""
    rng = np.random.default_rng(seed)
    h, x, m, v = 0.2, np.zeros(chains), np.zeros(chains), np.full(chains, 1 / batch)
    steps, total, counted = examples // batch, 0.0, 0
    for step in range(steps):
        g = h * x + rng.normal(0, batch**-0.5, chains)
        m, v = s.beta1 * m + (1 - s.beta1) * g, s.beta2 * v + (1 - s.beta2) * g * g
        x = x - s.lr * m / (np.sqrt(v) + s.eps)
        if step >= steps // 2:
            total, counted = total + (x * x).mean(), counted + 1
    return total / counted


def test_square_root_rule_keeps_adams_stationary_spread():
    """By the SDE the mean square is lr / (2 h sqrt(batch)): the rule keeps it, the linear rule doubles it."""
    old = sde.AdamSettings(lr=0.002, beta1=0.9, beta2=0.999, eps=1e-8)
    new = sde.square_root_rule(4, old.lr, old.beta1, old.beta2, old.eps)
    linear = sde.AdamSettings(4 * old.lr, new.beta1, new.beta2, new.eps)
    before, after, wrong = (adam_variance(b, s) for b, s in ((64, old), (256, new), (256, linear)))
    # theory of the small steps: v = 1/batch, so that dx = -lr (h x sqrt(batch) + noise)
    assert before == pytest.approx(0.002 / (2 * 0.2 * 64**0.5), rel=0.05)
    assert after == pytest.approx(before, rel=0.05)
    assert wrong == pytest.approx(2 * before, rel=0.1)


def test_linear_rule_keeps_sgds_stationary_variance():
    """On h x^2 / 2 with noise of variance 1/B the variance is lr / (B h (2 - lr h)), in closed form."""
    variance = lambda lr, batch: lr / (batch * (2 - lr))  # noqa: E731
    assert variance(sde.linear_rule(8, 1e-3), 8 * 32) == pytest.approx(variance(1e-3, 32), rel=5e-3)
    assert variance(np.sqrt(8) * 1e-3, 8 * 32) < 0.4 * variance(1e-3, 32)


def test_square_root_rule_says_where_it_ends():
    fine = sde.square_root_rule(2, 1e-3)
    assert fine.warnings == () and fine.lr == pytest.approx(2**0.5 * 1e-3)
    assert (fine.beta1, fine.beta2) == pytest.approx((0.8, 0.998)) and fine.eps == pytest.approx(1e-8 / 2**0.5)
    far = sde.square_root_rule(16, 1e-3)
    assert far.beta1 == 0.0 and len(far.warnings) == 1 and "beta1" in far.warnings[0]
    back = sde.square_root_rule(0.5, fine.lr * 2**0.5, far.beta1, 0.996, 1e-8)
    assert back.beta2 == pytest.approx(0.998)
    for bad in ({"kappa": 0, "lr": 1}, {"kappa": 2, "lr": 1, "beta1": 1.0}, {"kappa": 2, "lr": 1, "eps": -1}):
        with pytest.raises(ValueError, match="is"):
            sde.square_root_rule(**bad)
