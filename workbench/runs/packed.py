"""Frames as rows of one Arrow table, exact to the bit and to the type of each cell; for the cache of loaded logs.

Every column of a frame is one row: numbers lie in one buffer of doubles that all share, so that a curve read back is a
slice of it; whatever is no plain column of numbers is JSON. Nothing is pickled.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["Packer", "Unpacker", "Unsuitable"]

#: Whole numbers up to here are exact as doubles.
_WHOLE = 2**53
#: Frames of at most so many rows are JSON as a whole: a thousand runs of one row each are a thousand short texts.
_SHORT = 4


class Unsuitable(ValueError):
    """Something that cannot be written down exactly."""


class Packer:
    """Collects frames; `table` is what is written.

    Attributes:
        nbytes: bytes of numbers so far.
    """

    def __init__(self) -> None:
        self._headers: list[str] = []
        self._kinds: list[str] = []
        self._texts: list[str | None] = []
        self._values: list[Any] = []
        self.nbytes = 0

    def add(self, frame: pd.DataFrame) -> Any:
        """Add a frame and return a JSON value by which `Unpacker.frame` finds it again.

        Raises:
            Unsuitable: it holds cells of types that are not kept.
        """
        if not frame.columns.is_unique or not all(_is_text(header) for header in frame.columns):
            raise Unsuitable("its headers are no unique texts")
        kinds = [_kind(frame[header]) for header in frame.columns]
        if len(frame) <= _SHORT:
            cells = [_cells(frame[header]) for header in frame.columns]
            return {"headers": list(frame.columns), "kinds": kinds, "rows": len(frame), "cells": cells}
        first = len(self._headers)
        for header, kind in zip(frame.columns, kinds, strict=True):
            values, text = _numbers(frame[header], kind), None
            if values is None:
                text = json.dumps(_cells(frame[header]))
                kind, values = f"json:{kind}", _empty()
            self._headers.append(header)
            self._kinds.append(kind)
            self._texts.append(text)
            self._values.append(values)
            self.nbytes += 8 * len(values) + len(text or "")
        return {"first": first, "columns": len(kinds), "rows": len(frame)}

    def table(self, about: Any) -> Any:
        """The Arrow table, with `about` as JSON in its metadata."""
        import pyarrow as pa

        ends = np.cumsum([0, *map(len, self._values)])
        values = pa.concat_arrays(self._values) if self._values else _empty()
        lists = pa.LargeListArray.from_arrays(pa.array(ends, pa.int64()), values)
        columns = {
            "header": pa.array(self._headers, pa.string()),
            "kind": pa.array(self._kinds, pa.string()),
            "text": pa.array(self._texts, pa.large_string()),
            "values": lists,
        }
        return pa.table(columns).replace_schema_metadata({"about": json.dumps(about)})


class Unpacker:
    """Frames out of a table that `Packer` made.

    Attributes:
        about: what was given to `Packer.table`.
    """

    def __init__(self, table: Any) -> None:
        import pyarrow as pa

        self.about = json.loads(table.schema.metadata[b"about"].decode())
        self._headers, self._kinds, self._texts = (table[c].to_pylist() for c in ("header", "kind", "text"))
        column = None
        if table.num_rows:
            pieces = table["values"]
            column = pieces.chunk(0) if pieces.num_chunks == 1 else pa.concat_arrays(pieces.chunks)
        self._ends = column.offsets.to_numpy() if column is not None else np.zeros(1, np.int64)
        self._values = column.values if column is not None else _empty()

    def frame(self, where: Any) -> pd.DataFrame:
        """The frame that `Packer.add` returned `where` for, with the same types."""
        rows = range(where["rows"])
        if "cells" in where:
            return self.stacked([where])
        data = {}
        for place in range(where["first"], where["first"] + where["columns"]):
            kind = self._kinds[place]
            if kind.startswith("json:"):
                data[self._headers[place]] = _column(json.loads(self._texts[place]), kind.removeprefix("json:"))
                continue
            piece = self._values.slice(self._ends[place], self._ends[place + 1] - self._ends[place])
            data[self._headers[place]] = _restored(piece, kind)
        return pd.DataFrame(data, index=rows)

    def stacked(self, wheres: Sequence[Any]) -> pd.DataFrame:
        """Several short frames of the same columns and types one below the other; a single one may be of any length."""
        first = wheres[0]
        if "cells" not in first:
            return self.frame(first)
        rows, headers = sum(where["rows"] for where in wheres), first["headers"]
        if set(first["kinds"]) == {"object"}:  # one block, which is made ten times as fast as columns are
            block = np.empty((rows, len(headers)), dtype=object)
            for place in range(len(headers)):
                block[:, place] = [cell for where in wheres for cell in where["cells"][place]]
            return pd.DataFrame(block, columns=headers, index=range(rows), copy=False)
        data = {}
        for place, (header, kind) in enumerate(zip(headers, first["kinds"], strict=True)):
            data[header] = _column([cell for where in wheres for cell in where["cells"][place]], kind)
        return pd.DataFrame(data, index=range(rows))


def _is_text(header: Any) -> bool:
    try:
        return isinstance(header, str) and header.encode() is not None
    except UnicodeEncodeError:  # half a character
        return False


def _empty() -> Any:
    import pyarrow as pa

    return pa.array([], pa.float64())


def _kind(column: pd.Series) -> str:
    if column.dtype == object:
        return "object"
    name = str(column.dtype)
    if name in ("float64", "float32", "int64", "int32", "bool", "str"):
        return name
    raise Unsuitable(f"a column of {name}")


def _cells(column: pd.Series) -> list[Any]:
    """The cells as JSON has them.

    Raises:
        Unsuitable: JSON would give back something else.
    """
    cells, text = [], str(column.dtype) == "str"
    for cell in column.tolist():
        if isinstance(cell, np.generic):
            cell = cell.item()
        if text and (cell is None or cell != cell):
            cell = None
        if not (cell is None or type(cell) in (str, bool, float, int)):
            raise Unsuitable(f"a cell of type {type(cell).__name__}")
        cells.append(cell)
    return cells


def _column(cells: Sequence[Any], kind: str) -> Any:
    if kind == "object":
        column = np.empty(len(cells), dtype=object)
        column[:] = cells
        return column
    if kind == "str":
        return pd.array(list(cells), dtype="str")
    return np.array(cells, dtype=kind)


def _numbers(column: pd.Series, kind: str) -> Any:
    """A column as an Arrow array of doubles, None where its cells are not all numbers of one type, or missing."""
    import pyarrow as pa

    if kind == "str":
        return None
    if kind != "object":
        values = column.to_numpy()
        if kind == "int64" and len(values) and max(abs(int(values.min())), abs(int(values.max()))) >= _WHOLE:
            return None
        return pa.array(values.astype(np.float64), from_pandas=False)
    types = set(map(type, column)) - {type(None)}
    if types != {float}:  # whole numbers and mixtures stay what they are, as JSON
        return None
    cells = column.to_numpy()
    missing = np.fromiter((c is None for c in cells), bool, len(cells))
    return pa.array(np.where(missing, 0.0, cells).astype(np.float64), mask=missing, from_pandas=False)


def _restored(piece: Any, kind: str) -> np.ndarray:
    if kind != "object":
        return piece.to_numpy(zero_copy_only=True).astype(kind, copy=False)
    values = piece.to_numpy(zero_copy_only=False).astype(object)
    if piece.null_count:
        values[piece.is_null().to_numpy(zero_copy_only=False)] = None
    return values
