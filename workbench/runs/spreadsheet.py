"""What spreadsheets put around and into a table when they save it as CSV.

Titles above the header, two header lines of which the upper names groups, a line of units, totals below, percent
signs, blanks and points between thousands. Each is taken as such only where the cells leave no other reading, so
that a plain CSV file means what it says.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from workbench.runs.headers import read_header
from workbench.units import parse_number

__all__ = ["all_numbers", "decimal_comma", "find_header", "percentages", "thousands", "totals", "whole_at_the_end"]

Row = tuple[int, list[str]]

#: Words that begin a line of totals, and what then stands in a column of numbers.
_TOTALS = {
    **dict.fromkeys(("total", "totals", "sum", "grand total"), np.sum),
    **dict.fromkeys(("mean", "average", "avg"), np.mean),
    "median": np.median,
    "min": np.min,
    "minimum": np.min,
    "max": np.max,
    "maximum": np.max,
    "count": np.size,
}
#: How far a total may be from the sum of what is printed above it, which is rounded.
_ROUNDING = 1e-3
_UNIT = re.compile(r"[(\[]?\s*([A-Za-z%][\w/%\- ]{0,15})\s*[)\]]?")
_PERCENT = re.compile(r"\s*([+-]?\d+(?:[.,]\d+)?)\s*%\s*")
_SPACED = re.compile(r"\s*[+-]?\d{1,3}(?:[ '\u2019\u00a0\u2009\u202f]\d{3})+(?:[.,]\d+)?\s*")
_COMMA = re.compile(r"\s*[+-]?\d+,\d+([eE][+-]?\d+)?\s*")
_POINTS = re.compile(r"\s*[+-]?\d{1,3}(?:\.\d{3})+(?:,\d+)?\s*")
#: So many other rows, with so many decimals at most, show how a program prints the last column.
_ROWS, _DECIMALS = 5, 8


def all_numbers(cells: Sequence[str]) -> bool:
    """Whether every cell is a number or empty."""
    return all(_is_number(cell) for cell in cells)


def find_header(rows: list[Row]) -> tuple[list[str], list[Row], list[str]]:
    """Headers, the rows below them, and messages on what was taken for a title, a group or a unit."""
    messages = []
    start = _titles(rows)
    if start:
        shown = "; ".join(" ".join(cell.strip() for cell in cells if cell.strip())[:60] for _, cells in rows[:start])
        messages.append(f"{start} lines above the header were taken for titles: {shown}")
    (_, header), *below = rows[start:]
    if below:
        numeric = _numeric_columns([cells for _, cells in below[1:51]], len(below[0][1]))
        second = below[0][1]
        if _names_groups(header, second, numeric):
            messages.append("the header has two lines; columns are called group.column")
            return _joined(header, second), below[1:], messages
        if _states_units(header, second, numeric):
            messages.append("the second line was taken for units")
            return [_with_unit(*pair) for pair in zip(header, second, strict=True)], below[1:], messages
    return header, below, messages


def totals(rows: list[Row]) -> int:
    """How many of the last rows are totals of those above: they say so, and a column adds up."""
    found = 0
    while found < 5 and len(rows) - found > 2:
        cells = rows[len(rows) - found - 1][1]
        words = [cell.strip().rstrip(":").lower() for cell in cells if cell.strip() and not _is_number(cell)]
        rule = _TOTALS.get(words[0]) if words else None
        if rule is None:
            break
        found += 1
    while found and not _adds_up(rows[: len(rows) - found], rows[len(rows) - found][1]):
        found -= 1  # the first of them must be a total for the others to be
    return found


def percentages(cells: list[str | None]) -> list[str | None] | None:
    """The fractions in a column of percentages, None if it is no such column."""
    given = [cell for cell in cells if cell is not None and cell.strip()]
    if not given or not all(_PERCENT.fullmatch(cell) for cell in given):
        return None
    return [
        cell if cell is None or not cell.strip() else repr(float(_PERCENT.fullmatch(cell)[1].replace(",", ".")) / 100)
        for cell in cells
    ]


def thousands(cells: list[str | None]) -> list[str | None]:
    """Cells with ``1 234 567`` or ``1'234`` as plain numbers, if the column holds nothing but numbers then."""
    found = {cell for cell in cells if cell and _SPACED.fullmatch(cell)}
    if not found or not all(cell in found or _is_number(cell or "") for cell in cells):
        return cells
    return [re.sub(r"(?<=\d)[ '\u2019\u00a0\u2009\u202f](?=\d)", "", cell) if cell in found else cell for cell in cells]


def decimal_comma(cells: list[str | None]) -> list[str | None]:
    """Cells with ``3,14`` and ``1.234,5`` as numbers, if this column of a semicolon file can be nothing else."""
    found = {c for c in cells if c and _COMMA.fullmatch(c)}
    pointed = {c for c in cells if c and _POINTS.fullmatch(c)}
    sure = any(len(re.split(r"[,eE]", c.strip())[1]) != 3 for c in found)
    if not sure and not any("," in c or c.count(".") > 1 for c in pointed):
        return cells
    return [
        c.replace(".", "").replace(",", ".") if c in pointed else c.replace(",", ".") if c in found else c
        for c in cells
    ]


def whole_at_the_end(last: str, others: Sequence[str | None]) -> bool:
    """Whether the last cell of a text without a final newline is whole, as the others of its column show.

    A number is, if at least five others are there and all have the same few decimals as it has: of a fixed number
    of decimals a cut would leave fewer. A word is, if others are the same and none goes on after it.
    """
    rest = [cell.strip() for cell in others if cell is not None]
    last = last.strip()
    if _is_number(last):
        digits = [len(cell.partition(".")[2]) if re.fullmatch(r"[+-]?\d+\.\d+", cell) else 0 for cell in (*rest, last)]
        return len(rest) >= _ROWS and len(set(digits)) == 1 and 0 < digits[0] <= _DECIMALS
    longer = any(cell.startswith(last) and cell != last for cell in rest)
    return not longer and (rest.count(last) >= 2 or last.lower() in ("true", "false"))


def _is_number(cell: str) -> bool:
    try:
        parse_number(cell)
    except ValueError:
        return False
    return True


def _given(cells: Sequence[str]) -> list[str]:
    return [cell for cell in cells if cell.strip()]


def _titles(rows: list[Row]) -> int:
    """How many records stand above the header: each has one cell, and the header below has several."""
    for start, (_, cells) in enumerate(rows[:20]):
        if len(_given(cells)) > 1:
            header = not any(map(_is_number, _given(cells))) and len(rows) > start + 1
            return start if header and len(rows[start + 1][1]) == len(cells) else 0
        if any(map(_is_number, _given(cells))):
            return 0
    return 0


def _numeric_columns(rows: list[list[str]], width: int) -> list[int]:
    """Columns whose cells are numbers, at least one of them given."""
    found = []
    for i in range(width):
        cells = [row[i] for row in rows if i < len(row) and row[i].strip()]
        if cells and all(_is_number(cell) or _PERCENT.fullmatch(cell) or _SPACED.fullmatch(cell) for cell in cells):
            found.append(i)
    return found


def _names_groups(upper: list[str], lower: list[str], numeric: list[int]) -> bool:
    if len(upper) != len(lower) or not numeric:
        return False
    groups = _given(upper)
    below_blank = any(not u.strip() and w.strip() for u, w in zip(upper[1:], lower[1:], strict=True))
    named = all((lower[i].strip() and not _is_number(lower[i])) or upper[i].strip() for i in numeric)
    words = not any(_is_number(cell) for cell in (*groups, *_given(lower)))
    return bool(groups) and below_blank and named and words


def _joined(upper: list[str], lower: list[str]) -> list[str]:
    names, group = [], ""
    for above, below in zip(upper, lower, strict=True):
        group = above.strip() or group
        below = below.strip()
        names.append(below if not group or below == group else f"{group}.{below}" if below else group)
    return names


def _states_units(header: list[str], units: list[str], numeric: list[int]) -> bool:
    if len(header) != len(units) or not numeric or len(_given(header)) < len(_given(units)):
        return False
    stated = [i for i, cell in enumerate(units) if cell.strip()]
    if not stated or not set(stated) <= set(numeric):
        return False
    known = [read_header(_with_unit(header[i], units[i])) for i in stated]
    matches = all(_UNIT.fullmatch(units[i].strip()) for i in stated)
    # one at least must be a unit that means something for its column
    return matches and any(reading is not None and reading.unit and reading.factor is not None for reading in known)


def _with_unit(name: str, unit: str) -> str:
    match = _UNIT.fullmatch(unit.strip())
    return f"{name.strip()} ({match[1].strip()})" if match else name


def _adds_up(rows: list[Row], cells: list[str]) -> bool:
    word = next(cell.strip().rstrip(":").lower() for cell in cells if cell.strip() and not _is_number(cell))
    rule = _TOTALS[word]
    for i, cell in enumerate(cells):
        column = [row[i] for _, row in rows if i < len(row) and row[i].strip()]
        if cell.strip() and _is_number(cell) and len(column) > 1 and all_numbers(column):
            value, expected = parse_number(cell), rule(np.array([parse_number(c) for c in column]))
            if np.isfinite(value) and abs(value - expected) <= _ROUNDING * abs(expected):
                return True
    return False
