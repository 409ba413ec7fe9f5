"""Logs that grow while they are looked at: each look reads only what was appended since the last."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from workbench.runs import statements
from workbench.runs.columns import check_columns
from workbench.runs.defaults import complete
from workbench.runs.interpret import Part, unreadable
from workbench.runs.load import _assemble, _interpret, _parts
from workbench.runs.readers.base import HEAD, LoadError, Log, Reader, find, readers
from workbench.runs.readers.delimited import Delimited
from workbench.runs.readers.json_document import JsonDocument
from workbench.runs.readers.json_lines import JsonLines, log_of, parse_lines
from workbench.runs.sources import Source, _files, _labels
from workbench.runs.table import RunTable
from workbench.runs.text_pattern import TextPattern

__all__ = ["Follower", "follow"]

#: So many bytes from the start of a file and before the place reached are compared at each look.
_SEEN = 4096


def follow(
    source: RunTable | str | os.PathLike,
    columns: Mapping[str, Any] | None = None,
    *,
    pattern: str | Sequence[str] | None = None,
) -> Follower:
    """A reader of logs that are still being written; `Follower.poll` gives the table as it is now.

    Args:
        source: a file, a folder or a pattern, as `workbench.load` takes them, or a table that was loaded from files.
            A table is followed to all runs of its files, those that `where` left out too.
        columns: as `workbench.load` takes them; a header may appear in the logs later.
        pattern: what the lines of a text log look like, as `workbench.load` takes it.

    Raises:
        FileNotFoundError: the path does not exist, or the pattern matches nothing.
        ValueError: the table was not loaded from files, or `pattern` is none.
    """
    return Follower(source, columns, pattern)


class Follower:
    """Tails run logs.

    Of JSON Lines only the bytes behind the last look are read and parsed; of CSV only they are read. Complete lines
    count: a last line without its newline waits for the rest. A file that shrank, was replaced, or holds other bytes
    than before is read anew. Logs of other formats (run folders, JSON documents, Parquet) are read as a whole when
    they have changed. Files that appear later in a folder join; what cannot be read yet is waited for.

    Attributes:
        table: what the last look that brought something saw; None before.
    """

    def __init__(
        self,
        source: RunTable | str | os.PathLike,
        columns: Mapping[str, Any] | None = None,
        pattern: str | Sequence[str] | None = None,
    ) -> None:
        self._origin = ""
        self._pattern = None if pattern is None else TextPattern(pattern)
        if isinstance(source, RunTable):
            if not source.sources:
                raise ValueError("these runs were not loaded from files, so there is nothing to follow; give a path.")
            self._paths: list[str | os.PathLike] = [source.origin] if source.origin else list(source.sources)
            self._origin = source.origin
        else:
            _files(source, self._pattern)  # says at once what does not exist
            self._paths = [source]
            self._origin = str(Path(os.fspath(source)).expanduser()) if Path(source).expanduser().exists() else ""
        self._columns = check_columns(columns)
        self._logs: dict[Path, _Folder | _File] = {}
        self._parts: dict[Path, tuple[int, str, bool, Part]] = {}
        self._seen: tuple | None = None
        self.table: RunTable | None = None

    def poll(self) -> RunTable | None:
        """The runs as `workbench.load` would have them from the complete lines, None if nothing has changed since.

        Raises:
            ValueError: two columns of the only log look like the same quantity.
        """
        files, messages = self._look()
        for path in files:
            if path not in self._logs:
                self._logs[path] = _Folder(path) if path.is_dir() else _File(path, self._pattern)
            self._logs[path].look()
        self._logs = {path: self._logs[path] for path in files}
        there = [path for path in files if self._logs[path].log is not None or self._logs[path].error]
        seen = (tuple((path, self._logs[path].version) for path in there), tuple(messages))
        if seen == self._seen or not any(self._logs[path].log is not None for path in there):
            return None
        self._seen = seen
        self.table = self._table(there, messages)
        return self.table

    def _look(self) -> tuple[list[Path], list[str]]:
        files: list[Path] = []
        messages: list[str] = []
        for path in self._paths:
            try:
                found, said = _files(path, self._pattern)
            except (FileNotFoundError, LoadError):  # it has gone for the moment, or holds no log yet
                continue
            files += found
            messages += said
        return list(dict.fromkeys(files)), messages

    def _table(self, paths: list[Path], messages: list[str]) -> RunTable:
        labels = _labels(paths)
        logs = [self._logs[path] for path in paths]
        sources = [
            Source(label, str(path), log=log.log, error=log.error or None)
            for label, path, log in zip(labels, paths, logs, strict=True)
        ]
        complete(sources)
        alone = len(sources) == 1
        parts: list[Part] = []
        together: list[int] = []
        for place, (source, log) in enumerate(zip(sources, logs, strict=True)):
            if source.error is not None:
                part = unreadable(source.label, source.error)
            elif source.log.single and not alone:
                together.append(place)
                continue
            else:
                part = self._part(source, log.version, alone)
            part.order = [place] * len(part.frame)
            parts.append(part)
        if together:
            for part in _parts([sources[place] for place in together], self._columns):
                part.order = [together[place] for place in part.order]
                parts.append(part)
        table = _assemble(parts, sources, messages)
        if not self._origin:
            return table
        said, trouble = statements.read(Path(self._origin))
        return replace(
            table,
            origin=self._origin,
            attributes={**table.attributes, **said},
            messages=(*table.messages, *trouble),
        )

    def _part(self, source: Source, version: int, alone: bool) -> Part:
        """The rows of one log, as before if it has not changed."""
        path = Path(source.path)
        kept = self._parts.get(path)
        if kept is None or kept[:3] != (version, source.label, alone):
            kept = (version, source.label, alone, _interpret(source, self._columns, alone))
            self._parts[path] = kept
        return replace(kept[3])


class _Log:
    """One log and what is known of it.

    Attributes:
        log: its content; None until it can be read.
        error: why it cannot be read, empty while that may still come.
        version: changes with the content.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log: Log | None = None
        self.error = ""
        self.version = 0

    def say(self, log: Log | None, error: str = "") -> None:
        """Take new content, or the reason why there is none."""
        if log is not None or error != self.error or self.log is not None:
            self.version += 1
        self.log, self.error = log, error


class _Folder(_Log):
    """A run folder, read as a whole whenever a file in it has changed."""

    _stamp: Any = None

    def look(self) -> None:
        stamp = _stamps(self.path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self.say(find(self.path).read(self.path))
        except (ValueError, OSError, AttributeError) as error:
            self.say(None, str(error))


def _stamps(path: Path) -> tuple:
    """What changes when a file of a folder is written."""
    found = []
    for one in sorted(path.iterdir()):
        try:
            about = one.stat()
        except OSError:
            continue
        found.append((one.name, about.st_ino, about.st_size, about.st_mtime_ns))
    return tuple(found)


class _File(_Log):
    """A file, read as far as its complete lines go if it is a log of lines, else as a whole when it has changed."""

    def __init__(self, path: Path, pattern: TextPattern | None = None) -> None:
        super().__init__(path)
        self._pattern = pattern
        self._forget()

    def _forget(self) -> None:
        self._node = self._offset = 0
        self._stamp: tuple[int, int] | None = None
        self._complete = False  # whether the complete lines are a whole document
        self._first = self._last = self._early = b""
        self._reader: Reader | None = None
        self._clear()

    def _clear(self) -> None:
        self._held = bytearray()
        self._lines = 0
        self._records: list[dict[str, Any]] = []
        self._skipped: list[tuple[int, str]] = []

    def look(self) -> None:
        try:
            with self.path.open("rb") as file:
                about = os.fstat(file.fileno())
                if not self._goes_on(file, about):
                    self._forget()
                    self._node = about.st_ino
                    self.say(None)
                file.seek(self._offset)
                new = file.read()
        except OSError as error:
            self._forget()
            self.say(None, f"it cannot be opened ({error.strerror or error})")
            return
        whole = new[: new.rfind(b"\n") + 1]
        if whole:
            self._take(whole)
        stamp = (self._offset + len(new), about.st_mtime_ns)
        if self._reader is None and stamp != self._stamp and (whole or not self._complete):
            torn = not self._offset and _of_lines(self.path, new[:HEAD], self._pattern) is not None
            if not torn:
                self._read_whole(waiting=not self._offset)
        self._stamp = stamp

    def _goes_on(self, file: BinaryIO, about: os.stat_result) -> bool:
        """Whether the file still begins with what was read of it."""
        if about.st_ino != self._node or about.st_size < self._offset:
            return False
        if file.read(len(self._first)) != self._first:
            return False
        file.seek(self._offset - len(self._last))
        return file.read(len(self._last)) == self._last

    def _take(self, whole: bytes) -> None:
        """Complete lines that are new."""
        data = whole
        if self._offset < HEAD:  # the format shows in the first bytes, and may show only now
            early = self._early + whole
            reader = _of_lines(self.path, early[:HEAD], self._pattern)
            if reader is not self._reader:
                self._reader, data = reader, early
                self._clear()
            self._early = early if len(early) < HEAD else b""
        self._offset += len(whole)
        self._first = (self._first + whole)[:_SEEN] if len(self._first) < _SEEN else self._first
        self._last = (self._last + whole)[-_SEEN:]
        if isinstance(self._reader, JsonLines):
            records, skipped = parse_lines(data.decode("utf-8-sig" if self._lines == 0 else "utf-8", "replace"))
            self._records += [record for _, record in records]
            self._skipped += [(self._lines + line, reason) for line, reason in skipped]
            self._lines += data.count(b"\n")
            if self._records:
                self.say(log_of(self._records, self._skipped, []))
            else:
                self.say(None, "no line of it is a JSON object")
        elif self._reader is not None:
            self._held += data
            try:
                self.say(self._reader.read(_Bytes(self._held)))
            except ValueError as error:
                self.say(None, str(error))

    def _read_whole(self, waiting: bool) -> None:
        """The file as its reader has it, one object in a line by its complete lines."""
        document = JsonDocument()
        self._complete = False
        if self._early and document.sniff(self.path, self._early):
            try:
                self.say(document.read(_Bytes(self._early)))
                self._complete = True
                return
            except ValueError:
                pass  # of many lines, the last without its newline
        try:
            reader = find(self.path) or self._pattern
            if reader is None:
                raise LoadError("no reader knows this format")
            self.say(reader.read(self.path))
        except (ValueError, OSError) as error:
            if not waiting:
                self.say(None, str(error))


def _of_lines(path: Path, head: bytes, pattern: TextPattern | None = None) -> Reader | None:
    """The reader that knows `head`, if it reads lines of UTF-8."""
    if head.startswith((b"\x1f\x8b", b"\xff\xfe", b"\xfe\xff")):
        return None
    if pattern is not None and pattern.sniff(path, head):
        return pattern
    reader = next((r for r in readers() if not r.folders and r.sniff(path, head)), None)
    return reader if isinstance(reader, JsonLines | Delimited) else None


class _Bytes:
    """What a reader of text needs of a path."""

    def __init__(self, data: bytes | bytearray) -> None:
        self._data = bytes(data)

    def read_bytes(self) -> bytes:
        return self._data
