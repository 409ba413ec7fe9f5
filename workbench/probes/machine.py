"""`Machine`: what a device does in a second, measured in less than one, and corrected by finished runs."""

from __future__ import annotations

import dataclasses
import math
import os
import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from workbench.probes.backend import Backend, numerics, select_device
from workbench.probes.counting import Step, count_step
from workbench.probes.ensemble import Ensemble
from workbench.probes.spec import Probe

__all__ = ["TERMS", "Machine", "calibrate"]

#: What can bind: the interpreter that issues operations, the fixed price of a kernel, memory, arithmetic.
TERMS = ("host", "launch", "bytes", "FLOPs")

#: Smallest dimensions of the matrix products that are timed.
_INNER = (8, 16, 64, 256)
#: Shares of bandwidth and peak arithmetic that a step in the CUDA kernels reaches (arithmetic: at width 768).
_KERNEL_TRAFFIC, _KERNEL_ARITHMETIC = 0.6, 0.6


@dataclass(frozen=True)
class Machine:
    """A device in one precision.

    Attributes:
        device: its name.
        is_cuda: whether steps are replayed as graphs.
        memory: bytes it has.
        host: seconds to issue one operation (a graph's replay pays none).
        begin: seconds of a step before and beside its operations.
        launch: least seconds of one kernel beyond that.
        bandwidth: bytes a second of elementwise operations, by the bytes an operation moves (caches).
        functions: bytes a second of functions such as exp.
        rates: FLOPs a second of matrix products, by their smallest dimension.
        factors: what `refit` multiplies the seconds by: host and launch, bytes, FLOPs.
    """

    device: str
    is_cuda: bool
    memory: float
    host: float
    launch: float
    bandwidth: dict[int, float]
    functions: float
    rates: dict[int, float]
    factors: tuple[float, float, float] = (1.0, 1.0, 1.0)
    begin: float = 0.0

    def seconds(self, step: Step) -> dict[str, float]:
        """Seconds of one training step, split by what binds each of its operations (`TERMS`)."""
        fixed, by_bytes, by_flops = self.factors
        if step.width:
            return self._kernel_seconds(step)
        product = step.inner > 0
        arithmetic = np.where(product, step.flops / _between(self.rates, np.maximum(step.inner, 1)), 0.0)
        # a product's own traffic is in its measured rate
        speed = np.where(step.inner == -1, self.functions, _between(self.bandwidth, np.maximum(step.bytes, 1)))
        traffic = np.where(product, 0.0, step.bytes / speed)
        parts = np.stack([np.full(len(traffic), self.launch) * fixed, traffic * by_bytes, arithmetic * by_flops])
        binding, largest = parts.argmax(0), parts.max(0)
        found = {term: float(largest[binding == i].sum()) for i, term in enumerate(TERMS[1:])}
        return {"host": (self.host * len(traffic) + self.begin) * fixed, **found}

    def _kernel_seconds(self, step: Step) -> dict[str, float]:
        """A step in the CUDA kernels: the larger of its fused traffic and its arithmetic, each at a share of the peak.

        The two shares were chosen on H200 runs of widths 64, 128, 256, 512 and 768 (131, 32.7 and 11.3 M tokens/s,
        47.8 % and 60 % of peak arithmetic) and are within 12 % of all five.
        """
        _, by_bytes, by_flops = self.factors
        share = _KERNEL_ARITHMETIC * min(1.0, step.width / 768) ** 0.5
        traffic = float(step.bytes.sum()) / (_KERNEL_TRAFFIC * max(self.bandwidth.values())) * by_bytes
        arithmetic = float(step.flops.sum()) / (share * max(self.rates.values())) * by_flops
        found = {"host": 0.0, "launch": 0.0, "bytes": 0.0, "FLOPs": 0.0}
        return found | ({"bytes": traffic} if traffic > arithmetic else {"FLOPs": arithmetic})

    def refit(self, finished: Iterable[tuple[Step, float]]) -> Machine:
        """This machine with factors that explain measured steps: pairs (step, seconds a step).

        Non-negative least squares on relative errors, drawn towards the present factors, so that a term
        that no run has tested stays as it was.

        Raises:
            ValueError: there are no measurements.
        """
        from scipy.optimize import nnls

        base = dataclasses.replace(self, factors=(1.0, 1.0, 1.0))
        rows = []
        for step, seconds in finished:
            if not (math.isfinite(seconds) and seconds > 0):
                continue  # a run that took no time says nothing
            parts = base.seconds(step)
            rows.append(np.array([parts["host"] + parts["launch"], parts["bytes"], parts["FLOPs"]]) / seconds)
        if not rows:
            raise ValueError("refit needs at least one finished stack and its seconds above 0; got none.")
        pull = 0.1 * math.sqrt(len(rows))
        design = np.vstack([*rows, pull * np.eye(3)])
        factors = nnls(design, np.concatenate([np.ones(len(rows)), pull * np.array(self.factors)]))[0]
        return dataclasses.replace(self, factors=tuple(float(f) for f in np.maximum(factors, 0.02)))


def calibrate(device: str | torch.device | None = None, precision: str = "fp32") -> Machine:
    """Measure this machine, in under a second, once a process.

    Args:
        device: ``auto`` (default), ``cpu``, ``cuda``, ...
        precision: of matrix products, as in `Probe`; simulated formats compute in float32.

    Raises:
        ValueError: the device is not there.
    """
    return _calibrate(select_device(device), precision)


@lru_cache(maxsize=16)
def _calibrate(device: torch.device, precision: str) -> Machine:
    on_cuda = device.type == "cuda"
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    matmul = "high" if precision == "tf32" else "highest"
    with numerics(matmul, None if on_cuda else 1), torch.no_grad():
        bandwidth = {}
        for size in (2**25, 2**28) if on_cuda else (2**18, 2**20, 2**23, 2**25):
            x, y = torch.ones(2, size // 12, device=device)
            # the result is made anew, as in a step: on a CPU the system maps large ones page by page
            bandwidth[size] = size / _time(lambda x=x, y=y: torch.add(x, y), device)
        z = torch.ones((2**26 if on_cuda else 2**18) // 8, device=device)
        functions = z.numel() * 8 / _time(lambda: torch.exp(z), device)
        rates = {}
        for d in (*_INNER, 1024) if on_cuda else _INNER:
            n, e = (8192, 32 if d < 1024 else 1) if on_cuda else (512, 1)
            a = torch.randn(e, n, d, device=device, dtype=dtype)
            b = torch.randn(e, d, 4 * d, device=device, dtype=dtype)
            rates[d] = 2.0 * e * n * d * 4 * d / _time(lambda a=a, b=b: torch.bmm(a, b), device)
            if d < 64 and not on_cuda:  # half of such products are attention's, many small ones
                a, b = torch.randn(32, 32, d, dtype=dtype), torch.randn(32, d, 32, dtype=dtype)
                many = 2.0 * 32 * 32 * 32 * d / _time(lambda a=a, b=b: torch.bmm(a, b), device)
                rates[d] = 2 / (1 / rates[d] + 1 / many)
    if on_cuda:
        name, memory = torch.cuda.get_device_name(device), torch.cuda.get_device_properties(device).total_memory
        # in a replayed graph the interpreter is absent, and a tiny kernel costs about a microsecond
        return Machine(name, True, float(memory), 0.0, 1.2e-6, bandwidth, functions, rates)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    host, begin = _host()
    found = Machine(platform.machine(), False, float(memory), host, 0.0, bandwidth, functions, rates, begin=begin)
    # A loop over one operation finds its numbers in the cache; a step finds them where the last one left them,
    # which large products feel little of.
    size = {"vocab": 64, "context": 32, "batch_tokens": 512, "tokens": 5120, "width": 32, "evals": 1}
    probe = Probe(precision="bf16" if precision == "bf16" else "fp32", **size)
    parts = found.seconds(count_step(probe, 2, False))
    fixed = parts["host"] + parts["launch"]
    slower = float(np.clip((_step(probe, 2) - fixed) / (sum(parts.values()) - fixed), 0.5, 4.0))
    return dataclasses.replace(
        found, bandwidth={size: value / slower for size, value in bandwidth.items()}, functions=functions / slower,
        rates={d: rate / (slower if d < 64 else slower**0.25) for d, rate in rates.items()},
    )  # fmt: skip


def _host() -> tuple[float, float]:
    """Seconds that a CPU spends on one operation beside its numbers, autograd's share included, and on a step.

    From real steps of two models so small that they have hardly any numbers, one with few operations and one
    with many.
    """
    size = {"vocab": 8, "batch_tokens": 16, "tokens": 160, "width": 4, "evals": 1}
    few, many = Probe(context=4, **size), Probe(model="lstm", context=16, **size)
    counts = [len(count_step(probe, 1, False).flops) for probe in (few, many)]
    first, second = (_step(probe, 1) for probe in (few, many))
    each = max((second - first) / (counts[1] - counts[0]), 0.2 * first / counts[0])
    return each, max(0.0, first - each * counts[0])


def _step(probe: Probe, members: int) -> float:
    """Seconds of a training step of so many members on the CPU, without drawing its data."""
    with numerics("highest", 1):
        stack = Ensemble([probe] * members, Backend(torch.device("cpu"), "highest", 1, False))
        batch = stack.batch(0)

        def step() -> None:
            stack.weights.refresh()
            stack.weights.backward(stack.loss(*batch).sum())
            stack.optimizer.update()
            stack.optimizer.step.zero_()

        with torch.enable_grad():
            return _time(step, torch.device("cpu"), budget=0.05)


def _time(action: Callable[[], object], device: torch.device, budget: float = 0.02) -> float:
    """Seconds of one action: the median of the laps within the budget.

    On a CPU, where one thread computes, processor time: what else runs on the machine does not count.
    """
    clock = time.perf_counter if device.type == "cuda" else time.process_time

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    action()
    wait()
    laps, begun = [], time.perf_counter()
    while len(laps) < 3 or time.perf_counter() - begun < budget:
        start = clock()
        action()
        wait()
        laps.append(clock() - start)
    return max(sorted(laps)[len(laps) // 2], 1e-9)


def _between(table: dict[int, float], at: np.ndarray) -> np.ndarray:
    """Log-log interpolation in a table; constant beyond its ends."""
    return np.exp(np.interp(np.log(at), np.log(list(table)), np.log(list(table.values()))))
