"""`SlurmQueue`: the same sweeps, run folders and tables, trained by the tasks of Slurm job arrays.

Slurm is asked through its own commands (``sbatch``, ``squeue``, ``scancel``, ``scontrol``), never through
accounting, which many clusters lack or hide. What a probe's row says comes from its run folder; Slurm only
adds where it waits and why, and that a task is gone that can no longer speak for itself.
"""

from __future__ import annotations

import math
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.launch import verdicts, view
from workbench.launch.board import Board, new_name
from workbench.launch.queue import Job, Queue
from workbench.launch.slurm_task import Batch, Claims, Task
from workbench.launch.stack import create, ended
from workbench.probes.spec import Probe
from workbench.probes.sweep import Sweep
from workbench.runs.load import load
from workbench.runs.readers.base import LoadError
from workbench.runs.store import RunFolder
from workbench.runs.table import RunTable

__all__ = ["SlurmJob", "SlurmQueue", "divide"]

#: Seconds for which an answer of ``squeue`` is used again, to be kind to the controller.
ASK_EVERY = 5.0
#: Seconds that a task may be gone before its silence counts: its last words may still be on their way.
SILENCE = 10.0
#: States of a row in which nothing more will happen unless it is submitted again.
_OVER = ("finished", "diverged", "cancelled", "failed")


@dataclass(frozen=True)
class Place:
    """Where Slurm has a task: its id, state (PENDING, RUNNING, COMPLETING, ...), reason, and node."""

    id: str
    state: str
    reason: str
    node: str


class SlurmQueue(Queue):
    """A Slurm cluster whose nodes see `root` and this Python environment under the same paths.

    Args:
        root: folder that holds the run folders, on a file system that the nodes share.
        partition: Slurm's partition; its default one if None.
        minutes: time limit of a task. Shortly before it, a task writes its checkpoints and goes back into
            the queue, so it may be far shorter than the sweep.
        gpus_per_task: GPUs of a task, 0 for none; with several, each is used by a process of its own.
        cpus_per_task: cores of each process.
        tasks: most tasks in an array; None gives every stack (probes of equal shape) one of its own.
        at_once: most tasks of the array that Slurm runs at the same time.
        stack: most probes that are trained together; None for no limit.
        device: ``cuda``, ``cpu`` or ``auto``; None is ``cuda`` with GPUs and ``cpu`` without.
        compile: as for `workbench.probes.trainer.train`.
        checkpoint_seconds: seconds between checkpoints.
        signal_seconds: how long before its time limit a task is told.
        options: further options of sbatch, ``{"account": "physics", "mem": "8G"}``.
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
        self.partition, self.minutes = partition, _count("minutes", minutes)
        self.gpus_per_task = _count("gpus_per_task", gpus_per_task, least=0)
        self.cpus_per_task, self.at_once = _count("cpus_per_task", cpus_per_task), _count("at_once", at_once)
        self.tasks = None if tasks is None else _count("tasks", tasks)
        self.stack = None if stack is None else _count("stack", stack)
        self.device = device or ("cuda" if self.gpus_per_task else "cpu")
        self.compile, self.checkpoint_seconds = compile, checkpoint_seconds
        self.signal_seconds = _count("signal_seconds", signal_seconds)
        if isinstance(setup, str):
            raise TypeError(f"setup={setup!r} is one text; write a list of commands, setup=[{setup!r}].")
        self.options, self.setup, self.python = dict(options or {}), list(setup), python
        self._claims = Claims(self.root)
        self._asked, self._places = -math.inf, None
        self._gone: dict[str, float] = {}

    def submit(self, sweep: Sweep | Probe | Iterable[Probe]) -> SlurmJob:
        """Give Slurm an array for what is not finished and not in its hands yet, and return at once.

        Raises:
            RuntimeError: Submitit or Slurm is missing, or Slurm refuses the array; its words are passed on.
            OSError: `root` cannot be written.
        """
        submitit = _submitit()
        sweep = sweep if isinstance(sweep, Sweep) else Sweep((sweep,) if isinstance(sweep, Probe) else tuple(sweep))
        board = Board(self.root)
        board.make()
        self._claims.folder.mkdir(parents=True, exist_ok=True)
        folders = {probe.id: create(self.root, probe) for probe in sweep}
        board.add_job(sweep)
        # Asked before anything is claimed: without an answer a probe might be trained twice.
        places = self._ask(fresh=True)
        if places is None:
            raise RuntimeError("squeue does not answer, so nobody knows what is running; try again when it does")
        new = []
        for probe in sweep:
            if ended(folders[probe.id]):
                continue
            place = self._place(probe.id, places)
            state = self._state(probe.id)
            if place is None or place.state == "COMPLETING" or state in ("cancelled", "failed"):
                new.append(probe)
        if new:
            self._send(submitit, new)
        return SlurmJob(self, sweep)

    def cancel(self, ids: Iterable[str]) -> None:
        """Stop these probes; what they wrote stays, and a later `submit` resumes them.

        A task that has nothing else to do is ended by ``scancel``; one that trains others goes on with them.

        Raises:
            RuntimeError: ``scancel`` is missing or fails.
        """
        places = self._ask(fresh=True) or {}
        held: dict[tuple[str, int], Place] = {}
        for id in dict.fromkeys(ids):
            claim, place = self._claims.of(id), self._place(id, places)
            folder = RunFolder(self.root / id)
            if not folder.path.is_dir() or ended(folder):
                continue
            self._claims.give(id, None)
            if place is not None:
                held[claim] = place
            # A run that nobody writes cannot say it itself.
            if place is None or place.state == "PENDING":
                self._end(folder, verdicts.cancelled(_checkpoint(folder)))
        idle = []
        for (name, task), place in held.items():
            with suppress(OSError, ValueError):
                batch = Batch.read(self._folder / name)
                left = batch.mine(task, [id for stack in batch.tasks[task] for id in stack])
                if all(ended(RunFolder(self.root / id)) for id in left):
                    idle.append(place.id)
        if idle:
            _command("scancel", *idle)

    def jobs(self) -> list[SlurmJob]:
        """The sweeps ever submitted under `root`, latest first."""
        return [SlurmJob(self, sweep) for sweep in Board(self.root).jobs()]

    @property
    def _folder(self) -> Path:
        return self.root / ".queue" / "slurm"

    def _send(self, submitit: Any, probes: Sequence[Probe]) -> None:
        """Claim the probes for a new batch, and give it to Slurm as an array."""
        processes = max(1, self.gpus_per_task)
        batch = Batch(
            self.root,
            time.strftime("%Y%m%d-%H%M%S-") + new_name(),
            divide(probes, self.tasks, self.stack, processes),
            {
                "device": self.device, "compile": self.compile, "checkpoint_seconds": self.checkpoint_seconds,
                "processes": processes, "minutes": self.minutes,
            },
        )  # fmt: skip
        batch.folder.mkdir(parents=True)
        batch.write()
        for index, stacks in enumerate(batch.tasks):
            for id in (id for ids in stacks for id in ids):
                self._claims.give(id, batch.name, index)
                folder = RunFolder(self.root / id)
                if self._state(id) != "running":
                    folder.set_status("created", checkpoint=_checkpoint(folder) or 0)
        try:
            batch.jobs = self._array(submitit, batch)
        except BaseException:
            for id in (id for stacks in batch.tasks for ids in stacks for id in ids):
                self._claims.give(id, None)
            raise
        batch.write()
        self._asked = -math.inf

    def _array(self, submitit: Any, batch: Batch) -> list[str]:
        """Slurm's ids of the batch's tasks, in order."""
        python = self.python or shlex.quote(sys.executable)
        settle = f"{python} -m workbench.launch.slurm_task {shlex.quote(str(batch.folder))}"
        executor = submitit.SlurmExecutor(folder=batch.folder / "submitit", python=python)
        parameters: dict[str, Any] = {
            "job_name": "probes",
            "time": self.minutes,
            "nodes": 1,
            "ntasks_per_node": batch.settings["processes"],
            "cpus_per_task": self.cpus_per_task,
            "array_parallelism": self.at_once,
            "signal_delay_s": self.signal_seconds,
            # The batch script must outlive the task, to say in the run folders how the task died: it does
            # not die of TERM itself, and speaks at its exit, however the user's commands end it.
            "setup": [
                "trap : TERM",
                f"trap 'code=$?; [ $code = 0 ] || {settle} ${{SLURM_ARRAY_TASK_ID:-0}} $code' EXIT",
                *self.setup,
            ],
            "additional_parameters": {"requeue": True, **{k.replace("_", "-"): v for k, v in self.options.items()}},
        }
        if self.partition is not None:
            parameters["partition"] = self.partition
        if self.gpus_per_task:
            parameters["gpus_per_task"] = 1
        executor.update_parameters(**parameters)
        (batch.folder / "submitit").mkdir()
        try:
            with executor.batch():
                jobs = [executor.submit(Task(str(batch.folder), index)) for index in range(len(batch.tasks))]
        except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError) as error:
            said = " ".join(str(error).split())
            raise RuntimeError(f"Slurm refuses the array: {said[:500]}") from None
        return [job.job_id for job in jobs]

    def _ask(self, fresh: bool = False) -> dict[str, Place] | None:
        """Tasks of this user that Slurm still has, by id; None where Slurm cannot be asked."""
        if not fresh and time.monotonic() - self._asked < ASK_EVERY:
            return self._places
        self._asked = time.monotonic()
        try:
            text = _command("squeue", "--me", "--array", "--noheader", "--format=%i|%T|%r|%N")
        except RuntimeError:
            self._places = None
        else:
            places = [Place(*line.split("|", 3)) for line in text.splitlines() if line.count("|") >= 3]
            self._places = {place.id: place for place in places}
        return self._places

    def _place(self, id: str, places: Mapping[str, Place]) -> Place | None:
        """Where Slurm has the task that is to train this probe; None if there is none."""
        task = self._task(id)
        return None if task is None else places.get(task)

    def _task(self, id: str) -> str | None:
        """Slurm's id of the task that is to train this probe."""
        claim = self._claims.of(id)
        if claim is None:
            return None
        try:
            jobs = Batch.read(self._folder / claim[0]).jobs
        except (OSError, ValueError):
            return None
        return jobs[claim[1]] if claim[1] < len(jobs) else None

    def _state(self, id: str) -> str | None:
        try:
            return RunFolder(self.root / id).status.get("state")
        except LoadError:
            return None

    def _end(self, folder: RunFolder, verdict: verdicts.Verdict) -> None:
        folder.set_status(verdict.state, checkpoint=_checkpoint(folder) or 0, **verdict.fields)


class SlurmJob(Job):
    """A sweep under a `SlurmQueue`; it may be opened again by any process that sees the files."""

    def __init__(self, queue: SlurmQueue, sweep: Sweep) -> None:
        self.queue, self.sweep = queue, sweep

    def table(self) -> pd.DataFrame:
        """One row a probe, as `Job.table` describes them; `place` of a waiting one is Slurm's reason."""
        queue, places = self.queue, self.queue._ask()
        tasks = {probe.id: queue._task(probe.id) for probe in self.sweep}
        wanted = [id for id, task in tasks.items() if task and (places is None or task in places)]
        rows = view.table(queue.root, self.sweep, wanted)
        if places is None:
            return rows
        for at, id, state in zip(rows.index, rows["id"], rows["state"], strict=True):
            task = tasks[id]
            if state in _OVER or task is None:
                continue
            place = places.get(task)
            if place is not None:
                queue._gone.pop(task, None)
                if place.state != "RUNNING" or state == "created":
                    reason = f" ({place.reason})" if place.reason not in ("None", "") else ""
                    node = f" on {place.node}" if place.node else ""
                    rows.at[at, "place"] = f"Slurm {task} {place.state.lower()}{node}{reason}"
            elif time.monotonic() - queue._gone.setdefault(task, time.monotonic()) > SILENCE:
                rows.at[at, "state"] = "failed"
                rows.at[at, "verdict"] = (
                    f"lost: Slurm has task {task} no more, and it left no word (cancelled there, or its node "
                    "failed); submit it again to go on from its checkpoint"
                )
        return rows

    def wait(self, timeout: float | None = None) -> bool:
        """Whether all probes have ended, within `timeout` seconds. Ctrl-C leaves the job running."""
        end = math.inf if timeout is None else time.monotonic() + timeout
        while not self.table()["state"].isin(_OVER).all():
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


def divide(
    probes: Sequence[Probe], tasks: int | None = None, stack: int | None = None, processes: int = 1
) -> list[list[list[str]]]:
    """Divide probes among array tasks.

    Args:
        probes: what is to be trained.
        tasks: most tasks; None gives every stack one, or every `processes` stacks.
        stack: most members of a stack.
        processes: of a task; they take its stacks in turn.

    Returns:
        For each task its stacks (lists of ids of equal shape), costliest first. The costliest stack left
        always goes to the task with the least work, which is never more than 4/3 of the best division
        (Graham 1969, "Bounds on multiprocessing timing anomalies", SIAM J. Appl. Math. 17).
    """
    stacks: list[list[Probe]] = []
    for positions in Sweep(tuple(probes)).buckets():
        size = stack or len(positions)
        count = math.ceil(len(positions) / size)
        # equal parts rather than full ones and a rest
        stacks += [[probes[at] for at in positions[part::count]] for part in range(count)]
    costs = [sum(probe.flops for probe in members) for members in stacks]
    count = min(tasks or math.ceil(len(stacks) / processes), len(stacks))
    shares: list[list[list[str]]] = [[] for _ in range(count)]
    work = [0.0] * count
    for at in sorted(range(len(stacks)), key=lambda at: -costs[at]):
        least = work.index(min(work))
        shares[least].append([probe.id for probe in stacks[at]])
        work[least] += costs[at]
    return shares


def _count(name: str, value: Any, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}={value!r} is not a whole number.")
    if value < least:
        raise ValueError(f"{name}={value} must be at least {least}.")
    return value


def _checkpoint(folder: RunFolder) -> int | None:
    """Step of the run's last checkpoint as its status says it."""
    with suppress(LoadError, TypeError, ValueError):
        step = folder.status.get("checkpoint")
        return None if step is None else int(step)
    return None


def _submitit() -> Any:
    """The module, where both it and Slurm are there."""
    try:
        import submitit
    except ImportError:
        raise RuntimeError(
            "SlurmQueue needs Submitit, which is not installed; pip install 'scaling-workbench[slurm]'"
        ) from None
    for name in ("sbatch", "srun", "squeue", "scancel"):
        _program(name)
    return submitit


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise RuntimeError(
            f"there is no {name} on this machine's path; SlurmQueue works where Slurm's commands do, e.g. on a login "
            "node of the cluster, and LocalQueue everywhere"
        )
    return found


def _command(name: str, *words: str) -> str:
    """The output of a Slurm command, or RuntimeError with what it said."""
    try:
        done = subprocess.run([_program(name), *words], capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{name} did not answer within a minute") from None
    if done.returncode:
        raise RuntimeError(f"{name} failed: {' '.join(done.stderr.split())[:300]}")
    return done.stdout
