"""Train a sweep in this process and keep every run as a run folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from workbench.probes.spec import Probe, Sweep
from workbench.runs.load import load
from workbench.runs.readers.base import LoadError
from workbench.runs.store import RunFolder
from workbench.runs.table import RunTable

__all__ = ["run"]

#: Seconds between heartbeats, by which a reader tells a running probe from a dead one.
HEARTBEAT = 5.0


def run(
    sweep: Sweep | Probe,
    root: str | Path,
    *,
    device: str | None = None,
    tick: Callable[[float, str], None] | None = None,
) -> RunTable:
    """Train every probe of `sweep` that is not finished yet, and load them all.

    A probe's folder is named by the hash of its spec, so asking for the same sweep again returns at once
    what is finished and trains the rest. Probes that can be stacked are trained and finished together, one
    stack after the other. An interruption (Ctrl-C) marks the runs in work as cancelled, keeps what they
    wrote, and is raised again.

    Args:
        sweep: the probes; a single one or a list will do.
        root: folder that holds the run folders; made if it does not exist.
        device: ``cpu``, ``cuda`` or ``auto`` (default).
        tick: called with the fraction done and a note such as ``1.2M tokens/s``.

    Returns:
        The sweep's runs as a `RunTable`, in its order, curves included.

    Raises:
        OSError: `root` cannot be written.
        TypeError, ValueError: `sweep` holds something else than probes, none, or one twice.
    """
    probes = Sweep((sweep,) if isinstance(sweep, Probe) else tuple(sweep))
    folders = {p.id: RunFolder.create(root, p.id, _spec(p)) for p in probes}
    waiting = tuple(p for p in probes if not _finished(folders[p.id]))
    done, total = 0, sum(p.tokens for p in waiting)
    for positions in Sweep(waiting).buckets() if waiting else ():
        stack = Sweep(tuple(waiting[i] for i in positions))
        share = sum(p.tokens for p in stack)

        def report(fraction: float, note: str, done: int = done, share: int = share) -> None:
            if tick is not None:
                tick((done + fraction * share) / total, note)

        _train(stack, folders, device, report)
        done += share
    if tick is not None:
        tick(1.0, "")
    return load([folders[p.id].path for p in probes])


def _spec(probe: Probe) -> dict[str, Any]:
    return {key: value for key, value in probe.to_dict().items() if key != "schema"}


def _finished(folder: RunFolder) -> bool:
    try:
        return folder.status.get("state") in ("finished", "diverged")
    except LoadError:  # a torn status says nothing about the run, so the run starts over
        return False


def _train(sweep: Sweep, folders: dict[str, RunFolder], device: str | None, tick: Callable[[float, str], None]) -> None:
    """Train one stack and finish its folders."""
    from workbench.probes.trainer import train_sweep  # imports torch, which takes seconds

    beat = time.monotonic()
    # An unfinished run starts over: its old records would otherwise stand before the new ones.
    for probe in sweep:
        metrics = folders[probe.id].path / "metrics.jsonl"
        if metrics.exists():
            metrics.unlink()
        folders[probe.id].set_status("running")

    def on_event(index: int, record: dict[str, Any]) -> None:
        folders[sweep[index].id].append(record)

    def on_progress(fraction: float, rate: float) -> None:
        nonlocal beat
        if time.monotonic() - beat > HEARTBEAT:
            beat = time.monotonic()
            for probe in sweep:
                folders[probe.id].set_status("running", fraction=fraction)
        tick(fraction, f"{rate / 1e6:.2f}M tokens/s")

    with ExitStack() as stack:
        for probe in sweep:
            stack.callback(folders[probe.id].close)
        try:
            results = train_sweep(sweep, device, on_event, on_progress)
        except BaseException as reason:
            state = "cancelled" if isinstance(reason, KeyboardInterrupt) else "failed"
            for probe in sweep:
                folders[probe.id].sync()
                folders[probe.id].set_status(state, reason=f"{type(reason).__name__}: {reason}"[:500])
            raise
        for probe, result in zip(sweep, results, strict=True):
            folder = folders[probe.id]
            folder.sync()
            # Canonical totals of what was done; the reader takes them into the run's row.
            totals = {
                k: v for k, v in result.row().items() if k in ("params", "params_non_embedding", "tokens", "flops")
            }
            folder.set_status(result.status, **totals, provenance=result.provenance)
