"""What a sweep will cost before it is started: seconds, memory, FLOPs, and what binds it.

One training step of each bucket is run once on torch's ``meta`` device, where tensors have shapes and no
numbers: every operation it would launch is counted, with its FLOPs and the bytes it moves. A short
calibration of the machine turns the counts into seconds by a roofline for every operation,
``host + max(launch, bytes / bandwidth, FLOPs / rate)``. So any model, task and optimizer is priced, also
those that are written later. Runs that have finished correct the machine's constants (`Machine.refit`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pandas as pd
import torch

from workbench.probes.backend import numerics, select_device
from workbench.probes.counting import count_prediction, count_step
from workbench.probes.machine import TERMS, Machine, calibrate
from workbench.probes.result import Result
from workbench.probes.spec import Probe
from workbench.probes.sweep import Sweep
from workbench.probes.trainer import eval_steps

__all__ = ["Cost", "price", "refit"]

#: Share of a device's memory that a stack may plan to fill.
_FILL = 0.8
#: Training tokens that are drawn to time the drawing.
_DRAWN = 2**14


@dataclass(frozen=True)
class Cost:
    """The price of a sweep.

    Attributes:
        buckets: a frame with one row a bucket: model, params, tokens (of one run), runs (members), stacks
            (how many a bucket is cut into to fit the memory), seconds (in all), training (seconds of it, as the
            records of runs count them: with drawing the data, without evaluation), evaluation (seconds of it),
            memory_gib, flops, binding.
        machine: what it was priced for.
        slots: buckets that run side by side (GPUs, or CPU cores).
    """

    buckets: pd.DataFrame
    machine: Machine
    slots: int = 1

    @property
    def seconds(self) -> float:
        """Wall-clock seconds with all slots busy: the longer of total over slots, and the longest bucket."""
        each = self.buckets["seconds"]
        return float(max(each.sum() / self.slots, each.max()))

    @property
    def flops(self) -> float:
        """Training FLOPs of all runs."""
        return float(self.buckets["flops"].sum())

    @property
    def memory(self) -> float:
        """Largest memory of a stack, bytes."""
        return float(self.buckets["memory_gib"].max() * 2**30)

    def __str__(self) -> str:
        runs, slots = int(self.buckets["runs"].sum()), "" if self.slots == 1 else f", {self.slots} side by side"
        return (
            f"{runs} runs in {len(self.buckets)} buckets on {self.machine.device}{slots}: about "
            f"{_duration(self.seconds)}, {self.flops:.2g} FLOP, at most {self.memory / 2**30:.2g} GiB\n"
            f"{self.buckets.to_string(index=False, float_format='{:.3g}'.format)}"
        )

    __repr__ = __str__

    def to_dict(self) -> dict[str, Any]:
        """As JSON: totals, and the buckets as a list of objects."""
        totals = {"seconds": self.seconds, "flops": self.flops, "memory_bytes": self.memory, "slots": self.slots}
        return {"device": self.machine.device, **totals, "buckets": self.buckets.to_dict(orient="records")}

    def _repr_html_(self) -> str:
        table = self.buckets.to_html(index=False, float_format="{:.3g}".format, border=0, escape=True)
        return f"<p>{str(self).splitlines()[0]}</p>{table}"


def price(
    sweep: Sweep, device: str | None = None, *, machine: Machine | None = None, slots: int = 1, compile: bool = False
) -> Cost:
    """Predict what `sweep` costs on this machine.

    Args:
        sweep: the probes; nothing is trained.
        device: ``auto`` (default), ``cpu``, ``cuda``, ...
        machine: constants to price with, as `refit` gives them; left out, this machine is calibrated
            (under a second, once a process and precision).
        slots: buckets that run side by side.
        compile: price the compiled step, in which elementwise operations are fused.

    Raises:
        ValueError: the device is not there, or slots is below 1.
    """
    if slots < 1:
        raise ValueError(f"slots={slots} must be at least 1: the number of buckets that run side by side.")
    rows = []
    for positions in sweep.buckets():
        probe, members = sweep[positions[0]], len(positions)
        used = machine or calibrate(device, probe.precision)
        one = count_step(probe, members, used.is_cuda)
        stacks = max(1, math.ceil(one.memory / (_FILL * used.memory)))
        each = math.ceil(members / stacks)
        if stacks > 1:
            one = count_step(probe, each, used.is_cuda)
        parts = used.seconds(one)
        data = _around(probe, str(select_device(device)))
        training = (sum(parts.values()) + each * data.draw) * probe.steps
        prediction = sum(used.seconds(count_prediction(probe, each, used.is_cuda)).values())
        evaluation = (data.batches * prediction + each * data.score) * len(eval_steps(probe))
        rows.append(
            {
                "model": probe.model,
                "params": probe.params,
                "tokens": probe.tokens,
                "runs": members,
                "stacks": stacks,
                "seconds": (training + evaluation) * stacks,
                "training": training * stacks,
                "evaluation": evaluation * stacks,
                "memory_gib": one.memory / 2**30,
                "flops": sum(sweep[i].flops for i in positions),
                "binding": max(TERMS, key=parts.get),
            }
        )
    return Cost(pd.DataFrame(rows), used, slots)


def refit(machine: Machine, finished: Iterable[Result | tuple[Probe, int, float]]) -> Machine:
    """The machine corrected by finished stacks; give it to `price`. Nothing is stored.

    Args:
        machine: what was calibrated (`workbench.probes.machine.calibrate`).
        finished: results of `train`, or ``(a member, number of members, seconds of training)``. Of a stack's results
            one is enough; all of them count it as often. Results that stopped early count with the steps they did;
            those without records are left out.

    Raises:
        ValueError: nothing usable is left.
    """
    measured = []
    for one in finished:
        if isinstance(one, Result):
            last = one.records[-1] if one.records else {"step": 0}
            probe, members, steps = one.probe, int(one.provenance["stacked"]), last["step"]
            seconds = last.get("seconds", 0.0)
        else:
            probe, members, seconds = one
            steps = probe.steps
        if steps > 0:
            data = _around(probe, "cuda" if machine.is_cuda and torch.cuda.is_available() else "cpu")
            # at least a tenth is the step's, however slow the drawing looked when it was timed
            step = max(seconds / steps - members * data.draw, 0.1 * seconds / steps)
            measured.append((count_step(probe, members, machine.is_cuda), step))
    return machine.refit(measured)


@dataclass(frozen=True)
class _Around:
    """What one member's data cost: seconds to draw a step's batch and to score one evaluation's predictions, and the
    positions of an evaluation in training batches.
    """

    draw: float
    score: float
    batches: float


def _around(probe: Probe, device: str) -> _Around:
    # seeds, learning rates and horizons change nothing here; sizes of the model do not reach the data
    return _timed_data(probe.replace(seed=0, lr=1e-3), device)


@lru_cache(maxsize=256)
def _timed_data(probe: Probe, device: str) -> _Around:
    """Timed on one member, with predictions that cost nothing."""
    place = torch.device(device)
    clock = time.perf_counter if place.type == "cuda" else time.process_time
    task, asked = probe.task_settings, 0

    def predict(x: torch.Tensor) -> torch.Tensor:
        nonlocal asked
        asked += math.prod(x.shape[1:2]) * (x.shape[2] if task.inputs.kind in ("tokens", "sequences") else 1)
        positions = x.shape[2:3] if task.inputs.kind in ("tokens", "sequences") else ()
        return torch.zeros(1, x.shape[1], *positions, task.outputs, device=place)

    with numerics("highest", None if place.type == "cuda" else 1):
        data = task.build([probe], place)
        count = max(1, min(probe.steps, _DRAWN // probe.batch_tokens))
        draw = score = math.inf
        for _ in range(2):  # the first time fills caches
            start = clock()
            data.block(0, count)
            draw = min(draw, (clock() - start) / count)
            asked, start = 0, clock()
            data.evaluate(predict)  # its metrics come to the CPU, so it has ended
            score = min(score, clock() - start)
    each = task.inputs.context if task.inputs.kind in ("tokens", "sequences") else 1
    return _Around(draw, score, asked / (probe.batch * each))


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.2g} min" if seconds < 5400 else f"{seconds / 3600:.2g} h"
