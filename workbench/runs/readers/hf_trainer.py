"""Hugging Face Trainer: ``trainer_state.json`` of an output folder or a checkpoint, and the results beside it."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from workbench.runs.history import History, lazy
from workbench.runs.readers.base import LoadError, Log, Reader, read_text
from workbench.runs.run_row import run_row
from workbench.runs.strict_json import flatten
from workbench.runs.torn_json import loads_torn

__all__ = ["HFTrainer", "HFTrainerFile"]

_STATE = "trainer_state.json"
_RESULTS = ("all_results.json", "train_results.json", "eval_results.json", "test_results.json")
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
#: What the state says about the process or the callbacks, not about the run.
_ASIDE = (
    "is_hyper_param_search",
    "is_local_process_zero",
    "is_world_process_zero",
    "log_history",
    "stateful_callbacks",
)
#: What `Trainer` writes beside checkpoints and is no run of its own: a model, a tokenizer, TensorBoard's log of it.
_BESIDE = (".json", ".jsonl", ".txt", ".bin", ".pt", ".pth", ".safetensors", ".model", ".md", ".jinja")


class HFTrainerFile(Reader):
    """One ``trainer_state.json``, under whatever name: one run."""

    name = "HF Trainer state"

    def sniff(self, path: Path, head: bytes) -> bool:
        text = head[:8192]
        return (
            text.lstrip().startswith(b"{")
            and b'"log_history"' in text
            and b'"global_step"' in text
            and b'"is_world_process_zero"' in text
        )

    def read(self, path: Path) -> Log:
        state, whole = _object(path)
        return _log(None, state, whole, {}, {}, [])


class HFTrainer(Reader):
    """An output folder of `Trainer`, with ``trainer_state.json`` in itself or its ``checkpoint-N``: one run.

    Checkpoints hold beginnings of the same history; the one with the most steps is read. Where another is no
    beginning of it, a message says so. A folder that holds only ``all_results.json`` and its like is a run without
    curve.

    `Trainer` calls the training loss of the last steps ``loss`` and its mean over the whole run ``train_loss``. Here
    the former is ``train_loss`` and the latter ``train_loss_mean``, so that the evaluation's ``eval_loss`` is the
    run's loss where there is one. The learning rate of the run is the largest logged. ``config.json`` is read for
    the size of the model; ``training_args.bin`` is not, as loading it would run code.
    """

    name = "HF Trainer"
    folders = True
    nested: ClassVar[bool] = True

    def sniff(self, path: Path, head: bytes) -> bool:
        try:
            return (path / _STATE).is_file() or bool(_checkpoints(path)) or _is_result(path / _RESULTS[0])
        except OSError:  # no permission: not ours to read
            return False

    def owns(self, path: Path) -> bool:
        if path.is_dir():
            # TensorBoard's log of the same numbers lies in runs/
            return _CHECKPOINT.fullmatch(path.name) is not None or path.name == "runs"
        return path.name.lower().endswith(_BESIDE)

    def read(self, path: Path) -> Log:
        messages: list[str] = []
        state, whole, place = _longest(path, messages)
        results: dict[str, Any] = {}
        for name in reversed(_RESULTS):
            results |= _optional(path / name, messages)
        config = {}
        for folder in dict.fromkeys((place, path)):
            config = config or _optional(folder / "config.json", messages)
        if "model_type" not in config and "architectures" not in config:
            config = {}
        if state is None and not results:
            raise LoadError("its trainer_state.json cannot be read: " + "; ".join(messages or ["it is damaged"]))
        log = _log(_name(path), state, whole, results, config, messages)
        if state is None and any(_STATE in message for message in messages):
            log.problems[0] = "its trainer_state.json cannot be read"
        return log


def _checkpoints(folder: Path) -> list[Path]:
    """The states in its checkpoints, most steps first."""
    found = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                match = _CHECKPOINT.fullmatch(entry.name)
                if match is not None and (folder / entry.name / _STATE).is_file():
                    found.append((int(match[1][:18]), folder / entry.name / _STATE))
    except OSError:  # no permission: not ours to read
        return []
    return [path for _, path in sorted(found, reverse=True)]


def _is_result(path: Path) -> bool:
    """Whether this is what ``Trainer.save_metrics`` writes: a flat object with the runtime of a phase."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            head = file.read(8192)
    except OSError:
        return False
    return head.lstrip().startswith(b"{") and (b'_runtime"' in head or b'_samples_per_second"' in head)


def _longest(path: Path, messages: list[str]) -> tuple[dict[str, Any] | None, bool, Path]:
    """The state with the most steps, whether it is whole, and its folder."""
    files = [*([path / _STATE] if (path / _STATE).is_file() else []), *_checkpoints(path)]
    best: tuple[dict[str, Any], bool, Path] | None = None
    others: list[tuple[dict[str, Any], Path]] = []
    for file in files:
        try:
            state, whole = _object(file)
        except LoadError as error:
            messages.append(f"{file.relative_to(path)}: {error}")
            continue
        if best is None or (whole, _reached(state)) > (best[1], _reached(best[0])):
            if best is not None:
                others.append((best[0], best[2]))
            best = (state, whole, file.parent)
        else:
            others.append((state, file.parent))
    if best is None:
        return None, False, path
    strange = [str(folder.name) for state, folder in others if not _begins(state, best[0])]
    if strange:
        shown = ", ".join(strange[:5]) + (", ..." if len(strange) > 5 else "")
        messages.append(
            f"{path.name}: only {best[2].name} was read; the history in {shown} is not the beginning of its own, "
            "so the run was begun again or several runs share the folder"
        )
    return best


def _begins(state: Mapping[str, Any], longer: Mapping[str, Any]) -> bool:
    """Whether the history of `state` is the beginning of the one of `longer`."""
    own, other = _records(state), _records(longer)
    # written as text, as NaN differs from itself
    return len(own) <= len(other) and all(str(a) == str(b) for a, b in zip(own, other, strict=False))


def _records(state: Mapping[str, Any]) -> list[Any]:
    history = state.get("log_history")
    return history if isinstance(history, list) else []


def _reached(state: Mapping[str, Any]) -> float:
    """The last step of a state; of a history that was cut off, its own last one."""
    steps = [state.get("global_step"), *(r.get("step") for r in _records(state) if isinstance(r, dict))]
    return max((step for step in steps if _is_number(step)), default=-1)


def _object(path: Path) -> tuple[dict[str, Any], bool]:
    """The JSON object in a file, or its beginning, and whether it is whole."""
    text, _ = read_text(path)
    try:
        value, whole = loads_torn(text)
    except ValueError as error:
        raise LoadError(f"it is not JSON ({error})") from None
    if not isinstance(value, dict):
        raise LoadError("it is no JSON object")
    return value, whole


def _optional(path: Path, messages: list[str]) -> dict[str, Any]:
    """The object in a file that may be missing; of a damaged one nothing is taken."""
    if not path.is_file():
        return {}
    try:
        value, whole = _object(path)
    except LoadError as error:
        messages.append(f"{path.name}: {error}")
        return {}
    if not whole:
        messages.append(f"{path.name}: it is damaged or cut off and was not read")
        return {}
    return value


def _name(path: Path) -> str:
    """What the run is called: its folder, with the folder above where a checkpoint itself was asked for."""
    path = path.resolve()
    return f"{path.parent.name}/{path.name}" if _CHECKPOINT.fullmatch(path.name) else path.name


def _log(
    name: str | None,
    said: Mapping[str, Any] | None,
    whole: bool,
    results: Mapping[str, Any],
    config: Mapping[str, Any],
    messages: list[str],
) -> Log:
    state = said or {}
    history, skipped, ended, read = History(), Counter(), False, 0
    summary: dict[str, Any] = {}
    for record in _records(state):
        if not isinstance(record, dict) or not _is_number(record.get("step")):
            skipped["has no step"] += 1
            continue
        read += 1
        metrics = _renamed(record)
        if "train_runtime" in record:  # the last record tells about the run as a whole
            ended = True
            summary |= metrics
            continue
        history.add(record["step"], metrics)
    if said is not None and not whole:
        messages.append("trainer_state.json is damaged or cut off, only its beginning was read")
    about = {key: value for key, value in state.items() if key not in _ASIDE and value is not None}
    own: dict[str, Any] = {"run": name} if name else {}
    reached = _reached(state)
    if reached >= 0:
        own["steps"] = reached
    if _is_number(about.get("epoch")):
        own["epochs"] = about["epoch"]
    if _is_number(summary.get("train_runtime", results.get("train_runtime"))):
        own["seconds"] = summary.get("train_runtime", results.get("train_runtime"))
    settings = {key: v for key, v in flatten(about).items() if key not in ("epoch", "global_step", "max_steps")}
    if not settings.get("num_input_tokens_seen"):  # 0 where nobody counted
        settings.pop("num_input_tokens_seen", None)
    rates = [metrics["learning_rate"] for _, metrics in history.records if _is_number(metrics.get("learning_rate"))]
    if rates:
        settings["learning_rate"] = max(rates)
    settings |= {f"config.{key}": value for key, value in flatten(config).items()}
    measured = {**history.final(), **summary, **_renamed(results)}
    for key in ("epoch", "num_input_tokens_seen", "total_flos"):  # the state itself says them as they stand at its end
        if key in settings or (key == "epoch" and "epochs" in own):
            measured.pop(key, None)
    row = run_row(own, settings, measured)
    problems, planned = {}, state.get("max_steps")
    if said is not None and not whole:
        problems[0] = "its trainer_state.json is damaged or cut off"
    elif not ended and _is_number(planned) and planned > reached >= 0:
        problems[0] = f"it stands at step {reached:g} of {planned:g}, so it is still running or was stopped"
    return Log.of_records(
        [row],
        curves=lazy({0: history}),
        messages=messages,
        problems=problems,
        settled=True,
        read=read if said is not None else len(results),
        skipped=dict(skipped),
    )


def _renamed(record: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics with the mean over the run told from the loss of the last steps."""
    mean = "train_runtime" in record
    found = {}
    for key, value in record.items():
        if key == "train_loss" and (mean or "loss" not in record):
            key = "train_loss_mean"
        elif key == "loss":
            key = "train_loss"
        if key != "step" and value is not None and not isinstance(value, list | dict):
            found[key] = value
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
