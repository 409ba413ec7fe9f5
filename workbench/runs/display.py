"""A `RunTable` as a short paragraph and as an HTML table."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from workbench.units import QUANTITIES, human

if TYPE_CHECKING:
    from workbench.runs.table import RunTable

__all__ = ["clean", "to_html", "to_text"]

_MAIN = ("params", "tokens", "flops", "loss")
_ROWS, _COLUMNS, _CELL = 12, 14, 60

# No colour of its own: borders and shades follow the text colour of a light or a dark theme.
_STYLE = (
    "<style>"
    ".wb-runs table{color:inherit;font-size:inherit;border-collapse:collapse;margin:.4em 0}"
    ".wb-runs caption{caption-side:top;text-align:left;padding:.2em 0;color:inherit}"
    ".wb-runs th,.wb-runs td{padding:.15em .7em;text-align:right;white-space:nowrap;color:inherit;"
    "background:transparent;border:0}"
    ".wb-runs th:first-child,.wb-runs td:first-child,.wb-runs .wb-text{text-align:left}"
    ".wb-runs thead th{border-bottom:1px solid currentColor;vertical-align:bottom}"
    ".wb-runs .wb-unit,.wb-runs .wb-small{opacity:.65;font-weight:normal;font-size:.85em}"
    ".wb-runs .wb-bad td{opacity:.6;font-style:italic}"
    ".wb-runs ul{margin:.2em 0;padding-left:1.4em}"
    "</style>"
)


def to_text(table: RunTable) -> str:
    """One paragraph: how many runs, the range of each main quantity, what is marked."""
    return _headline(table, "RunTable: ")


def to_html(table: RunTable) -> str:
    """A table of the first and last runs, with units, notes and messages; everything from a log is escaped."""
    names = _shown_columns(table)
    derived = [name for name in names if table.notes.get(name, "").find("derived") >= 0]
    head = "".join(
        f"<th>{escape(clean(name))}{'†' if name in derived else ''}"
        f"<br><span class='wb-unit'>{escape(table.units.get(name, '')) or '&nbsp;'}</span></th>"
        for name in names
    )
    marked = (table.frame["problem"] != "").to_numpy()
    if marked.any():
        head += "<th class='wb-text'>problem<br><span class='wb-unit'>&nbsp;</span></th>"
    n = len(table)
    rows = range(n) if n <= _ROWS else [*range(_ROWS // 2), None, *range(n - _ROWS // 2, n)]
    body = []
    for row in rows:
        if row is None:
            wide = len(names) + bool(marked.any())
            body.append(f"<tr><td class='wb-small' colspan='{wide}'>⋮ {n - _ROWS} more runs</td></tr>")
            continue
        cells = "".join(_cell(table.frame[name].iloc[row]) for name in names)
        if marked.any():
            sentence = table.frame["problem"].iloc[row]
            cells += f"<td class='wb-text'>{'⚠ ' if sentence else ''}{escape(clean(sentence, 120))}</td>"
        body.append(f"<tr class='wb-bad'>{cells}</tr>" if marked[row] else f"<tr>{cells}</tr>")
    caption = escape(_headline(table, ""))
    parts = [
        f"{_STYLE}<div class='wb-runs'><table><caption>{caption}</caption>",
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>",
    ]
    hidden = [c for c in table.frame.columns if c not in names and c != "problem"]
    if hidden:
        listed = ", ".join(clean(c) for c in hidden[:20]) + (", ..." if len(hidden) > 20 else "")
        parts.append(f"<div class='wb-small'>{len(hidden)} more columns: {escape(listed)}</div>")
    notes = [f"{'† ' if name in derived else ''}{name}: {table.notes[name]}" for name in names if table.notes.get(name)]
    if notes:
        parts.append(f"<div class='wb-small'>{'<br>'.join(escape(clean(note, 200)) for note in notes)}</div>")
    if table.messages:
        items = "".join(f"<li>{escape(clean(message, 400))}</li>" for message in table.messages[:20])
        more = f"<li>and {len(table.messages) - 20} more messages</li>" if len(table.messages) > 20 else ""
        parts.append(f"<ul class='wb-small'>{items}{more}</ul>")
    return "".join(parts) + "</div>"


def _headline(table: RunTable, prefix: str) -> str:
    n = len(table)
    if not n:
        return f"{prefix}no runs; columns {', '.join(clean(c) for c in table.frame.columns[:20])}"
    parts = [f"{prefix}{n} run{'s' if n > 1 else ''}"]
    for name in _MAIN:
        if name in table.frame:
            values = table.frame[name].to_numpy()
            values = values[np.isfinite(values)]
            if values.size:
                low, high = human(values.min()), human(values.max())
                unit = QUANTITIES[name].unit
                parts.append(f"{name} {low if low == high else f'{low} to {high}'}{f' {unit}' if unit else ''}")
    if len(table.curves):
        parts.append(f"curves of {len(table.curves)}")
    bad = int((table.frame["problem"] != "").sum())
    if bad:
        parts.append(f"{bad} marked with a problem")
    return "; ".join(parts)


def _shown_columns(table: RunTable) -> list[str]:
    """`run`, the canonical quantities, then others that vary, as many as fit."""
    canonical = [c for c in table.frame.columns if c in QUANTITIES]
    others = [
        c
        for c in table.frame.columns
        if c not in QUANTITIES and c not in ("run", "problem") and table.frame[c].nunique() > 1
    ]
    return ["run", *canonical, *others][:_COLUMNS]


def _cell(value: object) -> str:
    if isinstance(value, bool | np.bool_):
        return f"<td>{'yes' if value else 'no'}</td>"
    if isinstance(value, float):
        return f"<td>{human(value, 4)}</td>"
    return f"<td class='wb-text'>{'' if pd.isna(value) else escape(clean(str(value)))}</td>"


def clean(text: str, limit: int = _CELL) -> str:
    """`text` on one line of at most `limit` characters, without marks that would rearrange what stands around it."""
    text = text if len(text) <= limit else f"{text[: limit - 1]}…"
    return "".join(c if c.isprintable() else "\ufffd" for c in text)
