"""One training step's losses and gradients of a stack of transformers, without autograd.

For the model that most probes train: pre-norm, RMSNorm without gain, ReLU^2, causal attention, learned
positions, no biases, a head of its own. `supports` says whether a shape is covered; the plain path of
`workbench.probes.models` covers everything else and agrees to bfloat16 rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from workbench.probes.kernels.attention import attention, attention_backward
from workbench.probes.kernels.embedding import embed, embedding_gradient
from workbench.probes.kernels.launch import product, weight_gradient
from workbench.probes.kernels.loss import cross_entropy_
from workbench.probes.kernels.mlp import (
    linear_relu_squared,
    linear_relu_squared_backward,
    mlp_,
    mlp_backward_,
    relu_squared_,
    relu_squared_backward_,
)
from workbench.probes.kernels.narrow import attention_branch_, attention_branch_backward_, head_loss_
from workbench.probes.kernels.norm import add_norm, norm_backward

__all__ = ["FusedTransformer", "Plan", "choose_plan", "supports"]


@dataclass(frozen=True)
class Plan:
    """How much each branch does in one kernel; a function of the shape alone.

    Attributes:
        attention: ``branch`` (the whole branch) or ``parts`` (matrix products around the attention kernel).
        mlp: ``branch``, ``epilogue`` (products with ReLU^2 in them) or ``parts``.
        head: ``branch`` or ``parts``.
    """

    attention: str = "parts"
    mlp: str = "parts"
    head: str = "parts"


def supports(width: int, heads: int, context: int, batch: int, vocab: int) -> bool:
    """Whether `FusedTransformer` covers a shape: multiples of 16, heads a power of two from 16 to 128 wide."""
    head = width // heads
    return head in (16, 32, 64, 128) and context % 16 == 0 and context <= 4096 and vocab <= 8192 and width % 16 == 0


def choose_plan(width: int, context: int, vocab: int) -> Plan:
    """The fastest plan of a shape, as measured on an H200."""
    narrow = width in (16, 32, 64)
    whole = width in (16, 32, 64, 128)
    return Plan(
        attention="branch" if narrow and context in (16, 32, 64, 128) else "parts",
        mlp="branch" if whole else "epilogue" if width == 256 else "parts",
        head="branch" if whole and vocab <= 256 else "parts",
    )


@triton.jit
def _row_mean(x, out, n, BLOCK: tl.constexpr):
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(0, n, BLOCK):
        at = start + tl.arange(0, BLOCK)
        total += tl.load(x + tl.program_id(0).to(tl.int64) * n + at, at < n, 0.0)
    tl.store(out + tl.program_id(0), tl.sum(total, 0) / n)


class FusedTransformer:
    """E transformers of one shape.

    Args:
        low: weight matrices by name (``0.qkv``, ``0.attention_out``, ``0.up``, ``0.down``, ..., ``head``), each
            [E, inputs, outputs] in the dtype of the products: views of one flat [E, P] buffer.
        master: ``embedding`` [E, V, d] and ``positions`` [E, T, d], float32 views of the flat weights.
        grad: every weight's float32 view of the flat gradient.
        depth, heads: of one member.
        residual: dtype of the residual stream and of its gradient: float32, or bfloat16 for a quarter to a
            half less traffic.
        plan: how far to fuse; `choose_plan` unless given.
    """

    def __init__(
        self,
        low: Mapping[str, torch.Tensor],
        master: Mapping[str, torch.Tensor],
        grad: Mapping[str, torch.Tensor],
        depth: int,
        heads: int,
        residual: torch.dtype = torch.float32,
        plan: Plan | None = None,
    ) -> None:
        self.low, self.master, self.grad = low, master, grad
        self.depth, self.heads, self.residual = depth, heads, residual
        _, self.width, self.vocab = low["head"].shape
        self.dtype = low["head"].dtype
        self.plan = plan or choose_plan(self.width, master["positions"].shape[1], self.vocab)

    @torch.no_grad()
    def loss_and_gradient(self, tokens: torch.Tensor) -> torch.Tensor:
        """Mean next-token loss [E] (nats) of sequences [E, B, T + 1]; overwrites every view in `grad`."""
        tokens = tokens.contiguous()
        context = tokens.shape[-1] - 1
        x = embed(tokens, self.master["embedding"], self.master["positions"], self.residual)
        saved, delta = [], None
        for layer in range(self.depth):
            kept, delta = self._attention(x, delta, layer, context)
            more, delta = self._mlp(x, delta, layer)
            saved.append((kept, more))
        loss, dx, low = self._head(x, delta, tokens)
        for layer in reversed(range(self.depth)):
            kept, more = saved.pop()
            self._mlp_backward(more, dx, low, layer)
            self._attention_backward(kept, dx, low, layer, context)
        embedding_gradient(tokens, dx, low, self.grad["embedding"], self.grad["positions"])
        mean = torch.empty(len(loss), device=loss.device)
        _row_mean[(len(loss),)](loss, mean, loss.shape[1], 1024, num_warps=4)
        return mean

    # What a branch adds to the stream is either added at once, or handed on as `delta` for the next norm to add.

    def _settled(self, x: torch.Tensor, delta: torch.Tensor | None) -> None:
        if delta is not None:
            x += delta

    def _attention(self, x: torch.Tensor, delta: torch.Tensor | None, layer: int, context: int) -> tuple:
        qkv, proj = self.low[f"{layer}.qkv"], self.low[f"{layer}.attention_out"]
        if self.plan.attention == "branch":
            self._settled(x, delta)
            return attention_branch_(x, qkv, proj, self.heads, context), None
        normed, scale = add_norm(x, delta, self.dtype)
        packed = product(normed, qkv).view(-1, context, 3 * self.width)
        mixed, lse = attention(packed, self.heads)
        return (normed, scale, mixed, packed, lse), product(mixed.view(normed.shape), proj)

    def _attention_backward(self, kept: tuple, dx: torch.Tensor, low: torch.Tensor, layer: int, context: int) -> None:
        qkv, proj = self.low[f"{layer}.qkv"], self.low[f"{layer}.attention_out"]
        normed, scale, mixed, *rest = kept
        weight_gradient(mixed.view(normed.shape), low, self.grad[f"{layer}.attention_out"])
        if self.plan.attention == "branch":
            dqkv = attention_branch_backward_(normed, scale, mixed, dx, low, qkv, proj, self.heads, context)
            weight_gradient(normed, dqkv, self.grad[f"{layer}.qkv"])
            return
        packed, lse = rest
        dmixed = product(low, proj.mT).view(mixed.shape)
        dqkv = attention_backward(packed, mixed, lse, dmixed, self.heads).view(*normed.shape[:2], -1)
        weight_gradient(normed, dqkv, self.grad[f"{layer}.qkv"])
        norm_backward(product(dqkv, qkv.mT), normed, scale, dx, True, None if low is dx else low)

    def _mlp(self, x: torch.Tensor, delta: torch.Tensor | None, layer: int) -> tuple:
        up, down = self.low[f"{layer}.up"], self.low[f"{layer}.down"]
        if self.plan.mlp == "branch":
            self._settled(x, delta)
            return mlp_(x, up, down), None
        normed, scale = add_norm(x, delta, self.dtype)
        h = linear_relu_squared(normed, up) if self.plan.mlp == "epilogue" else relu_squared_(product(normed, up))
        return (normed, scale, h), product(h, down)

    def _mlp_backward(self, kept: tuple, dx: torch.Tensor, low: torch.Tensor, layer: int) -> None:
        up, down = self.low[f"{layer}.up"], self.low[f"{layer}.down"]
        up_grad, down_grad = self.grad[f"{layer}.up"], self.grad[f"{layer}.down"]
        if self.plan.mlp == "branch":
            mlp_backward_(*kept, dx, low, up, down, up_grad, down_grad)
            return
        normed, scale, h = kept
        weight_gradient(h, low, down_grad)
        if self.plan.mlp == "epilogue":
            du = linear_relu_squared_backward(low, down, h)
        else:
            du = relu_squared_backward_(product(low, down.mT), h)
        weight_gradient(normed, du, up_grad)
        norm_backward(product(du, up.mT), normed, scale, dx, True, None if low is dx else low)

    def _head(self, x: torch.Tensor, delta: torch.Tensor | None, tokens: torch.Tensor) -> tuple:
        """Losses of all tokens, and the gradient of the stream (in the memory of x) in both dtypes."""
        head = self.low["head"]
        low = x if x.dtype == self.dtype else torch.empty(x.shape, dtype=self.dtype, device=x.device)
        if self.plan.head == "branch":
            self._settled(x, delta)
            loss, normed, dlogits = head_loss_(x, head, tokens, low)
        else:
            normed, scale = add_norm(x, delta, self.dtype)
            dlogits = product(normed, head)
            loss = cross_entropy_(dlogits, tokens)
            norm_backward(product(dlogits, head.mT), normed, scale, x, False, None if low is x else low)
        weight_gradient(normed, dlogits, self.grad["head"])
        return loss, x, low
