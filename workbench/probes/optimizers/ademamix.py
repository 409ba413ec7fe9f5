"""AdEMAMix: Adam with a second, much slower average of gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from workbench.probes import late_torch as torch
from workbench.probes.component import number
from workbench.probes.optimizers.base import Optimizer, Rule

if TYPE_CHECKING:
    from workbench.probes.optimizers.stack import Context

__all__ = ["AdEMAMix", "slow_schedules"]


@dataclass(frozen=True)
class AdEMAMix(Optimizer):
    """(m1 / (1 - beta1^t) + a m2) / (sqrt(v / (1 - beta2^t)) + eps) (Pagliardini et al. 2024, arXiv 2409.03137).

    m2 averages gradients with slow_beta and has no bias correction. While it warms up, over the first
    `slow_warmup` share of the steps, its weight a rises linearly from 0 to `slow_gain`, and its decay rises
    from beta1 to slow_beta so that the half-life grows linearly, as in the authors' code. Decoupled decay.
    """

    name: ClassVar[str] = "ademamix"

    beta1: float = number(0.9, 1e-6, 0.999999, "decay of the fast average of gradients", member=True)
    beta2: float = number(0.999, 0.0, 0.999999, "decay of the average of squared gradients", member=True)
    eps: float = number(1e-8, 1e-30, 1.0, "added to the root of the average square", member=True)
    slow_beta: float = number(0.9999, 1e-6, 0.99999999, "decay of the slow average (the paper's beta3)", member=True)
    slow_gain: float = number(5.0, 0.0, 1e4, "weight of the slow average (the paper's alpha)", member=True)
    slow_warmup: float = number(1.0, 0.0, 1.0, "share of all steps in which the slow average warms up", member=True)

    def rule(self, context: Context) -> Rule:
        return _AdEMAMixRule(context)


def slow_schedules(
    steps: int, beta1: np.ndarray, slow_beta: np.ndarray, slow_gain: np.ndarray, slow_warmup: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weight and decay of the slow average at steps 1 to `steps`, each [steps, E] (float64).

    The half-life of a decay beta is log(1/2) / log(beta).
    """
    count = np.arange(1, steps + 1)[:, None]
    share = np.minimum(1.0, count / np.maximum(1.0, np.round(slow_warmup * steps)))
    half_life = (1 - share) * np.log(0.5) / np.log(beta1) + share * np.log(0.5) / np.log(slow_beta)
    return share * slow_gain, 0.5 ** (1 / half_life)


class _AdEMAMixRule(Rule):
    def __init__(self, context: Context) -> None:
        super().__init__(context, "m", "slow", "v")
        beta1, beta2 = context.column("beta1"), context.column("beta2")
        count = np.arange(1, context.steps + 1)[:, None]
        correction2 = np.sqrt(1 - beta2**count)
        gain, beta3 = slow_schedules(
            context.steps, beta1, context.column("slow_beta"), context.column("slow_gain"),
            context.column("slow_warmup"),
        )  # fmt: skip
        # both corrections of Adam as [E, 1] factors of the numerator, as in AdamW
        self.fast = context.by_step(correction2 / (1 - beta1**count))
        self.slow = context.by_step(correction2 * gain)
        self.eps = context.by_step(context.column("eps") * correction2)
        self.gain1, self.gain2 = context.tensor(1 - beta1), context.tensor(1 - beta2)
        self.gain3 = context.by_step(1 - beta3)

    def direction(self, grad: torch.Tensor) -> torch.Tensor:
        m, slow, v = self.slots["m"], self.slots["slow"], self.slots["v"]
        m.lerp_(grad, self.gain1)
        slow.lerp_(grad, self.gain3())
        v.lerp_(grad.mul_(grad), self.gain2)
        torch.sqrt(v, out=grad).add_(self.eps())
        mixed = (m * self.fast()).addcmul_(slow, self.slow())
        return torch.div(mixed, grad, out=grad)
