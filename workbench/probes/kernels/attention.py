"""Causal self-attention on packed queries, keys and values, forward and backward, for contexts up to some 2048.

The online softmax of Dao (FlashAttention-2, arXiv 2307.08691), with two differences that matter for short
contexts: it reads and writes the packed [S, T, 3 d] layout of one matrix product, so nothing is transposed or
concatenated; and the backward pass needs no atomics. One program makes dk and dv of its block of keys, then dq
of its block of queries: together the same work for every block, in one fixed order.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from workbench.probes.kernels.launch import block_of, blocks

__all__ = ["attention", "attention_backward"]

_LOG2E = 1.4426950408889634


@triton.jit
def _forward(
    qkv, out, lse, scale,
    T: tl.constexpr, HEADS: tl.constexpr, DH: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    D: tl.constexpr = HEADS * DH
    block = tl.num_programs(0) - 1 - tl.program_id(0)  # the longest rows first
    sequence = (tl.program_id(1) // HEADS).to(tl.int64)
    head = tl.program_id(1) % HEADS
    base = qkv + sequence * T * 3 * D + head * DH
    rows, cols, lane = block * BM + tl.arange(0, BM), tl.arange(0, BN), tl.arange(0, DH)
    q = tl.load(base + rows[:, None] * (3 * D) + lane[None, :])
    top = tl.full([BM], -float("inf"), tl.float32)
    total = tl.zeros([BM], tl.float32)
    mixed = tl.zeros([BM, DH], tl.float32)
    for start in range(0, (block + 1) * BM, BN):
        at = base + (start + cols)[:, None] * (3 * D) + lane[None, :]
        k = tl.load(at + D)
        v = tl.load(at + 2 * D)
        s = tl.dot(q, tl.trans(k)) * scale
        s = tl.where(rows[:, None] >= (start + cols)[None, :], s, -float("inf"))
        higher = tl.maximum(top, tl.max(s, 1))
        p = tl.exp2(s - higher[:, None])
        shrink = tl.exp2(top - higher)
        total = total * shrink + tl.sum(p, 1)
        mixed = tl.dot(p.to(v.dtype), v, mixed * shrink[:, None])
        top = higher
    mixed = mixed / total[:, None]
    tl.store(out + sequence * T * D + rows[:, None] * D + head * DH + lane[None, :], mixed.to(out.dtype.element_ty))
    tl.store(lse + tl.program_id(1).to(tl.int64) * T + rows, top + tl.log2(total))


@triton.jit
def _backward(
    qkv, out, lse, dout, dqkv, scale, softmax_scale,
    T: tl.constexpr, HEADS: tl.constexpr, DH: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    D: tl.constexpr = HEADS * DH
    block = tl.program_id(0)
    sequence = (tl.program_id(1) // HEADS).to(tl.int64)
    head = tl.program_id(1) % HEADS
    base, dbase = qkv + sequence * T * 3 * D + head * DH, dqkv + sequence * T * 3 * D + head * DH
    obase, dobase = out + sequence * T * D + head * DH, dout + sequence * T * D + head * DH
    lbase = lse + tl.program_id(1).to(tl.int64) * T
    span, lane = tl.arange(0, B), tl.arange(0, DH)
    own = block * B + span

    # The diagonal block, for both halves.
    at = own[:, None] * (3 * D) + lane[None, :]
    q, k, v = tl.load(base + at), tl.load(base + at + D), tl.load(base + at + 2 * D)
    o, do = tl.load(obase + own[:, None] * D + lane[None, :]), tl.load(dobase + own[:, None] * D + lane[None, :])
    high = tl.load(lbase + own)
    delta = tl.sum(o.to(tl.float32) * do.to(tl.float32), 1)
    p = tl.exp2(tl.dot(q, tl.trans(k)) * scale - high[:, None])
    p = tl.where(own[:, None] >= own[None, :], p, 0.0)
    ds = (p * (tl.dot(do, tl.trans(v)) - delta[:, None]) * softmax_scale).to(q.dtype)
    dv = tl.dot(tl.trans(p.to(q.dtype)), do)
    dk = tl.dot(tl.trans(ds), q)
    dq = tl.dot(ds, k)
    # Queries after this block of keys.
    for start in range((block + 1) * B, T, B):
        later = start + span
        q2 = tl.load(base + later[:, None] * (3 * D) + lane[None, :])
        o2 = tl.load(obase + later[:, None] * D + lane[None, :])
        do2 = tl.load(dobase + later[:, None] * D + lane[None, :])
        high2 = tl.load(lbase + later)
        delta2 = tl.sum(o2.to(tl.float32) * do2.to(tl.float32), 1)
        p2 = tl.exp2(tl.dot(q2, tl.trans(k)) * scale - high2[:, None])
        dv = tl.dot(tl.trans(p2.to(q.dtype)), do2, dv)
        ds2 = (p2 * (tl.dot(do2, tl.trans(v)) - delta2[:, None]) * softmax_scale).to(q.dtype)
        dk = tl.dot(tl.trans(ds2), q2, dk)
    tl.store(dbase + at + D, dk.to(dqkv.dtype.element_ty))
    tl.store(dbase + at + 2 * D, dv.to(dqkv.dtype.element_ty))
    # Keys before this block of queries.
    for start in range(0, block * B, B):
        earlier = (start + span)[:, None] * (3 * D) + lane[None, :]
        k2, v2 = tl.load(base + earlier + D), tl.load(base + earlier + 2 * D)
        p2 = tl.exp2(tl.dot(q, tl.trans(k2)) * scale - high[:, None])
        ds2 = (p2 * (tl.dot(do, tl.trans(v2)) - delta[:, None]) * softmax_scale).to(q.dtype)
        dq = tl.dot(ds2, k2, dq)
    tl.store(dbase + at, dq.to(dqkv.dtype.element_ty))


def attention(qkv: torch.Tensor, heads: int, scale: float | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Causal attention of S sequences: qkv [S, T, 3 d] (contiguous) to mixed values [S, T, d].

    Args:
        qkv: queries, keys, values side by side, each heads x (d / heads); T a multiple of 16, d / heads a
            power of two of at least 16.
        heads: number of heads.
        scale: what queries times keys are multiplied by; (d / heads)^-0.5 unless given.

    Returns:
        The mixed values, and the base-2 log of every row's softmax sum [S, heads, T] (float32), which
        `attention_backward` wants back.
    """
    s, t, d = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
    dh = d // heads
    scale = dh**-0.5 if scale is None else scale
    out = torch.empty(s, t, d, dtype=qkv.dtype, device=qkv.device)
    lse = torch.empty(s, heads, t, device=qkv.device)
    bm, bn, warps, stages = blocks("attention", t)
    bm = block_of(t, bm)
    bn = min(bm, bn)
    _forward[(t // bm, s * heads)](
        qkv, out, lse, scale * _LOG2E, t, heads, dh, bm, bn, num_warps=warps, num_stages=stages
    )
    return out, lse


def attention_backward(
    qkv: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    dout: torch.Tensor,
    heads: int,
    scale: float | None = None,
) -> torch.Tensor:
    """Gradient [S, T, 3 d] of `attention` in the packed queries, keys and values, given that of its result."""
    s, t, d = out.shape
    dh = d // heads
    scale = dh**-0.5 if scale is None else scale
    dqkv = torch.empty_like(qkv)
    block, warps, stages = blocks("attention_backward", t)
    block = block_of(t, block)
    _backward[(t // block, s * heads)](
        qkv, out, lse, dout, dqkv, scale * _LOG2E, scale, t, heads, dh, block,
        num_warps=warps, num_stages=stages,
    )  # fmt: skip
    return dqkv
