"""Adam without epsilon: an arctangent takes the place of the division."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from workbench.probes import late_torch as torch
from workbench.probes.component import number
from workbench.probes.optimizers.base import Optimizer, Rule

if TYPE_CHECKING:
    from workbench.probes.optimizers.stack import Context

__all__ = ["AdamAtan2"]


@dataclass(frozen=True)
class AdamAtan2(Optimizer):
    """atan_gain * atan2(m, atan_scale * sqrt(v)) of Adam's corrected averages (Everett et al. 2024, arXiv 2407.05872).

    It does not change when all gradients are multiplied by a constant, however small, where Adam's epsilon
    would. The default gain 4 / pi makes the update 1 where m = sqrt(v), as in Adam; the form and its two
    constants are as commonly used, the equation was not checked against the paper. Decoupled weight decay.
    """

    name: ClassVar[str] = "adam_atan2"

    beta1: float = number(0.9, 0.0, 0.999999, "decay of the average of gradients", member=True)
    beta2: float = number(0.98, 0.0, 0.999999, "decay of the average of squared gradients", member=True)
    atan_gain: float = number(4 / math.pi, 1e-6, 1e6, "multiplier of the arctangent", member=True)
    atan_scale: float = number(1.0, 1e-6, 1e6, "multiplier of the root mean square inside it", member=True)

    def rule(self, context: Context) -> Rule:
        return _AtanRule(context)


class _AtanRule(Rule):
    def __init__(self, context: Context) -> None:
        super().__init__(context, "m", "v")
        beta1, beta2 = context.column("beta1"), context.column("beta2")
        count = np.arange(1, context.steps + 1)[:, None]
        # atan2 sees only the ratio of its arguments, so both corrections and the scale go to the first
        self.inner = context.by_step(
            np.sqrt(1 - beta2**count) / ((1 - beta1**count) * context.column("atan_scale"))
        )  # fmt: skip
        self.gain = context.tensor(context.column("atan_gain"))
        self.gain1, self.gain2 = context.tensor(1 - beta1), context.tensor(1 - beta2)

    def direction(self, grad: torch.Tensor) -> torch.Tensor:
        m, v = self.slots["m"], self.slots["v"]
        from workbench.probes.functional import by_member

        m.lerp_(grad, self.gain1)
        v.lerp_(grad.mul_(grad), self.gain2)
        torch.sqrt(v, out=grad)
        return by_member(torch.atan2, m * self.inner(), grad).mul_(self.gain)
