"""The multilayer perceptron: from inputs of fixed size to one output an input."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from workbench.probes import late_torch as torch
from workbench.probes.component import choice, flag, whole
from workbench.probes.models.base import Model, Weight

if TYPE_CHECKING:
    from workbench.probes.ops import Ops
    from workbench.probes.tasks.base import Task

__all__ = ["ACTIVATIONS", "MLP", "FlatReader", "init_gain"]

ACTIVATIONS = ("relu", "relu2", "gelu", "silu", "tanh", "erf", "quadratic", "identity")


def init_gain(activation: str) -> float:
    """Initial standard deviation times sqrt(inputs): sqrt 2 for relu (He et al. 2015, arXiv 1502.01852), else 1."""
    return math.sqrt(2) if activation == "relu" else 1.0


@dataclass(frozen=True)
class FlatReader(Model):
    """Base of models that read a whole input as one vector and give one output for it.

    Signals and sequences are flattened. Of tokens, the concatenated one-hot vectors of all positions enter
    (a row lookup, as in Gromov 2023, arXiv 2301.02679), or the concatenated embeddings. A task over tokens
    or sequences must score exactly one position; all positions are seen, those after it too.

    The features are [E, B, d] of the last layer; the head has no bias.
    """

    accepts: ClassVar[tuple[str, ...]] = ("vectors", "signals", "sequences", "tokens")

    width: int = whole(64, 1, 65536, "units of a hidden layer")
    token_input: str = choice("onehot", ("onehot", "embedding"), "how tokens enter, concatenated over positions")
    embedding_width: int = whole(32, 1, 8192, "width of a token's embedding, for token_input='embedding'")
    head_init: str = choice("normal", ("normal", "zeros"), "initial head: variance 1 / inputs, or 0")

    def check_task(self, task: Task) -> None:
        super().check_task(task)
        if task.inputs.kind in ("tokens", "sequences") and len(task.scored or ()) != 1:
            raise ValueError(
                f"model={self.name!r} gives one output an input, but task={task.name!r} scores "
                f"{'every position' if task.scored is None else f'{len(task.scored)} positions'}; "
                "use model='transformer' or 'lstm'."
            )

    def flops_per_token(self, task: Task) -> float:
        """6 times the trained parameters: an input passes through them once, whatever its length."""
        return 6.0 * self.active_params(task)

    def read_in(self, task: Task, name: str, outputs: int, gain: float) -> dict[str, Weight]:
        """The weight `name` from the input to `outputs` units, and a table of embeddings where there is one."""
        size, context = task.inputs.size, task.inputs.context
        if task.inputs.kind != "tokens":
            inputs = size * context
            return {name: Weight((inputs, outputs), "input", gain / math.sqrt(inputs))}
        if self.token_input == "onehot":  # of context * V inputs, `context` are 1 and the others 0
            table = {"fan_in": context, "embedding": True, "low_precision": False}
            return {name: Weight((context * size, outputs), "input", gain / math.sqrt(context), **table)}
        inputs = context * self.embedding_width
        table = {"fan_in": 1, "embedding": True, "low_precision": False}
        return {
            "embedding": Weight((size, self.embedding_width), "input", 1.0, **table),
            name: Weight((inputs, outputs), "input", gain / math.sqrt(inputs)),
        }

    def read(self, ops: Ops, x: torch.Tensor, name: str, bias: str | None = None) -> torch.Tensor:
        """The inputs times the weight `name`: [E, B, outputs]."""
        if x.dtype == torch.int64:
            if self.token_input == "onehot":
                t = x.shape[2]
                vocab = ops.weights[name].shape[1] // t
                y = ops.embed(x + torch.arange(t, device=x.device) * vocab, name).sum(2).to(ops.dtype)
                return y if bias is None else y + ops.weight(bias)[:, None].to(ops.dtype)
            x = ops.embed(x, "embedding")
        return ops.linear(x.flatten(2), name, bias)

    def head(self, inputs: int, task: Task) -> dict[str, Weight]:
        """The head; it has no bias."""
        std = 0.0 if self.head_init == "zeros" else 1 / math.sqrt(inputs)
        return {"head": Weight((inputs, task.outputs), "output", std)}


@dataclass(frozen=True)
class MLP(FlatReader):
    """``depth`` layers act(W x + b) and a linear head; ``activation="identity"`` is a deep linear network.

    Depth 0 is a linear model of the input. Matrices start normal with variance gain^2 / inputs
    (`init_gain`), biases at zero.
    """

    name: ClassVar[str] = "mlp"

    depth: int = whole(2, 0, 1024, "hidden layers")
    activation: str = choice("relu", ACTIVATIONS, "of the hidden layers; quadratic is x^2, identity is linear")
    biases: bool = flag(True, "hidden layers have biases")

    def check_task(self, task: Task) -> None:
        super().check_task(task)
        if not self.depth and task.inputs.kind == "tokens":
            raise ValueError(f"depth=0 leaves the tokens of task={task.name!r} without a layer to enter; use depth=1.")

    def weights(self, task: Task) -> dict[str, Weight]:
        d, gain = self.width, init_gain(self.activation)
        found = {}
        for layer in range(self.depth):
            if layer:
                found[f"{layer}.weight"] = Weight((d, d), "hidden", gain / math.sqrt(d))
            else:
                found |= self.read_in(task, "0.weight", d, gain)
            if self.biases:
                found[f"{layer}.bias"] = Weight((d,), "vector", 0.0, low_precision=False)
        return found | self.head(d if self.depth else task.inputs.size * task.inputs.context, task)

    def hidden(self, ops: Ops, x: torch.Tensor) -> torch.Tensor:
        if not self.depth:
            return x.flatten(2).to(ops.dtype)
        for layer in range(self.depth):
            bias = f"{layer}.bias" if self.biases else None
            y = ops.linear(x, f"{layer}.weight", bias) if layer else self.read(ops, x, "0.weight", bias)
            x = ops.see(f"{layer}.hidden", ops.activation(y, self.activation))
        return x
