"""Text logs of unknown programs, where most lines are one sentence with other numbers: ``step=100 loss=2.31``."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from workbench.runs.curves import is_step
from workbench.runs.headers import read_header
from workbench.runs.readers.base import LoadError, Log, Reader, read_text
from workbench.runs.readers.megatron import Megatron
from workbench.runs.readers.nanogpt import NanoGPT
from workbench.runs.text_pattern import clock, measured
from workbench.runs.text_shapes import MARK, Lines, Slot, collect, left_out, read_lines

__all__ = ["TextLog"]

_M = re.escape(MARK)
#: What loggers put before a line: times, levels, ranks in brackets.
_PREFIX = re.compile(
    rf"(?:\s*(?:\[[^\[\]]*\]:?|{_M}[-/]{_M}[-/]{_M}(?:[ T]|T\d\d:)?(?:{_M}:)*{_M}(?:[,.]{_M})*Z?"
    rf"|{_M}:{_M}:{_M}(?:[,.]{_M})?|(?:INFO|DEBUG|WARNING)\b:?|[-|>]+(?=\s)))*\s*"
)
#: One value: name, number, total, unit.
_PAIR = re.compile(
    r"([A-Za-z_][\w./@-]*(?: [A-Za-z_][\w./@-]*){0,3}(?: \([A-Za-z/%]+\))?)(?:\s*[:=]\s*|\s+)"
    rf"\[?{_M}(?:\s*/\s*{_M}|\s+of\s+{_M})?\]?(ms|s|%|[KMBT])?(?![\w/(=])"
)
_BETWEEN = re.compile(r"\s*[,;|]\s*|\s+-+\s+|\s+")
_END = re.compile(r"\s*[.,;|]?\s*")
_FACTORS = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
_TABLES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
#: A shape counts from so many lines on, and the file is a log if they make up this share of it.
_LEAST = 3
_SHARE = 0.5


class TextLog(Reader):
    """Lines of names and numbers that repeat, with a step or epoch in each; or columns of numbers between blanks.

    Strict: most lines must have such a shape, and steps must grow. Other text logs are loaded with a pattern,
    `workbench.load(path, pattern="step {step} loss {loss}")`. Columns without a header are called ``column 2``,
    ``column 3``, ..., and the first, if it counts evenly, ``step``.
    """

    name = "text log"

    def sniff(self, path: Path, head: bytes) -> bool:
        if (
            path.name.lower().endswith(_TABLES)
            or b"\x00" in head
            or b"\n" not in head
            or (head[:1] in (b"{", b"[") and b'"' in head[:64])
        ):
            return False
        if NanoGPT().sniff(path, head) or Megatron().sniff(path, head):
            return False
        lines = read_lines(head[: head.rfind(b"\n") + 1].decode("utf-8-sig", "replace"))
        return _sentences(lines) is not None or _table(lines) is not None

    def read(self, path: Path) -> Log:
        text, messages = read_text(path)
        lines = read_lines(text)
        skipped = left_out(lines.torn, (), messages)
        slots = _sentences(lines)
        if slots is None:
            table = _table(lines)
            if table is None:
                raise LoadError(
                    "most of its lines are of no common shape; say what they look like, with "
                    "pattern='step {step} loss {loss}'"
                )
            return _table_log(lines, *table, messages, skipped)
        found = {shape: [slot._replace(column=_own(slot.column)) for slot in parts] for shape, parts in slots.items()}
        records = collect(lines, found)
        blank = np.array([not shape.strip() for shape in lines.shapes])
        others = int((~blank[lines.code]).sum()) - records.line.size
        if others:
            messages.append(f"{others} lines of other shapes were left out; pattern= takes lines of any shape")
            skipped["lines of other shapes"] = others
        columns = {_duration(key[1:], *found): found for key, found in records.columns.items()}
        return measured(records.line, columns, messages, skipped)


def _duration(name: str, at: np.ndarray, values: np.ndarray) -> str:
    """A time that does not grow from line to line is that of one step, and not the training time."""
    reading = read_header(name)
    if reading is None or reading.name != "seconds" or (values.size > 1 and (np.diff(values) > 0).mean() > 0.9):
        return name
    return f"step {name}"


def _own(name: str) -> str:
    """A column's name while it is collected, where ``step`` means something."""
    return f"_{name}"


def _sentences(lines: Lines) -> dict[int, list[Slot]] | None:
    """Shapes of names and numbers with a step among them, None if they are not most of the text."""
    counts = np.bincount(lines.code, minlength=len(lines.shapes)) if lines.code.size else np.empty(0, dtype=int)
    written = sum(int(n) for n, shape in zip(counts, lines.shapes, strict=True) if shape.strip())
    alike: Counter[str] = Counter()
    parsed: dict[int, tuple[str, list[Slot]]] = {}
    for shape, text in enumerate(lines.shapes):
        if MARK not in text or len(text) > 2000:
            continue
        slots = _pairs(text)
        if slots is not None and len(slots) > 1 and clock(slot.column for slot in slots) is not None:
            key = " ".join(f"{slot.column}{slot.place}" for slot in slots)
            alike[key] += int(counts[shape])
            parsed[shape] = (key, slots)
    used = {shape: slots for shape, (key, slots) in parsed.items() if alike[key] >= _LEAST}
    if not used or sum(int(counts[shape]) for shape in used) < _SHARE * written:
        return None
    return used if _grows(lines, used) else None


def _grows(lines: Lines, slots: dict[int, list[Slot]]) -> bool:
    """Whether the steps take several values and seldom fall, as those of a training do."""
    clocks = {}
    for shape, parts in slots.items():
        name = clock(slot.column for slot in parts)
        clocks[shape] = [Slot("step", next(slot.place for slot in parts if slot.column == name))]
    step = collect(lines, clocks).step
    rises = np.diff(step)
    return bool(np.unique(step).size >= _LEAST and (rises < 0).mean() < 0.2)


def _pairs(shape: str) -> list[Slot] | None:
    """The values of a line that consists of nothing but names and numbers."""
    prefix = _PREFIX.match(shape)
    at = prefix.end()
    place = shape.count(MARK, 0, at)
    slots: dict[str, Slot] = {}
    while at < len(shape):
        pair = _PAIR.match(shape, at)
        if pair is None:
            return None
        name, unit = " ".join(pair[1].split()), pair[2] or ""
        factor = _FACTORS.get(unit, 1.0)
        header = name if not unit or unit in _FACTORS else f"{name} ({unit})"
        slots.setdefault(header, Slot(header, place, factor))
        place += pair[0].count(MARK)
        at = pair.end()
        if _END.fullmatch(shape, at):
            break
        between = _BETWEEN.match(shape, at)
        if between is None:
            return None
        at = between.end()
    return list(slots.values()) or None


def _table(lines: Lines) -> tuple[int, list[str]] | None:
    """Line of the first row and headers, if the text is columns of numbers between blanks, with a header or without."""
    rows = np.array([re.fullmatch(rf" *{_M}(?: +{_M})+ *", shape) is not None for shape in lines.shapes])
    if not lines.code.size or not rows.any():
        return None
    is_row = rows[lines.code]
    blank = np.array([not shape.strip() for shape in lines.shapes])[lines.code]
    start = int(is_row.argmax())
    widths = {lines.shapes[code].count(MARK) for code in np.unique(lines.code[start:][is_row[start:]])}
    if is_row.sum() < _LEAST or not (is_row | blank)[start:].all() or len(widths) != 1:
        return None
    width = widths.pop()
    above = [lines.shapes[lines.code[i]] for i in range(start) if not blank[i]]
    if len(above) > 20 or any(not line.lstrip().startswith("#") for line in above[:-1]):
        return None
    if above:
        words = above[-1].lstrip("# ").split()
        named = len(words) == width == len(set(words)) and all(re.fullmatch(r"[A-Za-z_][\w./()-]*", w) for w in words)
        if named or not above[-1].lstrip().startswith("#"):
            return (start, words) if named else None
    first = lines.values[lines.first[np.flatnonzero(is_row)]]
    gaps = np.unique(np.diff(first))
    even = gaps.size == 1 and gaps[0] > 0 and (first == first.round()).all()
    return (start, ["step", *(f"column {i}" for i in range(2, width + 1))]) if even else None


def _table_log(lines: Lines, start: int, headers: list[str], messages: list[str], skipped: dict[str, int]) -> Log:
    rows = np.array([MARK in shape for shape in lines.shapes])[lines.code]
    line = np.flatnonzero(rows[start:]) + start
    cells = {name: lines.values[lines.first[line] + i] for i, name in enumerate(headers)}
    if headers[-1] == f"column {len(headers)}":
        messages.append(
            "it has no header: name its columns with columns={'loss': 'column 2'}, or with "
            "pattern='{epoch} {train_acc} {val_acc}'"
        )
    if not any(is_step(name) for name in headers) and clock(headers) is None:
        return Log(pd.DataFrame(cells), messages=messages, read=line.size, skipped=skipped)
    columns = {name: (np.arange(line.size), values) for name, values in cells.items()}
    return measured(line, columns, messages, skipped)
