"""`SlurmQueue`: the same sweeps, run folders and tables as `LocalQueue`, trained by the tasks of Slurm arrays.

What a probe's row says comes from its run folder. Slurm only adds where a task waits and why, and that a
task is gone which can no longer speak for itself.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.launch import verdicts, view
from workbench.launch.board import Board, new_name
from workbench.launch.queue import Job, Queue
from workbench.launch.slurm_batch import Batch, Claims, divide
from workbench.launch.slurm_cluster import Cluster, Place, command, send, submitit
from workbench.launch.stack import Run, create, ended
from workbench.probes.spec import Probe
from workbench.probes.sweep import Sweep
from workbench.runs.load import load
from workbench.runs.readers.base import LoadError
from workbench.runs.store import RunFolder
from workbench.runs.table import RunTable

__all__ = ["SlurmJob", "SlurmQueue"]

#: Seconds that a task may be gone before its silence counts: its last words may still be on their way.
SILENCE = 10.0
#: States in which nothing more will happen unless the probe is submitted again.
OVER = ("finished", "diverged", "cancelled", "failed")
#: Options of sbatch that have a name of their own here, or that the queue itself needs.
_TAKEN = {"partition": "partition=", "time": "minutes=", "cpus-per-task": "cpus_per_task=", "signal": "signal_seconds="}
_TAKEN |= {"gpus-per-task": "gpus_per_task=", "array": "tasks= and at_once=", "ntasks-per-node": "gpus_per_task="}
_TAKEN |= dict.fromkeys(("output", "error", "open-mode", "requeue", "no-requeue", "nodes", "ntasks"), "")


class SlurmQueue(Queue):
    """A Slurm cluster whose nodes see `root` and this Python environment under the same paths.

    A task that is preempted, or near its time limit, writes checkpoints and goes on where it was when Slurm
    starts it again; the results are the same to the last bit where resumed training is (`train`).

    Args:
        root: folder that holds the run folders, on a file system with locks that the nodes share.
        partition: Slurm's partition; its default one if None.
        minutes: time limit of a task; it may be far shorter than the sweep.
        gpus_per_task: GPUs of a task, 0 for none; with several, each gets a process of its own.
        cpus_per_task: cores of each process.
        tasks: most tasks in an array; None gives every stack (probes of equal shape) its own.
        at_once: most tasks of an array that run at the same time.
        stack: most probes that are trained together; None for no limit.
        device: ``cuda``, ``cpu`` or ``auto``; None is ``cuda`` with GPUs and ``cpu`` without.
        compile: as for `workbench.probes.trainer.train`.
        checkpoint_seconds: seconds between checkpoints.
        signal_seconds: how long before its time limit a task is told; it must suffice to write checkpoints.
        options: further options of sbatch, ``{"account": "physics", "mem": "8G"}``; True for a bare flag.
        setup: shell commands that a task runs first, ``["module load cuda"]``.
        python: shell command that starts Python on the nodes; this interpreter unless given.

    Raises:
        ValueError, TypeError: an argument is out of range.
    """

    def __init__(
        self,
        root: str | os.PathLike,
        *,
        partition: str | None = None,
        minutes: int = 60,
        gpus_per_task: int = 1,
        cpus_per_task: int = 4,
        tasks: int | None = None,
        at_once: int = 256,
        stack: int | None = None,
        device: str | None = None,
        compile: bool = False,
        checkpoint_seconds: float = 60.0,
        signal_seconds: int = 90,
        options: Mapping[str, Any] | None = None,
        setup: Sequence[str] = (),
        python: str | None = None,
    ) -> None:
        self.root = Path(root).expanduser().absolute()
        gpus = _count("gpus_per_task", gpus_per_task, least=0)
        self.tasks = None if tasks is None else _count("tasks", tasks)
        self.stack = None if stack is None else _count("stack", stack)
        self.settings = {
            "device": device or ("cuda" if gpus else "cpu"), "compile": compile, "processes": max(1, gpus),
            "checkpoint_seconds": float(checkpoint_seconds), "minutes": _count("minutes", minutes),
        }  # fmt: skip
        if isinstance(setup, str):
            raise TypeError(f"setup={setup!r} is one text; write a list of commands, setup=[{setup!r}].")
        self.setup, self.python = list(setup), python
        cores = _count("cpus_per_task", cpus_per_task)
        self.parameters: dict[str, Any] = {
            "job_name": "probes", "nodes": 1, "ntasks_per_node": max(1, gpus), "cpus_per_task": cores,
            "time": minutes, "array_parallelism": _count("at_once", at_once),
            "signal_delay_s": _count("signal_seconds", signal_seconds),
            # Since Slurm 22.05 srun takes no cores over from sbatch.
            "srun_args": [f"--cpus-per-task={cores}"],
            "additional_parameters": {"requeue": True, **_options(options)},
        }  # fmt: skip
        if partition is not None:
            self.parameters["partition"] = partition
        if gpus:
            self.parameters["gpus_per_task"] = 1  # of each of its processes
        self.claims, self.cluster = Claims(self.root), Cluster()
        self._batches: dict[str, Batch] = {}

    def submit(self, sweep: Sweep | Probe | Iterable[Probe]) -> SlurmJob:
        """Give Slurm an array of what is not finished and not in its hands yet, and return at once.

        Raises:
            RuntimeError: Submitit or Slurm is missing, or Slurm refuses the array; its words are passed on.
            OSError: `root` cannot be written.
            TypeError, ValueError: `sweep` holds something else than probes, none, or one twice.
        """
        submitit()
        sweep = sweep if isinstance(sweep, Sweep) else Sweep((sweep,) if isinstance(sweep, Probe) else tuple(sweep))
        board = Board(self.root)
        board.make()
        self.claims.folder.mkdir(parents=True, exist_ok=True)
        folders = [create(self.root, probe) for probe in sweep]
        board.add_job(sweep)
        self.cluster.forget()
        places = self.cluster.places()
        if places is None:  # then a probe might be trained twice
            raise RuntimeError("squeue does not answer, so nobody knows what runs already; try again when it does")
        pairs = zip(sweep, folders, strict=True)
        new = [probe for probe, folder in pairs if not ended(folder) and not self._in_hand(probe.id, folder, places)]
        if new:
            self._send(new)
        return SlurmJob(self, sweep)

    def cancel(self, ids: Iterable[str]) -> None:
        """Stop these probes; what they wrote stays, and a later `submit` resumes them.

        A task that has nothing else to do is ended by ``scancel``; one that trains others goes on with them.

        Raises:
            RuntimeError: ``scancel`` fails or is missing.
        """
        ids = [id for id in dict.fromkeys(ids) if not ended(RunFolder(self.root / id))]
        claims = {id: claim for id in ids if (claim := self.claims.of(id)) is not None}
        self.claims.give(claims, None)
        self.cluster.forget()
        places = self.cluster.places() or {}
        idle = []
        for name, task in set(claims.values()):
            batch = self._batch(name)
            place = places.get(batch.jobs[task]) if batch is not None and batch.jobs else None
            if place is not None and all(ended(RunFolder(self.root / id)) for id in batch.mine(task)):
                idle.append(place.id)
        if idle:
            command("scancel", *sorted(idle))
        for id in ids:
            run = self._unattended(id)
            if run is not None:  # else whoever writes it sees its claim gone, and says so itself
                run.end(verdicts.cancelled(_checkpoint(run.folder) or None), checkpoint=_checkpoint(run.folder))
                run.close()

    def jobs(self) -> list[SlurmJob]:
        """The sweeps ever submitted under `root`, latest first."""
        return [SlurmJob(self, sweep) for sweep in Board(self.root).jobs()]

    def task_of(self, id: str) -> str | None:
        """Slurm's id of the task that is to train this probe, None if there is none."""
        claim = self.claims.of(id)
        batch = None if claim is None else self._batch(claim[0])
        return None if batch is None or not batch.jobs else batch.jobs[claim[1]]

    def _in_hand(self, id: str, folder: RunFolder, places: Mapping[str, Place]) -> bool:
        """Whether a task that Slurm has will train this probe."""
        place = places.get(self.task_of(id) or "")
        with suppress(LoadError):
            # A task does not come back to what it marked so, and one that is completing starts nothing.
            return place is not None and place.state != "COMPLETING" and folder.status.get("state") not in OVER
        return False

    def _send(self, probes: Sequence[Probe]) -> None:
        """Claim the probes for a new batch, and give it to Slurm as an array."""
        tasks = divide(probes, self.tasks, self.stack, self.settings["processes"])
        batch = Batch(self.root, time.strftime("%Y%m%d-%H%M%S-") + new_name(), tasks, self.settings)
        batch.folder.mkdir(parents=True)
        batch.write()
        for task in range(len(tasks)):
            self.claims.give(batch.ids(task), batch.name, task)
        for id in batch.ids():
            run = self._unattended(id)
            if run is not None:
                run.folder.set_status("created", checkpoint=_checkpoint(run.folder))
                run.close()
        try:
            batch.jobs = send(batch, self.parameters, self.setup, self.python)
        except BaseException:
            self.claims.give(batch.ids(), None)
            raise
        batch.write()
        self.cluster.forget()

    def _unattended(self, id: str) -> Run | None:
        """The run, if it has a folder and nobody writes it."""
        with suppress(OSError, ValueError, TypeError):
            return Run.attempt(self.root, Probe.from_dict(RunFolder.open(self.root / id).spec))
        return None

    def _batch(self, name: str) -> Batch | None:
        """A batch, kept once Slurm has taken it: then it changes no more."""
        if name not in self._batches:
            with suppress(OSError, ValueError):
                batch = Batch.read(self.root / ".queue" / "slurm" / name)
                if not batch.jobs:
                    return batch
                self._batches[name] = batch
        return self._batches.get(name)


class SlurmJob(Job):
    """A sweep under a `SlurmQueue`; any process that sees the files can open it again."""

    def __init__(self, queue: SlurmQueue, sweep: Sweep) -> None:
        self.queue, self.sweep = queue, sweep
        self._gone: dict[str, float] = {}

    def table(self) -> pd.DataFrame:
        """One row a probe, as `Job.table` describes them; a waiting one's `place` is Slurm's word and reason."""
        places = self.queue.cluster.places()
        tasks = {probe.id: self.queue.task_of(probe.id) for probe in self.sweep}
        wanted = [id for id, task in tasks.items() if task is not None and (places is None or task in places)]
        rows = view.table(self.queue.root, self.sweep, wanted)
        words = rows[["state", "verdict", "place"]].astype(object)
        cells: dict[str, list] = words.where(words.notna(), None).to_dict("list")
        for at, id in enumerate(rows["id"]):
            task, now = tasks[id], time.monotonic()
            if places is None or task is None or cells["state"][at] in OVER:
                continue
            if task in places:
                self._gone.pop(id, None)
                if cells["state"][at] == "created":
                    cells["place"][at] = str(places[task])
            elif now - self._gone.setdefault(id, now) > SILENCE:
                cells["state"][at] = "failed"
                cells["verdict"][at] = (
                    f"lost: Slurm has task {task} no more and it left no word, so it was cancelled there or its node "
                    "failed; submit it again to go on from its checkpoint"
                )
        return rows.assign(**{name: pd.Series(values, rows.index, dtype=object) for name, values in cells.items()})

    def wait(self, timeout: float | None = None) -> bool:
        """Whether all probes have ended, within `timeout` seconds. Ctrl-C leaves the job running."""
        end = math.inf if timeout is None else time.monotonic() + timeout
        while not self.table()["state"].isin(OVER).all():
            if time.monotonic() >= end:
                return False
            time.sleep(min(1.0, max(0.0, end - time.monotonic())))
        return True

    def cancel(self) -> None:
        """Stop all its probes, resumably."""
        self.queue.cancel([probe.id for probe in self.sweep])

    def runs(self) -> RunTable:
        """What there is so far, as a `RunTable`."""
        return load([self.queue.root / probe.id for probe in self.sweep])


def _options(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Options of sbatch in its own spelling."""
    found = {str(name).lstrip("-").replace("_", "-"): value for name, value in (options or {}).items()}
    for name in found:
        if name in _TAKEN:
            instead = f"use {_TAKEN[name]}" if _TAKEN[name] else "the queue sets it itself"
            raise ValueError(f"options= cannot set {name!r}; {instead}.")
    return found


def _count(name: str, value: Any, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}={value!r} is not a whole number.")
    if value < least:
        raise ValueError(f"{name}={value} must be at least {least}.")
    return value


def _checkpoint(folder: RunFolder) -> int:
    """Step of the run's last checkpoint as its status says it, 0 before the first."""
    with suppress(LoadError, TypeError, ValueError):
        return int(folder.status.get("checkpoint") or 0)
    return 0
