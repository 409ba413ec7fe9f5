"""Teacher and student: learn a random network on a cube; error falls with size by the cube's dimension."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from workbench.probes import late_torch as torch
from workbench.probes.component import choice, whole
from workbench.probes.tasks.base import Inputs, Task
from workbench.probes.tasks.draws import uniform_rows
from workbench.probes.tasks.examples import (
    ExampleData,
    parameters_of,
    products,
    target_noise,
    task_seed,
    test_size,
    train_size,
)

if TYPE_CHECKING:
    from workbench.probes.spec import Probe

__all__ = ["TeacherData", "TeacherStudent", "teacher_weights"]

#: Inputs over which a teacher's output is brought to mean 0 and variance 1.
_CALIBRATION = 2**14


@dataclass(frozen=True)
class TeacherStudent(Task):
    """The output of a random network on uniform inputs in the cube [-1, 1]^dimension; squared loss.

    A student of N parameters that cuts the cube into about N pieces, each fitted linearly, errs by
    N^(-2 / d) in the output, so its loss falls as N^(-4 / d), or faster where the teacher is easier
    (Sharma & Kaplan 2020, arXiv 2004.10802). The teacher has `teacher_layers` hidden layers with normal
    weights (variance 2 / inputs for relu, 1 / inputs for tanh) and normal biases of variance 0.01; its
    output is shifted and scaled to mean 0 and variance 1, so a student that knows nothing has loss 1. The
    cube and the scaling are this workbench's choice. The floor is 0 for students that can copy the teacher.
    """

    name: ClassVar[str] = "teacher_student"
    loss: ClassVar[str] = "squared"

    dimension: int = whole(4, 1, 4096, "dimension d of the cube")
    teacher_width: int = whole(64, 1, 4096, "units of each hidden layer of the teacher")
    teacher_layers: int = whole(2, 1, 16, "hidden layers of the teacher")
    teacher_activation: str = choice("relu", ("relu", "tanh"), "nonlinearity of the teacher")
    target_noise: float = target_noise()
    train_size: int = train_size()
    test_size: int = test_size(8192)
    task_seed: int = task_seed()

    @property
    def inputs(self) -> Inputs:
        return Inputs("vectors", self.dimension)

    @property
    def outputs(self) -> int:
        return 1

    def build(self, probes: Sequence[Probe], device: torch.device) -> TeacherData:
        return TeacherData(probes, device)


class TeacherData(ExampleData):
    """Stacked streams or sets of a teacher's examples; see `ExampleData`.

    Targets are computed in float64, whatever the precision of training; they agree to rounding between devices.
    """

    task: TeacherStudent

    def prepare(self) -> None:
        teachers = [teacher_weights(t) for t in self.tasks]
        self.layers = [
            tuple(parameters_of([one[layer][part] for one in teachers], self.device, torch.float64) for part in (0, 1))
            for layer in range(len(teachers[0]))
        ]  # weights [E, inputs, outputs] and biases [E, 1, outputs]

    @property
    def width(self) -> int:
        return self.task.dimension

    def raw(self, keys: torch.Tensor, numbers: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (2 * uniform_rows(keys[:, None], numbers, self.task.dimension) - 1,)

    def make(self, raw: tuple[torch.Tensor, ...], members: slice) -> tuple[torch.Tensor, torch.Tensor]:
        h = raw[0]
        *hidden, (w, b) = self.layers
        for weight, bias in hidden:
            h = products(h, weight[members]) + bias[members]
            h = h.relu() if self.task.teacher_activation == "relu" else h.tanh()
        return raw[0], (products(h, w[members]) + b[members]).float()


def teacher_weights(task: TeacherStudent) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Weights [inputs, outputs] and biases [1, outputs] of every layer of a task's teacher (float64)."""
    return _teacher(task.dimension, task.teacher_width, task.teacher_layers, task.teacher_activation, task.task_seed)


@lru_cache(maxsize=64)
def _teacher(
    dimension: int, width: int, layers: int, activation: str, seed: int
) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    rng = np.random.default_rng(seed)
    gain = math.sqrt(2) if activation == "relu" else 1.0
    sizes = [dimension, *[width] * layers, 1]
    found = []
    for inputs, outputs in pairwise(sizes):
        weight = rng.standard_normal((inputs, outputs)) * (gain / math.sqrt(inputs))
        found.append((weight, 0.1 * rng.standard_normal((1, outputs))))
    h = rng.uniform(-1, 1, (_CALIBRATION, dimension))
    for weight, bias in found[:-1]:
        h = h @ weight + bias
        h = np.maximum(h, 0) if activation == "relu" else np.tanh(h)
    weight, bias = found[-1]
    y = h @ weight + bias
    # rounded, so that mathematics libraries that differ in the last bits give one teacher
    mean, std = (float(np.format_float_positional(v, 9, fractional=False)) for v in (y.mean(), y.std()))
    std = std or 1.0  # a teacher that is constant on the cube
    found[-1] = (weight / std, (bias - mean) / std)
    return tuple(found)
