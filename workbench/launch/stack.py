"""One stack of probes, trained into its run folders: the part that every way of launching shares."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from workbench.files import write_whole
from workbench.launch import verdicts
from workbench.launch.board import run_lock
from workbench.launch.locks import Lock
from workbench.probes.spec import Probe
from workbench.runs.readers.base import LoadError
from workbench.runs.store import SCHEMA, RunFolder
from workbench.runs.strict_json import dumps, loads

__all__ = ["ENDED", "HEARTBEAT", "Run", "create", "ended", "train_stack"]

#: Seconds between heartbeats, by which a reader on another machine tells a running probe from a dead one.
HEARTBEAT = 5.0
#: States in which nothing is left to train.
ENDED = ("finished", "diverged")
#: Result columns that go into the status, from where the reader takes them into the run's row.
_TOTALS = ("params", "params_non_embedding", "tokens", "flops", "unique_tokens", "epochs")


def trainer() -> tuple[Callable, Any]:
    """``train`` and `Checkpoint`, imported at the last moment: they import torch, which takes seconds."""
    from workbench.probes.checkpoint import Checkpoint
    from workbench.probes.trainer import train

    return train, Checkpoint


def create(root: Path, probe: Probe) -> RunFolder:
    """The probe's run folder, made if it is not there yet.

    Raises:
        OSError: it cannot be written.
        ValueError: it holds another spec.
    """
    spec = {key: value for key, value in probe.to_dict().items() if key != "schema"}
    return RunFolder.create(root, probe.id, spec)


def ended(folder: RunFolder) -> bool:
    """Whether the run has nothing left to train. A torn status says nothing, so such a run is not over."""
    try:
        return folder.status.get("state") in ENDED
    except LoadError:
        return False


class Run:
    """A run that this process alone may write: its folder, locked, and where it stands.

    Attributes:
        probe: what is trained.
        folder: where it is written.
        state: `Checkpoint` to go on from, None for a fresh start.
        damage: what was wrong with the checkpoint, if it could not be read.
    """

    def __init__(self, folder: RunFolder, probe: Probe, lock: Lock) -> None:
        self.folder, self.probe, self._lock = folder, probe, lock
        self.state: Any = None
        self.damage: str | None = None
        self._records: dict[int, str] = {}
        self._others: list[str] = []

    @classmethod
    def attempt(cls, root: Path, probe: Probe) -> Run | None:
        """The run, or None if another process writes it. Its folder must be there."""
        lock = Lock.attempt(run_lock(root, probe.id))
        return None if lock is None else cls(RunFolder.open(root / probe.id), probe, lock)

    def resume(self) -> None:
        """Read the checkpoint and mend the metrics, so that training can go on where it was.

        A line that a crash tore is taken out, records that the checkpoint has and the file has not are put
        in: whole lines that some reader has seen stay as they are.

        Raises:
            LoadError: the metrics were written by a newer version.
            OSError: the folder cannot be read or written.
        """
        _, checkpoint = trainer()
        try:
            self.state = checkpoint.read(self.folder.path / "checkpoint")
        except ValueError as error:
            self.damage = str(error)
        _, skipped = self.folder.metrics()
        file = self.folder.path / "metrics.jsonl"
        lines = file.read_text(encoding="utf-8", errors="replace").split("\n") if file.exists() else []
        self._records, self._others = _by_step(lines)
        for pattern in (".*.tmp", "checkpoint/.*.tmp"):  # of a writer that was killed; nobody else writes here now
            for left in self.folder.path.glob(pattern):
                left.unlink(missing_ok=True)
        if skipped:
            self._rewrite()
        for record in self.state.records if self.state is not None else ():
            self.add(record)

    @property
    def step(self) -> int:
        """Steps that need not be trained again."""
        return 0 if self.state is None else self.state.step

    @property
    def reached(self) -> int | None:
        """Step of the last record, None before the first."""
        return max(self._records, default=None)

    def add(self, record: Mapping[str, Any]) -> None:
        """Append a record unless the file has one of its step: a resumed run repeats what it had recorded."""
        step = int(record["step"])
        if step in self._records:
            return
        late = self.reached is not None and step < self.reached
        self._records[step] = dumps(record)
        if late:  # a record in the middle had been lost
            self._rewrite()
        else:
            self.folder.append(record)

    def save(self, state: Any) -> None:
        """Make `state` the checkpoint; the records before it reach the disk first."""
        self.folder.sync()
        state.write(self.folder.path / "checkpoint")
        self.state = state

    def end(self, verdict: verdicts.Verdict, **fields: Any) -> None:
        """Say in the status how the run ended; what `finished` and `diverged` runs need no more is removed."""
        self.folder.close()
        self.folder.set_status(verdict.state, **fields, **verdict.fields)
        if verdict.state in ENDED:
            shutil.rmtree(self.folder.path / "checkpoint", ignore_errors=True)

    def pause(self, why: str) -> None:
        """Say in the status that the run waits to go on."""
        self.folder.close()
        self.folder.set_status(
            "created", checkpoint=self.step, verdict=f"waiting: {why}; goes on from step {self.step}"
        )

    def begin(self, place: str, members: int, more: str = "") -> None:
        """Say in the log who trains the run from here on."""
        when = time.strftime("%Y-%m-%d %H:%M:%S%z")
        stack = f"in a stack of {members}"
        self.log(f"--- {when} process {os.getpid()} on {place}: from step {self.step} {stack}{more}")
        if self.damage:
            self.log(self.damage)

    def log(self, text: str) -> None:
        append_log(self.folder.path, text)

    def close(self) -> None:
        """Let go of the run."""
        with suppress(OSError):  # the disk may be full; what was acknowledged before is safe
            self.folder.close()
        self._lock.release()

    def _rewrite(self) -> None:
        self.folder.close()
        header = dumps({"schema": SCHEMA, "kind": "metrics"})
        lines = [header, *(self._records[step] for step in sorted(self._records)), *self._others]
        write_whole(self.folder.path / "metrics.jsonl", "\n".join(lines) + "\n")


def append_log(folder: Path, text: str) -> None:
    """Add text to a run's ``log.txt``."""
    with (folder / "log.txt").open("a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text if text.endswith("\n") else text + "\n")


def train_stack(
    runs: Sequence[Run],
    *,
    device: str | None = None,
    compile: bool = False,
    checkpoint_seconds: float = 60.0,
    should_stop: Callable[[], bool] | None = None,
    tick: Callable[[float, float], None] | None = None,
    place: str = "",
) -> list[str]:
    """Train runs of equal shape and step as one stack, into their folders.

    Runs that finish or diverge have their last status when this returns. One that was stopped has a
    checkpoint of where it stopped and the status ``running``: the caller knows why it was stopped.

    Args:
        runs: the members; `Run.resume` was called on each.
        device: ``cpu``, ``cuda`` or ``auto``.
        compile: as for `train`.
        checkpoint_seconds: seconds between checkpoints.
        should_stop: asked about ten times a second.
        tick: called with the fraction done and tokens per second.
        place: device or slot, for people.

    Returns:
        ``finished``, ``diverged`` or ``stopped`` for each member.

    Raises:
        Exception: whatever the trainer raises; statuses are as they were.
    """
    train, _ = trainer()
    beat = _Heartbeat(runs, place)
    beat(runs[0].step / runs[0].probe.steps, None, at_once=True)
    stopping = False

    def stop() -> bool:
        nonlocal stopping
        stopping = stopping or (should_stop is not None and should_stop())
        return stopping

    def on_event(index: int, record: dict[str, Any]) -> None:
        # The trainer's last look at a run that it was told to stop is no point of the undisturbed curve.
        if not stopping:
            runs[index].add(record)

    def on_progress(fraction: float, rate: float) -> None:
        beat(fraction, rate)
        if tick is not None:
            tick(fraction, rate)

    def on_checkpoint(states: Sequence[Any]) -> None:
        for run, state in zip(runs, states, strict=True):
            run.save(state)
        beat(runs[0].step / runs[0].probe.steps, None, at_once=True)  # where each would go on from

    states = [run.state for run in runs]
    results = train(
        [run.probe for run in runs],
        device,
        on_event=on_event,
        on_progress=on_progress,
        should_stop=stop,
        compile=compile,
        states=None if states[0] is None else states,
        on_checkpoint=on_checkpoint,
        checkpoint_seconds=checkpoint_seconds,
    )
    for run, result in zip(runs, results, strict=True):
        if result.state is not None:  # stopped; whether it has diverged is decided where it would have been, too
            run.save(result.state)
            continue
        for record in result.records:
            run.add(record)
        row = result.row() if result.records else {}  # a run may diverge before its first record
        steps = result.records[-1]["step"] if result.records else 0
        totals = {name: row[name] for name in _TOTALS if name in row}
        run.end(verdicts.finished(result.status, steps), **totals, provenance=result.provenance)
    return ["stopped" if result.state is not None else result.status for result in results]


class _Heartbeat:
    """Tells in every member's status how far it is, as often as the disk bears it."""

    def __init__(self, runs: Sequence[Run], place: str) -> None:
        self.runs = runs
        self.fields = {"place": place, "host": socket.gethostname(), "pid": os.getpid(), "members": len(runs)}
        self.every, self.last = HEARTBEAT, 0.0
        self.rate: float | None = None

    def __call__(self, fraction: float, rate: float | None, at_once: bool = False) -> None:
        now = time.monotonic()
        self.rate = self.rate if rate is None else rate
        if not at_once and now - self.last < self.every:
            return
        for run in self.runs:
            own = None if self.rate is None else self.rate / len(self.runs)
            run.folder.set_status(
                "running", fraction=fraction, tokens_per_second=own, checkpoint=run.step, every=self.every,
                **self.fields,
            )  # fmt: skip
        self.last = time.monotonic()
        # Hundreds of members on a slow disk: at most a fiftieth of the time goes into saying so.
        self.every = max(HEARTBEAT, 50 * (self.last - now))


def _by_step(lines: Sequence[str]) -> tuple[dict[int, str], list[str]]:
    """The whole records among the lines of a metrics file: by step, and those without one.

    The first of two with one step wins, as it was there to be read first.
    """
    found: dict[int, str] = {}
    others = []
    for line in lines:
        try:
            record = loads(line)
        except ValueError:
            continue
        if not isinstance(record, dict) or (record.get("kind") == "metrics" and "schema" in record):
            continue
        try:
            found.setdefault(int(record["step"]), line)
        except (KeyError, TypeError, ValueError):
            others.append(line)
    return found, others
