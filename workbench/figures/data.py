"""What a figure embeds: few rows, short numbers, safe field names.

Fields inside a chart are always called x, y, run and so on, never by a column's own name: a column may be
called ``loss[0]`` or ``a.b``, which Vega would read as a path.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

__all__ = ["embed", "significant", "thin", "thin_rows"]

#: Most runs drawn as points of one figure; with 150 bytes each a figure stays near 300 kB.
MOST_ROWS = 2000


def embed(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` as a chart should hold it: floats to six digits, ids as text.

    Altair writes what is not finite as null. A frame is handed over, not records, since Altair checks
    every record against the schema, twice.
    """
    return pd.DataFrame({name: _short(column) for name, column in frame.items()})


def _short(column: pd.Series) -> Any:
    if pd.api.types.is_float_dtype(column):
        return significant(column.to_numpy(float))
    if len(column) and isinstance(column.iloc[0], np.ndarray):
        return pd.Series([significant(array).tolist() for array in column], dtype=object)
    return column.to_numpy() if pd.api.types.is_numeric_dtype(column) else column.astype(str).to_numpy(object)


def significant(values: np.ndarray, digits: int = 6) -> np.ndarray:
    """`values` rounded to `digits` significant digits, so that they are short as text."""
    return np.array([float(f"{v:.{digits}g}") for v in values], dtype=float)


def thin(y: np.ndarray, most: int, at: np.ndarray | None = None) -> np.ndarray:
    """Indices of at most `most` points of a curve that keep its ends and each stretch's minimum and maximum.

    A spike of one step survives, which plain every-k-th thinning would drop.

    Args:
        y: ``[n]`` finite values in order.
        most: largest number of points to keep, at least 4.
        at: ``[n]`` ascending positions on the axis, so that stretches are equally wide as drawn (of
            logarithms on a logarithmic axis); default equally many points each.
    """
    if y.size <= most:
        return np.arange(y.size)
    stretches = max((most - 2) // 2, 1)
    at = np.arange(y.size) if at is None else at
    edges = np.searchsorted(at, np.linspace(at[0], at[-1], stretches + 1)[1:-1])
    keep = {0, y.size - 1}
    for start, stop in zip([0, *edges], [*edges, y.size], strict=True):
        if stop > start:
            keep.update((start + int(np.argmin(y[start:stop])), start + int(np.argmax(y[start:stop]))))
    return np.array(sorted(keep))


def thin_rows(frame: pd.DataFrame, y: str, most: int = MOST_ROWS) -> pd.DataFrame:
    """At most `most` rows: those with the smallest and largest `y`, and an even choice of the others."""
    if len(frame) <= most:
        return frame
    return frame.iloc[thin(frame[y].to_numpy(float), most)]
