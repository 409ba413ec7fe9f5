"""Gradient descent, plain and with momentum; weight decay is L2 regularization, as in torch.optim.SGD."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from workbench.probes import late_torch as torch
from workbench.probes.component import number
from workbench.probes.optimizers.base import Optimizer, Rule

if TYPE_CHECKING:
    from workbench.probes.optimizers.stack import Context

__all__ = ["SGD", "Momentum", "Nesterov"]


@dataclass(frozen=True)
class SGD(Optimizer):
    """w <- w - lr (g + weight_decay w): gradient descent on the loss plus weight_decay / 2 |w|^2."""

    name: ClassVar[str] = "sgd"
    family: ClassVar[str] = "sgd"
    coupled_decay: ClassVar[bool] = True

    def rule(self, context: Context) -> Rule:
        return _PlainRule(context)


@dataclass(frozen=True)
class Momentum(Optimizer):
    """Heavy ball: m <- momentum m + g, w <- w - lr m (Polyak 1964), g with the L2 term; no dampening.

    A constant gradient moves the weights by lr / (1 - momentum) of it a step in the long run.
    """

    name: ClassVar[str] = "momentum"
    family: ClassVar[str] = "sgd"
    coupled_decay: ClassVar[bool] = True

    momentum: float = number(0.9, 0.0, 0.999999, "share of the last update that is kept", member=True)

    def rule(self, context: Context) -> Rule:
        return _MomentumRule(context, nesterov=False)


@dataclass(frozen=True)
class Nesterov(Momentum):
    """Nesterov's momentum in the form of Sutskever et al. 2013: m <- momentum m + g, w <- w - lr (g + momentum m)."""

    name: ClassVar[str] = "nesterov"

    def rule(self, context: Context) -> Rule:
        return _MomentumRule(context, nesterov=True)


class _PlainRule(Rule):
    def direction(self, grad: torch.Tensor) -> torch.Tensor:
        return grad


class _MomentumRule(Rule):
    def __init__(self, context: Context, nesterov: bool) -> None:
        super().__init__(context, "m")
        self.nesterov = nesterov
        self.momentum = context.tensor(context.column("momentum"))

    def direction(self, grad: torch.Tensor) -> torch.Tensor:
        m = self.slots["m"]
        m.mul_(self.momentum).add_(grad)
        # what is returned may be overwritten, and m must not be
        return grad.addcmul_(m, self.momentum) if self.nesterov else grad.copy_(m)
