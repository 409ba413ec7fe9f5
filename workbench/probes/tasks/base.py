"""What every task offers to the trainer: blocks of training sequences and an evaluation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch

from workbench.probes.spec import Probe

__all__ = ["LogitsFunction", "Task", "build_task"]

#: Token ids [G, b, T'] with G = 1 (shared by all members) or E, T' <= context -> logits [E, b, T', V].
LogitsFunction = Callable[[torch.Tensor], torch.Tensor]


class Task(ABC):
    """The data of E stacked members on one device.

    What a member sees depends on its own probe only: never on its neighbours in the stack, on the device,
    or on how many steps are drawn at once.
    """

    def __init__(self, probes: Sequence[Probe], device: torch.device) -> None:
        self.probes = tuple(probes)
        self.device = device

    @abstractmethod
    def block(self, first_step: int, count: int) -> torch.Tensor:
        """Token ids [count, E, B, T + 1] (int32) of `count` training steps from `first_step` on."""

    @abstractmethod
    def evaluate(self, logits_fn: LogitsFunction) -> dict[str, torch.Tensor]:
        """Metrics by name, each [E] (float64, CPU); always with ``loss``, in nats per token."""


def build_task(probes: Sequence[Probe], device: torch.device) -> Task:
    """The task that the probes of one bucket share."""
    from workbench.probes.tasks.bigram import BigramTask

    return {"bigram": BigramTask}[probes[0].task](probes, device)
