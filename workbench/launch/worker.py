"""Train a sweep in this process; as a command (``python -m workbench.launch.worker``), a worker of `LocalQueue`."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a worker that waits for a slot does without pandas
    from workbench.launch.stack import Run
    from workbench.probes.spec import Probe
    from workbench.probes.sweep import Sweep
    from workbench.runs.table import RunTable

__all__ = ["run"]

#: Seconds between two looks at a run that another process trains.
_PATIENCE = 0.2


def run(
    sweep: Sweep | Probe,
    root: str | Path,
    *,
    device: str | None = None,
    tick: Callable[[float, str], None] | None = None,
    checkpoint_seconds: float = 60.0,
) -> RunTable:
    """Train every probe of `sweep` that is not finished yet, and load them all.

    A probe's folder is named by the hash of its spec, so asking for the same sweep again returns at once
    what is finished, resumes what was interrupted from its checkpoint, and trains the rest. Probes that can
    be stacked are trained and finished together, one stack after the other; what another process trains
    is waited for. Ctrl-C writes a checkpoint, marks the runs in work as cancelled, and is raised again.

    Args:
        sweep: the probes; a single one or a list will do.
        root: folder that holds the run folders; made if it does not exist.
        device: ``cpu``, ``cuda`` or ``auto`` (default).
        tick: called with the fraction done and a note such as ``1.2M tokens/s``.
        checkpoint_seconds: seconds between checkpoints.

    Returns:
        The sweep's runs as a `RunTable`, in its order, curves included.

    Raises:
        OSError: `root` cannot be written.
        TypeError, ValueError: `sweep` holds something else than probes, none, or one twice.
    """
    from workbench.launch.stack import create, ended
    from workbench.launch.trainer_loop import many_files
    from workbench.probes.spec import Probe
    from workbench.probes.sweep import Sweep
    from workbench.runs.load import load

    probes = Sweep((sweep,) if isinstance(sweep, Probe) else tuple(sweep))
    folders = {p.id: create(Path(root), p) for p in probes}
    many_files()
    left = [p for p in probes if not ended(folders[p.id])]
    done, total = 0, sum(p.tokens for p in left)
    while left:
        runs = _next(Path(root), left)
        if not runs:  # all that is left is trained by others
            time.sleep(_PATIENCE)
        share = sum(r.probe.tokens for r in runs)

        def report(fraction: float, rate: float, done: int = done, share: int = share) -> None:
            if tick is not None:
                tick((done + fraction * share) / total, f"{rate / 1e6:.2f}M tokens/s")

        if runs:
            _train(runs, device, report, checkpoint_seconds)
        over = [p for p in left if ended(folders[p.id])]
        done += sum(p.tokens for p in over)
        left = [p for p in left if p not in over]
    if tick is not None:
        tick(1.0, "")
    return load([folders[p.id].path for p in probes])


def _next(root: Path, left: Sequence[Probe]) -> list[Run]:
    """The first stack of what is left, locked and at its checkpoints."""
    from workbench.launch.stack import Run, ended
    from workbench.probes.sweep import Sweep

    for positions in Sweep(tuple(left)).buckets():
        runs = [run for i in positions if (run := Run.attempt(root, left[i])) is not None]
        try:
            for run in runs:
                if not ended(run.folder):  # another process may just have finished it
                    run.resume()
        except BaseException:  # a lock that is kept would make the same cell, run again, wait for itself
            for run in runs:
                run.close()
            raise
        open_ = [run for run in runs if not ended(run.folder)]
        # members go on together from one step, those that are least far first
        first = [run for run in open_ if run.step == min(r.step for r in open_)]
        for run in runs:
            if run not in first:
                run.close()
        if first:
            return first
    return []


def _train(
    runs: Sequence[Run], device: str | None, tick: Callable[[float, float], None], checkpoint_seconds: float
) -> None:
    """Train one stack and say in its folders how it ended."""
    from workbench.launch import verdicts
    from workbench.launch.stack import train_stack

    interrupted: list[KeyboardInterrupt] = []

    def watched(fraction: float, rate: float) -> None:
        try:
            tick(fraction, rate)
        except KeyboardInterrupt as interrupt:  # stop as for a signal, with a checkpoint
            interrupted.append(interrupt)

    try:
        for run in runs:
            run.begin(device or "auto", len(runs))
        with _ctrl_c(interrupted):
            outcomes = train_stack(
                runs, device=device, checkpoint_seconds=checkpoint_seconds, tick=watched, place=device or "auto",
                should_stop=lambda: bool(interrupted),
            )  # fmt: skip
        for run, outcome in zip(runs, outcomes, strict=True):
            if outcome == "stopped":
                run.end(verdicts.cancelled(run.step), checkpoint=run.step)
    except BaseException as reason:
        text = f"{type(reason).__name__}: {reason}"[:500]
        for run in runs:
            with suppress(OSError):
                if isinstance(reason, KeyboardInterrupt):  # a second Ctrl-C, too impatient for a checkpoint
                    run.end(verdicts.cancelled(run.step), checkpoint=run.step)
                else:
                    run.end(verdicts.failed(reason), checkpoint=run.step, reason=text)
        raise
    finally:
        for run in runs:
            run.close()
    if interrupted:
        raise interrupted[0]


@contextmanager
def _ctrl_c(interrupted: list[KeyboardInterrupt]) -> Iterator[None]:
    """The first Ctrl-C is noted in `interrupted` instead of raised, so that training ends between two steps."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is not signal.default_int_handler:
        yield
        return

    def note(number: int, frame: object) -> None:
        if interrupted:
            raise KeyboardInterrupt
        interrupted.append(KeyboardInterrupt())

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


if __name__ == "__main__":
    from workbench.launch.supervisor import main

    sys.exit(main(sys.argv[1:], [sys.executable, "-m", "workbench.launch.worker"]))
