"""Where each run came from and what was made of its log: `RunTable.report`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from workbench.runs.columns import Column
from workbench.runs.display import clean
from workbench.runs.readers.base import find

if TYPE_CHECKING:
    from workbench.runs.table import RunTable

__all__ = ["Provenance", "Report", "report"]

#: Columns that `rows_of_curves` and others name a row's parent run in.
_PARENTS = ("cluster", "run_logged")
_SHOWN, _NOTES = 20, 40


@dataclass(frozen=True)
class Provenance:
    """Where one run came from. Runs of one log share what is the log's.

    Attributes:
        path: the file or folder, empty for a frame.
        format: name of the reader; empty where it is not known.
        version: the reader's version, 0 where it is not known.
        read: records read from the log (lines, events, rows), None where nobody counted.
        skipped: why records were left out -> how many.
        names: which header became which column, where either the name or the unit changed.
        derived: columns whose value in this run was derived from others.
        reason: why the log could not be read, empty if it was.
        cached: whether the log was taken from the cache of an earlier load.
    """

    path: str = ""
    format: str = ""
    version: int = 0
    read: int | None = None
    skipped: Mapping[str, int] = field(default_factory=dict)
    names: tuple[Column, ...] = ()
    derived: tuple[str, ...] = ()
    reason: str = ""
    cached: bool = False


def report(runs: RunTable) -> Report:
    """Where the runs of this table came from: one row for each log, what was skipped, renamed and derived."""
    return Report(runs)


class Report:
    """What loading made of the logs of a table. Printed it is text, in a notebook HTML; `frame` holds the numbers.

    Attributes:
        runs: the table.
    """

    def __init__(self, runs: RunTable) -> None:
        self.runs = runs

    @cached_property
    def origins(self) -> dict[str, Provenance]:
        """Run id -> where it came from; rows that were made of a run's curve have that run's."""
        known = self.runs.provenance
        parents = next((self.runs.frame[c] for c in _PARENTS if c in self.runs.frame), self.runs.frame["run"])
        formats: dict[str, tuple[str, int]] = {}
        found = {}
        for run, parent in zip(self.runs.ids, parents, strict=True):
            origin = known.get(run) or known.get(parent) or Provenance()
            if origin.path and not (origin.format or origin.reason):  # followed logs: asked only now
                if origin.path not in formats:
                    formats[origin.path] = _format(origin.path)
                name, version = formats[origin.path]
                origin = Provenance(**{**vars(origin), "format": name, "version": version})
            found[run] = origin
        return found

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row for each log: source, format, version, runs, read, skipped, why, derived, problem, cached."""
        logs: dict[tuple, list[Provenance]] = {}
        for origin in self.origins.values():
            logs.setdefault((origin.path, origin.format, origin.reason), []).append(origin)
        rows = []
        for (path, name, reason), group in logs.items():
            first = group[0]
            rows.append(
                {
                    "source": path,
                    "format": name,
                    "version": first.version,
                    "runs": 0 if reason else len(group),
                    "read": float("nan") if first.read is None else float(first.read),
                    "skipped": sum(first.skipped.values()),
                    "why": "; ".join(f"{why} ({n})" for why, n in first.skipped.items()),
                    "derived": ", ".join(dict.fromkeys(c for o in group for c in o.derived)),
                    "problem": reason,
                    "cached": first.cached,
                }
            )
        columns = ["source", "format", "version", "runs", "read", "skipped", "why", "derived", "problem", "cached"]
        return pd.DataFrame(rows, columns=columns)

    @cached_property
    def names(self) -> pd.DataFrame:
        """One row for each header that changed its name or unit: header, column, factor, logs."""
        logs: dict[Column, set[str]] = {}
        for run, origin in self.origins.items():
            for column in origin.names:
                logs.setdefault(column, set()).add(origin.path or run)
        rows = [(c.source, c.name, c.factor, len(paths)) for c, paths in logs.items() if c.name in self.runs]
        return pd.DataFrame(rows, columns=["header", "column", "factor", "logs"])

    @property
    def unreadable(self) -> list[dict[str, str]]:
        """``{"path": ..., "reason": ...}`` for each log that could not be read."""
        bad = self.frame[self.frame["problem"] != ""]
        return [{"path": p, "reason": r} for p, r in zip(bad["source"], bad["problem"], strict=True)]

    @property
    def derived(self) -> dict[str, str]:
        """Derived column -> how, and in how many runs if not in all."""
        counts: dict[str, int] = {}
        for origin in self.origins.values():
            for name in origin.derived:
                counts[name] = counts.get(name, 0) + 1
        notes = self.runs.notes
        n = len(self.runs)
        said = {}
        for name in self.runs.frame.columns:
            how = notes.get(name, "")
            if name in counts or "derived" in how:
                some = 0 < counts.get(name, 0) < n and "rows" not in how
                said[name] = (how or "derived") + (f" (in {counts[name]} of {n} runs)" if some else "")
        return said

    def __repr__(self) -> str:
        return self.text()

    def text(self, notes: bool = True) -> str:
        """The report as lines of plain text; control and direction marks of names are replaced."""
        frame = self.frame
        lines = [self._headline()]
        shown = frame.head(_SHOWN)
        if len(shown):
            table = pd.DataFrame(
                {
                    "source": [clean(_tail(s), 60) or "(a frame)" for s in shown["source"]],
                    "format": [clean(f, 30) or "-" for f in shown["format"]],
                    "version": [str(v) if v else "-" for v in shown["version"]],
                    "runs": shown["runs"].astype(str),
                    "read": ["-" if r != r else f"{r:.0f}" for r in shown["read"]],
                    "skipped": [
                        f"{n}: {clean(why, 80)}" if n else "0"
                        for n, why in zip(shown["skipped"], shown["why"], strict=True)
                    ],
                    "": ["from the cache" if c else "" for c in shown["cached"]],
                }
            )
            if not shown["cached"].any():
                table = table.drop(columns="")
            lines += ["  " + line for line in table.to_string(index=False).splitlines()]
        if len(frame) > _SHOWN:
            lines.append(f"  and {len(frame) - _SHOWN} more logs; see report().frame")
        for title, items in self._lists(notes):
            lines.append(f"{title}:")
            lines += [f"  {clean(item, 400)}" for item in items[:_NOTES]]
            if len(items) > _NOTES:
                lines.append(f"  and {len(items) - _NOTES} more")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(c)}</th>" for c in self.frame.columns if c != "problem")
        body = []
        for row in self.frame.head(_SHOWN).drop(columns="problem").itertuples(index=False):
            cells = "".join(f"<td>{escape(clean(_cell(value), 80))}</td>" for value in row)
            body.append(f"<tr>{cells}</tr>")
        more = len(self.frame) - _SHOWN
        lists = "".join(
            f"<p><b>{escape(title)}</b></p><ul>"
            + "".join(f"<li>{escape(clean(item, 400))}</li>" for item in items[:_NOTES])
            + (f"<li>and {len(items) - _NOTES} more</li>" if len(items) > _NOTES else "")
            + "</ul>"
            for title, items in self._lists(True)
        )
        return (
            f"<div class='wb-report'><table><caption style='text-align:left'>{escape(self._headline())}</caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
            + (f"<p>and {more} more logs</p>" if more > 0 else "")
            + f"{lists}</div>"
        )

    def _headline(self) -> str:
        frame = self.frame
        bad = int((frame["problem"] != "").sum())
        runs, logs = int(frame["runs"].sum()), len(frame) - bad
        parts = [f"{runs} run{'s' * (runs != 1)} from {logs} log{'s' * (logs != 1)}"]
        if bad:
            parts.append(f"{bad} could not be read")
        if skipped := int(frame["skipped"].sum()):
            parts.append(f"{skipped} records skipped")
        return "; ".join(parts)

    def _lists(self, notes: bool) -> list[tuple[str, list[str]]]:
        named = [
            f"header {header!r} -> {name}" + (f" x {factor:.6g}" if factor != 1 else "")
            for header, name, factor, _ in self.names.itertuples(index=False)
        ]
        lists = [
            ("names", named),
            ("derived, not logged", [f"{name}: {how}" for name, how in self.derived.items()]),
            ("not read", [f"{bad['path']}: {bad['reason']}" for bad in self.unreadable]),
            ("notes", list(self.runs.messages) if notes else []),
        ]
        return [(title, items) for title, items in lists if items]


def _format(path: str) -> tuple[str, int]:
    try:
        reader = find(Path(path))
    except (ValueError, OSError):
        return "", 0
    return (reader.name, reader.version) if reader is not None else ("", 0)


def _tail(path: str) -> str:
    """A path, or its end if it is long."""
    return path if len(path) <= 60 else f"…{path[-59:]}"


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, float):
        return "" if value != value else f"{value:.0f}"
    return str(value)
