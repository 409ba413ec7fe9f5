"""AdamP: Adam without the growth of weights that only their direction matters for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from workbench.probes import late_torch as torch
from workbench.probes.component import number
from workbench.probes.optimizers.adam import AdamRule
from workbench.probes.optimizers.base import Optimizer, Rule
from workbench.probes.rows import row_sum

if TYPE_CHECKING:
    from workbench.probes.optimizers.stack import Context

__all__ = ["AdamP"]


@dataclass(frozen=True)
class AdamP(Optimizer):
    """Adam whose update loses its radial part where weights look scale-invariant (Heo et al. 2021, arXiv 2006.08217).

    Scale-invariant weights are orthogonal to their gradient. Where |cos(w, g)| < radial_limit / sqrt(n) for
    all columns of a matrix (its output units, n inputs each), the update p becomes p - (w.p / w.w) w column
    by column; else, where it holds for the matrix as a whole (n entries), the same for the whole. There
    weight decay is multiplied by `radial_decay`. Vectors are updated by Adam. Without Nesterov's momentum.
    """

    name: ClassVar[str] = "adamp"

    beta1: float = number(0.9, 0.0, 0.999999, "decay of the average of gradients", member=True)
    beta2: float = number(0.999, 0.0, 0.999999, "decay of the average of squared gradients", member=True)
    eps: float = number(1e-8, 1e-30, 1.0, "added to the root of the average square", member=True)
    radial_limit: float = number(
        0.1, 0.0, 1e6, "cosine of weights and gradient, times sqrt(n), below which the update is projected", member=True
    )
    radial_decay: float = number(0.1, 0.0, 1.0, "multiplier of weight decay where it is projected", member=True)

    def rule(self, context: Context) -> Rule:
        return _AdamPRule(context)


class _AdamPRule(AdamRule):
    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.limit = context.tensor(context.column("radial_limit"))
        self.less = context.tensor(1 - context.column("radial_decay"))
        shapes = context.weights.shapes
        self.matrices = [name for name, shape in shapes.items() if len(shape) > 1]
        self.decay_share = torch.ones_like(context.weights.data)

    def direction(self, grad: torch.Tensor) -> torch.Tensor:
        weights = self.context.weights
        before = weights.named(grad.clone())
        update = super().direction(grad)
        parts, shares = weights.named(update), weights.named(self.decay_share)
        for name in self.matrices:
            projected = self._project(weights.master[name], before[name], parts[name])
            shares[name].copy_((1 - self.less * projected).view(-1, *[1] * (parts[name].dim() - 1)))
        return update

    def _project(self, w: torch.Tensor, g: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        """Project p in place; 1.0 for members whose p was projected, [E, 1]."""
        w, g, p = (x.flatten(1, -2) for x in (w, g, p))  # [E, n, outputs]
        n, outputs = w.shape[1:]
        wg, ww, gg, wp = ((a * b).sum(1) for a, b in ((w, g), (w, w), (g, g), (w, p)))  # each [E, outputs]
        cosines = wg.abs() / (ww * gg).sqrt().clamp_min(_TINY)
        columns = (cosines.amax(1, keepdim=True) < self.limit / math.sqrt(n)).float()  # [E, 1]
        wg, ww_all, gg, wp_all = (row_sum(x)[:, None] for x in (wg, ww, gg, wp))
        whole = (wg.abs() / (ww_all * gg).sqrt().clamp_min(_TINY) < self.limit / math.sqrt(n * outputs)).float()
        whole = whole * (1 - columns)
        # sums of products with 0 and 1, not torch.where: its scalars are copied from the host, which no graph allows
        radial = columns * (wp / ww.clamp_min(_TINY)) + whole * (wp_all / ww_all.clamp_min(_TINY))
        p.sub_(w * radial[:, None])
        return columns + whole


#: Below it a product of norms is zero; weights of length zero have no radial direction.
_TINY = 1e-30
