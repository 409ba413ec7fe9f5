"""``workbench runs ls | show | cancel | resume | verify``: run folders and what is going on in them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from workbench.commands.options import add_command, emit

__all__ = ["add"]


def add(commands: Any) -> None:
    """Declare the parsers."""
    runs = add_command(commands, "runs", _runs, "list, show, cancel, resume or verify run folders")
    runs.add_argument("action", choices=("ls", "show", "cancel", "resume", "verify"), help="what to do")
    runs.add_argument("root", nargs="?", default="runs", help="folder of the run folders (default %(default)s)")
    runs.add_argument("ids", nargs="*", metavar="ID", help="runs, by id or its first digits (default all)")
    runs.add_argument("--device", default="auto", help="where `resume` trains: auto, cpu, cuda")
    runs.add_argument("--json", action="store_true", help="one JSON object on standard output")


def _runs(arguments: argparse.Namespace) -> int:
    root = Path(arguments.root)
    if not root.is_dir():
        raise FileNotFoundError(2, "there is no such folder", str(root))
    ids = _chosen(root, arguments.ids)
    return {"ls": _list, "show": _show, "cancel": _cancel, "resume": _resume, "verify": _verify}[arguments.action](
        root, ids, arguments
    )


def _chosen(root: Path, asked: list[str]) -> list[str]:
    """The ids of run folders that begin as asked; all if none is asked for."""
    there = sorted(path.parent.name for path in root.glob("*/spec.json"))
    if not asked:
        return there
    chosen = []
    for start in asked:
        found = [id for id in there if id.startswith(start)]
        if len(found) != 1:
            what = "no run" if not found else f"{len(found)} runs"
            raise ValueError(f"{what} in {str(root)!r} begin with {start!r}; `workbench runs ls {root}` lists them")
        chosen += found
    return chosen


def _probes(root: Path, ids: list[str]):
    """The probes of run folders, and one sentence for each folder that holds none."""
    from workbench.probes import Probe
    from workbench.runs.readers.base import LoadError
    from workbench.runs.store import RunFolder

    probes, broken = [], {}
    for id in ids:
        try:
            probes.append(Probe.from_dict(RunFolder.open(root / id).spec))
        except (LoadError, TypeError, ValueError, OSError) as error:
            broken[id] = f"holds no probe: {error}"
    return probes, broken


def _list(root: Path, ids: list[str], arguments: argparse.Namespace) -> int:
    from workbench.launch.view import as_text, table

    probes, broken = _probes(root, ids)
    rows = table(root, probes)
    if arguments.json:
        emit({"runs": json.loads(rows.to_json(orient="records")), "broken": broken})
        return 0
    print(as_text(rows) if len(rows) else f"no probes in {str(root)!r}")
    for id, reason in broken.items():
        print(f"! {id} {reason}")
    return 0


def _show(root: Path, ids: list[str], arguments: argparse.Namespace) -> int:
    from workbench.runs.store import RunFolder

    shown = {}
    for id in ids:
        folder = RunFolder.open(root / id)
        records, skipped = folder.metrics()
        shown[id] = {
            "spec": folder.spec, "status": folder.status, "records": json.loads(records.to_json(orient="records")),
            "skipped": skipped,
        }  # fmt: skip
    if arguments.json:
        emit({"runs": shown})
        return 0
    for id, run in shown.items():
        status = run["status"]
        print(f"{id}  {status.get('state', 'created')}  {status.get('verdict') or ''}".rstrip())
        print("  " + ", ".join(f"{k}={v}" for k, v in run["spec"].items() if k != "schema"))
        for record in run["records"]:
            print("  " + "  ".join(f"{k} {v:.6g}" for k, v in record.items() if isinstance(v, int | float)))
    return 0


def _cancel(root: Path, ids: list[str], arguments: argparse.Namespace) -> int:
    from workbench.launch.local import LocalQueue

    LocalQueue(root, device="cpu").cancel(ids)
    return _list(root, ids, arguments)


def _resume(root: Path, ids: list[str], arguments: argparse.Namespace) -> int:
    from workbench.launch.local import LocalQueue
    from workbench.probes import Sweep

    probes, broken = _probes(root, ids)
    if not probes:
        raise ValueError(f"{str(root)!r} holds no probe to resume ({len(broken)} folders hold none)")
    LocalQueue(root, device=arguments.device).submit(Sweep(tuple(probes))).wait()
    return _list(root, ids, arguments)


def _verify(root: Path, ids: list[str], arguments: argparse.Namespace) -> int:
    """Findings of every folder; exit status 1 if there are any."""
    from workbench.probes import Probe
    from workbench.probes.checkpoint import Checkpoint
    from workbench.runs.store import RunFolder

    findings: dict[str, list[str]] = {}
    for id in ids:
        folder = RunFolder(root / id)
        found = folder.verify()
        if not found and Probe.from_dict(folder.spec).id != id:
            found.append("spec.json is of another probe than the folder's name says")
        try:
            Checkpoint.read(folder.path / "checkpoint")
        except ValueError as error:
            found.append(str(error))
        if found:
            findings[id] = found
    if arguments.json:
        emit({"checked": len(ids), "findings": findings})
    else:
        print(f"{len(ids)} run folders checked, {len(findings)} with findings")
        for id, sentences in findings.items():
            print("\n".join(f"! {id}: {sentence}" for sentence in sentences))
    return 1 if findings else 0
