"""Counting the operations of a training step, on torch's meta device: no numbers, no memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from workbench.probes import fast
from workbench.probes.backend import Backend
from workbench.probes.cpu_step import CpuStep, cpu_step
from workbench.probes.ensemble import Ensemble
from workbench.probes.spec import Probe
from workbench.probes.tasks.base import Data

__all__ = ["Step", "count_prediction", "count_step"]

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
        memory: bytes at the peak: weights, gradient, optimizer state, and what is alive of forward and backward pass.
        width: of the model, where the step runs in the CUDA kernels of `workbench.probes.kernels`; then there is one
            operation: the whole step. Else 0.
    """

    members: int
    flops: np.ndarray
    bytes: np.ndarray
    inner: np.ndarray
    memory: float
    width: int = 0


@lru_cache(maxsize=256)
def count_step(probe: Probe, members: int, on_cuda: bool) -> Step:
    """Count one training step of `members` probes like this one; drawing data and evaluating are left out."""
    fused = (on_cuda and probe.precision != "fp32") or (not on_cuda and probe.task_settings.inputs.context > 128)
    stack = Ensemble([probe] * members, Backend(_META, "highest", None, fused), data=_NoData(probe, members))
    if not on_cuda and stack.task.loss == "cross_entropy":
        stack._workspace = torch.empty(1, probe.batch_tokens, stack.task.outputs, device=_META)
    inputs, targets = stack.data.batch()
    by_hand = None if on_cuda else cpu_step(stack)
    with _Counter() as counter:
        if by_hand is not None:
            by_hand.loss_and_gradient(inputs, targets)
        else:
            stack.weights.refresh()
            loss = stack.loss(inputs, targets)
            stack.weights.backward(loss.sum())
        if on_cuda or not stack.optimizer.fusible:
            stack.optimizer.update()
    rows = counter.rows
    if not on_cuda and stack.optimizer.fusible:  # one pass a member: four buffers are read, three written
        rows += [(0.0, 28.0 * stack.weights.size, 0)] * members
    flops, moved, inner = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    buffers = 2 + len([slot for slot in stack.optimizer.slots.values() if slot.shape == stack.weights.data.shape])
    memory = 4.0 * stack.weights.data.numel() * buffers + counter.peak
    memory += 0.0 if by_hand is None else _held(by_hand)
    memory += 0.0 if stack.weights.low is None else 2.0 * stack.weights.low.numel()
    if on_cuda and _in_kernels(stack):
        total = np.array([flops.sum()])
        return Step(members, total, np.array([_kernel_bytes(stack)]), np.ones(1, int), memory, probe.width)
    return Step(members, flops, moved, inner.astype(int), memory)


@lru_cache(maxsize=256)
def count_prediction(probe: Probe, members: int, on_cuda: bool) -> Step:
    """Count one evaluation of the model on as many inputs as a training batch has."""
    fused = (on_cuda and probe.precision != "fp32") or (not on_cuda and probe.task_settings.inputs.context > 128)
    stack = Ensemble([probe] * members, Backend(_META, "highest", None, fused), data=_NoData(probe, members))
    with _Counter() as counter:
        stack.predict(stack.data.batch()[0])
    flops, moved, inner = (np.array(column, dtype=float) for column in zip(*counter.rows, strict=True))
    return Step(members, flops, moved, inner.astype(int), counter.peak)


def _held(step: CpuStep) -> float:
    """Bytes that the step keeps from call to call."""
    return _size([x for x in tree_leaves(vars(step)) if isinstance(x, torch.Tensor) and x.is_meta]) - 2 * _size(
        [*step.weights.values()]
    )


def _in_kernels(stack: Ensemble) -> bool:
    """Whether CUDA would train this stack in `workbench.probes.kernels`; the tests of `fast.fast_step`."""
    first = stack.probes[0]
    if any(getattr(first, name, None) != value for name, value in fast._COVERED.items()) or first.depth == 0:
        return False
    if stack.task.loss != "cross_entropy" or stack.scored is not None or stack.task.inputs.kind != "tokens":
        return False
    return stack.optimizer.average is None


def _kernel_bytes(stack: Ensemble) -> float:
    """Bytes that a fused step must move: 110 L d + 14 V a token (activations in bfloat16, forward and backward,
    and logits), 36 a parameter (AdamW in float32 with a bfloat16 copy).
    """
    probe, members = stack.probes[0], len(stack.probes)
    tokens = members * probe.batch_tokens * (110.0 * probe.depth * probe.width + 14.0 * stack.task.outputs)
    return tokens + 36.0 * members * stack.weights.size


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
        self.peak = 0.0
        self._alive: list[tuple[StorageWeakRef, int]] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__.rstrip("_")
        if name in _FREE:
            return result
        given = [x for x in tree_leaves((args, kwargs or {})) if isinstance(x, torch.Tensor)]
        made = [x for x in tree_leaves(result) if isinstance(x, torch.Tensor)]
        self._track(given, made)
        self.rows.append(_operation(name, args, given, made))
        return result

    def _track(self, given: Sequence[torch.Tensor], made: Sequence[torch.Tensor]) -> None:
        """Follow which of the made tensors are alive, for the peak of their memory."""
        old = {x.untyped_storage()._cdata for x in given}  # what is written in place is not new
        for x in made:
            storage = x.untyped_storage()
            if storage._cdata not in old:
                self._alive.append((StorageWeakRef(storage), storage.nbytes()))
        self._alive = [(ref, size) for ref, size in self._alive if not ref.expired()]
        self.peak = max(self.peak, float(sum(size for _, size in self._alive)))


def _operation(
    name: str, args: Sequence[object], given: Sequence[torch.Tensor], made: Sequence[torch.Tensor]
) -> tuple[float, float, int]:
    """FLOPs, bytes moved, and the smallest dimension of the product of one operation."""
    moved = _size(made) + _size(given)
    if name in ("bmm", "baddbmm", "mm", "addmm"):
        a, b = args[1:3] if "add" in name else args[:2]  # the first one is what is added to
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
