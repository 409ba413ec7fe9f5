"""What a warm training process does: take a stack from the board, train it, take the next."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from workbench.launch import verdicts
from workbench.launch.board import ATTEMPTS, FRESH, Board, Notes, new_name, split, waiting
from workbench.launch.stack import Run, append_log, ended, train_stack

__all__ = ["TrainerLoop", "append_output", "end_unattended", "give_up_lost", "halve", "many_files"]

#: Seconds between two looks at the whole board where nothing seems to have changed.
_LOOK = 0.5
#: Bytes of a worker's output that go into each run's log.
_OUTPUT = 65536


class TrainerLoop:
    """The training process of one worker.

    Args:
        root: folder of the run folders.
        name: of the worker, on the board.
    """

    def __init__(self, root: Path, name: str) -> None:
        self.board, self.name = Board(root), name
        settings = self.board.description(name)
        self.device = settings["slots"]["device"]
        self.idle = float(settings["idle"])
        self.compile = bool(settings["compile"])
        self.checkpoint_seconds = float(settings["checkpoint_seconds"])
        self.memory_share = float(settings.get("memory_share", 1.0))
        self.place = os.environ.get("WORKBENCH_PLACE", self.device)
        self.stopping = False

    def run(self) -> int:
        """Work until there has been nothing to do for `idle` seconds, or until told to stop; the exit status."""
        signal.signal(signal.SIGTERM, self._stop)
        faulthandler.enable()  # a crash in C leaves a traceback in the log
        many_files()
        self._confine()
        since, seen, looked = time.monotonic(), (-1, -1), 0.0
        while not self.stopping:
            now, stamp = time.monotonic(), self.board.stamp()
            if stamp != seen or now - looked > _LOOK:
                seen, looked = stamp, now
                runs = self.take()
                if runs:
                    code = self.train(runs)
                    if code:
                        return code
                    since = time.monotonic()
                    continue
            if now - since > self.idle:
                break
            time.sleep(0.05)
        return 0

    def take(self) -> list[Run]:
        """The costliest stack that waits, its runs locked and ready to go on; empty if there is none."""
        runs: list[Run] = []
        with self.board.change() as notes:
            give_up_lost(self.board, notes)
            stacks = waiting(self.board, notes, self.device)
            order = sorted(stacks, key=lambda stack: -sum(notes.wanted[id].cost for id in stacks[stack]))
            for stack in order:
                runs = [run for id in stacks[stack] if (run := self._open(notes, id)) is not None]
                if runs:
                    break
            for run in runs:
                entry = notes.wanted[run.probe.id]
                entry.worker, entry.attempts = self.name, entry.attempts + 1
        return self._same_step(runs)

    def _open(self, notes: Notes, id: str) -> Run | None:
        """The run, locked; None if it is over, damaged, or written by another process."""
        try:
            probe = self.board.probe(id)
            run = Run.attempt(self.board.root, probe)
            if run is None:
                return None
            if ended(run.folder):
                run.close()
                notes.drop(id)
                return None
            return run
        except (OSError, ValueError, TypeError) as error:  # its spec is damaged or its folder gone
            print(f"{id} cannot be trained: {error}", file=sys.stderr, flush=True)
            notes.drop(id)
            return None

    def _same_step(self, runs: list[Run]) -> list[Run]:
        """Those of the runs that go on from the same step, the most there are; the others go back."""
        bad: dict[str, BaseException] = {}
        for run in runs:
            try:
                run.resume()
            except (OSError, ValueError) as error:
                bad[run.probe.id] = error
        good = [run for run in runs if run.probe.id not in bad]
        steps = [run.step for run in good]
        common = max(steps, key=lambda step: (steps.count(step), step), default=0)
        ours = [run for run in good if run.step == common]
        with self.board.change() as notes:
            for run in good:
                entry = notes.wanted[run.probe.id]
                if run.step > entry.step:  # it got further since it was last taken
                    entry.attempts, entry.step = 1, run.step
            others: dict[int, list[str]] = {}
            for run in good:
                if run.step != common:
                    others.setdefault(run.step, []).append(run.probe.id)
            for ids in others.values():
                split(notes, ids)
                for id in ids:
                    notes.wanted[id].worker = None
                    notes.wanted[id].attempts -= 1
            for run in runs:
                if run.probe.id in bad:
                    notes.drop(run.probe.id)
                    with suppress(OSError):
                        run.end(verdicts.failed(bad[run.probe.id]))
                if run not in ours:
                    run.close()
        return ours

    def train(self, runs: Sequence[Run]) -> int:
        """Train a stack and say how it ended; 0, or the exit status with which the process must leave."""
        ids = [run.probe.id for run in runs]
        mark = _size(self.board.worker_log(self.name))
        self.board.describe(self.name, mark=mark)
        for run in runs:
            run.begin(self.place, len(runs), f"; worker's output in .queue/logs/{self.name}.txt")
        seen, asked = self.board.stamp(), False

        def should_stop() -> bool:
            nonlocal seen, asked
            if (stamp := self.board.stamp()) != seen:
                seen = stamp
                asked = bool(self.board.read().cancel.intersection(ids))
            return asked or self.stopping

        error, outcomes = None, []
        try:
            # cancelled between being taken and now
            asked = bool(self.board.read().cancel.intersection(ids))
            outcomes = train_stack(
                runs, device=self.device, compile=self.compile, checkpoint_seconds=self.checkpoint_seconds,
                should_stop=should_stop, place=self.place,
            )  # fmt: skip
        except Exception as problem:
            traceback.print_exc()
            # without its traceback, which keeps every tensor of the stack alive
            error = problem.with_traceback(None)
        sys.stdout.flush()
        sys.stderr.flush()
        append_output(self.board, self.name, mark, ids)
        with self.board.change() as notes:
            for run, outcome in zip(runs, outcomes, strict=False):  # none after an error
                if outcome != "stopped":
                    notes.drop(run.probe.id)
            left = [run for run in runs if run.probe.id in notes.wanted]
            if error is None:
                self._stopped(notes, left)
            else:
                self._failed(notes, left, error)
            for run in runs:
                run.close()
        return FRESH if error is not None and (self.device == "cuda" or verdicts.says_out_of_memory(error)) else 0

    def _stopped(self, notes: Notes, runs: Sequence[Run]) -> None:
        for run in runs:
            id = run.probe.id
            if id in notes.cancel:
                run.end(verdicts.cancelled(run.step), checkpoint=run.step)
                notes.drop(id)
            else:
                why = "its worker was told to stop" if self.stopping else "a neighbour in its stack was cancelled"
                run.pause(why)
                notes.wanted[id].worker, notes.wanted[id].attempts = None, 0

    def _failed(self, notes: Notes, runs: Sequence[Run], error: BaseException) -> None:
        text = " ".join(str(error).split())[:160]
        if verdicts.says_out_of_memory(error) and len(runs) > 1:
            halve(notes, [run.probe.id for run in runs])
            for run in runs:
                with suppress(OSError):
                    run.pause(f"memory ran out in a stack of {len(runs)}, so the stack was halved ({text})")
            return
        verdict = verdicts.out_of_memory(self.device, len(runs), text) if verdicts.says_out_of_memory(error) else None
        for run in runs:
            notes.drop(run.probe.id)
            with suppress(OSError):  # perhaps the very reason of the failure
                run.end(verdict or verdicts.failed(error), checkpoint=run.step)

    def _stop(self, *_: object) -> None:
        self.stopping = True

    def _confine(self) -> None:
        """Keep to this worker's part of its GPU, so that a stack that outgrows it harms no neighbour."""
        if self.device == "cuda" and self.memory_share < 1:
            import torch

            torch.cuda.set_per_process_memory_fraction(0.97 * self.memory_share)


def halve(notes: Notes, ids: Sequence[str]) -> None:
    """Make two stacks of one that was too large, which now wait."""
    middle = (len(ids) + 1) // 2
    for half in (ids[:middle], ids[middle:]):
        split(notes, half, limit=middle)
        for id in half:
            notes.wanted[id].worker, notes.wanted[id].attempts = None, 0


def give_up_lost(board: Board, notes: Notes) -> list[str]:
    """Free what dead workers had taken; what was lost `ATTEMPTS` times in a row without progress has failed."""
    given_up = []
    dead = {entry.worker for entry in notes.wanted.values()} - {None}
    dead = {name for name in dead if not board.lives(name)}
    for id, entry in list(notes.wanted.items()):
        if entry.worker not in dead:
            continue
        entry.worker = None
        if id in notes.cancel:
            end_unattended(board, id, verdicts.cancelled)
            notes.drop(id)
        elif entry.attempts >= ATTEMPTS:
            attempts = entry.attempts
            end_unattended(board, id, lambda step, attempts=attempts: verdicts.lost(attempts))
            notes.drop(id)
            given_up.append(id)
        elif entry.attempts > 1:  # perhaps a neighbour is the culprit
            entry.stack = new_name()
    return given_up


def end_unattended(board: Board, id: str, verdict: Callable[[int | None], verdicts.Verdict]) -> None:
    """Say how a run ended whose process can no longer say it; a run that another process writes is left alone.

    Args:
        board: where it was wanted.
        id: the run.
        verdict: from the step of its last checkpoint (None if there is none) to how it ended.
    """
    try:
        run = Run.attempt(board.root, board.probe(id))
    except (OSError, ValueError, TypeError):
        return
    if run is None:
        return
    try:
        if not ended(run.folder):
            checkpoint = None
            with suppress(ValueError):  # a torn status
                checkpoint = run.folder.status.get("checkpoint")
            run.end(verdict(checkpoint or None), checkpoint=checkpoint or 0)
    except OSError as error:
        print(f"the status of {id} cannot be written: {error}", file=sys.stderr, flush=True)
    finally:
        run.close()


def append_output(board: Board, name: str, mark: int, ids: Sequence[str]) -> None:
    """Copy what a worker has printed since `mark` to the logs of these runs."""
    with suppress(OSError):
        file = board.worker_log(name)
        with file.open("rb") as handle:
            handle.seek(max(mark, _size(file) - _OUTPUT))
            text = handle.read().decode("utf-8", "replace")
        if text:
            for id in ids:
                append_log(board.root / id, text)


def many_files() -> None:
    """Allow as many open files as this process may have: a stack holds two for each member."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wished = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    if soft != resource.RLIM_INFINITY and soft < wished:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wished, hard))


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0
