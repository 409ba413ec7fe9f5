"""Weights & Biases runs on disk: the folder of a run, and its transaction log by itself."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from workbench.runs.curves import is_step
from workbench.runs.lazy_curves import LazyCurves
from workbench.runs.readers.base import LoadError, Log, Reader
from workbench.runs.run_row import run_row
from workbench.runs.strict_json import flatten
from workbench.runs.wandb_file import WandbFile, is_wandb_file, read_wandb_file

__all__ = ["Wandb", "WandbLog"]

_ENDING, _RUNS = ".wandb", ("run-", "offline-run-")


class WandbLog(Reader):
    """One transaction log ``run-<id>.wandb``: one run."""

    name = "W&B log"
    suffixes: ClassVar[tuple[str, ...]] = (_ENDING,)

    def sniff(self, path: Path, head: bytes) -> bool:
        return is_wandb_file(head)

    def read(self, path: Path) -> Log:
        return _log(path)


class Wandb(Reader):
    """The folder of one run, ``offline-run-<time>-<id>`` or ``run-<time>-<id>``, or the folder ``wandb`` of many.

    Everything is read from the transaction logs, which wandb writes whether a run is online or not: the settings,
    the summary, every logged number. The link ``latest-run`` is left out, as it is one of the others, and so are
    wandb's own logs and the files of a run. A run that cannot be read is a marked row among many.
    """

    name = "W&B run"
    folders = True

    def sniff(self, path: Path, head: bytes) -> bool:
        return bool(_logs(path)) or _is_home(path)

    def read(self, path: Path) -> Log:
        files = _logs(path) or [file for folder in _folders(path) for file in _logs(folder)]
        if len(files) == 1:
            return _log(files[0])
        found = []
        for file in files:
            try:
                found.append(_log(file))
            except LoadError as error:
                row = [{"run": file.stem.removeprefix("run-")}]
                found.append(Log.of_records(row, problems={0: f"cannot be read: {error}"}, settled=True))
        return Log.together(found)


def _logs(folder: Path) -> list[Path]:
    """The transaction logs of a run's folder; none if it is no such folder."""
    if not folder.name.startswith(_RUNS) or folder.is_symlink():
        return []
    try:
        with os.scandir(folder) as entries:
            return sorted(folder / e.name for e in entries if e.name.endswith(_ENDING) and e.is_file())
    except OSError:  # no permission: not ours to read
        return []


def _is_home(folder: Path) -> bool:
    """Whether a folder is where wandb keeps its runs: it has wandb's own log, or its name, and a run."""
    if folder.name != "wandb" and not os.path.lexists(folder / "debug-internal.log"):
        return False
    return any(_logs(path) for path in _folders(folder))


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(folder / e.name for e in entries if e.name.startswith(_RUNS) and e.is_dir())
    except OSError:
        return []


def _log(path: Path) -> Log:
    try:
        file = read_wandb_file(path.read_bytes())
    except OSError as error:
        raise LoadError(f"it cannot be opened ({error.strerror or error})") from None
    except ValueError as error:
        raise LoadError("it is empty" if not path.stat().st_size else str(error)) from None
    if not file.records:
        raise LoadError("its transaction log holds no whole record")
    axis = _axis(file)
    logged = {".".join(path): s for path, s in file.series.items()}
    steps, values = _columns(file, axis)
    about = dict(file.about)
    own: dict[str, Any] = {"run": about.get("name") or about.get("id"), "run_id": about.get("id")}
    own |= {key: about[key] for key in ("project", "group", "job_type", "sweep", "notes") if about.get(key)}
    if about.get("tags"):
        own["tags"] = ", ".join(about["tags"])
    state = "running" if file.exit_code is None else "finished" if file.exit_code == 0 else "failed"
    own["state"] = state
    if np.isfinite(steps).any():
        own["steps"] = float(np.nanmax(steps))
    if "_runtime" in logged:
        own["seconds"] = float(logged["_runtime"].value[-1])
    settings = flatten({key: value for key, value in file.config.items() if key != "_wandb"})
    final = {key: value for key, value in _summary(file).items() if not key.startswith("_")}
    for key, s in logged.items():
        if not key.startswith("_"):
            final.setdefault(key, float(s.value[-1]))
    final.pop(axis, None)
    skipped, messages = _said(file, axis)
    problem = {
        "running": "its log has no exit record, so it is still running or was killed",
        "failed": f"it ended with exit code {file.exit_code}",
    }.get(state)
    return Log.of_records(
        [run_row(own, settings, final)],
        curves=LazyCurves({0: partial(_curve, steps, values)} if values else {}),
        messages=messages,
        problems={0: problem} if problem else {},
        settled=True,
        read=file.records,
        skipped=skipped,
    )


def _said(file: WandbFile, axis: str) -> tuple[dict[str, int], list[str]]:
    """What was skipped and why, and what a person should know."""
    skipped, messages = {}, []
    if file.bad:
        skipped["does not fit its checksum"] = file.bad
        messages.append(f"{file.bad} damaged stretches of a W&B log were skipped, they do not fit their checksum")
    if file.tail:
        skipped["is not whole"] = 1
        messages.append(f"the last record of a W&B log is not whole; {file.tail} bytes were not read")
    if axis != "_step":
        messages.append(f"steps are taken from {axis!r}, which the program logged; W&B's own count is kept as '_step'")
    return skipped, messages


def _summary(file: WandbFile) -> dict[str, Any]:
    """The summary, flat; pictures, histograms and the like are left out."""

    def plain(tree: dict[str, Any]) -> dict[str, Any]:
        kept = {key: plain(value) if isinstance(value, dict) else value for key, value in tree.items()}
        return {key: value for key, value in kept.items() if value != {} and not isinstance(value, list)}

    typed = {key: v for key, v in file.summary.items() if not (isinstance(v, dict) and "_type" in v)}
    return flatten(plain(typed))


def _axis(file: WandbFile) -> str:
    """What counts the steps: a metric that does and stands in every row, else W&B's count of log calls.

    Many programs log without telling W&B their step, as nanoGPT's ``iter``; then W&B's is the number of the call.
    """
    named = {".".join(path): s for path, s in file.series.items()}
    metrics = {key: s for key, s in named.items() if not key.startswith("_")}
    counting = [key for key in metrics if is_step(key) or key.split("/")[-1] == "global_step"]
    counting.sort(key=lambda key: (key != file.step_metric, key))
    for key in counting:
        rows, value = metrics[key].row, metrics[key].value
        others = [s.row for name, s in metrics.items() if name not in counting]
        if not others or not np.isfinite(value).all() or (np.diff(value) < 0).any():
            continue
        if not np.isin(np.unique(np.concatenate(others)), rows).all():
            continue
        if np.array_equal(value, file.step[rows]):
            return "_step"
        return key
    return "_step"


def _columns(file: WandbFile, axis: str) -> tuple[np.ndarray, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """``[rows]`` steps, NaN where there is none, and by header the rows and values of every column."""
    columns = {".".join(path): (s.row, s.value) for path, s in file.series.items()}
    own = columns.pop("_step", None)
    if axis == "_step":
        return file.step, columns
    rows, value = columns.pop(axis)
    steps = np.full(file.rows, np.nan)
    steps[rows] = value
    return steps, columns | ({"_step": own} if own is not None else {})


def _curve(steps: np.ndarray, columns: dict[str, tuple[np.ndarray, np.ndarray]]) -> pd.DataFrame:
    data = {"step": steps}
    for header, (rows, value) in columns.items():
        if header != "step":
            data[header] = np.full(len(steps), np.nan)
            data[header][rows] = value
    return pd.DataFrame(data)
