"""Optuna studies in SQLite, as ``storage="sqlite:///study.db"`` makes them."""

from __future__ import annotations

import math
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

from workbench.runs import sqlite_file, strict_json
from workbench.runs.optuna_trials import METRIC_NAMES, Study, Trial, external, log_of
from workbench.runs.readers.base import LoadError, Log, Reader

__all__ = ["OptunaSqlite"]

#: Where the kind of a value is stored beside it, as SQLite has no infinities for Optuna.
_KINDS = {"INF_POS": math.inf, "INF_NEG": -math.inf, "NAN": math.nan}


class OptunaSqlite(Reader):
    """A database with studies and their trials, of Optuna 0.9 and later.

    Each trial is a run: its parameters as the program got them, its user attributes, its values under the names of
    the objectives (``value`` where they have none), its intermediate values as curve. Only completed trials are
    without a problem; a pruned one keeps its values.
    """

    name = "Optuna SQLite"
    largest = None

    def sniff(self, path: Path, head: bytes) -> bool:
        if not sqlite_file.is_sqlite(head):
            return False
        found = sqlite_file.schema(path)
        return "study_name" in found.get("studies", ()) and {"trial_id", "param_name"} <= found.get(
            "trial_params", frozenset()
        )

    def read(self, path: Path) -> Log:
        with sqlite_file.connect(path) as connection:
            database = _Database(connection)
            trials = database.trials()
        if not trials:
            raise LoadError(database.damage or "its Optuna studies hold no trials")
        damage = "its database is damaged, so it may lack values" if database.damage else ""
        messages = [f"{path.name}: {database.damage}; what could be read was kept"] if database.damage else []
        return log_of(trials, damage, database.read, database.skipped, messages)


class _Database:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.tables = sqlite_file.tables(connection)
        self.damage = ""
        self.read = 0
        self.skipped: Counter[str] = Counter()

    def select(self, table: str, *columns: str) -> list[tuple[Any, ...]]:
        """Rows of a table in the order in which they were written; None for a column that this version lacks."""
        known = self.tables.get(table, set())
        if columns[0] not in known:
            return []
        wanted = ", ".join(column if column in known else "NULL" for column in columns)
        found, damage = sqlite_file.rows(self.connection, f"SELECT {wanted} FROM {table} NOT INDEXED")
        self.damage = self.damage or damage
        self.read += len(found)
        return found

    def trials(self) -> list[Trial]:
        studies = self.studies()
        trials: dict[int, Trial] = {}
        counts: Counter[Any] = Counter()
        columns = ("trial_id", "study_id", "number", "state", "datetime_start", "datetime_complete", "value")
        for key, study, number, state, start, end, value in sorted(self.select("trials", *columns), key=_id):
            if study not in studies:
                self.skipped["belongs to no study"] += 1
                continue
            trial = Trial(studies[study], counts[study] if number is None else number, str(state), start=start, end=end)
            counts[study] += 1
            if value is not None:  # before 2.4 a trial had one value and no table of values
                trial.values[0] = value
            trials[key] = trial
        self.params(trials)
        self.values(trials)
        for key, name, text in self.select("trial_user_attributes", "trial_id", "key", "value_json"):
            self.put(trials, key, "attributes", name, self.json(text))
        for key, name, text in self.select("trial_system_attributes", "trial_id", "key", "value_json"):
            if name == "_number" and key in trials:  # before 1.3
                trials[key].number = self.json(text)
        return list(trials.values())

    def studies(self) -> dict[int, Study]:
        studies = {key: Study(str(name)) for key, name in self.select("studies", "study_id", "study_name")}
        for key, direction in self.select("studies", "study_id", "direction"):  # before 2.4
            if direction is not None and key in studies:
                studies[key].directions = [str(direction)]
        found: dict[int, dict[int, str]] = {}
        for key, objective, direction in self.select("study_directions", "study_id", "objective", "direction"):
            found.setdefault(key, {})[objective] = str(direction)
        for key, directions in found.items():
            if key in studies:
                studies[key].directions = [directions[i] for i in sorted(directions)]
        for key, name, text in self.select("study_system_attributes", "study_id", "key", "value_json"):
            names = self.json(text) if name == METRIC_NAMES else None
            if isinstance(names, list) and key in studies:
                studies[key].metric_names = names
        for key, name, text in self.select("study_user_attributes", "study_id", "key", "value_json"):
            if key in studies:
                studies[key].attributes[str(name)] = self.json(text)
        return studies

    def params(self, trials: dict[int, Trial]) -> None:
        known: dict[Any, Any] = {}  # few distributions, many values
        columns = ("trial_id", "param_name", "param_value", "distribution_json")
        for key, name, value, text in self.select("trial_params", *columns):
            try:
                if text not in known:
                    known[text] = strict_json.loads(text)
                self.put(trials, key, "params", name, external(value, known[text]))
            except (ValueError, TypeError):
                self.skipped["is damaged"] += 1

    def values(self, trials: dict[int, Trial]) -> None:
        if "trial_intermediate_values" not in self.tables:  # before 2.4 this table held the intermediate values
            for key, step, value in self.select("trial_values", "trial_id", "step", "value"):
                self.put(trials, key, "steps", step, value)
            return
        for key, objective, value, kind in self.select("trial_values", "trial_id", "objective", "value", "value_type"):
            self.put(trials, key, "values", objective, _KINDS.get(kind, value))
        columns = ("trial_id", "step", "intermediate_value", "intermediate_value_type")
        for key, step, value, kind in self.select("trial_intermediate_values", *columns):
            # of 2.4 to 2.10 a value that is missing was NaN
            self.put(trials, key, "steps", step, _KINDS.get(kind, math.nan if value is None else value))

    def put(self, trials: dict[int, Trial], key: Any, where: str, name: Any, value: Any) -> None:
        """One cell of a trial; what is of the wrong kind is damaged."""
        numbered = where in ("values", "steps")
        sound = isinstance(name, int if numbered else str) and (not numbered or isinstance(value, int | float | None))
        if key not in trials or not sound:
            self.skipped["is damaged"] += 1
        else:
            getattr(trials[key], where)[name] = value

    def json(self, text: Any) -> Any:
        try:
            return strict_json.loads(text)
        except (ValueError, TypeError):
            self.skipped["is damaged"] += 1
            return None


def _id(row: tuple[Any, ...]) -> tuple[int, Any]:
    return (0, row[0]) if isinstance(row[0], int) else (1, 0)
