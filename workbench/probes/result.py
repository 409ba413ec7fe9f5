"""`Result`: what one trained probe leaves behind."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from workbench.probes.spec import Probe

__all__ = ["Result"]


@dataclass(frozen=True)
class Result:
    """One probe, trained.

    Attributes:
        probe: what was asked for.
        status: ``finished``; ``diverged`` (the loss left the numbers: no record after that point);
            ``stopped`` (asked to stop before the end).
        records: evaluation points from step 0 on, each a dict with step, tokens, flops, loss and
            loss_sampled (nats/token), train_loss (mean since the last point, None at step 0), lr (of the
            last update, None at step 0) and seconds (training time of the whole stack, evaluation excluded).
        provenance: how it was computed: device, versions, matmul path, size of the stack, throughput.
        weights: the final weights [params] (float32 tensor on the CPU), in the order of the model's names.
    """

    probe: Probe
    status: str
    records: tuple[dict[str, Any], ...]
    provenance: dict[str, Any]
    weights: Any = field(default=None, repr=False, compare=False)

    @property
    def loss(self) -> float:
        """Population loss at the last evaluation point, nats per token."""
        return self.records[-1]["loss"]

    def row(self) -> dict[str, Any]:
        """The run as one flat row of canonical columns; what was *done*, also when it stopped early."""
        last = self.records[-1]
        probe = self.probe
        return {
            "id": probe.id,
            "status": self.status,
            "params": probe.params,
            "params_non_embedding": probe.params_non_embedding,
            **{name: last[name] for name in ("tokens", "flops", "loss", "loss_sampled", "train_loss", "seconds")},
            "steps": last["step"],
            **{name: getattr(probe, name) for name in _COPIED},
        }


_COPIED = ("lr", "schedule", "warmup", "weight_decay", "batch_tokens", "width", "depth", "heads", "context", "vocab")
_COPIED += ("tau", "s", "language_seed", "precision", "seed")
