"""Simulated number formats: the inputs of matrix products rounded to a few bits, in float32 arithmetic.

What is rounded are the operands of linear layers and of the head; attention's own two products, norms, the
residual stream, embeddings, the master weights and the sums inside a product stay float32, as in common
recipes for training in few bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from workbench.probes.spec import Probe

__all__ = ["FORMATS", "FloatFormat", "IntegerFormat", "build_rounding", "round_blocks"]

#: Smallest scale of a block: the smallest normal float32, so that a block of zeros divides by no zero.
_TINY = 2.0**-126


@dataclass(frozen=True)
class FloatFormat:
    """A sign, `exponent` bits with bias 2^(exponent - 1) - 1, and `mantissa` bits, with subnormal numbers.

    Attributes:
        exponent, mantissa: bits.
        largest: the largest finite value; beyond it numbers saturate, so there are no infinities.
    """

    exponent: int
    mantissa: int
    largest: float

    def round(self, x: torch.Tensor) -> torch.Tensor:
        """The nearest value of the format, ties to even mantissas; beyond `largest` saturated; NaN stays NaN."""
        if x.dtype != torch.float32:
            return self.round(x.float()).to(x.dtype)
        lowest = 2 - 2 ** (self.exponent - 1)  # exponent of the smallest normal number and of all subnormal ones
        # The exponent is read from the bits of x: exact on every device, in every vector width.
        at = ((x.view(torch.int32) >> 23) & 0xFF).clamp_min(lowest + 127) - self.mantissa
        step = (at << 23).view(torch.float32)  # distance of neighbouring values around x, a power of two
        # Division by a power of two is exact, and torch.round sends ties to even.
        return (x / step).round_().mul_(step).clamp_(-self.largest, self.largest)


@dataclass(frozen=True)
class IntegerFormat:
    """Whole numbers from -(2^(bits - 1) - 1) to 2^(bits - 1) - 1: symmetric, the most negative code unused."""

    bits: int

    @property
    def largest(self) -> float:
        """The largest value."""
        return float(2 ** (self.bits - 1) - 1)

    def round(self, x: torch.Tensor) -> torch.Tensor:
        """The nearest whole number, ties to even; beyond `largest` saturated; NaN stays NaN."""
        return x.round().clamp_(-self.largest, self.largest)


#: Simulated formats by the name a probe gives them. e5m2 and e4m3 are the two FP8 formats of Micikevicius et al.
#: 2022 (arXiv 2209.05433): e5m2 keeps its top exponent for infinities and NaN (largest 57344), e4m3 only its
#: top code for NaN (448). e3m2 (28), e2m3 (7.5) and e2m1 (6) use every code for numbers, as in the OCP
#: Microscaling formats 1.0; e1m2 (3.5) continues them: its values are evenly spaced.
FORMATS: dict[str, FloatFormat | IntegerFormat] = {
    "e5m2": FloatFormat(5, 2, 57344.0),
    "e4m3": FloatFormat(4, 3, 448.0),
    "e3m2": FloatFormat(3, 2, 28.0),
    "e2m3": FloatFormat(2, 3, 7.5),
    "e2m1": FloatFormat(2, 1, 6.0),
    "e1m2": FloatFormat(1, 2, 3.5),
    "int8": IntegerFormat(8),
    "int4": IntegerFormat(4),
    "int2": IntegerFormat(2),
}

#: What each choice of a probe's `quantized` rounds: roles of `workbench.probes.ops.Ops`.
_ROLES = {
    "weights": {"weights"},
    "activations": {"activations"},
    "weights_activations": {"weights", "activations"},
    "all": {"weights", "activations", "gradients"},
}


def round_blocks(x: torch.Tensor, form: FloatFormat | IntegerFormat, block: int, dim: int = -1) -> torch.Tensor:
    """`x` rounded to a format, every block of entries with a scale of its own.

    The scale of a block is (largest absolute value) / (largest value of the format), a float32 number: the
    largest entry lands on the end of the format's range, and nothing saturates. Scales that are themselves
    of few bits, as the powers of two of Microscaling formats, are not simulated.

    Args:
        x: [E, ...], float32.
        form: one of `FORMATS`.
        block: entries along `dim` that share a scale; the last block may be shorter. 0: all entries of a member.
        dim: the dimension that a matrix product sums over, counted from the end.
    """
    if block == 0:
        peak = x.abs().amax(tuple(range(1, x.dim())), keepdim=True)
        return _scaled(x, peak, form)
    size = x.shape[dim]
    if block >= size:
        return _scaled(x, x.abs().amax(dim, keepdim=True), form)
    short = -size % block
    if short:  # zeros change no block's largest value
        padded = torch.cat([x, x.new_zeros(*x.shape[:dim], short, *x.shape[x.dim() + dim + 1 :])], dim)
        return round_blocks(padded, form, block, dim).narrow(dim, 0, size)
    split = x.unflatten(dim, (-1, block))
    # counted from the end, `dim` is now the dimension within a block
    return _scaled(split, split.abs().amax(dim, keepdim=True), form).reshape(x.shape)


def _scaled(x: torch.Tensor, peak: torch.Tensor, form: FloatFormat | IntegerFormat) -> torch.Tensor:
    scale = (peak / form.largest).clamp_min(_TINY)
    return form.round(x / scale).mul_(scale)


class _Forward(torch.autograd.Function):
    """Rounded on the way forward; the gradient passes as if it were not (straight-through estimator)."""

    @staticmethod
    def forward(ctx, x, form, block, dim):
        return round_blocks(x, form, block, dim)

    @staticmethod
    def backward(ctx, grad):
        return grad, None, None, None


class _Backward(torch.autograd.Function):
    """Unchanged on the way forward; the gradient is rounded on its way back."""

    @staticmethod
    def forward(ctx, x, form, block):
        ctx.form, ctx.block = form, block
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return round_blocks(grad.contiguous(), ctx.form, ctx.block), None, None


def build_rounding(probe: Probe) -> Callable[[torch.Tensor, str], torch.Tensor] | None:
    """What `Ops` calls on the operands of a matrix product: ``rounding(tensor, role) -> tensor``.

    None unless the probe's `precision` is a simulated format. Roles:

    - ``activations`` [E, ..., inputs]: blocks of `probe.block` entries along the inputs, which the product
      sums over. With ``block=0`` one scale serves all tokens of a batch.
    - ``weights`` [E, inputs, outputs]: blocks along the inputs, an own scale for every output.
    - ``gradients`` [E, ..., outputs]: the output of a product; the gradient that comes back through it is
      rounded in blocks along the outputs, before it meets weights and activations. The head's own
      output gradient is not: it never leaves the fused loss.

    Gradients of the rounding itself are straight-through (Bengio et al. 2013, arXiv 1308.3432).
    """
    form = FORMATS.get(probe.precision)
    if form is None:
        return None
    roles, block = _ROLES[probe.quantized], probe.block

    def rounding(x: torch.Tensor, role: str) -> torch.Tensor:
        if role not in roles:
            return x
        if role == "gradients":
            return _Backward.apply(x, form, block)
        return _Forward.apply(x, form, block, -2 if role == "weights" else -1)

    return rounding
