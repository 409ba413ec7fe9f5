"""The ReLU^2 MLP (So et al. 2021, arXiv 2109.08668), from elementwise passes up to one kernel for the whole branch.

ReLU^2 keeps nothing but its result: where h = max(u, 0)^2, its derivative 2 max(u, 0) is 2 sqrt(h).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from workbench.probes.kernels.launch import EPS, block_of, blocks

__all__ = ["mlp_", "mlp_backward_", "relu_squared_", "relu_squared_backward_"]


@triton.jit
def _relu_squared(u, count, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    r = tl.maximum(tl.load(u + at, at < count, 0.0).to(tl.float32), 0.0)
    tl.store(u + at, (r * r).to(u.dtype.element_ty), at < count)


@triton.jit
def _relu_squared_backward(dh, h, count, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    r = tl.sqrt(tl.load(h + at, at < count, 0.0).to(tl.float32))
    g = tl.load(dh + at, at < count, 0.0).to(tl.float32) * 2 * r
    tl.store(dh + at, g.to(dh.dtype.element_ty), at < count)


def relu_squared_(u: torch.Tensor) -> torch.Tensor:
    """max(u, 0)^2 in place, any shape (contiguous)."""
    _relu_squared[(triton.cdiv(u.numel(), 4096),)](u, u.numel(), 4096, num_warps=4)
    return u


def relu_squared_backward_(dh: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    """The gradient `dh` of h = max(u, 0)^2 becomes that of u, in place."""
    _relu_squared_backward[(triton.cdiv(h.numel(), 4096),)](dh, h, h.numel(), 4096, num_warps=4)
    return dh


@triton.jit
def _mlp(
    x, up, down, normed, scale, stride, n, D: tl.constexpr, H: tl.constexpr, BM: tl.constexpr, BH: tl.constexpr,
    eps: tl.constexpr,
):  # fmt: skip
    member = tl.program_id(1).to(tl.int64)
    row, col, unit = tl.program_id(0) * BM + tl.arange(0, BM), tl.arange(0, D), tl.arange(0, BH)
    at = (member * n + row[:, None]) * D + col[None, :]
    up += member * stride + col[:, None] * H + unit[None, :]
    down += member * stride + unit[:, None] * D + col[None, :]
    value = tl.load(x + at).to(tl.float32)
    inverse = tl.rsqrt(tl.sum(value * value, 1) / D + eps)
    y = (value * inverse[:, None]).to(normed.dtype.element_ty)
    tl.store(normed + at, y)
    tl.store(scale + member * n + row, inverse)
    for start in range(0, H, BH):
        u = tl.maximum(tl.dot(y, tl.load(up + start)), 0.0)
        value = tl.dot((u * u).to(y.dtype), tl.load(down + start * D), value)
    tl.store(x + at, value.to(x.dtype.element_ty))


@triton.jit
def _mlp_input_gradient(
    normed, scale, dx, low, up, down, stride, n, LOW: tl.constexpr, D: tl.constexpr, H: tl.constexpr,
    BM: tl.constexpr, BH: tl.constexpr,
):  # fmt: skip
    member = tl.program_id(1).to(tl.int64)
    row, col, unit = tl.program_id(0) * BM + tl.arange(0, BM), tl.arange(0, D), tl.arange(0, BH)
    at = (member * n + row[:, None]) * D + col[None, :]
    up += member * stride + col[:, None] * H + unit[None, :]
    down += member * stride + unit[:, None] * D + col[None, :]
    y = tl.load(normed + at)
    dy = tl.load(dx + at).to(y.dtype)
    g = tl.zeros([BM, D], tl.float32)
    for start in range(0, H, BH):
        w = tl.load(up + start)
        r = tl.maximum(tl.dot(y, w), 0.0)
        du = 2 * r * tl.dot(dy, tl.trans(tl.load(down + start * D)))
        g = tl.dot(du.to(y.dtype), tl.trans(w), g)
    wide = y.to(tl.float32)
    g = (g - wide * (tl.sum(g * wide, 1) / D)[:, None]) * tl.load(scale + member * n + row)[:, None]
    g += tl.load(dx + at).to(tl.float32)
    tl.store(dx + at, g.to(dx.dtype.element_ty))
    if LOW:
        tl.store(low + at, g.to(low.dtype.element_ty))


@triton.jit
def _mlp_weight_gradient(
    normed, low, up, down, up_grad, down_grad, stride, grad_stride, up_factor, down_factor, n,
    D: tl.constexpr, H: tl.constexpr, BM: tl.constexpr, BH: tl.constexpr,
):  # fmt: skip
    member = tl.program_id(1).to(tl.int64)
    span, col = tl.arange(0, BM), tl.arange(0, D)
    unit = tl.program_id(0) * BH + tl.arange(0, BH)
    wide, tall = col[:, None] * H + unit[None, :], unit[:, None] * D + col[None, :]
    wu = tl.load(up + member * stride + wide)
    wd = tl.load(down + member * stride + tall)
    dwu, dwd = tl.zeros([D, BH], tl.float32), tl.zeros([BH, D], tl.float32)
    normed += member * n * D
    low += member * n * D
    for start in range(0, n, BM):
        at = (start + span)[:, None] * D + col[None, :]
        y, dy = tl.load(normed + at), tl.load(low + at)
        r = tl.maximum(tl.dot(y, wu), 0.0)
        du = 2 * r * tl.dot(dy, tl.trans(wd))
        dwd = tl.dot(tl.trans((r * r).to(y.dtype)), dy, dwd)
        dwu = tl.dot(tl.trans(y), du.to(y.dtype), dwu)
    tl.store(up_grad + member * grad_stride + wide, dwu * up_factor)
    tl.store(down_grad + member * grad_stride + tall, dwd * down_factor)


def mlp_(x: torch.Tensor, up: torch.Tensor, down: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """x += max(norm(x) up, 0)^2 down, in place and in one kernel: the hidden layer never reaches memory.

    Args:
        x: residual stream [E, n, d], d a power of two up to 256.
        up, down: [E, d, H] and [E, H, d] in the dtype of the products, rows contiguous, members one stride apart.

    Returns:
        norm(x) in the dtype of the products, and the factor of every row [E, n], for `mlp_backward_`.
    """
    e, n, d = x.shape
    h = up.shape[-1]
    normed = torch.empty(e, n, d, dtype=up.dtype, device=x.device)
    scale = torch.empty(e, n, device=x.device)
    bm, bh, warps, stages = blocks("mlp", d)
    bm, bh = block_of(n, bm), block_of(h, bh)
    _mlp[(n // bm, e)](
        x, up, down, normed, scale, up.stride(0), n, d, h, bm, bh, EPS, num_warps=warps, num_stages=stages
    )
    return normed, scale


def mlp_backward_(
    normed: torch.Tensor,
    scale: torch.Tensor,
    dx: torch.Tensor,
    low: torch.Tensor,
    up: torch.Tensor,
    down: torch.Tensor,
    up_grad: torch.Tensor,
    down_grad: torch.Tensor,
    factors: tuple[float, float] = (1.0, 1.0),
) -> None:
    """Backward of `mlp_` from its inputs alone: the hidden layer is computed again, twice.

    Args:
        normed, scale: what `mlp_` returned.
        dx: gradient of the stream after the branch; becomes that before it.
        low: `dx` in the dtype of the products, kept equal to it (may be `dx` itself).
        up, down: the weights.
        up_grad, down_grad: float32 views of the flat gradient, written.
        factors: what the two weight gradients are multiplied by.
    """
    e, n, d = normed.shape
    h = up.shape[-1]
    bm, bh, warps, stages = blocks("mlp_weight", d)
    bm, bh = block_of(n, bm), block_of(h, bh)
    _mlp_weight_gradient[(h // bh, e)](
        normed, low, up, down, up_grad, down_grad, up.stride(0), up_grad.stride(0), *factors, n, d, h, bm, bh,
        num_warps=warps, num_stages=stages,
    )  # fmt: skip
    bm, bh, warps, stages = blocks("mlp_input", d)
    bm, bh = block_of(n, bm), block_of(h, bh)
    _mlp_input_gradient[(n // bm, e)](
        normed, scale, dx, low, up, down, up.stride(0), n, low is not dx, d, h, bm, bh,
        num_warps=warps, num_stages=stages,
    )  # fmt: skip
