"""Results of lm-evaluation-harness: one JSON file an evaluation, many files a model while it trains."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from workbench.runs.readers.base import LoadError, Log, Reader, peek, read_text
from workbench.runs.strict_json import loads

__all__ = ["LmEval", "LmEvalFolder", "size_in_name"]

_SIGN = re.compile(rb'"results"\s*:\s*\{\s*"[^"\n]+"\s*:\s*\{[^{}]*"[\w@/. -]+_stderr(?:,[^"\n]*)?"\s*:')
_STEP = re.compile(r"(?:^|[^a-zA-Z])step[-_]?(\d+)(?![\d.])", re.IGNORECASE)
_DATED = re.compile(r"results_\d{4}-\d{2}-\d{2}T")
_SIZE = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)([mb])(\d?)(?![a-z0-9.])", re.IGNORECASE)
_NOTE = "derived from the size in the model's name, which is rounded"


@dataclass
class _Evaluation:
    """One file: which checkpoint of which model, and its scores by ``task.metric``."""

    model: str
    step: float
    shots: str
    scores: dict[str, float]
    settings: dict[str, Any] = field(default_factory=dict)


class LmEval(Reader):
    """One results file. Scores are called ``task.metric``, their standard errors ``task.metric_stderr``.

    The step is taken from the file's name (``1.4b_step3000.json``) or the model's revision; the parameter count from
    the size in the model's name (``pythia-1.4b``), which a note says. A filter other than ``none`` stays part of the
    metric's name: ``gsm8k.exact_match,strict-match``.
    """

    name = "lm-evaluation-harness"

    def sniff(self, path: Path, head: bytes) -> bool:
        return head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") and _SIGN.search(head) is not None

    def read(self, path: Path) -> Log:
        evaluation, messages = _evaluation(path)
        log = _log([evaluation], messages, read=len(evaluation.scores))
        if not math.isnan(evaluation.step):  # other checkpoints of the model may lie beside it
            log.frame["run"] = [f"{log.frame['run'][0]} step {evaluation.step:.0f}"]
        return log


class LmEvalFolder(Reader):
    """A folder with several results files: one run for each model, whose checkpoints make its curve.

    Only files called like the program or the usual scripts call them count, by date or with a step in the name.
    Files of one checkpoint are taken together; where two give the same score, that of the later name counts.
    """

    name = "lm-evaluation-harness folder"
    folders = True
    nested: ClassVar[bool] = True

    def sniff(self, path: Path, head: bytes) -> bool:
        files = _candidates(path)
        return len(files) > 1 and _is_one(files[0]) and _is_one(files[-1])

    def owns(self, path: Path) -> bool:
        return _called_so(path.name) and _is_one(path)

    def read(self, path: Path) -> Log:
        evaluations, messages = [], []
        skipped: dict[str, int] = {}
        for file in _candidates(path):
            if not _is_one(file):
                continue
            try:
                evaluation, said = _evaluation(file)
            except LoadError as error:
                messages.append(f"{file.name} was skipped: {error}")
                skipped["files that cannot be read"] = skipped.get("files that cannot be read", 0) + 1
                continue
            evaluations.append(evaluation)
            messages += [f"{file.name}: {sentence}" for sentence in said]
        if not evaluations:
            raise LoadError("none of its results files can be read")
        return _log(evaluations, messages, read=sum(len(e.scores) for e in evaluations), skipped=skipped)


def size_in_name(name: str) -> float | None:
    """The parameter count in a model's name: 1.4e9 of ``pythia-1.4b``, 1.1e9 of ``bloom-1b1``; None if there is none.

    A name with two different sizes, or with a mixture's ``8x7b``, says nothing certain.
    """
    found = set()
    for number, unit, tenths in _SIZE.findall(name.rpartition("/")[2]):
        value = float(f"{number}.{tenths}") if tenths and "." not in number else float(number)
        found.add(value * {"m": 1e6, "b": 1e9}[unit.lower()])
    return found.pop() if len(found) == 1 else None


def _called_so(name: str) -> bool:
    stem = _stem(name)
    return stem != name and (_STEP.search(stem) is not None or _DATED.match(stem) is not None)


def _stem(name: str) -> str:
    return re.sub(r"\.json(\.gz)?$", "", name)


def _candidates(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if _called_so(entry.name) and entry.is_file())
    except OSError:  # no permission: not ours to read
        return []


def _is_one(path: Path) -> bool:
    try:
        return LmEval().sniff(path, peek(path))
    except LoadError:
        return False


def _evaluation(path: Path) -> tuple[_Evaluation, list[str]]:
    text, messages = read_text(path)
    try:
        value = loads(text)
    except ValueError as error:
        raise LoadError(f"it is not one whole JSON document ({error})") from None
    results = value.get("results") if isinstance(value, dict) else None
    if not isinstance(results, dict):
        raise LoadError("it holds no results by task")
    scores = {}
    for task, metrics in results.items():
        for name, score in metrics.items() if isinstance(metrics, dict) else ():
            number = _number(score)
            if number is not None:
                scores[f"{task}.{name.removesuffix(',none')}"] = number
    if not scores:
        raise LoadError("its results hold no number")
    config = value.get("config")
    config = config if isinstance(config, dict) else {}
    arguments = _arguments(config.get("model_args"))
    stem = _stem(path.name)
    model = arguments.get("pretrained") or value.get("model_name") or config.get("model_name")
    if not isinstance(model, str) or not model.strip("/"):
        model = _STEP.sub("", stem).strip("_-.") if not _DATED.match(stem) else path.absolute().parent.name
    model = model.rstrip("/")
    settings: dict[str, Any] = {"model": model}
    shots = _shots(value.get("n-shot"), config.get("num_fewshot"))
    if shots.isdigit():
        settings["num_fewshot"] = int(shots)
    limit = _number(config.get("limit"))
    if limit is not None:
        settings["limit"] = limit
        messages.append(f"it was evaluated on a part of each task only, limit {limit:g}")
    return _Evaluation(model, _step(stem, arguments), shots, scores, settings), messages


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)


def _arguments(text: Any) -> dict[str, str]:
    """``pretrained=a/b,revision=step3`` as a mapping; newer versions write one."""
    if isinstance(text, dict):
        return {str(key): str(item) for key, item in text.items()}
    pairs = (part.split("=", 1) for part in str(text or "").split(",") if "=" in part)
    return {key.strip(): item.strip() for key, item in pairs}


def _step(stem: str, arguments: dict[str, str]) -> float:
    # a revision is stated to the program; a name is a person's
    for text in (arguments.get("revision", ""), stem, arguments.get("pretrained", "")):
        found = _STEP.findall(text)
        if found:
            return float(found[-1])
    return math.nan


def _shots(by_task: Any, one: Any) -> str:
    """How many examples are shown before the question, where it is the same for all tasks."""
    if isinstance(by_task, dict) and by_task:
        return str(next(iter(by_task.values()))) if len({str(n) for n in by_task.values()}) == 1 else "mixed"
    return "" if one is None else str(one)


def _log(evaluations: Iterable[_Evaluation], messages: list[str], **counts: Any) -> Log:
    """A row for each model and number of shots; its checkpoints as a curve if it has several."""
    groups: dict[tuple[str, str], list[_Evaluation]] = {}
    for evaluation in evaluations:
        groups.setdefault((evaluation.model, evaluation.shots), []).append(evaluation)
    models = [model for model, _ in groups]
    rows, curves, notes = [], {}, {}
    for row, ((model, shots), members) in enumerate(groups.items()):
        points: dict[float, dict[str, float]] = {}
        for member in members:
            # NaN is not equal to itself and would never be found again
            point = points.setdefault(-1.0 if math.isnan(member.step) else member.step, {})
            twice = sum(name in point and point[name] != score for name, score in member.scores.items())
            if twice:
                messages.append(f"{model}: {twice} scores of one checkpoint are in two files; the later name counts")
            point.update(member.scores)
        steps = sorted(points)
        run = model.rpartition("/")[2]
        settings = {key: item for member in members for key, item in member.settings.items()}
        rows.append({"run": f"{run} ({shots}-shot)" if shots and models.count(model) > 1 else run, **settings})
        size = size_in_name(model)
        if size is not None:
            rows[-1]["params"] = size
            notes["params"] = _NOTE
        rows[-1].update({name: score for step in steps for name, score in points[step].items()})
        if steps[-1] >= 0:
            rows[-1]["steps"] = steps[-1]
        known = [step for step in steps if step >= 0]
        if len(known) > 1:
            curves[row] = pd.DataFrame([{"step": step, **points[step]} for step in known])
    return Log.of_records(rows, curves=curves, messages=messages, notes=notes, settled=True, **counts)
