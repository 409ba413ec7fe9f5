"""How a sweep stands, read from its run folders, as a table; `workbench.launch.told` puts it into words.

Whoever looks writes nothing and waits for nobody. What a folder holds that does not belong there is said in
the verdict of its row, and never raised: one broken run must not hide the others.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workbench.launch.board import run_lock
from workbench.launch.locks import held
from workbench.launch.stack import HEARTBEAT
from workbench.launch.told import as_text, duration, summary
from workbench.probes.spec import Probe
from workbench.runs.readers.base import LoadError
from workbench.runs.store import STATES, RunFolder
from workbench.runs.strict_json import loads

__all__ = ["COLUMNS", "as_text", "last_record", "row", "summary", "table"]

COLUMNS = (
    "id", "state", "verdict", "step", "steps", "fraction", "loss", "tokens_per_second", "eta_seconds", "place",
    "heartbeat_age",
)  # fmt: skip
#: Columns of words; a missing one is None. In all others, which are numbers, it is NaN.
WORDS = ("id", "state", "verdict", "place")
#: Bytes at the end of a metrics file in which the last record is looked for.
_TAIL = 65536
#: Seconds by which another machine's clock may be ahead before that is worth a word.
_AHEAD = 60.0


def table(root: Path, probes: Iterable[Probe], wanted: Iterable[str] = ()) -> pd.DataFrame:
    """One row a probe with `COLUMNS`, as `Job.table` describes them.

    Columns of words hold None where something is not known, columns of numbers NaN, whatever wrote the folders.

    Args:
        root: folder of the run folders.
        probes: which.
        wanted: ids that a queue still wants trained.
    """
    wanted = frozenset(wanted)
    rows = [row(Path(root), probe, probe.id in wanted) for probe in probes]
    cells = {name: [one[name] for one in rows] for name in COLUMNS}
    data: dict[str, Any] = {}
    for name, values in cells.items():
        if name in WORDS:
            data[name] = pd.Series(values, dtype=object)
        else:
            data[name] = np.array([np.nan if v is None else v for v in values], dtype=float)
    for name in ("step", "steps"):
        data[name] = data[name].astype(np.int64)
    return pd.DataFrame(data, columns=list(COLUMNS))


def row(root: Path, probe: Probe, wanted: bool = False) -> dict[str, Any]:
    """The cells of one probe; what is missing, damaged or foreign in its folder is said in the verdict."""
    path = root / probe.id
    out: dict[str, Any] = dict.fromkeys(COLUMNS)
    out.update(id=probe.id, steps=probe.steps, step=0, fraction=0.0)
    last, trouble = _last(path / "metrics.jsonl")
    marks = _Marks("metrics.jsonl", [trouble] if trouble else [])
    step = int(marks.number(last, "step", 0, 1e15) or 0)
    out.update(step=step, fraction=min(step / probe.steps, 1.0), loss=marks.number(last, "loss", nan=True))
    try:
        status, gone = _settled(RunFolder(path))
    except (LoadError, OSError) as error:
        verdict = f"{error}; submit it again to repair it"
        return {**out, "state": "failed", "verdict": _joined(verdict, marks)}
    said = _Marks("status.json", marks.found)
    state = status.get("state", "created")
    if state not in STATES:
        said.foreign("state", state)
        state = "failed"
    checkpoint = int(said.number(status, "checkpoint", 0, 1e15) or 0)
    reached = max(step, checkpoint) / probe.steps
    share = said.number(status, "fraction", 0, 1 + 1e-9) or 0.0
    fraction = min(max(reached, share if state == "running" else 0.0), 1.0)
    beat = said.number(status, "heartbeat")
    age = None if beat is None else time.time() - beat
    provenance = status.get("provenance")
    out.update(
        state=state, step=max(step, round(fraction * probe.steps)), fraction=fraction,
        heartbeat_age=None if age is None else max(0.0, age),
        place=said.text(status, "place") or said.text(provenance if isinstance(provenance, dict) else {}, "device"),
    )  # fmt: skip
    verdict = said.text(status, "verdict")
    if state != "running":
        return {**out, "verdict": _joined(verdict, said)}
    if gone:
        rest = "it goes on from there as soon as a worker is free" if wanted else "submit it again to go on from there"
        verdict = f"lost: its process is gone, its last checkpoint is at step {checkpoint}; {rest}"
        return {**out, "state": "created" if wanted else "failed", "verdict": _joined(verdict, said)}
    rate = said.number(status, "tokens_per_second", 0)
    if rate:
        out.update(tokens_per_second=rate, eta_seconds=(1.0 - fraction) * probe.tokens / rate)
    if age is not None and age < -_AHEAD:
        said.found.append(f"its heartbeat is {duration(-age)} ahead of the clock here")
    return {**out, "verdict": _joined(verdict, said)}


class _Marks:
    """Values of one file, as far as they are what they should be; sentences about those that are not."""

    def __init__(self, file: str, found: Sequence[str] = ()) -> None:
        self.file, self.found = file, list(found)

    def number(
        self, data: Mapping[str, Any], name: str, low: float = -math.inf, high: float = math.inf, nan: bool = False
    ) -> float | None:
        """The number under this name; None if there is none, and marked if there is something else."""
        value = data.get(name)
        if value is None:
            return None
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and (nan or (low <= value <= high and math.isfinite(value))):
            return float(value)
        self.foreign(name, value)
        return None

    def text(self, data: Mapping[str, Any], name: str) -> str | None:
        value = data.get(name)
        if value is None or isinstance(value, str):
            return value or None
        self.foreign(name, value)
        return None

    def foreign(self, name: str, value: Any) -> None:
        self.found.append(f"{self.file} has the foreign {name} {value!r:.40}")


def _joined(verdict: str | None, marks: _Marks) -> str | None:
    return "; ".join(filter(None, [verdict, *marks.found])) or None


def _settled(folder: RunFolder) -> tuple[dict[str, Any], bool]:
    """The status, and whether it says ``running`` though nobody trains the run any more.

    A run may end between the look at its status and the look at its lock: then the status has changed.
    """
    status = folder.status
    while status.get("state") == "running" and _gone(folder.path, status):
        again = folder.status
        if again == status:
            return status, True
        status = again
    return status, False


def _gone(path: Path, status: Mapping[str, Any]) -> bool:
    host = status.get("host")
    try:
        if held(run_lock(path.parent, path.name)):
            return False
        if host in (None, os.uname().nodename):
            return True  # on this machine the lock is the truth
    except OSError:  # a folder that may only be read
        pass
    beat, every = status.get("heartbeat"), status.get("every")
    if not isinstance(beat, int | float):
        return True
    every = every if isinstance(every, int | float) and 0 < every < 1e6 else HEARTBEAT
    return time.time() - beat > 10.0 + 4 * every


def last_record(file: Path) -> dict[str, Any] | None:
    """The last whole record of a metrics file, None if there is none; only the end of the file is read."""
    return _last(file)[0] or None


def _last(file: Path) -> tuple[dict[str, Any], str | None]:
    """The last whole record with a step, with the last loss before it if it has none; and what is wrong."""
    try:
        with file.open("rb") as handle:
            handle.seek(max(0, file.stat().st_size - _TAIL))
            lines = handle.read().split(b"\n")
    except FileNotFoundError:
        return {}, None
    except OSError as error:
        return {}, f"metrics.jsonl cannot be read ({error.strerror or error})"
    found: dict[str, Any] = {}
    for line in reversed(lines):
        try:
            record = loads(line.decode("utf-8", "replace"))
        except ValueError:
            continue
        if isinstance(record, dict) and "step" in record:
            found = found or record
            if record.get("loss") is not None:
                return {"loss": record["loss"], **{k: v for k, v in found.items() if v is not None}}, None
    return found, None
