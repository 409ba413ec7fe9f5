"""Text logs of any program, by a pattern that the user writes: ``step {step} loss {loss}``."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workbench.runs.curves import is_step
from workbench.runs.headers import read_header
from workbench.runs.readers.base import LoadError, Log, Reader, peek, read_text
from workbench.runs.text_shapes import Records, TextRun, left_out, split
from workbench.units import parse_number

__all__ = ["TextPattern", "clock", "measured", "preview"]

_FIELD = re.compile(r"\{([^{}]*)\}")
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?i:nan|inf(?:inity)?)"
#: Thousands separators count only where no comma of the pattern stands next to the value.
_THOUSANDS = r"[+-]?\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|"
_WORD = r"[^\s,;|]+"
#: Lines looked at for near misses.
_LOOKED_AT = 200_000
_SHOWN = 200


@dataclass(frozen=True)
class _Part:
    """One pattern compiled: the expression, the names, and the expressions of its beginnings with what they lack."""

    regex: re.Pattern[str]
    names: tuple[str, ...]
    words: frozenset[str]
    beginnings: tuple[tuple[re.Pattern[str], str], ...]


class TextPattern(Reader):
    """What the lines of a text log look like.

    ``{name}`` stands for a number, as ``1.5e-3``, ``nan``, ``1,234`` or ``10.6M``; the name is read as a column
    header, so that ``{loss}``, ``{train_time (ms)}`` and ``{D}`` mean what they mean in a table. ``{name:word}``
    takes a word without blanks, for the name of a run, and ``{}`` anything. All else must stand in the line as
    written; blanks match any number of blanks. The pattern may fit any part of a line; one that begins with a value
    begins where the line does.

    Args:
        pattern: one pattern, or several for lines of different kinds.

    Raises:
        ValueError: it names no value, a name is used twice, or two values touch.
        TypeError: it is neither text nor a sequence of texts.
    """

    def __init__(self, pattern: str | Sequence[str]) -> None:
        patterns = [pattern] if isinstance(pattern, str) else pattern
        if not isinstance(patterns, Sequence) or not patterns or not all(isinstance(p, str) for p in patterns):
            raise TypeError("pattern= takes text such as 'step {step} loss {loss}', or a list of such texts")
        self.patterns = tuple(patterns)
        # on the instance, so that no pattern joins the registered readers; another pattern reads other values
        self.name = "text log by pattern"
        self.version = zlib.crc32(repr(self.patterns).encode("utf-8", "backslashreplace"))
        self._parts = [_compile(text) for text in patterns]

    def sniff(self, path: Path, head: bytes | None = None) -> bool:
        """Whether a line at the beginning of the file fits."""
        try:
            text = _clean((peek(path) if head is None else head).decode("utf-8-sig", "replace"))
        except LoadError:
            return False
        return any(part.regex.search(text) for part in self._parts)

    def read(self, path: Path) -> Log:
        """The measurements in all lines that fit.

        Raises:
            LoadError: no line fits, or the file is no text.
        """
        text, messages = read_text(path)
        text, torn = _whole(_clean(text))
        skipped = left_out(torn, (), messages)
        found = [_matches(part, text) for part in self._parts]
        line = np.unique(np.concatenate([at for at, _ in found]))
        if not line.size:
            shown = " or ".join(repr(p) for p in self.patterns)
            raise LoadError(
                f"no line fits the pattern {shown[:200]}; workbench.runs.text_pattern.preview(path, pattern) shows "
                "which lines nearly do"
            )
        columns: dict[str, list[Any]] = {}
        for at, cells in found:
            place = np.searchsorted(line, at).tolist()
            for name, values in cells.items():
                column = columns.setdefault(name, [None] * line.size)
                for i, value in zip(place, values, strict=True):
                    column[i] = value
        if any(part.words for part in self._parts) or clock(columns) is None:
            # each line is a run, or says which run it is of: what holds for tables holds here
            frame = pd.DataFrame(columns, index=range(line.size), dtype=object)
            return Log(frame, messages=messages, read=line.size, skipped=skipped)
        numbers = {}
        for name, values in columns.items():
            at = np.flatnonzero([value is not None for value in values])
            numbers[name] = (at, np.array([values[i] for i in at], dtype=float))
        return measured(line, numbers, messages, skipped)


def preview(path: str | os.PathLike, pattern: str | Sequence[str], n: int = 10) -> pd.DataFrame:
    """What a pattern takes from a text log, before it is loaded with it.

    Args:
        path: the file.
        pattern: as `workbench.load` takes it.
        n: how many lines that fit, and how many that nearly do, are shown at most.

    Returns:
        One row a line, in their order: ``line`` (from 1), ``fits``, a column for each value, ``missing`` (what a line
        that begins right lacks, empty where it fits) and ``text``. ``attrs`` counts all lines: ``lines``, ``fitting``.

    Raises:
        ValueError: the pattern is wrong, or the file is no text.
        TypeError: the pattern is no text.
    """
    wanted = TextPattern(pattern)
    text, _ = _whole(_clean(read_text(Path(os.fspath(path)).expanduser())[0]))
    found = [_matches(part, text) for part in wanted._parts]
    names = list(dict.fromkeys(name for part in wanted._parts for name in part.names))
    fitting = np.unique(np.concatenate([at for at, _ in found]))
    lines = text.split("\n")
    rows: dict[int, dict[str, Any]] = {int(at): {"fits": True, "missing": ""} for at in fitting[:n]}
    for at, cells in found:
        shown = np.flatnonzero(np.isin(at, [*rows]))
        for name, values in cells.items():
            for i in shown.tolist():
                rows[int(at[i])][name] = values[i]
    near = 0
    for i, content in enumerate(lines[:_LOOKED_AT]):
        if near == n:
            break
        if content.strip() and not any(part.regex.search(content) for part in wanted._parts):
            missing = next(filter(None, (_missing(part, content) for part in wanted._parts)), None)
            if missing is not None:
                rows[i] = {"fits": False, "missing": missing}
                near += 1
    table = [{"line": i + 1, **row, "text": lines[i][:_SHOWN]} for i, row in sorted(rows.items())]
    frame = pd.DataFrame(table, columns=["line", "fits", *names, "missing", "text"])
    frame.attrs = {"lines": len(lines) - (not lines[-1]), "fitting": int(fitting.size)}
    return frame


def clock(names: Iterable[str]) -> str | None:
    """The header that counts steps, or epochs where none does."""
    names = list(names)
    return next((name for name in names if is_step(name)), next(filter(_is_epoch, names), None))


def measured(
    line: np.ndarray, columns: dict[str, tuple[np.ndarray, np.ndarray]], messages: list[str], skipped: dict[str, int]
) -> Log:
    """A log of numbers found in lines: one run, or several where the steps begin again.

    Args:
        line: the line numbers, ``[n]``.
        columns: header -> places in `line`, values there. One of them counts steps or epochs.
        messages, skipped: what to tell.
    """
    name = clock(columns)
    epochs = next(filter(_is_epoch, columns), None)
    step = _spread(columns[name], line.size)
    numbered = name != epochs and epochs is not None and _restarts_each_epoch(step, _spread(columns[epochs], line.size))
    if numbered:
        step = np.arange(1.0, step.size + 1)
        messages.append(f"{name!r} begins again in each epoch; points are numbered in the order of their lines")
    elif name == epochs:
        messages.append(f"the steps of the curve are epochs, {name!r}")
    # a line without a step of its own belongs to the one before
    seen = np.maximum.accumulate(np.where(np.isfinite(step), np.arange(step.size), -1))
    step = np.where(seen >= 0, step[np.maximum(seen, 0)], np.nan)
    metrics = {key: found for key, found in columns.items() if key != name or key == epochs}
    runs = split(Records(line, step, metrics))
    if not runs:
        raise LoadError("no line that fits has a step")
    if numbered or name == epochs:
        for run in runs:  # lines and epochs are no training steps
            del run.final["steps"]
    return _log(runs, messages, skipped, line.size)


def _spread(found: tuple[np.ndarray, np.ndarray], n: int) -> np.ndarray:
    at, values = found
    column = np.full(n, np.nan)
    column[at] = values
    return column


def _log(runs: list[TextRun], messages: list[str], skipped: dict[str, int], read: int) -> Log:
    skipped = {**skipped, **left_out(False, runs, messages)}
    return Log.of_records(
        [run.final for run in runs],
        curves={row: run.curve for row, run in enumerate(runs)},
        messages=messages,
        settled=True,
        read=read,
        skipped=skipped,
    )


def _is_epoch(name: str) -> bool:
    reading = read_header(name)
    return reading is not None and reading.name == "epochs"


def _restarts_each_epoch(step: np.ndarray, epoch: np.ndarray) -> bool:
    falls = np.diff(step) < 0
    return bool(falls.any() and (np.diff(epoch)[falls] > 0).all())


def _compile(pattern: str) -> _Part:
    pieces = _FIELD.split(pattern.strip())
    literals, fields = pieces[::2], pieces[1::2]
    names: list[str] = []
    words: set[str] = set()
    expression = "" if literals[0] else r"(?m:^)[ \t]*"
    for i, literal in enumerate(literals):
        expression += _literal(literal, first=i == 0)
        if i == len(fields):
            break
        name, _, kind = fields[i].partition(":")
        name, kind = name.strip(), kind.strip()
        if i + 1 < len(fields) and not literals[i + 1] and name and fields[i + 1].strip():
            raise ValueError(
                f"the values {{{fields[i]}}} and {{{fields[i + 1]}}} touch; write what stands between them"
            )
        if not name:
            expression += r"[^\n]*?"
            continue
        if name in names:
            raise ValueError(f"the pattern names {{{name}}} twice; write {{}} for a value that is not wanted")
        if kind not in ("", "word", "number"):
            raise ValueError(f"a value is {{{name}}} for a number or {{{name}:word}} for a word, got {{{fields[i]}}}")
        names.append(name)
        if kind == "word":
            words.add(name)
        expression += f"({_taken(kind, literal, literals[i + 1])})"
    if not names:
        raise ValueError(f"the pattern {pattern[:80]!r} names no value; write it like 'step {{step}} loss {{loss}}'")
    return _Part(re.compile(expression), tuple(names), frozenset(words), tuple(_beginnings(literals, fields)))


def _taken(kind: str, before: str, after: str) -> str:
    """The expression for one value between two pieces of text."""
    if kind == "word":
        return _WORD
    commas = before.endswith(",") or re.match(r",\S|,$", after)
    value = f"(?:{'' if commas else _THOUSANDS}{_NUMBER})"
    # of 12.3ms the number must be taken neither as 12 nor without its unit; a suffix such as M counts
    return value if after[:1].strip() else value + r"[KkMGBT]?(?![\w.]*\w)"


def _literal(text: str, first: bool) -> str:
    escaped = r"[ \t]+".join(re.escape(word) for word in re.split(r"\s+", text))
    return (r"(?<!\w)" if first and text[:1].isalnum() else "") + escaped


def _beginnings(literals: list[str], fields: list[str]) -> list[tuple[re.Pattern[str], str]]:
    """Expressions for ever shorter beginnings of the pattern, each with what comes next."""
    found = []
    expression = "" if literals[0] else r"(?m:^)[ \t]*"
    for i, field in enumerate(fields):
        expression += _literal(literals[i], first=i == 0)
        kind = "word" if field.endswith("word") else "number"
        lacking = f"no {kind} for {{{field}}}"
        if literals[i].strip():
            found.append((re.compile(expression + r"([ \t]*\S*)"), f"{lacking} in {{found!r}}"))
        expression += _taken(kind, literals[i], literals[i + 1]) if field.strip() else r"[^\n]*?"
        following = literals[i + 1].strip()
        if following:
            found.append((re.compile(expression + r"\S*"), f"{following!r} does not follow {{{field}}} in {{found!r}}"))
    return found[::-1]


def _missing(part: _Part, line: str) -> str | None:
    """What a line lacks that fits the beginning of a pattern; None if it has nothing of it."""
    for beginning, lacking in part.beginnings:
        match = beginning.search(line)
        if match:
            return lacking.replace("{found!r}", repr(match[0].strip()[-60:]))
    return None


def _matches(part: _Part, text: str) -> tuple[np.ndarray, dict[str, list[Any]]]:
    """Line numbers of the lines that fit, from 0, and the values by name; the first fit of a line counts."""
    starts, taken = [], []
    for match in part.regex.finditer(text):
        starts.append(match.start())
        taken.append(match.groups())
    line = np.searchsorted(_newlines(text), np.array(starts, dtype=np.int64), side="left")
    first = np.append(True, line[1:] != line[:-1]) if line.size else np.empty(0, dtype=bool)
    rows = np.flatnonzero(first).tolist()
    cells = {}
    for i, name in enumerate(part.names):
        column = [taken[row][i] for row in rows]
        cells[name] = column if name in part.words else [_value(text) for text in column]
    return line[first], cells


def _newlines(text: str) -> np.ndarray:
    """Where the lines of `text` end, in characters."""
    if text.isascii():
        return np.flatnonzero(np.frombuffer(text.encode("ascii"), np.uint8) == 10)
    return np.flatnonzero(np.frombuffer(text.encode("utf-32-le", "replace"), np.uint32) == 10)


def _value(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return parse_number(text)


def _clean(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _whole(text: str) -> tuple[str, bool]:
    """`text` up to its last newline, and whether something stands behind it."""
    end = text.rfind("\n") + 1
    return text[:end], bool(text[end:].strip())
