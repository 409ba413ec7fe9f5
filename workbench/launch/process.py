"""Processes by number *and* birth, so that a number used again is never taken for the process that had it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

__all__ = ["Identity", "alive", "birth", "launch", "me", "oom_kills", "signal_group"]


@dataclass(frozen=True)
class Identity:
    """One process for all time.

    Attributes:
        pid: its number.
        birth: when it started: clock ticks since boot (Linux), or the date that ``ps`` prints.
        boot: which boot of which machine, so that no number outlives a restart.
    """

    pid: int
    birth: str
    boot: str

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping) -> Identity:
        return cls(int(data["pid"]), str(data["birth"]), str(data["boot"]))


@lru_cache(maxsize=1)
def boot() -> str:
    """This boot of this machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return os.uname().nodename


def birth(pid: int) -> str | None:
    """When process `pid` started, or None if there is none, or only its corpse (a zombie)."""
    try:
        # proc(5): the name, field 2, stands in brackets and may itself hold blanks and brackets
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return None if fields[0] in (b"Z", b"X") else fields[19].decode()  # fields 3 and 22
    except OSError:
        if sys.platform == "linux":
            return None
    found = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, started = found.stdout.strip().partition(" ")
    return started.strip() if started and not state.startswith("Z") else None


def me() -> Identity:
    """This process."""
    return Identity(os.getpid(), birth(os.getpid()) or "", boot())


def alive(process: Identity) -> bool:
    """Whether this very process still runs, on this machine."""
    return process.boot == boot() and birth(process.pid) == process.birth


def signal_group(leader: Identity, number: signal.Signals) -> bool:
    """Send a signal to the process group that `leader` leads; False if the leader is gone.

    A group keeps its number from being given to another process only while it has members, so nothing is
    sent once the leader itself cannot be seen alive as the leader.
    """
    if not alive(leader):
        return False
    try:
        if os.getpgid(leader.pid) != leader.pid:
            return False
        os.killpg(leader.pid, number)
    except ProcessLookupError:
        return False
    return True


#: Workers that this process started; looked after so that a dead one does not stay as a zombie.
_children: list[subprocess.Popen] = []


def launch(command: Sequence[str], *, environment: Mapping[str, str], log: Path, keep: Sequence[int]) -> int:
    """Start a command that outlives this process: own session, no terminal, output appended to `log`.

    Args:
        command: program and arguments.
        environment: all of its environment.
        log: file for standard output and standard error.
        keep: descriptors (of locks) that it inherits.

    Returns:
        Its process id.
    """
    _children[:] = [child for child in _children if child.poll() is None]
    with log.open("ab") as output:
        child = subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=dict(environment),
            start_new_session=True, pass_fds=tuple(keep), close_fds=True,
        )  # fmt: skip
    _children.append(child)
    return child.pid


def reap() -> None:
    """Collect the exit status of workers that ended."""
    _children[:] = [child for child in _children if child.poll() is None]


def oom_kills() -> int | None:
    """How many processes the kernel has killed for want of memory, here and so far; None if it does not say."""
    counts = []
    for file in (Path("/proc/vmstat"), Path("/sys/fs/cgroup/memory.events")):
        try:
            lines = file.read_text().splitlines()
        except OSError:
            continue
        counts += [int(line.split()[1]) for line in lines if line.startswith("oom_kill ")]
    return sum(counts) if counts else None
