"""What a person points `load` at, as a flat list of logs: files, folders, globs, frames, lists."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.runs import statements
from workbench.runs.cache import Shelf
from workbench.runs.columns import nearest
from workbench.runs.interpret import Part
from workbench.runs.readers.base import LoadError, Log, Reader, find, readers, refuse_larger
from workbench.runs.report import Provenance
from workbench.runs.table import RunTable
from workbench.runs.text_pattern import TextPattern

__all__ = ["Source", "gather"]


@dataclass
class Source:
    """One log: exactly one of `log`, `table` and `error` is set.

    Attributes:
        label: names its runs where the log does not.
        path: where it came from, empty for a frame.
        numbered: whether even a single run is called ``label:0``.
        reader: which reader read it, None for frames and tables.
        part: the log's rows as `workbench.runs.interpret` made them, where that is known already.
        shelf, stamp, entry, headers: the cache it belongs to, what changes when the log is written, how it is kept
            there if it came from there, and the headers it was read with; see `workbench.runs.cache`.
    """

    label: str
    path: str = ""
    log: Log | None = None
    table: RunTable | None = None
    error: str | None = None
    numbered: bool = False
    reader: Reader | None = None
    part: Part | None = None
    shelf: Shelf | None = None
    stamp: str = ""
    entry: dict[str, Any] | None = None
    headers: list[str] = field(default_factory=list)

    @property
    def provenance(self) -> Provenance:
        """Where its runs come from."""
        log, reader = self.log, self.reader
        return Provenance(
            path=self.path,
            format=reader.name if reader is not None else "" if self.path else "DataFrame",
            version=reader.version if reader is not None else 0,
            read=None if log is None else len(log.frame) if log.read is None else log.read,
            skipped={} if log is None else dict(log.skipped),
            reason=self.error or "",
            cached=self.entry is not None,
        )


def gather(
    source: Any,
    name: str = "run",
    pattern: TextPattern | None = None,
    *,
    cache: bool = False,
    decided: bool = False,
) -> tuple[list[Source], list[str]]:
    """All logs behind `source`, read, and messages on what was left out; text files that fit `pattern` are read by it.

    With `cache`, logs that have not changed since a slow load come from there; `decided` says whether the user decided
    what columns mean.

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
        shelf = Shelf(Path(os.fspath(source)).expanduser()) if cache else None
        look = partial(_files, source, pattern)
        files, messages = look() if shelf is None else shelf.files(look)
        sources = _read(files, pattern, shelf, decided)
        return sources, [*messages, *(shelf.said if shelf is not None else ())]
    if isinstance(source, Iterable) and not isinstance(source, bytes | dict):
        sources, messages, items = [], [], list(source)
        for item in items:
            found, said = gather(item, name, pattern, cache=cache, decided=decided)
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


def _files(source: str | os.PathLike, pattern: TextPattern | None = None) -> tuple[list[Path], list[str]]:
    """Paths to read, and messages on what was left out."""
    path = Path(os.fspath(source)).expanduser()
    try:
        exists = path.exists()
    except PermissionError:  # of a folder on the way
        raise LoadError(f"{str(path)!r} cannot be opened (Permission denied)") from None
    except (OSError, ValueError):  # a name too long or with a zero byte
        exists = False
    if exists:
        if not path.is_dir():
            return [path], []
        return _below(path, pattern)
    if glob.has_magic(str(path)):
        found = sorted(Path(p) for p in glob.glob(str(path), recursive=True))  # noqa: PTH207  Path.glob takes no absolute one
        if not found:
            raise FileNotFoundError(f"no file matches {str(source)!r}; check the pattern and the working directory")
        files, messages = [], []
        for item in found:
            below, said = _below(item, pattern) if item.is_dir() else ([item], [])
            files += below
            messages += said
        return list(dict.fromkeys(files)), messages
    shown = str(source)[:300]
    if _link(path):
        raise FileNotFoundError(f"{shown!r} is a link that leads nowhere or in a circle; give the log itself")
    if "://" in shown:
        raise FileNotFoundError(f"{shown!r} is not a local file; download it first and give its path")
    raise FileNotFoundError(f"no file or folder {shown!r}; {_sibling(path)}")


def _link(path: Path) -> bool:
    try:
        return path.is_symlink()
    except (OSError, ValueError):
        return False


def _sibling(path: Path) -> str:
    folder = path.parent
    try:
        names = sorted(p.name for p in folder.iterdir())
    except (OSError, ValueError):
        return f"the folder {str(folder)[:200]!r} does not exist either"
    return nearest(path.name, names[:200], f"entries of {str(folder)!r}")


def _below(folder: Path, pattern: TextPattern | None = None) -> tuple[list[Path], list[str]]:
    """Logs in a folder: the folder itself if a reader knows it, else everything below, sorted."""
    top = _folder_reader(folder)
    if top is not None and not top.nested:
        return [folder], []
    files: list[Path] = [] if top is None else [folder]
    skipped: dict[str, list[str]] = {}

    def skip(path: Path, why: str) -> None:
        skipped.setdefault(why, []).append(str(path.relative_to(folder)))

    def closed(error: OSError) -> None:
        skip(Path(error.filename or folder), f"{{}} folders cannot be opened ({error.strerror or error}): ")

    for root, folders, names in os.walk(folder, onerror=closed):  # does not follow links, so that loops end
        here = Path(root)
        owner = _folder_reader(here)
        known = {name: None if name.startswith(".") else _folder_reader(here / name) for name in sorted(folders)}
        aside = {name for reader in known.values() if reader is not None for name in reader.beside}
        for name, reader in known.items():
            if name in aside or (owner is not None and owner.owns(here / name)):
                folders.remove(name)
                continue
            if name.startswith(".") or (reader is not None and not reader.nested):
                folders.remove(name)
            elif reader is None and _link(here / name):
                skip(here / name, "{} links to folders were not followed; load what they lead to by its own path: ")
            if reader is not None:
                files.append(here / name)
        folders.sort()
        for name in sorted(names):
            path = here / name
            if owner is not None and owner.owns(path):
                continue
            if name.startswith(".") or name.endswith(statements.SUFFIX):
                continue
            why = _foreign(path, pattern)
            if why is None:
                files.append(path)
            else:
                skip(path, why)
    messages = [
        why.format(len(paths)) + ", ".join(paths[:5]) + (", ..." if len(paths) > 5 else "")
        for why, paths in skipped.items()
    ]
    if not files:
        allowed = ", ".join(reader.name for reader in readers())
        said = "".join(f"; {message}" for message in messages if "no reader knows" not in message)
        raise LoadError(f"no run logs in {str(folder)!r}; the readers are {allowed}{said}")
    return sorted(files), messages


def _folder_reader(path: Path) -> Reader | None:
    try:
        with os.scandir(path) as entries:  # a reader that opened a pipe would wait for ever
            if any(not (entry.is_file() or entry.is_dir() or entry.is_symlink()) for entry in entries):
                return None
        return next((r for r in readers() if r.folders and r.sniff(path, b"")), None)
    except OSError:  # no permission to look into it
        return None


def _expected(path: Path) -> bool:
    return any(path.name.lower().endswith(reader.suffixes) for reader in readers() if reader.suffixes)


def _foreign(path: Path, pattern: TextPattern | None = None) -> str | None:
    """Why a file of a folder is no log: the beginning of a message, with a place for a number; None if it is one."""
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            return (
                "{} links lead nowhere or in a circle: "
                if path.is_symlink() and not path.exists()
                else "{} entries are neither files nor folders and were not opened: "
            )
        if _expected(path) or (pattern is not None and pattern.sniff(path)) or find(path) is not None:
            return None
    except LoadError as error:
        if "Git LFS" in str(error):
            return "{} files are Git LFS pointers, not the files themselves; run `git lfs pull`: "
        if "cannot be opened" in str(error):
            return f"{{}} files were skipped, {error}: "
    except OSError as error:
        return f"{{}} entries cannot be opened ({error.strerror or error}): "
    return "{} files that no reader knows were skipped: "


def _read(
    files: list[Path], pattern: TextPattern | None = None, shelf: Shelf | None = None, decided: bool = False
) -> list[Source]:
    sources = []
    for path, label in zip(files, _labels(files), strict=True):
        kept = shelf.take(path, label, decided) if shelf is not None else None
        if kept is not None:
            sources.append(kept)
            continue
        reader = None
        try:
            reader = _reader(path, pattern, alone=len(files) == 1)
            stamp = shelf.stamp(path, reader) if shelf is not None else ""
            log = reader.read(path)
            headers = list(log.frame.columns)
            sources.append(Source(label, str(path), log, reader=reader, shelf=shelf, stamp=stamp, headers=headers))
        except (ValueError, OSError) as error:  # a LoadError, or a file that changed while it was read
            sources.append(Source(label, str(path), error=str(error), reader=reader))
    return sources


def _reader(path: Path, pattern: TextPattern | None = None, *, alone: bool = False) -> Reader:
    if not path.is_dir() and not path.is_file():
        raise LoadError("it is neither a file nor a folder")
    if pattern is not None and path.is_file() and (alone or pattern.sniff(path)):
        return pattern
    reader = find(path) or (pattern if path.is_file() else None)
    if reader is None:
        allowed = ", ".join(r.name for r in readers())
        raise LoadError(
            f"no reader knows this format; the readers are {allowed}; "
            "for a text log say how its lines look, with pattern='step {step} loss {loss}'"
        )
    if reader.largest is not None and path.is_file():
        refuse_larger(path.stat().st_size, reader.largest)
    return reader


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
