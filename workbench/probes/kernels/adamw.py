"""AdamW over flat weights in one pass: reads gradient, weights and moments once, writes the bfloat16 copy too."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

__all__ = ["adamw_", "gradient_norm"]

_BLOCK = 2048


@triton.jit
def _adamw(
    data, grad, m, v, low, step, step_size, eps, keep, gain1, gain2, norm, clip, rate, factor, P, E,
    LOW: tl.constexpr, CLIP: tl.constexpr, RATE: tl.constexpr, FACTOR: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    member = tl.program_id(1)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < P
    entry = at
    at += member.to(tl.int64) * P
    now = tl.load(step) * E + member
    g = tl.load(grad + at, inside, 0.0)
    if CLIP:
        g *= tl.minimum(tl.load(clip + member) / tl.load(norm + member), 1.0)
    first = tl.load(m + at, inside, 0.0)
    second = tl.load(v + at, inside, 0.0)
    first += (g - first) * tl.load(gain1 + member)
    second += (g * g - second) * tl.load(gain2 + member)
    weight = tl.load(data + at, inside, 0.0) * tl.load(keep + now)
    move = tl.load(step_size + now) * (first / (tl.sqrt(second) + tl.load(eps + now)))
    if RATE:
        move *= tl.load(rate + entry, inside, 0.0)
    weight += move
    tl.store(m + at, first, inside)
    tl.store(v + at, second, inside)
    tl.store(data + at, weight, inside)
    if LOW:
        if FACTOR:
            weight *= tl.load(factor + entry, inside, 0.0)
        tl.store(low + at, weight.to(low.dtype.element_ty), inside)


@triton.jit
def _partial_squares(grad, partial, P, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    g = tl.load(grad + tl.program_id(1).to(tl.int64) * P + at, at < P, 0.0)
    tl.store(partial + tl.program_id(1) * tl.num_programs(0) + tl.program_id(0), tl.sum(g * g, 0))


@triton.jit
def _root_of_sum(partial, norm, count, BLOCK: tl.constexpr):
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(0, count, BLOCK):
        at = start + tl.arange(0, BLOCK)
        total += tl.load(partial + tl.program_id(0) * count + at, at < count, 0.0)
    tl.store(norm + tl.program_id(0), tl.sqrt(tl.sum(total, 0)))


def gradient_norm(grad: torch.Tensor) -> torch.Tensor:
    """L2 norm of every row of a contiguous float32 [E, P], added in an order that does not depend on E."""
    e, p = grad.shape
    blocks = triton.cdiv(p, _BLOCK)
    partial = torch.empty(e, blocks, device=grad.device)
    norm = torch.empty(e, device=grad.device)
    _partial_squares[(blocks, e)](grad, partial, p, _BLOCK, num_warps=4)
    _root_of_sum[(e,)](partial, norm, blocks, 1024, num_warps=4)
    return norm


def adamw_(
    data: torch.Tensor,
    grad: torch.Tensor,
    m: torch.Tensor,
    v: torch.Tensor,
    low: torch.Tensor | None,
    step: torch.Tensor,
    step_size: torch.Tensor,
    eps: torch.Tensor,
    keep: torch.Tensor,
    gain1: torch.Tensor,
    gain2: torch.Tensor,
    clip: torch.Tensor | None = None,
    rate: torch.Tensor | None = None,
    factor: torch.Tensor | None = None,
) -> None:
    """One step of AdamW (Loshchilov & Hutter, arXiv 1711.05101) for E members, in place.

    ``m += (g - m) gain1; v += (g^2 - v) gain2; data = data keep + rate step_size m / (sqrt(v) + eps)``,
    ``low = data factor``.

    Args:
        data, grad, m, v: float32 [E, P], contiguous.
        low: receives the new weights in its own dtype, [E, P]; or None.
        step: [1] int64 on the device: the row of the tables to use; not advanced here.
        step_size, eps, keep: tables of `steps` rows, a float32 for each member: minus the learning rate over the
            first bias correction times the root of the second; eps times that root; 1 minus lr times decay.
        gain1, gain2: [E] (or [E, 1]), 1 - beta.
        clip: [E] largest L2 norm of a member's gradient (inf: none); None leaves all unclipped.
        rate: [P] multiplier of every entry's learning rate (decay is not multiplied); None for ones.
        factor: [P] what every entry is multiplied by on its way into `low`; None for ones.
    """
    e, p = data.shape
    norm = data if clip is None else gradient_norm(grad)
    _adamw[(triton.cdiv(p, _BLOCK), e)](
        data, grad, m, v, data if low is None else low, step, step_size, eps, keep, gain1, gain2, norm,
        data if clip is None else clip, data if rate is None else rate, data if factor is None else factor, p, e,
        low is not None, clip is not None, rate is not None, factor is not None, _BLOCK, num_warps=4,
    )  # fmt: skip
