"""How a probe ended: a kind that programs read, and one sentence that people read."""

from __future__ import annotations

import signal
from dataclasses import dataclass

__all__ = ["KINDS", "Verdict", "cancelled", "died", "failed", "finished", "lost", "out_of_memory", "says_out_of_memory"]

#: Every way to end.
KINDS = ("finished", "diverged", "cancelled", "out of memory", "crashed", "lost")


@dataclass(frozen=True)
class Verdict:
    """One ending.

    Attributes:
        state: of the run folder, one of `workbench.runs.store.STATES`.
        kind: one of `KINDS`.
        sentence: what happened, and what to do where something can be done.
    """

    state: str
    kind: str
    sentence: str

    @property
    def fields(self) -> dict[str, str]:
        """As they stand in ``status.json``."""
        return {"ended": self.kind, "verdict": self.sentence}


def finished(status: str, steps: int) -> Verdict:
    if status == "diverged":
        return Verdict(
            "diverged", "diverged", f"diverged: the loss left the numbers after step {steps}; try a lower lr"
        )
    return Verdict("finished", "finished", f"finished: all {steps} steps")


def cancelled(step: int | None, why: str = "") -> Verdict:
    where = "before its first checkpoint" if step is None else f"at step {step}"
    return Verdict("cancelled", "cancelled", f"cancelled {where}{why}; submit it again to go on from there")


def out_of_memory(device: str, members: int, detail: str = "") -> Verdict:
    alone = "by itself" if members == 1 else f"in a stack of {members}"
    hint = "make it smaller, or give the GPU to fewer workers" if device == "cuda" else "make it smaller"
    said = f" ({detail})" if detail else ""
    return Verdict("failed", "out of memory", f"out of memory: it does not fit {alone}{said}; {hint}")


def says_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out: torch raises different ones for GPUs and for the host."""
    # torch's error by name: importing torch takes seconds
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    said = ("out of memory", "can't allocate memory", "cannot allocate memory", "alloc_failed", "not enough memory")
    return isinstance(error, RuntimeError) and any(part in text for part in said)


def failed(error: BaseException) -> Verdict:
    """An exception in the trainer."""
    text = " ".join(f"{type(error).__name__}: {error}".split())[:500]
    return Verdict("failed", "crashed", f"crashed: {text}; log.txt has the details, submit it again to retry")


def died(code: int, members: int, oom_kills: int | None) -> Verdict:
    """The training process ended by itself, with this return code (negative: by a signal).

    Args:
        code: as `subprocess.Popen.returncode`.
        members: probes in its stack.
        oom_kills: processes that the kernel killed for want of memory meanwhile; None if it does not say.
    """
    stack = "" if members == 1 else f", in a stack of {members}"
    retry = "log.txt has the details, submit it again to retry from its checkpoint"
    if code >= 0:
        return Verdict("failed", "crashed", f"crashed: its process left with exit status {code}{stack}; {retry}")
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown"
    if -code == signal.SIGKILL and oom_kills != 0:
        sure = "the kernel counts such a kill" if oom_kills else "nobody here asked for it; the kernel keeps no count"
        return Verdict(
            "failed", "out of memory",
            f"out of memory on the host: its process was killed with signal 9 ({sure}){stack}; "
            "run fewer workers or smaller probes",
        )  # fmt: skip
    why = ", sent from outside: the kernel counts no kill for want of memory" if -code == signal.SIGKILL else ""
    return Verdict("failed", "crashed", f"crashed with signal {-code} ({name}{why}){stack}; {retry}")


def lost(attempts: int) -> Verdict:
    times = "once" if attempts == 1 else f"{attempts} times"
    return Verdict(
        "failed", "lost",
        f"lost: its worker vanished {times} without a trace and without getting further; "
        "submit it again to go on from its checkpoint",
    )  # fmt: skip
