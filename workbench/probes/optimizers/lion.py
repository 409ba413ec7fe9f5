"""Lion: the sign of an average of gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from workbench.probes import late_torch as torch
from workbench.probes.component import number
from workbench.probes.optimizers.base import Optimizer, Rule

if TYPE_CHECKING:
    from workbench.probes.optimizers.stack import Context

__all__ = ["Lion"]


@dataclass(frozen=True)
class Lion(Optimizer):
    """sign(beta1 m + (1 - beta1) g), then m <- beta2 m + (1 - beta2) g (Chen et al. 2023, arXiv 2302.06675).

    Weight decay is decoupled. Every entry moves by lr exactly, so lr is usually 3 to 10 times smaller than
    AdamW's and weight_decay as much larger.
    """

    name: ClassVar[str] = "lion"

    beta1: float = number(0.9, 0.0, 0.999999, "share of the average in the update's sign", member=True)
    beta2: float = number(0.99, 0.0, 0.999999, "decay of the average of gradients", member=True)

    def rule(self, context: Context) -> Rule:
        return _LionRule(context)


class _LionRule(Rule):
    def __init__(self, context: Context) -> None:
        super().__init__(context, "m")
        self.beta1 = context.tensor(context.column("beta1"))
        self.gain2 = context.tensor(1 - context.column("beta2"))

    def direction(self, grad: torch.Tensor) -> torch.Tensor:
        m = self.slots["m"]
        sign = grad.lerp(m, self.beta1).sign_()
        m.lerp_(grad, self.gain2)
        return sign
