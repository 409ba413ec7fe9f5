"""`train` trains the probes of one bucket as one stack; `train_sweep` goes over the buckets of a sweep."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import torch

from workbench.probes.backend import Backend, choose_backend, numerics, select_device
from workbench.probes.checkpoint import Checkpoint
from workbench.probes.ensemble import Ensemble
from workbench.probes.measures.base import find_measure
from workbench.probes.result import Result
from workbench.probes.spec import Probe
from workbench.probes.sweep import Sweep

__all__ = ["eval_steps", "train", "train_sweep"]

OnEvent = Callable[[int, dict[str, Any]], None]
OnProgress = Callable[[float, float], None]
OnCheckpoint = Callable[[list[Checkpoint]], None]

#: Seconds between two looks at the clock, `should_stop` and the progress callback.
_TICK = 0.1


def eval_steps(probe: Probe) -> list[int]:
    """Steps after which the probe is evaluated: 0, and `evals` spaced ones that end with the last."""
    spaced = np.geomspace(1, probe.steps, probe.evals)
    if probe.eval_spacing == "linear":
        spaced = np.linspace(0, probe.steps, probe.evals + 1)[1:]
    points = spaced if probe.evals > 1 else [probe.steps]
    return [0, *sorted({round(point) for point in points})]


def train(
    probes: Sequence[Probe],
    device: str | torch.device | None = None,
    on_event: OnEvent | None = None,
    should_stop: Callable[[], bool] | None = None,
    on_progress: OnProgress | None = None,
    compile: bool = False,
    *,
    states: Sequence[Checkpoint] | None = None,
    on_checkpoint: OnCheckpoint | None = None,
    checkpoint_seconds: float = 60.0,
    checkpoint_steps: Collection[int] = (),
) -> list[Result]:
    """Train probes of equal shape as one stack and return their results, in order.

    On a CPU in fp32 and bf16 each member's losses and weights are bit for bit those of the same probe
    trained alone, whatever its neighbours, and those of the same probe stopped and resumed.

    Args:
        probes: one bucket: probes of equal `Probe.shape` (see `Sweep.buckets`).
        device: ``auto`` (default), ``cpu``, ``cuda``, ...
        on_event: called as on_event(index, record) for every member at every evaluation point.
        should_stop: asked about ten times a second; when it says True, training ends between two steps with
            what there is, and each result's `state` is the checkpoint to resume from.
        on_progress: called about ten times a second as on_progress(fraction, tokens per second of all members).
        compile: torch.compile the forward pass and the optimizer; worth its minute on long CUDA runs only.
        states: checkpoints to resume from, one a probe, all at one step; left out, training starts afresh.
        on_checkpoint: called with the checkpoints of all members about every `checkpoint_seconds`, and after
            each of the `checkpoint_steps` (from which other runs may branch off, see `probes.fork`).

    Raises:
        TypeError: an entry is not a probe.
        ValueError: no probes, probes of different shapes, or a device or precision this machine lacks, or
            `compile` on a CPU, or checkpoints that belong to other probes.
    """
    probes = _bucket(probes)
    backend = choose_backend(probes[0], select_device(device))
    if compile and backend.device.type != "cuda":
        raise ValueError("compile=True needs a CUDA device; on a CPU leave it out.")
    with numerics(backend.matmul, backend.threads):
        training = _Training(probes, backend, compile)
        if states is not None:
            training.resume(states)
        training.checkpoint_steps = frozenset(checkpoint_steps)
        return training.run(on_event, should_stop, on_progress, on_checkpoint, checkpoint_seconds)


def train_sweep(
    sweep: Sweep,
    device: str | torch.device | None = None,
    on_event: OnEvent | None = None,
    on_progress: OnProgress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> list[Result | None]:
    """Train a sweep bucket by bucket; results in the sweep's order, None for probes never started.

    `on_event` receives positions in the sweep; `on_progress` the fraction of the sweep's total tokens.
    """
    results: list[Result | None] = [None] * len(sweep)
    total = sum(probe.tokens for probe in sweep)
    done = 0
    for positions in sweep.buckets():
        if should_stop is not None and should_stop():
            break
        share = sum(sweep[i].tokens for i in positions)

        def event(index: int, record: dict[str, Any], positions: tuple[int, ...] = positions) -> None:
            on_event(positions[index], record)

        def progress(fraction: float, rate: float, done: int = done, share: int = share) -> None:
            on_progress((done + fraction * share) / total, rate)

        trained = train(
            [sweep[i] for i in positions], device, event if on_event else None, should_stop,
            progress if on_progress else None,
        )  # fmt: skip
        for position, result in zip(positions, trained, strict=True):
            results[position] = result
        done += share
    return results


class _Training:
    """One call of `train`: the loop between evaluation points, and what it records."""

    def __init__(self, probes: tuple[Probe, ...], backend: Backend, compile: bool) -> None:
        self.probes, self.backend, self.compile = probes, backend, compile
        self.ensemble = Ensemble(probes, backend, compile)
        self.measures = [find_measure(name) for name in probes[0].measure]
        self.records: list[list[dict[str, Any]]] = [[] for _ in probes]
        self.diverged = [False] * len(probes)
        self.seconds = 0.0
        self.begun = 0  # step this call began at
        self.saved = time.monotonic()
        self.checkpoint_steps: frozenset[int] = frozenset()

    def resume(self, states: Sequence[Checkpoint]) -> None:
        """Continue where these checkpoints stand, one a member, all at one step."""
        for probe, state in zip(self.probes, states, strict=True):
            if state.values.get("id") != probe.id:
                raise ValueError(f"the checkpoint of {state.values.get('id')!r} cannot resume probe {probe.id!r}.")
        steps = {state.step for state in states}
        if len(steps) > 1:
            raise ValueError(f"a stack resumes at one step, but its checkpoints stand at {sorted(steps)}.")
        stacked = {name: torch.stack([s.tensors[name] for s in states]) for name in states[0].tensors}
        self.begun = steps.pop()
        self.ensemble.restore(self.begun, stacked, states[0].values["loss_count"])
        self.records = [[dict(record) for record in state.records] for state in states]
        self.diverged = [bool(state.values["diverged"]) for state in states]
        self.seconds = max(float(state.values["seconds"]) for state in states)

    def run(
        self,
        on_event: OnEvent | None,
        should_stop: Callable[[], bool] | None,
        on_progress: OnProgress | None,
        on_checkpoint: OnCheckpoint | None,
        every: float,
    ) -> list[Result]:
        stopped = False
        seen = max((records[-1]["step"] for records in self.records if records), default=-1)
        looks = set(eval_steps(self.probes[0]))
        for target in sorted(looks | self.checkpoint_steps):
            if target <= seen or target < self.begun or target > self.ensemble.steps:
                continue
            stopped = self._advance(target, should_stop, on_progress, on_checkpoint, every)
            if stopped:
                break
            if target in looks:
                self._evaluate(on_event)
            if on_checkpoint is not None and target in self.checkpoint_steps:
                on_checkpoint(self._checkpoints())
            if all(self.diverged):
                break
        states = self._checkpoints() if stopped else None
        if stopped:  # a last look, after the checkpoint: a resumed run must not find its sums taken
            self._evaluate(on_event)
        return self._results(stopped, states)

    def _advance(
        self,
        target: int,
        should_stop: Callable[[], bool] | None,
        on_progress: OnProgress | None,
        on_checkpoint: OnCheckpoint | None,
        every: float,
    ) -> bool:
        """Train to step `target` in slices of about `_TICK` seconds; True if asked to stop on the way."""
        ensemble = self.ensemble
        tokens = sum(probe.batch_tokens for probe in self.probes)
        stride = 1
        while ensemble.step < target:
            if should_stop is not None and should_stop():
                return True
            start, before = time.perf_counter(), ensemble.step
            ensemble.advance(min(target, ensemble.step + stride))
            if self.backend.device.type == "cuda":
                torch.cuda.synchronize(self.backend.device)
            spent = time.perf_counter() - start
            self.seconds += spent
            rate = tokens * (ensemble.step - before) / spent
            stride = max(1, min(2 * stride, round(stride * _TICK / spent)))
            if on_checkpoint is not None and time.monotonic() - self.saved >= every:
                on_checkpoint(self._checkpoints())
                self.saved = time.monotonic()
            if on_progress is not None:
                on_progress(ensemble.step / ensemble.steps, rate)
        return False

    def _checkpoints(self) -> list[Checkpoint]:
        """Where every member stands, copied to the CPU."""
        state = {name: tensor.detach().cpu() for name, tensor in self.ensemble.state().items()}
        count = self.ensemble.loss_count
        return [
            Checkpoint(
                self.ensemble.step,
                tuple(dict(record) for record in self.records[index]),
                {name: tensor[index].clone() for name, tensor in state.items()},
                {"id": p.id, "diverged": self.diverged[index], "loss_count": count, "seconds": self.seconds},
            )
            for index, p in enumerate(self.probes)
        ]

    def _evaluate(self, on_event: OnEvent | None) -> None:
        step = self.ensemble.step
        train_loss = self.ensemble.take_train_loss()
        # TF32 is for training; what is reported is exact.
        exact = "highest" if self.backend.matmul == "high" else self.backend.matmul
        with numerics(exact):
            metrics = {name: values.tolist() for name, values in self.ensemble.evaluate().items()}
            self.ensemble.weights.refresh()
            for measure in self.measures:
                metrics |= {name: values.tolist() for name, values in measure(self.ensemble).items()}
        for index, probe in enumerate(self.probes):
            if self.diverged[index] or (self.records[index] and self.records[index][-1]["step"] == step):
                continue
            values = {name: column[index] for name, column in metrics.items()}
            if not (math.isfinite(values["loss"]) and math.isfinite(train_loss[index])):
                self.diverged[index] = True
                continue
            record = {
                "step": step,
                "tokens": step * probe.batch_tokens,
                "flops": probe.flops * (step / probe.steps),
                **values,
                "train_loss": train_loss[index] if step else None,
                "lr": float(self.ensemble.optimizer.lr[step - 1, index]) if step else None,
                "seconds": self.seconds,
            }
            self.records[index].append(record)
            if on_event is not None:
                on_event(index, dict(record))

    def _results(self, stopped: bool, states: list[Checkpoint] | None) -> list[Result]:
        provenance = self._provenance()
        rows, snapshots = self.ensemble.weights.rows(), self._snapshots()
        status = "stopped" if stopped else "finished"
        return [
            Result(
                probe, "diverged" if diverged else status, tuple(records),
                {**provenance, **self.ensemble.data.facts(index)}, row,
                states[index] if states else None, snapshots[index] if snapshots is not None else None,
            )
            for index, (probe, diverged, records, row) in enumerate(
                zip(self.probes, self.diverged, self.records, rows, strict=True)
            )
        ]  # fmt: skip

    def _snapshots(self) -> torch.Tensor | None:
        """What post-hoc averages are made from, [E, points, widths, size], copied to the CPU."""
        kept = self.ensemble.optimizer.post_hoc
        return None if kept is None else kept.slots["snapshots"][..., : self.ensemble.weights.size].cpu().clone()

    def _provenance(self) -> dict[str, Any]:
        device = self.backend.device
        trained = self.ensemble.step * sum(probe.batch_tokens for probe in self.probes)
        return {
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
            "torch": torch.__version__,
            "cuda": torch.version.cuda if device.type == "cuda" else None,
            "matmul": self.backend.matmul,
            "threads": self.backend.threads,
            "fused_attention": self.backend.fused_attention,
            "backend_measured": dict(self.backend.measured),
            "compiled": self.compile,
            "stacked": len(self.probes),
            "tokens_per_second": trained / self.seconds if self.seconds else None,
        }


def _bucket(probes: Sequence[Probe]) -> tuple[Probe, ...]:
    if isinstance(probes, Probe):
        raise TypeError("train() takes a list of probes; write train([probe]).")
    probes = tuple(probes)
    if not probes:
        raise ValueError("train() needs at least one probe; got none.")
    for probe in probes:
        if not isinstance(probe, Probe):
            raise TypeError(f"train() takes probes; got {type(probe).__name__}. Build each with Probe(...).")
    if len({probe.shape for probe in probes}) > 1:
        raise ValueError(
            "These probes differ in shape; train one bucket of Sweep.buckets() at a time, or train_sweep()."
        )
    return probes
