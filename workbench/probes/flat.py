"""All weights of E members in one flat buffer [E, P], and the views a model computes with.

One buffer makes the optimizer a handful of elementwise kernels whatever the number of weight matrices,
and makes a member's weights one row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

__all__ = ["FlatWeights"]

#: Rows are padded to whole cache lines: every row starts aligned, and no element changes between the
#: vectorized body and the scalar tail of a CPU kernel when members are stacked.
_ALIGN = 64


class FlatWeights:
    """The float32 master weights `data` [E, P], their gradient `grad` [E, P], and named views.

    Args:
        initial: the weights of each member by name, each [E, ...] (CPU, float32).
        device: where the buffers live.
        low_precision: names whose matrices are also kept in bfloat16, as inputs of matrix products.

    Attributes:
        views: by name, [E, ...] tensors that require gradients; bfloat16 copies for the names in
            `low_precision` (refreshed by `refresh`), views of `data` for the others.
    """

    def __init__(
        self, initial: Mapping[str, torch.Tensor], device: torch.device, low_precision: frozenset[str] = frozenset()
    ) -> None:
        members = len(next(iter(initial.values())))
        self.shapes = {name: tuple(value.shape[1:]) for name, value in initial.items()}
        self.size = sum(math.prod(shape) for shape in self.shapes.values())
        padded = -(-self.size // _ALIGN) * _ALIGN
        self.data = torch.zeros(members, padded, device=device)
        self.grad = torch.zeros_like(self.data)
        self._padding = torch.zeros(members, padded - self.size, device=device)
        for name, view in self._split(self.data).items():
            view.copy_(initial[name])
        master = self._split(self.data)
        self.low = self.data.to(torch.bfloat16) if low_precision else None
        low = self._split(self.low) if low_precision else {}
        self.master = {name: view.detach() for name, view in master.items()}
        self.views = {
            name: (low if name in low_precision else master)[name].detach().requires_grad_() for name in self.shapes
        }

    def _split(self, flat: torch.Tensor) -> dict[str, torch.Tensor]:
        sizes = [math.prod(shape) for shape in self.shapes.values()]
        parts = flat[:, : self.size].split(sizes, dim=1)
        return {name: part.view(-1, *shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}

    def named(self, flat: torch.Tensor) -> dict[str, torch.Tensor]:
        """All weights by name, [E, ...], as views of a buffer [E, P]."""
        return self._split(flat)

    def expand(self, values: Mapping[str, float]) -> torch.Tensor | None:
        """One value a weight as one value an entry, [P]; None if all are 1."""
        if all(value == 1.0 for value in values.values()):
            return None
        entries = torch.ones(1, self.data.shape[1])
        for name, view in self._split(entries).items():
            view.fill_(values[name])
        return entries[0].to(self.data.device)

    def refresh(self) -> None:
        """Bring the bfloat16 copies up to date with `data`; once a step, before the forward pass."""
        if self.low is not None:
            self.low.copy_(self.data)

    def backward(self, loss: torch.Tensor) -> None:
        """Write the gradient of the scalar `loss` into `grad` (the padding stays zero)."""
        grads = torch.autograd.grad(loss, list(self.views.values()))
        # One kernel for all matrices. It replaces zeroing the buffer and adding to it matrix by matrix.
        parts = [g.flatten(1).to(self.grad.dtype) for g in grads]
        torch.cat([*parts, self._padding], dim=1, out=self.grad)

    def rows(self) -> torch.Tensor:
        """The weights without padding, [E, size], copied to the CPU."""
        return self.data[:, : self.size].detach().cpu().clone()
