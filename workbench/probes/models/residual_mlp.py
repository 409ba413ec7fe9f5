"""The residual multilayer perceptron, in four ways to keep a deep sum of branches trainable."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from workbench.probes.component import choice, flag, whole
from workbench.probes.models.base import Weight
from workbench.probes.models.mlp import ACTIVATIONS, FlatReader, init_gain

if TYPE_CHECKING:
    import torch

    from workbench.probes.ops import Ops
    from workbench.probes.tasks.base import Task

__all__ = ["ResidualMLP"]


@dataclass(frozen=True)
class ResidualMLP(FlatReader):
    """A read-in matrix, then ``depth`` residual branches x <- x + f(x), then a linear head.

    A branch is act(W x + b) (``branch_layers=1``) or V act(W x + b) + c with mlp_ratio * width hidden units
    (``branch_layers=2``). ``residual`` says how it enters the stream:

    * ``plain``: as it is.
    * ``inverse_sqrt``: times 1 / sqrt(depth).
    * ``rezero``: times a trained number that starts at 0 (Bachlechner et al. 2020, arXiv 2003.04887).
    * ``fixup`` (Zhang, Dauphin & Ma 2019, arXiv 1901.09321): s V (act(W (x + b1) + b2) + b3) + b4 with trained
      scalars, s from 1 and shifts b from 0, instead of the biases of the branches. W starts
      depth^(-1 / (2 m - 2)) times smaller (m = 2 layers a branch, so 1 / sqrt(depth)), V and the head start at 0.
    """

    name: ClassVar[str] = "residual_mlp"

    depth: int = whole(4, 0, 65536, "number of residual branches L")
    residual: str = choice("plain", ("plain", "inverse_sqrt", "rezero", "fixup"), "how a branch enters the stream")
    branch_layers: int = whole(2, 1, 2, "matrices of a branch")
    mlp_ratio: int = whole(1, 1, 16, "hidden units of a branch of two matrices, in widths")
    activation: str = choice("relu", ACTIVATIONS, "of the branches; identity is linear")
    biases: bool = flag(True, "matrices have biases")
    norm: str = choice("none", ("none", "rms", "layer"), "before each branch and before the head, without gain")

    def check(self) -> None:
        if self.residual == "fixup" and self.branch_layers != 2:
            raise ValueError("residual='fixup' scales the first of two matrices of a branch; use branch_layers=2.")

    def weights(self, task: Task) -> dict[str, Weight]:
        d, gain = self.width, init_gain(self.activation)
        fixup = self.residual == "fixup"
        found = self.read_in(task, "read_in", d, 1.0) | self._bias("read_in", d)
        for layer in range(self.depth):
            h = d if self.branch_layers == 1 else self.mlp_ratio * d
            std = gain / math.sqrt(d)
            if fixup:
                std /= math.sqrt(self.depth)
            found[f"{layer}.up"] = Weight((d, h), "hidden", std, branch=self.branch_layers == 1)
            if not fixup:
                found |= self._bias(f"{layer}.up", h)
            if self.branch_layers == 2:
                found[f"{layer}.down"] = Weight((h, d), "hidden", 0.0 if fixup else 1 / math.sqrt(h), branch=True)
                if not fixup:
                    found |= self._bias(f"{layer}.down", d)
            if fixup:
                found[f"{layer}.shifts"] = Weight((4,), "vector", 0.0, low_precision=False)
            if self.residual in ("fixup", "rezero"):
                found[f"{layer}.scale"] = Weight((1,), "vector", 0.0, mean=float(fixup), low_precision=False)
        return found | self.head(d, task)

    def head(self, inputs: int, task: Task) -> dict[str, Weight]:
        head = super().head(inputs, task)["head"]
        std = 0.0 if self.residual == "fixup" else head.std
        return {"head": Weight(head.shape, head.role, std)}

    def hidden(self, ops: Ops, x: torch.Tensor) -> torch.Tensor:
        x = ops.wide(self.read(ops, x, "read_in", "read_in_bias" if self.biases else None))
        for layer in range(self.depth):
            x = x + ops.see(f"{layer}.branch", self._branch(ops, ops.norm(x, self.norm, dtype=x.dtype), layer))
        return ops.norm(x, self.norm).to(ops.dtype)

    def _branch(self, ops: Ops, x: torch.Tensor, layer: int) -> torch.Tensor:
        """What branch `layer` adds to the stream, [E, B, d]."""
        if self.residual == "fixup":
            s = ops.wide(ops.weight(f"{layer}.shifts"))[:, None, :, None].unbind(2)  # each [E, 1, 1]
            y = ops.activation(ops.linear(x + s[0], f"{layer}.up") + s[1], self.activation)
            y = ops.linear(y + s[2], f"{layer}.down")
            return y * ops.wide(ops.weight(f"{layer}.scale"))[:, None] + s[3]
        bias = (f"{layer}.up_bias", f"{layer}.down_bias") if self.biases else (None, None)
        y = ops.activation(ops.linear(x, f"{layer}.up", bias[0]), self.activation)
        if self.branch_layers == 2:
            y = ops.linear(y, f"{layer}.down", bias[1])
        if self.residual == "rezero":
            return y * ops.wide(ops.weight(f"{layer}.scale"))[:, None]
        return y / math.sqrt(self.depth) if self.residual == "inverse_sqrt" else y

    def _bias(self, of: str, size: int) -> dict[str, Weight]:
        return {f"{of}_bias": Weight((size,), "vector", 0.0, low_precision=False)} if self.biases else {}
