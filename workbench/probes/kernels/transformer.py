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
from workbench.probes.kernels.launch import even_ids, product, weight_gradient
from workbench.probes.kernels.linear import (
    linear,
    linear_add_,
    linear_add_norm_,
    linear_norm_backward_,
    linear_relu_squared,
    linear_relu_squared_backward,
    linear_weight_gradient,
)
from workbench.probes.kernels.loss import cross_entropy_
from workbench.probes.kernels.mlp import mlp_, mlp_backward_, relu_squared_, relu_squared_backward_
from workbench.probes.kernels.narrow import attention_branch_, attention_branch_backward_, head_loss_
from workbench.probes.kernels.norm import add_norm, norm_backward

__all__ = ["FusedTransformer", "Plan", "choose_plan", "supports"]


@dataclass(frozen=True)
class Plan:
    """Who computes what; a function of the shape alone.

    Attributes:
        attention: ``branch``: the whole branch in one kernel; ``parts``: products around the attention kernel.
        mlp: ``branch``, ``epilogue`` (products with ReLU^2 inside) or ``parts``.
        head: ``branch`` or ``parts``.
        products: the remaining matrix products: ``own`` kernels (with the stream and the norm inside where a row
            fits one tile), the vendor's library once for the ``stack``, or once for ``each`` member. With ``stack``
            the library may choose by the number of members, and a member's bits then depend on it.
        rows: with ``own`` products, the stream's addition and norm are part of them.
    """

    attention: str = "parts"
    mlp: str = "parts"
    head: str = "parts"
    products: str = "each"
    rows: bool = False


def supports(width: int, heads: int, context: int, batch: int, vocab: int) -> bool:
    """Whether `FusedTransformer` covers a shape: multiples of 16, heads a power of two from 16 to 128 wide."""
    even = not any(n % 16 for n in (width, context, vocab))
    return even and width // heads in (16, 32, 64, 128) and context <= 4096 and vocab <= 8192


def choose_plan(width: int, heads: int, context: int, vocab: int, exact: bool = True) -> Plan:
    """The fastest plan of a shape, as measured on an H200.

    Args:
        width, heads, context, vocab: the shape.
        exact: a member's bits must not depend on the number of members. Without it the vendor's library sees
            whole stacks at widths from 256 on: 5 % faster in stacks of 16, and up to twice as fast alone.
    """
    # with several heads the backward of the whole branch read outside its memory on an H200, so they take the parts
    narrow = width in (16, 32, 64) and heads == 1
    whole = width in (16, 32, 64, 128)
    rows = width in (16, 32, 64, 128, 256)
    return Plan(
        attention="branch" if narrow and context in (16, 32, 64, 128) else "parts",
        mlp="branch" if whole else "epilogue",
        head="branch" if whole and vocab <= 256 else "parts",
        products="own" if whole or (rows and exact) else "each" if exact else "stack",
        rows=whole or (rows and exact),
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
        multipliers: by name, the factor between a weight and what the forward pass uses; 1 where absent. `low`
            holds the products already (`adamw_` writes them so with its `factor`); gradients come out for the
            weights themselves.
        attention_scale: what queries times keys are multiplied by; (d / heads)^-0.5 unless given.
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
        multipliers: Mapping[str, float] | None = None,
        attention_scale: float | None = None,
    ) -> None:
        self.low, self.master, self.grad = low, master, grad
        self.depth, self.heads, self.residual = depth, heads, residual
        _, self.width, self.vocab = low["head"].shape
        self.dtype = low["head"].dtype
        self.factor = dict(multipliers or {})
        self.attention_scale = (self.width // heads) ** -0.5 if attention_scale is None else attention_scale
        self.plan = plan or choose_plan(self.width, heads, master["positions"].shape[1], self.vocab)

    @torch.no_grad()
    def loss_and_gradient(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy [E] (nats) of target ids [E, B, T] or [E, B T] after input ids [E, B, T].

        Overwrites every view in `grad`. The ids may be slices of longer sequences, of any integer type.
        """
        inputs, targets = even_ids(inputs), even_ids(targets.view(inputs.shape))
        context = inputs.shape[-1]
        outer = (self.factor.get("embedding", 1.0), self.factor.get("positions", 1.0))
        x = embed(inputs, self.master["embedding"], self.master["positions"], self.residual, outer)
        saved, pending = [], None
        for layer in range(self.depth):
            kept, pending = self._attention(x, pending, layer, context)
            more, pending = self._mlp(x, pending, layer)
            saved.append((kept, more))
        loss, dx, low = self._head(x, pending, targets)
        for layer in reversed(range(self.depth)):
            kept, more = saved.pop()
            self._mlp_backward(more, dx, low, layer)
            self._attention_backward(kept, dx, low, layer, context)
        embedding_gradient(inputs, dx, low, self.grad["embedding"], self.grad["positions"], outer)
        mean = torch.empty(len(loss), device=loss.device)
        _row_mean[(len(loss),)](loss, mean, loss.shape[1], 1024, num_warps=4)
        return mean

    def _product(self, a: torch.Tensor, w: torch.Tensor, transposed: bool = False) -> torch.Tensor:
        if self.plan.products == "own":
            return linear(a, w, transposed)
        return product(a, w.mT if transposed else w, self.plan.products == "each")

    def _weight_gradient(self, inputs: torch.Tensor, grad: torch.Tensor, name: str) -> None:
        factor = self.factor.get(name, 1.0)
        if self.plan.products == "own":
            linear_weight_gradient(inputs, grad, self.grad[name], factor)
        else:
            weight_gradient(inputs, grad, self.grad[name], factor, self.plan.products == "each")

    # Between two branches the stream is in one of three states: settled; waiting for `delta` to be added; or
    # settled and already normalized for the next branch.

    def _normalized(self, x: torch.Tensor, pending: torch.Tensor | tuple | None) -> tuple:
        return pending if isinstance(pending, tuple) else add_norm(x, pending, self.dtype)

    def _leave(
        self, x: torch.Tensor, a: torch.Tensor, w: torch.Tensor, branch_next: bool
    ) -> torch.Tensor | tuple | None:
        """The last product of a branch, and as much of the addition and the next norm as the plan allows."""
        if not self.plan.rows:
            delta = self._product(a, w)
            if branch_next:
                x += delta
            return None if branch_next else delta
        if branch_next:
            linear_add_(x, a, w)
            return None
        return linear_add_norm_(x, a, w)

    def _return(self, dx: torch.Tensor, low: torch.Tensor, grad: torch.Tensor, w: torch.Tensor, normed, scale) -> None:
        """Back through the first product and the norm of a branch."""
        if self.plan.rows:
            linear_norm_backward_(dx, low, grad, w, normed, scale)
        else:
            norm_backward(self._product(grad, w, True), normed, scale, dx, True, None if low is dx else low)

    def _attention(self, x: torch.Tensor, pending, layer: int, context: int) -> tuple:
        qkv, proj = self.low[f"{layer}.qkv"], self.low[f"{layer}.attention_out"]
        if self.plan.attention == "branch":
            return attention_branch_(x, qkv, proj, self.heads, context, self.attention_scale), None
        normed, scale = self._normalized(x, pending)
        packed = self._product(normed, qkv).view(-1, context, 3 * self.width)
        mixed, lse = attention(packed, self.heads, self.attention_scale)
        pending = self._leave(x, mixed.view(normed.shape), proj, self.plan.mlp == "branch")
        return (normed, scale, mixed, packed, lse), pending

    def _attention_backward(self, kept: tuple, dx: torch.Tensor, low: torch.Tensor, layer: int, context: int) -> None:
        qkv, proj = self.low[f"{layer}.qkv"], self.low[f"{layer}.attention_out"]
        normed, scale, mixed, *rest = kept
        self._weight_gradient(mixed.view(normed.shape), low, f"{layer}.attention_out")
        if self.plan.attention == "branch":
            dqkv = attention_branch_backward_(
                normed, scale, mixed, dx, low, qkv, proj, self.heads, context, self.attention_scale
            )
            self._weight_gradient(normed, dqkv, f"{layer}.qkv")
            return
        packed, lse = rest
        dmixed = self._product(low, proj, True).view(mixed.shape)
        dqkv = attention_backward(packed, mixed, lse, dmixed, self.heads, self.attention_scale)
        dqkv = dqkv.view(*normed.shape[:2], -1)
        self._weight_gradient(normed, dqkv, f"{layer}.qkv")
        self._return(dx, low, dqkv, qkv, normed, scale)

    def _mlp(self, x: torch.Tensor, pending, layer: int) -> tuple:
        up, down = self.low[f"{layer}.up"], self.low[f"{layer}.down"]
        if self.plan.mlp == "branch":
            return mlp_(x, up, down), None
        normed, scale = self._normalized(x, pending)
        h = linear_relu_squared(normed, up) if self.plan.mlp == "epilogue" else relu_squared_(self._product(normed, up))
        last = layer == self.depth - 1
        branch_next = self.plan.head == "branch" if last else self.plan.attention == "branch"
        return (normed, scale, h), self._leave(x, h, down, branch_next)

    def _mlp_backward(self, kept: tuple, dx: torch.Tensor, low: torch.Tensor, layer: int) -> None:
        up, down = self.low[f"{layer}.up"], self.low[f"{layer}.down"]
        if self.plan.mlp == "branch":
            names = (f"{layer}.up", f"{layer}.down")
            factors = tuple(self.factor.get(name, 1.0) for name in names)
            mlp_backward_(*kept, dx, low, up, down, *(self.grad[name] for name in names), factors)
            return
        normed, scale, h = kept
        self._weight_gradient(h, low, f"{layer}.down")
        if self.plan.mlp == "epilogue":
            du = linear_relu_squared_backward(low, down, h)
        else:
            du = relu_squared_backward_(self._product(low, down, True), h)
        self._weight_gradient(normed, du, f"{layer}.up")
        self._return(dx, low, du, up, normed, scale)

    def _head(self, x: torch.Tensor, pending, targets: torch.Tensor) -> tuple:
        """Losses of all tokens, and the gradient of the stream (in the memory of x) in both dtypes."""
        head = self.low["head"]
        low = x if x.dtype == self.dtype else torch.empty(x.shape, dtype=self.dtype, device=x.device)
        if self.plan.head == "branch":
            loss, normed, dlogits = head_loss_(x, head, targets, low)
        else:
            normed, scale = self._normalized(x, pending)
            dlogits = self._product(normed, head)
            loss = cross_entropy_(dlogits, targets)
            grad = self._product(dlogits, head, True)
            norm_backward(grad, normed, scale, x, False, None if low is x else low)
        self._weight_gradient(normed, dlogits, "head")
        return loss, x, low
