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
        state: the `Checkpoint` to resume from, where the run was stopped; else None.
        weights: the final weights [params] (float32 tensor on the CPU), in the order of the model's names.
    """

    probe: Probe
    status: str
    records: tuple[dict[str, Any], ...]
    provenance: dict[str, Any]
    weights: Any = field(default=None, repr=False, compare=False)
    state: Any = field(default=None, repr=False, compare=False)

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
            **{name: value for name, value in last.items() if name not in ("step", "lr")},
            "steps": last["step"],
            **{name: value for name, value in probe.to_dict().items() if name not in _LEFT_OUT},
        }


#: Of a probe's fields: what the row says otherwise (what was done, not what was asked for).
_LEFT_OUT = ("schema", "tokens", "evals", "table", "eval_spacing")
