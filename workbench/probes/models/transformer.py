"""The decoder-only transformer, with the choices of modded-nanoGPT as defaults.

Pre-norm blocks with RMSNorm without gain and ReLU^2 MLPs, learned positions, no biases, input embedding
and output head untied.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from workbench.probes.component import choice, flag, number, whole
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
    """A decoder-only transformer over tokens, or over sequences of vectors, which enter by a matrix ``read_in``.

    Matrices start normal with variance 1 / inputs; those that write to the residual stream are scaled down
    by sqrt(2 depth) (GPT-2). The head starts at zero: the first loss is exactly log V at every width, and
    no width pays first for unlearning random logits.

    ``norm_position="pre"`` is x + f(norm(x)) with a last norm before the head, ``"post"`` is norm(x + f(x))
    (Vaswani et al. 2017, arXiv 1706.03762). A SwiGLU MLP has a third matrix; its hidden units are two
    thirds of mlp_ratio widths, to the nearest multiple of 8, so that it has about as many parameters as the
    others (Shazeer 2020, arXiv 2002.05202, section 3).
    """

    name: ClassVar[str] = "transformer"
    accepts: ClassVar[tuple[str, ...]] = ("tokens", "sequences")
    causal: ClassVar[bool] = True

    width: int = whole(16, 1, 8192, "width d of the residual stream")
    depth: int = whole(1, 0, 128, "number of blocks L")
    heads: int = whole(1, 1, 4096, "attention heads; a divisor of width")
    mlp_ratio: int = whole(4, 1, 16, "hidden units of an MLP, in widths; two thirds of it for swiglu")
    norm: str = choice("rms", ("rms", "layer"), "RMSNorm or LayerNorm (without bias)", later=True)
    gains: bool = flag(False, "norms have trained gains", later=True)
    norm_position: str = choice("pre", ("pre", "post"), "norm before a branch, or after adding it", later=True)
    qk_norm: bool = flag(False, "queries and keys are normed per head before their product", later=True)
    activation: str = choice("relu2", ("relu2", "relu", "gelu", "silu", "swiglu"), "of the MLPs", later=True)
    tied: bool = flag(False, "the head is the token embedding transposed", later=True)
    positions: str = choice(
        "learned", ("learned", "rotary", "none"), "position embedding, rotary encoding, or neither", later=True
    )
    embedding_std: float | None = number(
        None, 1e-6, 1e3, f"initial entries of the embeddings; {_EMBEDDING_STD} unless given, 1 / sqrt(width) if tied",
        later=True, optional=True,
    )  # fmt: skip
    head_init: str = choice("zeros", ("zeros", "normal"), "initial head: 0, or variance 1 / width", later=True)
    attention_scale: str = choice(
        "sqrt", ("sqrt", "linear"), "scores times 1 / sqrt(c) or sqrt(base_head) / c, c the width of a head", later=True
    )
    base_head: int = whole(16, 1, 8192, "width of a head at which linear scores equal sqrt ones", later=True)

    def check(self) -> None:
        if self.width % self.heads:
            raise ValueError(
                f"width={self.width} is not a multiple of heads={self.heads}; choose heads that divide it."
            )
        if self.positions == "rotary" and self.width // self.heads % 2:
            raise ValueError(
                f"positions='rotary' turns pairs, but width={self.width} / heads={self.heads} is odd; "
                "choose heads of even width."
            )

    def check_task(self, task: Task) -> None:
        super().check_task(task)
        if self.tied and (task.inputs.kind != "tokens" or task.inputs.size != task.outputs):
            raise ValueError(
                f"tied=True needs inputs and outputs of one vocabulary, but task={task.name!r} reads "
                f"{task.inputs.size} {task.inputs.kind} and has {task.outputs} outputs; use tied=False."
            )

    @property
    def tied_head(self) -> str | None:
        return "embedding" if self.tied else None

    @property
    def score_scale(self) -> float | None:
        """What attention scores are multiplied by; None for 1 / sqrt(width of a head)."""
        return None if self.attention_scale == "sqrt" else math.sqrt(self.base_head) * self.heads / self.width

    @property
    def mlp_hidden(self) -> int:
        """Hidden units of one MLP."""
        full = self.mlp_ratio * self.width
        return full if self.activation != "swiglu" else max(8, 8 * round(2 * full / 3 / 8))

    def weights(self, task: Task) -> dict[str, Weight]:
        d, c = self.width, self.width // self.heads
        found = self._entry_weights(task)
        for layer in range(self.depth):
            found |= {
                f"{layer}.qkv": Weight((d, 3 * d), "hidden", 1 / math.sqrt(d)),
                f"{layer}.attention_out": Weight((d, d), "hidden", self._branch_std(d), branch=True),
                **self._mlp_weights(layer),
            }
            if self.qk_norm and self.gains:
                found[f"{layer}.qk_gain"] = Weight((2, c), "vector", 0.0, mean=1.0, fan_in=1, low_precision=False)
            if self.gains:
                found |= {f"{layer}.{name}_gain": _gain(d) for name in ("attention", "mlp")}
        if self.gains and self.norm_position == "pre":
            found["last_gain"] = _gain(d)
        if self.tied:
            return found
        std = 0.0 if self.head_init == "zeros" else 1 / math.sqrt(d)
        return found | {"head": Weight((d, task.outputs), "output", std, embedding=task.inputs.kind == "tokens")}

    def hidden(self, ops: Ops, x: torch.Tensor) -> torch.Tensor:
        e, b, t = x.shape[:3]
        inputs, x = x, ops.enter(self._entry(ops, x)).view(e, b * t, -1)
        for layer in range(self.depth):
            qkv = ops.linear(self._before(ops, x, f"{layer}.attention"), f"{layer}.qkv").view(e * b, t, -1)
            mixed = self._mix(ops, qkv, layer).view(e, b * t, -1)
            x = ops.add(x, ops.see(f"{layer}.attention", ops.linear(mixed, f"{layer}.attention_out")))
            x = self._after(ops, x, f"{layer}.attention")
            branch = self._mlp(ops, self._before(ops, x, f"{layer}.mlp"), layer, inputs)
            x = ops.add(x, ops.see(f"{layer}.mlp", branch))
            x = self._after(ops, x, f"{layer}.mlp")
        if self.norm_position == "post":
            return x.to(ops.dtype)
        return ops.norm(x, self.norm, "last_gain" if self.gains else None)

    def _entry_weights(self, task: Task) -> dict[str, Weight]:
        """Embedding or read-in matrix, and positions."""
        d, size = self.width, task.inputs.size
        std = self.embedding_std or (1 / math.sqrt(d) if self.tied else _EMBEDDING_STD)
        table = {"role": "input", "std": std, "fan_in": 1, "embedding": True, "low_precision": False}
        if task.inputs.kind == "tokens":
            found = {"embedding": Weight((size, d), **table)}
        else:
            found = {"read_in": Weight((size, d), "input", 1 / math.sqrt(size))}
        if self.positions == "learned":
            found["positions"] = Weight((task.inputs.context, d), **table)
        return found

    def _entry(self, ops: Ops, x: torch.Tensor) -> torch.Tensor:
        """The residual stream [E, B, T, d] at the start."""
        if "embedding" in ops.weights:
            stream = ops.embed(x, "embedding")
        else:
            name = "read_in" if "read_in" in ops.weights else "signal_in"
            stream = ops.wide(ops.linear(x, name))
        if self.positions != "learned":
            return stream
        return stream + ops.weight("positions")[:, None, : x.shape[2]]

    def _mix(self, ops: Ops, qkv: torch.Tensor, layer: int) -> torch.Tensor:
        return ops.attention(
            qkv, self.heads, causal=self.causal, scale=self.score_scale, rotary=self.positions == "rotary",
            norm=self.norm if self.qk_norm else "none",
            gain=f"{layer}.qk_gain" if self.qk_norm and self.gains else None, name=f"{layer}.scores",
        )  # fmt: skip

    def _mlp_weights(self, layer: int) -> dict[str, Weight]:
        d, h = self.width, self.mlp_hidden
        both = 2 * h if self.activation == "swiglu" else h  # gate and value side by side
        return {
            f"{layer}.up": Weight((d, both), "hidden", 1 / math.sqrt(d)),
            f"{layer}.down": Weight((h, d), "hidden", self._branch_std(h), branch=True),
        }

    def _mlp(self, ops: Ops, x: torch.Tensor, layer: int, inputs: torch.Tensor) -> torch.Tensor:
        """What the MLP of a block adds to the stream, [E, B T, d]; `inputs` are the model's, for routing by token."""
        return ops.linear(ops.activation(ops.linear(x, f"{layer}.up"), self.activation), f"{layer}.down")

    def _branch_std(self, inputs: int) -> float:
        return 1 / math.sqrt(2 * max(1, self.depth) * inputs)

    def _before(self, ops: Ops, x: torch.Tensor, branch: str) -> torch.Tensor:
        if self.norm_position == "post":
            return x
        return ops.norm(x, self.norm, f"{branch}_gain" if self.gains else None)

    def _after(self, ops: Ops, x: torch.Tensor, branch: str) -> torch.Tensor:
        if self.norm_position == "pre":
            return x
        return ops.norm(x, self.norm, f"{branch}_gain" if self.gains else None, dtype=x.dtype)


def _gain(d: int) -> Weight:
    return Weight((d,), "vector", 0.0, mean=1.0, low_precision=False)
