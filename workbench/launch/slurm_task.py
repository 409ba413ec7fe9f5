"""What runs inside Slurm: one array task trains its share of a batch, and stops when Slurm says so.

Slurm speaks in signals. USR2 (sent some seconds before the time limit) means: write checkpoints, and ask
to be put back into the queue. TERM means the same without the asking: Slurm itself puts a preempted task
back, and a cancelled one is over. Either way training ends between two steps and nothing is lost.

Who is to train a probe stands in its *claim*, a file that only submitters change: a task trains a probe as
long as the claim names the task. Cancelling a probe, or giving it to another task, is one new claim.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.files import write_whole
from workbench.launch import verdicts
from workbench.launch.stack import Run, ended, train_stack
from workbench.probes.spec import Probe
from workbench.runs.readers.base import LoadError
from workbench.runs.store import RunFolder

__all__ = ["Batch", "Claims", "Task", "settle"]

#: Seconds between two looks at the claims of the stack in work.
LOOK = 2.0
#: Seconds that a run may still be locked by the task that had it before.
LOCKED = 60.0


class Claims:
    """Who trains which probe: ``<root>/.queue/slurm/claims/<id>.json``.

    Attributes:
        folder: where the claims are.
    """

    def __init__(self, root: Path) -> None:
        self.folder = root / ".queue" / "slurm" / "claims"

    def give(self, id: str, batch: str | None, task: int = 0) -> None:
        """From now on this task of this batch trains the probe; with batch None, nobody does."""
        write_whole(self.folder / f"{id}.json", json.dumps({"batch": batch, "task": task}) + "\n")

    def of(self, id: str) -> tuple[str, int] | None:
        """Batch and task that train this probe, or None if nobody is to."""
        try:
            data = json.loads((self.folder / f"{id}.json").read_text())
            return None if data["batch"] is None else (str(data["batch"]), int(data["task"]))
        except (OSError, ValueError, TypeError, KeyError):
            return None


@dataclass
class Batch:
    """One submission: ``<root>/.queue/slurm/<name>/batch.json``, beside Submitit's files and the logs.

    Attributes:
        root: the folder of run folders.
        name: of the batch's folder.
        tasks: for each array task its stacks, for each stack the ids of its probes.
        settings: device, compile, checkpoint_seconds, processes (a task has), minutes (its time limit).
        jobs: Slurm's id of each task, such as ``12_3``; empty until Slurm has taken the batch.
    """

    root: Path
    name: str
    tasks: list[list[list[str]]]
    settings: dict[str, Any] = field(default_factory=dict)
    jobs: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.root / ".queue" / "slurm" / self.name

    def write(self) -> None:
        data = {"schema": 1, "tasks": self.tasks, "settings": self.settings, "jobs": self.jobs}
        write_whole(self.folder / "batch.json", json.dumps(data) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Batch:
        """Raises OSError or ValueError if the file is not there or damaged."""
        try:
            data = json.loads((folder / "batch.json").read_text())
            return cls(folder.parents[2], folder.name, data["tasks"], data["settings"], data["jobs"])
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"{str(folder / 'batch.json')!r} is damaged ({error}); submit the sweep again, no run is lost"
            ) from None

    def mine(self, index: int, ids: Sequence[str]) -> list[str]:
        """Those of `ids` that task `index` of this batch is to train."""
        claims = Claims(self.root)
        return [id for id in ids if claims.of(id) == (self.name, index)]


class _Orders:
    """What Slurm has told this process to do; true once it is to stop.

    Attributes:
        requeue: it was told early enough to put itself back into the queue.
    """

    def __init__(self) -> None:
        self.stop = self.requeue = False
        # Submitit's name for the signal before the time limit; its own handlers give way to these.
        early = "SIG" + os.environ.get("SUBMITIT_PREEMPT_SIGNAL", "USR2")
        signal.signal(signal.SIGTERM, self._terminate)
        signal.signal(getattr(signal, early), self._early)

    def __bool__(self) -> bool:
        return self.stop

    def _terminate(self, *_: object) -> None:
        self.stop = True

    def _early(self, *_: object) -> None:
        self.stop = self.requeue = True


class Task:
    """One array task, as Submitit stores and calls it: nothing but two names, everything else is in files."""

    def __init__(self, folder: str, index: int) -> None:
        self.folder, self.index = folder, index

    def __call__(self) -> None:
        """Train what is left of the task's share.

        Raises:
            RuntimeError: a stack crashed; its runs say how, the others were trained.
        """
        orders = _Orders()
        batch = Batch.read(Path(self.folder))
        process = int(os.environ.get("SLURM_PROCID", 0))
        # Several processes of one task, a GPU each, take its stacks in turn.
        stacks = batch.tasks[self.index][process :: batch.settings["processes"]]
        before, crashed = _steps(batch, stacks), []
        for ids in stacks:
            if orders:
                break
            try:
                _train(batch, self.index, ids, orders)
            except Exception as error:
                crashed.append(f"{type(error).__name__}: {error}")
        if orders.requeue and process == 0:
            _requeue(batch, self.index, stacks, before)
        if orders:
            raise SystemExit(128 + signal.SIGTERM)
        if crashed:
            raise RuntimeError("; ".join(crashed))


def _train(batch: Batch, index: int, ids: Sequence[str], orders: _Orders) -> None:
    """Train one stack to its end, without those members that are cancelled on the way."""
    runs = _open(batch, batch.mine(index, ids), orders)
    try:
        while (ready := _equal_steps(runs)) and not orders:
            look = _Look(batch, index, [run.probe.id for run in ready], orders)
            try:
                train_stack(
                    ready,
                    device=batch.settings["device"],
                    compile=batch.settings["compile"],
                    checkpoint_seconds=batch.settings["checkpoint_seconds"],
                    should_stop=look,
                    place=_place(),
                )
            except Exception as error:
                text = traceback.format_exc()
                for run in ready:
                    if not ended(run.folder):
                        run.log(text)
                        run.end(_verdict(error, len(ready)))
                    runs.remove(run)
                raise
            finally:
                runs[:] = [run for run in runs if not (ended(run.folder) and run.close() is None)]
            mine = set(batch.mine(index, [run.probe.id for run in runs]))
            for run in [run for run in runs if run.probe.id not in mine]:
                if Claims(batch.root).of(run.probe.id) is None:
                    run.end(verdicts.cancelled(run.step))
                else:  # another task has it now
                    run.pause("another Slurm task has it")
                run.close()
                runs.remove(run)
        for run in runs:
            run.pause("the time limit was near" if orders.requeue else "Slurm took the node back")
    finally:
        for run in runs:
            run.close()


def _open(batch: Batch, ids: Sequence[str], orders: _Orders) -> list[Run]:
    """The runs among `ids` that have something left to train, locked and at their checkpoints."""
    runs, end = [], time.monotonic() + LOCKED
    for id in ids:
        folder = RunFolder.open(batch.root / id)
        if ended(folder):
            continue
        probe = Probe.from_dict(folder.spec)
        while (run := Run.attempt(batch.root, probe)) is None and time.monotonic() < end and not orders:
            time.sleep(0.2)
        if run is not None:
            run.resume()
            if run.damage is not None:
                run.log(run.damage)
            runs.append(run)
    return runs


def _equal_steps(runs: Sequence[Run]) -> list[Run]:
    """Those runs that are least far: a stack goes on from one step."""
    least = min((run.step for run in runs), default=0)
    return [run for run in runs if run.step == least]


class _Look:
    """``should_stop`` of a stack: whether Slurm has spoken, or a member is no longer ours."""

    def __init__(self, batch: Batch, index: int, ids: Sequence[str], orders: _Orders) -> None:
        self.batch, self.index, self.ids, self.orders = batch, index, ids, orders
        self.last = time.monotonic()

    def __call__(self) -> bool:
        if self.orders:
            return True
        if time.monotonic() - self.last < LOOK:
            return False
        self.last = time.monotonic()
        return len(self.batch.mine(self.index, self.ids)) < len(self.ids)


def _place() -> str:
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
    return os.environ.get("SLURMD_NODENAME", os.uname().nodename) + (f", GPU {gpus}" if gpus else "")


def _verdict(error: Exception, members: int) -> verdicts.Verdict:
    # torch.OutOfMemoryError by name: this module must not import torch
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return verdicts.out_of_memory("cuda" if not isinstance(error, MemoryError) else "cpu", members)
    return verdicts.failed(error)


def _steps(batch: Batch, stacks: Sequence[Sequence[str]]) -> int:
    """Steps that need not be trained again, of all runs of these stacks."""
    total = 0
    for id in (id for ids in stacks for id in ids):
        with suppress(OSError, LoadError, ValueError, TypeError):
            folder = RunFolder.open(batch.root / id)
            total += Probe.from_dict(folder.spec).steps if ended(folder) else int(folder.status.get("checkpoint", 0))
    return total


def _requeue(batch: Batch, index: int, stacks: Sequence[Sequence[str]], before: int) -> None:
    """Ask Slurm to start this task again, unless nothing was gained: then it would go round for ever."""
    left = [id for ids in batch.tasks[index] for id in batch.mine(index, ids)]
    left = [id for id in left if not ended(RunFolder(batch.root / id))]
    if left and _steps(batch, stacks) == before:
        minutes = batch.settings["minutes"]
        _mark(batch, left, f"the time limit of {minutes} minutes passed without one new step; raise minutes=")
    elif left:
        subprocess.run(["scontrol", "requeue", batch.jobs[index]], timeout=60, check=True)


def _mark(batch: Batch, ids: Sequence[str], sentence: str, kind: str = "crashed") -> None:
    verdict = verdicts.Verdict("failed", kind, sentence)
    for id in ids:
        RunFolder(batch.root / id).set_status(verdict.state, **verdict.fields)


def settle(folder: Path, index: int, code: int) -> list[str]:
    """After a task left with exit status `code`: say in the folders of the runs it left in work how it ended.

    Called by the batch script, which outlives the task. Runs that say themselves how they ended, or that
    wait to go on, stay as they are.

    Returns:
        The ids of the runs that were marked.
    """
    batch = Batch.read(folder)
    left = []
    for id in batch.mine(index, [id for ids in batch.tasks[index] for id in ids]):
        with suppress(LoadError):
            if RunFolder(batch.root / id).status.get("state") == "running":
                left.append(id)
    # A shell's 128 + n is death by signal n, which Popen calls -n.
    code = 128 - code if code > 128 else code
    memory = _memory_killed(batch, index)
    verdict = verdicts.died(code, len(left), memory)
    for id in left:
        RunFolder(batch.root / id).set_status(verdict.state, **verdict.fields)
    return left


def _memory_killed(batch: Batch, index: int) -> int | None:
    """How often Slurm says, in the task's log, that it killed for want of memory; None if it says nothing."""
    said = 0
    for log in (batch.folder / "submitit").glob(f"{batch.jobs[index]}_*_log.err"):
        with suppress(OSError):
            said += len(re.findall(r"oom[-_ ]?kill|Out Of Memory", log.read_text(errors="replace")[-20_000:]))
    return said or None


if __name__ == "__main__":
    settle(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
