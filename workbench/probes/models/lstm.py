"""The long short-term memory, position after position."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from workbench.probes import late_torch as torch
from workbench.probes.component import choice, whole
from workbench.probes.models.base import Model, Weight

if TYPE_CHECKING:
    from workbench.probes.ops import Ops
    from workbench.probes.tasks.base import Task

__all__ = ["LSTM"]


@dataclass(frozen=True)
class LSTM(Model):
    """``depth`` layers of long short-term memory (Hochreiter & Schmidhuber 1997; gates as in Gers et al. 2000).

    Each position's output feeds the head; of a signal the last one does. Matrices start normal with variance
    1 / inputs, biases at zero, and 1 is added before the sigmoid of forget gates, so that they start open
    (Jozefowicz et al. 2015). Memories are float32. Training goes through all positions, never in pieces.
    """

    name: ClassVar[str] = "lstm"
    accepts: ClassVar[tuple[str, ...]] = ("tokens", "sequences", "signals")

    width: int = whole(32, 1, 8192, "units d of a layer, and width of token embeddings")
    depth: int = whole(1, 1, 32, "number of layers")
    head_init: str = choice("zeros", ("zeros", "normal"), "initial head: 0, or variance 1 / width")

    def weights(self, task: Task) -> dict[str, Weight]:
        d, kind, found = self.width, task.inputs.kind, {}
        inputs, role, name = task.inputs.size, "input", "0.in"
        if kind == "tokens":
            table = {"fan_in": 1, "embedding": True, "low_precision": False}
            found["embedding"] = Weight((inputs, d), "input", 1.0, **table)
            inputs, role = d, "hidden"
        elif kind == "signals":  # of the shape of sequences, but with one output: the name tells them apart
            name = "0.signal_in"
        for layer in range(self.depth):
            found |= {
                name: Weight((inputs, 4 * d), role, 1 / math.sqrt(inputs)),
                f"{layer}.recurrent": Weight((d, 4 * d), "hidden", 1 / math.sqrt(d)),
                f"{layer}.bias": Weight((4 * d,), "vector", 0.0, low_precision=False),
            }
            inputs, role, name = d, "hidden", f"{layer + 1}.in"
        std = 0.0 if self.head_init == "zeros" else 1 / math.sqrt(d)
        return found | {"head": Weight((d, task.outputs), "output", std, embedding=kind == "tokens")}

    def hidden(self, ops: Ops, x: torch.Tensor) -> torch.Tensor:
        signals = "0.signal_in" in ops.weights
        if "embedding" in ops.weights:
            x = ops.embed(x, "embedding")
        for layer in range(self.depth):
            name = "0.signal_in" if signals and not layer else f"{layer}.in"
            x = ops.see(f"{layer}.hidden", self._layer(ops, ops.linear(x, name, f"{layer}.bias"), layer))
        return (x[:, :, -1] if signals else x.flatten(1, 2)).to(ops.dtype)

    def _layer(self, ops: Ops, driven: torch.Tensor, layer: int) -> torch.Tensor:
        """Outputs [E, B, T, d] of a layer whose gates the inputs drive with [E, B, T, 4 d]."""
        d = self.width
        opening = torch.zeros(4 * d, device=driven.device)
        opening[d : 2 * d] = 1.0
        driven = (ops.wide(driven) + opening).unbind(2)
        gates, c = driven[0], driven[0].new_zeros(*driven[0].shape[:-1], d)
        outputs = []
        for at, now in enumerate(driven):
            gates = now + ops.linear(outputs[-1], f"{layer}.recurrent") if at else now
            h, c = ops.lstm(gates, c)
            outputs.append(h)
        return torch.stack(outputs, 2)
