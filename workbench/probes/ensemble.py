"""A stack of probes in training: data, model and optimizer advance together, one step for all members.

On CUDA a whole step (pick the batch, forward, backward, update) is one replayed graph; the step's only
inputs are counters on the device, so the host launches and otherwise stays away.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from workbench.probes.backend import Backend
from workbench.probes.models.transformer import Transformer
from workbench.probes.optimizers.adamw import AdamW
from workbench.probes.spec import Probe
from workbench.probes.tasks.base import build_task

__all__ = ["Ensemble"]

#: Training tokens of all members generated at a time. The sampler costs one short kernel sequence per
#: position, so blocks are as large as memory (GPU) or the cache (CPU) likes.
_BLOCK_TOKENS = {"cuda": 2**24, "cpu": 2**17}
#: Steps in one graph replay: a launch of some 10 microseconds is shared among them.
_UNROLL = 8


class Ensemble:
    """E probes of one shape at the same step.

    Args:
        probes: one per member, equal in shape.
        backend: where and how to compute.
        compile: run the forward pass and the optimizer through torch.compile.

    Attributes:
        step: optimizer steps done.
        model, optimizer, task: the parts.
    """

    def __init__(self, probes: Sequence[Probe], backend: Backend, compile: bool = False) -> None:
        device = backend.device
        first = probes[0]
        self.task = build_task(probes, device)
        self.model = Transformer(probes, device, backend.fused_attention)
        self.optimizer = AdamW(self.model.weights, probes)
        self.steps, self.step = first.steps, 0
        self._loss, self._update = self.model.loss, self.optimizer.update
        if compile:
            # Every bucket is a new shape; without the reset dynamo would give up after eight of them.
            torch.compiler.reset()
            self._loss = torch.compile(self._loss, dynamic=False)
            self._update = torch.compile(self._update, dynamic=False)
        e, b, t = len(probes), first.batch_tokens // first.context, first.context
        self._block_steps = max(1, min(self.steps, _BLOCK_TOKENS[device.type] // (e * b * t)))
        self._block = torch.zeros(self._block_steps, e, b, t + 1, dtype=torch.int32, device=device)
        self._cursor = torch.zeros(1, dtype=torch.int64, device=device)
        self._losses = torch.zeros(self._block_steps, e, device=device)
        self._loss_sum = torch.zeros(e, dtype=torch.float64, device=device)
        self._loss_count = 0
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self._on_cuda = device.type == "cuda"
        if self._on_cuda:
            self._warm_up()

    def advance(self, until: int) -> None:
        """Train to optimizer step `until` (at most `steps`). On CUDA it returns before the GPU is done."""
        while self.step < until:
            at = self.step % self._block_steps
            if at == 0:
                count = min(self._block_steps, self.steps - self.step)
                self._block[:count].copy_(self.task.block(self.step, count))
                self._cursor.zero_()
            run = min(until - self.step, self._block_steps - at)
            self._run(run)
            self._loss_sum += self._losses[at : at + run].sum(0, dtype=torch.float64)
            self._loss_count += run
            self.step += run

    def take_train_loss(self) -> list[float]:
        """Mean training loss of each member, nats per token, over the steps since the last call."""
        mean = (self._loss_sum / max(1, self._loss_count)).tolist()
        self._loss_sum.zero_()
        self._loss_count = 0
        return mean

    def evaluate(self) -> dict[str, torch.Tensor]:
        """The task's metrics of every member, each [E] (float64, CPU)."""
        return self.task.evaluate(self.model.logits)

    def _one_step(self) -> None:
        tokens = self._block.index_select(0, self._cursor)[0].long()  # [E, B, T + 1]
        self.model.weights.refresh()
        loss = self._loss(tokens)  # [E]
        # Members share no weights, so the gradient of the sum is every member's own gradient.
        self.model.weights.backward(loss.sum())
        self._update()
        self._losses.index_copy_(0, self._cursor, loss.detach()[None])
        self._cursor += 1

    def _run(self, count: int) -> None:
        if not self._on_cuda:
            for _ in range(count):
                self._one_step()
            return
        for unroll in (_UNROLL, 1):
            while count >= unroll:
                self._graph(unroll).replay()
                count -= unroll

    def _graph(self, unroll: int) -> torch.cuda.CUDAGraph:
        if unroll not in self._graphs:
            graph = torch.cuda.CUDAGraph()
            pool = next(iter(self._graphs.values())).pool() if self._graphs else None
            with torch.cuda.graph(graph, pool=pool):
                for _ in range(unroll):
                    self._one_step()
            self._graphs[unroll] = graph
        return self._graphs[unroll]

    def _warm_up(self) -> None:
        """Two steps outside any graph, undone: libraries initialize and torch.compile compiles here."""
        state = [self.model.weights.data, self.optimizer.m, self.optimizer.v, self.optimizer.step, self._cursor]
        saved = [tensor.clone() for tensor in state]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                self._cursor.zero_()
                self.optimizer.step.zero_()
                self._one_step()
        torch.cuda.current_stream().wait_stream(side)
        for tensor, before in zip(state, saved, strict=True):
            tensor.copy_(before)
