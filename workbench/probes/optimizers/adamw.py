"""AdamW on flat weights [E, P], every hyperparameter its own per member (Loshchilov & Hutter, arXiv 1711.05101)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from workbench.probes.models.flat import FlatWeights
from workbench.probes.optimizers.schedules import multipliers
from workbench.probes.spec import Probe

__all__ = ["AdamW"]


class AdamW:
    """The optimizer of a stack: no Python number changes from step to step, so a CUDA graph can replay it.

    Args:
        weights: the weights to train.
        probes: one per member; lr, schedule, warm-up, decay, betas, eps and clip may all differ.

    Whatever depends on the step (learning rate, decay, bias corrections) is tabulated in float64 once and
    looked up by `step`, a counter on the device.
    """

    def __init__(self, weights: FlatWeights, probes: Sequence[Probe]) -> None:
        self.weights = weights
        device = weights.data.device

        def column(name: str) -> np.ndarray:
            return np.array([getattr(probe, name) for probe in probes], dtype=float)

        def on_device(values: np.ndarray) -> torch.Tensor:
            return torch.tensor(values[..., None], dtype=torch.float32, device=device)  # [E, 1] or [steps, E, 1]

        beta1, beta2 = column("beta1"), column("beta2")
        self.lr = np.stack([multipliers(probe) * probe.lr for probe in probes], axis=1)  # [steps, E]
        count = np.arange(1, len(self.lr) + 1)[:, None]
        correction2 = np.sqrt(1 - beta2**count)
        # p -= lr m / (1 - b1^t) / (sqrt(v) / sqrt(1 - b2^t) + eps), with the second correction moved
        # from the [E, P] denominator to the [E, 1] step size and eps.
        self.negative_step = on_device(-self.lr / (1 - beta1**count) * correction2)
        self.eps = on_device(column("eps") * correction2)
        self.keep = on_device(1 - self.lr * column("weight_decay"))
        self.decays = bool((column("weight_decay") > 0).any())
        self.gain1, self.gain2 = on_device(1 - beta1), on_device(1 - beta2)
        self.clip = None
        if any(probe.clip is not None for probe in probes):
            self.clip = on_device(np.array([np.inf if p.clip is None else p.clip for p in probes], dtype=float))
        self.step = torch.zeros(1, dtype=torch.int64, device=device)
        self.m = torch.zeros_like(weights.data)
        self.v = torch.zeros_like(weights.data)
        self.scratch = torch.empty_like(weights.data)

    @torch.no_grad()
    def update(self) -> None:
        """One step from `weights.grad`, in place; advances `step`."""
        grad, data, scratch = self.weights.grad, self.weights.data, self.scratch
        if self.clip is not None:
            norm = torch.linalg.vector_norm(grad, dim=1, keepdim=True)
            grad.mul_((self.clip / norm).clamp_max(1.0))
        self.m.lerp_(grad, self.gain1)
        torch.mul(grad, grad, out=scratch)
        self.v.lerp_(scratch, self.gain2)
        torch.sqrt(self.v, out=scratch).add_(self.eps.index_select(0, self.step)[0])
        torch.div(self.m, scratch, out=scratch).mul_(self.negative_step.index_select(0, self.step)[0])
        if self.decays:
            data.mul_(self.keep.index_select(0, self.step)[0])
        data.add_(scratch)
        self.step += 1
