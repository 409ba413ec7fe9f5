"""Raw cells of a log as numbers, truth values or text, a column at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from workbench.units import parse_number

__all__ = ["Cells", "text"]

_TRUTH = {"true": True, "false": False}


class Cells:
    """The columns of one raw frame, parsed at most once each.

    Args:
        frame: raw cells as a reader found them; None, pandas' NA and empty text are cells not given. In a
            typed column (a DataFrame's, Parquet's) NaN counts as not given too.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frame = frame
        self._numbers: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._given: dict[str, np.ndarray] = {}

    def given(self, header: str) -> np.ndarray:
        """Whether something was logged: bool ``[rows]``."""
        if header not in self._given:
            column = self.frame[header]
            if column.dtype == object:
                found = [not (c is None or c is pd.NA or (isinstance(c, str) and not c.strip())) for c in column]
                self._given[header] = np.array(found, dtype=bool)
            else:
                empty = column.astype(str).str.strip() == "" if pd.api.types.is_string_dtype(column.dtype) else False
                self._given[header] = (column.notna() & ~pd.Series(empty, index=column.index)).to_numpy(bool)
        return self._given[header]

    def numbers(self, header: str) -> tuple[np.ndarray, np.ndarray]:
        """Values as float64 ``[rows]`` and whether a given cell is no number, bool ``[rows]``."""
        if header not in self._numbers:
            self._numbers[header] = _parse(self.frame[header])
        return self._numbers[header]

    def share_of_numbers(self, header: str) -> float:
        """Which part of the given cells are numbers; NaN when no cell is given."""
        given = self.given(header)
        return 1.0 - self.numbers(header)[1][given].mean() if given.any() else math.nan

    def value(self, header: str) -> np.ndarray:
        """The column as it is best kept: float64 if every given cell is a number, else bool, else text."""
        column = self.frame[header]
        given = self.given(header)
        truth = _truth(column, given)
        if truth is not None:
            return truth
        if not self.numbers(header)[1].any():
            return self.numbers(header)[0]
        return np.array([text(c) if g else None for c, g in zip(column, given, strict=True)], dtype=object)


def text(cell: Any) -> str:
    """A cell as text that every encoder accepts: whole floats without ``.0``, lone surrogates escaped."""
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1e15:
        cell = int(cell)
    written = str(cell)
    return written if written.isascii() else written.encode("utf-8", "backslashreplace").decode("utf-8")


def _truth(column: pd.Series, given: np.ndarray) -> np.ndarray | None:
    if pd.api.types.is_bool_dtype(column.dtype) and given.all():
        return column.to_numpy(bool)
    if column.dtype != object or not given.all() or not len(column):
        return None
    values = [
        c if isinstance(c, bool) else _TRUTH.get(c.strip().lower()) if isinstance(c, str) else None for c in column
    ]
    return None if any(v is None for v in values) else np.array(values, dtype=bool)


def _parse(column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    bad = np.zeros(len(column), dtype=bool)
    if pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_complex_dtype(column.dtype):
        return column.to_numpy(dtype=float, na_value=math.nan), bad
    values = np.full(len(column), math.nan)
    for i, cell in enumerate(column):
        try:
            values[i] = float(cell)
        except (TypeError, ValueError, OverflowError):
            if cell is None or cell is pd.NA:
                continue
            try:
                values[i] = parse_number(cell)
            except ValueError:
                bad[i] = True
    return values, bad
