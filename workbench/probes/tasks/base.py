"""`Task`: what is learned. `Data`: its training stream and its evaluation for E stacked members."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from workbench.probes.component import Component, known, registry

if TYPE_CHECKING:
    import torch

    from workbench.probes.spec import Probe

__all__ = ["INPUTS", "Data", "Inputs", "Predict", "Task", "find_task", "tasks"]

#: Kinds of input: token ids [B, T]; ``vectors`` [B, F], one output each; ``signals`` [B, L, F], one output
#: each; ``sequences`` [B, T, F], one output a position.
INPUTS = ("tokens", "vectors", "signals", "sequences")

#: Inputs [G, b, ...] with G = 1 (shared by all members) or E -> outputs [E, b, T', K] (tokens, sequences; T' <= T
#: may be shorter than in training) or [E, b, K] (vectors, signals). In float32 from the master weights, whatever
#: the products of training are rounded to; a simulated format counts here too, as it is what the model is.
Predict = Callable[["torch.Tensor"], "torch.Tensor"]


@dataclass(frozen=True)
class Inputs:
    """The inputs of a task, as a model must know them.

    Attributes:
        kind: one of `INPUTS`.
        size: vocabulary size V of tokens, or features F of one vector or position.
        context: positions of an input (T or L); 1 for vectors.
    """

    kind: str
    size: int
    context: int = 1


@dataclass(frozen=True)
class Task(Component):
    """Base of all tasks: settings, what a model must know about inputs and outputs, and `build`.

    A probe's `tokens` and `batch_tokens` count positions: where an input has one target (vectors, signals,
    classification), one example is one token, whatever its length: see `positions`.
    """

    kind: ClassVar[str] = "task"
    #: ``cross_entropy`` (targets are class ids; nats), ``stablemax`` (the same with another function for softmax,
    #: `workbench.probes.functional.log_stablemax`) or ``squared`` (targets are real; summed over outputs, mean over
    #: examples, without a factor 1/2).
    loss: ClassVar[str] = "cross_entropy"

    @property
    @abstractmethod
    def inputs(self) -> Inputs:
        """What a model reads."""

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Number of classes, or of real outputs, K."""

    @property
    def scored(self) -> tuple[int, ...] | None:
        """Positions of a sequence whose output is scored; None for all of them."""
        return None

    @property
    def positions(self) -> int:
        """Tokens of one input in the count of `tokens`: T where every position is scored, else 1."""
        return self.inputs.context if self.inputs.kind in ("tokens", "sequences") and self.scored is None else 1

    @abstractmethod
    def build(self, probes: Sequence[Probe], device: torch.device) -> Data:
        """The data of these stacked members; their tasks differ in member fields only."""


class Data(ABC):
    """The data of E stacked members on one device.

    What a member sees depends on its own probe only (its `seed` and the task's fields): never on its
    neighbours in the stack, on the device, or on how many steps are drawn at once. So a run that resumes at
    step s sees what it would have seen. Use counters (`tasks.random`), not generators with state.
    """

    @abstractmethod
    def block(self, first_step: int, count: int) -> tuple[torch.Tensor, ...]:
        """What `batch` needs for `count` training steps from `first_step` on: tensors [count, E, B, ...].

        They may be compact (int32 tokens, row numbers of a resident data set).
        """

    @abstractmethod
    def batch(self, *one: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets of one step from its rows of `block`, each [E, B, ...].

        Inputs are as `Model.hidden` reads them. Targets are class ids [E, n] (int64) or numbers [E, n, K]
        of the n scored positions of a member, in the order (example, scored position). It runs inside a
        CUDA graph: no host value may change from step to step.
        """

    @abstractmethod
    def evaluate(self, predict: Predict) -> dict[str, torch.Tensor]:
        """Metrics by name, each [E] (float64, CPU); always ``loss``, in the task's loss.

        Chunks of inputs must not depend on E on a CPU: the shape of a matrix product decides the order of
        its sums, and a stacked member must equal the solo run bit for bit.
        """

    def group_losses(self, predict: Predict) -> dict[str, torch.Tensor]:
        """Losses by name of a group of examples, each [E] (float64, CPU), in the task's loss; NaN of an empty group.

        For the measurement ``group_loss``: groups that `evaluate` does not report already, because they are many
        or of interest to few. With the promises of `evaluate`.
        """
        return {}

    def facts(self, member: int) -> dict[str, Any]:
        """What a reader must know about one member's data that its probe does not say, for the provenance.

        JSON-ready; for example the checksum of the text that was found on this machine.
        """
        return {}


def tasks() -> dict[str, type[Task]]:
    """All tasks by name."""
    return dict(registry("workbench.probes.tasks", Task))


def find_task(name: str) -> type[Task]:
    """The task of that name.

    Raises:
        ValueError: there is none; the sentence lists them.
    """
    return known("workbench.probes.tasks", Task, name)
