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
        snapshots: with ``ema_profiles``, the averages of the weights at each evaluation step after 0,
            [steps, widths, params] (float32, CPU); `averaged` mixes others from them. Else None.
        state: the `Checkpoint` to resume from, where the run was stopped; else None.
        weights: the final weights [params] (float32 tensor on the CPU), in the order of the model's names.
    """

    probe: Probe
    status: str
    records: tuple[dict[str, Any], ...]
    provenance: dict[str, Any]
    weights: Any = field(default=None, repr=False, compare=False)
    state: Any = field(default=None, repr=False, compare=False)
    snapshots: Any = field(default=None, repr=False, compare=False)

    @property
    def loss(self) -> float:
        """Population loss at the last evaluation point, nats per token."""
        return self.records[-1]["loss"]

    def row(self) -> dict[str, Any]:
        """The run as one flat row of canonical columns; what was *done*, also when it stopped early.

        Where the training data are finite, with ``unique_tokens`` and ``epochs``.
        """
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
            **self._repetition(last["tokens"]),
        }

    def averaged(self, sigma_rel: float) -> tuple[Any, float]:
        """The weights averaged over the run with another width than was kept, [params], and the profile's error.

        Args:
            sigma_rel: width of the average (`workbench.probes.optimizers.post_hoc`), as a share of the run so far.

        Raises:
            ValueError: no averages were kept, none was reached, or the width is none.
        """
        from workbench.probes.optimizers.post_hoc import reconstruct
        from workbench.probes.trainer import eval_steps

        if self.snapshots is None:
            raise ValueError("this run kept no averages of its weights; train it with ema_profiles=(0.05, 0.1).")
        points = [step for step in eval_steps(self.probe) if step]
        return reconstruct(self.snapshots, self.probe.ema_profiles, points, sigma_rel, self.records[-1]["step"])

    def _repetition(self, seen: float) -> dict[str, Any]:
        """Of finite training data: how many tokens there are, and how often each was seen."""
        unique = self.provenance.get("unique_tokens")
        return {} if not unique else {"unique_tokens": unique, "epochs": seen / unique}


#: Of a probe's fields: what the row says otherwise (what was done, not what was asked for).
_LEFT_OUT = ("schema", "tokens", "evals", "table", "eval_spacing")
