"""The encoder form of the transformer: every position sees every other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from workbench.probes.models.base import Weight
from workbench.probes.models.transformer import Transformer

if TYPE_CHECKING:
    import torch

    from workbench.probes.ops import Ops
    from workbench.probes.tasks.base import Task

__all__ = ["Encoder"]


@dataclass(frozen=True)
class Encoder(Transformer):
    """A bidirectional transformer, for tasks that ask one thing of an input: at one position, or of a signal.

    Signals and sequences enter by a matrix; the output of a signal is read from the mean of the features of
    its positions. Settings and initial weights are those of `Transformer`.
    """

    name: ClassVar[str] = "encoder"
    accepts: ClassVar[tuple[str, ...]] = ("tokens", "sequences", "signals")
    causal: ClassVar[bool] = False

    def check_task(self, task: Task) -> None:
        super().check_task(task)
        if task.inputs.kind != "signals" and len(task.scored or ()) != 1:
            raise ValueError(
                f"model='encoder' sees the whole input, but task={task.name!r} scores "
                f"{'every position' if task.scored is None else f'{len(task.scored)} positions'}, where later inputs "
                "may hold the answers; use model='transformer'."
            )

    def hidden(self, ops: Ops, x: torch.Tensor) -> torch.Tensor:
        features = super().hidden(ops, x)
        if "signal_in" not in ops.weights:
            return features
        pooled = ops.wide(features).view(*x.shape[:3], -1).mean(2)
        return ops.see("pooled", pooled.to(ops.dtype))

    def _entry_weights(self, task: Task) -> dict[str, Weight]:
        # signals and sequences have one shape, but not the same number of outputs: the name tells them apart
        found = super()._entry_weights(task)
        return {"signal_in" if task.inputs.kind == "signals" and k == "read_in" else k: w for k, w in found.items()}
