"""``workbench probe``: train what a JSON file describes, or run a phenomenon (`workbench.commands.phenomenon`).

Exit status 0: every probe finished, or went on its way with ``--detach``; 1: some did not finish; 2: bad input.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from workbench.commands import phenomenon
from workbench.commands.options import add_command, count, emit

__all__ = ["add", "emit_strict", "finished", "make_queue", "queue_options", "watch"]


def add(commands: Any) -> None:
    """Declare the parsers."""
    probe = add_command(commands, "probe", _probe, "train a probe or a sweep, or say what it would cost")
    probe.add_argument(
        "spec", nargs="?", help="JSON file of a probe or a sweep, as to_json() writes it; - reads it; or: phenomenon"
    )
    probe.add_argument("--root", default="runs", help="folder of the run folders (default %(default)s)")
    queue_options(probe)
    probe.add_argument("--cost", action="store_true", help="predict seconds, memory and FLOPs, and train nothing")
    probe.add_argument("--detach", action="store_true", help="return at once; `workbench runs ls` shows how it goes")
    probe.add_argument("--fields", action="store_true", help="list the fields of a probe, and the parts there are")
    probe.add_argument("--json", action="store_true", help="one JSON object on standard output")
    phenomenon.options(probe)


def queue_options(parser: argparse.ArgumentParser) -> None:
    """Options that say where probes run."""
    parser.add_argument("--queue", choices=("local", "slurm"), default="local", help="where it runs")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default %(default)s)")
    parser.add_argument("--workers", type=count, help="local queue: workers on CPUs (default all cores)")
    parser.add_argument("--partition", help="Slurm: partition")
    parser.add_argument("--time", type=count, default=60, metavar="MINUTES", help="Slurm: time limit of a task")
    parser.add_argument("--gpus", type=int, default=1, help="Slurm: GPUs of a task (default %(default)s)")


def make_queue(arguments: argparse.Namespace, root: Path):
    """The queue that the options ask for.

    Raises:
        ValueError, TypeError: options that do not fit this machine.
        OSError: `root` cannot be written.
    """
    if arguments.queue == "slurm":
        from workbench.launch.slurm import SlurmQueue

        device = None if arguments.device == "auto" else arguments.device
        return SlurmQueue(
            root, partition=arguments.partition, minutes=arguments.time, gpus_per_task=arguments.gpus, device=device
        )
    from workbench.launch.local import LocalQueue

    return LocalQueue(root, device=arguments.device, workers=arguments.workers)


def watch(job: Any) -> None:
    """Wait until the job has ended. Ctrl-C stops it, resumably; tasks of Slurm it leaves alone."""
    try:
        job.wait()
    except KeyboardInterrupt:
        again = f"`workbench runs resume {job.queue.root}` goes on from there"
        if type(job).__name__ == "SlurmJob":
            print(f"\nthe tasks stay with Slurm; `workbench runs cancel {job.queue.root}` ends them", file=sys.stderr)
        else:
            print("\nstopping: every run writes a checkpoint first (Ctrl-C again leaves them at work)", file=sys.stderr)
            job.cancel()
            print(f"stopped; {again}", file=sys.stderr)
        raise


def finished(table: Any) -> bool:
    return bool((table["state"] == "finished").all())


def emit_strict(payload: Any) -> None:
    """One JSON object on standard output; NaN and infinities as ``{"$float": "nan"}``."""
    from workbench.runs.strict_json import dumps

    print(dumps(payload))


def _probe(arguments: argparse.Namespace) -> int:
    if arguments.spec == "phenomenon":
        return phenomenon.run(arguments)
    if arguments.name is not None:
        raise ValueError(
            f"{arguments.name!r} is one file too many; join probes in a sweep, or write: probe phenomenon NAME"
        )
    if arguments.fields:
        return _fields(arguments)
    if arguments.spec is None:
        raise ValueError("name the JSON file of a probe or a sweep; --fields lists what a probe may say")
    sweep = _read(arguments.spec)
    if arguments.cost:
        cost = sweep.cost(arguments.device)
        if arguments.json:
            emit(cost.to_dict())
        else:
            print(cost)
        return 0
    job = make_queue(arguments, Path(arguments.root)).submit(sweep)
    if arguments.detach:
        print(f"{len(sweep)} probes submitted; `workbench runs ls {arguments.root}` shows them", file=sys.stderr)
    else:
        watch(job)
    from workbench.launch.told import as_records, as_text

    table = job.table()
    if arguments.json:
        emit_strict({"sweep": sweep.id, "runs": as_records(table)})
    else:
        print(as_text(table, sweep))
    return 0 if arguments.detach or finished(table) else 1


def _read(path: str):
    """The sweep in a file; a single probe is a sweep of one."""
    from workbench.probes import Probe, Sweep
    from workbench.runs.strict_json import loads

    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
        value = loads(text)
    except ValueError as error:  # UnicodeDecodeError is one, too
        raise ValueError(f"{path!r} is not JSON ({error}); write it with Probe.to_json() or Sweep.to_json()") from None
    if isinstance(value, dict) and "probes" in value:
        return Sweep.from_json(text)
    return Sweep((Probe.from_dict(value),))


def _fields(arguments: argparse.Namespace) -> int:
    """Which parts there are, and the fields of a probe made of some of them."""
    from workbench.probes import Probe
    from workbench.probes.measures.base import measures
    from workbench.probes.models.base import models
    from workbench.probes.optimizers.base import optimizers
    from workbench.probes.tasks.base import tasks

    probe = _read(arguments.spec)[0] if arguments.spec else Probe()
    lists = {"tasks": tasks(), "models": models(), "optimizers": optimizers(), "measurements": measures()}
    if arguments.json:
        parts = {
            "run": probe.run, f"task {probe.task}": probe.task_settings, f"model {probe.model}": probe.model_settings,
            f"optimizer {probe.optimizer}": probe.optimizer_settings,
        }  # fmt: skip
        described = {name: [_described(one) for one in fields(part)] for name, part in parts.items()}
        emit_strict({**{name: list(found) for name, found in lists.items()}, "fields": described})
        return 0
    print("\n".join(f"{title}: {', '.join(found)}" for title, found in lists.items()))
    print(f"\n{Probe.describe(probe.task, probe.model, probe.optimizer)}")
    return 0


def _described(one: Any) -> dict[str, Any]:
    """Name, default, limits and meaning of a field."""
    meta = one.metadata
    allowed: dict[str, Sequence[Any]] = {"values": list(meta["values"])} if "values" in meta else {}
    if "low" in meta:
        allowed = {"low": meta["low"], "high": meta["high"]}
    return {"name": one.name, "default": one.default, **allowed, "meaning": meta["doc"]}
