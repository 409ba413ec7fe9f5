"""The residual stream and RMSNorm without gain (Zhang & Sennrich 2019, arXiv 1910.07467), each pass once over memory.

The stream is updated in place: the backward pass needs only the normalized rows (as the low-precision inputs
of the matrix products, which are kept anyway) and one scale a row.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from workbench.probes.kernels.launch import EPS, blocks, power_of_two

__all__ = ["add_norm", "norm_backward"]


@triton.jit
def _add_norm(
    x, delta, normed, scale, count, ADD: tl.constexpr, D: tl.constexpr, BD: tl.constexpr, ROWS: tl.constexpr,
    eps: tl.constexpr,
):  # fmt: skip
    row, col = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS), tl.arange(0, BD)
    inside = (row < count)[:, None] & (col < D)[None, :]
    at = row[:, None] * D + col[None, :]
    value = tl.load(x + at, inside, 0.0).to(tl.float32)
    if ADD:
        value += tl.load(delta + at, inside, 0.0).to(tl.float32)
        tl.store(x + at, value.to(x.dtype.element_ty), inside)
    inverse = tl.rsqrt(tl.sum(value * value, 1) / D + eps)
    tl.store(normed + at, (value * inverse[:, None]).to(normed.dtype.element_ty), inside)
    tl.store(scale + row, inverse, row < count)


@triton.jit
def _norm_backward(
    grad, normed, scale, dx, low, count, ADD: tl.constexpr, LOW: tl.constexpr, D: tl.constexpr, BD: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    row, col = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS), tl.arange(0, BD)
    inside = (row < count)[:, None] & (col < D)[None, :]
    at = row[:, None] * D + col[None, :]
    g = tl.load(grad + at, inside, 0.0).to(tl.float32)
    y = tl.load(normed + at, inside, 0.0).to(tl.float32)
    g = (g - y * (tl.sum(g * y, 1) / D)[:, None]) * tl.load(scale + row, row < count, 0.0)[:, None]
    if ADD:
        g += tl.load(dx + at, inside, 0.0).to(tl.float32)
    tl.store(dx + at, g.to(dx.dtype.element_ty), inside)
    if LOW:
        tl.store(low + at, g.to(low.dtype.element_ty), inside)


def _tile(d: int) -> tuple[int, int, int]:
    wide = power_of_two(d)
    elements, warps, _ = blocks("rows", d)
    return wide, max(1, elements // wide), warps


def add_norm(x: torch.Tensor, delta: torch.Tensor | None, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """x += delta in place (nothing for None), and the normalized rows of the new x.

    Args:
        x: the residual stream [E, n, d], float32 or bfloat16.
        delta: what a branch adds, same shape.
        dtype: of the normalized rows.

    Returns:
        x / sqrt(mean(x^2) + 1e-6) as `dtype`, and the factor of every row [E, n] (float32).
    """
    normed = torch.empty(x.shape, dtype=dtype, device=x.device)
    scale = torch.empty(x.shape[:-1], device=x.device)
    d, count = x.shape[-1], scale.numel()
    wide, rows, warps = _tile(d)
    _add_norm[(triton.cdiv(count, rows),)](
        x, x if delta is None else delta, normed, scale, count, delta is not None, d, wide, rows, EPS, num_warps=warps
    )
    return normed, scale


def norm_backward(
    grad: torch.Tensor,
    normed: torch.Tensor,
    scale: torch.Tensor,
    dx: torch.Tensor,
    add: bool,
    low: torch.Tensor | None = None,
) -> None:
    """Add the gradient that came through the norm to the gradient `dx` of the residual stream, in place.

    Args:
        grad: gradient of the normalized rows [E, n, d].
        normed, scale: what `add_norm` returned.
        dx: gradient of the stream.
        add: False overwrites `dx` instead.
        low: receives a copy of the new `dx` in its own dtype, for the next matrix products.
    """
    d, count = normed.shape[-1], scale.numel()
    wide, rows, warps = _tile(d)
    _norm_backward[(triton.cdiv(count, rows),)](
        grad, normed, scale, dx, dx if low is None else low, count, add, low is not None, d, wide, rows, num_warps=warps
    )
