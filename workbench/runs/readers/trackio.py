"""trackio projects: one SQLite database for each, with the runs' settings and what they logged."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

from workbench.runs import sqlite_file, strict_json
from workbench.runs.history import History, lazy
from workbench.runs.readers.base import LoadError, Log, Reader
from workbench.runs.run_row import run_row
from workbench.runs.strict_json import flatten

__all__ = ["Trackio"]

#: How trackio writes the numbers that JSON does not have.
_FLOATS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
_OWN = {"_Group": "group", "_Created": "created", "_Username": "username"}


class Trackio(Reader):
    """``~/.cache/huggingface/trackio/PROJECT.db``: every run of a project, with ids or, before 0.24, without.

    Numbers and text are read; pictures, tables, histograms and lists are counted as skipped, hardware measurements
    are left out. trackio does not say whether a run has ended, so none is marked as unfinished.
    """

    name = "trackio"
    largest = None

    def sniff(self, path: Path, head: bytes) -> bool:
        if not sqlite_file.is_sqlite(head):
            return False
        return {"timestamp", "run_name", "step", "metrics"} <= sqlite_file.schema(path).get("metrics", frozenset())

    def read(self, path: Path) -> Log:
        with sqlite_file.connect(path) as connection:
            tables = sqlite_file.tables(connection)
            key = "run_id" if "run_id" in tables.get("metrics", ()) else "run_name"
            logged, damage = sqlite_file.rows(
                connection, f"SELECT {key}, run_name, timestamp, step, metrics FROM metrics NOT INDEXED"
            )
            configs: list[tuple[Any, ...]] = []
            if {key, "run_name", "config"} <= tables.get("configs", set()):
                query = f"SELECT {key}, run_name, config FROM configs NOT INDEXED"
                configs, also = sqlite_file.rows(connection, query)
                damage = damage or also
        if not logged and not configs:
            raise LoadError(damage or "its trackio project holds no runs")
        return _log(path.stem, logged, configs, damage, ids=key == "run_id")


def _log(project: str, logged: list[tuple[Any, ...]], configs: list[tuple[Any, ...]], damage: str, ids: bool) -> Log:
    skipped: Counter[str] = Counter()
    histories: dict[Any, History] = {}
    names: dict[Any, Any] = {}
    times: dict[Any, list[str]] = {}
    # like trackio: what was sent later may have been logged earlier
    for key, name, time, step, text in sorted(logged, key=lambda row: str(row[2])):
        metrics = _mapping(text)
        if metrics is None or isinstance(step, bool) or not isinstance(step, int | float):
            skipped["is damaged"] += 1
            continue
        names.setdefault(key, name)
        times.setdefault(key, []).append(str(time))
        kept, left = _plain(metrics)
        skipped["is no number or text"] += left
        histories.setdefault(key, History()).add(step, kept)
    settings: dict[Any, dict[str, Any]] = {}
    for key, name, text in configs:
        config = _mapping(text)
        if config is None:
            skipped["is damaged"] += 1
            continue
        names.setdefault(key, name)
        settings[key] = config
    rows, problems, found = [], {}, {}
    for row, (key, name) in enumerate(names.items()):
        history = histories.get(key, History())
        config = settings.get(key, {})
        own = {"run": name, **({"run_id": key} if ids else {}), "project": project}
        own |= {_OWN[k]: v for k, v in config.items() if k in _OWN and v is not None}
        if history.records:
            own |= {"steps": history.last_step, "seconds": _seconds(times[key])}
        else:
            problems[row] = "nothing was logged in it"
        config = flatten({k: v for k, v in config.items() if k not in _OWN})
        rows.append(
            run_row(
                own, {k: _FLOATS.get(v, v) if isinstance(v, str) else v for k, v in config.items()}, history.final()
            )
        )
        found[row] = history
    messages = [f"trackio project {project!r}: {damage}; what could be read was kept"] if damage else []
    if damage:
        problems = dict.fromkeys(range(len(rows)), "its database is damaged, so it may lack records")
    return Log.of_records(
        rows,
        curves=lazy(found),
        messages=messages,
        problems=problems,
        settled=True,
        read=len(logged),
        skipped={why: n for why, n in skipped.items() if n},
    )


def _mapping(text: Any) -> dict[str, Any] | None:
    if isinstance(text, bytes):  # what newer versions write into the column of text
        text = text.decode("utf-8", "replace")
    try:
        value = strict_json.loads(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _plain(metrics: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """Numbers and text by dotted keys, and how much else there was."""
    kept, left = {}, 0
    plain = {}
    for name, value in metrics.items():
        if isinstance(value, dict) and "_type" in value:
            left += 1
        else:
            plain[name] = value
    for name, value in flatten(plain).items():
        if isinstance(value, list | dict):
            left += 1
        else:
            kept[name] = _FLOATS.get(value, value) if isinstance(value, str) else value
    return kept, left


def _seconds(times: list[str]) -> float | None:
    """From the first record to the last."""
    try:
        first, last = (datetime.fromisoformat(time) for time in (times[0], times[-1]))
        return (last - first).total_seconds()
    except (ValueError, TypeError):  # damaged, or only one of them has a time zone
        return None
