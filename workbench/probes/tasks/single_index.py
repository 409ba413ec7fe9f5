"""Single-index targets: a function of one hidden direction, as hard to find as its information exponent says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from workbench.probes import late_torch as torch
from workbench.probes.component import own, whole
from workbench.probes.tasks.base import Inputs, Predict, Task
from workbench.probes.tasks.draws import normal_rows
from workbench.probes.tasks.examples import (
    ExampleData,
    orthonormal,
    parameters_of,
    products,
    row_means,
    target_noise,
    task_seed,
    test_size,
    train_size,
)

if TYPE_CHECKING:
    from workbench.probes.spec import Probe

__all__ = ["SingleIndex", "SingleIndexData"]

#: Held-out inputs at which the gradient of the model is taken, and half the step of its finite differences.
_PLACES, _STEP = 32, 2.0**-6


def _coefficients(name: str, value: object) -> tuple[float, ...]:
    """Coefficients of Hermite polynomials of degree 1, 2, ..., without trailing zeros."""
    try:
        found = [float(c) for c in value]
    except (TypeError, ValueError):
        raise TypeError(f"{name}={value!r} is not a list of numbers, the coefficients of He_1, He_2, ...") from None
    while found and found[-1] == 0:
        found.pop()
    if not 1 <= len(found) <= 10 or not all(math.isfinite(c) for c in found):
        raise ValueError(f"{name}={value!r} must hold one to ten finite coefficients, not all of them zero.")
    return tuple(found)


@dataclass(frozen=True)
class SingleIndex(Task):
    """y = sum over r directions of g(<theta_r, x>) / sqrt(r), x standard normal; squared loss.

    g = sum_k c_k He_k / sqrt(k!) in the orthonormal Hermite polynomials (probabilists'), so its variance is
    sum_k c_k^2, which is also the loss of a model that knows nothing. The smallest k with c_k != 0 is the
    information exponent: online gradient descent on the sphere finds the direction after about d examples
    for k = 1, d log d for k = 2 and d^(k - 1) for k >= 3, up to logarithms (Ben Arous, Gheissari &
    Jagannath 2021, arXiv 2003.10409; form as commonly quoted, not checked against the paper).
    """

    name: ClassVar[str] = "single_index"
    loss: ClassVar[str] = "squared"

    dimension: int = whole(32, 1, 4096, "dimension d of the inputs")
    directions: int = whole(1, 1, 64, "orthonormal hidden directions r; their functions add up")
    hermite: tuple = own((0.0, 0.0, 1.0), _coefficients, "coefficients c_1, c_2, ... of g", member=True)
    target_noise: float = target_noise()
    train_size: int = train_size()
    test_size: int = test_size()
    task_seed: int = task_seed()

    def check(self) -> None:
        if self.directions > self.dimension:
            raise ValueError(f"directions={self.directions} is more than dimension={self.dimension}; lower it.")

    @property
    def inputs(self) -> Inputs:
        return Inputs("vectors", self.dimension)

    @property
    def outputs(self) -> int:
        return 1

    @property
    def information_exponent(self) -> int:
        """The smallest degree k with c_k != 0."""
        return next(k for k, c in enumerate(self.hermite, 1) if c)

    @property
    def variance(self) -> float:
        """Variance of the target: the loss of a model that says 0."""
        return sum(c * c for c in self.hermite)

    @property
    def theta(self) -> np.ndarray:
        """The hidden directions, [directions, dimension]."""
        return orthonormal(self.task_seed, self.directions, self.dimension)

    def build(self, probes: Sequence[Probe], device: torch.device) -> SingleIndexData:
        return SingleIndexData(probes, device)


class SingleIndexData(ExampleData):
    """Stacked streams or sets of single-index examples; see `ExampleData`.

    Targets are computed in float64; they agree to rounding between devices.

    Beside ``loss`` there is ``overlap``, from 0 to 1: the root of the share of the model's mean squared
    gradient, over held-out inputs, that lies in the span of the hidden directions. For one neuron of weights
    w it is |<theta, w>| / |w|; a model that varies in no direction has overlap 0. It needs outputs only:
    gradients are central differences.
    """

    task: SingleIndex

    def prepare(self) -> None:
        self.theta = parameters_of([t.theta.T for t in self.tasks], self.device, torch.float64)  # [E, d, r]
        degrees = max(len(t.hermite) for t in self.tasks)
        padded = [np.pad(t.hermite, (0, degrees - len(t.hermite))) for t in self.tasks]
        self.coefficients = parameters_of(padded, self.device, torch.float64)  # [E, K]

    @property
    def width(self) -> int:
        return self.task.dimension

    def raw(self, keys: torch.Tensor, numbers: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (normal_rows(keys[:, None], numbers, self.task.dimension),)

    def make(self, raw: tuple[torch.Tensor, ...], members: slice) -> tuple[torch.Tensor, torch.Tensor]:
        z = products(raw[0], self.theta[members])  # [M, n, r]
        c = self.coefficients[members]
        before, now = torch.ones_like(z), z
        y = c[:, :1, None] * z
        for k in range(2, c.shape[1] + 1):
            # orthonormal: sqrt(k) h_k = z h_(k-1) - sqrt(k - 1) h_(k-2)
            before, now = now, (z * now - math.sqrt(k - 1) * before) / math.sqrt(k)
            y = y + c[:, k - 1, None, None] * now
        total = y[..., 0]
        for r in range(1, y.shape[2]):
            total = total + y[..., r]
        return raw[0], (total / math.sqrt(y.shape[2])).float()[..., None]

    def evaluate(self, predict: Predict) -> dict[str, torch.Tensor]:
        return {**super().evaluate(predict), "overlap": self._overlap(predict)}

    def _overlap(self, predict: Predict) -> torch.Tensor:
        d = self.task.dimension
        places = self.test_inputs[:, :_PLACES]
        step = _STEP * torch.eye(d, device=self.device)
        along, whole = [], []
        for place in places.unbind(1):  # [G, d]
            moved = torch.cat([place[:, None] + step, place[:, None] - step], 1)  # [G, 2 d, d]
            up, down = predict(moved)[..., 0].double().split(d, 1)
            slope = up - down  # [E, d]
            whole.append(row_means(slope.square()))
            inside = products(slope[:, None], self.theta)[:, 0]  # [E, r]
            along.append(row_means(inside.square()) * (inside.shape[1] / d))
        whole, along = (row_means(torch.stack(one, 1)) for one in (whole, along))
        return (along / whole.clamp_min(1e-300)).clamp_max(1.0).sqrt()
