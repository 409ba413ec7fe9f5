"""Runs of Sacred's ``FileStorageObserver``: a numbered folder for each."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

from workbench.runs.history import History, lazy
from workbench.runs.readers.base import LoadError, Log, Reader, read_text
from workbench.runs.run_row import run_row
from workbench.runs.strict_json import flatten
from workbench.runs.torn_json import loads_torn

__all__ = ["Sacred"]

#: What Sacred's JSON of a run begins with, as its keys are sorted.
_FIRST = re.compile(rb'\s*\{\s*"(artifacts|command)"')


class Sacred(Reader):
    """``<n>/{run.json, config.json, cout.txt, metrics.json}``: one run, called ``EXPERIMENT:n``.

    The settings are those of ``config.json``, the curve is made of ``metrics.json``, and a result that is a number
    is called ``result``. A run whose status is not ``COMPLETED`` is marked, and so is one of which a file is cut off,
    as Sacred rewrites its files as a whole: of such a file the beginning is read.
    """

    name = "Sacred"
    folders = True
    beside = ("_sources", "_resources")

    def sniff(self, path: Path, head: bytes) -> bool:
        try:
            with os.scandir(path) as entries:
                names = {entry.name for entry in entries if entry.name in ("run.json", "config.json", "cout.txt")}
            if len(names) < 3:
                return False
            with (path / "run.json").open("rb") as file:
                begin = file.read(200)
        except OSError:  # no permission: not ours to read
            return False
        # a file that was just being written may be empty or a few bytes long
        return _FIRST.match(begin) is not None or b'{\n  "artifacts"'.startswith(begin)

    def read(self, path: Path) -> Log:
        messages: list[str] = []
        about = _object(path, "run.json", messages) or {}
        config = _object(path, "config.json", messages)
        if not about and config is None:
            raise LoadError("its run.json and config.json are damaged or cut off")
        # info.json and metrics.json exist only where a program used them
        info = _object(path, "info.json", messages, needed=False) or {}
        metrics = _object(path, "metrics.json", messages, needed=False) or {}
        damaged = list(messages)
        history, read, skipped = _history(metrics)
        experiment = about.get("experiment")
        name = experiment.get("name") if isinstance(experiment, dict) else None
        status = about.get("status", "unknown")
        number = path.resolve().name
        own: dict[str, Any] = {"run": f"{name}:{number}" if isinstance(name, str) else number, "run_id": number}
        own["status"] = status
        for key in ("command", "start_time"):
            if isinstance(about.get(key), str):
                own[key] = about[key]
        seconds = _seconds(about.get("start_time"), about.get("stop_time") or about.get("heartbeat"))
        if seconds is not None:
            own["seconds"] = seconds
        if history.records:
            own["steps"] = history.last_step
        measured = {key: v for key, v in flatten({**info, "result": about.get("result")}).items() if v is not None}
        row = run_row(own, flatten(config or {}), measured | history.final())
        problems = {}
        if damaged:
            problems[0] = damaged[0].partition(": ")[2]
        elif status != "COMPLETED":
            problems[0] = f"its status is {str(status)[:40]!r}, not 'COMPLETED'" + _trace(about.get("fail_trace"))
        return Log.of_records(
            [row],
            curves=lazy({0: history}),
            messages=messages,
            problems=problems,
            settled=True,
            read=read,
            skipped=skipped,
        )


def _object(path: Path, name: str, messages: list[str], needed: bool = True) -> dict[str, Any] | None:
    """The JSON object in a file of the run; None and a message if there is none."""
    if not needed and not (path / name).is_file():
        return None
    reason = "it is no JSON object"
    try:
        value, whole = loads_torn(read_text(path / name)[0])
        if isinstance(value, dict):
            if not whole:
                messages.append(f"{path.name}: {name} is damaged or cut off, only its beginning was read")
            return _plain(value)
    except LoadError as error:
        reason = str(error)
    except ValueError:
        reason = "it is no JSON"
    messages.append(f"{path.name}: {name} cannot be read, {reason}")
    return None


def _history(metrics: dict[str, Any]) -> tuple[History, int, dict[str, int]]:
    """Metrics as records in order of time, how many points were read and what was left out.

    Sacred keeps each metric by itself, as lists of values, steps and times.
    """
    history, skipped, read = History(), Counter(), 0
    points: list[tuple[str, float, str, Any]] = []
    for name, lists in metrics.items():
        values, steps, times = (
            lists.get(key) if isinstance(lists, dict) else None for key in ("values", "steps", "timestamps")
        )
        if not isinstance(values, list) or not isinstance(steps, list):
            skipped["has no values or no steps"] += 1
            continue
        # the values stand last in the file, so that they are fewer where it is cut off
        times = times if isinstance(times, list) and len(times) >= len(values) else [""] * len(values)
        for value, step, time in zip(values, steps, times, strict=False):
            if isinstance(step, bool) or not isinstance(step, int | float) or not isinstance(value, int | float | str):
                skipped["is no number or text"] += 1
                continue
            read += 1
            points.append((str(time), step, name, value))
    points.sort(key=lambda point: point[0])
    for _, step, name, value in points:
        history.add(step, {name: value})
    return history, read, dict(skipped)


def _plain(value: Any) -> Any:
    """Without the marks of jsonpickle: numpy's numbers as numbers, keys that are no text as text."""
    if isinstance(value, dict):
        if str(value.get("py/object", "")).startswith("numpy") and isinstance(value.get("value"), bool | int | float):
            return value["value"]
        return {key.removeprefix("json://"): _plain(v) for key, v in value.items() if not key.startswith("py/")}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _seconds(start: Any, stop: Any) -> float | None:
    try:
        seconds = (datetime.fromisoformat(stop) - datetime.fromisoformat(start)).total_seconds()
    except (TypeError, ValueError):
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _trace(trace: Any) -> str:
    """The last line of a traceback, which says what happened."""
    if not isinstance(trace, list) or not trace:
        return ""
    return f" ({str(trace[-1]).strip()[:200]})"
