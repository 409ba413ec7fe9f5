"""A stack of probes in training: data, model and optimizer advance together, one step for all members.

On CUDA a whole step (pick the batch, forward, backward, update) is one replayed graph; the step's only
inputs are counters on the device, so the host launches and otherwise stays away.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence

import torch

from workbench.probes.backend import Backend
from workbench.probes.cpu_step import CpuStep, cpu_step
from workbench.probes.fast import FastStep, fast_step
from workbench.probes.flat import FlatWeights
from workbench.probes.functional import cross_entropy, product, squared_error, stablemax_error
from workbench.probes.initial import initial_weights
from workbench.probes.ops import Observer, Ops
from workbench.probes.optimizers.stack import StackOptimizer
from workbench.probes.parametrization import multipliers, scales
from workbench.probes.rounding import build_rounding
from workbench.probes.spec import Probe
from workbench.probes.tasks.base import Data

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
        data: instead of the task's own; the device ``meta`` (where `probes.cost` counts operations) needs it.

    Attributes:
        step: optimizer steps done.
        weights: the flat weights [E, P].
        data, model, optimizer: the parts.
        fast: the step written out by hand, where one covers the stack: in kernels of our own on CUDA
            (`workbench.probes.fast`), or member by member on a CPU (`workbench.probes.cpu_step`); else None.
    """

    def __init__(
        self, probes: Sequence[Probe], backend: Backend, compile: bool = False, data: Data | None = None
    ) -> None:
        device = backend.device
        first = probes[0]
        self.probes, self.backend = tuple(probes), backend
        self.task, self.model = first.task_settings, first.model_settings
        self.data = self.task.build(probes, device) if data is None else data
        described = self.model.weights(self.task)
        scaled = scales(first, described)
        self.dtype = torch.bfloat16 if first.precision == "bf16" else torch.float32
        self.stream = torch.bfloat16 if first.stream == "bf16" else torch.float32
        self.multipliers = multipliers(first, described)
        if device.type == "meta":
            start = {name: torch.empty(len(probes), *w.shape, device=device) for name, w in described.items()}
        else:
            drawn = [initial_weights(probe) for probe in probes]
            start = {name: torch.stack([one[name] for one in drawn]) for name in described}
        low = frozenset(name for name, weight in described.items() if weight.low_precision)
        self.weights = FlatWeights(
            start,
            device,
            low if self.dtype == torch.bfloat16 else frozenset(),
        )
        self.optimizer = StackOptimizer(self.weights, probes, {name: scale.lr for name, scale in scaled.items()})
        self.steps, self.step = first.steps, 0
        self.rounding = build_rounding(first)
        self.scored = self.task.scored
        if self.scored is not None:
            self.scored = torch.tensor(self.scored, device=device)
        self.output_scale = None
        if any(probe.output_scale != 1.0 for probe in probes):
            self.output_scale = torch.tensor([probe.output_scale for probe in probes], device=device)[:, None, None]
        self._workspace = None
        if device.type == "cpu" and self.task.loss == "cross_entropy":
            self._workspace = torch.empty(1, first.batch_tokens, self.task.outputs)
        self._loss, self._update = self.loss, self.optimizer.update
        self.fast: FastStep | CpuStep | None = fast_step(self) or (cpu_step(self) if device.type == "cpu" else None)
        if compile and self.fast is None:
            # Every bucket is a new shape; without the reset dynamo would give up after eight of them.
            torch.compiler.reset()
            self._loss = torch.compile(self._loss, dynamic=False)
            self._update = torch.compile(self._update, dynamic=False)
        e = len(probes)
        self._block_steps = max(1, min(self.steps, _BLOCK_TOKENS.get(device.type, 1) // (e * first.batch_tokens)))
        self._block: tuple[torch.Tensor, ...] = ()
        self._filled = -1  # first step of the block that is loaded
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
        if self.fast is not None:
            self.fast.refresh()  # the weights may have been restored, or measured, since the last step
        while self.step < until:
            at = self.step % self._block_steps
            self._fill(self.step - at)
            self._cursor.fill_(at)
            run = min(until - self.step, self._block_steps - at)
            self._run(run)
            self._loss_sum += self._losses[at : at + run].sum(0, dtype=torch.float64)
            self._loss_count += run
            self.step += run

    def take_train_loss(self) -> list[float]:
        """Mean training loss of each member over the steps since the last call."""
        mean = (self._loss_sum / max(1, self._loss_count)).tolist()
        self._loss_sum.zero_()
        self._loss_count = 0
        return mean

    def evaluate(self) -> dict[str, torch.Tensor]:
        """The task's metrics of every member, each [E] (float64, CPU); of averaged weights too where kept."""
        metrics = self.data.evaluate(self.predict)
        if self.optimizer.average is not None:
            averaged = self.data.evaluate(lambda x: self.predict(x, self.optimizer.average))
            metrics |= {f"{name}_ema": value for name, value in averaged.items()}
        return metrics

    def loss(self, inputs: torch.Tensor, targets: torch.Tensor, observe: Observer | None = None) -> torch.Tensor:
        """Training loss [E] of one batch, as `Data.batch` gives it; its gradient reaches the weights."""
        ops = self.ops(observe)
        hidden = self._scored(self.model.hidden(ops, inputs), inputs)
        head, multiplier = self._head(ops)
        if self.output_scale is not None:
            head = head * self.output_scale.to(head.dtype)
        if ops.rounding is not None:
            hidden, head = ops.rounding(hidden, "activations"), ops.rounding(head, "weights")
        if multiplier != 1.0:
            head = head * multiplier
        if observe is not None:
            observe("output", product(hidden, head))
        if self.task.loss == "squared":
            loss = squared_error(hidden, head, targets)
        elif self.task.loss == "stablemax":
            loss = stablemax_error(hidden, head, targets)
        else:
            loss = cross_entropy(hidden, head, targets, self._workspace, self.probes[0].z_loss)
        return loss + ops.extra_loss

    def predict(self, inputs: torch.Tensor, flat: torch.Tensor | None = None) -> torch.Tensor:
        """Outputs as `tasks.base.Predict` wants them, float32 from the master weights (or from `flat` [E, P]).

        A simulated format counts here too: it is what the model is, not only how it is trained.
        """
        with torch.no_grad():
            master = self.weights.master if flat is None else self.weights.named(flat)
            ops = Ops(master, self.multipliers, torch.float32, rounding=self.rounding)
            inputs = inputs.expand(ops.members, *inputs.shape[1:])
            hidden = self.model.hidden(ops, inputs)
            head, multiplier = self._head(ops)
            if self.rounding is not None:
                hidden, head = self.rounding(hidden, "activations"), self.rounding(head, "weights")
            y = product(hidden, head) * multiplier
            if self.output_scale is not None:
                y = y * self.output_scale
            if self.task.inputs.kind not in ("tokens", "sequences"):
                return y.reshape(*inputs.shape[:2], -1)
            # a model that gives one output an input says the same at every position
            return y.reshape(*inputs.shape[:2], -1, y.shape[-1]).expand(*inputs.shape[:3], -1)

    def ops(self, observe: Observer | None = None) -> Ops:
        """The arithmetic of a training step."""
        return Ops(
            self.weights.views, self.multipliers, self.dtype, fused_attention=self.backend.fused_attention,
            rounding=self.rounding, observe=observe, training=True, stream=self.stream,
        )  # fmt: skip

    def state(self) -> dict[str, torch.Tensor]:
        """Everything that changes in training, by name, each [E, ...]: the tensors themselves, not copies."""
        return {"weights": self.weights.data, "loss_sum": self._loss_sum, **self.optimizer.slots}

    def restore(self, step: int, tensors: Mapping[str, torch.Tensor], loss_count: int) -> None:
        """Continue after `step` steps from tensors as `state` names them, [E, ...].

        Raises:
            ValueError: a tensor is missing or has another shape.
        """
        for name, own in self.state().items():
            given = tensors.get(name)
            if given is None or given.shape != own.shape:
                raise ValueError(
                    f"the checkpoint's {name!r} is {None if given is None else tuple(given.shape)}, not "
                    f"{tuple(own.shape)}; it belongs to another version or another probe, so start afresh"
                )
            own.copy_(given)
        self.step, self._loss_count = step, loss_count
        self.optimizer.step.fill_(step)

    @property
    def loss_count(self) -> int:
        """Steps since the training loss was last taken."""
        return self._loss_count

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets of the training step after `step` steps; for measurements."""
        return self.data.batch(*(rows[0] for rows in self.data.block(step, 1)))

    def _head(self, ops: Ops) -> tuple[torch.Tensor, float]:
        """The head [E, d, K] in the dtype of matrix products, and its multiplier."""
        tied = self.model.tied_head
        w = ops.weights["head"] if tied is None else ops.weights[tied].mT
        return w.to(ops.dtype), self.multipliers.get("head" if tied is None else f"{tied}.head", 1.0)

    def _scored(self, hidden: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """The features of the scored positions, [E, n, d]."""
        if self.scored is None or hidden.shape[1] == inputs.shape[1]:  # the model gives one output an input
            return hidden
        e, b, t = inputs.shape[:3]
        return hidden.view(e, b, t, -1).index_select(2, self.scored).flatten(1, 2)

    def _one_step(self) -> None:
        inputs, targets = self.data.batch(*(rows.index_select(0, self._cursor)[0] for rows in self._block))
        if self.fast is not None:
            loss = self.fast(inputs, targets)
        else:
            self.weights.refresh()
            loss = self._loss(inputs, targets)  # [E]
            # Members share no weights, so the gradient of the sum is every member's own gradient.
            self.weights.backward(loss.sum())
            self._update()
        self._losses.index_copy_(0, self._cursor, loss.detach()[None])
        self._cursor += 1

    def _fill(self, first: int) -> None:
        """Load the block of steps from `first` on; in place, because graphs read it where it is."""
        if self._filled == first:
            return
        new = self.data.block(first, min(self._block_steps, self.steps - first))
        if not self._block:
            self._block = tuple(rows.new_zeros(self._block_steps, *rows.shape[1:]) for rows in new)
        for own, rows in zip(self._block, new, strict=True):
            own[: len(rows)].copy_(rows)
        self._filled = first

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
            gc.collect()
            collecting = gc.isenabled()
            gc.disable()  # a graph of an earlier ensemble that died while this one is captured would spoil it
            try:
                with torch.cuda.graph(graph, pool=pool):
                    for _ in range(unroll):
                        self._one_step()
            finally:
                if collecting:
                    gc.enable()
            self._graphs[unroll] = graph
        return self._graphs[unroll]

    def _warm_up(self) -> None:
        """Two steps outside any graph, undone: libraries initialize and torch.compile compiles here."""
        self._fill(0)
        if self.fast is not None:
            self.fast.refresh()
        state = [*self.state().values(), self.optimizer.step, self._cursor]
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
