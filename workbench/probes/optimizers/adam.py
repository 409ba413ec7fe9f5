"""Adam and its closest relatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from workbench.probes import late_torch as torch
from workbench.probes.component import number
from workbench.probes.optimizers.base import Optimizer, Rule

if TYPE_CHECKING:
    from workbench.probes.optimizers.stack import Context

__all__ = ["AMSGrad", "Adam", "AdamRule", "AdamW"]


@dataclass(frozen=True)
class AdamW(Optimizer):
    """Adam with bias correction and decoupled weight decay (Loshchilov & Hutter, arXiv 1711.05101)."""

    name: ClassVar[str] = "adamw"

    beta1: float = number(0.9, 0.0, 0.999999, "decay of the average of gradients", member=True)
    beta2: float = number(0.98, 0.0, 0.999999, "decay of the average of squared gradients", member=True)
    eps: float = number(1e-8, 1e-30, 1.0, "added to the root of the average square", member=True)

    def rule(self, context: Context) -> Rule:
        return AdamRule(context)


@dataclass(frozen=True)
class Adam(AdamW):
    """Adam as first published (Kingma & Ba 2015, arXiv 1412.6980), with L2 regularization as its weight decay.

    The gradient of weight_decay / 2 |w|^2 is added to the loss's, and is normalized with it.
    """

    name: ClassVar[str] = "adam"
    coupled_decay: ClassVar[bool] = True


@dataclass(frozen=True)
class AMSGrad(AdamW):
    """AdamW whose second moment never falls: max over steps of v (Reddi et al. 2018, arXiv 1904.09237).

    The largest v is taken before bias correction, as torch does.
    """

    name: ClassVar[str] = "amsgrad"

    def rule(self, context: Context) -> Rule:
        return _AMSGradRule(context)


class AdamRule(Rule):
    """Adam's direction from the slots m and v."""

    def __init__(self, context: Context) -> None:
        super().__init__(context, "m", "v")
        beta1, beta2 = context.column("beta1"), context.column("beta2")
        self.constants = beta1.tolist(), beta2.tolist(), context.column("eps").tolist()
        count = np.arange(1, context.steps + 1)[:, None]
        correction2 = np.sqrt(1 - beta2**count)
        # m / (1 - b1^t) / (sqrt(v) / sqrt(1 - b2^t) + eps), with the second correction moved from the
        # [E, P] denominator to [E, 1] factors.
        self.gain = context.by_step(correction2 / (1 - beta1**count))
        self.eps = context.by_step(context.column("eps") * correction2)
        self.gain1, self.gain2 = context.tensor(1 - beta1), context.tensor(1 - beta2)

    def direction(self, grad: torch.Tensor) -> torch.Tensor:
        m, v = self.slots["m"], self.slots["v"]
        m.lerp_(grad, self.gain1)
        v.lerp_(grad.mul_(grad), self.gain2)
        torch.sqrt(self.second_moment(v), out=grad).add_(self.eps())
        return torch.div(m, grad, out=grad).mul_(self.gain())

    def fused_step(self, lr: np.ndarray, decay: list[float], coupled: bool) -> None:
        """The whole update in torch's own CPU kernel, which passes once over a member's weights.

        Args:
            lr: learning rates [E] of this step.
            decay: weight decay [E].
            coupled: whether decay is added to the gradient.
        """
        kernel = torch._fused_adam_ if coupled else torch._fused_adamw_
        weights, beta1, beta2, eps = self.context.weights, *self.constants
        step = (self.context.step[0] + 1).float()
        rows = zip(weights.data, weights.grad, self.slots["m"], self.slots["v"], strict=True)
        for e, (w, g, m, v) in enumerate(rows):
            kernel(
                [w], [g], [m], [v], [], [step], lr=float(lr[e]), beta1=beta1[e], beta2=beta2[e],
                weight_decay=decay[e], eps=eps[e], amsgrad=False, maximize=False,
            )  # fmt: skip

    def second_moment(self, v: torch.Tensor) -> torch.Tensor:
        """What takes the place of v under the root."""
        return v


class _AMSGradRule(AdamRule):
    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.slots["v_max"] = context.new_buffer()

    def second_moment(self, v: torch.Tensor) -> torch.Tensor:
        largest = self.slots["v_max"]
        return torch.maximum(largest, v, out=largest)
