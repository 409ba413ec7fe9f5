"""What a sweep will cost before it is started: seconds, memory, FLOPs, and what binds it.

One training step of each bucket is run once on torch's ``meta`` device, where tensors have shapes and no
numbers: every operation it would launch is counted, with its FLOPs and the bytes it moves. A short
calibration of the machine turns the counts into seconds by a roofline for every operation,
``host + max(launch, bytes / bandwidth, FLOPs / rate)``. So any model, task and optimizer is priced, also
those that are written later. Runs that have finished correct the machine's constants (`Machine.refit`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from workbench.probes.counting import count_step
from workbench.probes.machine import TERMS, Machine, calibrate
from workbench.probes.spec import Probe
from workbench.probes.sweep import Sweep

__all__ = ["Cost", "price"]

#: Share of a device's memory that a stack may plan to fill.
_FILL = 0.8


@dataclass(frozen=True)
class Cost:
    """The price of a sweep.

    Attributes:
        buckets: a frame with one row a bucket: model, params, tokens (of one run), runs (members), stacks
            (how many a bucket is cut into to fit the memory), seconds, memory_gib, flops, binding.
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
        machine: constants to price with, as `Machine.refit` gives them; left out, this machine is calibrated
            (under a second, once a process and precision).
        slots: buckets that run side by side.
        compile: price the compiled step, in which elementwise operations are fused.

    Raises:
        ValueError: the device is not there.
    """
    rows = []
    for positions in sweep.buckets():
        probe, members = sweep[positions[0]], len(positions)
        used = machine or calibrate(device, probe.precision)
        one = count_step(probe, members, used.is_cuda)
        stacks = max(1, math.ceil(one.memory / (_FILL * used.memory)))
        if stacks > 1:
            one = count_step(probe, math.ceil(members / stacks), used.is_cuda)
        parts = used.seconds(one)
        rows.append(
            {
                "model": probe.model,
                "params": probe.params,
                "tokens": probe.tokens,
                "runs": members,
                "stacks": stacks,
                "seconds": sum(parts.values()) * probe.steps * stacks,
                "memory_gib": one.memory / 2**30,
                "flops": sum(sweep[i].flops for i in positions),
                "binding": max(TERMS, key=parts.get),
            }
        )
    return Cost(pd.DataFrame(rows), used, slots)


def refit(machine: Machine, finished: Iterable[tuple[Probe, int, float]]) -> Machine:
    """The machine corrected by finished stacks: ``(a member, number of members, seconds of training)``."""
    return machine.refit([(count_step(p, e, machine.is_cuda), seconds / p.steps) for p, e, seconds in finished])


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.2g} min" if seconds < 5400 else f"{seconds / 3600:.2g} h"
