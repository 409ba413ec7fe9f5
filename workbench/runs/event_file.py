"""Scalars of TensorBoard event files, decoded without TensorFlow or TensorBoard, many records at a time.

An event file is a chain of records (TFRecord: length, its checksum, data, their checksum), each a protocol
buffer ``Event``. A run writes thousands of records that differ in three numbers only: time, step and value.
So records of equal length are laid out as rows of a byte matrix; the first is parsed, and all rows equal to
it but for those three are read with it in one go. What is left is parsed the same way, down to single records.

Formats: ``tensorflow/core/util/event.proto``, ``tensorflow/core/framework/{summary,tensor}.proto``,
``tensorflow/core/lib/io/record_writer.h``, and the hparams plugin's ``plugin_data.proto``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from workbench.runs.wire import fields, varint

__all__ = ["EventFile", "Series", "is_event_file", "read_event_file", "read_event_path"]

_HEADER, _FOOTER = 12, 4
#: Records longer than this hold pictures, histograms or graphs, hardly scalars; they are read one by one and
#: their data are not checked against their checksum, only their length is.
_LONG = 4096
#: Rows looked at together: the byte matrix stays within a few MB.
_ROWS = 16384
#: Bytes of a file read at a time; a file of pictures may be larger than the memory.
_BLOCK = 64 * 2**20
#: Number formats of a tensor by its ``DataType``.
_TENSOR = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8", 19: "<f2"}


@dataclass
class Series:
    """One tag: every value in the order written.

    Attributes:
        step: ``[n]`` int64.
        value: ``[n]`` float64.
        wall: ``[n]`` seconds since 1970.
        record: ``[n]`` number of the record in its file.
    """

    step: np.ndarray
    value: np.ndarray
    wall: np.ndarray
    record: np.ndarray


@dataclass
class EventFile:
    """What one event file holds.

    Attributes:
        series: tag -> its values.
        starts: records at which a program said that it starts again, and the step it starts at.
        hparams: settings of the hparams plugin by name.
        other: records without a scalar or a setting: pictures, histograms, graphs.
        records: records read.
        bad: records whose data do not fit their checksum, or are no events; they are left out.
        tail: bytes behind the last whole record, zero for a file that was closed properly.
        why: why reading ended before the end of the file, empty if it did not.
    """

    series: dict[str, Series] = field(default_factory=dict)
    starts: list[tuple[int, int]] = field(default_factory=list)
    hparams: dict[str, Any] = field(default_factory=dict)
    other: int = 0
    records: int = 0
    bad: int = 0
    tail: int = 0
    why: str = ""


def is_event_file(head: bytes) -> bool:
    """Whether bytes begin as an event file does: with a record whose length fits its checksum."""
    if len(head) < _HEADER:
        return False
    length, check = struct.unpack_from("<QI", head)
    return 0 < length < 2**40 and check == int(_masked(np.frombuffer(head, np.uint8, 8)[None])[0])


def read_event_file(data: bytes | memoryview) -> EventFile:
    """Everything this decoder knows in the bytes of an event file. Damage is counted, never raised."""
    return _read([data])


def read_event_path(path: Path) -> EventFile:
    """`read_event_file` of a file, a block at a time.

    Raises:
        OSError: it cannot be opened.
    """
    with path.open("rb") as file:
        block = min(_BLOCK, path.stat().st_size + 1)  # what is asked for is set aside, little files are many
        out = _read(iter(lambda: file.read(block), b""))
        here = file.tell()
        out.tail += file.seek(0, 2) - here  # where damage ended the reading, the rest was not looked at
    return out


def _read(blocks: Iterable[bytes | memoryview]) -> EventFile:
    out = EventFile()
    parts: dict[str, list[tuple]] = {}
    left: bytes | memoryview = b""
    for block in blocks:
        data = b"".join((left, block)) if left else block
        left = data[_whole(data, out, parts) :]
        if out.why:
            break
    out.tail = len(left)
    if out.tail and not out.why:
        out.why = "the last record is not whole"
    for tag, found in parts.items():
        step, value, wall, record = (np.concatenate(column) for column in zip(*found, strict=True))
        order = np.argsort(record, kind="stable")
        out.series[tag] = Series(step[order], value[order], wall[order], record[order])
    out.starts.sort()
    return out


def _whole(data: bytes | memoryview, out: EventFile, parts: dict[str, list[tuple]]) -> int:
    """Read the whole records at the beginning of `data`, and tell how many bytes they take."""
    raw = np.frombuffer(data, np.uint8)
    starts, lengths, used = _chain(data, raw, out)
    before, out.records = out.records, out.records + len(starts)
    for row in np.flatnonzero(lengths > _LONG):
        _single(raw[starts[row] : starts[row] + lengths[row]], before + int(row), out, parts)
    for length in np.flatnonzero(np.bincount(lengths[lengths <= _LONG])):
        rows = np.flatnonzero(lengths == length)
        for begin in range(0, len(rows), _ROWS):
            some = rows[begin : begin + _ROWS]
            matrix = _rows(raw, starts[some], length + _FOOTER)
            checks = matrix[:, length:].copy().view("<u4")[:, 0]
            whole = _masked(matrix[:, :length]) == checks
            out.bad += int((~whole).sum())
            _group(matrix[whole, :length], before + some[whole], out, parts)
    return used


def _chain(data: bytes | memoryview, raw: np.ndarray, out: EventFile) -> tuple[np.ndarray, np.ndarray, int]:
    """Where the data of each whole record begin, how long they are, and where the last of them ends.

    Lengths are held against their checksums as the chain grows: one wrong length makes all that follow noise, and
    may promise records that no file has room for.
    """
    unpack, at, size = struct.Struct("<Q").unpack_from, 0, len(data)
    found: list[np.ndarray] = []
    records, alike_length = out.records, 0
    room, alike, dull = True, 0, 0
    while room and not out.why:
        starts: list[int] = []
        while len(starts) < _ROWS:
            if at + _HEADER > size:
                room = False
                break
            end = at + _HEADER + _FOOTER + unpack(data, at)[0]
            starts.append(at + _HEADER)
            if end > size:
                room = False
                break
            before, at, alike, dull = at, end, alike + 1 if end - at == alike_length else 0, dull - 1
            alike_length = end - before
            if alike > 2 and dull < 0:  # runs of one tag are long, those of several by turns are short
                ahead = _ahead(raw, before, alike_length)
                starts.extend(range(at + _HEADER, at + ahead * alike_length, alike_length))
                at += ahead * alike_length
                dull = 0 if ahead > 16 else 200
        begin = np.array(starts, dtype=np.int64)
        held = _held(raw, begin)
        if held < len(begin):
            out.why = f"the length of record {records + held} does not fit its checksum"
            at = int(begin[held]) - _HEADER
        # the last one may be sound and not whole
        found.append(begin[begin < at])
        records += len(found[-1])
    begin = np.concatenate(found) if found else np.empty(0, dtype=np.int64)
    return begin, np.diff(np.append(begin, at + _HEADER)) - _HEADER - _FOOTER, at


def _rows(raw: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
    """``[n, length]`` bytes from each of `starts` on, whole rows copied at a time."""
    return np.lib.stride_tricks.sliding_window_view(raw, length)[starts] if len(starts) else np.empty((0, length), "u1")


def _ahead(raw: np.ndarray, at: int, length: int) -> int:
    """How many whole records behind the one at a place have the same length, checksum of the length included."""
    n = min((len(raw) - at) // length, _ROWS)
    headers = np.lib.stride_tricks.as_strided(raw[at:], (n, _HEADER), (length, 1))
    same = (headers == headers[0]).all(1)
    return (n if same.all() else int(np.argmin(same))) - 1


def _held(raw: np.ndarray, starts: np.ndarray) -> int:
    """How many records, from the first on, have a length that fits its checksum."""
    header = _rows(raw, starts - _HEADER, _HEADER)
    fits = _masked(header[:, :8]) == header[:, 8:].copy().view("<u4")[:, 0]
    return len(starts) if fits.all() else int(np.argmin(fits))


def _table() -> np.ndarray:
    """CRC-32C (Castagnoli), byte by byte: polynomial 0x1EDC6F41, reflected."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(0x82F63B78), table >> 1)
    return table


_CRC = _table()
#: The same for two bytes at a time.
_CRC2 = _CRC[(_CRC[np.arange(65536) & 0xFF] ^ (np.arange(65536) >> 8)) & 0xFF] ^ (_CRC[np.arange(65536) & 0xFF] >> 8)


def _masked(rows: np.ndarray) -> np.ndarray:
    """``[n]`` masked CRC-32C of the rows of ``[n, length]`` bytes: rotated and shifted, as TFRecord stores it."""
    crc = np.full(len(rows), 0xFFFFFFFF, np.uint32)
    even = rows.shape[1] // 2 * 2
    for pair in np.ascontiguousarray(np.ascontiguousarray(rows[:, :even]).view("<u2").T):
        crc = _CRC2[(crc ^ pair) & 0xFFFF] ^ (crc >> 16)
    for column in rows[:, even:].T:
        crc = _CRC[(crc ^ column) & 0xFF] ^ (crc >> 8)
    crc ^= np.uint32(0xFFFFFFFF)
    return ((crc >> 15) | (crc << 17)) + np.uint32(0xA282EAD8)


@dataclass
class _Parsed:
    """One event: where its numbers stand in its bytes."""

    wall: int = -1  # first of eight bytes
    step: slice | None = None  # bytes of a varint
    values: list[tuple[str, int, str]] = field(default_factory=list)  # tag, first byte, number format
    odd: list[tuple[str, float]] = field(default_factory=list)  # tag, value: numbers written as varints
    start: bool = False
    hparams: dict[str, Any] = field(default_factory=dict)


def _group(matrix: np.ndarray, rows: np.ndarray, out: EventFile, parts: dict[str, list[tuple]]) -> None:
    """Read records of one length: parse the first, take all that look alike, go on with the others."""
    while len(rows):
        try:
            parsed = _parse(bytes(matrix[0]))
        except (ValueError, IndexError, struct.error, UnicodeDecodeError):
            out.bad += 1
            matrix, rows = matrix[1:], rows[1:]
            continue
        alike = np.zeros(len(rows), bool)
        alike[0] = True
        if parsed.values and not (parsed.odd or parsed.start or parsed.hparams):
            alike = _alike(matrix, parsed)
        _take(matrix[alike], rows[alike], parsed, out, parts)
        matrix, rows = matrix[~alike], rows[~alike]


def _alike(matrix: np.ndarray, parsed: _Parsed) -> np.ndarray:
    """Rows equal to the first but for time, step and values."""
    free = np.zeros(matrix.shape[1], bool)
    if parsed.wall >= 0:
        free[parsed.wall : parsed.wall + 8] = True
    for _, at, kind in parsed.values:
        free[at : at + np.dtype(kind).itemsize] = True
    same = np.ones(len(matrix), bool)
    step = parsed.step
    if step is not None:
        free[step] = True
        same &= ((matrix[:, step] & 0x80) == (matrix[0, step] & 0x80)).all(1)
    return same & (matrix[:, ~free] == matrix[0, ~free]).all(1)


def _take(matrix: np.ndarray, rows: np.ndarray, parsed: _Parsed, out: EventFile, parts: dict[str, list]) -> None:
    n = len(rows)
    clock = slice(parsed.wall, parsed.wall + 8)
    wall = matrix[:, clock].copy().view("<f8")[:, 0] if parsed.wall >= 0 else np.zeros(n)
    step = np.zeros(n, np.uint64)
    if parsed.step is not None:
        for place, column in enumerate(matrix[:, parsed.step].T):
            step |= (column & np.uint8(0x7F)).astype(np.uint64) << np.uint64(7 * place)
    step = step.astype(np.int64)
    for tag, at, kind in parsed.values:
        raw = matrix[:, at : at + np.dtype(kind).itemsize].copy()
        parts.setdefault(tag, []).append((step, raw.view(kind)[:, 0].astype(float), wall, rows))
    for tag, number in parsed.odd:
        parts.setdefault(tag, []).append((step, np.array([number]), wall, rows))
    if parsed.start:
        out.starts.append((int(rows[0]), int(step[0])))
    out.hparams.update(parsed.hparams)
    if not (parsed.values or parsed.odd or parsed.start or parsed.hparams):
        out.other += n


def _single(record: np.ndarray, row: int, out: EventFile, parts: dict[str, list]) -> None:
    _group(record[None], np.array([row]), out, parts)


def _parse(data: bytes) -> _Parsed:
    """An ``Event``.

    Raises:
        ValueError: it is none.
    """
    parsed = _Parsed()
    for number, kind, begin, end in fields(data, 0, len(data)):
        if (number, kind) == (1, 1):
            parsed.wall = begin
        elif (number, kind) == (2, 0):
            parsed.step = slice(begin, end)
        elif (number, kind) == (5, 2):
            for inner, wire, first, last in fields(data, begin, end):
                if (inner, wire) == (1, 2):
                    _value(data, first, last, parsed)
        elif (number, kind) == (7, 2):  # SessionLog: status START is 1
            parsed.start |= any(f[0] == 1 and varint(data, f[2], f[3])[0] == 1 for f in fields(data, begin, end))
    return parsed


def _value(data: bytes, at: int, end: int, parsed: _Parsed) -> None:
    """One ``Summary.Value``: a float, a scalar tensor, or settings of the hparams plugin."""
    tag, simple, tensor, plugin = "", None, None, ("", b"")
    for number, kind, begin, last in fields(data, at, end):
        if (number, kind) == (1, 2):
            tag = data[begin:last].decode()
        elif (number, kind) == (2, 5):
            simple = begin
        elif (number, kind) == (8, 2):
            tensor = (begin, last)
        elif (number, kind) == (9, 2):
            plugin = _plugin(data, begin, last)
    if plugin[0] == "hparams":
        parsed.hparams.update(_hparams(plugin[1]))
    elif simple is not None:
        parsed.values.append((tag, simple, "<f4"))
    elif tensor is not None and plugin[0] in ("", "scalars"):
        _tensor(data, *tensor, tag, parsed)


def _plugin(data: bytes, at: int, end: int) -> tuple[str, bytes]:
    """Name and content of a ``SummaryMetadata``'s plugin."""
    name, content = "", b""
    for number, kind, begin, last in fields(data, at, end):
        if (number, kind) == (1, 2):
            for inner, wire, first, stop in fields(data, begin, last):
                if wire == 2 and inner == 1:
                    name = data[first:stop].decode()
                elif wire == 2 and inner == 2:
                    content = data[first:stop]
    return name, content


def _tensor(data: bytes, at: int, end: int, tag: str, parsed: _Parsed) -> None:
    """A ``TensorProto`` of one number."""
    dtype, found, odd, one = 0, None, None, True
    for number, kind, begin, last in fields(data, at, end):
        size = last - begin
        if (number, kind) == (1, 0):
            dtype = varint(data, begin, last)[0]
        elif (number, kind) == (2, 2):
            for inner, wire, first, stop in fields(data, begin, last):  # TensorShapeProto: dim
                if (inner, wire) == (2, 2):
                    sizes = [varint(data, f[2], f[3])[0] for f in fields(data, first, stop) if f[:2] == (1, 0)]
                    one &= sizes in ([], [1])
        elif (number, kind) == (4, 2):
            found = (begin, size, _TENSOR.get(dtype))
        elif number == 5:
            found = (begin, size, "<f4")
        elif number == 6:
            found = (begin, size, "<f8")
        elif number in (7, 10, 11) and kind in (0, 2) and size:
            value, after = varint(data, begin, last)
            odd = value - 2**64 if value >= 2**63 else value
            one &= after == last
    if not one:
        return
    if found is not None and found[2] is not None and found[1] == np.dtype(found[2]).itemsize:
        parsed.values.append((tag, found[0], found[2]))
    elif odd is not None:
        parsed.odd.append((tag, float(odd)))


def _hparams(content: bytes) -> dict[str, Any]:
    """Settings of ``HParamsPluginData.session_start_info``: a map from names to ``google.protobuf.Value``."""
    settings: dict[str, Any] = {}
    for number, kind, begin, end in fields(content, 0, len(content)):
        if (number, kind) != (3, 2):
            continue
        for inner, wire, first, last in fields(content, begin, end):
            if (inner, wire) == (1, 2):
                entry = {f[0]: f for f in fields(content, first, last) if f[1] == 2}
                if 1 in entry and 2 in entry:
                    value = _setting(content, entry[2][2], entry[2][3])
                    if value is not None:
                        settings[content[entry[1][2] : entry[1][3]].decode()] = value
    return settings


def _setting(data: bytes, at: int, end: int) -> Any:
    """A ``google.protobuf.Value``: number, text or truth."""
    for number, kind, begin, last in fields(data, at, end):
        if (number, kind) == (2, 1):
            return struct.unpack_from("<d", data, begin)[0]
        if (number, kind) == (3, 2):
            return data[begin:last].decode()
        if (number, kind) == (4, 0):
            return bool(data[begin])
    return None
