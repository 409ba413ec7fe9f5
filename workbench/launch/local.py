"""`LocalQueue`: probes on the GPUs or cores of this machine, in processes that outlive the notebook.

There is no daemon. `submit` writes what is wanted to a board (`board.py`) and starts workers; a worker
(`supervisor.py`) books a slot (`slots.py`), takes one stack after the other (`trainer_loop.py`) and leaves
when nothing is left. Whoever opens a `LocalQueue` on the same root, in another notebook or after a kernel
restart, sees and steers the same work.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import pandas as pd

from workbench.launch import plan, verdicts, view
from workbench.launch.board import Board, Entry, Notes, new_name, waiting
from workbench.launch.locks import Lock, held
from workbench.launch.process import alive, launch, reap, signal_group
from workbench.launch.queue import Job, Queue
from workbench.launch.slots import Slots, cores, find_gpus
from workbench.launch.stack import create, ended
from workbench.launch.trainer_loop import end_unattended, give_up_lost
from workbench.probes.spec import Probe
from workbench.probes.sweep import Sweep
from workbench.progress import Progress
from workbench.runs.load import load
from workbench.runs.store import RunFolder
from workbench.runs.table import RunTable

__all__ = ["LocalJob", "LocalQueue"]

#: Seconds between two looks while something is waited for.
_LOOK = 0.2


class LocalQueue(Queue):
    """Probes on this machine.

    Args:
        root: folder of the run folders; made if it is not there.
        device: ``cuda``, ``cpu``, or ``auto``: GPUs if there are any.
        gpus: UUIDs (or how they begin) or positions of the GPUs to use; default all that are visible.
        per_gpu: workers on each GPU, each with its share of the memory: 1, 2, 3, 4, 6 or 12.
        workers: workers on CPUs; default as many as fit the cores this process may use.
        threads: cores a CPU worker takes.
        compile: torch.compile on GPUs, worth its minute on long runs.
        checkpoint_seconds: seconds between two checkpoints of a stack.
        idle: seconds a worker stays warm without work; it keeps its slot meanwhile.
        grace: seconds a cancelled worker has to stop by itself, and again after a TERM, before the KILL.
        memory: from the probes of a stack to the bytes it takes, or None if unknown; default
            `workbench.launch.plan.stack_memory`.

    Raises:
        OSError: `root` cannot be written.
        ValueError: no such device, or numbers that do not fit this machine.
    """

    def __init__(
        self,
        root: str | Path = "runs",
        *,
        device: str = "auto",
        gpus: Sequence[str | int] | None = None,
        per_gpu: int = 1,
        workers: int | None = None,
        threads: int = 1,
        compile: bool = False,
        checkpoint_seconds: float = 60.0,
        idle: float = 10.0,
        grace: float = 10.0,
        memory: Callable[[Sequence[Probe]], float | None] = plan.stack_memory,
    ) -> None:
        self.root = Path(root).expanduser().absolute()
        self.slots = _slots(device, gpus, per_gpu, workers, threads)
        self.grace, self._memory = grace, memory
        self._settings = {"idle": idle, "compile": compile, "checkpoint_seconds": checkpoint_seconds}
        self._command = [sys.executable, "-m", "workbench.launch.worker"]
        self._board = Board(self.root)
        self._board.make()

    def submit(self, sweep: Sweep | Probe | Iterable[Probe]) -> LocalJob:
        sweep = sweep if isinstance(sweep, Sweep) else Sweep((sweep,) if isinstance(sweep, Probe) else tuple(sweep))
        with Lock.wait(self._board.folder / "submit.lock"):  # else one writes "created" over what another trains
            folders = {probe.id: create(self.root, probe) for probe in sweep}
        with self._board.change() as notes:
            for left in self._board.folder.glob(".board.json*.tmp"):  # of a process that was killed
                left.unlink(missing_ok=True)
            self._board.add_job(sweep)
            self._want(notes, [probe for probe in sweep if not ended(folders[probe.id])])
        self.tend()
        return LocalJob(self, sweep)

    def cancel(self, ids: Iterable[str]) -> None:
        """Stop these probes, and return when they have stopped; what they wrote stays, `submit` resumes them.

        A worker stops within a second and writes a checkpoint. One that does not gets TERM after `grace`
        seconds, and KILL after as many again; then the last regular checkpoint is what is left. Members of
        the same stack that were not cancelled go on from there.
        """
        ids = [ids] if isinstance(ids, str) else list(ids)
        with self._board.change() as notes:
            taken = {id for id in ids if id in notes.wanted and self._board.lives(notes.wanted[id].worker)}
            notes.cancel |= taken
            for id in ids:
                if id in notes.wanted and id not in taken:
                    end_unattended(self._board, id, verdicts.cancelled)
                    notes.drop(id)
        self._stop(taken)
        self.tend()

    def jobs(self) -> list[LocalJob]:
        return [LocalJob(self, sweep) for sweep in self._board.jobs()]

    def tend(self) -> None:
        """Start workers for what waits, as far as there are slots; harmless at any time.

        After a restart of the machine, this is what sets everything going again that was wanted.
        """
        reap()
        with self._board.change() as notes:
            give_up_lost(self._board, notes)
            stacks = waiting(self._board, notes, self.slots.device)
            if not stacks:
                return
            living = self._workers()
            busy = {entry.worker for entry in notes.wanted.values()}
            spare = len([name for name in living if name not in busy])
            for _ in range(min(len(stacks) - spare, len(self.slots) - len(living))):
                self._start()

    def _workers(self) -> list[str]:
        """Living workers of this root for this kind of device."""
        found = self._board.workers()
        return [n for n in found if self._board.description(n).get("slots", {}).get("device") == self.slots.device]

    def _start(self) -> None:
        name = new_name()
        # Held from before its birth: nobody takes the worker for dead while it starts.
        with Lock.wait(self._board.worker_lock(name)) as lock:
            share = 1.0 / self.slots.per_gpu if self.slots.device == "cuda" else 1.0
            self._board.describe(name, slots=self.slots.to_dict(), memory_share=share, **self._settings)
            launch(
                [*self._command, str(self.root), name, str(lock.descriptor)],
                environment=_environment(), log=self._board.worker_log(name), keep=[lock.descriptor],
            )  # fmt: skip

    def _want(self, notes: Notes, probes: Sequence[Probe]) -> None:
        """Put probes on the board, and divide everything that waits into stacks anew."""
        known = {probe.id: probe for probe in probes}
        for probe in probes:
            notes.cancel.discard(probe.id)
            entry = notes.wanted.setdefault(probe.id, Entry(new_name()))
            if not self._board.lives(entry.worker):
                entry.device, entry.worker, entry.attempts = self.slots.device, None, 0
            entry.cost = float(probe.flops)
        ids = [id for stack in waiting(self._board, notes, self.slots.device).values() for id in stack]
        for id in [id for id in ids if id not in known]:
            with suppress(OSError, ValueError, TypeError):
                known[id] = self._board.probe(id)
        memory = self.slots.memory

        def fits(stack: Sequence[str]) -> bool:
            limit = min((notes.wanted[id].limit or len(stack) for id in stack), default=len(stack))
            need = None if memory is None else self._memory([known[id] for id in stack])
            return len(stack) <= limit and (need is None or need <= plan.FILL * memory)

        stacks = plan.plan(
            [id for id in ids if id in known],
            group=lambda id: (known[id].shape, self._checkpoint(id)),
            cost=lambda id: notes.wanted[id].cost,
            slots=len(self.slots),
            fits=fits,
        )
        for stack in stacks:
            name = new_name()
            for id in stack:
                notes.wanted[id].stack = name

    def _checkpoint(self, id: str) -> int:
        """The step a run will go on from, as far as its status knows; the worker looks into the checkpoint."""
        try:
            return int(RunFolder(self.root / id).status.get("checkpoint") or 0)
        except (ValueError, TypeError):
            return 0

    def _stop(self, ids: set[str]) -> None:
        """Wait until the workers of these probes have stopped them; with TERM, then KILL, if they do not."""
        started, sent = time.monotonic(), []
        while True:
            with self._board.change() as notes:
                give_up_lost(self._board, notes)
                left = ids & notes.cancel  # who submits again meanwhile takes it out
                workers = {notes.wanted[id].worker for id in left if id in notes.wanted}
            if not left:
                return
            waited = time.monotonic() - started
            for number, after in ((signal.SIGTERM, self.grace), (signal.SIGKILL, 2 * self.grace)):
                if waited > after and number not in sent:
                    sent.append(number)
                    for name in workers - {None}:
                        leader = self._board.leader(name, "trainer")
                        if leader is not None and alive(leader):
                            signal_group(leader, number)
            time.sleep(0.05)


class LocalJob(Job):
    """A sweep in a `LocalQueue`."""

    def __init__(self, queue: LocalQueue, sweep: Sweep) -> None:
        self.queue, self.sweep = queue, sweep

    def table(self) -> pd.DataFrame:
        return view.table(self.queue.root, self.sweep, self.queue._board.read().wanted)

    def wait(self, timeout: float | None = None) -> bool:
        end = None if timeout is None else time.monotonic() + timeout
        with Progress(f"Watching {len(self.sweep)} probes") as progress:
            while True:
                looked = time.monotonic()
                self.queue.tend()
                wanted = self.queue._board.read().wanted
                fraction, note = view.summary(self.table(), self.sweep)
                over = not any(p.id in wanted or self._busy(p.id) for p in self.sweep)
                progress(1.0 if over else min(fraction, 0.999), note)
                now = time.monotonic()
                if over or (end is not None and now >= end):
                    return over
                # hundreds of folders take a while to read: at most a tenth of the time goes into that
                pause = max(_LOOK, 10 * (now - looked))
                time.sleep(pause if end is None else max(0.0, min(pause, end - now)))

    def cancel(self) -> None:
        self.queue.cancel([probe.id for probe in self.sweep])

    def runs(self) -> RunTable:
        return load([self.queue.root / probe.id for probe in self.sweep])

    def _busy(self, id: str) -> bool:
        return held(self.queue._board.run_lock(id))

    def __repr__(self) -> str:
        fraction, note = view.summary(self.table(), self.sweep)
        return f"LocalJob {self.sweep.id} in {str(self.queue.root)!r}: {fraction:.0%} of the tokens, {note}"


def _slots(device: str, gpus: Sequence[str | int] | None, per_gpu: int, workers: int | None, threads: int) -> Slots:
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device={device!r} is not known to a queue; use 'auto', 'cpu' or 'cuda' (with gpus=)")
    found = () if device == "cpu" else find_gpus(gpus)
    if device == "cuda" or found:
        return Slots("cuda", gpus=found, per_gpu=per_gpu)
    own = cores()
    if workers is not None:
        if not 1 <= workers <= 4096:
            raise ValueError(f"workers={workers} is out of range; give 1 to 4096")
        # More workers than cores is the user's business; the surplus has slots of its own.
        need = workers * threads
        own = own[:need] if need <= len(own) else (*own, *range(max(own) + 1, max(own) + 1 + need - len(own)))
    return Slots("cpu", cores=own, threads=threads)


def _environment() -> dict[str, str]:
    """This process's environment, with the `workbench` that runs here, wherever it was imported from."""
    here = str(Path(__file__).resolve().parents[2])
    paths = [here, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)), "PYTHONUNBUFFERED": "1"}
