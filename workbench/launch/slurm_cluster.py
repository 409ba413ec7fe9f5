"""Slurm as it is seen from outside: its commands, what it runs for this user, and how an array is given to it.

Only ``sbatch``, ``squeue`` and ``scancel`` are used, and ``scontrol`` by the tasks: many clusters lack
accounting, or hide it.
"""

from __future__ import annotations

import math
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.launch.slurm_batch import Batch
from workbench.launch.slurm_task import Task

__all__ = ["Cluster", "Place", "command", "submitit"]

#: Seconds for which an answer of ``squeue`` is used again, to be kind to the controller.
ASK_EVERY = 5.0


@dataclass(frozen=True)
class Place:
    """Where Slurm has a task.

    Attributes:
        id: Slurm's id, such as ``12_3``.
        state: ``PENDING``, ``RUNNING``, ``COMPLETING``, ...
        reason: why it waits, such as ``Resources``; empty if there is none.
        node: where it runs; empty while it waits.
    """

    id: str
    state: str
    reason: str
    node: str

    def __str__(self) -> str:
        reason = f" ({self.reason})" if self.reason else ""
        return f"Slurm {self.id} {self.state.lower()}{f' on {self.node}' if self.node else ''}{reason}"


class Cluster:
    """What Slurm runs for this user, asked at most every `ASK_EVERY` seconds."""

    def __init__(self) -> None:
        self._asked, self._places = -math.inf, None

    def forget(self) -> None:
        """Ask anew next time."""
        self._asked = -math.inf

    def places(self) -> dict[str, Place] | None:
        """Tasks that wait or run, by id; None where Slurm cannot be asked."""
        if time.monotonic() - self._asked >= ASK_EVERY:
            try:
                text = command("squeue", "--me", "--array", "--noheader", "--format=%i|%T|%r|%N")
                found = [line.split("|", 3) for line in text.splitlines() if line.count("|") >= 3]
                self._places = {id: Place(id, state, _said(reason), node) for id, state, reason, node in found}
            except RuntimeError:
                self._places = None
            self._asked = time.monotonic()
        return self._places


def send(batch: Batch, parameters: Mapping[str, Any], setup: Sequence[str], python: str | None) -> list[str]:
    """Give a batch to Slurm as an array.

    Args:
        batch: its folder must be written.
        parameters: of the array, in Submitit's names.
        setup: shell commands that a task runs first.
        python: shell command that starts Python; this interpreter unless given.

    Returns:
        Slurm's id of each task.

    Raises:
        RuntimeError: Slurm refuses the array; its words are passed on.
    """
    module = submitit()
    python = python or shlex.quote(sys.executable)
    settle = f"{python} -m workbench.launch.slurm_task {shlex.quote(str(batch.folder))}"
    executor = module.SlurmExecutor(folder=batch.output, python=python)
    executor.update_parameters(
        **parameters,
        # The batch script must outlive the task, to say in the run folders how the task died: it does not
        # die of TERM itself, and speaks at its exit, however the user's commands may end it.
        setup=[
            "trap : TERM",
            f"trap 'code=$?; [ $code = 0 ] || {settle} ${{SLURM_ARRAY_TASK_ID:-0}} $code' EXIT",
            *setup,
        ],
    )
    batch.output.mkdir(exist_ok=True)
    try:
        with executor.batch():
            jobs = [executor.submit(Task(str(batch.folder), index)) for index in range(len(batch.tasks))]
    except (module.core.utils.FailedJobError, module.core.utils.FailedSubmissionError) as error:
        raise RuntimeError(f"Slurm refuses the array: {' '.join(str(error).split())[:500]}") from None
    return [job.job_id for job in jobs]


def submitit() -> Any:
    """The module, where both it and Slurm are there.

    Raises:
        RuntimeError: one of them is missing; the sentence says what to do.
    """
    try:
        import submitit as module
    except ImportError:
        raise RuntimeError(
            "SlurmQueue needs Submitit, which is not installed; pip install 'scaling-workbench[slurm]'"
        ) from None
    for name in ("sbatch", "srun", "squeue", "scancel"):
        _program(name)
    return module


def command(name: str, *words: str) -> str:
    """The output of one of Slurm's commands.

    Raises:
        RuntimeError: it is missing, fails or does not answer; with what it said.
    """
    try:
        done = subprocess.run([_program(name), *words], capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{name} did not answer within a minute") from None
    if done.returncode:
        raise RuntimeError(f"{name} failed: {' '.join(done.stderr.split())[:300]}")
    return done.stdout


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise RuntimeError(
            f"there is no {name} on this machine's path; SlurmQueue works where Slurm's commands do, such as the "
            "login node of a cluster, and LocalQueue works everywhere"
        )
    return found


def _said(reason: str) -> str:
    return "" if reason in ("None", "(null)", "N/A") else reason
