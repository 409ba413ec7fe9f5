"""Sizes whose growth announces trouble: attention scores, log Z, vanished losses, gradients below epsilon."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workbench.probes import late_torch as torch
from workbench.probes.measures.base import Measure
from workbench.probes.measures.replica import Replica
from workbench.probes.rows import row_dot, row_mean, row_rms

if TYPE_CHECKING:
    from workbench.probes.ensemble import Ensemble

__all__ = ["attention_logits", "grad_eps", "log_z", "softmax_collapse"]


def _attention(ensemble: Ensemble) -> dict[str, torch.Tensor]:
    replica = Replica(ensemble)
    seen = replica.see(replica.batch())
    largest = {
        name.removesuffix(".scores"): x.flatten(1).amax(1).double().cpu()
        for name, x in seen.items()
        if name.endswith(".scores")
    }
    if not largest:
        return {}
    layers = {f"attn_logit_max.{name}": value for name, value in largest.items()}
    return {"attn_logit_max": torch.stack(list(largest.values())).amax(0), **layers}


def _log_z(ensemble: Ensemble) -> dict[str, torch.Tensor]:
    if ensemble.task.loss != "cross_entropy":
        return {}
    replica = Replica(ensemble)
    # one member at a time: a stack's probabilities need not fit into memory at once
    z = torch.stack([x.double().logsumexp(-1) for x in replica.see(replica.batch())["output"]])
    found = {"log_z_mean": row_mean(z), "log_z_rms": row_rms(z), "log_z_max": z.flatten(1).amax(1)}
    return {name: value.cpu() for name, value in found.items()}


def _softmax_collapse(ensemble: Ensemble) -> dict[str, torch.Tensor]:
    replica = Replica(ensemble)
    batch = replica.batch()
    w, g = ensemble.weights.data.double(), replica.gradient(batch).double()
    lengths = (row_dot(w, w) * row_dot(g, g)).sqrt()
    found = {"grad_cos": -row_dot(g, w) / lengths}
    if ensemble.task.loss == "cross_entropy":
        losses = torch.stack([
            torch.nn.functional.cross_entropy(x.float(), y, reduction="none")
            for x, y in zip(replica.see(batch)["output"], batch[1], strict=True)
        ])  # fmt: skip
        found["zero_loss"] = row_mean((losses == 0).double())
    return {name: value.cpu() for name, value in found.items()}


def _grad_eps(ensemble: Ensemble) -> dict[str, torch.Tensor]:
    probes, rule = ensemble.probes, ensemble.optimizer.rule
    if not hasattr(probes[0], "eps"):
        return {}
    replica = Replica(ensemble)
    grads = replica.named_gradient()
    eps = torch.tensor([probe.eps for probe in probes], dtype=torch.float64)
    layers = {f"grad_eps.{name}": row_rms(g.double()).cpu() / eps for name, g in grads.items()}
    # a weight behind a head that starts at zero has no gradient yet, which says nothing about epsilon
    moving = torch.stack(list(layers.values()))
    smallest = torch.where(moving > 0, moving, torch.inf).amin(0)
    found = {"grad_eps": torch.where(smallest.isinf(), 0.0, smallest), **layers}
    v = rule.slots.get("v")
    if v is not None and v.shape == ensemble.weights.data.shape and ensemble.step:
        correction = 1 - np.array([probe.beta2 for probe in probes]) ** ensemble.step
        root = (v[:, : replica.weights.size].double().cpu() / torch.tensor(correction)[:, None]).sqrt()
        found["below_eps"] = row_mean((root < eps[:, None]).double())
    return found


attention_logits = Measure(
    "attention_logits",
    "Largest attention score before the softmax on the next training batch: attn_logit_max of all layers and "
    "attn_logit_max.<layer>; nothing for models without attention.",
    _attention,
)
log_z = Measure(
    "log_z",
    "Logarithm of the softmax's normalizer at the scored positions of the next training batch, nats: log_z_mean, "
    "log_z_rms, log_z_max; nothing for squared losses.",
    _log_z,
)
softmax_collapse = Measure(
    "softmax_collapse",
    "zero_loss is the share of scored positions of the next training batch whose cross-entropy is exactly 0 in "
    "float32, grad_cos the cosine of descent direction and weights (Prieto et al. 2025, arXiv 2501.04697).",
    _softmax_collapse,
)
grad_eps = Measure(
    "grad_eps",
    "Root mean square of the gradient in units of Adam's epsilon: grad_eps.<weight>, and grad_eps, the smallest that "
    "is not zero; below_eps is the share of entries whose corrected sqrt(v) is below epsilon. Nothing for "
    "optimizers without epsilon.",
    _grad_eps,
)
