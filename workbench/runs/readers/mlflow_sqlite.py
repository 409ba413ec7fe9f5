"""MLflow's SQLite backend: ``mlflow.db`` with the runs of all experiments."""

from __future__ import annotations

import math
from collections import Counter
from functools import partial
from pathlib import Path
from sqlite3 import Connection
from typing import Any

import pandas as pd

from workbench.runs.lazy_curves import LazyCurves
from workbench.runs.readers.base import LoadError, Log, Reader
from workbench.runs.readers.mlflow_files import NUMBERED, MLflowRun, Series, curve, together
from workbench.runs.sqlite_file import connect, is_sqlite, rows, schema, tables

__all__ = ["MLflowSQLite"]

_TABLES = {
    "runs": {"run_uuid", "status"},
    "metrics": {"key", "value", "run_uuid"},
    "params": {"key", "value", "run_uuid"},
}
_ABOUT = ("run_uuid", "name", "status", "start_time", "end_time", "experiment_id", "lifecycle_stage")
_METRIC = ("key", "value", "step", "timestamp", "is_nan")
#: MLflow stores infinity as the largest double (``mlflow.store.tracking.sqlalchemy_store``).
_LARGEST = 1.7976931348623157e308


class MLflowSQLite(Reader):
    """The database of ``--backend-store-uri sqlite:///mlflow.db``; curves are read when they are looked at.

    Runs that were deleted in MLflow are left out.
    """

    name = "MLflow SQLite"
    largest = None

    def sniff(self, path: Path, head: bytes) -> bool:
        if not is_sqlite(head):
            return False
        known = schema(path)
        return "experiments" in known and all(columns <= known.get(name, set()) for name, columns in _TABLES.items())

    def read(self, path: Path) -> Log:
        with connect(path) as connection:
            store = _Store(connection)
            experiments = dict(store.every("experiments", "experiment_id", "name"))
            about = store.every("runs", *_ABOUT, then="ORDER BY start_time, run_uuid")
            params, tags = (_by_run(store.every(table, "run_uuid", "key", "value")) for table in ("params", "tags"))
            final, steps, numbered = store.final()
        runs: list[MLflowRun] = []
        makers: dict[int, Any] = {}
        skipped: dict[str, int] = {}
        for run, name, state, start, end, experiment, stage in about:
            if not isinstance(run, str) or stage == "deleted":
                why = "was deleted in MLflow" if stage == "deleted" else "has no id"
                skipped[why] = skipped.get(why, 0) + 1
                continue
            said = {"run_id": run, "run_name": name, "start_time": start, "end_time": end, "steps": steps.get(run)}
            said |= {"experiment": experiments.get(experiment), "state": str(state or "").lower() or None}
            if run in final:
                makers[len(runs)] = partial(_curve, path, run)
            problem = "" if said["state"] else "its state is missing"
            runs.append(MLflowRun(said, params.get(run, {}), tags.get(run, {}), final.get(run, {}), problem))
        if not runs:
            raise LoadError("all its runs were deleted in MLflow" if skipped else "its database holds no runs")
        messages = store.messages + ([NUMBERED] if numbered else [])
        return together(runs, LazyCurves(makers), messages, skipped, read=len(about))


class _Store:
    """An open database, whichever version of MLflow made it.

    Attributes:
        messages: what could not be read.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection, self.known = connection, tables(connection)
        self.messages: list[str] = []

    def every(self, table: str, *columns: str, then: str = "") -> list[tuple[Any, ...]]:
        """All rows of a table; NULL for a column, and nothing for a table, that is not there."""
        if table not in self.known:
            return []
        chosen = ", ".join(f'"{name}"' if name in self.known[table] else "NULL" for name in columns)
        found, trouble = rows(self.connection, f'SELECT {chosen} FROM "{table}" {then}')
        if trouble:
            self.messages.append(f"{table}: {trouble}")
        return found

    def final(self) -> tuple[dict[str, dict[str, float]], dict[str, float], bool]:
        """Run -> final metrics, run -> last step, and whether some run's values have to be numbered."""
        table = "latest_metrics" if "latest_metrics" in self.known else "metrics"
        final: dict[str, dict[str, float]] = {}
        steps: dict[str, float] = {}
        at: dict[tuple[str, str], tuple[float, float]] = {}
        for run, key, value, step, time, is_nan in self.every(table, "run_uuid", *_METRIC):
            number, place = _number(value, is_nan), (_count(step), _count(time))
            if number is None or not isinstance(run, str) or not isinstance(key, str):
                continue
            if place >= at.get((run, key), place):
                at[run, key] = place
                final.setdefault(run, {})[key] = number
            steps[run] = max(place[0], steps.get(run, 0.0))
        if all(steps.values()):
            return final, steps, False
        counts = Counter(self.every("metrics", "run_uuid", "key", then="WHERE step = 0" if self._has_steps else ""))
        longest: dict[str, int] = {}
        for (run, _), n in counts.items():
            longest[run] = max(n - 1, longest.get(run, 0))
        unsaid = {run: float(longest.get(run, 0)) for run, step in steps.items() if not step}
        return final, steps | unsaid, any(unsaid.values())

    @property
    def _has_steps(self) -> bool:
        return "step" in self.known["metrics"]


def _curve(path: Path, run: str) -> pd.DataFrame:
    with connect(path) as connection:
        has = tables(connection).get("metrics", set())
        chosen = ", ".join(name if name in has else "NULL" for name in _METRIC)
        found, _ = rows(connection, f"SELECT {chosen} FROM metrics WHERE run_uuid = ?", (run,))
    parts: dict[str, list[tuple[float, float, float]]] = {}
    for key, value, step, time, is_nan in found:
        number = _number(value, is_nan)
        if isinstance(key, str) and number is not None:
            parts.setdefault(key, []).append((_count(step), number, _count(time)))
    return curve({key: Series.of(*zip(*values, strict=True)) for key, values in parts.items()})


def _by_run(found: list[tuple[Any, ...]]) -> dict[str, dict[str, str]]:
    grouped: dict[str, dict[str, str]] = {}
    for run, key, value in found:
        if isinstance(run, str) and isinstance(key, str) and value is not None:
            grouped.setdefault(run, {})[key] = str(value)
    return grouped


def _number(value: Any, is_nan: Any) -> float | None:
    """A metric's value: NaN has a column of its own, infinity is stored as the largest double."""
    if is_nan:
        return math.nan
    if not isinstance(value, int | float):
        return None
    return math.copysign(math.inf, value) if abs(value) == _LARGEST else float(value)


def _count(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
