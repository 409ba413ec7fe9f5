"""`Ops`: the arithmetic of a model on E members at once. Models speak to it and to nothing else.

Activations are [E, n, features] or [E, B, T, features]; weights are looked up by name. Everything that a
model's file must not care about happens here: precision of matrix products, multipliers of the
parametrization, simulated number formats, observation of activations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch.nn import functional

from workbench.probes import functional as plain

__all__ = ["Ops"]

#: Observer of activations: called with a name and the tensor [E, ...].
Observer = Callable[[str, torch.Tensor], None]


class Ops:
    """One way to evaluate a model: its weights, a dtype, and switches.

    Args:
        weights: tensors [E, ...] by name.
        multipliers: by name, what the weight is multiplied by in the forward pass; 1 where absent.
        dtype: of the inputs of matrix products; the residual stream is float32.
        fused_attention: torch's fused attention kernel instead of batched products.
        rounding: simulated format of matrix-product inputs, ``rounding(tensor, role) -> tensor`` with role
            ``weights`` or ``activations``; None for none.
        observe: called with every tensor a model names; None for none.
        training: whether this is a training step (losses of a model's own count, see `add_loss`).

    Attributes:
        members: E.
        extra_loss: what models added with `add_loss`, [E] or 0.
    """

    def __init__(
        self, weights: Mapping[str, torch.Tensor], multipliers: Mapping[str, float], dtype: torch.dtype, *,
        fused_attention: bool = False, rounding: Callable[[torch.Tensor, str], torch.Tensor] | None = None,
        observe: Observer | None = None, training: bool = False,
    ) -> None:  # fmt: skip
        self.weights, self.multipliers, self.dtype = weights, multipliers, dtype
        self.fused_attention, self.rounding, self.observe, self.training = fused_attention, rounding, observe, training
        self.members = len(next(iter(weights.values())))
        self.extra_loss: torch.Tensor | float = 0.0

    def weight(self, name: str) -> torch.Tensor:
        """The weight [E, ...] itself, multiplier applied: for gains, biases and models' own products."""
        w = self.weights[name]
        multiplier = self.multipliers.get(name, 1.0)
        return w if multiplier == 1.0 else w * multiplier

    def linear(self, x: torch.Tensor, name: str, bias: str | None = None) -> torch.Tensor:
        """x w (+ bias) with w [E, inputs, outputs]: [E, n, inputs] -> [E, n, outputs] as `dtype`.

        Leading dimensions between E and the last are kept.
        """
        return self.matmul(x, self.weights[name], self.multipliers.get(name, 1.0), bias)

    def matmul(
        self, x: torch.Tensor, w: torch.Tensor, multiplier: float = 1.0, bias: str | None = None
    ) -> torch.Tensor:
        """`linear` for a matrix w [E, inputs, outputs] that is not a weight by name (one expert, one tap)."""
        x, w = x.to(self.dtype), w.to(self.dtype)
        if self.rounding is not None:
            x, w = self.rounding(x, "activations"), self.rounding(w, "weights")
        flat = x.flatten(1, -2)
        y = torch.bmm(flat, w)
        if multiplier != 1.0:
            y = y * multiplier
        if bias is not None:
            y = y + self.weight(bias)[:, None].to(y.dtype)
        return y.view(*x.shape[:-1], w.shape[-1])

    def embed(self, ids: torch.Tensor, name: str) -> torch.Tensor:
        """Rows of the table [E, V, d] for ids [E, ...] (int64): [E, ..., d]."""
        table = self.weights[name]
        offset = torch.arange(self.members, device=ids.device).view(-1, *[1] * (ids.dim() - 1)) * table.shape[1]
        rows = functional.embedding(ids + offset, table.flatten(0, 1))
        multiplier = self.multipliers.get(name, 1.0)
        return (rows if multiplier == 1.0 else rows * multiplier).float()

    def rms_norm(self, x: torch.Tensor, gain: str | None = None) -> torch.Tensor:
        """x / sqrt(mean(x^2) + 1e-6) over the last dimension, as `dtype` (Zhang & Sennrich 2019, arXiv 1910.07467)."""
        if gain is None:
            return plain.rms_norm(x.float(), self.dtype)
        return (plain.rms_norm(x.float(), torch.float32) * self._per_feature(gain, x)).to(self.dtype)

    def layer_norm(self, x: torch.Tensor, gain: str | None = None, bias: str | None = None) -> torch.Tensor:
        """Zero mean and unit variance over the last dimension, as `dtype` (Ba et al. 2016, arXiv 1607.06450)."""
        y = functional.layer_norm(x.float(), x.shape[-1:], eps=1e-5)
        if gain is not None:
            y = y * self._per_feature(gain, x)
        if bias is not None:
            y = y + self._per_feature(bias, x)
        return y.to(self.dtype)

    def activation(self, x: torch.Tensor, kind: str) -> torch.Tensor:
        """``relu``, ``relu2`` (squared), ``gelu``, ``silu``, ``tanh``, ``quadratic``, ``erf`` or ``identity``."""
        if kind == "relu2":
            return plain.relu_squared(x)
        if kind == "quadratic":
            return x * x
        if kind == "erf":
            return torch.erf(x / math.sqrt(2))
        if kind == "identity":
            return x
        return {"relu": functional.relu, "gelu": functional.gelu, "silu": functional.silu, "tanh": torch.tanh}[kind](x)

    def attention(
        self, qkv: torch.Tensor, heads: int, *, causal: bool = True, scale: float | None = None
    ) -> torch.Tensor:
        """Self-attention of packed queries, keys and values [S, T, 3 d] -> [S, T, d], S = E B sequences.

        Args:
            qkv: as `dtype`.
            heads: number of heads; d / heads numbers each.
            causal: position t sees positions up to t only.
            scale: of the scores; 1 / sqrt(d / heads) unless given.
        """
        return plain.attention(qkv, heads, causal=causal, scale=scale, fused=self.fused_attention)

    def see(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """x itself; whoever observes the model is shown it under `name`."""
        if self.observe is not None:
            self.observe(name, x)
        return x

    def add_loss(self, value: torch.Tensor) -> None:
        """Add a penalty [E] of the model's own (load balance of experts) to the training loss."""
        if self.training:
            self.extra_loss = self.extra_loss + value

    def _per_feature(self, name: str, x: torch.Tensor) -> torch.Tensor:
        w = self.weight(name).float()  # [E, features]
        return w.view(w.shape[0], *[1] * (x.dim() - 2), w.shape[-1])
