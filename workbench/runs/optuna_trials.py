"""Optuna's trials as runs, however they were stored."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from workbench.runs import strict_json
from workbench.runs.history import History, lazy
from workbench.runs.readers.base import Log
from workbench.runs.run_row import run_row
from workbench.runs.strict_json import flatten

__all__ = ["METRIC_NAMES", "STATES", "Study", "Trial", "external", "log_of"]

#: Optuna's numbers for the states of a trial.
STATES = ("RUNNING", "COMPLETE", "PRUNED", "FAIL", "WAITING")
#: The system attribute in which ``study.set_metric_names`` keeps the names of the objectives.
METRIC_NAMES = "study:metric_names"

_WHY = {
    "RUNNING": "its state is 'RUNNING', so it is still running or was killed",
    "PRUNED": "it was pruned, so it was stopped before its end",
    "FAIL": "its state is 'FAIL', not 'COMPLETE'",
    "WAITING": "its state is 'WAITING', so it has not begun",
}


@dataclass
class Study:
    """A study: its name, what it minimises or maximises (``MINIMIZE``, ``MAXIMIZE``), its attributes."""

    name: str
    directions: Sequence[str] = ()
    metric_names: Sequence[str] = ()
    attributes: dict[str, Any] = field(default_factory=dict)

    def metric(self, objective: int, objectives: int) -> str:
        """What the value of an objective is called: by the user, else as in Optuna's data frames."""
        if objective < len(self.metric_names) and isinstance(self.metric_names[objective], str):
            return self.metric_names[objective]
        return "value" if max(objectives, len(self.directions)) < 2 else f"values_{objective}"


@dataclass
class Trial:
    """A trial; `values` by objective, `steps` the intermediate values by step. Damaged is what was left out of it."""

    study: Study
    number: int
    state: str
    params: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    values: dict[int, float | None] = field(default_factory=dict)
    steps: dict[float, float | None] = field(default_factory=dict)
    start: str | None = None
    end: str | None = None


def external(internal: Any, distribution: Any) -> Any:
    """The value of a parameter as the program got it, from the number that Optuna stores and its distribution's JSON.

    Raises:
        ValueError: the two do not fit together, or the distribution cannot be read.
    """
    if isinstance(distribution, str | bytes):
        distribution = strict_json.loads(distribution if isinstance(distribution, str) else distribution.decode())
    attributes = distribution.get("attributes") if isinstance(distribution, Mapping) else None
    if isinstance(internal, bool) or not isinstance(internal, int | float) or not isinstance(attributes, Mapping):
        raise ValueError("a parameter's value is no number or has no distribution")
    kind = str(distribution.get("name"))
    if "choices" in attributes:
        choices = attributes["choices"]
        if not isinstance(choices, list) or internal != int(internal) or not 0 <= internal < len(choices):
            raise ValueError("a parameter's value is none of its choices")
        return choices[int(internal)]
    if kind.startswith("Int"):
        if not math.isfinite(internal) or internal != int(internal):
            raise ValueError("a whole parameter has a fraction")
        return int(internal)
    return internal


def log_of(trials: Sequence[Trial], damage: str, read: int, skipped: Mapping[str, int], messages: list[str]) -> Log:
    """A row for each trial, called ``STUDY:NUMBER``.

    Args:
        trials: in the order of their creation.
        damage: why trials that look sound may lack something, empty if nothing is known.
        read, skipped, messages: as in `Log`.
    """
    rows, problems, curves = [], {}, {}
    for row, trial in enumerate(trials):
        study = trial.study
        own: dict[str, Any] = {"run": f"{study.name}:{trial.number}", "study": study.name, "trial": trial.number}
        own["state"] = trial.state
        if study.directions:
            own["direction"] = ", ".join(study.directions).lower()
        seconds = _seconds(trial.start, trial.end)
        if seconds is not None:
            own["seconds"] = seconds
        objectives = len(trial.values)
        metric = study.metric(0, objectives)
        history = History()
        for step, value in trial.steps.items():
            history.add(step, {metric: value})
        if history.records:
            own["steps"] = history.last_step
            curves[row] = history
        settings = dict(trial.params)
        for key, value in flatten(trial.attributes).items():
            settings[f"user_attrs.{key}" if key in settings else key] = value
        for key, value in flatten(study.attributes).items():
            settings[f"study.{key}"] = value
        measured = {study.metric(i, objectives): value for i, value in sorted(trial.values.items())}
        rows.append(run_row(own, settings, measured))
        if trial.state != "COMPLETE":
            problems[row] = _WHY.get(trial.state, f"its state is {trial.state!r}, not 'COMPLETE'")
        elif damage:
            problems[row] = damage
    return Log.of_records(
        rows,
        curves=lazy(curves),
        messages=messages,
        problems=problems,
        settled=True,
        read=read,
        skipped={why: n for why, n in skipped.items() if n},
    )


def _seconds(start: str | None, end: str | None) -> float | None:
    try:
        return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
