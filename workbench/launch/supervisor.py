"""The small process above each training process: it books a slot, starts the trainer, and sees how it ends.

Only a parent learns by which signal its child died, and the notebook that asked for the work may be gone by
then. The supervisor imports neither torch nor pandas, so that waiting for a slot costs next to nothing.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from workbench.launch import verdicts
from workbench.launch.board import FRESH, Board, Notes, waiting
from workbench.launch.locks import Lock
from workbench.launch.process import Identity, alive, birth, me, oom_kills, signal_group
from workbench.launch.slots import Booking, Slots, book

__all__ = ["Supervisor"]

#: Training processes in a row that may die before they took anything, until the queue is declared broken.
_STILLBORN = 3
#: Seconds after which a booked slot's lock files are touched, so that no cleaner of old files removes them.
_TOUCH = 3600.0


class Supervisor:
    """The supervisor of one worker.

    Args:
        root: folder of the run folders.
        name: of the worker, on the board.
        lock: the worker's lock, inherited from whoever started this process.
        command: what starts a training process; root and name are added.
    """

    def __init__(self, root: Path, name: str, lock: Lock, command: Sequence[str]) -> None:
        self.board, self.name, self.lock, self.command = Board(root), name, lock, list(command)
        self.slots = Slots.from_dict(self.board.description(name)["slots"])
        self.child: Identity | None = None
        self.stopping = False

    def run(self) -> int:
        """Wait for a slot, keep a trainer in it while there is work; the exit status."""
        signal.signal(signal.SIGTERM, self._stop)
        self.board.describe(self.name, supervisor=me().to_dict())
        booking = self._book()
        if booking is None:
            return 0
        self.board.describe(self.name, place=booking.place)
        stillborn = 0
        try:
            while not self.stopping:
                kills = oom_kills()
                code = self._train(booking)
                after = oom_kills()
                took = self._settle(code, None if kills is None or after is None else after - kills)
                stillborn = 0 if took or code in (0, FRESH) else stillborn + 1
                if stillborn == _STILLBORN:
                    self._give_up(code)
                if self._leave():
                    break
        finally:
            booking.release()
        return 0

    def _book(self) -> Booking | None:
        """A slot, as soon as one is free; None when nothing is left to do or on a signal."""
        pause = 0.05
        while not self.stopping:
            booking = book(self.slots)
            if booking is not None:
                return booking
            if self._leave():
                return None
            time.sleep(pause)
            pause = min(1.0, 1.5 * pause)
        return None

    def _leave(self) -> bool:
        """Let go of the worker's name if nothing waits.

        Both under the board's lock: whoever submits afterwards sees that this worker is gone and starts
        another, whoever submitted before is served by this one.
        """
        with self.board.change() as notes:
            if not self.stopping and waiting(self.board, notes, self.slots.device):
                return False
            self.lock.release()
            self.board.worker_file(self.name).unlink(missing_ok=True)
            self.board.worker_lock(self.name).unlink(missing_ok=True)
            with suppress(OSError):
                log = self.board.worker_log(self.name)
                if not log.stat().st_size:
                    log.unlink()
            return True

    def _train(self, booking: Booking) -> int:
        """One training process from start to end; its return code."""
        keep = (self.lock.descriptor, *booking.descriptors)
        environment = {**os.environ, **booking.environment, "WORKBENCH_PLACE": booking.place}
        command = [*self.command, str(self.board.root), self.name, "--train"]
        # a group of its own, so that it can be ended together with whatever it started
        child = subprocess.Popen(command, env=environment, pass_fds=keep, stdin=subprocess.DEVNULL, process_group=0)
        self.child = Identity(child.pid, birth(child.pid) or "", me().boot)
        self.board.describe(self.name, trainer=self.child.to_dict())
        if self.stopping:  # the signal came before there was anyone to pass it to
            signal_group(self.child, signal.SIGTERM)
        touched = time.monotonic()
        while True:
            try:
                return child.wait(timeout=_TOUCH)
            except subprocess.TimeoutExpired:
                if time.monotonic() - touched >= _TOUCH:
                    touched = time.monotonic()
                    for descriptor in keep:
                        os.utime(descriptor)

    def _settle(self, code: int, kills: int | None) -> bool:
        """Say how the probes ended that the dead trainer had taken; whether there were any."""
        if code in (0, FRESH):
            return True
        from workbench.launch.trainer_loop import append_output, end_unattended, halve

        with self.board.change() as notes:
            ids = [id for id, entry in notes.wanted.items() if entry.worker == self.name]
            if not ids:
                return False
            append_output(self.board, self.name, int(self.board.description(self.name).get("mark", 0)), ids)
            asked = self.stopping or bool(notes.cancel.intersection(ids))
            verdict = verdicts.died(code, len(ids), kills)
            for id in ids:
                if id in notes.cancel:
                    end_unattended(self.board, id, verdicts.cancelled)
                    notes.drop(id)
                elif asked:  # its stack was ended on purpose, for a neighbour's sake
                    _free(notes, [id])
            left = [id for id in ids if id in notes.wanted]
            if not asked and kills and verdict.kind == "out of memory" and len(left) > 1:
                halve(notes, left)
            elif not asked:
                for id in left:
                    end_unattended(self.board, id, lambda step: verdict)
                    notes.drop(id)
        return True

    def _give_up(self, code: int) -> None:
        """Training processes die before they take anything: say so, rather than try forever."""
        from workbench.launch.trainer_loop import end_unattended

        lines = self.board.worker_log(self.name).read_text(errors="replace").strip().splitlines()
        last = f": {lines[-1][:300]}" if lines else ""
        verdict = verdicts.Verdict(
            "failed", "crashed", f"crashed: no training process starts, the last left with status {code}{last}"
        )
        with self.board.change() as notes:
            for ids in waiting(self.board, notes, self.slots.device).values():
                for id in ids:
                    end_unattended(self.board, id, lambda step: verdict)
                    notes.drop(id)

    def _stop(self, *_: object) -> None:
        self.stopping = True
        if self.child is not None and alive(self.child):
            signal_group(self.child, signal.SIGTERM)


def _free(notes: Notes, ids: Sequence[str]) -> None:
    for id in ids:
        notes.wanted[id].worker, notes.wanted[id].attempts = None, 0


def main(arguments: Sequence[str], command: Sequence[str]) -> int:
    """``ROOT NAME DESCRIPTOR``: supervise; ``ROOT NAME --train``: train."""
    if len(arguments) != 3:
        print("workers are started by LocalQueue; there is nothing to call by hand", file=sys.stderr)
        return 2
    root, name, what = Path(arguments[0]), arguments[1], arguments[2]
    board = Board(root)
    if what == "--train":
        from workbench.launch.trainer_loop import TrainerLoop

        return TrainerLoop(root, name).run()
    lock = Lock(board.worker_lock(name), int(what))
    os.set_inheritable(lock.descriptor, False)
    return Supervisor(root, name, lock, command).run()
