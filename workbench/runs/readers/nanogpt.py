"""Text logs of nanoGPT, llm.c, modded-nanogpt and their relatives: a few known sentences a step."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from workbench.runs.readers.base import LoadError, Log, Reader, read_text
from workbench.runs.text_shapes import MARK, Lines, Slot, TextRun, collect, left_out, read_lines, split

__all__ = ["NanoGPT"]

_M = re.escape(MARK)
#: llm.c: ``s:250 tel:6.3``; modded-nanogpt: ``step:5/5100 train_loss:9.5 train_time:1828ms step_avg:nanms``.
_PAIRS = re.compile(rf"(?:s|step): ?{_M}(/{_M})?((?: +\w+: ?{_M}(?:ms|s|%)?)+) *")
_PAIR = re.compile(rf"(\w+): ?{_M}(ms|s|%)?")
#: nanoGPT.
_EVALUATION = re.compile(rf"step {_M}: train loss {_M}, val loss {_M} *")
_ITERATION = re.compile(rf"iter {_M}: loss {_M}, time {_M}ms(, mfu {_M}%)? *")
#: Karpathy's build-nanogpt: ``250 val 6.3``.
_WORDS = re.compile(rf"{_M} (train|val|hella) {_M} *")
#: llm.c on the terminal: ``step    1/19560 | loss 11.0 (+nanz)| norm 15.4 (+nanz)| lr 1.0e-06 | 850 ms | ...``.
_BARS = re.compile(rf"step +{_M}/{_M} \| (?:train )?loss {_M}.*")
_BAR = re.compile(rf"\(?(?:([a-z]\w*(?: [a-z]\w*)?) )?{_M}(%?)(?: *([A-Za-z0-9/ ]+?))?(?: \({_M}z\))?\)?")
_VALIDATION = re.compile(rf"val loss:? {_M} *")

_NAMES = {"trl": "train_loss", "tel": "val_loss", "train": "train_loss", "val": "val_loss", "hella": "hellaswag"}
_LOSSES = ("train_loss", "val_loss")

#: Lines that state a setting of the run that follows: shape -> column.
_SETTINGS = {
    re.compile(rf"number of parameters: {_M}[MB] *"): "num_params",
    re.compile(rf"tokens per iteration will be: {_M}(?:,{_M})* *"): "tokens_per_step",
}
#: Rows of the table that llm.c prints first.
_TABLE = re.compile(rf"\| *(\w[\w ]*?) *\| *{_M} *\|")
_TABLE_NAMES = {
    "num_parameters": "num_params", "total batch size": "tokens_per_step", "sequence length T": "seq_len",
    "vocab_size V": "vocab_size", "num_layers L": "n_layer", "num_heads NH": "n_head", "channels C": "n_embd",
    "weight_decay": "weight_decay",
}  # fmt: skip

#: Quick look: a line that only such a log holds.
_SIGN = re.compile(
    r"^(?:s:\d+ (?:trl|tel):|step:\d+(?:/\d+)? (?:train_loss|val_loss|train_time):|iter \d+: loss \S+, time \S+ms"
    r"|step \d+: train loss \S+, val loss |step +\d+/\d+ \| (?:train )?loss \S+ .*\|)",
    re.MULTILINE,
)
_WORD_SIGN = re.compile(r"^\d+ (train|val|hella) \d+\.\d+ *$", re.MULTILINE)


class NanoGPT(Reader):
    """``main.log`` and terminal output of llm.c, modded-nanogpt's logs with their source code, nanoGPT's output.

    A file may hold several runs, one after the other. The training loss is called ``train_loss`` and the validation
    loss ``val_loss`` whatever the program calls them (llm.c: ``trl``, ``tel``); nanoGPT's loss of the training split
    is ``train_loss_eval``, as it is a mean over many batches. ``train_time`` is in seconds.
    """

    name = "nanoGPT log"

    def sniff(self, path: Path, head: bytes) -> bool:
        text = head.decode("utf-8", "replace")
        if _SIGN.search(text):
            return True
        lines = [line for line in text.splitlines()[:-1] if line.strip()]
        return len(lines) > 2 and 2 * len(_WORD_SIGN.findall(text)) > len(lines)

    def read(self, path: Path) -> Log:
        text, messages = read_text(path)
        lines = read_lines(text)
        slots: dict[int, list[Slot]] = {}
        totals: dict[int, int] = {}
        carried = set()
        for shape, line in enumerate(lines.shapes):
            found = _slots(line)
            if not found:
                continue
            slots[shape] = [slot for slot in found if slot.column != "total"]
            places = {slot.column: slot.place for slot in found}
            if "total" in places:
                totals[shape] = places["total"]
            if "step" not in places:
                carried.add(shape)
        records = collect(lines, slots, carried=frozenset(carried))
        runs = split(records)
        if not runs:
            raise LoadError("it holds no complete line with a step and a loss")
        skipped = left_out(lines.torn, runs, messages)
        rows, problems = [], {}
        before = 0
        for row, run in enumerate(runs):
            rows.append({**_settings(lines, before, run.lines[0]), **run.final})
            total = _total(lines, totals, run)
            if total is not None:
                rows[-1]["planned_steps"] = total
                if _unfinished(run, total):
                    problems[row] = f"its log ends at step {run.final['steps']:.0f} of {total:.0f}"
            before = run.lines[1]
        curves = {row: run.curve for row, run in enumerate(runs)}
        return Log.of_records(
            rows,
            curves=curves,
            messages=messages,
            problems=problems,
            settled=True,
            read=int(records.line.size),
            skipped=skipped,
        )


def _slots(shape: str) -> list[Slot]:
    """Where the values of a line of this shape are; empty if it is none of a training log."""
    if MARK not in shape or len(shape) > 1000:
        return []
    pairs = _PAIRS.fullmatch(shape)
    if pairs:
        found, place = [Slot("step", 0)], 1
        if pairs[1]:
            found.append(Slot("total", 1))
            place = 2
        for key, unit in _PAIR.findall(pairs[2]):
            found.append(_measured(key, unit, place))
            place += 1
        return found
    if _EVALUATION.fullmatch(shape):
        return [Slot("step", 0), Slot("train_loss_eval", 1), Slot("val_loss", 2)]
    iteration = _ITERATION.fullmatch(shape)
    if iteration:
        found = [Slot("step", 0), Slot("train_loss", 1), Slot("iter_time (ms)", 2)]
        return [*found, Slot("mfu (%)", 3)] if iteration[1] else found
    words = _WORDS.fullmatch(shape)
    if words:
        return [Slot("step", 0), Slot(_NAMES[words[1]], 1)]
    if _VALIDATION.fullmatch(shape):
        return [Slot("val_loss", 0)]
    return _bars(shape) if _BARS.fullmatch(shape) else []


def _measured(key: str, unit: str, place: int) -> Slot:
    if key == "train_time":
        return Slot(key, place, 1e-3 if unit == "ms" else 1.0)
    if unit == "s":  # one column for both units, as runs in one file may differ
        return Slot(f"{key} (ms)", place, 1e3)
    return Slot(f"{key} ({unit})" if unit else _NAMES.get(key, key), place)


def _bars(shape: str) -> list[Slot]:
    found, place = [Slot("step", 0), Slot("total", 1)], 2
    for cell in shape.split("|")[1:]:
        match = _BAR.fullmatch(cell.strip())
        if match:
            word, percent, unit = match.groups()
            if word in ("loss", "train loss"):
                found.append(Slot("train_loss", place))
            elif word and not unit:
                found.append(Slot(word, place))
            elif unit and not word:
                name = {"ms": "step_time (ms)", "tok/s": "tokens_per_second"}.get(unit, f"{percent}{unit}".strip("%"))
                found.append(Slot(f"{name} (%)" if percent else name, place))
        place += cell.count(MARK)
    return found


def _settings(lines: Lines, start: int, stop: int) -> dict[str, Any]:
    """What the lines between two runs state about the second."""
    said: dict[str, Any] = {}
    for line in range(max(start, stop - 5000), stop):
        shape = lines.shapes[lines.code[line]]
        if MARK not in shape:
            continue
        numbers = lines.values[lines.first[line] : lines.first[line] + shape.count(MARK)]
        for pattern, name in _SETTINGS.items():
            if pattern.fullmatch(shape):
                value = 0.0
                for number in numbers:  # groups of thousands
                    value = value * 1000 + number
                said[name] = value * {"M": 1e6, "B": 1e9}.get(shape.rstrip()[-1], 1.0)
        table = _TABLE.fullmatch(shape.strip())
        if table and table[1] in _TABLE_NAMES:
            said[_TABLE_NAMES[table[1]]] = float(numbers[0])
    return said


def _total(lines: Lines, totals: dict[int, int], run: TextRun) -> float | None:
    """The number of steps that the last line of a run says are planned."""
    for line in range(run.lines[1], max(run.lines[0], run.lines[1] - 100) - 1, -1):
        place = totals.get(int(lines.code[line]))
        if place is not None:
            return float(lines.values[lines.first[line] + place])
    return None


def _unfinished(run: TextRun, total: float) -> bool:
    steps = run.curve["step"].drop_duplicates().nlargest(2).to_numpy()
    interval = steps[0] - steps[1] if steps.size > 1 else 1.0
    return bool(steps[0] + interval <= total)  # not every step need be logged
