"""`train` trains the probes of one bucket as one stack; `train_sweep` goes over the buckets of a sweep."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from workbench.probes.backend import Backend, choose_backend, numerics, select_device
from workbench.probes.ensemble import Ensemble
from workbench.probes.result import Result
from workbench.probes.spec import Probe, Sweep
from workbench.units import FLOPS_PER_PARAM_TOKEN

__all__ = ["eval_steps", "train", "train_sweep"]

OnEvent = Callable[[int, dict[str, Any]], None]
OnProgress = Callable[[float, float], None]

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
) -> list[Result]:
    """Train probes of equal shape as one stack and return their results, in order.

    On a CPU in fp32 and bf16 each member's losses and weights are bit for bit those of the same probe
    trained alone, whatever its neighbours.

    Args:
        probes: one bucket: probes of equal `Probe.shape` (see `Sweep.buckets`).
        device: ``auto`` (default), ``cpu``, ``cuda``, ...
        on_event: called as on_event(index, record) for every member at every evaluation point.
        should_stop: asked about ten times a second; when it says True, training ends with what there is.
        on_progress: called about ten times a second as on_progress(fraction, tokens per second of all members).
        compile: torch.compile the forward pass and the optimizer; worth its minute on long CUDA runs only.

    Raises:
        TypeError: an entry is not a probe.
        ValueError: no probes, probes of different shapes, or a device or precision this machine lacks, or
            `compile` on a CPU.
    """
    probes = _bucket(probes)
    backend = choose_backend(probes[0], select_device(device))
    if compile and backend.device.type != "cuda":
        raise ValueError("compile=True needs a CUDA device; on a CPU leave it out.")
    with numerics(backend.matmul, backend.threads):
        return _Training(probes, backend, compile).run(on_event, should_stop, on_progress)


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
        self.records: list[list[dict[str, Any]]] = [[] for _ in probes]
        self.diverged = [False] * len(probes)
        self.seconds = 0.0

    def run(
        self, on_event: OnEvent | None, should_stop: Callable[[], bool] | None, on_progress: OnProgress | None
    ) -> list[Result]:
        stopped = False
        for target in eval_steps(self.probes[0]):
            stopped = self._advance(target, should_stop, on_progress)
            self._evaluate(on_event)
            if stopped or all(self.diverged):
                break
        return self._results(stopped)

    def _advance(self, target: int, should_stop: Callable[[], bool] | None, on_progress: OnProgress | None) -> bool:
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
            if on_progress is not None:
                on_progress(ensemble.step / ensemble.steps, rate)
        return False

    def _evaluate(self, on_event: OnEvent | None) -> None:
        step = self.ensemble.step
        train_loss = self.ensemble.take_train_loss()
        # TF32 is for training; what is reported is exact.
        exact = "highest" if self.backend.matmul == "high" else self.backend.matmul
        with numerics(exact):
            metrics = {name: values.tolist() for name, values in self.ensemble.evaluate().items()}
        for index, probe in enumerate(self.probes):
            if self.diverged[index] or (self.records[index] and self.records[index][-1]["step"] == step):
                continue
            values = {name: column[index] for name, column in metrics.items()}
            if not (all(map(math.isfinite, values.values())) and math.isfinite(train_loss[index])):
                self.diverged[index] = True
                continue
            tokens = step * probe.batch_tokens
            record = {
                "step": step,
                "tokens": tokens,
                "flops": FLOPS_PER_PARAM_TOKEN * probe.params * tokens,
                **values,
                "train_loss": train_loss[index] if step else None,
                "lr": float(self.ensemble.optimizer.lr[step - 1, index]) if step else None,
                "seconds": self.seconds,
            }
            self.records[index].append(record)
            if on_event is not None:
                on_event(index, dict(record))

    def _results(self, stopped: bool) -> list[Result]:
        provenance = self._provenance()
        rows = self.ensemble.model.weights.rows()
        status = "stopped" if stopped else "finished"
        return [
            Result(probe, "diverged" if diverged else status, tuple(records), dict(provenance), row)
            for probe, diverged, records, row in zip(self.probes, self.diverged, self.records, rows, strict=True)
        ]

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
