"""Counting the operations of a training step, on torch's meta device: no numbers, no memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from workbench.probes.backend import Backend
from workbench.probes.ensemble import Ensemble
from workbench.probes.spec import Probe
from workbench.probes.tasks.base import Data

__all__ = ["Step", "count_step"]

_META = torch.device("meta")
#: Operations that move nothing.
_FREE = {"view", "reshape", "expand", "permute", "transpose", "t", "detach", "alias", "slice", "select", "split"}
_FREE |= {"unsqueeze", "squeeze", "as_strided", "_unsafe_view", "split_with_sizes", "unbind", "is_same_size"}
_FREE |= {"empty", "new_empty", "empty_like", "empty_strided", "new_empty_strided"}
#: Operations bound by a function's arithmetic rather than by memory, on a CPU.
_FUNCTIONS = {"exp", "log", "_softmax", "_log_softmax", "logsumexp", "tanh", "gelu", "erf", "sigmoid", "silu", "pow"}
_FUNCTIONS |= {"gelu_backward", "silu_backward", "_softmax_backward_data", "_log_softmax_backward_data"}


@dataclass(frozen=True)
class Step:
    """The operations of one training step of a stack.

    Attributes:
        members: E.
        flops, bytes: of every operation.
        inner: of every operation the smallest dimension of its matrix product; 0 for what is none, -1 for
            functions such as exp.
        memory: bytes at the peak, roughly: weights, gradient, optimizer state, and what the forward pass makes.
    """

    members: int
    flops: np.ndarray
    bytes: np.ndarray
    inner: np.ndarray
    memory: float


@lru_cache(maxsize=256)
def count_step(probe: Probe, members: int, on_cuda: bool) -> Step:
    """Count one training step of `members` probes like this one; drawing data and evaluating are left out."""
    fused = (on_cuda and probe.precision != "fp32") or (not on_cuda and probe.task_settings.inputs.context > 128)
    stack = Ensemble([probe] * members, Backend(_META, "highest", None, fused), data=_NoData(probe, members))
    if not on_cuda and stack.task.loss == "cross_entropy":
        stack._workspace = torch.empty(1, probe.batch_tokens, stack.task.outputs, device=_META)
    inputs, targets = stack.data.batch()
    with _Counter() as counter:
        stack.weights.refresh()
        loss = stack.loss(inputs, targets)
        forward = counter.made
        stack.weights.backward(loss.sum())
        stack.optimizer.update()
    flops, moved, inner = (np.array(column, dtype=float) for column in zip(*counter.rows, strict=True))
    buffers = 2 + len([slot for slot in stack.optimizer.slots.values() if slot.shape == stack.weights.data.shape])
    memory = 4.0 * stack.weights.data.numel() * (buffers + 1) + 1.3 * forward
    return Step(members, flops, moved, inner.astype(int), memory)


class _NoData(Data):
    """Batches of the right shapes without numbers."""

    def __init__(self, probe: Probe, members: int) -> None:
        self.probe, self.members = probe, members

    def block(self, first_step: int, count: int) -> tuple[torch.Tensor, ...]:
        return ()

    def batch(self, *one: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        task, shape = self.probe.task_settings, (self.members, self.probe.batch)
        inputs = task.inputs
        if inputs.kind == "tokens":
            x = torch.empty(*shape, inputs.context, dtype=torch.int64, device=_META)
        elif inputs.kind == "vectors":
            x = torch.empty(*shape, inputs.size, device=_META)
        else:
            x = torch.empty(*shape, inputs.context, inputs.size, device=_META)
        positions = inputs.context if task.scored is None else len(task.scored)
        scored = self.probe.batch * (positions if inputs.kind in ("tokens", "sequences") else 1)
        if task.loss == "squared":
            return x, torch.empty(self.members, scored, task.outputs, device=_META)
        return x, torch.empty(self.members, scored, dtype=torch.int64, device=_META)

    def evaluate(self, predict):
        raise NotImplementedError("there are no numbers to evaluate")


class _Counter(TorchDispatchMode):
    """Every operation that reaches the device, with FLOPs and bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[float, float, int]] = []
        self.made = 0.0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__.rstrip("_")
        if name in _FREE:
            return result
        given = [x for x in tree_leaves((args, kwargs or {})) if isinstance(x, torch.Tensor)]
        made = [x for x in tree_leaves(result) if isinstance(x, torch.Tensor)]
        self.made += _size(made)
        self.rows.append(_operation(name, given, made))
        return result


def _operation(name: str, given: Sequence[torch.Tensor], made: Sequence[torch.Tensor]) -> tuple[float, float, int]:
    """FLOPs, bytes moved, and the smallest dimension of the product of one operation."""
    moved = _size(made) + _size(given)
    if name in ("bmm", "baddbmm", "mm", "addmm"):
        a, b = given[-3:-1] if name.endswith("out") else [x for x in given if x.dim() == made[0].dim()][-2:]
        return 2.0 * made[0].numel() * a.shape[-1], moved, int(min(a.shape[-2], a.shape[-1], b.shape[-1]))
    if "attention" in name:
        q, k = given[0], given[1]
        # two products forward, five backward, half of each masked
        return (5.0 if "backward" in name else 2.0) * q.numel() * k.shape[-2], moved, int(q.shape[-1])
    if name in ("index_select", "embedding"):  # reads the rows it takes, not the table
        moved = 2 * _size(made)
    return 0.0, moved, -1 if name in _FUNCTIONS else 0


def _size(tensors: Sequence[torch.Tensor]) -> float:
    return float(sum(x.numel() * x.element_size() for x in tensors))
