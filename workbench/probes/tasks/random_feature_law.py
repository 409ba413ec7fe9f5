"""Linear regression with power-law spectra, seen through random features: a scaling law whose truth is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from workbench.probes import late_torch as torch
from workbench.probes.component import number, whole
from workbench.probes.tasks.base import Inputs, Predict, Task
from workbench.probes.tasks.draws import normal_rows
from workbench.probes.tasks.examples import (
    ExampleData,
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

__all__ = ["RandomFeatureData", "RandomFeatureLaw", "feature_floor"]

#: A model counts as linear where a prediction from its outputs on unit vectors is off by less than this share.
_LINEAR = 1e-4


@dataclass(frozen=True)
class RandomFeatureLaw(Task):
    """y = <b, x> with x_j = j^-alpha z_j, z standard normal, and b_j = j^-beta, j = 1 ... dimension; squared loss.

    The model of Maloney, Roberts & Sully 2022 (arXiv 2210.16859; there beta = 0 in these terms) and of
    Paquette et al. 2024 (arXiv 2405.15074), where alpha is the data complexity and beta the target
    complexity. Train a linear readout of d random features on it (model ``random_features`` with the
    identity as activation). For such models ``loss`` is the exact population risk, and the best d features
    can do is exact too (`feature_floor`). It falls as d^-`capacity_exponent`, and the loss of gradient
    descent in time as t^-`time_exponent` until then (the leading terms F_0 and F_pp as commonly quoted,
    equations not checked against the paper; 2 alpha + 2 beta > 1).
    """

    name: ClassVar[str] = "random_feature_law"
    loss: ClassVar[str] = "squared"

    dimension: int = whole(1024, 1, 2**17, "dimension v of the inputs")
    data_complexity: float = number(1.0, 0.0, 4.0, "alpha: inputs have standard deviations j^-alpha", member=True)
    target_complexity: float = number(0.25, -4.0, 4.0, "beta: target coefficients j^-beta", member=True)
    target_noise: float = target_noise()
    train_size: int = train_size()
    test_size: int = test_size(256)
    task_seed: int = task_seed()

    @property
    def inputs(self) -> Inputs:
        return Inputs("vectors", self.dimension)

    @property
    def outputs(self) -> int:
        return 1

    @property
    def spectrum(self) -> np.ndarray:
        """Variances lambda_j = j^-2 alpha of the inputs, [v]."""
        return np.arange(1.0, self.dimension + 1) ** (-2 * self.data_complexity)

    @property
    def target(self) -> np.ndarray:
        """Coefficients b_j = j^-beta of the target, [v]."""
        return np.arange(1.0, self.dimension + 1) ** -self.target_complexity

    @property
    def variance(self) -> float:
        """Variance of the clean target, sum_j lambda_j b_j^2: the loss of a model that says 0."""
        return float(self.spectrum @ self.target**2)

    def risk(self, w: np.ndarray) -> float:
        """Population risk sum_j lambda_j (w_j - b_j)^2 of the linear predictor <w, x>, w [v]."""
        return float(self.spectrum @ (np.asarray(w) - self.target) ** 2)

    def floor(self, features: np.ndarray) -> float:
        """Smallest risk of a linear readout of features x F, F [v, d]: exact, by least squares (float64)."""
        root = np.sqrt(self.spectrum)
        a, b = root[:, None] * np.asarray(features, dtype=np.float64), root * self.target
        return float(np.sum((b - a @ np.linalg.lstsq(a, b, rcond=None)[0]) ** 2))

    @property
    def capacity_exponent(self) -> float:
        """2 alpha - max(0, 1 - 2 beta): the floor of d features falls as d to minus this, for d well below v."""
        return 2 * self.data_complexity - max(0.0, 1 - 2 * self.target_complexity)

    @property
    def time_exponent(self) -> float:
        """(2 alpha + 2 beta - 1) / (2 alpha): fall of the loss in steps times learning rate, before the floor."""
        a, b = self.data_complexity, self.target_complexity
        return (2 * a + 2 * b - 1) / (2 * a) if a else 0.0

    def build(self, probes: Sequence[Probe], device: torch.device) -> RandomFeatureData:
        return RandomFeatureData(probes, device)


class RandomFeatureData(ExampleData):
    """Stacked streams or sets of power-law regression; see `ExampleData`.

    Inputs are the same bits on every device up to the last digit of j^-alpha; targets are computed in
    float64 and agree to rounding.
    """

    task: RandomFeatureLaw

    def prepare(self) -> None:
        self.scale = parameters_of([np.sqrt(t.spectrum) for t in self.tasks], self.device, torch.float32)  # [E, v]
        self.target = parameters_of([t.target for t in self.tasks], self.device, torch.float64)
        self.spectrum = parameters_of([t.spectrum for t in self.tasks], self.device, torch.float64)

    @property
    def width(self) -> int:
        return self.task.dimension

    def raw(self, keys: torch.Tensor, numbers: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (normal_rows(keys[:, None], numbers, self.task.dimension),)

    def make(self, raw: tuple[torch.Tensor, ...], members: slice) -> tuple[torch.Tensor, torch.Tensor]:
        x = raw[0] * self.scale[members][:, None]
        return x, products(x, self.target[members][..., None]).float()

    def evaluate(self, predict: Predict) -> dict[str, torch.Tensor]:
        """``loss``: the exact population risk of a linear model, found from its outputs on 0 and on unit vectors.

        That takes v forward passes an evaluation. It is the risk on clean targets: with `target_noise` sigma,
        add sigma^2 for the risk on noisy ones. Whether the model is linear is tried on the held-out inputs (to
        1e-4 of its size there); where it is not, ``loss`` is the mean over the held-out inputs, which
        ``loss_sampled`` is always. ``exact`` is 1 where ``loss`` is exact, else 0. With a finite training set
        also ``loss_train``.
        """
        found = super().evaluate(predict)
        zero = torch.zeros(1, 1, self.task.dimension, device=self.device)
        constant = predict(zero)[:, :, 0].double()  # [E, 1]
        rows = torch.arange(self.task.dimension, device=self.device)
        units = [(part[:, None] == rows).float()[None] for part in rows.split(self.chunk)]
        w = torch.cat([predict(one)[..., 0].double() for one in units], 1) - constant  # [E, v]
        risk = row_means(self.spectrum * (w - self.target).square()) * self.task.dimension
        risk = risk + constant[:, 0].square().cpu()
        x = self.test_inputs[:, : self.chunk]
        told = predict(x)[..., 0].double()
        linear = products(x.expand(len(w), -1, -1), w[..., None])[..., 0] + constant
        size = row_means(w.square() * self.spectrum) * self.task.dimension + constant[:, 0].square().cpu()
        exact = row_means((told - linear).square()) <= _LINEAR**2 * size
        return {
            **found,
            "loss": torch.where(exact, risk, found["loss"]),
            "loss_sampled": found["loss"],
            "exact": exact.double(),
        }

    def facts(self, member: int) -> dict[str, Any]:
        """``loss_of_zero``: the risk of a model that says 0."""
        return {**super().facts(member), "loss_of_zero": self.tasks[member].variance}


def feature_floor(probe: Probe) -> float:
    """The smallest population risk that training the readout of this probe's frozen features can reach.

    Args:
        probe: of task ``random_feature_law``, with a model whose features are linear in the input and not
            trained. They are those of its initial weights.

    Raises:
        ValueError: the probe has another task, or its features are trained or not linear.
    """
    from workbench.probes.initial import initial_weights
    from workbench.probes.ops import Ops
    from workbench.probes.parametrization import multipliers

    task, model = probe.task_settings, probe.model_settings
    weights = model.weights(task)
    if not isinstance(task, RandomFeatureLaw):
        raise ValueError(f"task={probe.task!r} has no exact floor; it is known for task='random_feature_law'.")
    if any(one.role != "frozen" for name, one in weights.items() if name != "head"):
        raise ValueError(f"model={probe.model!r} trains its features; a floor is known for frozen ones only.")
    ops = Ops({k: w[None] for k, w in initial_weights(probe).items()}, multipliers(probe, weights), torch.float32)
    with torch.no_grad():
        features = model.hidden(ops, torch.eye(task.dimension)[None])[0].double()  # [v, d]
        x = torch.linspace(-1, 1, task.dimension)[None, None]
        told = model.hidden(ops, x)[0, 0].double()
    linear = x[0, 0].double() @ features
    if float((told - linear).norm()) > _LINEAR * float(told.norm()):
        raise ValueError(f"the features of model={probe.model!r} are not linear; choose the identity as activation.")
    return task.floor(features.numpy())
