"""Adafactor: Adam's second moments stored as one row and one column a matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from workbench.probes import late_torch as torch
from workbench.probes.component import flag, number
from workbench.probes.optimizers.base import Optimizer, Rule
from workbench.probes.rows import row_rms

if TYPE_CHECKING:
    from workbench.probes.optimizers.stack import Context

__all__ = ["Adafactor"]


@dataclass(frozen=True)
class Adafactor(Optimizer):
    """Factored second moments and clipped updates (Shazeer & Stern 2018, arXiv 1804.04235, algorithms 4 and 5).

    A matrix keeps the averages of squared gradients of its rows and columns only, a vector all of them. The
    decay of the averages is 1 - t^-decay_power, and an update U is divided by max(1, RMS(U) / update_clip).
    ``relative=True`` multiplies lr by max(rms_floor, RMS(w)), as the paper does; it is not the default,
    because a head that starts at zero then hardly leaves it. lr follows the run's schedule, not the
    paper's min(0.01, 1 / sqrt(t)). Copies of a matrix (experts) are factored one by one and share RMS(U)
    and RMS(w). Decoupled weight decay.
    """

    name: ClassVar[str] = "adafactor"

    beta1: float = number(0.0, 0.0, 0.999999, "decay of an average of updates; 0: none", member=True)
    decay_power: float = number(0.8, 0.0, 1.0, "power of the step count in the decay of squares", member=True)
    update_clip: float = number(1.0, 1e-6, 1e6, "root mean square above which an update is scaled down", member=True)
    square_eps: float = number(1e-30, 0.0, 1.0, "added to squared gradients", member=True)
    rms_floor: float = number(1e-3, 0.0, 1e3, "least size of a weight in a relative lr", member=True)
    relative: bool = flag(False, "lr is relative to the root mean square of a weight")

    def rule(self, context: Context) -> Rule:
        return _AdafactorRule(context, self.relative)


class _AdafactorRule(Rule):
    def __init__(self, context: Context, relative: bool) -> None:
        super().__init__(context)
        self.relative = relative
        shapes = context.weights.shapes
        matrices = {name: shape for name, shape in shapes.items() if len(shape) > 1}
        vectors = {name: shape for name, shape in shapes.items() if len(shape) == 1}
        self.rows = _Compact(context, {name: shape[:-1] for name, shape in matrices.items()})
        self.columns = _Compact(context, {name: (*shape[:-2], shape[-1]) for name, shape in matrices.items()})
        self.vectors = _Compact(context, vectors)
        compact = {"row": self.rows, "column": self.columns, "v": self.vectors}
        self.slots = {name: part.average for name, part in compact.items() if part.shapes}
        beta1 = context.column("beta1")
        if (beta1 > 0).any():
            self.slots["m"] = context.new_buffer()
        self.gain1 = context.tensor(1 - beta1)
        count = np.arange(1, context.steps + 1)[:, None]
        self.gain = context.by_step(count ** -context.column("decay_power"))
        self.eps, self.clip, self.floor = (
            context.tensor(context.column(name)) for name in ("square_eps", "update_clip", "rms_floor")
        )

    def direction(self, grad: torch.Tensor) -> torch.Tensor:
        weights = self.context.weights
        squares, gain = weights.named((grad * grad).add_(self.eps)), self.gain()
        for part, reduced in ((self.rows, -1), (self.columns, -2), (self.vectors, None)):
            part.update(squares, reduced, gain)
        for name, update in weights.named(grad).items():
            if name in self.vectors.shapes:
                update.div_(self.vectors.views[name].sqrt())
            else:
                row, column = self.rows.views[name], self.columns.views[name]
                # v = row column / mean(row): one root for each side, so that no product underflows
                update.div_((row / row.mean(-1, keepdim=True)).sqrt()[..., None]).div_(column.sqrt()[..., None, :])
            factor = 1 / (row_rms(update)[:, None] / self.clip).clamp_min(1.0)
            if self.relative:
                factor = factor * torch.maximum(row_rms(weights.master[name])[:, None], self.floor)
            update.mul_(factor.view(-1, *[1] * (update.dim() - 1)))
        if "m" in self.slots:
            grad.copy_(self.slots["m"].lerp_(grad, self.gain1))
        return grad


class _Compact:
    """Averages of some numbers a weight, in one buffer [E, n] with whole cache lines a member."""

    def __init__(self, context: Context, shapes: dict[str, tuple[int, ...]]) -> None:
        self.shapes = shapes
        sizes = [math.prod(shape) for shape in shapes.values()]
        data = context.weights.data
        self.average = data.new_zeros(len(data), -(-sum(sizes) // 64) * 64)
        self.new = torch.zeros_like(self.average)
        self.views, self._new_views = self._split(self.average, sizes), self._split(self.new, sizes)

    def _split(self, flat: torch.Tensor, sizes: list[int]) -> dict[str, torch.Tensor]:
        parts = flat[:, : sum(sizes)].split(sizes, dim=1)
        return {name: part.view(-1, *shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}

    def update(self, squares: dict[str, torch.Tensor], reduced: int | None, gain: torch.Tensor) -> None:
        for name, view in self._new_views.items():
            view.copy_(squares[name] if reduced is None else squares[name].mean(reduced))
        self.average.lerp_(self.new, gain)
