"""XOR clusters against their geometry, and the two phases of learning that are proved for them."""

import numpy as np
import pytest
import torch

from tests.probes.tasks.examples_contract import ExamplesContract
from workbench.probes import Probe
from workbench.probes.trainer import train


class TestXorClusters(ExamplesContract):
    probe = Probe(
        task="xor_clusters", dimension=30, signal=4.0, train_size=64, test_size=100,
        model="mlp", width=16, batch_tokens=16, tokens=16 * 12, evals=2,
    )  # fmt: skip
    members = ({}, {"seed": 1, "task_seed": 3}, {"label_noise": 0.3}, {"signal": 2.0}, {"train_size": 200})
    refused = (({"label_noise": 1.5}, "label_noise"), ({"train_size": 0}, "train_size"))
    learns = {"tokens": 32 * 200, "batch_tokens": 32, "train_size": 1024, "width": 32}
    trivial = 0.3


def test_clusters_are_where_they_should_be_and_the_best_error_is_the_known_one():
    probe = TestXorClusters.probe.replace(signal=1.5, test_size=40000, dimension=10)
    data = probe.task_settings.build([probe], torch.device("cpu"))
    x, y = data.test_inputs[0].double().numpy(), data.test_targets[0].numpy()
    mu = data.means[0].double().numpy()
    np.testing.assert_allclose(mu @ mu.T, 1.5**2 * np.eye(2), atol=1e-5)
    along = x @ mu.T / 1.5  # coordinates along the two means
    own = along[np.arange(len(y)), y]
    assert np.mean(own > 0) == pytest.approx(0.5, abs=0.015)  # both signs alike
    assert np.mean(own**2) == pytest.approx(1 + 1.5**2, rel=0.03)
    other = along[np.arange(len(y)), 1 - y]
    assert other.mean() == pytest.approx(0, abs=0.03) and other.std() == pytest.approx(1, rel=0.02)
    best = np.abs(along[:, 1]) > np.abs(along[:, 0])
    assert np.mean(best != y) == pytest.approx(probe.task_settings.bayes_error, abs=0.01)
    # nothing linear helps
    w = np.linalg.lstsq(x, 2.0 * y - 1, rcond=None)[0]
    assert np.mean((x @ w > 0) == y) == pytest.approx(0.5, abs=0.03)


def test_labels_are_fitted_first_and_understood_later():
    probe = Probe(
        task="xor_clusters", dimension=4000, signal=18.0, label_noise=0.15, train_size=200, test_size=500,
        model="mlp", depth=1, width=128, init_scale=0.1, optimizer="sgd", lr=0.3, schedule="constant", warmup=0.0,
        batch_tokens=200, tokens=200 * 14, evals=14, eval_spacing="linear",
    )  # fmt: skip
    (result,) = train([probe], "cpu")
    early, last = result.records[2], result.records[-1]
    assert early["accuracy_train"] > 0.85 and early["accuracy"] < 0.6
    assert last["accuracy_train"] == 1  # the 15 % of flipped labels included
    assert last["accuracy"] > 0.95
