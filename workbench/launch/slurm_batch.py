"""What a `SlurmQueue` remembers: its batches, and who trains which probe.

::

    .queue/slurm/claims/<id>.json     batch and task that train the probe, or that nobody does
    .queue/slurm/<name>/batch.json    one submission: its tasks, stacks and settings, and Slurm's ids
    .queue/slurm/<name>/submitit/     what Submitit stores, and the output of the tasks

A task trains a probe as long as the claim names the task, and only submitters change claims: to cancel a
probe, or to give it to another task, is to write one claim.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.files import write_whole
from workbench.probes.spec import Probe
from workbench.probes.sweep import Sweep

__all__ = ["Batch", "Claims", "divide"]


class Claims:
    """Who trains which probe.

    Attributes:
        folder: where the claims are.
    """

    def __init__(self, root: Path) -> None:
        self.folder = root / ".queue" / "slurm" / "claims"

    def give(self, ids: Iterable[str], batch: str | None, task: int = 0) -> None:
        """From now on this task of this batch trains these probes; with batch None, nobody does."""
        for id in ids:
            write_whole(self.folder / f"{id}.json", json.dumps({"batch": batch, "task": task}) + "\n")
        write_whole(self.folder / "stamp", os.urandom(8).hex())

    def of(self, id: str) -> tuple[str, int] | None:
        """Batch and task that train this probe, or None if nobody is to."""
        try:
            data = json.loads((self.folder / f"{id}.json").read_text())
            return None if data["batch"] is None else (str(data["batch"]), int(data["task"]))
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def stamp(self) -> str:
        """Changes whenever a claim does. It is read, not looked at: NFS may show the old date of a new file."""
        try:
            return (self.folder / "stamp").read_text()
        except OSError:
            return ""


@dataclass
class Batch:
    """One submission.

    Attributes:
        root: the folder of run folders.
        name: of the batch's folder.
        tasks: for each array task its stacks, for each stack the ids of its probes.
        settings: device, compile, checkpoint_seconds, processes (of a task), minutes (its time limit).
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

    @property
    def output(self) -> Path:
        """Folder of Submitit's files and the tasks' output."""
        return self.folder / "submitit"

    def write(self) -> None:
        data = {"schema": 1, "tasks": self.tasks, "settings": self.settings, "jobs": self.jobs}
        write_whole(self.folder / "batch.json", json.dumps(data) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Batch:
        """The batch in `folder`.

        Raises:
            OSError, ValueError: the file is not there, or damaged.
        """
        try:
            data = json.loads((folder / "batch.json").read_text())
            return cls(folder.parents[2], folder.name, data["tasks"], data["settings"], data["jobs"])
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"{str(folder / 'batch.json')!r} is damaged ({error}); submit the sweep again, no run is lost"
            ) from None

    def ids(self, task: int | None = None) -> list[str]:
        """All probes, or those of one task."""
        tasks = self.tasks if task is None else [self.tasks[task]]
        return [id for stacks in tasks for stack in stacks for id in stack]

    def mine(self, task: int, ids: Sequence[str] | None = None) -> list[str]:
        """Those of `ids` (all of the task unless given) that `task` is to train."""
        claims = Claims(self.root)
        return [id for id in (self.ids(task) if ids is None else ids) if claims.of(id) == (self.name, task)]


def divide(
    probes: Sequence[Probe], tasks: int | None = None, stack: int | None = None, processes: int = 1
) -> list[list[list[str]]]:
    """Divide probes among array tasks.

    Probes of equal shape are trained together, in one stack. The costliest stack left always goes to the
    task with the least work, so no task gets more than 4/3 of what the best division would give it (Graham
    1969, "Bounds on multiprocessing timing anomalies").

    Args:
        probes: what is to be trained.
        tasks: most tasks; None gives every stack one, or every `processes` stacks.
        stack: most members of a stack; larger ones are split into equal parts.
        processes: of a task; they take its stacks in turn.

    Returns:
        For each task its stacks (ids), costliest first.
    """
    stacks: list[list[Probe]] = []
    for positions in Sweep(tuple(probes)).buckets():
        parts = math.ceil(len(positions) / (stack or len(positions)))
        stacks += [[probes[at] for at in positions[part::parts]] for part in range(parts)]
    costs = [sum(probe.flops for probe in members) for members in stacks]
    count = min(tasks or math.ceil(len(stacks) / processes), len(stacks))
    shares: list[list[list[str]]] = [[] for _ in range(count)]
    work = [0.0] * count
    for at in sorted(range(len(stacks)), key=lambda at: -costs[at]):
        least = work.index(min(work))
        shares[least].append([probe.id for probe in stacks[at]])
        work[least] += costs[at]
    return shares
