"""What a reader is: it recognises a format by its content and hands over the cells as they were logged.

A reader decides nothing about names, units or bad values; that is the same for all formats and happens
in `workbench.runs.load`. Adding a format is one file in this folder with one `Reader` subclass.
"""

from __future__ import annotations

import importlib
import pkgutil
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from workbench.runs.cells import text
from workbench.runs.lazy_curves import LazyCurves

__all__ = ["HEAD", "LARGEST", "LoadError", "Log", "Reader", "find", "peek", "read_text", "readers", "refuse_larger"]

#: How many bytes of a file `Reader.sniff` gets to see.
HEAD = 65536
#: How many bytes of text, unpacked, are read as a whole; parsed they take several times as much memory.
LARGEST = 2 * 2**30


class LoadError(ValueError):
    """A log cannot be read; the message says why in one sentence."""


@dataclass
class Log:
    """What one file or folder holds, before names and units are resolved.

    Attributes:
        frame: one row for each record, cells as logged (object dtype, None where nothing was logged, or
            the source's own types), with unique text headers.
        curves: row number -> curve of that row, with its headers as logged; may load lazily.
        messages: what the reader skipped or repaired, in sentences.
        columns: decisions stored with the log, in the form of `load`'s ``columns=``.
        units, notes, attributes: statements stored with the log, by canonical column or by key.
        problems: row number -> what is wrong with this run, e.g. that it has not finished.
        settled: whether rows are known to be runs, so that they are never folded into curves.
        read: how many records were read (lines, events, rows of a table); None where nobody counted.
        skipped: why records were left out -> how many.
    """

    frame: pd.DataFrame
    curves: Mapping[int, pd.DataFrame] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    columns: dict[str, Any] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    problems: dict[int, str] = field(default_factory=dict)
    settled: bool = False
    read: int | None = None
    skipped: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of_records(cls, records: Sequence[Mapping[str, Any]], **kwargs: Any) -> Log:
        """A log with one row for each mapping; keys become headers in order of first appearance."""
        headers = dict.fromkeys(str(key) for record in records for key in record)
        # half a character, which JSON may hold, has no place in a header
        cells = {text(header): [record.get(header) for record in records] for header in headers}
        return cls(pd.DataFrame(cells, index=range(len(records)), dtype=object), **kwargs)

    @property
    def single(self) -> bool:
        """Whether this is one run without statements of its own about its columns."""
        return (
            self.settled and len(self.frame) == 1 and not (self.columns or self.units or self.notes or self.attributes)
        )

    @classmethod
    def together(cls, logs: Sequence[Log]) -> Log:
        """Logs of a single run each as one, a row for each."""
        records = [dict(zip(log.frame.columns, log.frame.to_numpy(dtype=object)[0], strict=True)) for log in logs]
        return cls.of_records(
            records,
            curves=LazyCurves(
                {row: partial(log.curves.__getitem__, 0) for row, log in enumerate(logs) if 0 in log.curves}
            ),
            messages=[message for log in logs for message in log.messages],
            problems={row: log.problems[0] for row, log in enumerate(logs) if 0 in log.problems},
            settled=True,
            read=sum(log.read or 0 for log in logs) if any(log.read is not None for log in logs) else None,
            skipped=dict(sum((Counter(log.skipped) for log in logs), Counter())),
        )


class Reader:
    """Base class of every reader; subclasses in `workbench.runs.readers` register under `name`.

    `workbench.testing.readers.ReaderContract` holds every reader to the same promises: it reads values
    exactly, leaves other formats to their readers, invents nothing when a file is cut off anywhere, and
    fails with `LoadError` only.

    Attributes:
        name: the format in a word or two, e.g. ``JSON Lines``.
        suffixes: usual file endings, lower case. A hint: they make a file that no reader recognises a
            bad run instead of a foreign file.
        folders: whether it reads folders instead of files.
        nested: of a folder reader: whether runs may lie in subfolders of a run.
        beside: of a folder reader: folders beside its runs that hold no runs (sources, resources).
        general: whether it takes whatever has the shape of a table or document; asked after those that
            know one program's logs.
        version: grows with every change of what is read from the same bytes; old caches are then stale.
        largest: of a file reader: a file of more bytes is refused, None where it is read piece by piece.
    """

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]] = ()
    folders: ClassVar[bool] = False
    nested: ClassVar[bool] = False
    beside: ClassVar[tuple[str, ...]] = ()
    general: ClassVar[bool] = False
    version: ClassVar[int] = 1
    largest: ClassVar[int | None] = LARGEST

    _registry: ClassVar[dict[str, type[Reader]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" in cls.__dict__:
            Reader._registry[cls.name] = cls

    def sniff(self, path: Path, head: bytes) -> bool:
        """Whether `path` is of this format.

        Args:
            path: the file or folder.
            head: its first `HEAD` bytes, unpacked if the file is gzip; empty for a folder.
        """
        raise TypeError(f"the reader {type(self).__name__} needs a method sniff(path, head)")

    def owns(self, path: Path) -> bool:
        """Of a nested folder reader: whether this file or folder in a run's folder is part of the run."""
        return False

    def read(self, path: Path) -> Log:
        """Everything the log holds.

        Raises:
            LoadError: nothing can be read; the sentence gives the reason without the path.
        """
        raise TypeError(f"the reader {type(self).__name__} needs a method read(path)")


@cache
def readers() -> tuple[Reader, ...]:
    """One instance of every reader: those of one program's logs first, then by name."""
    import workbench.runs.readers as package

    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    known = sorted(Reader._registry.values(), key=lambda reader: (reader.general, reader.name))
    return tuple(reader() for reader in known)


def find(path: Path) -> Reader | None:
    """The reader that recognises `path` by its content, or None.

    Raises:
        LoadError: the file cannot hold a log in any format: it is empty, a pointer, binary noise.
    """
    folder = path.is_dir()
    head = b"" if folder else peek(path)
    for reader in readers():
        if reader.folders == folder and reader.sniff(path, head):
            return reader
    if not folder:
        _refuse(head)
    return None


def refuse_larger(size: int, largest: int = LARGEST) -> None:
    """Refuse `size` bytes where at most `largest` are read.

    Raises:
        LoadError: `size` is larger.
    """
    if size > largest:
        raise LoadError(
            f"it is {size / 1e9:.1f} GB, and a log of its format is read as a whole, up to {largest / 1e9:.1f} GB; "
            "split it into a file for each run, log fewer steps, or convert it to Parquet"
        )


def peek(path: Path) -> bytes:
    """The first `HEAD` bytes of a file, unpacked if it is gzip.

    Raises:
        LoadError: it cannot be opened, or is no file.
    """
    try:
        if isinstance(path, Path) and not path.is_file():
            raise LoadError("it is neither a file nor a folder")  # opening a pipe would wait for ever
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        raise LoadError(f"it cannot be opened ({error.strerror or error})") from None
    if not head.startswith(b"\x1f\x8b"):
        return head
    try:
        return zlib.decompressobj(wbits=31).decompress(head, HEAD)
    except zlib.error:
        return head


def read_text(path: Path) -> tuple[str, list[str]]:
    """The text of a file and messages on what was repaired; gzip and UTF-16 are recognised.

    A gzip stream that is cut off gives what can be unpacked.

    Raises:
        LoadError: the file is empty, damaged or no text.
    """
    try:
        if isinstance(path, Path):
            refuse_larger(path.stat().st_size)
        data = path.read_bytes()
    except OSError as error:
        raise LoadError(f"it cannot be opened ({error.strerror or error})") from None
    messages = []
    if data.startswith(b"\x1f\x8b"):
        data, whole = _gunzip(data)
        if not whole:
            messages.append("the gzip stream is cut off; what came before the cut was read")
    _refuse(data[:HEAD])
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace"), messages
    return data.decode("utf-8-sig", "replace"), messages


def _gunzip(data: bytes) -> tuple[bytes, bool]:
    """Unpacked `data` (all members) and whether the stream was whole."""
    unpacked = []
    room = LARGEST
    while data.startswith(b"\x1f\x8b"):
        stream = zlib.decompressobj(wbits=31)
        try:
            unpacked.append(stream.decompress(data, room + 1))
        except zlib.error as error:
            raise LoadError(f"its gzip stream is damaged ({error})") from None
        room -= len(unpacked[-1])
        if room < 0:
            raise LoadError(f"unpacked it is more than {LARGEST / 1e9:.1f} GB, up to which it is read; split it")
        if not stream.eof:
            return b"".join(unpacked), False
        data = stream.unused_data
    return b"".join(unpacked), True


def _refuse(head: bytes) -> None:
    if not head.strip():
        raise LoadError("it is empty")
    if head.startswith(b"version https://git-lfs.github.com/spec/"):
        raise LoadError("it is a Git LFS pointer, not the log itself; run `git lfs pull` first")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return
    sample = head[:4096]
    # a stray control byte in a run's name is no reason to refuse the file
    control = sum(byte < 32 and byte not in b"\t\n\r\x0b\x0c\x1b" for byte in sample)
    undecodable = sample.decode("utf-8", "replace").count("\ufffd")
    if control + undecodable > 0.1 * len(sample):
        raise LoadError("it is binary data that no reader knows")
