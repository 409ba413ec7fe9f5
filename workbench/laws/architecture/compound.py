"""Scaling a network in width, depth and resolution at once: what it costs, counted exactly and in powers.

Functions and not laws: the costs follow from the shapes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from workbench.laws.base import Input, Law, Parameter

__all__ = ["Cost", "Scaling", "WidthDepth", "compound", "conv_stack", "fast", "growth"]


class WidthDepth(Law):
    """``L(n, l) = E + A n^-a + B l^-b``: loss in width and depth as two additive powers.

    A form of ours, the analogue of Chinchilla's for shape: what is lost by a narrow network and what by a
    shallow one are taken to add up. It has no interaction, so that it cannot show a depth that helps only
    from some width on.
    """

    name = "width_depth"
    title = "Width and depth"
    inputs = (Input("n", "width"), Input("l", "depth"))
    parameters = (
        Parameter("E", "loss of an unlimited network", "loss"),
        Parameter("A", "size of the loss from finite width", "loss"),
        Parameter("B", "size of the loss from finite depth", "loss"),
        Parameter("a", "exponent of width", high=20.0),
        Parameter("b", "exponent of depth", high=20.0),
    )
    linear = ("E", "A", "B")
    floor = "E"
    latex = r"E + A\,n^{-a} + B\,l^{-b}"
    reference = "our form, after Hoffmann et al. 2022, arXiv 2203.15556, eq. 2"

    @staticmethod
    def formula(n, l, E, A, B, a, b):  # noqa: E741 - the letter of the literature for depth
        return E + A * n**-a + B * l**-b


@dataclass(frozen=True)
class Scaling:
    """Factors on the three dimensions of a network."""

    depth: float
    width: float
    resolution: float


@dataclass(frozen=True)
class Cost:
    """What a network costs on one image.

    Attributes:
        flops: multiply-adds of one forward pass.
        params: weights.
        activations: numbers written by the layers, which time on an accelerator follows more closely.
    """

    flops: int
    params: int
    activations: int


def compound(phi: float, alpha: float = 1.2, beta: float = 1.1, gamma: float = 1.15) -> Scaling:
    """EfficientNet's scaling: depth ``alpha^phi``, width ``beta^phi``, resolution ``gamma^phi``.

    With ``alpha beta^2 gamma^2 = 2`` each step of phi doubles the FLOPs (Tan and Le 2019, arXiv 1905.11946,
    eq. 3). Their own constants, the defaults, give 1.92.

    Raises:
        ValueError: a factor below 1.
    """
    if min(alpha, beta, gamma) < 1:
        raise ValueError(f"alpha, beta and gamma are {alpha}, {beta}, {gamma}; each must be at least 1")
    return Scaling(alpha**phi, beta**phi, gamma**phi)


def fast(s: float, a: float = 0.8) -> Scaling:
    """Fast scaling to `s` times the FLOPs: a share `a` of it goes to width, the rest evenly to the other two.

    Width grows as ``s^(a/2)``, depth as ``s^((1-a)/2)``, resolution as ``s^((1-a)/4)``, so that activations
    grow as ``s^(1 - a/2)`` only: ``s^(5/6)`` for the even split a = 1/3, ``s^(1/2)`` for width alone (Dollar,
    Singh and Girshick 2021, "Fast and Accurate Model Scaling", arXiv 2103.06877; equation numbers not
    checked).

    Raises:
        ValueError: `s` is not positive or `a` not within [0, 1].
    """
    if not (s > 0 and 0 <= a <= 1):
        raise ValueError(f"s={s!r} and a={a!r}: s must be positive and a lie between 0 and 1")
    return Scaling(depth=s ** ((1 - a) / 2), width=s ** (a / 2), resolution=s ** ((1 - a) / 4))


def growth(scaling: Scaling) -> dict[str, float]:
    """Factors on FLOPs ``d w^2 r^2``, parameters ``d w^2`` and activations ``d w r^2`` of a convolutional stack."""
    d, w, r = scaling.depth, scaling.width, scaling.resolution
    return {"flops": d * w**2 * r**2, "params": d * w**2, "activations": d * w * r**2}


def conv_stack(
    width: int, depth: int, resolution: int, *, kernel: int = 3, channels: int | None = None, stride: int = 1
) -> Cost:
    """Exact cost of `depth` convolutions of `width` channels on a square image, without biases.

    Args:
        width: output channels of each layer.
        depth: number of layers.
        resolution: height and width of the input.
        kernel: odd size of the kernels; padding keeps the size of the image but for the stride.
        channels: channels of the input; default `width`, for which the powers of `growth` are exact.
        stride: stride of the first layer.

    Raises:
        ValueError: a size that is no positive whole number, or an even kernel.
    """
    channels = width if channels is None else channels
    sizes = {"width": width, "depth": depth, "resolution": resolution, "kernel": kernel, "channels": channels}
    for name, value in {**sizes, "stride": stride}.items():
        if isinstance(value, bool) or value != int(value) or value < 1:
            raise ValueError(f"{name} is {value!r}; give a whole number of at least 1")
    if kernel % 2 == 0:
        raise ValueError(f"kernel is {kernel}; give an odd number, so that padding can keep the image's size")
    flops = params = activations = 0
    side, inputs = math.ceil(resolution / stride), channels
    for _ in range(depth):
        weights = inputs * width * kernel * kernel
        flops, params, activations = flops + weights * side * side, params + weights, activations + width * side * side
        inputs = width
    return Cost(flops, params, activations)
