"""Power-law regression against least squares, the exact recursion of one-pass descent, and known exponents."""

import numpy as np
import pytest
import torch

from tests.probes.tasks.examples_contract import ExamplesContract
from workbench.probes import Probe
from workbench.probes.initial import initial_weights
from workbench.probes.tasks.random_feature_law import RandomFeatureLaw, feature_floor
from workbench.probes.trainer import train

LINEAR = {"task": "random_feature_law", "model": "random_features", "optimizer": "sgd", "schedule": "constant",
          "warmup": 0.0}  # fmt: skip


class TestRandomFeatureLaw(ExamplesContract):
    probe = Probe(dimension=40, width=8, test_size=64, batch_tokens=16, tokens=16 * 12, evals=2, lr=0.5, **LINEAR)
    members = ({}, {"seed": 1, "task_seed": 3}, {"target_noise": 0.3, "lr": 0.1}, {"data_complexity": 0.7},
               {"target_complexity": 0.6})  # fmt: skip
    refused = (({"data_complexity": -1.0}, "data_complexity"), ({"dimension": 0}, "dimension"))
    learns = {"tokens": 16 * 400, "width": 20, "lr": 1.0}
    trivial = 0.5

    def optimal(self, data, probes):
        target = torch.stack([torch.tensor(p.task_settings.target) for p in probes]).float()
        return lambda x: (x * target[:, None]).sum(-1, keepdim=True), [0.0] * len(probes)


class TestFiniteRandomFeatureLaw(TestRandomFeatureLaw):
    probe = TestRandomFeatureLaw.probe.replace(train_size=96)


def data_of(probe):
    return probe.task_settings.build([probe], torch.device("cpu"))


def test_the_risk_of_a_linear_model_is_exact():
    probe = TestRandomFeatureLaw.probe.replace(test_size=40000)
    task, data = probe.task_settings, data_of(TestRandomFeatureLaw.probe.replace(test_size=40000))
    w = task.target + 0.3 * np.random.default_rng(0).standard_normal(40)
    found = data.evaluate(lambda x: (x @ torch.tensor(w).float())[..., None] + 0.25)
    by_hand = sum(j**-2.0 * (w[j - 1] - j**-0.25) ** 2 for j in range(1, 41)) + 0.0625
    assert float(found["loss"]) == pytest.approx(by_hand, rel=1e-5)
    assert float(found["loss_sampled"]) == pytest.approx(by_hand, rel=0.05)  # 40 000 draws agree with the exact risk
    assert float(found["exact"]) == 1


def test_a_model_that_is_not_linear_is_sampled_and_says_so():
    data = data_of(TestRandomFeatureLaw.probe)
    w = torch.ones(40)
    found = data.evaluate(lambda x: torch.relu(x @ w)[..., None])
    assert float(found["exact"]) == 0
    assert float(found["loss"]) == float(found["loss_sampled"])


def test_the_floor_is_least_squares_and_no_training_goes_below_it():
    probe = TestRandomFeatureLaw.probe.replace(width=6, tokens=16 * 1500, lr=5.0, schedule="linear")
    task = probe.task_settings
    f = initial_weights(probe)["frozen"].double().numpy()
    # the projection written with the normal equations of the covariance
    cov = np.diag(task.spectrum)
    readout = np.linalg.solve(f.T @ cov @ f, f.T @ cov @ task.target)
    floor = task.risk(f @ readout)
    assert feature_floor(probe) == pytest.approx(floor, rel=1e-6)
    (result,) = train([probe], "cpu")
    assert floor < result.loss < 1.05 * floor
    assert all(record["exact"] == 1 for record in result.records)


def test_the_floor_is_refused_where_there_is_none():
    with pytest.raises(ValueError, match="not linear"):
        feature_floor(TestRandomFeatureLaw.probe.replace(activation="tanh"))
    with pytest.raises(ValueError, match="trains its features"):
        feature_floor(TestRandomFeatureLaw.probe.replace(model="mlp"))
    with pytest.raises(ValueError, match="no exact floor"):
        feature_floor(Probe(task="parity", model="mlp", tokens=1024))


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.25), (0.8, 0.7)])
def test_the_floor_falls_with_the_known_exponent(alpha, beta):
    task = RandomFeatureLaw(dimension=2000, data_complexity=alpha, target_complexity=beta)
    rng = np.random.default_rng(0)
    d = np.array([8, 16, 32, 64, 128])
    floors = [np.mean([task.floor(rng.standard_normal((2000, k))) for _ in range(3)]) for k in d]
    slope = np.polyfit(np.log(d), np.log(floors), 1)[0]
    assert slope == pytest.approx(-task.capacity_exponent, abs=0.12)


def expected_risk(probe, steps):
    """Mean risk of one-pass stochastic gradient descent from a zero readout, exact for normal inputs.

    With K the features' covariance and M = E (theta - theta*)(theta - theta*)^T, a step of size 2 lr on a
    batch of B has the fourth moments E phi phi^T M phi phi^T = 2 K M K + K tr(K M).
    """
    task, b, a = probe.task_settings, probe.batch_tokens, 2 * probe.lr
    f = initial_weights(probe)["frozen"].double().numpy()
    k = f.T @ (task.spectrum[:, None] * f)
    best = np.linalg.solve(k, f.T @ (task.spectrum * task.target))
    floor = task.risk(f @ best)
    m, risks = np.outer(best, best), []
    for _ in range(steps + 1):
        risks.append(floor + np.trace(k @ m))
        second = (1 - 1 / b) * k @ m @ k + (2 * k @ m @ k + k * np.trace(k @ m)) / b
        m = m - a * (k @ m + m @ k) + a * a * (second + (floor + task.target_noise**2) / b * k)
    return np.array(risks)


def test_one_pass_descent_has_the_risk_that_theory_expects():
    base = Probe(
        dimension=20, width=5, batch_tokens=4, tokens=4 * 64, lr=0.5, target_noise=0.5, test_size=1,
        evals=4, eval_spacing="linear", **LINEAR,
    )  # fmt: skip
    probes = [base.replace(seed=seed) for seed in range(200)]
    results = train(probes, "cpu")
    steps = [record["step"] for record in results[0].records]
    measured = np.array([[record["loss"] for record in result.records] for result in results])
    expected = np.array([expected_risk(probe, 64)[steps] for probe in probes])
    np.testing.assert_allclose(measured[:, 0], expected[:, 0], rtol=1e-5)
    difference = measured - expected
    z = difference[:, 1:].mean(0) / (difference[:, 1:].std(0) / len(probes) ** 0.5)
    assert np.abs(z).max() < 4
    assert np.all(expected[:, 1:].mean(0) < 0.9 * expected[:, 0].mean())


def test_the_loss_falls_in_time_with_the_known_exponent():
    probe = Probe(
        dimension=300, width=200, batch_tokens=8, tokens=8 * 512, lr=0.15, test_size=1, evals=10,
        feature_std=200**-0.5, **LINEAR,
    )  # fmt: skip
    (result,) = train([probe], "cpu")
    floor = feature_floor(probe)
    steps, losses = np.array([(r["step"], r["loss"] - floor) for r in result.records[1:]]).T
    late = steps >= 16
    slope = np.polyfit(np.log(steps[late]), np.log(losses[late]), 1)[0]
    assert probe.task_settings.time_exponent == 0.75
    assert slope == pytest.approx(-0.75, abs=0.15)
