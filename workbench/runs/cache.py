"""A second load in a moment: what slow logs held, in the user's cache folder.

Reading a thousand event files takes seconds, looking whether they have changed takes milliseconds. A load that took
longer than `SLOW` leaves one Arrow file in ``$XDG_CACHE_HOME/scaling-workbench`` (``~/.cache/...``), which the next
load of the same path uses for every log whose files are still the same: absolute path, size, times of writing and
change, inode, and the reader's version. ``WORKBENCH_CACHE`` names another folder, or is ``off``.

A file that is stale, damaged or of another version of this program is never used: the logs are read again. It appears
whole or not at all, so that two programs may load at once, and holds its own checksum. The folder is kept below
`LIMIT` bytes, the file that was not used for longest going first.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from workbench.runs.columns import Column
from workbench.runs.curves import tidy
from workbench.runs.interpret import Part
from workbench.runs.packed import Packer, Unpacker, Unsuitable
from workbench.runs.readers.base import LoadError, Log, Reader, readers
from workbench.runs.stamps import Stamps

if TYPE_CHECKING:
    from workbench.runs.sources import Source

__all__ = ["LIMIT", "SLOW", "Shelf", "folder"]

SCHEMA = 1
#: Seconds that a load must have taken to be worth keeping.
SLOW = 0.5
#: Bytes of the whole folder; one file may take half of them.
LIMIT = 2 * 2**30
#: What a killed program leaves behind is removed after so many seconds.
_LEFT_BEHIND = 3600.0
_TRAILER = b"workbench-crc32:"
_NOTHING_LEFT = pd.DataFrame(dtype=object)


def folder() -> Path | None:
    """Where the cache is, None if it is switched off."""
    named = os.environ.get("WORKBENCH_CACHE", "").strip()
    if named.lower() in ("off", "no", "none", "false", "0"):
        return None
    if named and named.lower() not in ("on", "yes", "true", "1"):
        return Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:  # the specification says that a relative path is to be ignored
        return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "scaling-workbench"
    except RuntimeError:  # a user without a home
        return None


class Shelf:
    """What is kept of one path that was loaded before.

    Attributes:
        root: the path.
        said: messages, such as that what was kept is damaged.
        listing: the logs under it and messages on what was left out.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = os.path.abspath(root)  # noqa: PTH100  a link in it stays what was asked for
        self.said: list[str] = []
        self.listing: tuple[list[Path], list[str]] = ([], [])
        self._begin = time.perf_counter()
        self._folder = folder()
        self._stamps = Stamps()
        self._tree: str | None = None
        self._unpacker: Unpacker | None = None
        self._entries: dict[str, dict[str, Any]] = {}
        self._listed = True
        if self._folder is not None:
            self._open()

    @property
    def _path(self) -> Path:
        return self._folder / f"{hashlib.blake2b(os.fsencode(self.root), digest_size=16).hexdigest()}.arrow"

    def _open(self) -> None:
        try:
            data = self._path.read_bytes()
        except OSError:  # not there, or removed by another process just now
            return
        import pyarrow as pa

        try:
            body, trailer = memoryview(data)[: -len(_TRAILER) - 8], data[-len(_TRAILER) - 8 :]
            if trailer != _TRAILER + b"%08x" % zlib.crc32(body):
                raise ValueError("its checksum does not fit")
            unpacker = Unpacker(pa.ipc.open_stream(pa.py_buffer(body)).read_all())
            about = unpacker.about
            if about["schema"] != SCHEMA or about["program"] != _program() or about["root"] != self.root:
                return
            self._entries = {entry["path"]: entry for entry in about["entries"]}
        except Exception as error:  # whatever is wrong with it, the logs themselves are there
            reason = (str(error).splitlines() or [type(error).__name__])[0][:100]
            self.said.append(f"what was kept of an earlier load is damaged and was not used ({reason})")
            return
        self._unpacker = unpacker
        with suppress(OSError):
            os.utime(self._path)  # the file used last is removed last

    def files(self, look: Callable[[], tuple[list[Path], list[str]]]) -> tuple[list[Path], list[str]]:
        """The logs under the path and messages on what was left out: as before if nothing changed, else by `look`."""
        # taken before anything is looked at, so that what changes meanwhile is seen as a change next time
        self._tree = self._stamps.tree(self.root) if self._folder is not None else ""
        known = self._unpacker.about["listing"] if self._unpacker is not None else None
        if known and known["tree"] and known["tree"] == self._tree:
            self.listing = [Path(path) for path in known["files"]], list(known["messages"])
        else:
            self._listed = False
            files, messages = look()
            self.listing = list(files), list(messages)
        return self.listing

    def take(self, path: Path, label: str, decided: bool) -> Source | None:
        """A log as it was read before, if it is still the same.

        Args:
            path: its path.
            label: what its runs are called.
            decided: whether the user decided what columns mean; rows that were made without that are not given then.
        """
        from workbench.runs.sources import Source  # which imports this

        entry = self._entries.get(os.fspath(path))
        if entry is None:
            return None
        reader = next((r for r in readers() if r.name == entry["reader"]), None)
        if reader is None or reader.version != entry["version"] or self.stamp(path, reader) != entry["stamp"]:
            return None
        if entry["part"] is not None and (decided or entry["part"]["label"] != label):
            return None
        log = self._log(entry, path, reader)
        headers = list(log.frame.columns)
        return Source(label, str(path), log, None, None, False, reader, None, self, entry["stamp"], entry, headers)

    def stamp(self, path: Path, reader: Reader) -> str:
        """What changes when a log is written; empty for one that was written a moment ago."""
        return self._stamps.of(path, reader)

    def _log(self, entry: dict[str, Any], path: Path, reader: Reader) -> Log:
        counts = {"read": entry["read"], "skipped": dict(entry["skipped"])}
        if entry["part"] is not None:  # the rows that were made of it are kept, not what they were made of
            return Log(_NOTHING_LEFT, **counts)
        said = {key: entry["log"][key] for key in ("messages", "columns", "units", "notes", "attributes", "settled")}
        frame = self._unpacker.frame(entry["log"]["frame"])
        problems = {int(row): why for row, why in entry["log"]["problems"].items()}
        curves = _Kept({int(row): partial(self._unpacker.frame, w) for row, w in entry["log"]["curves"].items()})
        again = _Again(path, reader)
        curves.makers |= {row: partial(again, row) for row in entry["log"]["deferred"]}
        return Log(frame, curves=curves, problems=problems, **said, **counts)

    def parts(self, sources: dict[int, Source]) -> list[tuple[int, Part]]:
        """The rows kept of these logs (place -> log): those of equal columns together, and their first place."""
        groups: dict[Any, list[int]] = {}
        for place, source in sources.items():
            kept = source.entry["part"]
            said = [kept["frame"].get("headers"), kept["frame"].get("kinds"), kept["units"], kept["notes"]]
            short = "cells" in kept["frame"]
            key = json.dumps([*said, kept["attributes"], kept["named"]]) if short else place
            groups.setdefault(key, []).append(place)
        return [(places[0], self._part({p: sources[p] for p in places})) for places in groups.values()]

    def _part(self, sources: dict[int, Source]) -> Part:
        all_kept = [source.entry["part"] for source in sources.values()]
        first = all_kept[0]
        curves: dict[int, Callable[[], pd.DataFrame]] = {}
        order: list[int] = []
        for place, source in sources.items():
            kept, above = source.entry["part"], len(order)
            again = _Again(Path(source.path), source.reader)
            curves |= {above + int(r): partial(self._unpacker.frame, where) for r, where in kept["curves"].items()}
            curves |= {above + r: lambda r=r, again=again: tidy(again(r)) for r in kept["deferred"]}
            order += [place] * kept["frame"]["rows"]
        return Part(
            self._unpacker.stacked([kept["frame"] for kept in all_kept]),
            curves,
            dict(first["units"]),
            dict(first["notes"]),
            [message for kept in all_kept for message in kept["messages"]],
            dict(first["attributes"]),
            order,
            tuple(Column(*column) for column in first["named"]),
        )

    def keep(self, sources: list[Source], decided: bool) -> None:
        """Write down what was read, if that took long.

        Args:
            sources: the logs of the path, with `part` where one log was made rows of its own.
            decided: whether the parts rest on decisions of the user; they are not kept then.
        """
        fresh = any(s.entry is None and s.stamp for s in sources) or not self._listed
        if self._folder is None or not fresh or time.perf_counter() - self._begin < SLOW:
            return
        packer, entries = Packer(), []
        for source in sources:
            if source.log is None or not source.stamp or (decided and source.part is not None):
                continue
            if source.entry is not None and source.entry["part"] is not None:
                source.part = self._part({0: source})
            with suppress(Unsuitable, TypeError, ValueError, OSError):  # not every log can be written down
                entries.append(_entry(source, packer))
            if packer.nbytes > LIMIT // 2:
                return
        if not entries:
            return
        files, messages = self.listing
        where = {"tree": self._tree, "files": [os.fspath(p) for p in files], "messages": messages}
        about = {"schema": SCHEMA, "program": _program(), "root": self.root, "entries": entries, "listing": where}
        try:
            self._write(packer.table(about))
        except Exception:  # a full disk, no permission, a path that is no text: then there is no cache
            return
        _evict(self._folder, keep=self._path)

    def _write(self, table: Any) -> None:
        import pyarrow as pa

        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, temporary = tempfile.mkstemp(dir=self._folder, prefix=".", suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                sink = _Summed(file)
                with pa.ipc.new_stream(pa.PythonFile(sink, mode="w"), table.schema) as writer:
                    writer.write_table(table)
                file.write(_TRAILER + b"%08x" % sink.crc)
            Path(temporary).replace(self._path)
        except BaseException:
            with suppress(OSError):
                Path(temporary).unlink()
            raise


class _Summed:
    """A file that is written and summed up."""

    closed = False

    def __init__(self, file: Any) -> None:
        self._file = file
        self.crc = 0

    def write(self, data: Any) -> int:
        self.crc = zlib.crc32(data, self.crc)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self.closed = True


class _Kept(dict):
    """Curves by row, each made when it is looked at."""

    def __init__(self, makers: dict[int, Callable[[], pd.DataFrame]]) -> None:
        super().__init__(dict.fromkeys(makers))
        self.makers = makers

    def __getitem__(self, row: int) -> pd.DataFrame:
        return self.makers[row]()

    def __contains__(self, row: object) -> bool:
        return row in self.makers

    def __iter__(self) -> Iterator[int]:
        return iter(self.makers)

    def __len__(self) -> int:
        return len(self.makers)

    def keys(self):  # type: ignore[override]
        return self.makers.keys()

    def values(self):  # type: ignore[override]
        return [self[row] for row in self.makers]

    def items(self):  # type: ignore[override]
        return [(row, self[row]) for row in self.makers]


class _Again:
    """The curves of a log that hands them over one by one: read from the log itself."""

    def __init__(self, path: Path, reader: Reader) -> None:
        self._path, self._reader = path, reader
        self._curves: Any = None

    def __call__(self, row: int) -> pd.DataFrame:
        if self._curves is None:
            self._curves = self._reader.read(self._path).curves
        if row not in self._curves:
            raise LoadError(f"{self._path} has changed since it was loaded; load it again")
        return self._curves[row]


def _entry(source: Source, packer: Packer) -> dict[str, Any]:
    """One log as JSON, its frames in `packer`.

    Raises:
        Unsuitable: it cannot be written down exactly.
    """
    log, part = source.log, source.part
    entry: dict[str, Any] = {
        "path": source.path,
        "stamp": source.stamp,
        "reader": source.reader.name,
        "version": source.reader.version,
        "read": len(log.frame) if log.read is None else log.read,
        "skipped": log.skipped,
        "part": None,
    }
    # of many runs in one log curves are made when they are asked for, and so it stays
    now = isinstance(log.curves, dict) or len(log.frame) == 1
    held, later = (list(log.curves), []) if now else ([], list(log.curves))
    if source.entry is not None:
        later = source.entry["part" if part is not None else "log"]["deferred"]
        held = [row for row in held if row not in later]
    if part is None:
        entry["log"] = {
            "frame": packer.add(log.frame[source.headers]),
            "problems": {str(row): why for row, why in log.problems.items()},
            "curves": {str(row): packer.add(log.curves[row]) for row in held},
            "deferred": later,
            **{key: getattr(log, key) for key in ("messages", "columns", "units", "notes", "attributes", "settled")},
        }
    else:
        later = [row for row in part.curves if row in later]
        entry["part"] = {
            "label": source.label,
            "frame": packer.add(part.frame),
            "curves": {str(row): packer.add(make()) for row, make in part.curves.items() if row not in later},
            "deferred": later,
            "named": [[c.source, c.name, c.factor, c.note] for c in part.named],
            **{key: getattr(part, key) for key in ("units", "notes", "messages", "attributes")},
        }
    return entry


@cache
def _program() -> str:
    """Changes with every version of this program, and with every edit of what reads logs."""
    import workbench

    here = Path(__file__).parent
    files = sorted([*here.rglob("*.py"), here.parent / "units.py"])
    seen = [("version", getattr(workbench, "__version__", "")), ("pandas", pd.__version__)]
    seen += [(r.name, r.version) for r in readers()]
    with suppress(OSError):
        seen += [(os.fspath(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    return hashlib.blake2b(repr(seen).encode("utf-8", "backslashreplace"), digest_size=16).hexdigest()


def _evict(folder: Path, keep: Path) -> None:
    """Remove what was not used for longest until the folder is small enough, and what killed programs left."""
    found, now = [], time.time()
    with suppress(OSError):
        for path in folder.iterdir():
            with suppress(OSError):  # removed by another process meanwhile
                about = path.stat()
                if path.suffix == ".tmp" and now - about.st_mtime > _LEFT_BEHIND:
                    path.unlink()
                elif path.suffix == ".arrow":
                    found.append((about.st_mtime_ns, about.st_size, path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= LIMIT:
            break
        if path != keep:
            with suppress(OSError):
                path.unlink()
            total -= size
