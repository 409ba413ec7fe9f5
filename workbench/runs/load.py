"""`load`: from whatever a person has to one `RunTable`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workbench.runs import checks, statements
from workbench.runs.cache import Shelf
from workbench.runs.columns import TEXT, check_columns, claimed, nearest
from workbench.runs.curves import Curves
from workbench.runs.defaults import complete
from workbench.runs.duplicates import duplicates_message
from workbench.runs.interpret import Part, interpret, unreadable
from workbench.runs.readers.base import LoadError, Log
from workbench.runs.report import Provenance
from workbench.runs.sources import Source, gather
from workbench.runs.table import RunTable, arrange
from workbench.runs.text_pattern import TextPattern
from workbench.units import QUANTITIES

__all__ = ["LoadError", "load"]


def load(
    source: Any,
    columns: Mapping[str, Any] | None = None,
    *,
    name: str = "run",
    pattern: str | Sequence[str] | None = None,
    cache: bool = True,
) -> RunTable:
    """Training runs from logs, as one table with canonical names and units.

    Args:
        source: a path to a file, folder or run folder; a glob pattern; a DataFrame; a RunTable (returned
            as it is); or a list of any of these. Formats are told by content.
        columns: which header is which quantity where the program cannot know, ``{"params": "Model Size"}``;
            with a factor ``{"tokens": ("D", 1e9)}``; a name of your own renames the column.
        name: what runs of a DataFrame without ids are called: ``run:0``, ``run:1``, ...
        pattern: what the lines of a text log look like, ``"step {step} loss {loss}"``, or a list of such patterns; see
            `workbench.runs.text_pattern.TextPattern`, and `workbench.runs.text_pattern.preview` to try one. In a
            folder it is for the text files in whose first 64 KiB a line fits.
        cache: whether a load that takes long leaves what it read in the user's cache folder, and takes from there what
            has not changed; see `workbench.runs.cache`.

    Returns:
        A `RunTable`. A run that is bad (missing, negative or unreadable) is a row with a `problem`;
        `messages` says what was skipped, renamed or chosen.

    Raises:
        FileNotFoundError: the path does not exist, or the pattern matches nothing.
        LoadError: the one file that was asked for cannot be read, or a folder holds no log.
        ValueError: two columns look like the same quantity, or `columns` names a header that is not there.
        TypeError: `source` or `columns` is of a kind that cannot be used.
    """
    decided = check_columns(columns)
    if isinstance(source, RunTable):
        if not decided:
            return source
        source = source.frame
    text = None if pattern is None else TextPattern(pattern)
    # what a pattern reads depends on the pattern
    sources, messages = gather(source, name, text, cache=cache and text is None, decided=bool(decided))
    complete(sources)
    if len(sources) == 1 and sources[0].error is not None:
        raise LoadError(f"cannot read {sources[0].path!r}: {sources[0].error}")
    _check_headers(sources, decided)
    parts = _parts(sources, decided)
    for shelf in dict.fromkeys(s.shelf for s in sources if s.shelf is not None):
        shelf.keep([s for s in sources if s.shelf is shelf], bool(decided))
    table = _assemble(parts, sources, messages)
    origin = Path(os.fspath(source)).expanduser() if isinstance(source, str | os.PathLike) else None
    if origin is None or not origin.exists():  # a frame, a list or a pattern is no one place
        return table
    said, trouble = statements.read(origin)
    return replace(
        table,
        origin=str(origin),
        attributes={**table.attributes, **said},
        messages=(*table.messages, *trouble),
    )


def _check_headers(sources: list[Source], decided: Mapping[str, Any]) -> None:
    """Every header in `columns=` must be in at least one log; single logs may lack it."""
    if not decided:  # looking at the headers of lazy curves would make them all
        return
    headers = dict.fromkeys(
        str(h) for s in sources for log in (s.log,) if log is not None for f in _frames(log) for h in f.columns
    )
    for header, _ in decided.values():
        if headers and header not in headers:
            raise ValueError(f"columns= names {header!r}, which is not in the log; {nearest(header, headers)}")


def _frames(log: Log) -> list[pd.DataFrame]:
    """The row headers, and the curve headers where the curves are in memory anyway."""
    return [log.frame, *(log.curves.values() if isinstance(log.curves, dict) else ())]


def _parts(sources: list[Source], decided: Mapping[str, Any]) -> list[Part]:
    """Every source as rows; logs of one run each are taken together where they have the same headers."""
    alone: list[tuple[int, Part]] = []
    batches: dict[frozenset, list[int]] = {}
    kept: dict[Shelf, dict[int, Source]] = {}
    for place, source in enumerate(sources):
        if source.table is not None:
            table = source.table
            makers = {row: _stored_curve(table, run) for row, run in enumerate(table.ids) if run in table.curves}
            said = (dict(table.units), dict(table.notes), list(table.messages), dict(table.attributes))
            alone.append((place, Part(table.frame, makers, *said, order=[place] * len(table))))
        elif source.error is not None:
            alone.append((place, _placed(unreadable(source.label, source.error), place)))
        elif source.entry is not None and source.entry["part"] is not None:
            kept.setdefault(source.shelf, {})[place] = source
        elif source.log.single and len(sources) > 1:
            # headers that name nothing may differ: a run lacks a metric that another has
            key = frozenset(h for h in source.log.frame.columns if claimed(h) is not None)
            batches.setdefault(key, []).append(place)
        else:
            part = _interpret(source, decided, alone=len(sources) == 1)
            if not (source.log.single or part.reason):  # a single row is interpreted with those it is loaded with
                source.part = part
            alone.append((place, _placed(part, place)))
    for shelf, held in kept.items():
        alone += shelf.parts(held)
    parts = [part for _, part in sorted(alone, key=lambda one: one[0])]
    for places in batches.values():
        group = [sources[place] for place in places]
        log = Log.together([source.log for source in group])
        try:
            part = interpret(log, [source.label for source in group], _for(log, decided))
            part.order = places
            parts.append(part)
        except ValueError:  # one of them may be at fault: each for itself
            parts += [_placed(_interpret(sources[place], decided, alone=False), place) for place in places]
    return parts


def _interpret(source: Source, decided: Mapping[str, Any], alone: bool) -> Part:
    try:
        part = interpret(source.log, source.label, _for(source.log, decided), numbered=source.numbered)
    except ValueError as error:
        if alone:
            raise
        return unreadable(source.label, str(error))
    if not len(part.frame):
        part.messages.append(f"{source.path or 'the table'} has a header but no rows")
    return part


def _placed(part: Part, place: int) -> Part:
    part.order = [place] * len(part.frame)
    return part


def _for(log: Log, decided: Mapping[str, Any]) -> dict[str, Any]:
    """The decisions about headers that `log` has."""
    headers = set(log.frame.columns)
    chosen = {name: value for name, value in decided.items() if value[0] in headers}
    return {name: header if factor is None else (header, factor) for name, (header, factor) in chosen.items()}


def _stored_curve(table: RunTable, run: str) -> Callable[[], pd.DataFrame]:
    return lambda: table.curves[run]


def _assemble(parts: list[Part], sources: list[Source], messages: list[str]) -> RunTable:
    """One table of all parts: columns united, ids made unique, values checked and derived."""
    order = np.argsort([place for part in parts for place in part.order], kind="stable")
    frame = _unite([part.frame for part in parts]).iloc[order].reset_index(drop=True)
    messages = [*messages, *(m for part in parts for m in part.messages), *checks.unique_ids(frame)]
    makers = [part.curves.get(row) for part in parts for row in range(len(part.frame))]
    curves = Curves({run: makers[i] for run, i in zip(frame["run"], order, strict=True) if makers[i] is not None})
    notes: dict[str, str] = {}
    for column in frame.columns:
        said = dict.fromkeys(part.notes[column] for part in parts if part.notes.get(column))
        if said:
            notes[column] = "; ".join(list(said)[:3]) + ("; ..." if len(said) > 3 else "")
    checks.mark_bad(frame)
    messages += checks.check_counting(frame)
    logged = frame
    frame = checks.derive_missing(frame, notes)
    checks.mark_missing(frame)
    stated = {key: unit for part in parts for key, unit in part.units.items()}
    table = RunTable(
        frame=arrange(frame),
        units=stated,
        notes=notes,
        messages=tuple(dict.fromkeys(messages)),
        sources=tuple(dict.fromkeys(s.path for s in sources if s.path)),
        curves=curves,
        attributes=_attributes(parts),
        provenance=_provenance(parts, sources, order, logged, frame),
    )
    return replace(table, messages=(*table.messages, *duplicates_message(table)))


def _provenance(
    parts: list[Part], sources: list[Source], order: np.ndarray, logged: pd.DataFrame, frame: pd.DataFrame
) -> dict[str, Provenance]:
    """Run id -> where it came from; runs of one log of which the same was derived share one object."""
    rows = [(part, row) for part in parts for row in range(len(part.frame))]
    filled = {
        name: frame[name].notna().to_numpy() & (logged[name].isna().to_numpy() if name in logged else True)
        for name in frame.columns
        if name not in ("run", "problem") and (name not in logged or frame[name] is not logged[name])
    }
    filled = {name: where for name, where in filled.items() if where.any()}
    logs = [source.provenance for source in sources]
    ids = [source.table.ids if source.table is not None else () for source in sources]
    made: dict[tuple, Provenance] = {}
    found = {}
    for i, (run, at) in enumerate(zip(frame["run"], order, strict=True)):
        part, row = rows[at]
        place = part.order[row]
        new = tuple(name for name, where in filled.items() if where[i])
        table = sources[place].table
        if table is not None:
            known = table.provenance.get(ids[place][row], Provenance())
            found[run] = replace(known, derived=tuple(dict.fromkeys((*known.derived, *new)))) if new else known
            continue
        key = (id(part), place, new)
        if key not in made:
            made[key] = replace(logs[place], names=part.named, derived=new, reason=part.reason or logs[place].reason)
        found[run] = made[key]
    return found


def _unite(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """All rows with the union of columns; a column is float64, bool, or text throughout."""
    rows = sum(map(len, frames))
    names = dict.fromkeys(name for frame in frames for name in frame.columns)
    data = {}
    for name in names:
        pieces = [frame[name].to_numpy(dtype=object) if name in frame else [None] * len(frame) for frame in frames]
        kinds = {frame[name].dtype.kind for frame in frames if name in frame and frame[name].notna().any()}
        whole = all(name in frame for frame in frames)
        cells = [cell for piece in pieces for cell in piece]
        if (name in QUANTITIES and name not in TEXT) or kinds <= set("fiu"):
            data[name] = np.array([np.nan if c is None else c for c in cells], dtype=float)
        elif kinds == {"b"} and whole:
            data[name] = np.array(cells, dtype=bool)
        else:
            blank = "" if name == "problem" else None
            data[name] = pd.Series([blank if c is None or c != c else str(c) for c in cells], dtype="str")
    frame = pd.DataFrame(data, index=range(rows))
    for name in ("run", "problem"):
        frame[name] = frame[name].astype("str") if name in frame else pd.Series("", index=frame.index, dtype="str")
    return frame


def _attributes(parts: list[Part]) -> dict[str, Any]:
    """Statements all parts agree on; one that only some make, or make differently, holds for none."""
    read = [part.attributes for part in parts]
    first = read[0] if read else {}
    return {key: value for key, value in first.items() if all(a.get(key) == value for a in read)}
