"""The step of the stacks that most probes train, in kernels of our own: forward, backward and AdamW on CUDA.

The plain path (`Ensemble.loss`, autograd, `StackOptimizer`) trains everything; this one trains the default
transformer with AdamW in bfloat16, at several times the speed, and agrees with it to bfloat16 rounding.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from workbench.probes.ensemble import Ensemble

__all__ = ["FastStep", "fast_step"]

#: Settings that the kernels cover, beside the shapes that `kernels.transformer.supports`.
_COVERED = {
    "model": "transformer", "optimizer": "adamw", "precision": "bf16", "norm": "rms", "gains": False,
    "norm_position": "pre", "qk_norm": False, "activation": "relu2", "tied": False, "positions": "learned",
    "z_loss": 0.0, "transform": "none", "output_scale": 1.0, "mlp_ratio": 4,
}  # fmt: skip


def fast_step(ensemble: Ensemble) -> FastStep | None:
    """The fast step of a stack, or None where the plain path must train it."""
    first = ensemble.probes[0]
    if ensemble.backend.device.type != "cuda" or importlib.util.find_spec("triton") is None:
        return None
    if any(getattr(probe, name, None) != value for probe in ensemble.probes for name, value in _COVERED.items()):
        return None
    if ensemble.task.loss != "cross_entropy" or ensemble.scored is not None or ensemble.task.inputs.kind != "tokens":
        return None
    from workbench.probes.kernels.transformer import supports

    shape = (first.width, first.heads, ensemble.task.inputs.context, first.batch, ensemble.task.outputs)
    if first.depth == 0 or not supports(*shape) or ensemble.optimizer.average is not None:
        return None
    return FastStep(ensemble)


class FastStep:
    """One optimizer step of a stack, in place; a CUDA graph can replay it."""

    def __init__(self, ensemble: Ensemble) -> None:
        from workbench.probes.kernels.transformer import FusedTransformer

        self.weights, self.optimizer = ensemble.weights, ensemble.optimizer
        first, context = ensemble.probes[0], ensemble.optimizer.context
        outer = ("embedding", "positions")  # multiplied where they are read, not in the bfloat16 copy
        factors = {name: 1.0 if name in outer else ensemble.multipliers.get(name, 1.0) for name in self.weights.shapes}
        self.factor = self.weights.expand(factors)
        low = self.weights.named(self.weights.low)
        self.model = FusedTransformer(
            low, self.weights.master, self.weights.named(self.weights.grad), first.depth, first.heads,
            residual=ensemble.stream, multipliers=ensemble.multipliers, attention_scale=ensemble.model.score_scale,
        )  # fmt: skip
        # tables by step, as in the plain rule of `optimizers.adam`
        lr, count = self.optimizer.lr, np.arange(1, context.steps + 1)[:, None]
        correction1, correction2 = (1 - context.column(name) ** count for name in ("beta1", "beta2"))

        def table(values: np.ndarray) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.float32, device=context.device).contiguous()

        self.step_size = table(-lr / correction1 * np.sqrt(correction2))
        self.eps = table(context.column("eps") * np.sqrt(correction2))
        self.keep = table(1 - lr * context.column("weight_decay"))
        self.gain1, self.gain2 = table(1 - context.column("beta1")), table(1 - context.column("beta2"))
        self.clip = None if self.optimizer.clip is None else self.optimizer.clip[:, 0].contiguous()

    def refresh(self) -> None:
        """Make the bfloat16 copies anew from the master weights; before the first step after any change to them."""
        with torch.no_grad():
            if self.factor is None:
                self.weights.low.copy_(self.weights.data)
            else:
                self.weights.low.copy_(self.weights.data * self.factor)

    def __call__(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Train on one batch; its losses [E]. Advances `optimizer.step`."""
        from workbench.probes.kernels.adamw import adamw_

        loss = self.model.loss_and_gradient(inputs, targets)
        weights, slots = self.weights, self.optimizer.rule.slots
        adamw_(
            weights.data, weights.grad, slots["m"], slots["v"], weights.low, self.optimizer.step, self.step_size,
            self.eps, self.keep, self.gain1, self.gain2, self.clip, self.optimizer.lr_scale, self.factor,
        )  # fmt: skip
        self.optimizer.step += 1
        return loss
