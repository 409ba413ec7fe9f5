"""Batched matrix products with what follows them inside: ReLU^2, the residual stream, RMSNorm and its backward.

The tile sizes depend on one member's shape only, where a vendor library also looks at how many members there
are; so a member's bits are its own by construction.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from workbench.probes.kernels.launch import EPS, block_of, blocks

__all__ = [
    "linear",
    "linear_add_",
    "linear_add_norm_",
    "linear_norm_backward_",
    "linear_relu_squared",
    "linear_relu_squared_backward",
    "linear_weight_gradient",
]

_PLAIN, _RELU, _RELU_BACKWARD, _ADD, _ADD_NORM, _NORM_BACKWARD = range(6)


@triton.jit
def _linear(
    a, w, out, side, scale, low, stride, M, eps,
    N: tl.constexpr, K: tl.constexpr, TRANSPOSED: tl.constexpr, MODE: tl.constexpr, LOW: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    member = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) // (N // BN) * BM + tl.arange(0, BM)
    col = tl.program_id(0) % (N // BN) * BN + tl.arange(0, BN)
    span = tl.arange(0, BK)
    left = a + member * M * K + row[:, None] * K + span[None, :]
    w += member * stride
    total = tl.zeros([BM, BN], tl.float32)
    for start in range(0, K, BK):
        if TRANSPOSED:
            right = tl.trans(tl.load(w + col[:, None] * K + (start + span)[None, :]))
        else:
            right = tl.load(w + (start + span)[:, None] * N + col[None, :])
        total = tl.dot(tl.load(left + start), right, total)
    at = (member * M + row[:, None]) * N + col[None, :]
    if MODE == 1:
        total = tl.maximum(total, 0.0)
        total *= total
    if MODE == 2:
        total *= 2 * tl.sqrt(tl.load(side + at).to(tl.float32))
    if MODE == 4:
        total += tl.load(out + at).to(tl.float32)
        inverse = tl.rsqrt(tl.sum(total * total, 1) / N + eps)
        tl.store(side + at, (total * inverse[:, None]).to(side.dtype.element_ty))
        tl.store(scale + member * M + row, inverse)
    if MODE == 5:
        y = tl.load(side + at).to(tl.float32)
        total = (total - y * (tl.sum(total * y, 1) / N)[:, None]) * tl.load(scale + member * M + row)[:, None]
    if MODE == 3 or MODE == 5:
        total += tl.load(out + at).to(tl.float32)
    tl.store(out + at, total.to(out.dtype.element_ty))
    if LOW:
        tl.store(low + at, total.to(low.dtype.element_ty))


@triton.jit
def _weight_gradient(
    a, g, out, stride, factor, M,
    K: tl.constexpr, N: tl.constexpr, BM: tl.constexpr, BK: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    member = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) // (N // BN) * BK + tl.arange(0, BK)
    col = tl.program_id(0) % (N // BN) * BN + tl.arange(0, BN)
    span = tl.arange(0, BM)
    left = a + member * M * K + span[:, None] * K + row[None, :]
    right = g + member * M * N + span[:, None] * N + col[None, :]
    total = tl.zeros([BK, BN], tl.float32)
    for _ in range(0, M, BM):
        total = tl.dot(tl.trans(tl.load(left)), tl.load(right), total)
        left += BM * K
        right += BM * N
    tl.store(out + member * stride + row[:, None] * N + col[None, :], total * factor)


def _launch(a, w, transposed, mode, out=None, side=None, scale=None, low=None) -> torch.Tensor:
    e, m, k = a.shape
    n = w.shape[1] if transposed else w.shape[2]
    out = torch.empty(e, m, n, dtype=a.dtype, device=a.device) if out is None else out
    row = mode in (_ADD_NORM, _NORM_BACKWARD)
    bm, bn, bk, warps, stages = blocks("linear_row" if row else "linear", n if row else k)
    bm, bn, bk = block_of(m, bm), n if row else block_of(n, bn), block_of(k, bk)
    _linear[(m // bm * (n // bn), e)](
        a, w, out, out if side is None else side, out if scale is None else scale, out if low is None else low,
        w.stride(0), m, EPS, n, k, transposed, mode, low is not None, bm, bn, bk,
        num_warps=warps, num_stages=stages,
    )  # fmt: skip
    return out


def linear(a: torch.Tensor, w: torch.Tensor, transposed: bool = False) -> torch.Tensor:
    """a w of a [E, n, K] and w [E, K, N] ([E, N, K] if transposed); rows of w contiguous, members any stride apart."""
    return _launch(a, w, transposed, _PLAIN)


def linear_relu_squared(a: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """max(a w, 0)^2 of a [E, n, K] and w [E, K, N]."""
    return _launch(a, w, False, _RELU)


def linear_relu_squared_backward(grad: torch.Tensor, w: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    """Gradient of u, h = max(u, 0)^2, from the gradient [E, n, K] of h w with w [E, N, K]."""
    return _launch(grad, w, True, _RELU_BACKWARD, side=h)


def linear_add_(x: torch.Tensor, a: torch.Tensor, w: torch.Tensor) -> None:
    """x += a w, in place: a branch's last product added to the residual stream x [E, n, N]."""
    _launch(a, w, False, _ADD, out=x)


def linear_add_norm_(x: torch.Tensor, a: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """x += a w in place, then the next branch's norm of x; N a power of two up to 256.

    Returns:
        x / sqrt(mean(x^2) + 1e-6) in the dtype of a, and the factor of every row [E, n] (float32).
    """
    normed = torch.empty(x.shape, dtype=a.dtype, device=x.device)
    scale = torch.empty(x.shape[:-1], device=x.device)
    _launch(a, w, False, _ADD_NORM, out=x, side=normed, scale=scale)
    return normed, scale


def linear_norm_backward_(
    dx: torch.Tensor, low: torch.Tensor, grad: torch.Tensor, w: torch.Tensor, normed: torch.Tensor, scale: torch.Tensor
) -> None:
    """Add to the stream's gradient what comes back through a branch's first product and norm, in place.

    Args:
        dx: gradient of the stream [E, n, N], N a power of two up to 256.
        low: `dx` in the dtype of the products, kept equal to it (may be `dx` itself).
        grad: gradient of norm(x) w, [E, n, K].
        w: [E, N, K].
        normed, scale: the norm's results.
    """
    _launch(grad, w, True, _NORM_BACKWARD, out=dx, side=normed, scale=scale, low=None if low is dx else low)


def linear_weight_gradient(inputs: torch.Tensor, grad: torch.Tensor, out: torch.Tensor, factor: float = 1.0) -> None:
    """out = inputs^T grad times `factor`: [E, n, K] and [E, n, N] to a float32 view [E, K, N] of the flat gradient."""
    e, m, k = inputs.shape
    n = grad.shape[2]
    bm, bk, bn, warps, stages = blocks("weight_gradient", k)
    bm, bk, bn = block_of(m, bm), block_of(k, bk), block_of(n, bn)
    _weight_gradient[(k // bk * (n // bn), e)](
        inputs, grad, out, out.stride(0), factor, m, k, n, bm, bk, bn, num_warps=warps, num_stages=stages,
    )  # fmt: skip
