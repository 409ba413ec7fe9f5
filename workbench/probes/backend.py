"""Where and how matrix products run: device, threads, and the float32 matmul path, restored afterwards."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

import torch

from workbench.probes.spec import Probe

__all__ = ["Backend", "choose_backend", "numerics", "select_device"]

#: Below this width a step is many tiny kernels: a second thread only waits at barriers (up to 50 times
#: slower when anything else runs), and one-member stacks gain nothing from oneDNN's matmul path.
_WIDE = 256
_ONEDNN_WIDTH = 64
_FUSED_CONTEXT = 128
#: Threads are used where they at least speed a product up so much.
_THREADS_PAY = 1.4
#: Speed of bfloat16 over float32 products below which it is worth a warning.
_EMULATED = 1 / 3


@dataclass(frozen=True)
class Backend:
    """How a bucket is trained; recorded with every result.

    Attributes:
        device: the torch device.
        matmul: torch's float32 matmul precision during training: ``highest``, ``high`` (TF32), ``medium``.
        threads: CPU threads during training, or None to leave the setting alone.
        fused_attention: torch's fused attention kernel instead of batched products.
        measured: what the choice rests on, where something was measured (some 20 ms, once a process): speed and
            error of the matmul path ``medium`` against ``highest``, speed of all threads against one, of bfloat16
            products against float32 ones.
    """

    device: torch.device
    matmul: str
    threads: int | None
    fused_attention: bool
    measured: dict[str, float] = field(default_factory=dict, compare=False)


def select_device(device: str | torch.device | None = "auto") -> torch.device:
    """``auto`` (or None) is the current CUDA device if there is one, else the CPU; other names are checked.

    Raises:
        ValueError: the device is unknown, or not on this machine.
    """
    if device is None or device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device={device!r} is not a device; use 'auto', 'cpu', 'cuda' or 'cuda:1'.") from error
    if chosen.type not in ("cpu", "cuda"):
        raise ValueError(f"device={device!r} is not supported; use 'auto', 'cpu', 'cuda' or 'cuda:1'.")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device={device!r} is not on this machine, which has {torch.cuda.device_count()} CUDA devices."
        )
    return chosen


def choose_backend(probe: Probe, device: torch.device) -> Backend:
    """The backend of a bucket: a function of its shape and of this machine, never of how many are stacked.

    Raises:
        ValueError: TF32 was asked for on a CPU.
    """
    if device.type == "cuda":
        matmul = "high" if probe.precision == "tf32" else "highest"
        # torch's fused float32 attention is not IEEE float32 throughout, so fp32 keeps the plain products
        return Backend(device, matmul, None, fused_attention=probe.precision != "fp32")
    if probe.precision == "tf32":
        raise ValueError("precision='tf32' needs a CUDA device; use precision='fp32' on a CPU.")
    width, context = getattr(probe, "width", 0), probe.task_settings.inputs.context  # models without width are small
    measured: dict[str, float] = {}
    matmul, threads, fused = "highest", 1, context > _FUSED_CONTEXT
    if probe.precision == "fp32" and width >= _ONEDNN_WIDTH and not fused:
        measured |= _onednn()
        # The margin keeps a noisy machine from choosing differently in two processes.
        if measured["medium_error"] < 1e-6 and measured["medium_speed"] > 1 / 0.75:
            matmul = "medium"
    if width >= _WIDE and torch.get_num_threads() > 1:
        measured["threads_speed"] = _threads_speed(torch.get_num_threads())
        threads = None if measured["threads_speed"] > _THREADS_PAY else 1  # bits do not depend on it
    if probe.precision == "bf16":
        measured["bf16_speed"] = _bf16_speed()
        if measured["bf16_speed"] < _EMULATED:
            warnings.warn(
                f"this CPU computes bfloat16 products at {measured['bf16_speed']:.2g} times the speed of float32; "
                "use precision='fp32' unless bfloat16 itself is the question.",
                stacklevel=3,
            )
    return Backend(device, matmul, threads, fused, measured)


@contextlib.contextmanager
def numerics(matmul: str, threads: int | None = None) -> Iterator[None]:
    """Torch's global matmul precision and thread count inside the block; what was set before comes back."""
    matmul_before, threads_before = torch.get_float32_matmul_precision(), torch.get_num_threads()
    try:
        torch.set_float32_matmul_precision(matmul)
        if threads is not None:
            torch.set_num_threads(threads)
        yield
    finally:
        torch.set_float32_matmul_precision(matmul_before)
        torch.set_num_threads(threads_before)


@lru_cache(maxsize=1)
def _onednn() -> dict[str, float]:
    """What matmul precision 'medium' does on this CPU: its speed over 'highest', and its relative error.

    'medium' sends float32 products to oneDNN. On AVX-512 without AMX it computes in float32, about twice
    as fast as MKL on AMD; with AMX it would round the inputs to bfloat16, which the error tells.
    """
    a, b = _factors()
    exact = torch.bmm(a.double(), b.double())
    seconds, error = {}, 1.0
    for matmul in ("highest", "medium"):
        with numerics(matmul, threads=1):
            error = float((torch.bmm(a, b) - exact).norm() / exact.norm())
            seconds[matmul] = _best(a, b)
    return {"medium_speed": seconds["highest"] / seconds["medium"], "medium_error": error}


@lru_cache(maxsize=8)
def _threads_speed(threads: int) -> float:
    """How many times faster a product is on so many threads than on one, both as fast as they get just now."""
    a, b = _factors()
    seconds = {}
    for count in (1, threads):
        with numerics("highest", threads=count):
            seconds[count] = _best(a, b)
    return seconds[1] / seconds[threads]


@lru_cache(maxsize=1)
def _bf16_speed() -> float:
    """Speed of bfloat16 products over float32 ones; far below 1 where the CPU emulates them."""
    a, b = _factors()
    with numerics("highest", threads=1):
        low = _best(a.bfloat16()[:, :128], b.bfloat16()) * a.shape[1] / 128  # few rows: emulation is slow
        return _best(a, b) / low


def _factors() -> tuple[torch.Tensor, torch.Tensor]:
    """Factors of a product as a step of a model 128 wide has it, the same every time."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, 1024, 128, generator=generator), torch.randn(1, 128, 512, generator=generator)


def _best(a: torch.Tensor, b: torch.Tensor) -> float:
    """Seconds of the product a b, the best of six after a first one that libraries prepare themselves in."""
    torch.bmm(a, b)
    laps = []
    for _ in range(6):
        start = time.perf_counter()
        torch.bmm(a, b)
        laps.append(time.perf_counter() - start)
    return min(laps)
