"""Signals against their recipe: templates by hand, noise by its statistics."""

import numpy as np
import pytest
import torch

from tests.probes.tasks.examples_contract import ExamplesContract
from workbench.probes import Probe
from workbench.probes.tasks.signals import templates
from workbench.probes.trainer import train


class TestSignals(ExamplesContract):
    probe = Probe(task="signals", points=24, train_size=64, test_size=100, model="mlp", width=16,
                  batch_tokens=16, tokens=16 * 12, evals=2)  # fmt: skip
    members = ({}, {"seed": 1, "task_seed": 3}, {"label_noise": 0.3}, {"background": 0.5}, {"jitter": 0.2},
               {"shear": 0.0}, {"train_size": 200})  # fmt: skip
    refused = (({"form": "images"}, "form"), ({"background": -1.0}, "background"))
    learns = {"tokens": 32 * 400, "batch_tokens": 32, "train_size": 2000, "points": 40, "width": 64}
    trivial = 2.0


class TestSignalVectors(TestSignals):
    probe = TestSignals.probe.replace(form="vectors")


def data_of(**changes):
    probe = TestSignals.probe.replace(points=80, test_size=4000, **changes)
    return probe.task_settings.build([probe], torch.device("cpu"))


def test_without_noise_a_signal_is_its_template_moved_and_stretched():
    data = data_of(background=0.0, jitter=0.0, shear=0.0)
    x, y = data.test_inputs[0, :, :, 0].double().numpy(), data.test_targets[0].numpy()
    shapes = templates()
    spans = []
    for signal, label in zip(x[:60], y[:60], strict=True):
        inside = np.flatnonzero(signal)
        span = inside[-1] - inside[0] + 1
        spans.append(span / 79)
        # the best of all placements of its own template explains it, up to a height of 0.8 to 1.2
        best = np.inf
        for length in np.linspace(0.2, 0.4, 41):
            for start in np.linspace(inside[0] / 79 - 1 / 79, inside[0] / 79, 8):
                at = (np.arange(80) / 79 - start) / length
                t = np.interp(at, np.linspace(0, 1, 12), shapes[label], left=0, right=0)
                height = np.clip(t @ signal / max(t @ t, 1e-9), 0.8, 1.2)
                best = min(best, np.sum((signal - height * t) ** 2) / np.sum(signal**2))
        assert best < 0.05
    assert min(spans) > 0.17 and max(spans) < 0.43
    np.testing.assert_allclose(np.bincount(y) / 4000, 0.1, atol=5 * 0.3 / 4000**0.5)


def test_noise_has_its_size_and_reach():
    clean, tilted = data_of(background=0.0, jitter=0.0, shear=0.0), data_of(background=0.0, jitter=0.0, shear=2.0)
    slope = (tilted.test_inputs - clean.test_inputs)[0, :, :, 0].double()
    rise = slope[:, -1] - slope[:, 0]
    assert float(rise.abs().max()) <= 1 + 1e-6 and float(rise.std()) == pytest.approx(2 / 12**0.5, rel=0.05)
    assert float((slope.diff(dim=1) - rise[:, None] / 79).abs().max()) < 1e-5  # a straight line
    jitter = (data_of(background=0.0, jitter=0.5, shear=0.0).test_inputs - clean.test_inputs)[0, :, :, 0].double()
    assert float(jitter.std()) == pytest.approx(0.5, rel=0.01)
    assert abs(float((jitter[:, 1:] * jitter[:, :-1]).mean())) < 0.01
    x = (data_of(background=0.5, jitter=0.0, shear=0.0).test_inputs - clean.test_inputs)[0, :, :, 0].double()
    outside = clean.test_inputs[0, :, :, 0] == 0
    assert float(x[outside].std()) == pytest.approx(0.5, rel=0.03)
    both = outside[:, 1:] & outside[:, :-1]
    neighbours = float((x[:, 1:] * x[:, :-1])[both].mean()) / 0.25
    assert neighbours == pytest.approx((4 + 24 + 24 + 4) / 70, abs=0.03)  # binomial weights with themselves shifted
    assert float((x[~outside]).abs().max()) < 1e-5


def test_templates_are_ten_different_standard_shapes():
    shapes = templates()
    np.testing.assert_allclose(shapes.mean(1), 0, atol=1e-6)
    np.testing.assert_allclose((shapes**2).mean(1), 1, atol=1e-5)
    alike = shapes @ shapes.T / 12 - np.eye(10)
    assert alike.max() < 0.95


def test_a_convolutional_net_reads_signals():
    probe = TestSignals.probe.replace(model="convolution", **TestSignals.learns).replace(tokens=32 * 100)
    (result,) = train([probe], "cpu")
    assert result.status == "finished" and result.loss < 2.2
