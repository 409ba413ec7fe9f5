"""How a sweep stands, read from its run folders."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.launch.board import run_lock
from workbench.launch.locks import held
from workbench.launch.stack import HEARTBEAT
from workbench.probes.spec import Probe
from workbench.runs.readers.base import LoadError
from workbench.runs.store import RunFolder
from workbench.runs.strict_json import loads

__all__ = ["COLUMNS", "last_record", "row", "summary", "table"]

COLUMNS = (
    "id", "state", "verdict", "step", "steps", "fraction", "loss", "tokens_per_second", "eta_seconds", "place",
    "heartbeat_age",
)  # fmt: skip
#: Bytes at the end of a metrics file in which the last record is looked for.
_TAIL = 65536


def table(root: Path, probes: Iterable[Probe], wanted: Iterable[str] = ()) -> pd.DataFrame:
    """One row a probe with `COLUMNS`, as `Job.table` describes them.

    Args:
        root: folder of the run folders.
        probes: which.
        wanted: ids that a queue still wants trained.
    """
    wanted = frozenset(wanted)
    return pd.DataFrame([row(root, probe, probe.id in wanted) for probe in probes], columns=list(COLUMNS))


def row(root: Path, probe: Probe, wanted: bool = False) -> dict[str, Any]:
    """The cells of one probe; a folder that is missing or damaged says so in its verdict."""
    folder = RunFolder(root / probe.id)
    out: dict[str, Any] = dict.fromkeys(COLUMNS)
    out.update(id=probe.id, steps=probe.steps, step=0, fraction=0.0)
    try:
        status = folder.status
    except LoadError as error:
        return {**out, "state": "failed", "verdict": f"{error}; submit it again to repair it"}
    state = status.get("state", "created")
    last = last_record(folder.path / "metrics.jsonl") or {}
    step = int(last.get("step") or 0)
    fraction = max(float(status.get("fraction") or 0.0), step / probe.steps)
    if state in ("finished", "cancelled", "failed", "created"):
        fraction = max(step, int(status.get("checkpoint") or 0)) / probe.steps
    age = None if "heartbeat" not in status else max(0.0, time.time() - float(status["heartbeat"]))
    out.update(
        state=state, verdict=status.get("verdict"), step=max(step, round(fraction * probe.steps)),
        fraction=min(fraction, 1.0), loss=last.get("loss"), heartbeat_age=age,
        place=status.get("place") or (status.get("provenance") or {}).get("device"),
    )  # fmt: skip
    if state != "running":
        return out
    if _gone(folder.path, status, age):
        rest = "it goes on from there as soon as a worker is free" if wanted else "submit it again to go on from there"
        checkpoint = int(status.get("checkpoint") or 0)
        verdict = f"lost: its process is gone, its last checkpoint is at step {checkpoint}; {rest}"
        return {**out, "state": "created" if wanted else "failed", "verdict": verdict}
    rate = status.get("tokens_per_second")
    if rate:
        out.update(tokens_per_second=rate, eta_seconds=(1.0 - out["fraction"]) * probe.tokens / rate)
    return out


def _gone(path: Path, status: dict[str, Any], age: float | None) -> bool:
    """Whether nobody trains this run any more, though its status says so."""
    if held(run_lock(path.parent, path.name)):
        return False
    if status.get("host") in (None, os.uname().nodename):
        return True  # on this machine the lock is the truth
    return age is None or age > 10.0 + 4 * float(status.get("every") or HEARTBEAT)


def last_record(file: Path) -> dict[str, Any] | None:
    """The last whole record of a metrics file, None if there is none; only the end of the file is read."""
    try:
        with file.open("rb") as handle:
            handle.seek(max(0, file.stat().st_size - _TAIL))
            lines = handle.read().split(b"\n")
    except FileNotFoundError:
        return None
    for line in reversed(lines):
        try:
            record = loads(line.decode("utf-8", "replace"))
        except ValueError:
            continue
        if isinstance(record, dict) and "step" in record:
            return record
    return None


def summary(rows: pd.DataFrame, probes: Iterable[Probe]) -> tuple[float, str]:
    """Which part of all tokens is trained, and the states counted in words."""
    tokens = pd.Series([float(probe.tokens) for probe in probes])
    over = rows["state"].isin(["finished", "diverged", "failed", "cancelled"])
    done = rows["fraction"].astype(float).where(~over, 1.0)
    counts = rows["state"].value_counts()
    names = {"created": "waiting"}
    parts = [f"{count} {names.get(state, state)}" for state, count in counts.items()]
    rate = pd.to_numeric(rows["tokens_per_second"]).sum()
    if rate > 0:
        parts.append(f"{rate / 1e6:.2f}M tokens/s")
    return float((done * tokens).sum() / tokens.sum()), ", ".join(parts)
