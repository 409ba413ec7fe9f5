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

from workbench.probes import cells
from workbench.probes import functional as plain

__all__ = ["Ops"]

#: Observer of activations: called with a name and the tensor [E, ...].
Observer = Callable[[str, torch.Tensor], None]

#: Nonlinearities whose every operation is rounded correctly, and the others, which `pointwise` must guard.
_EXACT: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": functional.relu,
    "relu2": plain.relu_squared,
    "quadratic": lambda x: x * x,
    "identity": lambda x: x,
    "swiglu": plain.swiglu,  # halves of rows: a CPU's loops end with every row, whatever is stacked
}
_ROUNDED: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": functional.gelu,
    "silu": functional.silu,
    "tanh": torch.tanh,
    "erf": lambda x: torch.erf(x / math.sqrt(2)),
}


class Ops:
    """One way to evaluate a model: its weights, a dtype, and switches.

    Args:
        weights: tensors [E, ...] by name.
        multipliers: by name, what the weight is multiplied by in the forward pass; 1 where absent.
        dtype: of the inputs of matrix products.
        stream: dtype of the residual stream of a transformer.
        fused_attention: torch's fused attention kernel instead of batched products.
        rounding: simulated format of matrix-product inputs, ``rounding(tensor, role) -> tensor`` with role
            ``weights``, ``activations`` or ``gradients`` (of the product's output); None for none.
        observe: called with every tensor a model names; None for none.
        training: whether this is a training step (losses of a model's own count, see `add_loss`).

    Attributes:
        members: E.
        extra_loss: what models added with `add_loss`, [E] or 0.
    """

    def __init__(
        self, weights: Mapping[str, torch.Tensor], multipliers: Mapping[str, float], dtype: torch.dtype, *,
        fused_attention: bool = False, rounding: Callable[[torch.Tensor, str], torch.Tensor] | None = None,
        observe: Observer | None = None, training: bool = False, stream: torch.dtype = torch.float32,
    ) -> None:  # fmt: skip
        self.weights, self.multipliers, self.dtype, self.stream = weights, multipliers, dtype, stream
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
        y = plain.product(flat, w)
        if self.rounding is not None:
            y = self.rounding(y, "gradients")
        if multiplier != 1.0:
            y = y * multiplier
        if bias is not None:
            y = y + self.weight(bias)[:, None].to(y.dtype)
        return y.reshape(*x.shape[:-1], w.shape[-1])

    def embed(self, ids: torch.Tensor, name: str) -> torch.Tensor:
        """Rows of the table [E, V, d] for ids [E, ...] (int64): [E, ..., d]."""
        table = self.weights[name]
        offset = torch.arange(self.members, device=ids.device).view(-1, *[1] * (ids.dim() - 1)) * table.shape[1]
        rows = functional.embedding(ids + offset, table.flatten(0, 1))
        multiplier = self.multipliers.get(name, 1.0)
        return self.wide(rows if multiplier == 1.0 else rows * multiplier)

    def frozen(self, x: torch.Tensor, name: str) -> torch.Tensor:
        """`linear` of inputs that nothing trained precedes by a weight that is never trained.

        Its gradient is zero and costs no product.
        """
        w = self.weights[name]
        return cells.constant(self.matmul(x, w.detach(), self.multipliers.get(name, 1.0)), w)

    def wide_linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        """x w in the type of `wide`, unrounded: for a product that stays out of low precision (a router)."""
        return plain.product(self.wide(x), self.wide(self.weight(name)))

    def wide(self, x: torch.Tensor) -> torch.Tensor:
        """x as float32, the type of residual streams (float64 where products are taken in float64)."""
        return x.to(torch.float64 if self.dtype == torch.float64 else torch.float32)

    def enter(self, x: torch.Tensor) -> torch.Tensor:
        """x as the beginning of a residual stream."""
        return x.to(self.stream) if self.stream == torch.bfloat16 else x

    def add(self, x: torch.Tensor, branch: torch.Tensor) -> torch.Tensor:
        """The residual stream x after a branch, in the stream's dtype."""
        return x + (branch.to(x.dtype) if self.stream == torch.bfloat16 else branch)

    def rms_norm(self, x: torch.Tensor, gain: str | None = None, *, dtype: torch.dtype | None = None) -> torch.Tensor:
        """x / sqrt(mean(x^2) + 1e-6) over the last dimension (Zhang & Sennrich 2019, arXiv 1910.07467).

        As `dtype`, the one of products unless given.
        """
        x, dtype = self.wide(x), dtype or self.dtype
        if gain is None:
            return plain.rms_norm(x, dtype)
        return (plain.rms_norm(x, x.dtype) * self._per_feature(gain, x)).to(dtype)

    def layer_norm(
        self, x: torch.Tensor, gain: str | None = None, bias: str | None = None, *, dtype: torch.dtype | None = None
    ) -> torch.Tensor:
        """Zero mean and unit variance over the last dimension (Ba et al. 2016, arXiv 1607.06450), as `rms_norm`."""
        x = self.wide(x)
        y = functional.layer_norm(x, x.shape[-1:], eps=1e-5)
        if gain is not None:
            y = y * self._per_feature(gain, x)
        if bias is not None:
            y = y + self._per_feature(bias, x)
        return y.to(dtype or self.dtype)

    def norm(
        self, x: torch.Tensor, kind: str, gain: str | None = None, *, dtype: torch.dtype | None = None
    ) -> torch.Tensor:
        """`rms_norm` (``rms``), `layer_norm` (``layer``) or x itself (``none``)."""
        if kind == "none":
            return x
        return (self.rms_norm if kind == "rms" else self.layer_norm)(x, gain, dtype=dtype)

    def activation(self, x: torch.Tensor, kind: str) -> torch.Tensor:
        """``relu``, ``relu2`` (squared), ``gelu``, ``silu``, ``tanh``, ``quadratic`` (x^2), ``erf`` (erf(x / sqrt 2)),
        ``identity``, or ``swiglu``, which halves the last dimension (`functional.swiglu`); x [E, ...].
        """
        if kind in _EXACT:
            return _EXACT[kind](x)
        return plain.pointwise(_ROUNDED[kind], x)

    def attention(
        self, qkv: torch.Tensor, heads: int, *, causal: bool = True, scale: float | None = None, rotary: bool = False,
        norm: str = "none", gain: str | None = None, name: str | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """Self-attention of packed queries, keys and values [S, T, 3 d] -> [S, T, d], S = E B sequences.

        Args:
            qkv: as `dtype`.
            heads: number of heads; d / heads numbers each.
            causal: position t sees positions up to t only.
            scale: of the scores; 1 / sqrt(d / heads) unless given.
            rotary: queries and keys turn with their position (`functional.rotate`).
            norm: of each query and key, before it turns: ``none``, ``rms`` or ``layer`` (QK-norm).
            gain: name of the gains [E, 2, d / heads] of that norm, for queries and keys.
            name: observers are shown the scores that count, [E, ..., pairs of positions], under this name.
        """
        if not rotary and norm == "none":
            if self.observe is not None and name is not None:
                s, t, d3 = qkv.shape
                q, k, _ = qkv.view(s, t, 3, heads, d3 // 3 // heads).permute(2, 0, 3, 1, 4)
                self._see_scores(name, q, k, causal, scale)
            return plain.attention(qkv, heads, causal=causal, scale=scale, fused=self.fused_attention)
        s, t, d3 = qkv.shape
        packed = qkv.view(s, t, 3, heads, d3 // 3 // heads)
        pair = self.wide(packed[:, :, :2])  # [S, T, 2, heads, d / heads]
        pair = self.norm(pair, norm, dtype=pair.dtype)
        if gain is not None:
            gains = self.wide(self.weight(gain))[:, None, :, None]
            pair = (pair.view(self.members, -1, *pair.shape[2:]) * gains).view(pair.shape)
        q, k = (plain.rotate(pair) if rotary else pair).to(qkv.dtype).permute(2, 0, 3, 1, 4)
        v = packed[:, :, 2].transpose(1, 2)
        if self.observe is not None and name is not None:
            self._see_scores(name, q, k, causal, scale)
        return plain.attend(q, k, v, causal=causal, scale=scale, fused=self.fused_attention)

    def convolution(
        self, x: torch.Tensor, name: str, bias: str | None = None, *, size: int = 3, stride: int = 1
    ) -> torch.Tensor:
        """Convolution of x [E, B, L, C] or [E, B, H, W, C] with taps [E, size (^2), C, outputs], zeros outside.

        Args:
            x: signals or images.
            name: of the weight.
            bias: name of a bias [E, outputs], or None.
            size: taps along one dimension, odd.
            stride: positions between two outputs.
        """
        windows = cells.unfold(x.to(self.dtype).flatten(0, 1), size, stride)
        windows = windows.view(*x.shape[:2], *windows.shape[1:])
        taps = self.weights[name].flatten(1, 2)  # [E, taps C, outputs]
        return self.matmul(windows, taps, self.multipliers.get(name, 1.0), bias)

    def lstm(self, gates: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Output and new memory of one step, each [E, B, d], from gates [E, B, 4 d]; see `cells.lstm_cell`."""
        return cells.lstm_cell(gates, c)

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
        w = self.wide(self.weight(name))  # [E, features]
        return w.view(w.shape[0], *[1] * (x.dim() - 2), w.shape[-1])

    def _see_scores(self, name: str, q: torch.Tensor, k: torch.Tensor, causal: bool, scale: float | None) -> None:
        t, c = q.shape[-2:]
        with torch.no_grad():
            scores = plain.product(q.float().flatten(0, 1), k.float().flatten(0, 1).mT).view(*q.shape[:2], t, t)
            scores = scores * (1 / math.sqrt(c) if scale is None else scale)
            if causal:
                row, column = torch.tril_indices(t, t, device=q.device)
                scores = scores[..., row, column]
            self.observe(name, scores.reshape(self.members, -1, *scores.shape[1:]))
