"""``workbench runs ls | show | cancel | resume | verify``: run folders and what is going on in them.

Exit status 0: as asked; 1: `cancel` could not stop all, `resume` did not bring all to their end, `verify` found
something; 2: bad input.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

from workbench.commands.options import add_command
from workbench.commands.probe import emit_strict, finished, make_queue, queue_options, watch

__all__ = ["add"]

#: Lines of a run's log that `show` prints.
_LOG = 20


def add(commands: Any) -> None:
    """Declare the parsers."""
    runs = add_command(commands, "runs", _runs, "list, show, cancel, resume or verify run folders")
    runs.add_argument("action", choices=("ls", "show", "cancel", "resume", "verify"), help="what to do")
    runs.add_argument("root", nargs="?", default="runs", help="folder of the run folders (default %(default)s)")
    runs.add_argument("ids", nargs="*", metavar="ID", help="runs, by id or its first digits (default all)")
    runs.add_argument("--all", action="store_true", help="ls: every row of a long list")
    queue_options(runs)
    runs.add_argument("--json", action="store_true", help="one JSON object on standard output")


def _runs(arguments: argparse.Namespace) -> int:
    root, asked = Path(arguments.root), arguments.ids
    if not root.is_dir():
        hint = "" if root.exists() else f"; the folder comes first: workbench runs {arguments.action} runs {root}"
        raise ValueError(f"{str(root)!r} is no folder of run folders{hint}")
    if (root / "spec.json").is_file():  # one run folder was named
        root, asked = root.absolute().parent, [root.absolute().name, *asked]
    act = {"ls": _list, "show": _show, "cancel": _cancel, "resume": _resume, "verify": _verify}[arguments.action]
    return act(root, _chosen(root, asked), arguments)


def _chosen(root: Path, asked: list[str]) -> list[str]:
    """The ids of run folders that begin as asked; all if none is asked for."""
    files = ("spec.json", "status.json", "metrics.jsonl")
    there = sorted({path.parent.name for name in files for path in root.glob(f"*/{name}")})
    if not asked:
        return there
    chosen = []
    for start in asked:
        found = [start] if start in there else [id for id in there if id.startswith(start)]
        if len(found) != 1:
            what = "no run" if not found else f"{len(found)} runs"
            raise ValueError(f"{what} in {str(root)!r} begin with {start!r}; `workbench runs ls {root}` lists them")
        chosen += found
    return list(dict.fromkeys(chosen))


def _probes(root: Path, ids: list[str]):
    """The probes of run folders, and one sentence for each folder that holds none."""
    from workbench.probes import Probe
    from workbench.runs.store import RunFolder

    probes, broken = [], {}
    for id in ids:
        try:
            probe = Probe.from_dict(RunFolder.open(root / id).spec)
            if probe.id != id:
                raise ValueError(f"its spec.json is that of {probe.id}")
            probes.append(probe)
        except (TypeError, ValueError, OSError) as error:  # LoadError is a ValueError
            broken[id] = f"holds no probe: {error}"
    return probes, broken


def _table(root: Path, probes: list):
    """How the probes stand, with what the queues know of them."""
    from workbench.launch.board import Board
    from workbench.launch.view import table

    if shutil.which("squeue") and (root / ".queue" / "slurm").is_dir():
        from workbench.launch.slurm import SlurmJob, SlurmQueue
        from workbench.probes import Sweep

        return SlurmJob(SlurmQueue(root), Sweep(tuple(probes))).table() if probes else table(root, probes)
    try:
        wanted = Board(root).read().wanted
    except (OSError, ValueError) as error:
        print(f"note: {error}", file=sys.stderr)
        wanted = {}
    return table(root, probes, wanted)


def _list(root: Path, ids: list[str], arguments: argparse.Namespace) -> int:
    from workbench.launch.told import as_records, as_text

    probes, broken = _probes(root, ids)
    rows = _table(root, probes)
    if arguments.json:
        emit_strict({"runs": as_records(rows), "broken": broken})
        return 0
    size = {"most": len(rows), "width": 10_000} if arguments.all else {}
    print(as_text(rows, probes, **size) if len(rows) else f"no probes in {str(root)!r}")
    for id, reason in broken.items():
        print(f"! {id} {reason}")
    return 0


def _show(root: Path, ids: list[str], arguments: argparse.Namespace) -> int:
    shown = {id: _contents(root / id) for id in ids}
    if arguments.json:
        emit_strict({"runs": shown})
        return 0
    for id, run in shown.items():
        status = run["status"]
        print(f"{id}  {status.get('state', 'created')}  {status.get('verdict') or ''}".rstrip())
        print("  " + ", ".join(f"{k}={v}" for k, v in run["spec"].items() if k != "schema"))
        for record in run["records"]:
            numbers = {k: v for k, v in record.items() if isinstance(v, int | float)}
            print("  " + "  ".join(f"{k} {v:.6g}" for k, v in numbers.items()))
        for sentence in run["problems"]:
            print(f"! {sentence}")
        if status.get("state") == "failed":
            print("\n".join(f"  | {line}" for line in run["log"]))
    return 0


def _contents(path: Path) -> dict[str, Any]:
    """What one run folder holds; what cannot be read is said among its problems."""
    from workbench.runs.store import RunFolder

    folder, problems = RunFolder(path), []

    def read(what, otherwise):
        try:
            return what()
        except (OSError, ValueError) as error:
            problems.append(str(error))
            return otherwise

    import pandas as pd

    records, skipped = read(folder.metrics, (pd.DataFrame(), []))
    rows = [{k: v for k, v in one.items() if v is not None} for one in records.to_dict("records")]
    log = read(lambda: (path / "log.txt").read_text("utf-8", "replace") if (path / "log.txt").exists() else "", "")
    return {
        "spec": read(lambda: folder.spec, {}), "status": read(lambda: folder.status, {}), "records": rows,
        "problems": [*problems, *(f"metrics.jsonl line {line} was skipped: {reason}" for line, reason in skipped)],
        "log": log.splitlines()[-_LOG:],
    }  # fmt: skip


def _cancel(root: Path, ids: list[str], arguments: argparse.Namespace) -> int:
    from workbench.launch.local import LocalQueue
    from workbench.launch.slurm_batch import Claims

    claims = Claims(root.absolute())
    ours = [id for id in ids if claims.of(id) is not None]
    if ours:
        from workbench.launch.slurm import SlurmQueue

        SlurmQueue(root).cancel(ours)
    LocalQueue(root, device="cpu", workers=1).cancel([id for id in ids if id not in ours])
    _list(root, ids, arguments)
    rows = _table(root, _probes(root, ids)[0])
    left = rows[(rows["state"] == "running") & ~rows["id"].isin(ours)]
    for one in left.to_dict("records"):
        print(f"! {one['id']} is trained outside the queues, on {one['place']}; end it there", file=sys.stderr)
    return 1 if len(left) else 0


def _resume(root: Path, ids: list[str], arguments: argparse.Namespace) -> int:
    from workbench.probes import Sweep

    probes, broken = _probes(root, ids)
    if not probes:
        raise ValueError(f"{str(root)!r} holds no probe to resume ({len(broken)} folders hold something else)")
    watch(make_queue(arguments, root).submit(Sweep(tuple(probes))))
    _list(root, ids, arguments)
    return 0 if finished(_table(root, probes)) else 1


def _verify(root: Path, ids: list[str], arguments: argparse.Namespace) -> int:
    """Findings of every folder."""
    findings = {id: found for id in ids if (found := _findings(root / id))}
    if not arguments.ids:
        from workbench.launch.board import Board

        try:
            Board(root).read()
        except (OSError, ValueError) as error:
            findings[".queue"] = [str(error)]
    if arguments.json:
        emit_strict({"checked": len(ids), "findings": findings})
    else:
        checked = f"{len(ids)} run folder{'' if len(ids) == 1 else 's'} checked"
        print(f"{checked}, {len(findings)} with findings" if findings else f"{checked}, all sound")
        for id, sentences in findings.items():
            print("\n".join(f"! {id}: {sentence}" for sentence in sentences))
    return 1 if findings else 0


def _findings(path: Path) -> list[str]:
    """What is wrong with a run folder: files, names, and whether what its files say fits together."""
    from workbench.probes import Probe
    from workbench.probes.checkpoint import Checkpoint
    from workbench.runs.store import RunFolder

    folder = RunFolder(path)
    try:
        found = folder.verify()
    except OSError as error:
        return [f"{path.name} cannot be read ({error.strerror})"]
    try:
        saved = Checkpoint.read(path / "checkpoint")
    except (OSError, ValueError) as error:
        return [*found, str(error)]
    if found:
        return found
    try:
        probe = Probe.from_dict(folder.spec)
    except (TypeError, ValueError) as error:
        return [f"spec.json is not that of a probe: {error}"]
    if probe.id != path.name:
        return [f"spec.json is that of the probe {probe.id}, which the folder's name is not"]
    records = folder.metrics()[0]
    steps = records["step"].tolist() if "step" in records else []
    if len(set(steps)) < len(steps):
        found.append("metrics.jsonl has two records of one step")
    last = max(steps, default=None)
    if folder.status.get("state") == "finished" and last != probe.steps:
        found.append(f"it is said to be finished, and its last record is of step {last} of {probe.steps}")
    if saved is not None and saved.values.get("id", path.name) != path.name:
        found.append(f"its checkpoint is that of the probe {saved.values['id']}")
    return found
