"""Whole attention branches and the head of narrow models in one kernel each: a sequence fits one program.

At widths of 64 and 128 a step is bound by memory traffic, so these kernels read the residual stream and write
the residual stream; queries, keys, scores and logits stay on the chip and are computed again for the backward
pass.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from workbench.probes.kernels.launch import EPS, block_of, blocks, power_of_two

__all__ = ["attention_branch_", "attention_branch_backward_", "head_loss_"]

_LOG2E = 1.4426950408889634


@triton.jit
def _attention(
    x, qkv, proj, normed, scale, mixed, qkv_stride, proj_stride, B, softmax_scale,
    T: tl.constexpr, HEADS: tl.constexpr, DH: tl.constexpr, eps: tl.constexpr,
):  # fmt: skip
    D: tl.constexpr = HEADS * DH
    member = (tl.program_id(0) // B).to(tl.int64)
    row, col, lane = tl.arange(0, T), tl.arange(0, D), tl.arange(0, DH)
    first = tl.program_id(0).to(tl.int64) * T
    at = (first + row[:, None]) * D + col[None, :]
    qkv += member * qkv_stride + col[:, None] * (3 * D) + lane[None, :]
    proj += member * proj_stride + lane[:, None] * D + col[None, :]
    value = tl.load(x + at).to(tl.float32)
    inverse = tl.rsqrt(tl.sum(value * value, 1) / D + eps)
    y = (value * inverse[:, None]).to(normed.dtype.element_ty)
    tl.store(normed + at, y)
    tl.store(scale + first + row, inverse)
    for head in range(HEADS):
        q = tl.dot(y, tl.load(qkv + head * DH)).to(y.dtype)
        k = tl.dot(y, tl.load(qkv + D + head * DH)).to(y.dtype)
        v = tl.dot(y, tl.load(qkv + 2 * D + head * DH)).to(y.dtype)
        s = tl.dot(q, tl.trans(k)) * softmax_scale
        s = tl.where(row[:, None] >= row[None, :], s, -float("inf"))
        p = tl.exp2(s - tl.max(s, 1)[:, None])
        o = (tl.dot(p.to(y.dtype), v) / tl.sum(p, 1)[:, None]).to(y.dtype)
        tl.store(mixed + (first + row[:, None]) * D + head * DH + lane[None, :], o)
        value = tl.dot(o, tl.load(proj + head * DH * D), value)
    tl.store(x + at, value.to(x.dtype.element_ty))


@triton.jit
def _attention_backward(
    normed, scale, mixed, dx, low, qkv, proj, dqkv, qkv_stride, proj_stride, B, softmax_scale, plain_scale,
    LOW: tl.constexpr, T: tl.constexpr, HEADS: tl.constexpr, DH: tl.constexpr,
):  # fmt: skip
    D: tl.constexpr = HEADS * DH
    member = (tl.program_id(0) // B).to(tl.int64)
    row, col, lane = tl.arange(0, T), tl.arange(0, D), tl.arange(0, DH)
    first = tl.program_id(0).to(tl.int64) * T
    at = (first + row[:, None]) * D + col[None, :]
    part = (first + row[:, None]) * (3 * D) + lane[None, :]
    qkv += member * qkv_stride + col[:, None] * (3 * D) + lane[None, :]
    proj += member * proj_stride + lane[:, None] * D + col[None, :]
    y = tl.load(normed + at)
    dy = tl.load(dx + at).to(y.dtype)
    g = tl.zeros([T, D], tl.float32)
    for head in range(HEADS):
        wq, wk = tl.load(qkv + head * DH), tl.load(qkv + D + head * DH)
        q = tl.dot(y, wq).to(y.dtype)
        k = tl.dot(y, wk).to(y.dtype)
        s = tl.dot(q, tl.trans(k)) * softmax_scale
        s = tl.where(row[:, None] >= row[None, :], s, -float("inf"))
        p = tl.exp2(s - tl.max(s, 1)[:, None])
        p = p / tl.sum(p, 1)[:, None]
        do = tl.dot(dy, tl.trans(tl.load(proj + head * DH * D)))
        o = tl.load(mixed + (first + row[:, None]) * D + head * DH + lane[None, :])
        delta = tl.sum(do * o.to(tl.float32), 1)
        do = do.to(y.dtype)
        dv = tl.dot(tl.trans(p.to(y.dtype)), do).to(y.dtype)
        tl.store(dqkv + part + 2 * D + head * DH, dv)
        wv = tl.load(qkv + 2 * D + head * DH)
        g = tl.dot(dv, tl.trans(wv), g)
        v = tl.dot(y, wv).to(y.dtype)
        ds = (p * (tl.dot(do, tl.trans(v)) - delta[:, None]) * plain_scale).to(y.dtype)
        dq = tl.dot(ds, k).to(y.dtype)
        tl.store(dqkv + part + head * DH, dq)
        g = tl.dot(dq, tl.trans(wq), g)
        dk = tl.dot(tl.trans(ds), q).to(y.dtype)
        tl.store(dqkv + part + D + head * DH, dk)
        g = tl.dot(dk, tl.trans(wk), g)
    wide = y.to(tl.float32)
    g = (g - wide * (tl.sum(g * wide, 1) / D)[:, None]) * tl.load(scale + first + row)[:, None]
    g += tl.load(dx + at).to(tl.float32)
    tl.store(dx + at, g.to(dx.dtype.element_ty))
    if LOW:
        tl.store(low + at, g.to(low.dtype.element_ty))


@triton.jit
def _head(
    x, head, targets, loss, normed, dlogits, low, stride, pitch, n, weight,
    LOW: tl.constexpr, T: tl.constexpr, V: tl.constexpr, BV: tl.constexpr, D: tl.constexpr, BM: tl.constexpr,
    eps: tl.constexpr,
):  # fmt: skip
    member = tl.program_id(1).to(tl.int64)
    row, col, word = tl.program_id(0) * BM + tl.arange(0, BM), tl.arange(0, D), tl.arange(0, BV)
    at = (member * n + row[:, None]) * D + col[None, :]
    value = tl.load(x + at).to(tl.float32)
    inverse = tl.rsqrt(tl.sum(value * value, 1) / D + eps)
    y = (value * inverse[:, None]).to(normed.dtype.element_ty)
    tl.store(normed + at, y)
    w = tl.load(head + member * stride + col[:, None] * V + word[None, :], word[None, :] < V, 0.0)
    z = tl.where(word[None, :] < V, tl.dot(y, w), -float("inf"))
    target = tl.load(targets + (member * (n // T) + row // T) * pitch + row % T)
    hit = word[None, :] == target[:, None]
    top = tl.max(z, 1)
    p = tl.exp(z - top[:, None])
    total = tl.sum(p, 1)
    tl.store(loss + member * n + row, top + tl.log(total) - tl.sum(tl.where(hit, z, 0.0), 1))
    dz = ((p / total[:, None] - tl.where(hit, 1.0, 0.0)) * weight).to(y.dtype)
    tl.store(dlogits + (member * n + row[:, None]) * V + word[None, :], dz, word[None, :] < V)
    g = tl.dot(dz, tl.trans(w))
    wide = y.to(tl.float32)
    g = (g - wide * (tl.sum(g * wide, 1) / D)[:, None]) * inverse[:, None]
    tl.store(x + at, g.to(x.dtype.element_ty))
    if LOW:
        tl.store(low + at, g.to(low.dtype.element_ty))


def attention_branch_(
    x: torch.Tensor, qkv: torch.Tensor, proj: torch.Tensor, heads: int, context: int, scale_of_scores: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x += attention(norm(x) qkv) proj, in place and in one kernel, one program a sequence.

    Args:
        x: residual stream [E, B T, d]; d a power of two up to 128.
        qkv, proj: [E, d, 3 d] and [E, d, d] in the dtype of the products, rows contiguous.
        heads: number of heads, each a power of two of at least 16 wide.
        context: T, a power of two from 16 to 128.
        scale_of_scores: what queries times keys are multiplied by, usually (d / heads)^-0.5.

    Returns:
        norm(x), the factor of every row [E, B T], and the mixed values [E, B T, d].
    """
    e, n, d = x.shape
    normed = torch.empty(e, n, d, dtype=qkv.dtype, device=x.device)
    mixed = torch.empty_like(normed)
    scale = torch.empty(e, n, device=x.device)
    dh = d // heads
    warps, stages = blocks("branch_attention", context)
    _attention[(e * n // context,)](
        x, qkv, proj, normed, scale, mixed, qkv.stride(0), proj.stride(0), n // context, scale_of_scores * _LOG2E,
        context, heads, dh, EPS, num_warps=warps, num_stages=stages,
    )  # fmt: skip
    return normed, scale, mixed


def attention_branch_backward_(
    normed: torch.Tensor,
    scale: torch.Tensor,
    mixed: torch.Tensor,
    dx: torch.Tensor,
    low: torch.Tensor,
    qkv: torch.Tensor,
    proj: torch.Tensor,
    heads: int,
    context: int,
    scale_of_scores: float,
) -> torch.Tensor:
    """Backward of `attention_branch_`; `dx` and `low` (see `mlp_backward_`) are updated in place.

    Returns:
        The gradient [E, B T, 3 d] of queries, keys and values, from which the weight gradients follow.
    """
    e, n, d = normed.shape
    dqkv = torch.empty(e, n, 3 * d, dtype=normed.dtype, device=dx.device)
    dh = d // heads
    warps, stages = blocks("branch_attention_backward", context)
    _attention_backward[(e * n // context,)](
        normed, scale, mixed, dx, low, qkv, proj, dqkv, qkv.stride(0), proj.stride(0), n // context,
        scale_of_scores * _LOG2E, scale_of_scores, low is not dx, context, heads, dh,
        num_warps=warps, num_stages=stages,
    )  # fmt: skip
    return dqkv


def head_loss_(
    x: torch.Tensor, head: torch.Tensor, targets: torch.Tensor, low: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Final norm, logits, cross-entropy and their backward in one kernel; x becomes its own gradient.

    Args:
        x: residual stream [E, B T, d]; overwritten by the gradient of each member's mean loss.
        head: [E, d, V] in the dtype of the products, rows contiguous; V up to 256.
        targets: class ids [E, B, T], as `launch.even_ids` returns them.
        low: receives the gradient in the dtype of the products too (may be `x`).

    Returns:
        The loss of every token [E, B T] (nats), norm(x), and the gradient of the logits [E, B T, V].
    """
    e, n, d = x.shape
    v = head.shape[-1]
    loss = torch.empty(e, n, device=x.device)
    normed = torch.empty(e, n, d, dtype=head.dtype, device=x.device)
    dlogits = torch.empty(e, n, v, dtype=head.dtype, device=x.device)
    bm, warps, stages = blocks("head", d)
    bm = block_of(n, bm)
    _head[(n // bm, e)](
        x, head, targets, loss, normed, dlogits, low, head.stride(0), targets.stride(1), n, 1 / n, low is not x,
        targets.shape[2],
        v, max(16, power_of_two(v)), d, bm, EPS, num_warps=warps, num_stages=stages,
    )  # fmt: skip
    return loss, normed, dlogits
