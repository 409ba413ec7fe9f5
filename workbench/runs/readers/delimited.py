"""CSV and its relatives: comma, tab, semicolon or bar; quoted or not; plain or gzip."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pandas as pd

from workbench.runs.readers.base import LoadError, Log, Reader, read_text
from workbench.runs.spreadsheet import (
    all_numbers,
    decimal_comma,
    find_header,
    percentages,
    thousands,
    totals,
    whole_at_the_end,
)
from workbench.runs.text_shapes import NUMBER

__all__ = ["Delimited"]

_DELIMITERS = (",", "\t", ";", "|")
_NUMBER = re.compile(NUMBER)
_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")


class Delimited(Reader):
    """A header line and one record a line, as spreadsheets, pandas and most trackers export them.

    What spreadsheets add is taken off where it is certain, with a message, see `workbench.runs.spreadsheet`: titles
    above the header, a second header line, a line of units, totals at the end.

    A last line without a newline may have been cut within its last number. Its run is marked, unless the other
    rows show that the value is whole (`workbench.runs.spreadsheet.whole_at_the_end`): no log gains by a wrong number.
    """

    name = "CSV"
    general = True
    suffixes = _SUFFIXES

    def sniff(self, path: Path, head: bytes) -> bool:
        encoding = "utf-16" if head.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
        text = head.decode(encoding, "replace")
        if not text.strip() or "\ufffd" in text[:1] or text.startswith("version https://git-lfs") or _is_binary(head):
            return False
        if text.lstrip()[0] in "{[<" or _mostly_json(text):
            return False
        rows = _records(text[:16384], _delimiter(text[:16384]))[0][:50]
        if path.name.lower().endswith(_SUFFIXES):
            return bool(rows)
        # without the suffix only a regular table with a header counts: prose has commas too
        width = len(rows[0][1]) if rows else 0
        regular = [len(cells) == width for _, cells in rows[1:-1]]
        if width < 2 or len(regular) < 2 or not all(regular) or all_numbers(rows[0][1]):
            return False
        # a sentence that repeats with other numbers has no header
        shapes = [[_NUMBER.sub("", cell) for cell in cells] for _, cells in rows[:3]]
        return not (shapes[0] == shapes[1] == shapes[2] and _NUMBER.search("\n".join(rows[0][1])))

    def read(self, path: Path) -> Log:
        text, messages = read_text(path)
        delimiter = _delimiter(text[:16384])
        rows, torn = _records(text, delimiter)
        if not rows:
            raise LoadError("it holds no header line")
        header, rows, said = find_header(rows)
        messages += said
        if all_numbers(header):
            raise LoadError("its first line holds numbers, not column names; add a header line")
        summed = totals(rows)
        if summed:
            messages.append(f"line {rows[-summed][0]} and below were left out: totals of the rows above")
            rows, torn = rows[:-summed], None
        headers = _unique(header, messages)
        width = len(headers)
        problems: dict[int, str] = {}
        kept: list[list[str | None]] = []
        ragged: list[int] = []
        for line, cells in rows:
            if len(cells) == width or not any(cell.strip() for cell in cells[width:]):
                kept.append([*cells[:width], *[None] * (width - len(cells))])
                if len(cells) < width:
                    problems[len(kept) - 1] = f"line {line} has {len(cells)} of {width} cells"
            else:
                ragged.append(line)
        if ragged:
            shown = ", ".join(map(str, ragged[:5])) + (" ..." if len(ragged) > 5 else "")
            messages.append(f"{len(ragged)} lines with more cells than the header were skipped: line {shown}")
        skipped = {"more cells than the header": len(ragged)} if ragged else {}
        if summed:
            skipped["totals"] = summed
        if torn is not None:
            line, whole = torn
            if whole and rows and rows[-1][0] == line and kept and len(rows[-1][1]) == width:
                if not whole_at_the_end(rows[-1][1][-1], [row[-1] for row in kept[:-1]]):
                    problems[len(kept) - 1] = (
                        f"line {line} is the last and has no newline, so its last value may be cut off; "
                        "add a newline if the file is whole"
                    )
            else:
                if rows and rows[-1][0] == line and kept and line not in ragged:
                    kept.pop()
                    problems.pop(len(kept), None)
                messages.append(f"line {line}, the last, is cut off and was skipped")
                skipped["cut off"] = 1
        columns = {h: [row[i] for row in kept] for i, h in enumerate(headers)}
        unnamed = {h for h, written in zip(headers, header, strict=True) if not written.strip()}
        columns = {h: cells for h, cells in columns.items() if h not in unnamed or any(c and c.strip() for c in cells)}
        for name, cells in columns.items():
            columns[name] = percentages(cells)
            if columns[name] is None:
                columns[name] = thousands(decimal_comma(cells) if delimiter == ";" else cells)
            else:
                messages.append(f"the percentages of {name!r} were read as fractions: 90% is 0.9")
        frame = pd.DataFrame(columns, index=range(len(kept)), dtype=object)
        return Log(frame, messages=messages, problems=problems, read=len(kept), skipped=skipped)


def _records(text: str, delimiter: str) -> tuple[list[tuple[int, list[str]]], tuple[int, bool] | None]:
    """All records with their line numbers, comments and empty lines left out.

    Returns:
        The records, and for a text whose end may be missing ``(line, whole)``: the line its last record
        starts at, and whether that record ends outside quotes.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    records: list[tuple[int, list[str]]] = []
    remark: tuple[int, list[str]] | None = None
    start = seen = 1
    csv.field_size_limit(2**31 - 1)
    for cells in reader:
        line, start = start, reader.line_num + 1
        seen = line
        if not any(cell.strip() for cell in cells):
            continue
        comment = cells[0].lstrip().startswith("#") and (not records or len(cells) != len(records[0][1]))
        if comment:
            remark = (line, cells)
            continue
        # numpy.savetxt writes its header as a comment
        if not records and remark is not None and len(remark[1]) == len(cells) > 1 and all_numbers(cells):
            records.append(remark)
        records.append((line, cells))
    if not records:
        return records, None
    last = records[-1][0]
    tail = "".join(text.splitlines(keepends=True)[seen - 1 :])
    if tail.count('"') % 2:  # cut off inside quotes; where nothing but the quote is there, no record is
        return records, (last, False) if seen == last else None
    if text.endswith(("\n", "\r", '"')):  # a closing quote ends a value as surely as a newline
        return records, None
    return records, (last, True)


def _delimiter(text: str) -> str:
    """The delimiter that cuts most lines into as many cells as the header has."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")][:30]
    best, best_score = ",", (0.0, 0)
    for delimiter in _DELIMITERS:
        widths = [len(cells) for cells in csv.reader(lines, delimiter=delimiter)]
        # titles may stand above the header: then what most lines have counts
        width = next((w for w in widths if w > 1), 0)
        if widths and 2 * widths.count(width) <= len(widths):
            width = max(set(widths), key=widths.count)
        if width < 2:
            continue
        # a last line may be cut off, and one line in fifty may be foreign: the share decides, then the width
        score = (round(widths.count(width) / len(widths), 1), width)
        if score > best_score:
            best, best_score = delimiter, score
    return best


def _unique(header: list[str], messages: list[str]) -> list[str]:
    """Headers without outer blanks; an empty one gets its position, a repeated one a number."""
    headers: list[str] = []
    for i, cell in enumerate(header):
        name = cell.strip().strip("\ufeff") or f"column {i + 1}"
        if i == 0:
            name = name.lstrip("# ") or name
        unique, n = name, 2
        while unique in headers:
            unique, n = f"{name}#{n}", n + 1
        if unique != name:
            messages.append(f"the header {name!r} appears more than once; column {i + 1} is called {unique!r}")
        headers.append(unique)
    return headers


def _mostly_json(text: str) -> bool:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return sum(line.startswith("{") and line.endswith("}") for line in lines) * 2 >= len(lines)


def _is_binary(head: bytes) -> bool:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return False
    return head.startswith(b"PAR1") or sum(byte < 32 and byte not in b"\t\n\r" for byte in head[:4096]) > 0.1 * min(
        len(head), 4096
    )
