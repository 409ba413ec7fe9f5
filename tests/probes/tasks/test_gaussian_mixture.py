"""Mixtures against the posterior written out, and errors against closed forms and counting."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from tests.probes.tasks.examples_contract import ExamplesContract
from workbench.probes import Probe
from workbench.probes.tasks.gaussian_mixture import GaussianMixture
from workbench.probes.trainer import train

SMALL = {"model": "mlp", "width": 16, "batch_tokens": 16, "tokens": 16 * 12, "evals": 2}


class TestGaussianMixture(ExamplesContract):
    probe = Probe(task="gaussian_mixture", classes=3, dimension=8, train_size=64, test_size=300, **SMALL)
    members = ({}, {"seed": 1, "task_seed": 3}, {"label_noise": 0.3}, {"separation": 4.0}, {"imbalance": 10.0},
               {"train_size": 200})  # fmt: skip
    refused = (({"classes": 9}, "less than classes"), ({"imbalance": 0.5}, "imbalance"))
    learns = {"tokens": 32 * 200, "batch_tokens": 32, "train_size": 1024, "separation": 4.0}
    trivial = 0.3


def posterior(task, x):
    return torch.tensor(x.double().numpy() @ task.means.T + np.log(task.priors)).float()


@pytest.mark.parametrize(("classes", "imbalance", "separation"), [(2, 1.0, 1.5), (2, 8.0, 1.0), (5, 20.0, 2.0)])
def test_the_posterior_reaches_the_computed_error_and_floor(classes, imbalance, separation):
    probe = TestGaussianMixture.probe.replace(
        classes=classes, imbalance=imbalance, separation=separation, test_size=60000
    )
    task = probe.task_settings
    data = task.build([probe], torch.device("cpu"))
    found = data.evaluate(lambda x: posterior(task, x[0])[None])
    errors = [1 - float(found[f"accuracy_class_{k}"]) for k in range(classes)]
    np.testing.assert_allclose(errors, task.bayes_errors, atol=5 * 0.5 / (60000 / classes) ** 0.5)
    assert 1 - float(found["accuracy"]) == pytest.approx(task.bayes_error, abs=0.01)
    assert float(found["loss"]) == pytest.approx(task.floor, abs=0.015)


def test_errors_of_closed_form():
    # two classes, alike: the distance of the means is sqrt(2) s
    task = GaussianMixture(classes=2, separation=1.7)
    assert task.bayes_error == pytest.approx(norm.sf(1.7 / math.sqrt(2)), abs=1e-9)
    # without separation only the priors are known
    task = GaussianMixture(classes=4, separation=0.0, imbalance=8.0)
    assert task.bayes_error == pytest.approx(1 - task.priors[0])
    assert task.floor == pytest.approx(-float(task.priors @ np.log(task.priors)), rel=1e-6)
    np.testing.assert_allclose(task.priors, np.array([8, 4, 2, 1]) / 15)
    assert GaussianMixture(separation=40.0).floor < 1e-6


def test_training_sets_have_the_priors_and_the_means():
    probe = TestGaussianMixture.probe.replace(imbalance=6.0, train_size=30000)
    task = probe.task_settings
    data = task.build([probe], torch.device("cpu"))
    x, y = data.inputs[0, :30000].double().numpy(), data.targets[0, :30000].numpy()
    np.testing.assert_allclose(np.bincount(y) / 30000, task.priors, atol=5 * 0.5 / 30000**0.5)
    for k in range(3):
        np.testing.assert_allclose(x[y == k].mean(0), task.means[k], atol=5 / np.sum(y == k) ** 0.5)
    np.testing.assert_allclose(task.means @ task.means.T, 4 * np.eye(3), atol=1e-6)


def test_rare_classes_are_learned_worse():
    probe = Probe(task="gaussian_mixture", classes=4, dimension=16, imbalance=50.0, separation=3.0, train_size=500,
                  model="mlp", width=32, batch_tokens=50, tokens=50 * 200, lr=0.01, evals=1)  # fmt: skip
    (result,) = train([probe], "cpu")
    last = result.records[-1]
    assert last["accuracy_class_0"] > last["accuracy_class_3"] + 0.1
    assert last["accuracy"] > last["accuracy_balanced"]
    assert result.provenance["bayes_error"] < 1 - last["accuracy"] + 0.01
