"""The teacher against its network written out in numpy."""

import numpy as np
import pytest
import torch

from tests.probes.tasks.examples_contract import ExamplesContract
from workbench.probes import Probe, Sweep
from workbench.probes.tasks.teacher_student import teacher_weights
from workbench.probes.trainer import train_sweep


class TestTeacherStudent(ExamplesContract):
    probe = Probe(
        task="teacher_student", dimension=3, teacher_width=8, test_size=200,
        model="mlp", width=16, batch_tokens=32, tokens=32 * 12, evals=2,
    )  # fmt: skip
    members = ({}, {"seed": 1, "task_seed": 3}, {"target_noise": 0.3}, {"lr": 0.1})
    refused = (({"dimension": 0}, "dimension"), ({"target_noise": -1.0}, "target_noise"))
    learns = {"tokens": 64 * 600, "batch_tokens": 64, "width": 64, "lr": 0.005}
    trivial = 0.2

    def optimal(self, data, probes):
        def predict(x):
            return torch.stack([network(p.task_settings, x[min(i, len(x) - 1)]) for i, p in enumerate(probes)])

        return predict, [0.0] * len(probes)


class TestFiniteTeacherStudent(TestTeacherStudent):
    probe = TestTeacherStudent.probe.replace(train_size=100, teacher_activation="tanh", teacher_layers=1)


def network(task, x):
    h = x.double().numpy()
    *hidden, (w, b) = teacher_weights(task)
    for weight, bias in hidden:
        h = h @ weight + bias
        h = np.maximum(h, 0) if task.teacher_activation == "relu" else np.tanh(h)
    return torch.tensor(h @ w + b).float()


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_inputs_fill_the_cube_and_outputs_are_standard(activation):
    probe = TestTeacherStudent.probe.replace(test_size=20000, teacher_activation=activation, dimension=5)
    data = probe.task_settings.build([probe], torch.device("cpu"))
    x, y = data.test_inputs[0].double(), data.test_targets[0].double()
    assert float(x.abs().max()) < 1
    np.testing.assert_allclose(x.var(0).numpy(), 1 / 3, rtol=0.03)
    assert abs(float(y.mean())) < 0.05 and float(y.var()) == pytest.approx(1, rel=0.06)
    # a student that knows nothing
    loss = data.evaluate(lambda x: torch.zeros(1, x.shape[1], 1))["loss"]
    assert float(loss) == pytest.approx(1, rel=0.06)


def test_larger_students_come_closer():
    base = Probe(
        task="teacher_student", dimension=3, teacher_width=32, model="mlp",
        batch_tokens=128, tokens=128 * 400, lr=0.01, evals=1, test_size=2000,
    )  # fmt: skip
    losses = [result.loss for result in train_sweep(Sweep.grid(base, width=[2, 6, 24]), "cpu")]
    assert losses[2] < 0.5 * losses[1] < 0.5 * 0.5 * losses[0]
