"""Token and position embeddings of a stack, and their gradients without sorting and without atomics.

The gradient of a small vocabulary's embedding is a matrix product with one-hot rows that exist only in
registers: 2 V d FLOPs a token, as many as the head's, where the usual sort costs a dozen kernels.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from workbench.probes.kernels.launch import block_of, blocks, power_of_two

__all__ = ["embed", "embedding_gradient"]


@triton.jit
def _embed(
    tokens,
    embedding,
    positions,
    x,
    stride,
    pitch,
    factor,
    position_factor,
    T: tl.constexpr,
    D: tl.constexpr,
    BD: tl.constexpr,
    ROWS: tl.constexpr,
):
    member = tl.program_id(1).to(tl.int64)
    rows = tl.num_programs(0) * ROWS
    row, col = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, BD)
    inside = (col < D)[None, :] & (row >= 0)[:, None]
    token = tl.load(tokens + (member * (rows // T) + row // T) * pitch + row % T)
    value = tl.load(embedding + member * stride + token[:, None] * D + col[None, :], inside, 0.0)
    value = value * factor + position_factor * tl.load(
        positions + member * stride + (row % T)[:, None] * D + col[None, :], inside, 0.0
    )
    tl.store(x + (member * rows + row[:, None]) * D + col[None, :], value.to(x.dtype.element_ty), inside)


@triton.jit
def _embedding_gradient(
    tokens, dx, out, stride, pitch, factor, n, V: tl.constexpr, T: tl.constexpr, D: tl.constexpr, BV: tl.constexpr,
    BD: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    member = tl.program_id(2).to(tl.int64)
    word = tl.program_id(0) * BV + tl.arange(0, BV)
    col = tl.program_id(1) * BD + tl.arange(0, BD)
    tokens += member * (n // T) * pitch
    dx += member * n * D
    total = tl.zeros([BV, BD], tl.float32)
    for start in range(0, n, BN):
        row = start + tl.arange(0, BN)
        token = tl.load(tokens + row // T * pitch + row % T)
        g = tl.load(dx + row[:, None] * D + col[None, :], (col < D)[None, :] & (row >= 0)[:, None], 0.0)
        total = tl.dot((word[:, None] == token[None, :]).to(g.dtype), g, total)
    tl.store(
        out + member * stride + word[:, None] * D + col[None, :],
        total * factor,
        (word < V)[:, None] & (col < D)[None, :],
    )


@triton.jit
def _position_gradient(dx, out, stride, factor, B, TD: tl.constexpr, BLOCK: tl.constexpr):
    member = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    dx += member * B * TD
    total = tl.zeros([BLOCK], tl.float32)
    for sequence in range(B):
        total += tl.load(dx + sequence * TD + at, at < TD, 0.0).to(tl.float32)
    tl.store(out + member * stride + at, total * factor, at < TD)


def embed(
    tokens: torch.Tensor,
    embedding: torch.Tensor,
    positions: torch.Tensor,
    dtype: torch.dtype,
    factors: tuple[float, float] = (1.0, 1.0),
) -> torch.Tensor:
    """The residual stream [E, B T, d] (as `dtype`) of tokens [E, B, T].

    Args:
        tokens: integer ids, as `launch.even_ids` returns them.
        embedding: [E, V, d] float32, rows contiguous; members any stride apart.
        positions: [E, at least T, d], same stride.
        dtype: of the stream.
        factors: multipliers of embedding and positions.
    """
    e, b, t = tokens.shape
    d = embedding.shape[-1]
    x = torch.empty(e, b * t, d, dtype=dtype, device=tokens.device)
    wide = power_of_two(d)
    rows = block_of(b * t, max(16, 2048 // wide))
    _embed[(b * t // rows, e)](
        tokens, embedding, positions, x, embedding.stride(0), tokens.stride(1), *factors, t, d, wide, rows, num_warps=4
    )
    return x


def embedding_gradient(
    tokens: torch.Tensor,
    dx: torch.Tensor,
    low: torch.Tensor,
    embedding: torch.Tensor,
    positions: torch.Tensor,
    factors: tuple[float, float] = (1.0, 1.0),
) -> None:
    """Write the gradients of `embed` into float32 views of the flat gradient.

    Args:
        tokens, factors: as `embed` got them.
        dx: gradient of the stream [E, B T, d], summed over sequences for the positions.
        low: the same in the dtype of the matrix products, summed over equal tokens.
        embedding, positions: where the gradients go; rows contiguous, members one stride apart.
    """
    e, b, t = tokens.shape
    v, d = embedding.shape[1:]
    bv, bd, bn, warps, stages = blocks("embedding", d)
    bv, bd, bn = min(bv, max(16, power_of_two(v))), min(bd, max(16, power_of_two(d))), block_of(b * t, bn)
    _embedding_gradient[(triton.cdiv(v, bv), triton.cdiv(d, bd), e)](
        tokens, low, embedding, embedding.stride(0), tokens.stride(1), factors[0], b * t, v, t, d, bv, bd, bn,
        num_warps=warps, num_stages=stages,
    )  # fmt: skip
    if positions.shape[1] > t:
        positions[:, t:].zero_()
    block = 512
    _position_gradient[(triton.cdiv(t * d, block), e)](
        dx, positions, positions.stride(0), factors[1], b, t * d, block, num_warps=4
    )
