"""`Replica`: the loss of a stack and its gradient at any weights, in float32, off the stack's own state."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from workbench.probes import late_torch as torch

if TYPE_CHECKING:
    from workbench.probes.ensemble import Ensemble
    from workbench.probes.ops import Observer

__all__ = ["Replica"]


class Replica:
    """A copy of a stack's weights, and the loss there.

    Matrix products are in float32 and unrounded, whatever the stack trains in: what is measured is the
    loss as a function of the weights, not the noise of a number format.

    Args:
        ensemble: the stack; it is only read.

    Attributes:
        weights: the copy, a `FlatWeights`; write to its `data` to move.
    """

    def __init__(self, ensemble: Ensemble) -> None:
        from workbench.probes.flat import FlatWeights

        self.ensemble = ensemble
        self.weights = FlatWeights(ensemble.weights.master, ensemble.backend.device)
        self._twin = copy.copy(ensemble)
        self._twin.weights, self._twin.dtype, self._twin.rounding = self.weights, torch.float32, None

    def batch(self, ahead: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets of the training batch that comes `ahead` steps after the next one."""
        return self.ensemble.batch(self.ensemble.step + ahead)

    def loss(self, batch: tuple[torch.Tensor, torch.Tensor], observe: Observer | None = None) -> torch.Tensor:
        """Training loss [E] of a batch."""
        return self._twin.loss(*batch, observe=observe)

    def see(self, batch: tuple[torch.Tensor, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Everything the model shows on a batch, by name, each [E, ...]; ``output`` are the logits."""
        found: dict[str, torch.Tensor] = {}
        with torch.no_grad():
            self.loss(batch, lambda name, x: found.__setitem__(name, x.detach()))
        return found

    def features(self, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """What the head reads at the scored positions of a batch, [E, n, d]."""
        with torch.no_grad():
            return self._twin._scored(self._twin.model.hidden(self._twin.ops(), batch[0]), batch[0])

    def head(self) -> torch.Tensor:
        """The head [E, d, K], without its multiplier."""
        return self._twin._head(self._twin.ops())[0].detach()

    def gradient(self, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Gradient of the loss, [E, P], zero for frozen weights; overwritten by the next call."""
        with torch.enable_grad():
            self.weights.backward(self.loss(batch).sum())
        trained = self.ensemble.optimizer.trained
        return self.weights.grad if trained is None else self.weights.grad.mul_(trained)

    def named_gradient(self) -> dict[str, torch.Tensor]:
        """Gradient of the next training batch's loss by name of weight, each [E, ...], without frozen weights."""
        described = self.ensemble.model.weights(self.ensemble.task)
        found = self.weights.named(self.gradient(self.batch()))
        return {name: g for name, g in found.items() if described[name].role != "frozen"}
