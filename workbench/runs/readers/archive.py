"""Sweeps as the project ships them: ``sweep.json`` with provenance, a table of runs, curves in Parquet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.runs.readers.base import LoadError, Log, Reader
from workbench.runs.readers.delimited import Delimited
from workbench.runs.readers.parquet import Parquet
from workbench.runs.strict_json import loads

__all__ = ["Archive"]

_SCHEMA = 1
_OWN = ("schema", "runs", "curves", "units", "columns", "attributes")


class Archive(Reader):
    """A folder with ``sweep.json``::

        {"schema": 1, "runs": "runs.csv", "curves": "curves.parquet", "units": {...}, "columns": {...},
         "attributes": {...}, ...provenance}

    ``runs`` has a column ``run``; ``curves`` (optional) has ``run``, ``step`` and metrics, and is read when
    the first curve is looked at. An entry of ``columns`` whose value is a header of ``runs`` names its
    source, any other value is a note on the column. Every other key is provenance and becomes the
    attribute ``provenance``.
    """

    name = "sweep archive"
    folders = True

    def sniff(self, path: Path, head: bytes) -> bool:
        return (path / "sweep.json").is_file()

    def read(self, path: Path) -> Log:
        about = _about(path)
        log = Delimited().read(_inside(path, about.get("runs", "runs.csv")))
        for key in ("units", "columns", "attributes"):
            if not isinstance(about.get(key, {}), dict):
                raise LoadError(f"sweep.json: {key!r} must be an object")
        log.units = {str(k): str(v) for k, v in about.get("units", {}).items()}
        for name, value in about.get("columns", {}).items():
            if isinstance(value, str) and value not in log.frame.columns:
                log.notes[name] = value
            else:
                log.columns[name] = value
        log.attributes = dict(about.get("attributes", {}))
        provenance = {key: value for key, value in about.items() if key not in _OWN}
        if provenance:
            log.attributes.setdefault("provenance", provenance)
        log.settled = True
        if "curves" in about and "run" in log.frame:
            log.curves = _StoredCurves(_inside(path, about["curves"]), [str(run) for run in log.frame["run"]])
        return log


class _StoredCurves(Mapping[int, pd.DataFrame]):
    """Row number -> curve, out of one Parquet file that is opened at the first look."""

    def __init__(self, path: Path, runs: list[str]) -> None:
        self._path = path
        self._runs = runs

    @cached_property
    def _groups(self) -> dict[str, pd.DataFrame]:
        frame = Parquet().read(self._path).frame
        if "run" not in frame or "step" not in frame:
            raise LoadError(f"{self._path}: curves need the columns run and step")
        return {str(run): group.drop(columns="run") for run, group in frame.groupby("run", sort=False)}

    def __getitem__(self, row: int) -> pd.DataFrame:
        # a run that stopped before its first record has no curve, which is no error
        return self._groups.get(self._runs[row], pd.DataFrame({"step": []}))

    def __contains__(self, row: object) -> bool:
        return row in range(len(self._runs))  # without opening the file

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self._runs)))

    def __len__(self) -> int:
        return len(self._runs)


def _about(path: Path) -> dict[str, Any]:
    try:
        about = loads((path / "sweep.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LoadError(f"its sweep.json cannot be read ({error})") from None
    if not isinstance(about, dict) or about.get("schema") != _SCHEMA:
        stated = about.get("schema") if isinstance(about, dict) else None
        raise LoadError(f"its sweep.json has schema {stated!r}; this version reads schema {_SCHEMA}")
    return about


def _inside(path: Path, name: Any) -> Path:
    file = path / str(name)
    try:
        inside, there = file.resolve().is_relative_to(path.resolve()), file.is_file()
    except (OSError, ValueError):  # a name too long, with a zero byte, or with half a character
        inside, there = True, False
    if not inside:
        raise LoadError(f"sweep.json names {name!r}, which lies outside its folder")
    if not there:
        raise LoadError(f"sweep.json names {name!r}, which does not exist")
    return file
