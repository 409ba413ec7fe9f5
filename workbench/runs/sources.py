"""What a person points `load` at, as a flat list of logs: files, folders, globs, frames, lists."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.runs import statements
from workbench.runs.columns import nearest
from workbench.runs.readers.base import LoadError, Log, Reader, find, readers
from workbench.runs.table import RunTable

__all__ = ["Source", "gather"]


@dataclass
class Source:
    """One log: exactly one of `log`, `table` and `error` is set.

    Attributes:
        label: names its runs where the log does not.
        path: where it came from, empty for a frame.
        numbered: whether even a single run is called ``label:0``.
    """

    label: str
    path: str = ""
    log: Log | None = None
    table: RunTable | None = None
    error: str | None = None
    numbered: bool = False


def gather(source: Any, name: str = "run") -> tuple[list[Source], list[str]]:
    """All logs behind `source`, read, and messages on what was left out.

    Raises:
        FileNotFoundError: a path or pattern matches nothing.
        LoadError: a folder holds no log.
        TypeError: `source` is nothing that can be loaded.
    """
    if isinstance(source, RunTable):
        return [Source("", table=source)], []
    if isinstance(source, pd.DataFrame):
        return [Source(name, log=_frame(source), numbered=True)], []
    if isinstance(source, str | os.PathLike):
        files, messages = _files(source)
        return _read(files), messages
    if isinstance(source, Iterable) and not isinstance(source, bytes | dict):
        sources, messages, items = [], [], list(source)
        for item in items:
            found, said = gather(item, name)
            sources += found
            messages += said
        if not items:
            raise ValueError("nothing to load: the list is empty; give a path, a glob, a DataFrame or a list of them")
        return sources, messages
    raise TypeError(
        f"cannot load a {type(source).__name__}; "
        "give a path, a folder, a glob, a DataFrame, a RunTable or a list of them"
    )


def _frame(frame: pd.DataFrame) -> Log:
    frame = frame.copy(deep=False)
    index = frame.index
    if isinstance(index, pd.MultiIndex) or index.name is not None:
        frame = frame.reset_index()
    elif not pd.api.types.is_numeric_dtype(index.dtype) and len(index):
        frame = frame.reset_index(names="run" if "run" not in frame.columns else "index")
    if isinstance(frame.columns, pd.MultiIndex):
        frame.columns = [".".join(str(level) for level in key if str(level)) for key in frame.columns]
    frame.columns = [str(header) for header in frame.columns]
    messages = []
    if not frame.columns.is_unique:
        seen: dict[str, int] = {}
        headers = []
        for header in frame.columns:
            seen[header] = seen.get(header, 0) + 1
            headers.append(header if seen[header] == 1 else f"{header}#{seen[header]}")
        messages.append("some headers appear more than once; the later ones were numbered #2, #3, ...")
        frame.columns = headers
    return Log(frame.reset_index(drop=True), messages=messages)


def _files(source: str | os.PathLike) -> tuple[list[Path], list[str]]:
    """Paths to read, and messages on what was left out."""
    path = Path(os.fspath(source)).expanduser()
    try:
        exists = path.exists()
    except (OSError, ValueError):  # a name too long or with a zero byte
        exists = False
    if exists:
        if not path.is_dir():
            return [path], []
        return _below(path)
    if glob.has_magic(str(path)):
        found = sorted(Path(p) for p in glob.glob(str(path), recursive=True))  # noqa: PTH207  Path.glob takes no absolute one
        if not found:
            raise FileNotFoundError(f"no file matches {str(source)!r}; check the pattern and the working directory")
        files, messages = [], []
        for item in found:
            below, said = _below(item) if item.is_dir() else ([item], [])
            files += below
            messages += said
        return list(dict.fromkeys(files)), messages
    shown = str(source)[:300]
    if "://" in shown:
        raise FileNotFoundError(f"{shown!r} is not a local file; download it first and give its path")
    raise FileNotFoundError(f"no file or folder {shown!r}; {_sibling(path)}")


def _sibling(path: Path) -> str:
    folder = path.parent
    try:
        names = sorted(p.name for p in folder.iterdir())
    except (OSError, ValueError):
        return f"the folder {str(folder)[:200]!r} does not exist either"
    return nearest(path.name, names[:200], f"entries of {str(folder)!r}")


def _below(folder: Path) -> tuple[list[Path], list[str]]:
    """Logs in a folder: the folder itself if a reader knows it, else everything below, sorted."""
    if _folder_reader(folder) is not None:
        return [folder], []
    files: list[Path] = []
    skipped: list[str] = []
    for root, folders, names in os.walk(folder):  # does not follow links, so that loops end
        here = Path(root)
        for name in sorted(folders):
            if name.startswith(".") or _folder_reader(here / name) is not None:
                folders.remove(name)
                if not name.startswith("."):
                    files.append(here / name)
        folders.sort()
        for name in sorted(names):
            path = here / name
            if name.startswith(".") or name.endswith(statements.SUFFIX) or not path.is_file():
                continue
            if _expected(path) or _known(path):
                files.append(path)
            else:
                skipped.append(str(path.relative_to(folder)))
    messages = []
    if skipped:
        shown = ", ".join(skipped[:5]) + (", ..." if len(skipped) > 5 else "")
        messages.append(f"{len(skipped)} files that no reader knows were skipped: {shown}")
    if not files:
        allowed = ", ".join(reader.name for reader in readers())
        raise LoadError(f"no run logs in {str(folder)!r}; the readers are {allowed}")
    return sorted(files), messages


def _folder_reader(path: Path) -> Reader | None:
    return next((r for r in readers() if r.folders and r.sniff(path, b"")), None)


def _expected(path: Path) -> bool:
    return any(path.name.lower().endswith(reader.suffixes) for reader in readers() if reader.suffixes)


def _known(path: Path) -> bool:
    try:
        return find(path) is not None
    except LoadError:
        return False


def _read(files: list[Path]) -> list[Source]:
    sources = []
    for path, label in zip(files, _labels(files), strict=True):
        try:
            log = _log(path)
            sources.append(Source(label, str(path), log=log))
        except (ValueError, OSError) as error:  # a LoadError, or a file that changed while it was read
            sources.append(Source(label, str(path), error=str(error)))
    return sources


def _log(path: Path) -> Log:
    if not path.is_dir() and not path.is_file():
        raise LoadError("it is neither a file nor a folder")
    reader = find(path)
    if reader is None:
        allowed = ", ".join(r.name for r in readers())
        raise LoadError(f"no reader knows this format; the readers are {allowed}")
    return reader.read(path)


def _labels(paths: list[Path]) -> list[str]:
    """Short names for files: the stem, or as much of the path as tells two equal stems apart."""
    stems = [_stem(path.name) for path in paths]
    if len(set(stems)) == len(stems):
        return stems
    try:
        top = Path(os.path.commonpath([path.absolute().parent for path in paths]))
    except ValueError:  # different drives
        return stems
    return [
        (path.absolute().relative_to(top).parent / stem).as_posix() for path, stem in zip(paths, stems, strict=True)
    ]


def _stem(name: str) -> str:
    known = sorted((s for reader in readers() for s in reader.suffixes), key=len, reverse=True)
    suffix = next((s for s in known if name.lower().endswith(s) and len(name) > len(s)), None)
    return name[: -len(suffix)] if suffix else Path(name).stem
