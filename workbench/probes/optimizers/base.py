"""`Optimizer`: settings of an update rule; `Rule`: the rule at work on the flat weights of a stack."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from workbench.probes.component import Component, known, registry

if TYPE_CHECKING:
    import torch

    from workbench.probes.optimizers.stack import Context

__all__ = ["Optimizer", "Rule", "find_optimizer", "optimizers"]


@dataclass(frozen=True)
class Optimizer(Component):
    """Base of all optimizers; a subclass declares its constants as member fields and names its `rule`.

    Learning rate, schedule, clipping, weight decay, gradient transforms and averages of weights are the
    run's, the same for all optimizers (`workbench.probes.optimizers.stack`).

    Attributes:
        family: how the size of an update depends on the gradient's, which is what a parametrization must
            know: ``sgd`` (proportional), ``adam`` (independent of it, entry by entry), ``matrix``
            (independent, for whole matrices).
        coupled_decay: weight decay is added to the gradient (L2 regularization) instead of decoupled from it.
    """

    kind: ClassVar[str] = "optimizer"
    family: ClassVar[str] = "adam"
    coupled_decay: ClassVar[bool] = False

    @abstractmethod
    def rule(self, context: Context) -> Rule:
        """The update rule of the stack that `context` describes; members differ in member fields only."""


class Rule(ABC):
    """An update rule on flat buffers [E, P]: w <- w - lr * direction(gradient).

    It keeps its state in `slots`, flat tensors [E, P] or [E, 1] by name, which a checkpoint stores and
    whose zeros are the start. No Python number may change from step to step, so that a CUDA graph can
    replay an update; what depends on the step comes from `Context.by_step`.

    Attributes:
        decay_share: [E, P], the share of decoupled weight decay that an entry gets this step; None for all of it.
    """

    decay_share: torch.Tensor | None = None

    def __init__(self, context: Context, *slots: str) -> None:
        self.context = context
        self.slots: dict[str, torch.Tensor] = {name: context.new_buffer() for name in slots}

    @abstractmethod
    def direction(self, grad: torch.Tensor) -> torch.Tensor:
        """What is multiplied by -lr and added to the weights, [E, P]; may overwrite `grad` and scratch."""


def optimizers() -> dict[str, type[Optimizer]]:
    """All optimizers by name."""
    return dict(registry("workbench.probes.optimizers", Optimizer))


def find_optimizer(name: str) -> type[Optimizer]:
    """The optimizer of that name.

    Raises:
        ValueError: there is none; the sentence lists them.
    """
    return known("workbench.probes.optimizers", Optimizer, name)
