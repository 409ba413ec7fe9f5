"""One log, once read, as canonical rows: names, numbers, ids, and curves folded into their runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from workbench.runs.cells import Cells, text
from workbench.runs.columns import TEXT, Column, resolve
from workbench.runs.curves import is_one_curve, last_given, settle, tidy
from workbench.runs.headers import normalise
from workbench.runs.readers.base import Log
from workbench.units import QUANTITIES

__all__ = ["Part", "interpret", "unreadable"]

#: Headers that may hold a run's id, best first.
_IDS = ("run", "run id", "id", "name", "run name", "experiment")


@dataclass
class Part:
    """The runs of some logs: canonical columns, `run` and `problem` among them, and how they came about.

    `curves` is keyed by row; `order` gives the place of each row's log among all, empty if they share one. `named`
    says which header became which column, `reason` why the log could not be read.
    """

    frame: pd.DataFrame
    curves: dict[int, Callable[[], pd.DataFrame]] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    attributes: dict[str, Any] = field(default_factory=dict)
    order: list[int] = field(default_factory=list)
    named: tuple[Column, ...] = ()
    reason: str = ""


def unreadable(label: str, reason: str) -> Part:
    """A log that cannot be read, as one marked row."""
    frame = pd.DataFrame({"run": [label], "problem": [f"cannot be read: {reason}"]}, dtype="str")
    return Part(frame, reason=reason)


def interpret(log: Log, label: str | list[str], columns: Mapping[str, Any], *, numbered: bool = False) -> Part:
    """The runs in `log`.

    Args:
        log: what a reader found.
        label: names runs without an id: ``label`` for a single one, else ``label:0``, ``label:1``, ...;
            or a name for each row.
        columns: the user's decisions about headers that this log has.
        numbered: whether a single run is ``label:0`` too.

    Returns:
        A `Part`; ids are not yet unique.

    Raises:
        ValueError: headers are ambiguous.
    """
    raw = log.frame
    cells = Cells(raw)
    resolution = resolve(list(raw.columns), {**_stored(log, columns), **columns}, cells)
    part = Part(
        pd.DataFrame(), units=dict(log.units), messages=[*log.messages, *resolution.messages], attributes=log.attributes
    )
    identity = _identity(resolution.columns, cells, labelled=isinstance(label, list))
    data: dict[str, np.ndarray] = {}
    bad: dict[str, np.ndarray] = {}
    kept: list[Column] = []
    for column in resolution.columns:
        if column is identity or column.name == "problem":
            continue
        if column.name == "run":  # an id that was passed over, as it repeats
            column = Column(column.source, "run_logged", 1.0, f"from {column.source!r}")
        kept.append(column)
        data[column.name], wrong = _convert(column, cells)
        if wrong.any():
            bad[column.name] = wrong
    part.notes = {c.name: c.note for c in kept if c.note} | log.notes
    part.named = tuple(c for c in kept if c.source != c.name or c.factor != 1)
    if identity is not None and identity.source != "run":
        part.named = (Column(identity.source, "run"), *part.named)
    frame = pd.DataFrame(data, index=range(len(raw)))
    problem = np.array([log.problems.get(i, "") for i in range(len(raw))], dtype=object)
    stored = next((c for c in resolution.columns if c.name == "problem"), None)
    if stored is not None:
        given = cells.given(stored.source)
        problem = np.array(
            [text(c) if g else p for c, g, p in zip(raw[stored.source], given, problem, strict=True)], dtype=object
        )
    sources = {c.name: c.source for c in kept}

    groups = None if log.settled else _groups(frame, identity, cells)
    if groups is None:
        ids = _ids(identity, cells, label, numbered)
        part.frame = frame
        part.curves = {row: _later(log.curves, row, columns) for row in range(len(raw)) if row in log.curves}
        final = {name: np.arange(len(raw)) for name in data}
    else:
        problem = np.array([problem[rows[-1]] for rows in groups.values()], dtype=object)
        # a checkpoint whose last number may be torn is no point of a curve
        torn = [row for row, why in log.problems.items() if "cut off" in why]
        groups = {run: rows[~np.isin(rows, torn)] if len(rows) > 1 else rows for run, rows in groups.items()}
        ids, final = _fold(part, frame, groups, sources, cells, str(label))
    part.frame.insert(0, "run", pd.Series(ids, index=part.frame.index, dtype="str"))
    for name, wrong in bad.items():
        for row, position in enumerate(final[name]):
            if wrong[position]:
                cell = text(raw[sources[name]].iloc[position])[:40]
                sentence = f"{name} is {cell!r}, which is not a number"
                problem[row] = f"{problem[row]}; {sentence}" if problem[row] else sentence
        if groups is not None:
            part.messages.append(f"{wrong.sum()} cells of {sources[name]!r} are not numbers and count as NaN")
    part.frame["problem"] = pd.Series(problem, index=part.frame.index, dtype="str")
    return part


def _stored(log: Log, columns: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in log.columns.items() if name not in columns}


def _convert(column: Column, cells: Cells) -> tuple[np.ndarray, np.ndarray]:
    """Values of one column, and where a given cell is no number although the quantity is one."""
    if column.name in QUANTITIES and column.name not in TEXT:
        values, wrong = cells.numbers(column.source)
        with np.errstate(over="ignore"):
            return values * column.factor, wrong
    values = cells.value(column.source)
    if column.factor != 1 and values.dtype == float:
        values = values * column.factor
    return values, np.zeros(len(values), dtype=bool)


def _identity(columns: list[Column], cells: Cells, labelled: bool) -> Column | None:
    """The column that names the runs: of those called so, a unique one, else one of words.

    Where each row has a label anyway, a name that all rows share names none of them.
    """
    named = {}
    for column in columns:
        key = column.name if column.name == "run" else normalise(column.source)
        if key in _IDS and column.name not in QUANTITIES and cells.given(column.source).any():
            named.setdefault(key, column)
    candidates = [named[key] for key in _IDS if key in named]
    if labelled and len(cells.frame) > 1:
        candidates = [c for c in candidates if cells.frame[c.source].nunique() > 1]
    unique = [c for c in candidates if len(set(map(text, cells.frame[c.source]))) == len(cells.frame)]
    words = [c for c in candidates if cells.numbers(c.source)[1].any()]
    steps = any(c.name == "step" for c in columns)
    if steps:  # checkpoints repeat their run's id, so that uniqueness is no virtue
        return next(iter(words or candidates), None)
    return next(iter(unique or words), None)


def _ids(identity: Column | None, cells: Cells, label: str | list[str], numbered: bool) -> list[str]:
    n = len(cells.frame)
    if isinstance(label, list):
        spare = label
    else:
        width = len(str(n - 1))
        spare = [label] if n == 1 and not numbered else [f"{label}:{i:0{width}d}" for i in range(n)]
    if identity is None:
        return spare
    given = cells.given(identity.source)
    column = cells.frame[identity.source]
    return [text(c) if g else s for c, g, s in zip(column, given, spare, strict=True)]


def _groups(frame: pd.DataFrame, identity: Column | None, cells: Cells) -> dict[str | None, np.ndarray] | None:
    """Row positions of each run if rows are checkpoints, None if each row is a run."""
    if identity is None:
        return {None: np.arange(len(frame))} if is_one_curve(frame) else None
    if "step" not in frame:
        return None
    column = cells.frame[identity.source]
    ids = pd.Series([text(c) for c in column])
    if ids.is_unique:
        return None
    return {run: rows.to_numpy() for run, rows in ids.groupby(ids, sort=False).groups.items()}


def _fold(
    part: Part,
    frame: pd.DataFrame,
    groups: Mapping[str | None, np.ndarray],
    sources: Mapping[str, str],
    cells: Cells,
    label: str,
) -> tuple[list[str], dict[str, list[int]]]:
    """Fill `part` with one row for each group: its last values; the rows themselves become curves.

    Returns:
        The ids, and for each column the position its value was taken from.
    """
    ids: list[str] = []
    final: dict[str, list[int]] = {name: [] for name in frame.columns}
    rows_of = []
    numeric = frame.select_dtypes("number").columns
    for run, rows in groups.items():
        steps = frame["step"].to_numpy()[rows]
        known = steps[np.isfinite(steps)]
        order = rows if (np.diff(known) >= 0).all() else rows[np.argsort(steps, kind="stable")]
        ids.append(label if run is None else run)
        row = {}
        for name in frame.columns:
            position = last_given(cells.given(sources[name]), order)
            final[name].append(position)
            row[name] = frame[name].iloc[position]
        row.setdefault("steps", np.nanmax(steps) if known.size else np.nan)
        if "lr" in frame and frame["lr"].iloc[rows].notna().any():
            row["lr"] = frame["lr"].iloc[rows].max()
        rows_of.append(row)
        changing = [c for c in numeric if c != "step" and frame[c].iloc[rows].notna().any()]
        curve = settle(frame[["step", *changing]].iloc[rows])
        part.curves[len(ids) - 1] = lambda curve=curve: curve
    part.frame = pd.DataFrame(rows_of, index=range(len(rows_of))).drop(columns="step")
    if "steps" not in frame:
        part.notes["steps"] = f"last {sources['step']!r} of the curve"
    if "lr" in frame:
        part.notes["lr"] = f"largest {sources['lr']!r} of the curve"
    part.notes.pop("step", None)
    return ids, final


def _later(curves: Mapping[int, pd.DataFrame], row: int, columns: Mapping[str, Any]) -> Callable[[], pd.DataFrame]:
    return lambda: tidy(curves[row], columns)
