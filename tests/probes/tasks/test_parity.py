"""Sparse parity against parities counted by hand, and probabilities against their power law."""

import math

import numpy as np
import pytest
import torch

from tests.probes.tasks.examples_contract import ExamplesContract
from workbench.probes import Probe
from workbench.probes.trainer import train

MLP = {"model": "mlp", "width": 16, "batch_tokens": 32, "tokens": 32 * 12, "evals": 2}


class TestParity(ExamplesContract):
    probe = Probe(task="parity", bits=40, relevant=3, subtasks=5, test_size=100, **MLP)
    members = ({}, {"seed": 1, "zipf": 1.0}, {"task_seed": 1, "label_noise": 0.2}, {"seed": 2, "lr": 0.1})
    refused = (({"relevant": 41}, "more than bits"), ({"zipf": -1.0}, "zipf"), ({"coding": "gray"}, "coding"))
    learns = {"bits": 10, "relevant": 2, "subtasks": 1, "width": 64, "tokens": 64 * 200, "batch_tokens": 64, "lr": 0.02}
    trivial = 0.1

    def optimal(self, data, probes):
        def predict(x):
            return torch.stack([by_hand(probe.task_settings, x[min(i, len(x) - 1)]) for i, probe in enumerate(probes)])

        return predict, [0.0] * len(probes)


class TestFiniteParity(TestParity):
    probe = TestParity.probe.replace(train_size=100, coding="binary", subtasks=1)
    learns = {**TestParity.learns, "train_size": 600}


def by_hand(task, x):
    """Logits +-100 [n, 2] for the parity of the bits that the control bit selects."""
    out = torch.zeros(len(x), 2)
    for row, example in enumerate(x):
        subtask = int(example[: task.controls].argmax()) if task.controls else 0
        bits = example[task.controls :]
        parity = sum(int(bits[j] > 0) for j in task.subsets[subtask]) % 2
        out[row, parity], out[row, 1 - parity] = 100.0, -100.0
    return out


def test_subtasks_occur_with_their_probabilities_and_labels_are_balanced():
    probe = Probe(task="parity", bits=100, subtasks=6, zipf=0.5, **{**MLP, "batch_tokens": 20000, "tokens": 20000})
    task = probe.task_settings
    data = task.build([probe], torch.device("cpu"))
    x, y = data.batch(*(rows[0] for rows in data.block(0, 1)))
    share = x[0, :, :6].double().mean(0).numpy()
    p = np.arange(1.0, 7) ** -1.5
    np.testing.assert_allclose(share, p / p.sum(), atol=5 * 0.5 / 20000**0.5)
    bits = x[0, :, 6:].double()
    assert float(bits.mean(0).abs().max()) < 5 / 20000**0.5
    correlation = bits.T @ bits / 20000
    assert float((correlation - torch.eye(100)).abs().max()) < 5.5 / 20000**0.5
    assert abs(float(y.double().mean()) - 0.5) < 5 * 0.5 / 20000**0.5
    np.testing.assert_array_equal(y[0, :300].numpy(), by_hand(task, x[0, :300]).argmax(1).numpy())


def test_small_problems_are_evaluated_on_all_inputs():
    probe = Probe(task="parity", bits=8, relevant=3, test_size=256, **MLP)
    data = probe.task_settings.build([probe], torch.device("cpu"))
    assert len({tuple(row) for row in data.test_inputs[0].tolist()}) == 256
    # a model that knows two of the three bits knows nothing: exactly half of all inputs are right
    s = probe.task_settings.subsets[0]

    def two_of_three(x):
        product = x[..., s[0]] * x[..., s[1]]
        return torch.stack([product, -product], -1)

    assert float(data.evaluate(two_of_three)["accuracy"]) == 0.5


def test_skills_not_learned_cost_log_2_each():
    probe = Probe(task="parity", bits=30, subtasks=8, test_size=800, **MLP)
    task = probe.task_settings
    data = task.build([probe], torch.device("cpu"))

    def first_three(x):
        known = by_hand(task, x[0])
        known[x[0, :, :8].argmax(1) >= 3] = 0.0
        return known[None]

    found = data.evaluate(first_three)
    p = np.arange(1.0, 9) ** -1.4
    p /= p.sum()
    assert float(found["loss"]) == pytest.approx(math.log(2) * p[3:].sum(), abs=1e-6)
    assert float(found["subtasks_learned"]) == 3
    columns = [float(found[f"loss_{k}"]) for k in (1, 2, 4, 8)]
    assert columns == pytest.approx([0, 0, math.log(2), math.log(2)], abs=1e-6)


def test_common_skills_are_learned_first():
    base = Probe(
        task="parity", bits=10, relevant=2, subtasks=8, zipf=1.0, model="mlp", width=64,
        batch_tokens=128, tokens=128 * 250, evals=5, eval_spacing="linear", lr=0.01,
    )  # fmt: skip
    results = train([base.replace(seed=seed, task_seed=seed) for seed in range(4)], "cpu")
    # losses over the course of training, mean of four problems: earlier learned is lower
    course = {k: np.mean([[r[f"loss_{k}"] for r in result.records] for result in results]) for k in (1, 2, 8)}
    assert course[1] < course[2] < course[8]
