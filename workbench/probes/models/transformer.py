"""The stacked decoder-only transformer: E members of one shape in batched matrix products; solo is E = 1.

Pre-norm blocks with RMSNorm without gain and ReLU^2 MLPs (the choices of modded-nanoGPT), learned
positions, no biases, input embedding and output head untied.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn import functional

from workbench.probes.models.flat import FlatWeights
from workbench.probes.models.functional import attention, cross_entropy, relu_squared, rms_norm
from workbench.probes.spec import Probe

__all__ = ["Transformer", "initial_weights", "weight_shapes"]

#: Chosen by trial at widths 4 and 16: 0.02 and 0.1 learn a short run visibly worse, 1.0 no better.
_EMBEDDING_STD = 0.5


def weight_shapes(probe: Probe) -> dict[str, tuple[int, ...]]:
    """Name and shape of every weight matrix of one member; right-multiplied, [inputs, outputs]."""
    d, hidden = probe.width, probe.mlp_ratio * probe.width
    shapes: dict[str, tuple[int, ...]] = {"embedding": (probe.vocab, d), "positions": (probe.context, d)}
    for layer in range(probe.depth):
        shapes |= {
            f"{layer}.qkv": (d, 3 * d),
            f"{layer}.attention_out": (d, d),
            f"{layer}.up": (d, hidden),
            f"{layer}.down": (hidden, d),
        }
    return shapes | {"head": (d, probe.vocab)}


def initial_weights(probe: Probe) -> dict[str, torch.Tensor]:
    """The weights of one member at step 0, a function of its probe alone (drawn on the CPU, float32).

    Matrices are normal with variance 1 / inputs; those that write to the residual stream are scaled down
    by sqrt(2 depth) (GPT-2). The head starts at zero: the first loss is exactly log V at every width, and
    no width pays first for unlearning random logits.
    """
    generator = torch.Generator().manual_seed(probe.seed)
    weights = {}
    for name, shape in weight_shapes(probe).items():
        if name in ("embedding", "positions"):
            std = _EMBEDDING_STD
        elif name.endswith((".attention_out", ".down")):
            std = 1 / math.sqrt(2 * probe.depth * shape[0])
        else:
            std = 1 / math.sqrt(shape[0])
        drawn = torch.randn(shape, generator=generator) * std
        weights[name] = torch.zeros(shape) if name == "head" else drawn
    return weights


class Transformer:
    """E transformers of one shape.

    Args:
        probes: one per member; equal in shape.
        device: where they live.
        fused_attention: train with torch's fused attention kernel instead of three batched products.
    """

    def __init__(self, probes: Sequence[Probe], device: torch.device, fused_attention: bool = False) -> None:
        first = probes[0]
        self.members, self.depth, self.heads = len(probes), first.depth, first.heads
        self.dtype = torch.bfloat16 if first.precision == "bf16" else torch.float32
        drawn = [initial_weights(probe) for probe in probes]
        stacked = {name: torch.stack([one[name] for one in drawn]) for name in drawn[0]}
        matrices = frozenset(stacked) - {"embedding", "positions"}
        self.weights = FlatWeights(stacked, device, matrices if self.dtype == torch.bfloat16 else frozenset())
        # Row of member e's token i in the embeddings of all members, [E, 1, 1]
        self.offset = (torch.arange(self.members, device=device) * first.vocab)[:, None, None]
        self.workspace = None
        if device.type == "cpu":
            self.workspace = torch.empty(1, first.batch_tokens, first.vocab)
        self.fused_attention = fused_attention
        self.mask = torch.full((first.context, first.context), -math.inf, device=device).triu_(1)

    def loss(self, tokens: torch.Tensor) -> torch.Tensor:
        """Mean next-token cross-entropy [E] (nats) of sequences [E, B, T + 1] (int64)."""
        w = self.weights.views
        hidden = self._hidden(tokens[..., :-1], w, self.dtype, self.fused_attention)
        return cross_entropy(hidden, w["head"], tokens[..., 1:].flatten(1), self.workspace)

    @torch.no_grad()
    def logits(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits [E, B, T', V] of token ids [E or 1, B, T'] (int64), in float32 from the master weights."""
        tokens = tokens.expand(self.members, -1, -1)
        hidden = self._hidden(tokens, self.weights.master, torch.float32, fused_attention=False)
        return torch.bmm(hidden, self.weights.master["head"]).view(self.members, *tokens.shape[1:], -1)

    def _hidden(
        self, tokens: torch.Tensor, w: dict[str, torch.Tensor], dtype: torch.dtype, fused_attention: bool
    ) -> torch.Tensor:
        """Normalized last hidden states [E, B T, d] as `dtype`; the residual stream itself is float32."""
        e, b, t = tokens.shape
        x = functional.embedding(tokens + self.offset, w["embedding"].flatten(0, 1))  # [E, B, T, d]
        x = (x + w["positions"][:, None, :t]).view(e, b * t, -1)
        mask = None if fused_attention else self.mask[:t, :t]
        for layer in range(self.depth):
            qkv = torch.bmm(rms_norm(x, dtype), w[f"{layer}.qkv"]).view(e * b, t, -1)
            mixed = attention(qkv, self.heads, mask).view(e, b * t, -1)
            x = x + torch.bmm(mixed, w[f"{layer}.attention_out"])
            hidden = relu_squared(torch.bmm(rms_norm(x, dtype), w[f"{layer}.up"]))
            x = x + torch.bmm(hidden, w[f"{layer}.down"])
        return rms_norm(x, dtype)
