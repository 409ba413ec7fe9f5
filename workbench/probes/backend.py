"""Where and how matrix products run: device, threads, and the float32 matmul path, restored afterwards."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch

from workbench.probes.spec import Probe

__all__ = ["Backend", "choose_backend", "numerics", "select_device"]

#: Below this width a step is many tiny kernels: a second thread only waits at barriers (up to 50 times
#: slower when anything else runs), and one-member stacks gain nothing from oneDNN's matmul path.
_WIDE = 256
_ONEDNN_WIDTH = 64
_FUSED_CONTEXT = 128


@dataclass(frozen=True)
class Backend:
    """How a bucket is trained; recorded with every result.

    Attributes:
        device: the torch device.
        matmul: torch's float32 matmul precision during training: ``highest``, ``high`` (TF32), ``medium``.
        threads: CPU threads during training, or None to leave the setting alone.
        fused_attention: torch's fused attention kernel instead of batched products.
    """

    device: torch.device
    matmul: str
    threads: int | None
    fused_attention: bool


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
    fast = probe.precision == "fp32" and width >= _ONEDNN_WIDTH and context <= _FUSED_CONTEXT
    threads = 1 if width < _WIDE else None
    matmul = "medium" if fast and _onednn_pays() else "highest"
    return Backend(device, matmul, threads, fused_attention=context > _FUSED_CONTEXT)


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
def _onednn_pays() -> bool:
    """Whether 'medium' is faster on this CPU *and* still float32-exact; some 20 ms, once a process.

    'medium' sends float32 products to oneDNN. On AVX-512 without AMX it computes in float32, about twice
    as fast as MKL on AMD; with AMX it would round the inputs to bfloat16, which the error test refuses.
    """
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(1, 1024, 128, generator=generator)
    b = torch.randn(1, 128, 512, generator=generator)
    exact = torch.bmm(a.double(), b.double())
    seconds, error = {}, 1.0
    for matmul in ("highest", "medium"):
        with numerics(matmul, threads=1):
            error = float((torch.bmm(a, b) - exact).norm() / exact.norm())
            laps = []
            for _ in range(5):
                start = time.perf_counter()
                torch.bmm(a, b)
                laps.append(time.perf_counter() - start)
            seconds[matmul] = min(laps)
    # The margin keeps a noisy machine from choosing differently in two processes.
    return error < 1e-6 and seconds["medium"] < 0.75 * seconds["highest"]
