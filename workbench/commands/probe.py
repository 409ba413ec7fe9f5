"""``workbench probe``: train what a JSON file describes."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from workbench.commands.options import add_command, emit

__all__ = ["add"]


def add(commands: Any) -> None:
    """Declare the parsers."""
    probe = add_command(commands, "probe", _probe, "train a probe or a sweep, or say what it would cost")
    probe.add_argument("spec", nargs="?", help="JSON of one probe or of a sweep, as Probe.to_json() writes it")
    probe.add_argument("--root", default="runs", help="folder of the run folders (default %(default)s)")
    probe.add_argument("--queue", choices=("local", "slurm"), default="local", help="where it runs")
    probe.add_argument("--device", default="auto", help="auto, cpu, cuda (local queue)")
    probe.add_argument("--cost", action="store_true", help="predict seconds, memory and FLOPs, and train nothing")
    probe.add_argument("--detach", action="store_true", help="return at once; `workbench runs ls` shows how it goes")
    probe.add_argument("--partition", help="Slurm partition")
    probe.add_argument("--time", type=int, default=60, metavar="MINUTES", help="Slurm time limit of a job")
    probe.add_argument("--gpus", type=int, default=0, help="GPUs of a Slurm task")
    probe.add_argument("--fields", action="store_true", help="list the fields of a probe, and the parts there are")
    probe.add_argument("--json", action="store_true", help="one JSON object on standard output")


def _probe(arguments: argparse.Namespace) -> int:
    if arguments.fields or arguments.spec is None:
        print(_fields(arguments.spec))
        return 0
    sweep = _read(arguments.spec)
    if arguments.cost:
        cost = sweep.cost(arguments.device)
        if arguments.json:
            emit(cost.to_dict())
        else:
            print(cost)
        return 0
    job = _queue(arguments).submit(sweep)
    if arguments.detach:
        print(
            f"{len(sweep)} probes submitted; `workbench runs ls {arguments.root}` shows how they stand", file=sys.stderr
        )
    else:
        job.wait()
    table = job.table()
    if arguments.json:
        emit({"sweep": sweep.id, "runs": json.loads(table.to_json(orient="records"))})
    else:
        from workbench.launch.view import as_text

        print(as_text(table))
    return 0 if arguments.detach or set(table["state"]) == {"finished"} else 1


def _read(path: str):
    """The sweep in a file; a single probe is a sweep of one."""
    from workbench.probes import Probe, Sweep

    text = Path(path).read_text(encoding="utf-8")
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path!r} is not JSON ({error}); write it with Probe.to_json() or Sweep.to_json()") from None
    if isinstance(value, dict) and "probes" in value:
        return Sweep.from_json(text)
    return Sweep((Probe.from_dict(value),))


def _queue(arguments: argparse.Namespace):
    if arguments.queue == "slurm":
        from workbench.launch.slurm import SlurmQueue

        options = {"partition": arguments.partition, "time_minutes": arguments.time, "gpus": arguments.gpus}
        return SlurmQueue(arguments.root, **{name: value for name, value in options.items() if value is not None})
    from workbench.launch.local import LocalQueue

    return LocalQueue(arguments.root, device=arguments.device)


def _fields(spec: str | None) -> str:
    """Which parts there are, and the fields of a probe made of some of them."""
    from workbench.probes import Probe
    from workbench.probes.measures.base import measures
    from workbench.probes.models.base import models
    from workbench.probes.optimizers.base import optimizers
    from workbench.probes.tasks.base import tasks

    probe = _read(spec)[0] if spec else Probe()
    lists = {"tasks": tasks(), "models": models(), "optimizers": optimizers(), "measurements": measures()}
    named = "\n".join(f"{title}: {', '.join(found)}" for title, found in lists.items())
    return f"{named}\n\n{Probe.describe(probe.task, probe.model, probe.optimizer)}"
