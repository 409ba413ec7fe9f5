"""TensorBoard log folders: every event file of a run, restarts and all."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from workbench.runs.event_file import EventFile, Series, is_event_file, read_event_path
from workbench.runs.readers.base import LoadError, Log, Reader, find, peek

__all__ = ["TensorBoard", "TensorBoardFile"]

_MARK = ".tfevents."


class TensorBoardFile(Reader):
    """One event file."""

    name = "TensorBoard event file"
    largest = None

    def sniff(self, path: Path, head: bytes) -> bool:
        return is_event_file(head)

    def read(self, path: Path) -> Log:
        return _log([path])


class TensorBoard(Reader):
    """A folder with event files: one run. Runs in its subfolders are runs of their own.

    A run may have several files: it was restarted, or its settings were written to a file of their own, or,
    by PyTorch's ``add_hparams``, to a subfolder called by the time. They are read in the order of their
    names, which begin with the time. Where a program said that it starts again at a step, what earlier files
    hold from there on is dropped, as TensorBoard does; where a step was written twice, the later value counts.
    """

    name = "TensorBoard"
    folders = True
    nested: ClassVar[bool] = True

    def sniff(self, path: Path, head: bytes) -> bool:
        return bool(_event_files(path))

    def owns(self, path: Path) -> bool:
        return (_MARK in path.name and path.is_file()) or _settings(path)

    def read(self, path: Path) -> Log:
        beside = [file for folder in path.iterdir() if _settings(folder) for file in _event_files(folder)]
        return _log(_event_files(path) + sorted(beside, key=_order))


def _event_files(folder: Path) -> list[Path]:
    try:
        return sorted((path for path in folder.iterdir() if _MARK in path.name and path.is_file()), key=_order)
    except OSError:  # no permission: not ours to read
        return []


def _order(path: Path) -> tuple[list[str | int], str]:
    """Numbers in a name as numbers: the tenth file that a program opened within a second comes after the ninth."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name)], str(path)


def _settings(folder: Path) -> bool:
    """Whether a folder is what PyTorch's ``add_hparams`` leaves: called by the time, with event files in it."""
    return re.fullmatch(r"\d{10}(\.\d+)?", folder.name) is not None and bool(_event_files(folder))


def _log(paths: list[Path]) -> Log:
    read, messages = [], []
    for path in paths:
        try:
            if not is_event_file(peek(path)):
                messages += [f"{path.name}: {_why_not(path)}"]
                continue
            file = read_event_path(path)
        except (LoadError, OSError) as error:
            messages.append(f"{path.name}: {error}")
            continue
        messages += [f"{path.name}: {sentence}" for sentence in _said(file)]
        read.append(file)
    series, purged = _together(read)
    settings: dict[str, Any] = {}
    for file in read:
        settings |= file.hparams
    if not read:
        raise LoadError("its event files hold no scalars: " + "; ".join(messages[:3]))
    if not series and not settings:
        other = sum(file.other for file in read)
        raise LoadError(
            f"its {sum(file.records for file in read)} records hold no scalars ({other} are pictures, histograms, "
            "graphs or headers)"
        )
    if purged:
        messages.append(f"{purged} values were dropped because the run was restarted from an earlier step")
    curves = {tag: _last(s) for tag, s in series.items()}
    doubled = sum(len(s.step) - len(curves[tag][0]) for tag, s in series.items())
    if doubled:
        messages.append(f"{doubled} values were written again for the same step; the later ones count")
    row = {**settings, **{tag: float(values[-1]) for tag, (_, values) in curves.items()}}
    walls = [s.wall for s in series.values()]
    if walls:
        row["steps"] = int(max(steps[-1] for steps, _ in curves.values()))
        row["seconds"] = float(max(w.max() for w in walls) - min(w.min() for w in walls))
    skipped = {
        "no scalar (pictures, histograms, headers)": sum(file.other for file in read),
        "checksum does not fit": sum(file.bad for file in read),
        "cut off": sum(file.tail > 0 for file in read),
        "dropped by a restart": purged,
        "written again for the same step": doubled,
    }
    return Log.of_records(
        [row],
        curves=_Lazy(curves) if curves else {},
        messages=messages,
        settled=True,
        read=sum(file.records for file in read),
        skipped={why: n for why, n in skipped.items() if n},
    )


def _why_not(path: Path) -> str:
    """Why a file called like an event file is none."""
    try:
        find(path)
    except LoadError as error:
        return str(error)
    return "it is no event file"


def _said(file: EventFile) -> list[str]:
    said = []
    if file.bad:
        said.append(f"{file.bad} of {file.records} records were skipped, they do not fit their checksum")
    if file.tail:
        said.append(f"{file.why}; {file.tail} bytes were not read")
    return said


def _together(files: list[EventFile]) -> tuple[dict[str, Series], int]:
    """All files as one, and how many values were dropped by restarts."""
    joined: dict[str, Series] = {}
    offset = purged = 0
    for file in files:
        for tag, own in file.series.items():
            own = Series(own.step, own.value, own.wall, own.record + offset)
            joined[tag] = _append(joined[tag], own) if tag in joined else own
        for record, step in file.starts:
            for tag, s in joined.items():
                keep = (s.record > record + offset) | (s.step < step)
                purged += int((~keep).sum())
                joined[tag] = Series(s.step[keep], s.value[keep], s.wall[keep], s.record[keep])
        offset += file.records + 1
    return {tag: s for tag, s in joined.items() if len(s.step)}, purged


def _append(first: Series, second: Series) -> Series:
    return Series(*(np.concatenate([getattr(s, f) for s in (first, second)]) for f in Series.__annotations__))


def _last(series: Series) -> tuple[np.ndarray, np.ndarray]:
    """Steps in order and the last value written for each."""
    order = np.argsort(series.step, kind="stable")
    step, value = series.step[order], series.value[order]
    keep = np.append(step[1:] != step[:-1], True)
    return step[keep], value[keep]


class _Lazy(dict):
    """The one curve of a run, as a frame only when it is looked at."""

    def __init__(self, curves: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
        super().__init__({0: None})
        self._curves = curves

    def __getitem__(self, row: int) -> pd.DataFrame:
        if row != 0:
            raise KeyError(row)
        first, *others = [step for step, _ in self._curves.values()]
        alike = all(np.array_equal(first, step) for step in others)
        steps = first if alike else np.unique(np.concatenate([first, *others]))
        data = {"step": steps.astype(float)}
        for tag, (step, value) in self._curves.items():
            if tag == "step":
                continue
            if alike:
                data[tag] = value
                continue
            data[tag] = np.full(len(steps), np.nan)
            data[tag][np.searchsorted(steps, step)] = value
        return pd.DataFrame(data)

    def values(self):  # type: ignore[override]
        return [self[0]]

    def items(self):  # type: ignore[override]
        return [(0, self[0])]
