"""Lines of JSON as columns, by Arrow's parser where it says exactly what Python's would, else by Python's.

Python makes an object of every cell, Arrow writes ten thousand numbers in a row: a log of regular lines is read some
ten times as fast and takes a tenth of the memory. Lines that are torn, that hold NaN, lists or anything else on which
the two might differ are left to `workbench.runs.readers.json_lines.parse_lines`, in blocks, so that one such line does
not cost the speed of all.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from workbench.runs.cells import text as shown

__all__ = ["read_columns"]

#: Fewer lines than this are not worth the trouble; a block that Arrow does not take whole is read in blocks of so many.
_BLOCK = 512
#: Longer lines, and deeper ones than so many brackets a line allow, are left to the parser that has a limit of depth.
_LONG, _BRACKETS = 8192, 8

Parse = Callable[[str], tuple[list[tuple[int, dict[str, Any]]], list[tuple[int, str]]]]


def read_columns(text: str, parse: Parse) -> tuple[pd.DataFrame, list[tuple[int, str]]]:
    """All objects of a text of JSON lines.

    Args:
        text: the lines.
        parse: reads what Arrow is not given: from a text to ``(line, object)`` and ``(line, reason)`` of what it skips.

    Returns:
        A frame with a row for each object, columns in the order of their appearance: numbers and truth values that
        every line holds as such, all others as objects with None where nothing was logged. And the lines skipped.
    """
    end = text.rfind("\n") + 1
    pieces: list[tuple[int, dict[str, np.ndarray]]] = []
    skipped: list[tuple[int, str]] = []
    whole = _fast(text[:end])
    if whole is not None and end == len(text):
        pieces.append(whole)
    elif whole is not None:
        pieces.append(whole)
        _slow(text[end:], text.count("\n"), parse, pieces, skipped)
    else:
        line = 0
        for block in _blocks(text):
            found = _fast(block) if line or len(block) < len(text) else None
            if found is not None:
                pieces.append(found)
            else:
                _slow(block, line, parse, pieces, skipped)
            line += block.count("\n")
    return _joined(pieces), skipped


def _blocks(text: str) -> list[str]:
    lines = text.split("\n")
    ended = [f"{line}\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
    return ["".join(ended[i : i + _BLOCK]) for i in range(0, len(ended), _BLOCK)]


def _slow(text: str, before: int, parse: Parse, pieces: list, skipped: list[tuple[int, str]]) -> None:
    records, left_out = parse(text)
    skipped += [(before + line, reason) for line, reason in left_out]
    if not records:
        return
    headers = dict.fromkeys(str(key) for _, record in records for key in record)
    columns = {}
    for header in headers:
        cells = np.empty(len(records), dtype=object)
        cells[:] = [record.get(header) for _, record in records]
        columns[shown(header)] = cells  # half a character, which JSON may hold, has no place in a header
    pieces.append((len(records), columns))


def _fast(text: str) -> tuple[int, dict[str, np.ndarray]] | None:
    """Number of lines and their columns, None if there is any doubt."""
    data = text.encode("utf-8", "surrogatepass")
    lines = data.count(b"\n")
    # an object a line, and nothing but its end between two: Arrow itself would take two in one line, or one in two
    if lines < _BLOCK // 2 or not (data.startswith(b"{") and data.endswith(b"}\n")):
        return None
    if data.count(b"}\n{") != lines - 1 or b"\x00" in data or b'"$float"' in data:
        return None
    if data.count(b"{") + data.count(b"[") > _BRACKETS * lines:
        return None
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == 10)
    if np.diff(ends, prepend=-1).max() > _LONG:
        return None
    table = _table(data)
    if table is None or table.num_rows != lines:
        return None
    columns: dict[str, np.ndarray] = {}
    null = b"null" in data
    for name, column in zip(table.column_names, table.columns, strict=True):
        if not _put(columns, name, column, null):
            return None
    return lines, columns


def _table(data: bytes) -> Any:
    import pyarrow as pa
    import pyarrow.json as pj

    read = pj.ReadOptions(use_threads=False, block_size=max(len(data) + 1, 1024))
    try:
        table = pj.read_json(pa.py_buffer(data), read)
        times = [f.name for f in table.schema if pa.types.is_temporal(f.type)]
        if times:  # what looks like a date is text here
            schema = pa.schema([(name, pa.string()) for name in times])
            table = pj.read_json(pa.py_buffer(data), read, pj.ParseOptions(explicit_schema=schema))
            places = [data.find(f"{json.dumps(name, ensure_ascii=False)}:".encode()) for name in table.column_names]
            if min(places) < 0:
                return None
            # the explicit ones come first otherwise
            table = table.select(sorted(table.column_names, key=dict(zip(table.column_names, places, strict=True)).get))
    except (pa.ArrowException, ValueError, OverflowError, UnicodeError):
        return None
    names = table.column_names
    return table if len(set(names)) == len(names) else None


def _put(columns: dict[str, np.ndarray], name: str, column: Any, null: bool) -> bool:
    """Add a column, a nested one under dotted names; False if it holds what may differ from Python's reading."""
    import pyarrow as pa

    kind = column.type
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks else pa.array([], kind)
    if pa.types.is_struct(kind):
        if not kind.num_fields or (null and array.null_count) or name.count(".") > 20:
            return False
        pieces = zip((field.name for field in kind), array.flatten(), strict=True)
        return all(_put(columns, f"{name}.{inner}", piece, null) for inner, piece in pieces)
    if name in columns:
        return False
    missing = array.null_count
    if pa.types.is_null(kind):
        columns[name] = np.full(len(array), None, dtype=object)
    elif pa.types.is_int64(kind) or pa.types.is_float64(kind):
        values = array.to_numpy(zero_copy_only=False) if not missing else None
        if values is None:
            filled = array.fill_null(0).to_numpy(zero_copy_only=False)
            if not _ordinary(filled):
                return False
            values = filled.astype(object)
            values[array.is_null().to_numpy(zero_copy_only=False)] = None
        elif not _ordinary(values):
            return False
        columns[name] = values
    elif pa.types.is_boolean(kind):
        columns[name] = array.to_numpy(zero_copy_only=False)  # objects with None where some are missing
    elif pa.types.is_string(kind):
        columns[name] = array.to_numpy(zero_copy_only=False)
    else:  # lists, and what Arrow took for something else than JSON has
        return False
    return True


def _ordinary(values: np.ndarray) -> bool:
    """Whether numbers are those that Python reads: finite, and whole ones short enough to stay whole."""
    if values.dtype.kind == "f":
        return bool(np.isfinite(values).all())
    return not len(values) or (int(values.min()) > -(10**18) and int(values.max()) < 10**18)


def _joined(pieces: list[tuple[int, dict[str, np.ndarray]]]) -> pd.DataFrame:
    total = sum(n for n, _ in pieces)
    if len(pieces) == 1:
        columns = pieces[0][1]
    else:
        columns = {}
        for name in dict.fromkeys(name for _, held in pieces for name in held):
            parts = [held.get(name) for _, held in pieces]
            kinds = {None if part is None else part.dtype for part in parts}
            if len(kinds) > 1:
                parts = [
                    np.full(n, None, dtype=object) if part is None else part.astype(object)
                    for (n, _), part in zip(pieces, parts, strict=True)
                ]
            columns[name] = np.concatenate(parts)
    series = {name: pd.Series(values, dtype=values.dtype) for name, values in columns.items()}
    return pd.DataFrame(series, index=range(total), copy=False)
