"""Single-index targets against numpy's Hermite polynomials; overlaps against networks whose weights are known."""

import math

import numpy as np
import pytest
import torch
from numpy.polynomial.hermite_e import hermeval

from tests.probes.tasks.examples_contract import ExamplesContract
from workbench.probes import Probe
from workbench.probes.trainer import train


class TestSingleIndex(ExamplesContract):
    probe = Probe(
        task="single_index", dimension=6, hermite=(0.5, 0.0, 1.0), test_size=200,
        model="mlp", width=16, batch_tokens=32, tokens=32 * 12, evals=2,
    )  # fmt: skip
    members = ({}, {"seed": 1, "task_seed": 3}, {"target_noise": 0.3}, {"hermite": (0.0, 1.0)})
    refused = (
        ({"hermite": (0.0, 0.0)}, "not all of them zero"),
        ({"hermite": "He3"}, "not a list of numbers"),
        ({"directions": 7}, "more than dimension"),
    )
    learns = {"tokens": 64 * 500, "batch_tokens": 64, "width": 64, "lr": 0.01, "hermite": (1.0, 0.5)}
    trivial = 0.3

    def optimal(self, data, probes):
        def predict(x):
            return torch.stack([target(p.task_settings, x[min(i, len(x) - 1)]) for i, p in enumerate(probes)])

        return predict, [0.0] * len(probes)


class TestMultiIndexSet(TestSingleIndex):
    probe = TestSingleIndex.probe.replace(train_size=100, directions=3)


def target(task, x):
    z = x.double().numpy() @ task.theta.T
    c = [0.0, *(c / math.sqrt(math.factorial(k)) for k, c in enumerate(task.hermite, 1))]
    return torch.tensor(hermeval(z, c).sum(1, keepdims=True) / math.sqrt(task.directions)).float()


def test_variance_is_the_sum_of_squares_and_correlation_starts_at_the_exponent():
    probe = TestSingleIndex.probe.replace(hermite=(0.0, 0.6, 0.8), test_size=200000, directions=2)
    task = probe.task_settings
    data = task.build([probe], torch.device("cpu"))
    y = data.test_targets[0, :, 0].double().numpy()
    assert task.information_exponent == 2 and task.variance == pytest.approx(1)
    assert y.var() == pytest.approx(1, rel=0.06)
    z = data.test_inputs[0].double().numpy() @ task.theta[0]
    moments = [np.mean(y * hermeval(z, np.eye(5)[k])) / math.sqrt(math.factorial(k)) for k in (1, 2, 3)]
    np.testing.assert_allclose(moments, np.array([0, 0.6, 0.8]) / math.sqrt(2), atol=0.03)


def test_the_overlap_of_one_neuron_is_its_cosine():
    probe = TestSingleIndex.probe.replace(dimension=20)
    data = probe.task_settings.build([probe], torch.device("cpu"))
    w = torch.tensor(np.random.default_rng(1).standard_normal(20)).float()
    cosine = abs(w.double().numpy() @ probe.task_settings.theta[0]) / float(w.double().norm())
    for nonlinearity in (torch.tanh, torch.relu, torch.square):
        found = data.evaluate(lambda x, act=nonlinearity: act(x @ w)[..., None])["overlap"]
        assert float(found) == pytest.approx(cosine, abs=1e-3)
    assert float(data.evaluate(lambda x: torch.ones(1, x.shape[1], 1))["overlap"]) == 0
    theta = torch.tensor(probe.task_settings.theta[0]).float()
    assert float(data.evaluate(lambda x: (x @ theta)[..., None] ** 3)["overlap"]) == pytest.approx(1, abs=1e-4)


def test_learning_is_finding_the_direction():
    probe = Probe(
        task="single_index", dimension=16, hermite=(0.0, 1.0), model="mlp", width=64,
        batch_tokens=64, tokens=64 * 500, lr=0.01, evals=2,
    )  # fmt: skip
    (result,) = train([probe], "cpu")
    first, last = result.records[0], result.records[-1]
    assert first["overlap"] < 0.6 and last["overlap"] > 0.9
    assert last["loss"] < 0.3 * first["loss"]
