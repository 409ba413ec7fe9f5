"""Building blocks of convolutional, recurrent and frozen layers, with hand-written backward passes."""

from __future__ import annotations

from itertools import product

import torch
from torch.autograd.function import once_differentiable

from workbench.probes.functional import pointwise

__all__ = ["constant", "lstm_cell", "unfold"]


class _Constant(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w):
        ctx.like = w.new_empty(0), w.shape
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        empty, shape = ctx.like
        return grad, empty.new_zeros(shape)


def constant(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """x itself, which w made; the gradient of w is zero."""
    return _Constant.apply(x, w)


class _Unfold(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, size, stride):
        ctx.shape, ctx.taps = x.shape, _taps(x.shape[1:-1], size, stride)
        margin = size // 2
        padded = x.new_zeros(x.shape[0], *(n + 2 * margin for n in x.shape[1:-1]), x.shape[-1])
        padded[_inside(x.shape, margin)] = x
        ctx.margin = margin
        return torch.cat([padded[(slice(None), *tap)] for tap in ctx.taps], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        out = grad.new_zeros(ctx.shape[0], *(n + 2 * ctx.margin for n in ctx.shape[1:-1]), ctx.shape[-1])
        for tap, part in zip(ctx.taps, grad.split(ctx.shape[-1], -1), strict=True):
            out[(slice(None), *tap)] += part
        return out[_inside(ctx.shape, ctx.margin)], None, None


def unfold(x: torch.Tensor, size: int, stride: int = 1) -> torch.Tensor:
    """The window around every `stride`-th position, zeros outside: [S, L, C] -> [S, ceil(L / stride), size C].

    Also [S, H, W, C] -> [S, ceil(H / stride), ceil(W / stride), size^2 C]. `size` is odd. The last dimension
    runs over taps first, then over channels, so a convolution is one matrix product with [taps C, outputs].
    """
    return _Unfold.apply(x, size, stride)


def _taps(spatial: tuple[int, ...], size: int, stride: int) -> list[tuple[slice, ...]]:
    """For each tap of the window, the padded positions that it reads."""
    ends = [-(-n // stride) * stride for n in spatial]
    return [
        tuple(slice(at, at + end, stride) for at, end in zip(start, ends, strict=True))
        for start in product(range(size), repeat=len(spatial))
    ]


def _inside(shape: tuple[int, ...], margin: int) -> tuple[slice, ...]:
    return (slice(None), *(slice(margin, margin + n) for n in shape[1:-1]))


class _LSTMCell(torch.autograd.Function):
    @staticmethod
    def forward(ctx, gates, c):
        d = c.shape[-1]
        opened = pointwise(torch.sigmoid, torch.cat([gates[..., : 2 * d], gates[..., 3 * d :]], -1))
        i, f, o = opened.split(d, -1)
        g = pointwise(torch.tanh, gates[..., 2 * d : 3 * d].contiguous())
        after = (f * c).add_(i * g)
        shown = pointwise(torch.tanh, after)
        ctx.save_for_backward(opened, g, c, shown)
        return o * shown, after

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_h, grad_c):
        opened, g, c, shown = ctx.saved_tensors
        i, f, o = opened.split(c.shape[-1], -1)
        total = (grad_h * o).mul_(1 - shown * shown).add_(grad_c)
        slope = opened * (1 - opened)
        slope_i, slope_f, slope_o = slope.split(c.shape[-1], -1)
        grads = torch.cat(
            [
                (total * g).mul_(slope_i),
                (total * c).mul_(slope_f),
                (total * i).mul_(1 - g * g),
                (grad_h * shown).mul_(slope_o),
            ],
            -1,
        )
        return grads, total * f


def lstm_cell(gates: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """One step of a long short-term memory (Hochreiter & Schmidhuber 1997; forget gate of Gers et al. 2000).

    Args:
        gates: before their nonlinearity, [E, B, 4 d], in the order input, forget, candidate, output.
        c: memory [E, B, d].

    Returns:
        Output and new memory, each [E, B, d].
    """
    return _LSTMCell.apply(gates, c)
