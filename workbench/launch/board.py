"""The board of a queue: ``<root>/.queue``, where submitters say what is wanted and workers what they took.

::

    .queue/board.json           what is wanted and not ended, and which of it is to be cancelled
    .queue/board.lock           held by whoever changes board.json
    .queue/jobs/<sweep id>.json every sweep ever submitted
    .queue/workers/<name>.json  settings of a worker and its processes; <name>.lock is held while one lives
    .queue/logs/<name>.txt      output of a worker

The board only says who is to train what. What has been trained stands in the run folders alone, so a
board that is lost costs a new `submit` and nothing else.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from workbench.files import write_whole
from workbench.launch.locks import Lock, held
from workbench.launch.process import Identity
from workbench.probes.spec import Probe
from workbench.probes.sweep import Sweep

__all__ = ["ATTEMPTS", "FRESH", "Board", "Entry", "Notes", "new_name", "run_lock", "split", "waiting"]

#: How often in a row a probe may lose its worker without getting further before it is given up.
ATTEMPTS = 3
#: Exit status by which a trainer asks for a new process: after an error on a GPU the old one may be unusable.
FRESH = 75


@dataclass
class Entry:
    """A probe that is wanted.

    Attributes:
        stack: entries with the same text are trained together.
        device: ``cpu`` or ``cuda``; only a worker of that kind takes it.
        cost: FLOPs of its training, by which the largest stack is taken first.
        limit: most members its stack may have, after memory ran out with more; None for no limit known.
        worker: who took it.
        attempts: how often it was taken without getting further.
        step: checkpoint that it was last taken at.
    """

    stack: str
    device: str = "cpu"
    cost: float = 0.0
    limit: int | None = None
    worker: str | None = None
    attempts: int = 0
    step: int = -1


@dataclass
class Notes:
    """What stands on the board.

    Attributes:
        wanted: entry of each probe by id.
        cancel: ids that a worker has taken and is to stop.
    """

    wanted: dict[str, Entry] = field(default_factory=dict)
    cancel: set[str] = field(default_factory=set)

    def drop(self, id: str) -> None:
        self.wanted.pop(id, None)
        self.cancel.discard(id)


class Board:
    """The board below one root.

    Attributes:
        root: the folder of run folders.
        folder: ``root/.queue``.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / ".queue"

    def make(self) -> None:
        """Make the folders.

        Raises:
            OSError: `root` cannot be written.
        """
        for name in ("jobs", "workers", "logs"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    def read(self) -> Notes:
        """The notes as they stand.

        Raises:
            ValueError: the file is damaged.
        """
        file = self.folder / "board.json"
        try:
            data = json.loads(file.read_text())
            return Notes({id: Entry(**entry) for id, entry in data["wanted"].items()}, set(data["cancel"]))
        except FileNotFoundError:
            return Notes()
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(
                f"{str(file)!r} is damaged ({error}); delete it and submit again: no run is lost by that"
            ) from None

    @contextmanager
    def change(self) -> Iterator[Notes]:
        """The notes, for changing: nobody else changes them meanwhile; written at the end unless an error comes."""
        with Lock.wait(self.folder / "board.lock"):
            notes = self.read()
            before = _text(notes)
            yield notes
            if (after := _text(notes)) != before:
                write_whole(self.folder / "board.json", after)

    def stamp(self) -> tuple[int, int]:
        """Changes whenever the notes do; much cheaper than reading them."""
        try:
            found = (self.folder / "board.json").stat()
        except FileNotFoundError:
            return (0, 0)
        return (found.st_mtime_ns, found.st_ino)

    # Jobs

    def add_job(self, sweep: Sweep) -> None:
        data = {"schema": 1, "submitted": time.time(), "sweep": json.loads(sweep.to_json())}
        write_whole(self.folder / "jobs" / f"{sweep.id}.json", json.dumps(data) + "\n")

    def jobs(self) -> list[Sweep]:
        """Sweeps that were submitted, latest first; a file that cannot be read is left out."""
        found = []
        for file in (self.folder / "jobs").glob("*.json"):
            with suppress(OSError, ValueError, TypeError, KeyError):
                data = json.loads(file.read_text())
                found.append((float(data["submitted"]), Sweep.from_json(json.dumps(data["sweep"]))))
        return [sweep for _, sweep in sorted(found, key=lambda pair: -pair[0])]

    # Workers

    def worker_file(self, name: str) -> Path:
        return self.folder / "workers" / f"{name}.json"

    def worker_lock(self, name: str) -> Path:
        return self.folder / "workers" / f"{name}.lock"

    def worker_log(self, name: str) -> Path:
        return self.folder / "logs" / f"{name}.txt"

    def lives(self, name: str | None) -> bool:
        """Whether a process of this worker lives on this machine (or on another that shares its locks)."""
        return name is not None and held(self.worker_lock(name))

    def workers(self) -> list[str]:
        """Workers that live; the files of dead ones are removed."""
        living = []
        for file in sorted((self.folder / "workers").glob("*.lock")):
            lock = Lock.attempt(file)
            if lock is None:
                living.append(file.stem)
                continue
            with lock:
                self.worker_file(file.stem).unlink(missing_ok=True)
                log = self.worker_log(file.stem)
                with suppress(OSError):
                    if not log.stat().st_size:
                        log.unlink()
                file.unlink(missing_ok=True)
        return living

    def describe(self, name: str, **fields: Any) -> None:
        """Add fields to a worker's file."""
        file = self.worker_file(name)
        with suppress(OSError, ValueError):
            fields = {**json.loads(file.read_text()), **fields}
        write_whole(file, json.dumps(fields, indent=1) + "\n")

    def description(self, name: str) -> dict[str, Any]:
        """A worker's file; empty if it is gone."""
        try:
            return json.loads(self.worker_file(name).read_text())
        except (OSError, ValueError):
            return {}

    def leader(self, name: str, role: str) -> Identity | None:
        """The process of a worker in this role: ``supervisor`` or ``trainer``."""
        data = self.description(name).get(role)
        return Identity.from_dict(data) if data else None

    # Runs

    def run_lock(self, id: str) -> Path:
        """Held by whoever writes this run's files."""
        return run_lock(self.root, id)

    def probe(self, id: str) -> Probe:
        """The probe of a run folder.

        Raises:
            LoadError, TypeError, ValueError, OSError: its spec is damaged.
        """
        from workbench.runs.store import RunFolder  # pandas, which a waiting worker does without

        return Probe.from_dict(RunFolder.open(self.root / id).spec)


def run_lock(root: Path, id: str) -> Path:
    return root / id / ".lock"


def waiting(board: Board, notes: Notes, device: str) -> dict[str, list[str]]:
    """Ids by stack that no living worker has taken and one of this device may take."""
    lives: dict[str | None, bool] = {None: False}
    stacks: dict[str, list[str]] = {}
    for id, entry in notes.wanted.items():
        if entry.worker not in lives:
            lives[entry.worker] = board.lives(entry.worker)
        if entry.device == device and not lives[entry.worker] and id not in notes.cancel:
            stacks.setdefault(entry.stack, []).append(id)
    return stacks


def new_name() -> str:
    """A name that nothing else has."""
    return os.urandom(6).hex()


def split(notes: Notes, ids: Sequence[str], limit: int | None = None) -> None:
    """Give these entries a stack of their own, with at most `limit` members."""
    stack = new_name()
    for id in ids:
        entry = notes.wanted[id]
        entry.stack = stack
        if limit is not None:
            entry.limit = limit if entry.limit is None else min(limit, entry.limit)


def _text(notes: Notes) -> str:
    wanted = {id: asdict(entry) for id, entry in notes.wanted.items()}
    return json.dumps({"schema": 1, "wanted": wanted, "cancel": sorted(notes.cancel)}) + "\n"
