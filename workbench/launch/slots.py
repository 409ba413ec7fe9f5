"""Slots: shares of this machine's GPUs and cores, booked machine-wide by locks.

A GPU is divided into `SHARES` equal shares, a worker that is one of k on its GPU books ``SHARES // k`` of
them. So a queue that gives a GPU to one worker and a queue that gives it to four never overbook it. A core
is one share.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from workbench.launch.locks import Lock, runtime_folder

__all__ = ["GPU", "SHARES", "Booking", "Slots", "book", "cores", "find_gpus"]

#: Shares of a GPU, so that 1, 2, 3, 4, 6 or 12 workers use it without a rest.
SHARES = 12


@dataclass(frozen=True)
class GPU:
    """One GPU, or one MIG slice.

    Attributes:
        uuid: as ``nvidia-smi -L`` prints it, e.g. ``GPU-8f7c...``; names the same chip in every process,
            which an index does not.
        memory: bytes.
    """

    uuid: str
    memory: int


@dataclass(frozen=True)
class Slots:
    """Where the workers of one queue may run.

    Attributes:
        device: ``cuda`` or ``cpu``.
        gpus: the GPUs, for ``cuda``.
        per_gpu: workers on each of them, a divisor of `SHARES`.
        cores: numbers of the cores, for ``cpu``.
        threads: cores that one worker takes.
    """

    device: str
    gpus: tuple[GPU, ...] = ()
    per_gpu: int = 1
    cores: tuple[int, ...] = ()
    threads: int = 1

    def __post_init__(self) -> None:
        if self.per_gpu < 1 or SHARES % self.per_gpu:
            raise ValueError(f"per_gpu={self.per_gpu} does not divide a GPU evenly; choose 1, 2, 3, 4, 6 or {SHARES}")
        if self.device == "cuda" and not self.gpus:
            raise ValueError("device='cuda' finds no GPU on this machine; use device='cpu'")
        if self.device == "cpu" and not 1 <= self.threads <= max(1, len(self.cores)):
            raise ValueError(f"threads={self.threads} does not fit the {len(self.cores)} cores of this queue")

    def __len__(self) -> int:
        """How many workers can run at once."""
        return len(self.gpus) * self.per_gpu if self.device == "cuda" else len(self.cores) // self.threads

    @property
    def memory(self) -> int | None:
        """Bytes of GPU memory that one worker may use, on the smallest GPU; None on CPUs."""
        return min(gpu.memory for gpu in self.gpus) // self.per_gpu if self.device == "cuda" else None

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping) -> Slots:
        return cls(**{**data, "gpus": tuple(GPU(**gpu) for gpu in data["gpus"]), "cores": tuple(data["cores"])})


@dataclass
class Booking:
    """A slot that is held: its locks, and what the worker in it is told.

    Attributes:
        place: for people, e.g. ``GPU-8f7c2a10`` or ``core 3``.
        environment: variables that confine a process to the slot.
        locks: what is held; given to the worker, so that the slot is taken as long as any of its processes lives.
    """

    place: str
    environment: dict[str, str]
    locks: list[Lock]

    @property
    def descriptors(self) -> tuple[int, ...]:
        return tuple(lock.descriptor for lock in self.locks)

    def release(self) -> None:
        for lock in self.locks:
            lock.release()


def book(slots: Slots) -> Booking | None:
    """A free slot, on the GPU with the most room; None if all are taken.

    Raises:
        OSError: the machine-wide locks cannot be made.
    """
    runtime = runtime_folder()
    if slots.device == "cuda":
        wanted = SHARES // slots.per_gpu
        resources = {gpu.uuid: [f"gpu-{gpu.uuid}-{share}" for share in range(SHARES)] for gpu in slots.gpus}
    else:
        wanted = slots.threads
        resources = {"cpu": [f"core-{core}" for core in slots.cores]}
    best: tuple[str, list[Lock]] = ("", [])
    # One at a time, so that two who each hold half of what they need do not both go away empty-handed.
    with Lock.wait(runtime / "booking.lock"):
        for name, shares in resources.items():
            free = [lock for share in shares if (lock := Lock.attempt(runtime / f"{share}.lock")) is not None]
            if len(free) >= wanted and len(free) > len(best[1]):
                best, free = (name, free), best[1]
            for lock in free:
                lock.release()
        for lock in best[1][wanted:]:
            lock.release()
    name, locks = best[0], best[1][:wanted]
    if not locks:
        return None
    threads = {key: str(slots.threads) for key in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    if slots.device == "cuda":
        return Booking(name[:12], {"CUDA_VISIBLE_DEVICES": name}, locks)
    numbers = [lock.path.stem.removeprefix("core-") for lock in locks]
    return Booking(f"core {'+'.join(numbers)}", {"CUDA_VISIBLE_DEVICES": "", **threads}, locks)


def cores() -> tuple[int, ...]:
    """Numbers of the cores this process may use, no more than its control group grants time for."""
    try:
        numbers = sorted(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        numbers = list(range(os.cpu_count() or 1))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        numbers = numbers[: max(1, int(quota) // int(period))]
    except (OSError, ValueError):  # no such file, or the quota is "max"
        pass
    return tuple(numbers)


def find_gpus(chosen: Sequence[str | int] | None = None) -> tuple[GPU, ...]:
    """This machine's GPUs, by ``nvidia-smi``, or by torch in a process of its own.

    CUDA is not started in this process. ``CUDA_VISIBLE_DEVICES`` is respected.

    Args:
        chosen: UUIDs (or beginnings of them) or positions; default all that are visible.

    Raises:
        ValueError: `chosen` names a GPU that is not there.
    """
    found = _smi() or _torch()
    if chosen is None and (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        names = [name.strip() for name in visible.split(",") if name.strip()]
        picked = [_match(name, found) for name in names]
        # CUDA ignores everything from the first name on that it does not know
        return tuple(picked[: picked.index(None)] if None in picked else picked)
    if chosen is None:
        return found
    picked = [_match(str(name), found) for name in chosen]
    if None in picked:
        there = ", ".join(gpu.uuid for gpu in found) or "none"
        raise ValueError(f"gpus= names {chosen[picked.index(None)]!r}; this machine has {there}")
    return tuple(dict.fromkeys(picked))


def _match(name: str, gpus: Sequence[GPU]) -> GPU | None:
    if name.isdigit():
        return gpus[int(name)] if int(name) < len(gpus) else None
    return next((gpu for gpu in gpus if gpu.uuid.startswith(name)), None)


def _smi() -> tuple[GPU, ...]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    query = [program, "--query-gpu=uuid,memory.total", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(query, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()
        rows = [line.split(",") for line in lines if line.strip()]
        return tuple(GPU(uuid.strip(), int(float(memory) * 2**20)) for uuid, memory in rows)
    except (OSError, ValueError, subprocess.SubprocessError):
        return ()


_ASK = """
import torch
for i in range(torch.cuda.device_count()):
    found = torch.cuda.get_device_properties(i)
    print(f"GPU-{found.uuid},{found.total_memory}")
"""


def _torch() -> tuple[GPU, ...]:
    """For machines with a driver but no ``nvidia-smi``; seconds, so only where there is a driver."""
    if not Path("/proc/driver/nvidia").exists():
        return ()
    environment = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
    try:
        asked = subprocess.run(
            [sys.executable, "-c", _ASK], capture_output=True, text=True, timeout=120, check=True, env=environment
        )
        rows = [line.split(",") for line in asked.stdout.split()]
        return tuple(GPU(uuid, int(memory)) for uuid, memory in rows)
    except (OSError, ValueError, subprocess.SubprocessError):
        return ()
