"""Finding runs by what a person types: a condition, a regular expression, or just some words."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from workbench.runs.table import RunTable

__all__ = ["search"]

#: What makes typed text worth trying as a condition over the columns.
_CONDITION = re.compile(r"[<>]|[=!]=|\b(?:and|or|not|in)\b|\.(?:str|isin|isna|notna)\b")


def search(runs: RunTable, text: str) -> RunTable:
    """The runs that `text` describes, in the order of the table.

    Args:
        runs: the table.
        text: one of three things. A condition over the columns, as `RunTable.where` takes it
            (``params > 1e8 and lr < 0.01``). A regular expression between slashes (``/seed[12]$/``). Or words:
            runs are kept in which each of them occurs somewhere. Expressions and words are looked for in the
            run's id and in every column of text, without regard to case. Empty text keeps every run.

    Raises:
        ValueError: the condition or the regular expression cannot be read, or no run matches.
    """
    typed = text.strip()
    if not typed or not len(runs):
        return runs
    if len(typed) > 1 and typed.startswith("/") and typed.endswith("/"):
        try:
            pattern = re.compile(typed[1:-1], re.IGNORECASE)
        except re.error as error:
            raise ValueError(f"{typed!r} is no regular expression: {error}; a plain word needs no slashes") from None
        return _some(runs, _anywhere(runs, lambda cell: pattern.search(cell) is not None), typed)
    wrong: ValueError | None = None
    if _CONDITION.search(typed):
        try:
            found = runs.where(typed)
        except ValueError as error:  # perhaps a run is called like that
            wrong = error
        else:
            return _some(runs, found, typed)
    chosen = np.ones(len(runs), dtype=bool)
    for word in typed.casefold().split():
        chosen &= _anywhere(runs, lambda cell, word=word: word in cell.casefold())
    if wrong is not None and not chosen.any():
        raise wrong
    return _some(runs, chosen, typed)


def _anywhere(runs: RunTable, matches) -> np.ndarray:
    """For each run, whether a cell of text matches."""
    frame = runs.frame
    chosen = np.zeros(len(frame), dtype=bool)
    for name in frame.columns:
        column = frame[name]
        if pd.api.types.is_numeric_dtype(column) or name == "problem":
            continue
        known = {cell: matches(cell) for cell in column.dropna().astype(str).unique()}
        chosen |= column.astype(str).map(known).fillna(False).to_numpy(bool)
    return chosen


def _some(runs: RunTable, found: RunTable | np.ndarray, typed: str) -> RunTable:
    table = found if isinstance(found, RunTable) else runs.where(found)
    if not len(table):
        raise ValueError(
            f"no run of {len(runs)} matches {typed!r:.80}; type a part of a name, /a regular expression/, or a "
            "condition such as loss < 3"
        )
    return table
