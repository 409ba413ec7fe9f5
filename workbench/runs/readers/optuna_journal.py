"""Optuna's journal files: one JSON object a line, each an operation on a study or trial."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workbench.runs import strict_json
from workbench.runs.optuna_trials import METRIC_NAMES, STATES, Study, Trial, external, log_of
from workbench.runs.readers.base import LoadError, Log, Reader, read_text

__all__ = ["OptunaJournal"]

_DIRECTIONS = ("NOT_SET", "MINIMIZE", "MAXIMIZE")
_FINISHED = ("COMPLETE", "PRUNED", "FAIL")


class OptunaJournal(Reader):
    """A file of ``JournalFileBackend``; each trial is a run, as in `OptunaSqlite`.

    A trial has no id in it: it is told by how many were created before. So nothing is read behind a damaged line,
    as it might have created one; Optuna itself refuses such a file. A last line that is still being written is left.
    """

    name = "Optuna journal"

    def sniff(self, path: Path, head: bytes) -> bool:
        line, whole, _ = head.partition(b"\n")
        if not whole or not line.startswith(b"{"):
            return False
        try:
            first = json.loads(line)
        except (ValueError, RecursionError):
            return False
        return isinstance(first, dict) and isinstance(first.get("op_code"), int) and "worker_id" in first

    def read(self, path: Path) -> Log:
        text, messages = read_text(path)
        *lines, rest = text.split("\n")
        journal, damage = _Journal(), ""
        for number, line in enumerate(lines, 1):
            try:
                journal.apply(line)
            except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError):
                damage = f"line {number} of its journal is damaged, and nothing behind it was read"
                journal.skipped["stands behind a damaged line"] = len(lines) - number
                journal.skipped["is damaged"] += 1
                messages.append(f"{path.name}: line {number} is damaged; it and what follows were not read")
                break
            journal.read += 1
        if rest.strip():
            messages.append(f"{path.name}: the last line is cut off and was skipped")
            journal.skipped["is cut off"] += 1
        trials = [trial for trial in journal.trials if trial.study in journal.studies.values()]
        if not trials:
            raise LoadError(damage or "its Optuna studies hold no trials")
        return log_of(trials, "", journal.read, journal.skipped, messages)


class _Journal:
    """What the operations made so far; like Optuna, those on finished trials and deleted studies are passed over."""

    def __init__(self) -> None:
        self.studies: dict[int, Study] = {}
        self.trials: list[Trial] = []
        self.counts: Counter[int] = Counter()
        self.created = 0
        self.read = 0
        self.skipped: Counter[str] = Counter()
        self.operations: tuple[Callable[[dict[str, Any]], None], ...] = (
            self.create_study, self.delete_study, self.study_attribute, self.study_system_attribute, self.create_trial,
            self.parameter, self.state, self.intermediate, self.attribute, lambda log: None, lambda log: None,
        )  # fmt: skip

    def apply(self, line: str) -> None:
        """Carry out one line; anything but a whole operation raises a ValueError, TypeError or KeyError."""
        log = strict_json.loads(line)
        if not isinstance(log, dict) or isinstance(log["op_code"], bool) or log["op_code"] < 0:
            raise ValueError("no operation")
        self.operations[log["op_code"]](log)

    def create_study(self, log: dict[str, Any]) -> None:
        if any(study.name == log["study_name"] for study in self.studies.values()):
            return
        self.studies[self.created] = Study(str(log["study_name"]), [_DIRECTIONS[d] for d in log["directions"]])
        self.created += 1

    def delete_study(self, log: dict[str, Any]) -> None:
        self.studies.pop(log["study_id"], None)

    def study_attribute(self, log: dict[str, Any]) -> None:
        if log["study_id"] in self.studies:
            self.studies[log["study_id"]].attributes.update(log["user_attr"])

    def study_system_attribute(self, log: dict[str, Any]) -> None:
        names = log["system_attr"].get(METRIC_NAMES)
        if log["study_id"] in self.studies and isinstance(names, list):
            self.studies[log["study_id"]].metric_names = names

    def create_trial(self, log: dict[str, Any]) -> None:
        study = log["study_id"]
        if study not in self.studies:
            return
        distributions = log.get("distributions") or {}
        values = log["values"] if log.get("values") is not None else [log.get("value")]
        trial = Trial(
            self.studies[study],
            self.counts[study],
            STATES[log.get("state", 0)],
            params={name: external(value, distributions[name]) for name, value in (log.get("params") or {}).items()},
            attributes=dict(log.get("user_attrs") or {}),
            values=_values(values),
            steps={int(step): _number(value) for step, value in (log.get("intermediate_values") or {}).items()},
            start=log["datetime_start"],
            end=log.get("datetime_complete"),
        )
        self.trials.append(trial)
        self.counts[study] += 1

    def parameter(self, log: dict[str, Any]) -> None:
        trial = self.unfinished(log)
        if trial is not None:
            trial.params[log["param_name"]] = external(log["param_value_internal"], log["distribution"])

    def state(self, log: dict[str, Any]) -> None:
        trial, state = self.unfinished(log), STATES[log["state"]]
        if trial is None or (state == "RUNNING" and trial.state == "RUNNING"):
            return
        if state == "RUNNING":
            trial.start = log["datetime_start"]
        if state in _FINISHED:
            trial.end = log["datetime_complete"]
        trial.state = state
        if log["values"] is not None:
            trial.values = _values(log["values"])

    def intermediate(self, log: dict[str, Any]) -> None:
        trial = self.unfinished(log)
        if trial is not None:
            trial.steps[int(log["step"])] = _number(log["intermediate_value"])

    def attribute(self, log: dict[str, Any]) -> None:
        trial = self.unfinished(log)
        if trial is not None:
            trial.attributes.update(log["user_attr"])

    def unfinished(self, log: dict[str, Any]) -> Trial | None:
        key = log["trial_id"]
        if isinstance(key, bool) or not isinstance(key, int):
            raise ValueError("no trial")
        trial = self.trials[key] if 0 <= key < len(self.trials) else None
        return None if trial is None or trial.state in _FINISHED else trial


def _values(values: Any) -> dict[int, float]:
    return {i: _number(value) for i, value in enumerate(values) if value is not None}


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("a value is no number")
    return value
