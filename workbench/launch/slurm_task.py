"""What runs inside Slurm: one array task trains its share of a batch, and stops when Slurm says so.

Slurm speaks in signals. USR2 (sent some seconds before the time limit) means: write checkpoints, and ask
to be put back into the queue. TERM means the same without the asking: Slurm itself puts a preempted task
back, and a cancelled one is over. Either way training ends between two steps and nothing is lost.
"""

from __future__ import annotations

import faulthandler
import os
import re
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from workbench.launch import verdicts
from workbench.launch.slurm_batch import Batch, Claims
from workbench.launch.stack import Run, ended, train_stack
from workbench.launch.trainer_loop import many_files
from workbench.probes.spec import Probe
from workbench.runs.store import RunFolder

__all__ = ["Task", "settle"]

#: Seconds between two looks at the claims of the stack in work.
LOOK = 1.0
#: Seconds that a run may still be locked by the task that had it before.
LOCKED = 60.0
#: Exit status of a task that Slurm told to stop, as a shell says it.
STOPPED = 128 + signal.SIGTERM


class Orders:
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
    """One array task, as Submitit stores and calls it: nothing but two names, all else is in files."""

    def __init__(self, folder: str, index: int) -> None:
        self.folder, self.index = folder, index

    def __call__(self) -> None:
        """Train what is left of the task's share.

        Raises:
            RuntimeError: stacks crashed; their runs say how, the others were trained.
            SystemExit: Slurm said stop.
        """
        orders = Orders()
        faulthandler.enable()  # a crash in C leaves a traceback in the output
        many_files()
        batch = Batch.read(Path(self.folder))
        process = int(os.environ.get("SLURM_PROCID", 0))
        # Several processes of one task, a GPU each, take its stacks in turn.
        share = batch.tasks[self.index][process :: batch.settings["processes"]]
        before, crashes = _steps(batch, self.index), list[str]()
        for ids in share:
            if not orders:
                crashes += Stack(batch, self.index, ids, orders).train()
        if orders.requeue and process == 0:
            _requeue(batch, self.index, before)
        if orders:
            raise SystemExit(STOPPED)
        if crashes:
            raise RuntimeError("; ".join(crashes))


class Stack:
    """Probes of equal shape that one process trains together, as far as they are its own and at one step."""

    def __init__(self, batch: Batch, task: int, ids: Sequence[str], orders: Orders) -> None:
        self.batch, self.task, self.orders = batch, task, orders
        self.claims = Claims(batch.root)
        self.most = len(ids)
        self.crashes: list[str] = []
        self._looked, self._stamp = 0.0, ""
        end = time.monotonic() + LOCKED
        opened = [self._open(id, end) for id in batch.mine(task, ids)]
        self.runs = [run for run in opened if run is not None]

    def train(self) -> list[str]:
        """Train all to their ends, or until Slurm says stop; what crashed, a sentence each."""
        try:
            self._let_go()
            while self.runs and not self.orders:
                least = min(run.step for run in self.runs)
                self._attempt([run for run in self.runs if run.step == least][: self.most])
                self._let_go()
            for run in self.runs:
                run.pause("the time limit was near" if self.orders.requeue else "Slurm took the node back")
        finally:
            for run in self.runs:
                run.close()
        return self.crashes

    def _open(self, id: str, end: float) -> Run | None:
        """The run, locked and at its checkpoint; None if it is over or damaged, or another process keeps it."""
        run = None
        try:
            probe = Probe.from_dict(RunFolder.open(self.batch.root / id).spec)
            while (run := Run.attempt(self.batch.root, probe)) is None:
                if time.monotonic() > end or self.orders:
                    return None
                time.sleep(0.2)
            # One that failed was marked so by this very task, before it was started again: see `settle`.
            if ended(run.folder) or run.folder.status.get("state") == "failed":
                run.close()
                return None
            run.resume()
        except (OSError, ValueError, TypeError) as error:
            self.crashes.append(f"{id} cannot be trained: {error}")
            if run is not None:
                run.end(verdicts.failed(error))
                run.close()
            return None
        damage = f"\n{run.damage}; starting over" if run.damage else ""
        run.log(
            f"--- {time.strftime('%Y-%m-%d %H:%M:%S%z')} process {os.getpid()}, Slurm task {_slurm_id()} on "
            f"{_place()}: from step {run.step}; output in {self.batch.output}{damage}"
        )
        return run

    def _attempt(self, ready: Sequence[Run]) -> None:
        """Train some members until they end or are to stop; an error ends them, or halves the stack."""
        settings = self.batch.settings
        try:
            train_stack(
                ready,
                device=settings["device"],
                compile=settings["compile"],
                checkpoint_seconds=settings["checkpoint_seconds"],
                should_stop=self._should_stop,
                place=_place(),
            )
            return
        except Exception as error:
            # Texts are kept and not the error, whose traceback holds every tensor of the stack.
            text, sentence = traceback.format_exc(), f"{type(error).__name__}: {error}"
            memory = verdicts.says_out_of_memory(error)
            verdict = verdicts.out_of_memory(settings["device"], len(ready)) if memory else verdicts.failed(error)
        for run in ready:
            run.log(text)
        if memory and len(ready) > 1:
            self.most = (len(ready) + 1) // 2
            return
        self.crashes.append(sentence)
        for run in ready:
            if not ended(run.folder):
                run.end(verdict, checkpoint=run.step)
            run.close()
            self.runs.remove(run)

    def _should_stop(self) -> bool:
        """Whether Slurm has spoken, or a member is no longer ours."""
        if self.orders or time.monotonic() - self._looked < LOOK:
            return bool(self.orders)
        self._looked, stamp = time.monotonic(), self.claims.stamp()
        if stamp != self._stamp:
            ids = [run.probe.id for run in self.runs]
            if len(self.batch.mine(self.task, ids)) < len(ids):
                return True
            self._stamp = stamp
        return False

    def _let_go(self) -> None:
        """Close the runs that have ended, or that are no longer ours."""
        self._stamp = self.claims.stamp()
        mine = set(self.batch.mine(self.task, [run.probe.id for run in self.runs]))
        for run in list(self.runs):
            if not ended(run.folder):
                if run.probe.id in mine:
                    continue
                if self.claims.of(run.probe.id) is None:
                    run.end(verdicts.cancelled(run.step or None), checkpoint=run.step)
                else:
                    run.pause("it was given to another task")
            run.close()
            self.runs.remove(run)


def settle(folder: Path, task: int, code: int) -> list[str]:
    """After a task has left with exit status `code`: say in the folders of the runs it left in work how it ended.

    Called by the batch script, which outlives the task. Runs that say themselves how they ended, or that
    wait to go on, stay as they are. A task that crashed in one stack and has others is started again for them.

    Returns:
        The ids of the runs that were marked.
    """
    batch = Batch.read(folder)
    states = {}
    for id in batch.mine(task):
        with suppress(OSError, ValueError):
            states[id] = RunFolder.open(batch.root / id).status.get("state")
    running = [id for id, state in states.items() if state == "running"]
    waiting = [id for id, state in states.items() if state == "created"]
    if not running and code != STOPPED:  # it did not even begin
        running, waiting = waiting, []
    output, left = _output(batch), []
    for id in running:
        with suppress(OSError, ValueError, TypeError):
            run = Run.attempt(batch.root, Probe.from_dict(RunFolder.open(batch.root / id).spec))
            left += [] if run is None else [run]
    verdict = _death(code, len(left), output)
    for run in left:
        run.log(output)
        run.end(verdict, checkpoint=run.folder.status.get("checkpoint", 0))
        run.close()
    if left and waiting:
        subprocess.run(["scontrol", "requeue", _slurm_id()], timeout=60, check=False)
    return [run.probe.id for run in left]


def _death(code: int, members: int, output: str) -> verdicts.Verdict:
    """How a task died, from its exit status as a shell sees it and from what Slurm wrote into its output."""
    stack = "" if members == 1 else f", in a stack of {members}"
    more = "ask for more with options={'mem': '16G'}"
    if re.search(r"oom[-_ ]?kill|Out Of Memory", output):
        return verdicts.Verdict(
            "failed", "out of memory", f"out of memory on the host: Slurm killed its task{stack}; {more}"
        )
    if code == 128 + signal.SIGKILL:
        return verdicts.Verdict(
            "failed", "crashed",
            f"crashed with signal 9 (SIGKILL){stack}, sent by the kernel for want of memory or by Slurm, which do not "
            f"say so; {more}, or submit it again to retry from its checkpoint",
        )  # fmt: skip
    # A shell's 128 + n is death by signal n, which `verdicts.died` calls -n.
    return verdicts.died(128 - code if code > 128 else code, members, None)


def _output(batch: Batch, size: int = 20_000) -> str:
    """The end of what this task printed as errors, Slurm's own words among them."""
    parts = []
    for file in sorted(batch.output.glob(f"{_slurm_id()}_*_log.err")):
        with suppress(OSError):
            parts.append(file.read_text(errors="replace")[-size:])
    return "\n".join(parts)


def _requeue(batch: Batch, task: int, before: int) -> None:
    """Ask Slurm to start this task again, unless nothing was gained: then it would go round for ever."""
    left = [id for id in batch.mine(task) if not ended(RunFolder(batch.root / id))]
    if not left:
        return
    trouble = None
    if _steps(batch, task) == before:
        minutes = batch.settings["minutes"]
        trouble = f"out of time: {minutes} minutes passed without one new step; raise minutes= and submit it again"
    else:
        command = ["scontrol", "requeue", _slurm_id()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            said = " ".join(done.stderr.split())[:200]
            trouble = f"out of time, and Slurm does not take its task back ({said}); submit it again to go on"
    if trouble is not None:
        for id in left:
            folder = RunFolder(batch.root / id)
            checkpoint = folder.status.get("checkpoint", 0)
            folder.set_status("failed", checkpoint=checkpoint, **verdicts.Verdict("failed", "lost", trouble).fields)


def _steps(batch: Batch, task: int) -> int:
    """Steps that need not be trained again, of all runs of a task."""
    total = 0
    for id in batch.ids(task):
        with suppress(OSError, ValueError, TypeError):
            folder = RunFolder.open(batch.root / id)
            total += Probe.from_dict(folder.spec).steps if ended(folder) else int(folder.status.get("checkpoint", 0))
    return total


def _slurm_id() -> str:
    """This task's id, as Submitit names its files and scontrol knows it."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ.get("SLURM_JOB_ID", "?")


def _place() -> str:
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
    return os.environ.get("SLURMD_NODENAME", os.uname().nodename) + (f", GPU {gpus}" if gpus else "")


if __name__ == "__main__":
    settle(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
