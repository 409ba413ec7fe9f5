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

from workbench.probes.backend import numerics, select_device
from workbench.probes.counting import Step

__all__ = ["TERMS", "Machine", "calibrate"]

#: What can bind: the interpreter that issues operations, the fixed price of a kernel, memory, arithmetic.
TERMS = ("host", "launch", "bytes", "FLOPs")

#: Smallest dimensions of the matrix products that are timed.
_INNER = (16, 64, 256)


@dataclass(frozen=True)
class Machine:
    """A device in one precision.

    Attributes:
        device: its name.
        is_cuda: whether steps are replayed as graphs.
        memory: bytes it has.
        host: seconds to issue one operation (a graph's replay pays none).
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

    def seconds(self, step: Step) -> dict[str, float]:
        """Seconds of one training step, split by what binds each of its operations (`TERMS`)."""
        fixed, by_bytes, by_flops = self.factors
        product = step.inner > 0
        arithmetic = np.where(product, step.flops / _between(self.rates, np.maximum(step.inner, 1)), 0.0)
        # a product's own traffic is in its measured rate
        speed = np.where(step.inner == -1, self.functions, _between(self.bandwidth, np.maximum(step.bytes, 1)))
        traffic = np.where(product, 0.0, step.bytes / speed)
        parts = np.stack([np.full(len(traffic), self.launch) * fixed, traffic * by_bytes, arithmetic * by_flops])
        binding, largest = parts.argmax(0), parts.max(0)
        found = {term: float(largest[binding == i].sum()) for i, term in enumerate(TERMS[1:])}
        return {"host": self.host * fixed * len(traffic), **found}

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
            parts = base.seconds(step)
            rows.append(np.array([parts["host"] + parts["launch"], parts["bytes"], parts["FLOPs"]]) / seconds)
        if not rows:
            raise ValueError("refit needs at least one finished stack and its seconds; got none.")
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
        tiny = torch.ones(64, device=device)
        each = _time(lambda: tiny.add_(1.0), device, repeat=64)
        sizes = (2**25, 2**28) if on_cuda else (2**14, 2**20, 2**25)
        bandwidth = {}
        for size in sizes:
            x = torch.ones(size // 12, device=device)
            y = torch.ones_like(x)
            bandwidth[size] = size / max(1e-9, _time(lambda x=x, y=y: torch.add(x, y, out=x), device) - each)
        z = torch.ones((2**26 if on_cuda else 2**18) // 8, device=device)
        functions = z.numel() * 8 / _time(lambda: torch.exp(z, out=z).clamp_(max=1.0), device)
        rates = {}
        for d in _INNER:
            n = 8192 if on_cuda else 1024
            e = 32 if on_cuda else 1
            a = torch.randn(e, n, d, device=device, dtype=dtype)
            b = torch.randn(e, d, 4 * d, device=device, dtype=dtype)
            rates[d] = 2.0 * e * n * d * 4 * d / _time(lambda a=a, b=b: torch.bmm(a, b), device)
    if on_cuda:
        name, memory = torch.cuda.get_device_name(device), torch.cuda.get_device_properties(device).total_memory
        # in a replayed graph the interpreter is absent, and a tiny kernel costs about a microsecond
        return Machine(name, True, float(memory), 0.0, 1.2e-6, bandwidth, functions, rates)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    # half of an eager operation's price is the interpreter's and autograd's, which the bare loop does not show
    return Machine(platform.machine(), False, float(memory), 2 * each, 0.0, bandwidth, functions, rates)


def _time(action: Callable[[], object], device: torch.device, repeat: int = 1, budget: float = 0.04) -> float:
    """Seconds of one action: the best of some laps within the budget."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    action()
    wait()
    best, begun = math.inf, time.perf_counter()
    while time.perf_counter() - begun < budget:
        start = time.perf_counter()
        for _ in range(repeat):
            action()
        wait()
        best = min(best, (time.perf_counter() - start) / repeat)
    return best


def _between(table: dict[int, float], at: np.ndarray) -> np.ndarray:
    """Log-log interpolation in a table; constant beyond its ends."""
    return np.exp(np.interp(np.log(at), np.log(list(table)), np.log(list(table.values()))))
