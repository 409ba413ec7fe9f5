"""Muon: orthogonalized momentum for hidden matrices, AdamW for all other weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from workbench.probes import late_torch as torch
from workbench.probes.component import choice, flag, number, whole
from workbench.probes.optimizers.base import Optimizer, Rule
from workbench.probes.rows import row_sum

if TYPE_CHECKING:
    from workbench.probes.optimizers.stack import Context

__all__ = ["Muon", "newton_schulz"]

#: Keller Jordan's quintic: steep at zero; singular values end between about 0.7 and 1.2, not at 1.
_QUINTIC = (3.4445, -4.7750, 2.0315)


@dataclass(frozen=True)
class Muon(Optimizer):
    """Momentum made orthogonal by Newton-Schulz iterations (Jordan et al. 2024, kellerjordan.github.io/posts/muon).

    Matrices of role ``hidden`` take the update u = g + momentum (m - g) of the average m of gradients, each
    brought to singular values near 1; copies of a matrix (experts, taps) are taken one by one. Its size
    follows `muon_scale`: ``original`` multiplies by sqrt(max(1, outputs / inputs)); ``match_rms`` by
    0.2 sqrt(max(outputs, inputs)), which gives entries of AdamW's size (Liu et al. 2025, arXiv 2502.16982).
    Embeddings, head and vectors are trained by AdamW with `other_rate` times the learning rate. Decoupled
    weight decay. On CUDA the iterations are in bfloat16 under ``precision="bf16"``, else in float32.
    """

    name: ClassVar[str] = "muon"
    family: ClassVar[str] = "matrix"

    momentum: float = number(0.95, 0.0, 0.999999, "decay of the average of gradients of hidden matrices", member=True)
    nesterov: bool = flag(True, "look ahead by Nesterov's momentum")
    newton_steps: int = whole(5, 1, 20, "Newton-Schulz iterations")
    muon_scale: str = choice("original", ("original", "match_rms"), "size of the update of a hidden matrix")
    other_rate: float = number(1.0, 0.0, 1e4, "multiplier of lr where AdamW is used", member=True)
    beta1: float = number(0.9, 0.0, 0.999999, "AdamW's decay of the average of gradients", member=True)
    beta2: float = number(0.95, 0.0, 0.999999, "AdamW's decay of the average of squared gradients", member=True)
    eps: float = number(1e-8, 1e-30, 1.0, "AdamW's epsilon", member=True)

    def rule(self, context: Context) -> Rule:
        return _MuonRule(context, self)


def newton_schulz(x: torch.Tensor, steps: int) -> torch.Tensor:
    """Matrices [n, r, c], r <= c, brought near their polar factors U V^T by `steps` quintic iterations.

    Each is first divided by its Frobenius norm, so that no singular value exceeds 1.
    """
    from workbench.probes.functional import product

    a, b, c = _QUINTIC
    on_cpu = x.device.type == "cpu"
    norm = row_sum(x.float().square()).sqrt().clamp_min(1e-7)
    x = x / norm[:, None, None].to(x.dtype)
    for _ in range(steps):
        if on_cpu:  # how many matrices there are must not show in their bits
            gram = product(x, x.mT)
            x = a * x + product(b * gram + c * product(gram, gram), x)
            continue
        gram = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


class _MuonRule(Rule):
    def __init__(self, context: Context, settings: Muon) -> None:
        super().__init__(context, "m", "v")
        self.settings = settings
        probe, weights = context.probes[0], context.weights
        described = probe.model_settings.weights(probe.task_settings)
        hidden = {name: w.shape for name, w in described.items() if w.role == "hidden" and len(w.shape) > 1}
        low = probe.precision == "bf16" and context.device.type == "cuda"
        self.dtype = torch.bfloat16 if low else torch.float32
        #: Matrices of one shape, up to transposition, are iterated in one batch.
        self.groups: dict[tuple[int, int], list[str]] = {}
        for name, shape in hidden.items():
            self.groups.setdefault((min(shape[-2:]), max(shape[-2:])), []).append(name)
        self.shapes = hidden
        beta1, beta2 = context.column("beta1"), context.column("beta2")
        count = np.arange(1, context.steps + 1)[:, None]
        correction2 = np.sqrt(1 - beta2**count)
        self.gain = context.by_step(context.column("other_rate") * correction2 / (1 - beta1**count))
        self.eps = context.by_step(context.column("eps") * correction2)
        self.gain2 = context.tensor(1 - beta2)
        self.momentum = context.tensor(context.column("momentum"))
        # one average of gradients serves both; its decay depends on the entry
        self.gain1 = context.tensor(1 - beta1).expand_as(weights.data).contiguous()
        for name in hidden:
            view = weights.named(self.gain1)[name]
            view.copy_((1 - self.momentum).view(-1, *[1] * (view.dim() - 1)))

    def direction(self, grad: torch.Tensor) -> torch.Tensor:
        weights, m, v = self.context.weights, self.slots["m"], self.slots["v"]
        m.lerp_(grad, self.gain1)
        ahead = grad.lerp(m, self.momentum) if self.settings.nesterov else m
        updates = self._orthogonal(weights.named(ahead))
        v.lerp_(grad.mul_(grad), self.gain2)
        torch.sqrt(v, out=grad).add_(self.eps())
        torch.div(m, grad, out=grad).mul_(self.gain())
        views = weights.named(grad)
        for name, update in updates.items():
            views[name].copy_(update)
        return grad

    def _orthogonal(self, momentum: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        updates = {}
        for (rows, columns), names in self.groups.items():
            parts = [momentum[name].reshape(-1, *self.shapes[name][-2:]) for name in names]
            lying = [part if part.shape[-2] == rows else part.mT for part in parts]
            stacked = newton_schulz(torch.cat([part.to(self.dtype) for part in lying]), self.settings.newton_steps)
            for name, update in zip(names, stacked.split([len(part) for part in parts]), strict=True):
                inputs, outputs = self.shapes[name][-2:]
                update = update if inputs == rows else update.mT
                scale = max(1.0, outputs / inputs) ** 0.5
                if self.settings.muon_scale == "match_rms":
                    scale = 0.2 * columns**0.5
                updates[name] = (update.float() * scale).reshape(momentum[name].shape)
        return updates
