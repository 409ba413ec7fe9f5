"""The decoder-only transformer, with the choices of modded-nanoGPT as defaults.

Pre-norm blocks with RMSNorm without gain and ReLU^2 MLPs, learned positions, no biases, input embedding
and output head untied.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from workbench.probes.component import whole
from workbench.probes.models.base import Model, Weight

if TYPE_CHECKING:
    import torch

    from workbench.probes.ops import Ops
    from workbench.probes.tasks.base import Task

__all__ = ["Transformer"]

#: Chosen by trial at widths 4 and 16: 0.02 and 0.1 learn a short run visibly worse, 1.0 no better.
_EMBEDDING_STD = 0.5


@dataclass(frozen=True)
class Transformer(Model):
    """A decoder-only transformer over tokens.

    Matrices start normal with variance 1 / inputs; those that write to the residual stream are scaled down
    by sqrt(2 depth) (GPT-2). The head starts at zero: the first loss is exactly log V at every width, and
    no width pays first for unlearning random logits.
    """

    name: ClassVar[str] = "transformer"
    accepts: ClassVar[tuple[str, ...]] = ("tokens",)

    width: int = whole(16, 1, 8192, "width d of the residual stream")
    depth: int = whole(1, 0, 128, "number of blocks L")
    heads: int = whole(1, 1, 4096, "attention heads; a divisor of width")
    mlp_ratio: int = whole(4, 1, 16, "hidden units of an MLP, in widths")

    def check(self) -> None:
        if self.width % self.heads:
            raise ValueError(
                f"width={self.width} is not a multiple of heads={self.heads}; choose heads that divide it."
            )

    def weights(self, task: Task) -> dict[str, Weight]:
        d, hidden = self.width, self.mlp_ratio * self.width
        into, back = 1 / math.sqrt(2 * max(1, self.depth) * d), 1 / math.sqrt(2 * max(1, self.depth) * hidden)
        table = {"role": "input", "std": _EMBEDDING_STD, "fan_in": 1, "embedding": True, "low_precision": False}
        found = {
            "embedding": Weight((task.inputs.size, d), **table),
            "positions": Weight((task.inputs.context, d), **table),
        }
        for layer in range(self.depth):
            found |= {
                f"{layer}.qkv": Weight((d, 3 * d), "hidden", 1 / math.sqrt(d)),
                f"{layer}.attention_out": Weight((d, d), "hidden", into, branch=True),
                f"{layer}.up": Weight((d, hidden), "hidden", 1 / math.sqrt(d)),
                f"{layer}.down": Weight((hidden, d), "hidden", back, branch=True),
            }
        return found | {"head": Weight((d, task.outputs), "output", 0.0, embedding=True)}

    def hidden(self, ops: Ops, x: torch.Tensor) -> torch.Tensor:
        e, b, t = x.shape
        positions = ops.weight("positions")[:, None, :t]
        x = (ops.embed(x, "embedding") + positions).view(e, b * t, -1)
        for layer in range(self.depth):
            qkv = ops.linear(ops.rms_norm(x), f"{layer}.qkv").view(e * b, t, -1)
            mixed = ops.attention(qkv, self.heads).view(e, b * t, -1)
            x = x + ops.see(f"{layer}.attention", ops.linear(mixed, f"{layer}.attention_out"))
            hidden = ops.activation(ops.linear(ops.rms_norm(x), f"{layer}.up"), "relu2")
            x = x + ops.see(f"{layer}.mlp", ops.linear(hidden, f"{layer}.down"))
        return ops.rms_norm(x)
