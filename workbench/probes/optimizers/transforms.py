"""Gradient transforms: what is done to the gradient before the optimizer sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workbench.probes import late_torch as torch
from workbench.probes.optimizers.base import Rule
from workbench.probes.rows import row_dot

if TYPE_CHECKING:
    from workbench.probes.optimizers.stack import Context

__all__ = ["Grokfast", "PerpGrad", "build_transform"]

#: Keeps a quotient of squared norms finite where a weight or a gradient is zero.
_TINY = 1e-30


class Grokfast(Rule):
    """g <- g + transform_gain h, h the average of gradients with decay `transform_decay`: slow parts amplified.

    Lee et al. 2024, arXiv 2405.20233 (Grokfast-EMA). h starts at the first gradient, as in the authors'
    code; the equation was not checked against the paper.
    """

    def __init__(self, context: Context) -> None:
        super().__init__(context, "h")
        gain = np.tile(1 - context.column("transform_decay"), (context.steps, 1))
        gain[0] = 1.0
        self.follow = context.by_step(gain)
        self.gain = context.tensor(context.column("transform_gain"))

    def direction(self, grad: torch.Tensor) -> torch.Tensor:
        h = self.slots["h"]
        h.lerp_(grad, self.follow())
        return grad.addcmul_(h, self.gain)


class PerpGrad(Rule):
    """g <- g - (w.g / w.w) w for every weight tensor, brought back to the length of g.

    Prieto et al. 2025, arXiv 2501.04697: without its radial part a gradient cannot merely scale up the
    logits. The projection is the paper's; taking it tensor by tensor and keeping the length are as in the
    authors' code.
    """

    def direction(self, grad: torch.Tensor) -> torch.Tensor:
        weights = self.context.weights
        for name, g in weights.named(grad).items():
            w = weights.master[name]
            ones = [1] * (g.dim() - 1)
            before = row_dot(g, g)
            radial = row_dot(w, g) / (row_dot(w, w) + _TINY)
            g.sub_(w * radial.view(-1, *ones))
            g.mul_((before / (row_dot(g, g) + _TINY)).sqrt().view(-1, *ones))
        return grad


def build_transform(context: Context) -> Rule | None:
    """The transform that the probes of a stack name; None for ``none``."""
    found = {"none": None, "grokfast": Grokfast, "perpgrad": PerpGrad}[context.probes[0].transform]
    return None if found is None else found(context)
