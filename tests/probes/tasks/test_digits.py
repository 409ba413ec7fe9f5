"""Digits against scikit-learn's own copy and its logistic regression."""

import hashlib

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from tests.probes.tasks.examples_contract import ExamplesContract
from workbench.probes import Probe
from workbench.probes.tasks import digits
from workbench.probes.trainer import train


class TestDigits(ExamplesContract):
    probe = Probe(task="digits", train_size=64, model="mlp", width=16, batch_tokens=16, tokens=16 * 12, evals=2)
    members = ({}, {"seed": 1, "task_seed": 3}, {"label_noise": 0.3}, {"train_size": 300})
    refused = (({"train_size": 1438}, "train_size"), ({"test_size": 400}, "test_size"), ({"form": "image"}, "form"))
    learns = {"tokens": 32 * 200, "batch_tokens": 32, "train_size": 1437}
    trivial = 0.4

    def test_evaluation_shows_nothing_that_is_trained_on(self):
        for probe in self.stack:  # one by one: another split holds out other images
            data = self.build([probe])
            seen = [data.batch(*(rows[0] for rows in data.block(step, 1)))[0] for step in range(30)]
            assert not self.heldout(data) & {row.numpy().tobytes() for row in torch.cat(seen, 1)[0]}


class TestDigitRows(TestDigits):
    probe = TestDigits.probe.replace(form="signals")


def test_the_split_is_a_partition_of_the_images():
    probe = TestDigits.probe.replace(train_size=1437)
    data = probe.task_settings.build([probe], torch.device("cpu"))
    raw = load_digits()
    x = torch.cat([data.inputs[0, :1437], data.test_inputs[0]]).double().numpy()
    y = torch.cat([data.targets[0, :1437], data.test_targets[0]]).numpy()
    mine = sorted((*row, label) for row, label in zip(((x + 1) * 8).tolist(), y, strict=True))
    theirs = sorted((*row, label) for row, label in zip(raw.data.tolist(), raw.target, strict=True))
    assert mine == theirs
    bytes_ = raw.data.astype(np.uint8).tobytes() + raw.target.astype(np.uint8).tobytes()
    assert data.facts(0) == {
        "digits_sha256": hashlib.sha256(bytes_).hexdigest(),
        "unique_tokens": 1437,
        "epochs": probe.tokens / 1437,
    }


def test_rows_of_an_image_are_its_positions():
    one, other = (p.task_settings.build([p], torch.device("cpu")) for p in (TestDigits.probe, TestDigitRows.probe))
    assert torch.equal(one.test_inputs.view(1, 360, 8, 8), other.test_inputs)


def test_other_images_are_refused(monkeypatch):
    monkeypatch.setattr(digits, "CHECKSUM", "0" * 64)
    digits.load.cache_clear()
    with pytest.raises(ValueError, match="checksum"):
        digits.load()
    digits.load.cache_clear()


def test_a_linear_model_does_as_well_as_scikit_learns():
    probe = TestDigits.probe.replace(train_size=1437, depth=0, tokens=50 * 1000, batch_tokens=50, lr=0.01)
    (result,) = train([probe], "cpu")
    data = probe.task_settings.build([probe], torch.device("cpu"))
    reference = LogisticRegression(max_iter=2000).fit(data.inputs[0, :1437].numpy(), data.targets[0, :1437].numpy())
    score = reference.score(data.test_inputs[0].numpy(), data.test_targets[0].numpy())
    assert result.records[-1]["accuracy"] == pytest.approx(score, abs=0.03)
