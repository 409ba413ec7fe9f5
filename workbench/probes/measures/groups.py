"""Loss of groups of examples, where a task knows some."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.probes.measures.base import Measure

if TYPE_CHECKING:
    import torch

    from workbench.probes.ensemble import Ensemble

__all__ = ["group_loss"]


def _groups(ensemble: Ensemble) -> dict[str, torch.Tensor]:
    return {f"loss.{name}": value for name, value in ensemble.data.group_losses(ensemble.predict).items()}


group_loss = Measure(
    "group_loss",
    "Loss of each group of examples that the task knows and does not report anyway (classes, subtasks, clusters, "
    "training examples with a clean and with a noisy label): loss.<group>, in the task's loss; nothing where there "
    "is none.",
    _groups,
)
