"""Random features: a first layer as drawn, a trained linear readout; linear in all that is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from workbench.probes.component import choice, number, whole
from workbench.probes.models.base import Model, Weight
from workbench.probes.models.mlp import ACTIVATIONS

if TYPE_CHECKING:
    import torch

    from workbench.probes.ops import Ops
    from workbench.probes.tasks.base import Task

__all__ = ["RandomFeatures"]


@dataclass(frozen=True)
class RandomFeatures(Model):
    """act(W x) with W drawn once from the probe's seed and never trained, and a head (Rahimi & Recht 2007).

    With ``activation="identity"`` the features are a random projection, the model of Maloney et al. 2022
    (arXiv 2210.16859) and Paquette et al. 2024 (arXiv 2405.15074). `Probe.params` counts the head alone;
    memory holds W and its unused optimizer state too.
    """

    name: ClassVar[str] = "random_features"
    accepts: ClassVar[tuple[str, ...]] = ("vectors",)

    width: int = whole(64, 1, 2**20, "number of random features")
    activation: str = choice("identity", ACTIVATIONS, "of the features")
    feature_std: float | None = number(
        None, 1e-9, 1e9, "standard deviation of the frozen weights; 1 / sqrt(inputs) unless given", optional=True
    )
    head_init: str = choice("zeros", ("zeros", "normal"), "initial head: 0, or variance 1 / width")

    def weights(self, task: Task) -> dict[str, Weight]:
        inputs = task.inputs.size
        std = 0.0 if self.head_init == "zeros" else 1 / math.sqrt(self.width)
        return {
            "frozen": Weight((inputs, self.width), "frozen", self.feature_std or 1 / math.sqrt(inputs)),
            "head": Weight((self.width, task.outputs), "output", std),
        }

    def hidden(self, ops: Ops, x: torch.Tensor) -> torch.Tensor:
        return ops.see("features", ops.activation(ops.frozen(x, "frozen"), self.activation))
