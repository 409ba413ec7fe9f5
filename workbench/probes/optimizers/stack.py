"""One optimizer step of a stack: clip, transform, rule, decay, apply, average."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from workbench.probes import late_torch as torch
from workbench.probes.optimizers.adam import AdamRule
from workbench.probes.optimizers.base import Rule
from workbench.probes.optimizers.post_hoc import PostHoc
from workbench.probes.optimizers.schedules import multipliers
from workbench.probes.optimizers.transforms import build_transform

if TYPE_CHECKING:
    from workbench.probes.flat import FlatWeights
    from workbench.probes.spec import Probe

__all__ = ["Context", "StackOptimizer"]


#: Weights of a member from which torch's fused Adam, called once a member, beats operations on the whole stack.
_FUSED_SIZE = 2**16


class Context:
    """What a rule may know of its stack.

    Attributes:
        weights: the flat weights.
        probes: one per member.
        steps: optimizer steps of the run.
        step: the number of steps done, [1] (int64) on the device.
    """

    def __init__(self, weights: FlatWeights, probes: Sequence[Probe]) -> None:
        self.weights, self.probes = weights, tuple(probes)
        self.steps = self.probes[0].steps
        self.device = weights.data.device
        self.step = torch.zeros(1, dtype=torch.int64, device=self.device)

    def column(self, name: str) -> np.ndarray:
        """A field of all members, [E] (float64)."""
        return np.array([getattr(probe, name) for probe in self.probes], dtype=float)

    def tensor(self, values: np.ndarray) -> torch.Tensor:
        """Values [E] or [steps, E] as [E, 1] or [steps, E, 1] (float32) on the device."""
        return torch.tensor(np.asarray(values)[..., None], dtype=torch.float32, device=self.device)

    def by_step(self, values: np.ndarray) -> Callable[[], torch.Tensor]:
        """A table [steps, E] (float64) looked up at the current step: a function that returns [E, 1]."""
        table = self.tensor(values)
        return lambda: table.index_select(0, self.step)[0]

    def new_buffer(self) -> torch.Tensor:
        """Zeros [E, P] like the weights."""
        return torch.zeros_like(self.weights.data)


class StackOptimizer:
    """The optimizer of a stack, every hyperparameter its own per member.

    Args:
        weights: the weights to train.
        probes: one per member.
        lr_scale: multiplier of the learning rate by weight name (`parametrization.scales`).

    Attributes:
        step: steps done, [1] on the device.
    """

    def __init__(self, weights: FlatWeights, probes: Sequence[Probe], lr_scale: dict[str, float]) -> None:
        self.context = context = Context(weights, probes)
        self.weights, self.step = weights, context.step
        settings = probes[0].optimizer_settings
        self.rule: Rule = settings.rule(context)
        self.transform = build_transform(context)
        self.coupled = settings.coupled_decay
        lr = np.stack([multipliers(probe) * probe.lr for probe in probes], axis=1)  # [steps, E]
        self.lr = lr
        self.negative_lr = context.by_step(-lr)
        decay = context.column("weight_decay")
        self.decays = bool((decay > 0).any())
        self.keep = context.by_step(1 - lr * decay)
        self.decay = context.tensor(decay)
        self.lr_scale = weights.expand(lr_scale)  # [P], or None if all are 1
        #: 1 where a weight is trained, [P]; None if all are. Others neither decay nor count in the gradient's norm.
        self.trained = None
        if any(scale == 0 for scale in lr_scale.values()):
            self.trained = weights.expand({name: float(scale != 0) for name, scale in lr_scale.items()})
        self.clip = None
        if any(probe.clip is not None for probe in probes):
            self.clip = context.tensor(np.array([np.inf if p.clip is None else p.clip for p in probes], dtype=float))
        #: Adam's update can be one pass over the weights on a CPU; a function of the shape, never of the stack
        self.fusible = (
            type(self.rule) is AdamRule and weights.size >= _FUSED_SIZE and self.transform is None
            and self.lr_scale is None and hasattr(torch, "_fused_adamw_")
        )  # fmt: skip
        self.fused = self.fusible and context.device.type == "cpu"
        averages = context.column("ema")
        self.average = weights.data.clone() if (averages > 0).any() else None
        self.average_gain = context.tensor(1 - averages)
        widths = probes[0].ema_profiles
        self.post_hoc = PostHoc(context, widths) if widths else None

    @property
    def slots(self) -> dict[str, torch.Tensor]:
        """All state by name, each [E, ...]: what a checkpoint needs beside the weights."""
        found = {f"rule.{name}": slot for name, slot in self.rule.slots.items()}
        if self.transform is not None:
            found |= {f"transform.{name}": slot for name, slot in self.transform.slots.items()}
        if self.average is not None:
            found["average"] = self.average
        if self.post_hoc is not None:
            found |= {f"post_hoc.{name}": slot for name, slot in self.post_hoc.slots.items()}
        return found

    def update(self) -> None:
        """One step from `weights.grad` (which it overwrites), in place; advances `step`. No gradient is recorded."""
        with torch.no_grad():
            self._update()

    def _update(self) -> None:
        grad, data = self.weights.grad, self.weights.data
        if self.trained is not None:
            grad.mul_(self.trained)
        if self.clip is not None:
            norm = torch.linalg.vector_norm(grad, dim=1, keepdim=True)
            grad.mul_((self.clip / norm).clamp_max(1.0))
        if self.fused:
            self.rule.fused_step(self.lr[int(self.step)], self.decay[:, 0].tolist(), self.coupled)
        else:
            self._apply(grad)
        if self.average is not None:
            self.average.lerp_(data, self.average_gain)
        if self.post_hoc is not None:
            self.post_hoc.update(data)
        self.step += 1

    def _apply(self, grad: torch.Tensor) -> None:
        """Transform, rule, decay and the update itself, on the whole stack at once."""
        data = self.weights.data
        if self.transform is not None:
            grad = self.transform.direction(grad)
        if self.decays and self.coupled:
            grad.addcmul_(data, self.decay)
        direction = self.rule.direction(grad)
        if self.lr_scale is not None:
            direction = direction.mul_(self.lr_scale)
        if self.decays and not self.coupled:
            data.mul_(self._kept())
        data.addcmul_(direction, self.negative_lr())

    def _kept(self) -> torch.Tensor:
        """What decoupled weight decay leaves of an entry, [E, 1] or [E, P]."""
        keep = self.keep()
        for share in (self.rule.decay_share, self.trained):
            if share is not None:
                keep = 1 - (1 - keep) * share
        return keep
