"""Text logs at speed: every line as its shape and its numbers.

A training log repeats a few sentences with other numbers in them. The numbers are cut out of the whole text at
once; what is left of a line is its *shape*. Only shapes are ever parsed, and a log has few; which number
of a line means what then follows for all lines of that shape together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from workbench.runs.headers import read_header

__all__ = [
    "MARK",
    "NUMBER",
    "Lines",
    "Records",
    "Slot",
    "TextRun",
    "collect",
    "left_out",
    "read_lines",
    "split",
]

#: Stands in a shape for each number.
MARK = "\x00"
#: A number as programs print it. After a word or a point it is part of a name (``v100``) or version (``1.2.3``);
#: ``nan`` may be followed by a unit, as in ``nanms``.
NUMBER = (
    r"(?<![\w.])[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
    r"|(?i:nan|inf(?:inity)?)(?=(?:ms|s|z|x)?(?![A-Za-z0-9_])))"
)
#: What is said of a text whose last line has no newline.
_TORN = "the last line has no newline, so that it may be cut off, and was left out; add a newline if the log is whole"

_NUMBER = re.compile(f"({NUMBER})")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
#: Characters taken at a time; bounds the memory for the pieces of text.
_CHUNK = 1 << 23
#: If more than this share of steps are smaller than the one before, the log is no restarted run but out of order.
_DISORDER = 0.05


@dataclass
class Lines:
    """A text as shapes and numbers.

    Attributes:
        shapes: the distinct lines, with `MARK` for each number.
        code: which shape each line has, ``[lines]``.
        first: where in `values` each line's first number is, ``[lines]``.
        values: all numbers of the text in order.
        torn: whether the text ends within a line; that line is left out.
    """

    shapes: list[str]
    code: np.ndarray
    first: np.ndarray
    values: np.ndarray
    torn: bool


class Slot(NamedTuple):
    """Number `place` of a shape times `factor` is the value of `column`."""

    column: str
    place: int
    factor: float = 1.0


@dataclass
class Records:
    """The lines that hold measurements.

    Attributes:
        line: their line numbers from 0, increasing, ``[n]``.
        step: the step each belongs to, ``[n]``.
        columns: metric -> (places in `line`, values there); a NaN that was logged is a value.
    """

    line: np.ndarray
    step: np.ndarray
    columns: dict[str, tuple[np.ndarray, np.ndarray]]


@dataclass
class TextRun:
    """One run within a text.

    Attributes:
        curve: `step` and a column for each metric, one row a line.
        final: last value of each metric; of a learning rate the largest, as it is the peak that names a run.
        lines: first and last line, from 0.
        dropped: lines that a restart from an earlier step made void.
    """

    curve: pd.DataFrame
    final: dict[str, float]
    lines: tuple[int, int]
    dropped: int = 0


def read_lines(text: str) -> Lines:
    """The lines of `text`; a carriage return ends a line too, colours are taken off."""
    if "\x1b" in text:
        text = _ESCAPES.sub("", text)
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = text.replace(MARK, " ")
    end = text.rfind("\n") + 1
    torn = end < len(text) and bool(text[end:].strip())
    known: dict[str, int] = {}
    codes, values = [np.empty(0, dtype=np.int64)], [np.empty(0)]
    start = 0
    while start < end:
        stop = end if start + _CHUNK >= end else text.find("\n", start + _CHUNK) + 1
        piece = text[start : stop - 1]
        parts = _NUMBER.split(piece)  # words and numbers in turn
        values.append(np.fromiter(map(float, parts[1::2]), float, len(parts) // 2))
        lines = MARK.join(parts[::2]).split("\n")
        for shape in dict.fromkeys(lines):
            known.setdefault(shape, len(known))
        codes.append(np.fromiter(map(known.__getitem__, lines), np.int64, len(lines)))
        start = stop
    code = np.concatenate(codes)
    counts = np.array([shape.count(MARK) for shape in known], dtype=np.int64)
    first = np.concatenate([[0], np.cumsum(counts[code])])[:-1] if code.size else code
    return Lines(list(known), code, first, np.concatenate(values), torn)


def collect(lines: Lines, slots: Mapping[int, list[Slot]], *, carried: frozenset[int] = frozenset()) -> Records:
    """The records of the shapes in `slots`.

    Args:
        lines: the text.
        slots: shape -> where its values are; one column is called ``step``.
        carried: shapes without a step of their own: they belong to the step last seen, 0 before any.
    """
    wanted = np.zeros(len(lines.shapes), dtype=bool)
    wanted[[*slots]] = True
    line = np.flatnonzero(wanted[lines.code]) if lines.code.size else np.empty(0, dtype=np.int64)
    code = lines.code[line]
    step = np.full(line.size, np.nan)
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for shape, parts in slots.items():
        at = np.flatnonzero(code == shape)
        for slot in parts:
            values = lines.values[lines.first[line[at]] + slot.place]
            # 227 ms are 0.227 s, which is 227 / 1000 and not 227 x 0.001 to the last digit
            values = values * slot.factor if slot.factor >= 1 else values / (1 / slot.factor)
            if slot.column == "step":
                step[at] = values
            else:
                found.setdefault(slot.column, []).append((at, values))
    if carried:
        own = ~np.isin(code, [*carried])
        seen = np.maximum.accumulate(np.where(own, np.arange(line.size), -1))
        step = np.where(seen >= 0, step[np.maximum(seen, 0)], 0.0)
    columns = {}
    for name, pieces in found.items():
        at = np.concatenate([piece[0] for piece in pieces])
        order = np.argsort(at, kind="stable")
        columns[name] = (at[order], np.concatenate([piece[1] for piece in pieces])[order])
    return Records(line, step, columns)


def split(records: Records) -> list[TextRun]:
    """The runs in a text, one after the other.

    A run begins where the step falls back to the first step of the run before, or below. Where it falls back to a
    later one, the run was restarted from there: what it had logged from that step on is dropped.
    """
    usable = np.flatnonzero(np.isfinite(records.step))
    if not usable.size:
        return []
    step = records.step[usable]
    falls = np.flatnonzero(np.diff(step) < 0) + 1
    orderly = falls.size <= max(1, _DISORDER * step.size)
    keep = np.ones(step.size, dtype=bool)
    begins = [0]
    for place in falls:
        if step[place] <= step[begins[-1]]:
            begins.append(int(place))
        elif orderly:
            earlier = slice(begins[-1], place)
            keep[earlier] &= step[earlier] < step[place]
    runs = []
    for begin, end in zip(begins, [*begins[1:], step.size], strict=True):
        rows = usable[begin:end][keep[begin:end]]
        runs.append(_run(records, rows, (int(usable[begin]), int(usable[end - 1])), end - begin - rows.size))
    return runs


def left_out(torn: bool, runs: Sequence[TextRun], messages: list[str]) -> dict[str, int]:
    """What of a text is in none of its runs: reason -> lines; `messages` gets the sentences.

    Args:
        torn: whether the last line has no newline.
        runs: from `split`; empty where they are not known yet.
        messages: appended to.
    """
    skipped = {}
    if torn:
        messages.append(_TORN)
        skipped["a last line without a newline"] = 1
    dropped = sum(run.dropped for run in runs)
    if dropped:
        messages.append(f"{dropped} lines were dropped because the run was restarted from an earlier step")
        skipped["made void by a restart"] = dropped
    if len(runs) > 1:
        messages.append(f"it holds {len(runs)} runs, as the steps begin again {len(runs) - 1} times")
    return skipped


def _run(records: Records, rows: np.ndarray, ends: tuple[int, int], dropped: int) -> TextRun:
    step = records.step[rows]
    data, final = {"step": step}, {}
    for name, (at, values) in records.columns.items():
        place = np.searchsorted(rows, at)
        mine = (place < rows.size) & (rows[np.minimum(place, rows.size - 1)] == at)
        if not mine.any():
            continue
        data[name] = np.full(rows.size, np.nan)
        data[name][place[mine]] = values[mine]
        reading = read_header(name)
        rate = reading is not None and reading.name == "lr" and np.isfinite(values[mine]).any()
        final[name] = float(np.nanmax(values[mine]) if rate else values[mine][-1])
    final["steps"] = float(step.max())
    return TextRun(pd.DataFrame(data), final, (int(records.line[ends[0]]), int(records.line[ends[1]])), dropped)
