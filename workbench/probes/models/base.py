"""`Model`: what is trained. A model is mathematics only: which weights it has, and how they act on a batch.

A model's file never loops over members, never asks for a device, a precision or a learning rate: its
`hidden` speaks to `ops` (`workbench.probes.ops.Ops`), which does all that for E members at once.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from workbench.probes.component import Component, known, registry

if TYPE_CHECKING:
    import torch

    from workbench.probes.ops import Ops
    from workbench.probes.tasks.base import Task

__all__ = ["Model", "Weight", "find_model", "models"]

#: What a parametrization may treat differently (Yang et al. 2022, arXiv 2203.03466, table 3): the width is
#: infinite on neither side of a `vector`, on the output side of an `input`, on both of a `hidden`, on the
#: input side of an `output` matrix. A `frozen` weight is drawn and never trained.
ROLES = ("input", "hidden", "output", "vector", "frozen")


@dataclass(frozen=True)
class Weight:
    """One weight tensor of one member.

    Attributes:
        shape: a matrix is right-multiplied, [inputs, outputs]; further leading dimensions are copies
            (experts, taps of a convolution).
        role: one of `ROLES`.
        std: initial standard deviation under the standard parametrization; 0 starts at `mean`.
        mean: initial mean; 1 for gains.
        fan_in: inputs of one output; the second last dimension unless given.
        embedding: not counted in `params_non_embedding` (token and position embeddings, vocabulary heads).
        branch: the matrix writes to a residual stream (depth parametrizations scale it).
        low_precision: a bfloat16 copy of it is an input of matrix products under ``precision="bf16"``.
    """

    shape: tuple[int, ...]
    role: str
    std: float
    mean: float = 0.0
    fan_in: int | None = None
    embedding: bool = False
    branch: bool = False
    low_precision: bool = True

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    @property
    def inputs(self) -> int:
        """Fan-in."""
        return self.fan_in or (self.shape[-2] if len(self.shape) > 1 else 1)


@dataclass(frozen=True)
class Model(Component):
    """Base of all models; a subclass declares its settings as fields and `weights` and `hidden`.

    Attributes:
        accepts: the kinds of input it can read, of `workbench.probes.tasks.base.INPUTS`.
    """

    kind: ClassVar[str] = "model"
    accepts: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def weights(self, task: Task) -> dict[str, Weight]:
        """Every weight of one member by name, in a fixed order; among them ``head`` [features, outputs].

        A model whose head is another weight transposed leaves ``head`` out and names it in `tied_head`.
        """

    @property
    def tied_head(self) -> str | None:
        """Name of the embedding [V, d] whose transpose is the head; None if there is a ``head`` of its own."""
        return None

    @abstractmethod
    def hidden(self, ops: Ops, x: torch.Tensor) -> torch.Tensor:
        """Features [E, B T, d] (dtype `ops.dtype`) that the linear head reads; T is 1 without sequences.

        A model that gives one output an input, [E, B, d], may read tokens and sequences of tasks that score
        one position.

        Args:
            ops: the weights and the arithmetic.
            x: inputs of all members: token ids [E, B, T] (int64), or real numbers [E, B, F] (``vectors``),
                [E, B, L, F] (``signals``: one output a signal) or [E, B, T, F] (``sequences``).
        """

    def check_task(self, task: Task) -> None:
        """Refuse a task this model cannot read; a ValueError of one sentence."""
        if task.inputs.kind not in self.accepts:
            raise ValueError(
                f"model={self.name!r} reads {' or '.join(self.accepts)}, but task={task.name!r} gives "
                f"{task.inputs.kind}; {_readers(task.inputs.kind)}"
            )

    def flops_per_token(self, task: Task) -> float:
        """Training FLOPs a token, in the count of tokens of `Task.positions`.

        6 times the trained parameters that it meets, embeddings included, products of attention not: 6 N of
        Kaplan et al. 2020 (arXiv 2001.08361, section 2.1). Where an input of many positions counts as one
        token, all its positions pass through the model, and the scored ones through the head.
        """
        read = task.inputs.context // task.positions if task.inputs.kind != "vectors" else 1
        head = self.weights(task).get("head")
        head_size = head.size if head is not None else 0
        scored = len(task.scored) if task.scored is not None else 1
        return 6.0 * ((self.active_params(task) - head_size) * read + head_size * scored)

    def active_params(self, task: Task) -> int:
        """Trained parameters that one token meets; fewer than all for mixtures of experts."""
        return sum(w.size for w in self.weights(task).values() if w.role != "frozen")


def models() -> dict[str, type[Model]]:
    """All models by name."""
    return dict(registry("workbench.probes.models", Model))


def find_model(name: str) -> type[Model]:
    """The model of that name.

    Raises:
        ValueError: there is none; the sentence lists them.
    """
    return known("workbench.probes.models", Model, name)


def _readers(kind: str) -> str:
    names = [name for name, model in models().items() if kind in model.accepts]
    return f"models that read {kind}: {', '.join(names)}." if names else "no model reads that."
