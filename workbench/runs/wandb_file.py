"""The transaction log of a Weights & Biases run (``run-<id>.wandb``), decoded without wandb.

The file is a log as LevelDB writes it: seven bytes of its own, then blocks of 32 KiB filled with records of
checksum, length, type and data; what does not fit into a block goes on in the next (LevelDB's
``doc/log_format.md``). The data are protocol buffers ``Record`` (``wandb/proto/wandb_internal.proto``), whose
values are JSON. A run writes tens of thousands of them that repeat a few keys; so the bytes before a value are
looked up as a whole, and each is parsed once.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workbench.runs.strict_json import loads
from workbench.runs.wire import fields, varint, zigzag

__all__ = ["Series", "WandbFile", "is_wandb_file", "read_wandb_file"]

_MAGIC, _VERSION = b":W&B\xe1\xbe", 0
_START, _HEADER, _BLOCK = 7, 7, 32768
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
#: Numbers of the records in ``Record`` that matter here.
_HISTORY, _SUMMARY, _CONFIG, _METRIC, _RUN, _EXIT, _REQUEST = 2, 3, 5, 12, 17, 18, 100
_PARTIAL_HISTORY = 10  # in ``Request``
#: Text fields of ``RunRecord``.
_RUN_TEXT = {1: "id", 2: "entity", 3: "project", 6: "group", 7: "job_type", 8: "name", 9: "notes", 12: "sweep"}
#: Key of ``value_json`` in an item, field 16: the bytes between the name and the value.
_VALUE = b"\x82\x01"
_NOT_FINITE = {"NaN", "Infinity", "-Infinity"}

Path = tuple[str, ...]


@dataclass
class Series:
    """One logged number: every value in the order written.

    Attributes:
        row: ``[n]`` number of the history record, from 0.
        value: ``[n]`` float64.
    """

    row: np.ndarray
    value: np.ndarray


@dataclass
class WandbFile:
    """What one transaction log holds.

    Attributes:
        about: id, project, name and the like of the run, as far as they were given; ``tags`` is a list.
        config: settings, nested as they were given.
        summary: last or declared values, nested.
        series: path of keys -> what was logged under it; numbers and truth values only.
        rows: history records.
        step: ``[rows]`` W&B's own step of each.
        step_metric: the metric that the program declared as the x axis of all others, else empty.
        exit_code: None if the log does not say that the run ended.
        records: records read.
        bad: stretches of bytes that do not fit their checksum, or records that are no messages.
        tail: bytes behind the last whole record.
    """

    about: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    series: dict[Path, Series] = field(default_factory=dict)
    rows: int = 0
    step: np.ndarray = field(default_factory=lambda: np.zeros(0))
    step_metric: str = ""
    exit_code: int | None = None
    records: int = 0
    bad: int = 0
    tail: int = 0


def is_wandb_file(head: bytes) -> bool:
    """Whether bytes begin as a transaction log does."""
    return head.startswith(_MAGIC) and len(head) >= _START


def read_wandb_file(data: bytes) -> WandbFile:
    """Everything this decoder knows in the bytes of a transaction log. Damage is counted, never raised.

    Raises:
        ValueError: it is no transaction log, or one of a version that is not known.
    """
    if not is_wandb_file(data):
        raise ValueError("it does not begin as a W&B transaction log")
    if data[6] != _VERSION:
        raise ValueError(f"it is a W&B transaction log of version {data[6]}; this reader knows version {_VERSION}")
    out = WandbFile()
    state = _State()
    for record in _records(data, out):
        out.records += 1
        try:
            _take(record, out, state)
        except (ValueError, IndexError, struct.error):  # UnicodeDecodeError is a ValueError
            out.bad += 1
    _finish(out, state)
    return out


@dataclass
class _State:
    """What is kept while records are read: values still as bytes, by path."""

    config: dict[Path, bytes] = field(default_factory=dict)
    summary: dict[Path, bytes] = field(default_factory=dict)
    columns: dict[Path, tuple[list[int], list[float]]] = field(default_factory=dict)  # rows and values
    steps: list[float] = field(default_factory=list)
    media: set[Path] = field(default_factory=set)
    paths: dict[bytes, Path] = field(default_factory=dict)  # bytes before a value -> path


def _records(data: bytes, out: WandbFile) -> Iterator[bytes]:
    """The data of each whole record; after damage it goes on at the next record that fits its checksum."""
    at, size = _START, len(data)
    parts: list[bytes] | None = None
    end = at  # of the last whole record
    while True:
        if _BLOCK - at % _BLOCK < _HEADER:  # too little room for a header: zeros
            at += _BLOCK - at % _BLOCK
        if at + _HEADER > size:
            break
        kind, after = _check(data, at)
        if not kind:
            found = _resume(data, at)
            if found is None:
                break
            out.bad += 1
            at, parts = found, None
            continue
        piece = data[at + _HEADER : after]
        at = after
        if kind == _FULL:
            parts, end = None, at
            yield piece
        elif kind == _FIRST:
            parts = [piece]
        elif parts is not None:  # a middle or last piece whose first was damaged goes with it
            parts.append(piece)
            if kind == _LAST:
                whole, parts, end = b"".join(parts), None, at
                yield whole
        elif kind == _LAST:
            end = at
    # zeros that fill up a block are no loss
    out.tail = size - end if data[end:].strip(b"\x00") else 0


def _check(data: bytes, at: int) -> tuple[int, int]:
    """Type and end of the record that begins here; type 0 if it does not fit its checksum."""
    crc, length, kind = struct.unpack_from("<IHB", data, at)
    after = at + _HEADER + length
    if not _FULL <= kind <= _LAST or after > len(data) or length > _BLOCK - at % _BLOCK - _HEADER:
        return 0, after
    return (kind if zlib.crc32(data[at + 6 : after]) == crc else 0), after


def _resume(data: bytes, at: int) -> int | None:
    """Where whole records go on after a damaged one: behind it if its length holds, else in a later block."""
    _, after = _check(data, at)
    places = [after, *range(at - at % _BLOCK + _BLOCK, len(data), _BLOCK)]
    return next((place for place in places if place + _HEADER <= len(data) and _check(data, place)[0]), None)


def _take(record: bytes, out: WandbFile, state: _State) -> None:
    """One ``Record``."""
    for number, begin, end in _top(record):
        if number == _HISTORY:
            _history(record[begin:end], state)
        elif number == _SUMMARY:
            _update(record[begin:end], state.summary, state)
        elif number == _CONFIG:
            _update(record[begin:end], state.config, state)
        elif number == _RUN:
            _run(record[begin:end], out, state)
        elif number == _EXIT:
            codes = [f for f in fields(record, begin, end) if f[:2] == (1, 0)]
            code = varint(record, codes[-1][2], end)[0] if codes else 0
            out.exit_code = code - 2**64 if code >= 2**63 else code
        elif number == _METRIC:
            _metric(record[begin:end], out)
        elif number == _REQUEST:
            for inner, wire, first, last in fields(record, begin, end):
                if (inner, wire) == (_PARTIAL_HISTORY, 2):
                    _history(record[first:last], state)


def _run(data: bytes, out: WandbFile, state: _State) -> None:
    """A ``RunRecord``; it is written again when the run's name or notes change."""
    tags = []
    for number, kind, begin, end in fields(data, 0, len(data)):
        if kind != 2:
            continue
        if number in _RUN_TEXT:
            out.about[_RUN_TEXT[number]] = data[begin:end].decode()
        elif number == 10:
            tags.append(data[begin:end].decode())
        elif number == 4:
            _update(data[begin:end], state.config, state)
        elif number == 5:
            _update(data[begin:end], state.summary, state)
    out.about["tags"] = tags


def _metric(data: bytes, out: WandbFile) -> None:
    """A ``MetricRecord``: only an x axis for all metrics (the pattern ``*``) counts."""
    found = {f[0]: data[f[2] : f[3]].decode() for f in fields(data, 0, len(data)) if f[1] == 2 and f[0] in (2, 4)}
    if found.get(2) == "*" and found.get(4):
        out.step_metric = found[4]


def _update(data: bytes, values: dict[Path, bytes], state: _State) -> None:
    """A ``ConfigRecord`` or ``SummaryRecord``: items to set (field 1) and to remove (field 2)."""
    for number, path, value, begin, end in _items(data, state.paths):
        if number == 2:
            gone, _ = _item(data[begin:end], state.paths)
            for known in [p for p in values if gone and p[: len(gone)] == gone]:
                del values[known]
        elif path and isinstance(value, bytes):
            values[path] = value


def _history(data: bytes, state: _State) -> None:
    """A ``HistoryRecord``, or a part of one: a row of values and its step."""
    found: list[tuple[Path, float]] = []
    step = None
    for number, path, value, begin, end in _items(data, state.paths):
        if number == 1:
            try:
                found.append((path, float(value if type(value) is bytes else "")))
            except ValueError:
                _numbers(path, value, found, state)
        elif number == 2:
            nums = [f for f in fields(data, begin, end) if f[:2] == (1, 0)]
            step = float(varint(data, nums[-1][2], end)[0]) if nums else 0.0
    inner = next((number for path, number in found if path == ("_step",)), None) if step is None else None
    # kept only now, so that a record that cannot be read to its end leaves nothing behind
    row = len(state.steps)
    state.steps.append(next((s for s in (step, inner) if s is not None), state.steps[-1] if row else 0.0))
    columns = state.columns
    for path, number in found:
        column = columns.get(path)
        if column is None:
            column = columns[path] = ([], [])
        column[0].append(row)
        column[1].append(number)


def _numbers(path: Path, value: Any, found: list[tuple[Path, float]], state: _State) -> None:
    """Add the number of a logged value to `found`; numbers within an object are values of their own."""
    if not path:
        return
    if isinstance(value, bytes):
        number = _number(value)
        if number is not None:
            found.append((path, number))
            return
        if path[-1] == "_type":  # pictures, histograms and tables are objects with a type
            state.media.add(path[:-1])
        if value[:1] != b"{":
            return
        value = loads(value.decode())
    if isinstance(value, dict):
        if "_type" not in value:
            for key, inner in value.items():
                _numbers((*path, str(key)), inner, found, state)
    elif isinstance(value, int | float) or (isinstance(value, str) and value in _NOT_FINITE):
        found.append((path, float(value)))


def _number(value: bytes) -> float | None:
    """A JSON value as a number, or None; true is 1."""
    try:
        return float(value)
    except ValueError:
        pass
    if value in (b"true", b"false"):
        return float(value == b"true")
    return float(value[1:-1]) if value[1:-1].decode("latin-1") in _NOT_FINITE and value[:1] == b'"' else None


def _top(data: bytes, at: int = 0) -> Iterator[tuple[int, int, int]]:
    """Number, begin and end of the fields that have bytes, from a place on; a quick `fields` for short ones."""
    size = len(data)
    while at < size:
        key = data[at]
        if key & 0x87 == 0:  # a varint
            at += 1
            while data[at] & 0x80:
                at += 1
            at += 1
            continue
        length = data[at + 1] if at + 1 < size else 0x80
        if key & 0x87 == 2 and length < 0x80 and at + 2 + length <= size:
            yield key >> 3, at + 2, at + 2 + length
            at += 2 + length
            continue
        # a long or odd field: the first of what is left, in full
        number, kind, begin, end = next(fields(data, at, size))
        if kind == 2:
            yield number, begin, end
        at = end


def _items(data: bytes, paths: dict[bytes, Path]) -> Iterator[tuple[int, Path, Any, int, int]]:
    """Fields of a record: number, of the items (field 1) path and value, and where it begins and ends."""
    at, size = 0, len(data)
    while at < size:
        if data[at] == 0x0A and at + 1 < size and data[at + 1] < 0x80:
            begin = at + 2
            end = begin + data[at + 1]
            name, _, rest = data[begin:end].partition(_VALUE)
            # what precedes the value was met before and is whole, so that the value begins here and nowhere else
            if rest and end <= size and rest[0] == len(rest) - 1 and name in paths:
                yield 1, paths[name], rest[1:], begin, end
                at = end
                continue
        for number, begin, end in _top(data, at):
            path, value = _item(data[begin:end], paths) if number == 1 else ((), None)
            yield number, path, value, begin, end
            at = end
            break
        else:
            break


def _item(item: bytes, paths: dict[bytes, Path]) -> tuple[Path, Any]:
    """Path and value of a ``HistoryItem``, ``ConfigItem`` or ``SummaryItem``; JSON stays bytes."""
    key, nested, value, start = "", [], None, 0
    for number, kind, begin, end in fields(item, 0, len(item)):
        if (number, kind) == (1, 2):
            key = item[begin:end].decode()
        elif (number, kind) == (2, 2):
            nested.append(item[begin:end].decode())
        elif (number, kind) in ((16, 2), (8, 2)):
            value = item[begin:end]
            # key of two bytes, length of one
            start = begin - 3 if number == 16 and len(value) < 0x80 and end == len(item) else 0
        elif (number, kind) == (4, 0):
            value = bool(item[begin])
        elif (number, kind) == (5, 0):
            value = zigzag(varint(item, begin, end)[0])
        elif (number, kind) == (6, 1):
            value = struct.unpack_from("<d", item, begin)[0]
        elif (number, kind) == (7, 2):
            value = item[begin:end].decode()
    path = tuple(nested) or ((key,) if key else ())
    if start > 0 and len(paths) < 100_000:
        paths[item[:start]] = path
    return path, value


def _finish(out: WandbFile, state: _State) -> None:
    """Nested config and summary out of paths, and columns out of lists."""
    out.config = _nested(state.config)
    out.summary = _nested(state.summary)
    out.rows, out.step = len(state.steps), np.array(state.steps)
    for path, (rows, values) in state.columns.items():
        if path and not any(path[:n] in state.media for n in range(1, len(path))):
            out.series[path] = Series(np.array(rows), np.array(values))


def _nested(values: dict[Path, bytes]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, raw in values.items():
        try:
            value = loads(raw.decode())
        except ValueError:
            continue
        if isinstance(value, str) and value in _NOT_FINITE:
            value = float(value)
        node = tree
        for key in path[:-1]:
            inner = node.get(key)
            if not isinstance(inner, dict):
                inner = node[key] = {}
            node = inner
        node[path[-1]] = value
    return tree
