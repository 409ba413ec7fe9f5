"""A small convolutional net over signals of one dimension, or over square images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from workbench.probes.component import choice, flag, whole
from workbench.probes.models.base import Model, Weight
from workbench.probes.models.mlp import ACTIVATIONS, init_gain

if TYPE_CHECKING:
    import torch

    from workbench.probes.ops import Ops
    from workbench.probes.tasks.base import Task

__all__ = ["Convolution"]


@dataclass(frozen=True)
class Convolution(Model):
    """``depth`` convolutions with zeros around the edges, then the mean over positions or all of them, then a head.

    The first convolution keeps all positions, each further one every `stride`-th. With ``grid`` a signal of
    L = side^2 positions is an image in row order and windows are kernel x kernel squares. Vectors are read as
    signals of one channel: 8 x 8 digits are vectors of 64 numbers, read with ``grid=True``.
    """

    name: ClassVar[str] = "convolution"
    accepts: ClassVar[tuple[str, ...]] = ("signals", "vectors")

    width: int = whole(16, 1, 4096, "channels of every convolution")
    depth: int = whole(3, 1, 64, "number of convolutions")
    kernel: int = whole(3, 1, 31, "taps of a window along one dimension; odd")
    stride: int = whole(2, 1, 8, "positions between two outputs, from the second convolution on")
    grid: bool = flag(False, "a signal is a square image in row order")
    pooling: str = choice("mean", ("mean", "flatten"), "what the head reads: the mean over positions, or all of them")
    activation: str = choice("relu", ACTIVATIONS, "after each convolution; identity is linear")
    biases: bool = flag(True, "channels have biases")
    head_init: str = choice("normal", ("normal", "zeros"), "initial head: variance 1 / inputs, or 0")

    def check(self) -> None:
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel={self.kernel} has no middle; use {self.kernel - 1} or {self.kernel + 1}.")

    def check_task(self, task: Task) -> None:
        super().check_task(task)
        length, _ = _signal(task)
        if self.grid and math.isqrt(length) ** 2 != length:
            raise ValueError(
                f"grid=True needs a square number of positions, but task={task.name!r} has {length}; use grid=False."
            )

    def positions(self, task: Task) -> list[int]:
        """Positions that each convolution puts out."""
        length, _ = _signal(task)
        side, dimensions = (math.isqrt(length), 2) if self.grid else (length, 1)
        found = []
        for layer in range(self.depth):
            side = -(-side // self._stride(layer))
            found.append(side**dimensions)
        return found

    def weights(self, task: Task) -> dict[str, Weight]:
        taps, gain, inputs, found = self.kernel ** (2 if self.grid else 1), init_gain(self.activation), 0, {}
        for layer in range(self.depth):
            inputs = self.width if layer else _signal(task)[1]
            role, std = "hidden" if layer else "input", gain / math.sqrt(taps * inputs)
            found[f"{layer}.taps"] = Weight((taps, inputs, self.width), role, std, fan_in=taps * inputs)
            if self.biases:
                found[f"{layer}.bias"] = Weight((self.width,), "vector", 0.0, low_precision=False)
        features = self.width * (self.positions(task)[-1] if self.pooling == "flatten" else 1)
        std = 0.0 if self.head_init == "zeros" else 1 / math.sqrt(features)
        return found | {"head": Weight((features, task.outputs), "output", std)}

    def hidden(self, ops: Ops, x: torch.Tensor) -> torch.Tensor:
        if x.dim() == 3:
            x = x[..., None]
        if self.grid:
            side = math.isqrt(x.shape[2])
            x = x.view(*x.shape[:2], side, side, x.shape[-1])
        for layer in range(self.depth):
            bias = f"{layer}.bias" if self.biases else None
            y = ops.convolution(x, f"{layer}.taps", bias, size=self.kernel, stride=self._stride(layer))
            x = ops.see(f"{layer}.hidden", ops.activation(y, self.activation))
        if self.pooling == "flatten":
            return x.flatten(2)
        return ops.wide(x.flatten(2, -2)).mean(2).to(ops.dtype)

    def flops_per_token(self, task: Task) -> float:
        """6 FLOPs for every use of a weight: a tap is used once a position that its convolution puts out."""
        uses = dict(enumerate(self.positions(task)))
        total = 0
        for name, weight in self.weights(task).items():
            layer = name.split(".")[0]
            total += weight.size * (uses[int(layer)] if layer.isdigit() else 1)
        return 6.0 * total

    def _stride(self, layer: int) -> int:
        return self.stride if layer else 1


def _signal(task: Task) -> tuple[int, int]:
    """Positions and channels of an input."""
    given = task.inputs
    return (given.size, 1) if given.kind == "vectors" else (given.context, given.size)
