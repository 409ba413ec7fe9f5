"""Mixture of experts: the transformer whose MLPs are many, of which a token meets few."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from workbench.probes import late_torch as torch
from workbench.probes.component import choice, number, whole
from workbench.probes.models.base import Weight
from workbench.probes.models.transformer import Transformer
from workbench.probes.tasks.random import hash_counters

if TYPE_CHECKING:
    from workbench.probes.ops import Ops
    from workbench.probes.tasks.base import Task

__all__ = ["Mixture"]


@dataclass(frozen=True)
class Mixture(Transformer):
    """A decoder-only transformer with a mixture of expert MLPs in every block.

    ``routing="top_k"``: a router, a matrix [d, experts] in float32, gives each token a softmax over experts; the
    `chosen` largest shares p are the weights of their experts' outputs, the others are 0 (Fedus, Zoph & Shazeer
    2021, arXiv 2101.03961, for one chosen expert). `balance` weighs their loss for even loads, experts *
    sum_i f_i P_i with f_i the part of all choices that fell on expert i and P_i its mean share: 1 if even. It is
    added to the training loss, so it is in `train_loss`, and not in the evaluated `loss`.

    ``routing="hash"``: the token's id alone decides, by a fixed hash that differs from block to block (Roller et
    al. 2021, arXiv 2106.04426); its one expert has weight 1.

    No token is dropped and no expert has a capacity. **Every expert is computed for every token** and the outputs
    of those not chosen are masked: a step costs experts / chosen times the products that `Probe.flops` counts,
    which is of the *active* parameters. For stacks of small models that is the price of fixed shapes.
    """

    name: ClassVar[str] = "mixture"

    experts: int = whole(4, 1, 256, "expert MLPs of a block")
    chosen: int = whole(1, 1, 256, "experts that a token meets (routing='top_k')")
    routing: str = choice("top_k", ("top_k", "hash"), "by a trained router, or by a hash of the token's id")
    balance: float = number(0.01, 0.0, 100.0, "weight of the loss for even loads of experts (routing='top_k')")

    def check(self) -> None:
        super().check()
        if self.chosen > self.experts:
            raise ValueError(f"chosen={self.chosen} is more than experts={self.experts}; choose at most all.")
        if self.routing == "hash" and self.chosen != 1:
            raise ValueError(f"routing='hash' gives a token one expert; chosen={self.chosen} must be 1.")

    def check_task(self, task: Task) -> None:
        super().check_task(task)
        if self.routing == "hash" and task.inputs.kind != "tokens":
            raise ValueError(
                f"routing='hash' routes by token id, but task={task.name!r} gives {task.inputs.kind}; "
                "use routing='top_k'."
            )

    def active_params(self, task: Task) -> int:
        weights = self.weights(task)
        experts = sum(w.size for name, w in weights.items() if name.endswith((".up", ".down")))
        return sum(w.size for w in weights.values()) - experts + experts * self.chosen // self.experts

    def _mlp_weights(self, layer: int) -> dict[str, Weight]:
        found = {
            name: Weight((self.experts, *w.shape), w.role, w.std, fan_in=w.inputs, branch=w.branch)
            for name, w in super()._mlp_weights(layer).items()
        }
        if self.routing == "top_k":
            shape = (self.width, self.experts)
            found[f"{layer}.router"] = Weight(shape, "output", 1 / math.sqrt(self.width), low_precision=False)
        return found

    def _mlp(self, ops: Ops, x: torch.Tensor, layer: int, inputs: torch.Tensor) -> torch.Tensor:
        weights = self._hashed(inputs, layer) if self.routing == "hash" else self._routed(ops, x, layer)  # [E, n, X]
        ops.see(f"{layer}.routing", (weights > 0).float())
        up, down = ops.weights[f"{layer}.up"], ops.weights[f"{layer}.down"]
        scale_up, scale_down = (ops.multipliers.get(f"{layer}.{name}", 1.0) for name in ("up", "down"))
        total = None
        for expert in range(self.experts):
            y = ops.activation(ops.matmul(x, up[:, expert], scale_up), self.activation)
            y = ops.wide(ops.matmul(y, down[:, expert], scale_down)) * weights[..., expert, None]
            total = y if total is None else total + y
        return total

    def _routed(self, ops: Ops, x: torch.Tensor, layer: int) -> torch.Tensor:
        """The weight of every expert for every token, [E, n, experts]; 0 for those not chosen."""
        shares = torch.softmax(ops.wide_linear(x, f"{layer}.router"), -1)
        best = shares.topk(self.chosen, -1).indices
        mask = torch.zeros_like(shares).scatter_(-1, best, 1.0)
        if self.balance:
            loads = mask.mean(1) / self.chosen
            ops.add_loss(self.balance * self.experts * (loads * shares.mean(1)).sum(-1))
        return shares * mask

    def _hashed(self, ids: torch.Tensor, layer: int) -> torch.Tensor:
        keys = torch.full((1,), layer, dtype=torch.int64, device=ids.device)
        chosen = hash_counters(keys, ids.flatten(1), torch.zeros_like(keys)) % self.experts  # [E, n], not negative
        return (chosen[..., None] == torch.arange(self.experts, device=ids.device)).float()
