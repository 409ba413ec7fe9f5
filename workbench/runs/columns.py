"""From the headers of a log to canonical columns: which header is ``params``, and by what factor.

What cannot be decided is not guessed: two different columns that both look like ``params`` raise one
sentence that asks for ``columns=``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workbench.runs.cells import Cells
from workbench.runs.headers import Reading, loss_rank, read_header
from workbench.units import QUANTITIES

__all__ = ["TEXT", "Column", "Resolution", "check_columns", "claimed", "nearest", "resolve"]

#: Canonical quantities that are words, not numbers.
TEXT = frozenset({"precision"})

#: Book-keeping that loggers like to write twice; there the first column is as good as any other.
_FIRST_WINS = frozenset({"step", "seconds", "epochs", "seed", "precision"})


@dataclass(frozen=True)
class Column:
    """One column of the result: `source` header x `factor` -> `name`, and how that came about in `note`."""

    source: str
    name: str
    factor: float = 1.0
    note: str = ""


@dataclass
class Resolution:
    """All columns of one log in the order of its headers, and what its reader should be told."""

    columns: list[Column] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)


def check_columns(columns: Any) -> dict[str, tuple[str, float | None]]:
    """`columns=` of `load` as ``{name: (header, factor or None)}``.

    Raises:
        TypeError: it is not a mapping from names to headers or to (header, factor).
    """
    if columns is None:
        return {}
    if not isinstance(columns, Mapping):
        raise TypeError(f"columns= takes a mapping such as {{'params': 'Model Size'}}, got {type(columns).__name__}")
    checked: dict[str, tuple[str, float | None]] = {}
    for name, value in columns.items():
        header, factor = (value, None) if isinstance(value, str) else _pair(value)
        if not isinstance(name, str) or not isinstance(header, str):
            raise TypeError(
                f"columns= maps a name to a header or to (header, factor), got {name!r}: {value!r}; "
                "write {'tokens': 'D'} or {'tokens': ('D', 1e9)}"
            )
        checked[name] = (header, factor)
    return checked


def resolve(headers: Sequence[str], columns: Mapping[str, Any] | None = None, cells: Cells | None = None) -> Resolution:
    """Canonical columns for `headers`.

    Args:
        headers: unique headers of one log.
        columns: what the user decided, ``{"params": "Model Size", "tokens": ("D", 1e9)}``; such a name may
            be new. A header not mentioned is resolved as usual.
        cells: the values behind the headers, to tell equal columns from rivals and words from numbers;
            without them two headers for one quantity always conflict.

    Returns:
        A `Resolution` with one `Column` for each header (and for each mention in `columns`).

    Raises:
        ValueError: a header in `columns` does not exist (the nearest is suggested), or several columns
            look like the same quantity and differ.
        TypeError: `columns` is malformed.
    """
    result = Resolution()
    chosen: dict[str, list[Column]] = {}
    taken = set()
    for name, (header, factor) in check_columns(columns).items():
        if header not in headers:
            raise ValueError(f"columns= names {header!r}, which is not in the log; {nearest(header, headers)}")
        chosen.setdefault(header, []).append(_decided(header, name, factor))
        taken.add(name)

    claims: dict[str, dict[str, Reading]] = {}
    dotted: dict[str, dict[str, Reading]] = {}
    for header in headers:
        if header in chosen:
            continue
        reading = claimed(header)
        group = claims if read_header(header) is not None else dotted
        if reading is None or reading.name in taken or not _plausible(header, reading, cells):
            continue
        if reading.factor is None:
            result.messages.append(
                f"column {header!r} is not read as {reading.name}: its unit {reading.unit!r} is not known; "
                f"say columns={{{reading.name!r}: ({header!r}, factor)}}"
            )
            continue
        group.setdefault(reading.name, {})[header] = reading

    for name, rivals in claims.items():
        header = _choose(name, rivals, cells, result.messages)
        chosen[header] = [_column(header, rivals[header])]
    for name, rivals in dotted.items():
        if name in claims:
            continue
        try:
            header = _choose(name, rivals, cells, result.messages)
        except ValueError:
            shown = ", ".join(repr(h) for h in list(rivals)[:4])
            result.messages.append(f"none of {shown} is read as {name}, as they differ; say which with columns=")
            continue
        chosen[header] = [_column(header, rivals[header])]

    names = taken | {c.name for group in chosen.values() for c in group}
    for header in headers:
        result.columns.extend(chosen.get(header) or [_kept(header, names, result.messages)])
    return result


def claimed(header: str) -> Reading | None:
    """What `header` may stand for: by its whole, else by the last part of a dotted key."""
    reading = read_header(header)
    # a bracket marks an item of a list (results[c4].loss), which is not the run's own setting
    if reading is None and "." in header and "[" not in header.rpartition(".")[0]:
        return read_header(header.rpartition(".")[2])
    return reading


def nearest(name: str, allowed: Iterable[str], what: str = "columns") -> str:
    """``did you mean 'loss'? the columns are ...`` for an error message."""
    allowed = [str(a) for a in allowed]
    folded = {a.lower(): a for a in allowed}
    near = difflib.get_close_matches(str(name).lower(), folded, n=1, cutoff=0.5)
    hint = f"did you mean {folded[near[0]]!r}? " if near else ""
    shown = ", ".join(allowed[:30]) + (f" and {len(allowed) - 30} more" if len(allowed) > 30 else "")
    return f"{hint}the {what} are {shown or '(none)'}"


def _pair(value: Any) -> tuple[Any, float | None]:
    try:
        header, factor = value
        return header, float(factor)
    except (TypeError, ValueError):
        return None, None


def _decided(header: str, name: str, factor: float | None) -> Column:
    if factor is None:
        reading = read_header(header)
        if reading is not None and reading.name == name and reading.factor is not None:
            return _column(header, reading)
        factor = 1.0
    times = f"{factor:g} x " if factor != 1 else ""
    return Column(header, name, factor, "" if header == name and factor == 1 else f"{times or 'from '}{header!r}")


def _column(header: str, reading: Reading) -> Column:
    if header == reading.name:
        return Column(header, reading.name)
    note = f"from {header!r}" if reading.factor == 1 else f"{reading.factor:.6g} x {header!r}"
    return Column(header, reading.name, reading.factor, note)


def _kept(header: str, names: set[str], messages: list[str]) -> Column:
    """A column nobody claimed, under its own name; `run` and `problem` are decided by `load`."""
    if header not in names:
        return Column(header, header)
    other = f"{header}_logged"
    while other in names:
        other += "_"
    names.add(other)
    messages.append(f"the log's own column {header!r} is kept as {other!r}, as {header!r} was given another source")
    return Column(header, other, note=f"from {header!r}")


def _plausible(header: str, reading: Reading, cells: Cells | None) -> bool:
    """Whether the cells fit a quantity: a `size` of small, medium, large is no parameter count."""
    if cells is None or reading.exact or reading.name in TEXT:
        return True
    return not cells.share_of_numbers(header) < 0.5  # NaN, an empty column, stays plausible


def _choose(name: str, rivals: dict[str, Reading], cells: Cells | None, messages: list[str]) -> str:
    """The header that becomes `name` among `rivals`; what was passed over goes to `messages`."""
    headers = list(rivals)
    if cells is not None and len(headers) > 1:
        headers = [h for h in headers if rivals[h].exact or cells.given(h).any()] or headers
    exact = [h for h in headers if rivals[h].exact]
    if exact or name == "loss":
        best = min(map(loss_rank, headers))
        preferred = exact or [h for h in headers if loss_rank(h) == best]
        if name == "loss" and len(preferred) < len(headers):
            others = ", ".join(repr(h) for h in headers if h not in preferred)
            messages.append(f"loss is taken from {preferred[0]!r}; {others} kept under its own name")
        headers = preferred
    first = headers[0]
    for other in headers[1:]:
        same = cells is not None and _equal(cells, (first, rivals[first]), (other, rivals[other]))
        if not same and name not in _FIRST_WINS:
            raise ValueError(
                f"Columns {first!r} and {other!r} both look like {name}; "
                f"say which with columns={{{name!r}: {first!r}}}."
            )
        reason = "which is equal" if same else "which differs"
        messages.append(f"{name} is taken from {first!r}; {other!r}, {reason}, is kept under its own name")
    return first


def _equal(cells: Cells, a: tuple[str, Reading], b: tuple[str, Reading]) -> bool:
    if a[1].name in TEXT:
        return bool((cells.frame[a[0]].astype(str) == cells.frame[b[0]].astype(str)).all())
    left, right = (cells.numbers(header)[0] * reading.factor for header, reading in (a, b))
    return bool(np.allclose(left, right, rtol=1e-9, atol=0.0, equal_nan=True))


for _name in (*TEXT, *_FIRST_WINS):
    assert _name in QUANTITIES
