"""Columns that follow from a run's configuration: counted before names are resolved, filled in after.

The keys of a configuration lose their names when headers become canonical columns, and what was logged is known only
then. So what a configuration says travels with its row, in one column of text that nobody sees: `attach` writes it,
`disagreements` compares it with what was logged, and `fill` takes it out and fills what is missing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
import pandas as pd

from workbench.runs.frameworks import Counted, keys, quantities
from workbench.runs.readers.base import Log

__all__ = ["HOLDER", "PLANNED", "attach", "disagreements", "dump", "fill"]

#: The column that holds what was counted, until `fill`.
HOLDER = "workbench: counted"
#: How a count ends that holds for a run only if it went on to its end.
PLANNED = "as planned"
#: Logged and counted values that differ by more are told.
_DIFFERENT = 0.03
#: What is compared with the configuration's count.
_COMPARED = ("params", "params_non_embedding", "params_active", "tokens")


def attach(log: Log) -> None:
    """Write what the configuration in each row of `log` says into the column `HOLDER` of its frame."""
    headers = tuple(str(header) for header in log.frame.columns)
    if not any(header.replace("/", ".").rpartition(".")[2] in keys() for header in headers):
        return
    rows = _Rows(log.frame)
    known: dict[tuple, str | None] = {}
    asked: tuple[str, ...] = ()
    held = []
    for row in range(len(log.frame)):
        cells = rows.at(row)
        # rows that agree in every cell that was looked at say the same
        key = tuple(str(cells[header]) for header in asked)
        if key not in known:
            found, seen = quantities(cells)
            if not set(seen) <= set(asked):
                asked, known = tuple(dict.fromkeys((*asked, *seen))), {}
                key = tuple(str(cells[header]) for header in asked)
            known[key] = dump(found) if found else None
        held.append(known[key])
    if any(text is not None for text in held):
        # the frame may be the user's own: a new one
        log.frame = log.frame.assign(**{HOLDER: pd.Series(held, index=log.frame.index, dtype=object)})


def disagreements(frame: pd.DataFrame) -> list[str]:
    """A sentence for each quantity that was logged and differs from its count; call before `fill`."""
    said = []
    held = _held(frame)
    for name in _COMPARED:
        if name not in frame:
            continue
        ratio, logged, how = _ratios(frame[name].to_numpy(float), held, name)
        if not ratio.size or np.median(np.abs(ratio - 1)) <= _DIFFERENT:
            continue
        other, _, _ = _ratios(frame[name].to_numpy(float), held, "params_non_embedding")
        if name == "params" and other.size == ratio.size and np.median(np.abs(other - 1)) <= 0.01:
            said.append(
                "logged params are those without embeddings and head in the median run; both counts are columns where "
                "both are known, and the logged one is kept"
            )
            continue
        said.append(
            f"logged {name} are {np.median(ratio):.3g} x what the configuration gives in the median of {logged} runs "
            f"({how}); the logged ones are kept"
        )
    misread = {
        name: c.how
        for row in held.values()
        for name, c in row.items()
        if _replaces(frame, row, name) and c.value == c.value
    }
    said += [f"{name} is {how}: the logged number is of one micro-batch" for name, how in misread.items()]
    return said


def fill(frame: pd.DataFrame, notes: dict[str, str]) -> tuple[pd.DataFrame, Callable[[pd.DataFrame], pd.DataFrame]]:
    """`frame` without `HOLDER` and with what the configurations give where nothing was logged.

    Args:
        frame: canonical columns.
        notes: gets a note for each column.

    Returns:
        The frame, and a function that adds what needs tokens: planned ones where none are known still, and
        ``flops_exact``. It is called once the tokens of steps and batches are derived.
    """
    if HOLDER not in frame:
        return frame, lambda other: other
    held = _held(frame)
    frame = frame.drop(columns=HOLDER)
    names = dict.fromkeys(name for row in held.values() for name in row if name != "flops_per_token")
    for name in names:
        frame = _filled(
            frame, notes, name, {i: row[name] for i, row in held.items() if name in row and not _late(name, row)}
        )

    def later(frame: pd.DataFrame) -> pd.DataFrame:
        frame = _filled(frame, notes, "tokens", {i: r["tokens"] for i, r in held.items() if _late("tokens", r)})
        rates = {i: row["flops_per_token"] for i, row in held.items() if "flops_per_token" in row}
        if not rates or "tokens" not in frame:
            return frame
        tokens = frame["tokens"].to_numpy(float)
        spent = {i: Counted(c.value * tokens[i], f"{c.how}, attention included, x tokens") for i, c in rates.items()}
        return _filled(frame, notes, "flops_exact", {i: c for i, c in spent.items() if c.value > 0})

    return frame, later


class _Rows:
    """The cells of a frame by row; columns become lists when they are first looked at."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.names = {str(header): place for place, header in enumerate(frame.columns) if header != HOLDER}
        self._frame = frame
        self._only = frame.to_numpy(dtype=object)[0] if len(frame) == 1 else None
        self.column = cache(self._column)

    def _column(self, header: str) -> list:
        if self._only is not None:  # many logs have one row each
            return [self._only[self.names[header]]]
        return self._frame.iloc[:, self.names[header]].tolist()

    def at(self, row: int) -> Mapping[str, object]:
        return _Row(self, row)


class _Row(Mapping):
    def __init__(self, rows: _Rows, row: int) -> None:
        self._rows, self._row = rows, row

    def __getitem__(self, header: str) -> object:
        return self._rows.column(header)[self._row]

    def __iter__(self):
        return iter(self._rows.names)

    def __len__(self) -> int:
        return len(self._rows.names)


def dump(found: Mapping[str, Counted]) -> str:
    """What `HOLDER` holds for one row."""
    return json.dumps({name: [c.value, c.how, c.misread] for name, c in found.items()})


def _held(frame: pd.DataFrame) -> dict[int, dict[str, Counted]]:
    """Row -> what its configuration gives."""
    if HOLDER not in frame:
        return {}
    read: dict[str, dict[str, Counted]] = {}
    held = {}
    for row, text in enumerate(frame[HOLDER]):
        if isinstance(text, str) and text:
            if text not in read:
                read[text] = {name: Counted(*said) for name, said in json.loads(text).items()}
            held[row] = read[text]
    return held


def _ratios(logged: np.ndarray, held: Mapping[int, Mapping[str, Counted]], name: str) -> tuple[np.ndarray, int, str]:
    """Logged over counted values, their number, and what the first was counted from."""
    pairs = [(logged[i], row[name]) for i, row in held.items() if name in row and not row[name].how.startswith("from ")]
    good = [(a / c.value, c.how) for a, c in pairs if math.isfinite(a) and a > 0 and c.value > 0]
    return np.array([ratio for ratio, _ in good]), len(good), good[0][1] if good else ""


def _late(name: str, row: Mapping[str, Counted]) -> bool:
    """Whether steps and batches know better: a number of tokens that was only planned."""
    return name == "tokens" and name in row and row[name].how.endswith(PLANNED)


def _replaces(frame: pd.DataFrame, row: Mapping[str, Counted], name: str) -> bool:
    c = row[name]
    if c.misread is None or c.misread == c.value or name not in frame:
        return False
    return bool((frame[name] == c.misread).any())


def _filled(frame: pd.DataFrame, notes: dict[str, str], name: str, counted: Mapping[int, Counted]) -> pd.DataFrame:
    old = frame[name].to_numpy(float, copy=True) if name in frame else np.full(len(frame), np.nan)
    new = old.copy()
    said: dict[str, int] = {}
    for i, c in counted.items():
        wrong = c.misread is not None and old[i] == c.misread != c.value
        if wrong or (math.isnan(old[i]) and math.isfinite(c.value)):
            new[i] = c.value
            if math.isfinite(c.value):
                said[c.how] = said.get(c.how, 0) + 1
    if np.array_equal(old, new, equal_nan=True):
        return frame
    rows = sum(said.values())
    if rows:
        how = "; ".join(list(said)[:3]) + ("; ..." if len(said) > 3 else "")
        given = rows < len(frame)
        derived = all(h.startswith("from ") for h in said)
        note = how if derived else f"derived in {rows} of {len(frame)} rows: {how}" if given else f"derived: {how}"
        kept = notes.get(name) if not np.isnan(old).all() and rows < int(np.isfinite(new).sum()) else None
        notes[name] = f"{kept}; {note}" if kept else note
    return frame.assign(**{name: new})
