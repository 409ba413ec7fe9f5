"""PyTorch Lightning's ``CSVLogger``: ``metrics.csv`` and ``hparams.yaml`` in a folder for each run."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from workbench.runs import plain_yaml
from workbench.runs.history import History, lazy
from workbench.runs.readers.base import LoadError, Log, Reader, read_text
from workbench.runs.run_row import run_row
from workbench.runs.strict_json import flatten

__all__ = ["Lightning"]

_METRICS, _SETTINGS = "metrics.csv", "hparams.yaml"


class Lightning(Reader):
    """``lightning_logs/version_N/``: one run, called ``NAME/version_N`` where the logger was given a name.

    Values of training and validation stand on rows of their own; those of one step become one point. ``step`` is
    the number of the optimizer step, from 0. ``epoch`` is the number of the epoch, from 0, which is not how many
    epochs have passed: it is called ``epoch_index``. Lightning does not say whether a run has ended.
    """

    name = "Lightning CSV"
    folders = True

    def sniff(self, path: Path, head: bytes) -> bool:
        try:
            if not ((path / _METRICS).is_file() and (path / _SETTINGS).is_file()):
                return False
            with (path / _METRICS).open("rb") as file:
                line, whole, _ = file.read(65536).partition(b"\n")
        except OSError:  # no permission: not ours to read
            return False
        # the file is written as a whole now and then, so that it may just be empty or short
        return not whole or b"step" in line.strip().split(b",")

    def read(self, path: Path) -> Log:
        messages: list[str] = []
        settings, damage = _settings(path)
        if damage:
            messages.append(f"{path.name}: hparams.yaml was not read as a whole, {damage}")
        try:
            text, said = read_text(path / _METRICS)
        except LoadError as error:
            raise LoadError(f"its metrics.csv cannot be read: {error}") from None
        messages += said
        history, read, skipped = _history(text)
        if skipped.get("is cut off"):
            messages.append(f"{path.name}: the last line of metrics.csv is cut off and was skipped")
        path = path.resolve()
        named = path.parent.name not in ("lightning_logs", "")
        own: dict[str, Any] = {"run": f"{path.parent.name}/{path.name}" if named else path.name}
        if history.records:
            own["steps"] = history.last_step
        measured = {key: value for key, value in history.final().items() if key != "epoch_index"}
        problems = {0: "its hparams.yaml is damaged or cut off"} if damage else {}
        if not history.records:
            problems = {0: "no line of its metrics.csv can be read"}
        return Log.of_records(
            [run_row(own, settings, measured)],
            curves=lazy({0: history}),
            messages=messages,
            problems=problems,
            settled=True,
            read=read,
            skipped=skipped,
        )


def _settings(path: Path) -> tuple[dict[str, Any], str]:
    """The settings, flat, and what is wrong with their file."""
    try:
        text, _ = read_text(path / _SETTINGS)
    except LoadError as error:
        return {}, "" if "empty" in str(error) else str(error)
    whole = text.endswith("\n")
    try:
        # the value on a line that is cut off may be another one
        value = plain_yaml.loads(text if whole else text[: text.rfind("\n") + 1])
    except ValueError as error:
        return {}, str(error)
    return flatten(value) if isinstance(value, dict) else {}, "" if whole else "it is cut off"


def _history(text: str) -> tuple[History, int, dict[str, int]]:
    """The records of a metrics.csv, how many, and what was skipped."""
    history, skipped, read = History(), {"is cut off": 0, "has too few or too many cells": 0, "has no step": 0}, 0
    whole, _, rest = text.rpartition("\n")
    if rest.strip():
        skipped["is cut off"] += 1
    csv.field_size_limit(2**31 - 1)
    try:
        rows = [row for row in csv.reader(io.StringIO(whole + "\n", newline="")) if row]
    except csv.Error as error:
        raise LoadError(f"its metrics.csv is damaged ({error})") from None
    header = rows[0] if rows else []
    if header.count("step") != 1:
        raise LoadError("its metrics.csv has no column 'step'")
    place = header.index("step")
    for row in rows[1:]:
        if len(row) != len(header):
            skipped["has too few or too many cells"] += 1
            continue
        step = _number(row[place])
        if not isinstance(step, float):
            skipped["has no step"] += 1
            continue
        read += 1
        metrics = {
            "epoch_index" if name == "epoch" else name: _number(cell)
            for i, (name, cell) in enumerate(zip(header, row, strict=True))
            if cell and i != place
        }
        history.add(step, metrics)
    return history, read, {why: n for why, n in skipped.items() if n}


def _number(cell: str) -> float | str:
    try:
        return cell if "_" in cell else float(cell)
    except ValueError:
        return cell
