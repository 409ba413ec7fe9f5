"""Softmax cross-entropy whose gradient replaces the logits in place."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from workbench.probes.kernels.launch import blocks, power_of_two

__all__ = ["cross_entropy_"]


@triton.jit
def _cross_entropy(
    logits, targets, loss, weight, count, pitch, T: tl.constexpr, V: tl.constexpr, BV: tl.constexpr, ROWS: tl.constexpr
):
    row, col = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS), tl.arange(0, BV)
    inside = (row < count)[:, None] & (col < V)[None, :]
    at = row[:, None] * V + col[None, :]
    z = tl.load(logits + at, inside, -float("inf")).to(tl.float32)
    # Rows beyond the last would be all -inf
    z = tl.where((row < count)[:, None], z, 0.0)
    target = tl.load(targets + row // T * pitch + row % T, row < count, 0)
    hit = col[None, :] == target[:, None]
    top = tl.max(z, 1)
    p = tl.exp(z - top[:, None])
    total = tl.sum(p, 1)
    chosen = tl.sum(tl.where(hit, z, 0.0), 1)
    tl.store(loss + row, top + tl.log(total) - chosen, row < count)
    g = (p / total[:, None] - tl.where(hit, 1.0, 0.0)) * weight
    tl.store(logits + at, g.to(logits.dtype.element_ty), inside)


def cross_entropy_(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Loss of every token [E, B T] (nats, float32); the logits become the gradient of each member's mean loss.

    Args:
        logits: [E, B T, V], overwritten.
        targets: class ids [E, B, T], as `launch.even_ids` returns them.
    """
    e, n, v = logits.shape
    loss = torch.empty(e, n, device=logits.device)
    wide = power_of_two(v)
    elements, warps, _ = blocks("rows", v)
    rows = max(1, elements // wide)
    _cross_entropy[(triton.cdiv(e * n, rows),)](
        logits, targets, loss, 1 / n, e * n, targets.stride(1), targets.shape[2], v, wide, rows, num_warps=warps
    )
    return loss
