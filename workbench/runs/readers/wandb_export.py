"""Weights & Biases exports: the table of runs, and the lines of a panel, as its web page saves them in CSV.

W&B documents neither file; both are read as they are found in public repositories.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from workbench.runs.cells import Cells
from workbench.runs.curves import is_step
from workbench.runs.readers.base import LoadError, Log, Reader
from workbench.runs.readers.delimited import Delimited
from workbench.runs.run_row import run_row

__all__ = ["WandbPanel", "WandbTable"]

#: What W&B says of every run; the columns can be hidden, so a table has most of them.
_OWN = ("Name", "State", "Notes", "User", "Tags", "Created", "Runtime", "Sweep")
_ALSO = ("ID", "Agent", "Description", "Host", "Job Type", "Group", "GitHub", "Updated", "End Time", "Commit")
_SURE = frozenset({"Name", "State", "Created", "Runtime"})
#: Ends of the lines of a panel beside the line itself: the envelope of a group, or of a sampled stretch.
_ENVELOPE = ("__MIN", "__MAX")
_GROUP = "Group: "
_DURATION = re.compile(r"(?:(\d+)d)?\s*(?:(\d+)h)?\s*(?:(\d+)m)?\s*(?:(\d+(?:\.\d+)?)s)?")


class WandbTable(Reader):
    """The table of runs: ``"Name","State","Notes",...`` then settings, then the summary, each in alphabetical order."""

    name = "W&B runs table"
    suffixes: ClassVar[tuple[str, ...]] = ()

    def sniff(self, path: Path, head: bytes) -> bool:
        cells = _header(head)
        return set(cells) >= _SURE and len(set(cells) & set(_OWN)) > len(_SURE)

    def read(self, path: Path) -> Log:
        log = Delimited().read(path)
        frame = log.frame
        if "Name" not in frame or "State" not in frame:
            raise LoadError("its header is cut off")
        settings, summary = _halves([str(h) for h in frame.columns if h not in (*_OWN, *_ALSO)])
        rows, problems = [], dict(log.problems)
        for row, cells in enumerate(frame.to_dict("records")):
            state = str(cells["State"] or "").strip().lower()
            if state != "finished":
                said = f"its state is {state!r}, not 'finished'" if state else "its state is missing"
                problems[row] = f"{problems[row]}; {said}" if row in problems else said
            rows.append(_row(cells, settings, summary))
        log.frame = Log.of_records(rows).frame
        log.problems, log.settled, log.read = problems, True, len(frame)
        return log


class WandbPanel(Reader):
    """The lines of a panel: the x axis, then for each run or group ``NAME - METRIC`` with ``__MIN`` and ``__MAX``.

    Each name is a run with a curve. The x axis is the step, whatever it counts, unless the step of each run was
    exported too (``NAME - _step``), as W&B does when another x axis was chosen.
    """

    name = "W&B panel"
    suffixes: ClassVar[tuple[str, ...]] = ()

    def sniff(self, path: Path, head: bytes) -> bool:
        cells = _header(head)
        if len(cells) < 2 or " - " in cells[0] or not all(" - " in cell for cell in cells[1:]):
            return False
        return any({cell + end for end in _ENVELOPE} <= set(cells) for cell in cells[1:])

    def read(self, path: Path) -> Log:
        log = Delimited().read(path)
        log.messages = [m for m in log.messages if "appears more than once" not in m]
        if len(log.frame.columns) < 2:
            raise LoadError("its header is cut off")
        # a line of which cells are missing, or whose last number may be cut off, counts for none of the runs
        frame = log.frame.drop(index=list(log.problems)).reset_index(drop=True)
        log.skipped = dict.fromkeys(("is not whole",), len(log.problems)) if log.problems else {}
        log.messages += list(log.problems.values())
        cells = Cells(frame)
        axis = str(frame.columns[0])
        rows: list[dict[str, Any]] = []
        curves: dict[int, pd.DataFrame] = {}
        for (name, _), metrics in _lines([str(header) for header in frame.columns[1:]]).items():
            run = name.removeprefix(_GROUP)
            given = {metric: cells.given(header) for metric, header in metrics.items() if _is_metric(metric)}
            if not given:  # of a header that is cut off, the end of a name is left
                continue
            final = {metric: frame[metrics[metric]][g].iloc[-1] for metric, g in given.items() if g.any()}
            curve = _curve(axis, cells, metrics)[np.any(list(given.values()), axis=0)].reset_index(drop=True)
            steps = curve["step"].to_numpy()
            own = {"run": run, "group": run if name != run else None}
            rows.append(own | final | {"steps": np.nanmax(steps) if np.isfinite(steps).any() else None})
            curves[len(rows) - 1] = curve
        grouped = any(row["group"] for row in rows)
        if not is_step(axis):
            log.messages.append(f"the x axis of the panel is {axis!r}; it is the step of runs that state none")
        if grouped:
            log.messages.append("lines of a W&B panel are means over groups of runs, not runs")
        log.read, log.settled, log.problems = len(frame), True, {}
        log.frame, log.curves = Log.of_records(rows).frame, curves
        if not grouped and rows:
            log.frame = log.frame.drop(columns="group")
        return log


def _header(head: bytes) -> list[str]:
    """The cells of the first line; of a line longer than `head` those that are whole."""
    decoded = head.decode("utf-8-sig", "replace").lstrip("\r\n")
    line, newline, _ = decoded.partition("\n")
    try:
        cells = next(csv.reader([line.rstrip("\r")]), [])
    except csv.Error:
        return []
    return cells if newline else cells[:-1]


def _halves(headers: list[str]) -> tuple[list[str], list[str]]:
    """Settings and summary: both are in alphabetical order, so the summary begins where the order does anew.

    Where the order breaks more than once, as in a table whose columns were moved, all count as settings.
    """
    breaks = [i for i in range(1, len(headers)) if headers[i].casefold() < headers[i - 1].casefold()]
    return (headers[: breaks[0]], headers[breaks[0] :]) if len(breaks) == 1 else (headers, [])


def _row(cells: dict[str, Any], settings: list[str], summary: list[str]) -> dict[str, Any]:
    own = {"run": cells["Name"], "state": cells["State"]}
    if cells.get("ID"):
        own["run_id"] = cells["ID"]
    for header in (*_OWN[2:], *_ALSO[1:]):
        value = cells.get(header)
        if header == "Runtime":
            own["seconds"] = _seconds(value)
        elif header in cells:
            own[header.lower()] = None if value == "-" else value
    if cells.get("_step"):
        own["steps"] = cells["_step"]
    stated = {header: cells[header] for header in settings if not header.startswith("_")}
    given = {h: cells[h] for h in summary if not h.startswith("_") and cells[h] not in (None, "")}
    return run_row(own, stated, given)


def _seconds(value: Any) -> Any:
    """``9910`` as it is, ``2h 45m 10s`` in seconds."""
    match = _DURATION.fullmatch(str(value or "").strip())
    if match is None or not any(match.groups()):
        return value
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _lines(headers: list[str]) -> dict[tuple[str, str], dict[str, str]]:
    """(run, number among runs of this name) -> metric -> header.

    Runs of one name have columns of one name, which the reader of the table has numbered.
    """
    known = set(headers)
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for header in headers:
        base, mark, number = header.rpartition("#")
        again = bool(mark) and number.isdigit() and base in known
        name, _, metric = (base if again else header).rpartition(" - ")
        lines.setdefault((name, number if again else ""), {})[metric] = header
    return lines


def _is_metric(name: str) -> bool:
    return name != "_step" and not name.endswith(_ENVELOPE)


def _curve(axis: str, cells: Cells, metrics: dict[str, str]) -> pd.DataFrame:
    """All rows of one run, with its envelope where that differs from the line."""
    x = cells.numbers(axis)[0]
    own = cells.numbers(metrics["_step"])[0] if "_step" in metrics else None
    data = {"step": x if own is None else own}
    if own is not None or not is_step(axis):
        data[axis] = x
    lines = {metric: cells.numbers(header)[0] for metric, header in metrics.items() if _is_metric(metric)}
    for metric, values in lines.items():
        data.setdefault(metric, values)
        for end in _ENVELOPE:
            if metric + end in metrics:
                edge = cells.numbers(metrics[metric + end])[0]
                if not np.array_equal(edge, values, equal_nan=True):
                    data[metric + end] = edge
    return pd.DataFrame(data)
