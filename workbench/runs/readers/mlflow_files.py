"""MLflow's file store: ``mlruns/<experiment>/<run>/{meta.yaml, params/, metrics/, tags/}``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from workbench.runs.lazy_curves import LazyCurves
from workbench.runs.readers.base import LoadError, Log, Reader
from workbench.runs.run_row import run_row

__all__ = ["NUMBERED", "MLflow", "MLflowRun", "Series", "curve", "together"]

_META = "meta.yaml"
#: ``mlflow.entities.RunStatus`` by number.
_STATES = {1: "running", 2: "scheduled", 3: "finished", 4: "failed", 5: "killed"}
_PROBE = 4096
NUMBERED = "metrics of an MLflow run that were logged without steps are numbered in the order of their times"


class Series(NamedTuple):
    """One metric of a run: ``[n]`` step, value and time in milliseconds since 1970, by step, then by time."""

    step: np.ndarray
    value: np.ndarray
    time: np.ndarray

    @classmethod
    def of(cls, step: Any, value: Any, time: Any) -> Series:
        step, value, time = (np.asarray(column, dtype=float) for column in (step, value, time))
        order = np.lexsort((time, step))
        return cls(step[order], value[order], time[order])


class MLflowRun(NamedTuple):
    """What either store says of one run: attributes, parameters, tags, final metrics; what is wrong, if anything."""

    about: dict[str, Any]
    params: dict[str, str]
    tags: dict[str, str]
    final: dict[str, float]
    problem: str = ""

    def row(self) -> dict[str, Any]:
        name = self.about.get("run_name") or self.tags.get("mlflow.runName") or self.about.get("run_id")
        own = {"run": name} | {k: self.about.get(k) for k in ("run_id", "experiment", "state", "steps")}
        start, end = (self.about.get(k) for k in ("start_time", "end_time"))
        if isinstance(start, int | float) and isinstance(end, int | float) and end >= start:
            own["seconds"] = (end - start) / 1000
        own |= {f"tags.{key}": value for key, value in self.tags.items() if not key.startswith("mlflow.")}
        return run_row(own, self.params, self.final)

    def trouble(self) -> str:
        state = self.about.get("state")
        unfinished = "" if state == "finished" else f"its state is {state!r}, not 'finished'" if state else ""
        return "; ".join(said for said in (self.problem, unfinished) if said)


def together(
    runs: list[MLflowRun], curves: Mapping[int, pd.DataFrame], messages: list[str], skipped: dict[str, int], read: int
) -> Log:
    """All runs of a store as one log; `skipped` says why how many records were left out."""
    problems = {row: said for row, said in enumerate(run.trouble() for run in runs) if said}
    rows = [run.row() for run in runs]
    return Log.of_records(
        rows, curves=curves, messages=messages, problems=problems, settled=True, read=read, skipped=skipped
    )


def curve(metrics: Mapping[str, Series]) -> pd.DataFrame:
    """The metrics of a run over steps; a value written again for a step replaces the earlier one.

    A program that never says a step leaves zeros. Then the values are numbered in the order of their times.
    """
    given = {name: s for name, s in metrics.items() if len(s.step)}
    if counted(given):
        given = {name: s._replace(step=np.arange(len(s.step), dtype=float)) for name, s in given.items()}
    steps = np.unique(np.concatenate([s.step for s in given.values()])) if given else np.zeros(0)
    data = {"step": steps}
    for name, s in given.items():
        if name == "step":
            continue
        last = np.append(s.step[1:] != s.step[:-1], True)
        data[name] = np.full(len(steps), np.nan)
        data[name][np.searchsorted(steps, s.step[last])] = s.value[last]
    return pd.DataFrame(data)


def counted(metrics: Mapping[str, Series]) -> bool:
    """Whether no step was ever said, so that values have to be numbered."""
    return any(len(s.step) > 1 for s in metrics.values()) and not any(s.step.any() for s in metrics.values())


class MLflow(Reader):
    """The folder of a run, of an experiment with runs, or of a whole store.

    Runs that were deleted in MLflow are left out. A parameter's file holds nothing but its value, so one that was
    cut off cannot be told from a shorter value.
    """

    name = "MLflow file store"
    folders = True

    def sniff(self, path: Path, head: bytes) -> bool:
        kind = _kind(path)
        if kind == "run":
            return True
        if kind == "experiment":
            return next(_runs(path), None) is not None
        store = path.name == "mlruns" or (path / "0" / _META).is_file()
        return store and any(next(_runs(folder), None) for folder in _folders(path) if _kind(folder) == "experiment")

    def read(self, path: Path) -> Log:
        kind = _kind(path)
        experiments = [path.resolve().parent] if kind == "run" else [path] if kind == "experiment" else _folders(path)
        found: list[tuple[MLflowRun, dict[str, Series], int]] = []
        for experiment in experiments:
            name = _meta(experiment)[0].get("name", experiment.name) if _kind(experiment) == "experiment" else None
            found += [_read_run(folder, name) for folder in ([path] if kind == "run" else _runs(experiment))]
        kept = [f for f in found if f[0].about.get("lifecycle_stage") != "deleted" or kind == "run"]
        if not kept:
            raise LoadError("all its runs were deleted in MLflow" if found else "it holds no runs")
        kept.sort(key=lambda f: (_time(f[0]), f[0].about["run_id"]))
        torn = sum(torn for _, _, torn in kept)
        counts = {"was deleted in MLflow": len(found) - len(kept), "is no whole line of a metric": torn}
        messages = [NUMBERED] if any(counted(metrics) for _, metrics, _ in kept) else []
        if torn:
            messages.append(f"{torn} lines of MLflow metrics are not whole and were skipped")
        return together(
            [run for run, _, _ in kept],
            LazyCurves({row: partial(curve, metrics) for row, (_, metrics, _) in enumerate(kept) if metrics}),
            messages,
            {why: n for why, n in counts.items() if n},
            read=sum(len(s.step) for _, metrics, _ in kept for s in metrics.values()),
        )


def _time(run: MLflowRun) -> float:
    start = run.about.get("start_time")
    return float(start) if isinstance(start, int | float) else 0.0


def _kind(folder: Path) -> str:
    """``run``, ``experiment``, or empty: what the ``meta.yaml`` of a folder says it is."""
    try:
        if not (folder / _META).is_file():  # opening a pipe would wait for ever
            return ""
        with (folder / _META).open("rb") as file:
            text = file.read(_PROBE)
    except OSError:
        return ""
    if re.search(rb"^experiment_id: ", text, re.MULTILINE) is None:
        return ""
    if re.search(rb"^run_(uu)?id: ", text, re.MULTILINE):
        return "run"
    return "experiment" if re.search(rb"^artifact_location: ", text, re.MULTILINE) else ""


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(folder / e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    except OSError:  # no permission: not ours to read
        return []


def _runs(experiment: Path) -> Iterator[Path]:
    """Folders of runs: they have a ``meta.yaml`` and a place for metrics, whether or not it can be read."""
    for folder in _folders(experiment):
        meta = folder / _META
        if _kind(folder) == "run" or (meta.is_file() and (folder / "metrics").is_dir() and (folder / "tags").is_dir()):
            yield folder


def _meta(folder: Path) -> tuple[dict[str, Any], str]:
    """The mapping in a ``meta.yaml``, and what is wrong with it; a last line without its end is left out."""
    import yaml

    try:
        text = (folder / _META).read_bytes().decode("utf-8", "replace")
    except OSError as error:
        return {}, f"its {_META} cannot be opened ({error.strerror or error})"
    whole = text[: text.rfind("\n") + 1]
    try:
        meta = yaml.load(whole, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError, RecursionError):
        meta = None
    if not isinstance(meta, dict):
        return {}, f"its {_META} is damaged or cut off"
    return meta, "" if whole == text else f"its {_META} is cut off"


def _read_run(folder: Path, experiment: str | None) -> tuple[MLflowRun, dict[str, Series], int]:
    meta, problem = _meta(folder)
    state = meta.get("status")
    about = {key: value for key, value in meta.items() if isinstance(value, str | int | float)}
    about["run_id"] = str(about.get("run_id") or about.get("run_uuid") or folder.name)
    about["state"] = _STATES.get(state, str(state).lower()) if isinstance(state, int | str) else None
    about["experiment"] = experiment
    if not problem and about["state"] is None:
        problem = f"its {_META} is cut off"
    metrics, torn = {}, 0
    for name, data in _values(folder / "metrics"):
        metrics[name], bad = _series(data)
        torn += bad
    metrics = {name: s for name, s in metrics.items() if len(s.step)}
    if metrics:
        about["steps"] = max(len(s.step) - 1 if counted(metrics) else s.step[-1] for s in metrics.values())
    final = {name: float(s.value[-1]) for name, s in metrics.items()}
    params, tags = ({k: v.decode("utf-8", "replace") for k, v in _values(folder / part)} for part in ("params", "tags"))
    return MLflowRun(about, params, tags, final, problem), metrics, torn


def _values(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of all files below a folder; a name may hold slashes, which are folders."""
    for root, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(root) / name
            try:
                yield path.relative_to(folder).as_posix(), path.read_bytes()
            except OSError:
                continue


def _series(data: bytes) -> tuple[Series, int]:
    """A metric's lines, ``time value step``, and how many of them are none. Old versions wrote no step."""
    *lines, rest = data.split(b"\n")
    torn = int(bool(rest.strip()))  # without its end a line may lack digits
    found = []
    for line in lines:
        parts = line.split()
        try:
            step = int(parts[2]) if len(parts) > 2 else 0
            found.append((float(step), float(parts[1]), float(int(parts[0]))))
        except (ValueError, IndexError, OverflowError):
            torn += bool(parts)
    return Series.of(*zip(*found, strict=True)) if found else Series.of([], [], []), torn
