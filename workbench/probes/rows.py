"""Sums over all that belongs to one member of a stack, with bits that do not depend on the stack's size."""

from __future__ import annotations

from workbench.probes import late_torch as torch

__all__ = ["row_dot", "row_mean", "row_rms", "row_sum"]

#: Partial sums of a member. With one output alone, torch's threads share that one sum, and its rounding
#: would depend on how many members there are; with many outputs a member, each sum has one thread.
_PARTS = 64


def row_sum(x: torch.Tensor) -> torch.Tensor:
    """Sum over all dimensions but the first, [E, ...] -> [E]."""
    flat = x.flatten(1)
    short = -flat.shape[1] % _PARTS
    if short:
        flat = torch.nn.functional.pad(flat, (0, short))
    return flat.reshape(len(flat), _PARTS, -1).sum(-1).sum(-1)


def row_mean(x: torch.Tensor) -> torch.Tensor:
    """Mean over all dimensions but the first, [E, ...] -> [E]."""
    return row_sum(x) / (x.numel() // len(x))


def row_dot(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Inner product over all dimensions but the first, [E, ...] -> [E]."""
    return row_sum(x * y)


def row_rms(x: torch.Tensor) -> torch.Tensor:
    """Root of the mean square over all dimensions but the first, [E, ...] -> [E]."""
    return row_mean(x * x).sqrt()
