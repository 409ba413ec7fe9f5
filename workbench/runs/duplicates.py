"""The same run under two names: found by equal curves, or by equal settings and equal final metrics."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from workbench.runs.headers import normalise
from workbench.units import QUANTITIES

if TYPE_CHECKING:
    from workbench.runs.table import RunTable

__all__ = ["duplicates", "duplicates_message"]

#: What tells two copies of one run apart without making them two runs: names, places, clocks.
_BOOKKEEPING = re.compile(
    r"(^|[ ._/])(run|runs|id|ids|uid|uuid|hash|name|names|title|group|display|experiment|logged|problem|tag|tags|"
    r"notes?|time|timestamp|timestamps|date|datetime|created|started|start|finished|ended|updated|heartbeat|runtime|duration|"
    r"seconds|walltime|wall|host|hostname|node|pid|user|username|author|email|path|paths|dir|dirs|directory|folder|file|"
    r"files|filename|url|uri|output|save|log|logs|resume|cluster|status|state|git|commit|job)($|[ ._/])"
)
_METRIC = re.compile(
    r"(^|[ ._/])(loss|losses|nll|ce|entropy|ppl|perplexity|bpb|bpc|bits|acc|accuracy|err|error|mse|mae|auc|bleu|rouge|"
    r"f1|score|reward|return|elo|kl|val|valid|validation|eval|test|train)($|[ ._/])"
)
#: A curve of fewer points, or of one value only, proves nothing.
_POINTS = 3
#: Runs whose curves are looked at while loading; `duplicates` looks at all.
_AT_LOAD = 64


def duplicates(runs: RunTable) -> tuple[tuple[str, ...], ...]:
    """Groups of runs that are one run under several names.

    Two runs are the same if their curves are equal (same steps, and the same values of every metric to the last
    digit, at three points or more, clocks aside), or if all their settings and all their final metrics are. Names,
    paths, times and machines are no settings. Seeds that differ in a single digit of the loss are replicates, not
    duplicates. Only runs that end in the same numbers have their curves compared, by a hash.

    Returns:
        The groups in the order of the table, each with the ids of two runs or more; empty where every run is its own.
    """
    return _groups(runs, None)


def duplicates_message(runs: RunTable) -> list[str]:
    """One sentence if runs occur twice, for loading; looks at a bounded number of curves."""
    groups = _groups(runs, _AT_LOAD)
    if not groups:
        return []
    shown = "; ".join(" = ".join(repr(run) for run in group[:3]) for group in groups[:3])
    more = "; ..." if len(groups) > 3 else ""
    twice = "1 run is" if len(groups) == 1 else f"{len(groups)} runs are"
    return [f"{twice} there under more than one name ({shown}{more}); see duplicates(), and drop(...) the copies"]


def _groups(runs: RunTable, most: int | None) -> tuple[tuple[str, ...], ...]:
    if len(runs) < 2:
        return ()
    frame = runs.frame
    columns = [c for c in frame.columns if c not in ("run", "problem") and _BOOKKEEPING.search(normalise(c)) is None]
    measured = _measured(frame, columns)
    ids = runs.ids
    same = _Classes(len(ids))
    # settings and metrics alike; a row that measured nothing says nothing
    for rows in _equal(frame, columns, measured):
        same.join(rows)
    looked = 0
    ends = [c for c in ("loss", "steps") if c in columns] if "loss" in measured else measured
    for rows in _equal(frame, ends, measured):
        rows = [row for row in rows if ids[row] in runs.curves]
        if len({same.of(row) for row in rows}) < 2:
            continue
        if most is not None and looked + len(rows) > most:
            continue
        looked += len(rows)
        seen: dict[bytes, int] = {}
        for row in rows:
            digest = _digest(runs, ids[row])
            if digest is not None:
                same.join([seen.setdefault(digest, row), row])
    return tuple(tuple(ids[row] for row in rows) for rows in same.groups())


def _measured(frame: pd.DataFrame, columns: list[str]) -> list[str]:
    """Columns that a run ends with rather than starts with: the loss, else what is called like a metric."""
    if "loss" in columns and frame["loss"].notna().any():
        return ["loss"]
    numbers = frame[columns].select_dtypes("number").columns
    return [c for c in numbers if c not in QUANTITIES and _METRIC.search(normalise(c)) is not None]


def _equal(frame: pd.DataFrame, columns: list[str], measured: list[str]) -> Iterable[list[int]]:
    """Rows, two or more, that agree in all of these columns, and measured something."""
    if not columns or not measured:
        return
    some = np.isfinite(frame[measured].to_numpy(float)).any(axis=1)
    rows = np.flatnonzero(some)
    if rows.size < 2:
        return
    part = frame.iloc[rows][columns]
    codes = np.stack([pd.factorize(part[c], use_na_sentinel=True)[0] for c in columns], axis=1)
    _, group = np.unique(codes, axis=0, return_inverse=True)
    group = group.ravel()
    counts = np.bincount(group)
    for found in np.flatnonzero(counts > 1):
        yield rows[group == found].tolist()


def _digest(runs: RunTable, run: str) -> bytes | None:
    """What two equal curves have in common, None for a curve that proves nothing or cannot be read."""
    try:
        curve = runs.curves[run]
    except Exception:  # a file that has gone or was damaged since
        return None
    metrics = [
        c for c in sorted(curve.columns, key=str) if c != "step" and _BOOKKEEPING.search(normalise(str(c))) is None
    ]
    metrics = [c for c in metrics if curve[c].nunique() > 1]  # a constant is a setting, written down at every step
    if len(curve) < _POINTS or not any(curve[c].nunique() >= _POINTS for c in metrics):
        return None
    hasher = hashlib.blake2b(digest_size=16)
    for name in ("step", *metrics):
        hasher.update(f"{name}\0".encode("utf-8", "backslashreplace"))
        values = np.ascontiguousarray(curve[name].to_numpy(float)) + 0.0  # -0 is 0
        values[np.isnan(values)] = np.nan  # one bit pattern for all of them
        hasher.update(values.tobytes())
    return hasher.digest()


class _Classes:
    """Rows put together, also by way of others."""

    def __init__(self, n: int) -> None:
        self._parent = list(range(n))

    def of(self, row: int) -> int:
        while self._parent[row] != row:
            self._parent[row] = self._parent[self._parent[row]]
            row = self._parent[row]
        return row

    def join(self, rows: Iterable[int]) -> None:
        first, *others = sorted(self.of(row) for row in rows)
        for other in others:
            self._parent[self.of(other)] = self.of(first)

    def groups(self) -> list[list[int]]:
        found: dict[int, list[int]] = {}
        for row in range(len(self._parent)):
            found.setdefault(self.of(row), []).append(row)
        return [rows for rows in found.values() if len(rows) > 1]
