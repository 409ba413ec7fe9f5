"""Terminal output of Megatron-LM and Megatron-DeepSpeed: arguments, iteration lines, validation lines."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from workbench.runs.readers.base import LoadError, Log, Reader, read_text
from workbench.runs.text_shapes import MARK, Lines, Slot, TextRun, collect, left_out, read_lines, split

__all__ = ["Megatron"]

_M = re.escape(MARK)
_ITERATION = re.compile(rf"\biteration *{_M} */ *{_M} *\|")
_VALIDATION = re.compile(
    rf"\b(valid\w*|test\w*) loss at (?:iteration {_M}|the end of training)([^|]*)\| (.*\bloss value: *{_M}.*)"
)
_FIELD = re.compile(rf" *(?:total )?(\w[^:|{MARK}]*?) *: *{_M}([KMBT]?) *")
#: The word nan looks like a number.
_NAN_ITERATIONS = re.compile(rf" *number of {_M} iterations *: *{_M} *")
_VALUE = re.compile(rf" *(\w[^:|{MARK}]*?) value: *{_M} *")
_ON_RANK = re.compile(rf"> number of parameters on .*rank \({_M}, *{_M}\): *{_M} *$")
#: An argument: name, a row of dots, value; the rank may stand before it.
_ARGUMENT = re.compile(r"(?:^|[\]:])\s{1,3}(\w+) \.{2,} (.*?)\s*$")
_ARGUMENTS = re.compile(r"-{3,} arguments -{3,}")
_END = re.compile(r"-{3,} end of arguments -{3,}")

#: What fields are called in the curve; all others keep their names.
_NAMES = {"lm loss": "train_loss", "consumed tokens": "tokens", "number of skipped iterations": "skipped_iterations"}
_COUNTS = ("skipped_iterations", "nan_iterations")
_THOUSANDS = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
#: Arguments that say where a run stood when it began, not what it is.
_STATE = frozenset({"iteration", "consumed_train_samples", "consumed_valid_samples", "rank", "local_rank"})

_SIGN = re.compile(rb"\biteration +\d+ */ *\d+ \|[^\n]{0,300}\| *(?:elapsed time per iteration|learning rate)")


class Megatron(Reader):
    """Standard output of a Megatron training, rank prefixes and all.

    The language-modelling loss of iteration lines is ``train_loss``, that of validation lines ``val_loss``. After a
    restart repeated iterations replace the earlier ones. Iterations that the loss scaler skipped are counted in
    ``skipped_iterations``. Arguments printed at the start are settings of the run.
    """

    name = "Megatron log"

    def sniff(self, path: Path, head: bytes) -> bool:
        if _SIGN.search(head):
            return True
        if b" arguments ---" not in head or b" ..." not in head:
            return False
        lines = head.decode("utf-8", "replace").splitlines()
        start = next((i for i, line in enumerate(lines) if _ARGUMENTS.search(line)), None)
        return (
            start is not None and sum(_ARGUMENT.search(line) is not None for line in lines[start + 1 : start + 21]) > 9
        )

    def read(self, path: Path) -> Log:
        text, messages = read_text(path)
        lines = read_lines(text)
        slots: dict[int, list[Slot]] = {}
        carried = set()
        for shape, line in enumerate(lines.shapes):
            found = _slots(line)
            if found:
                slots[shape] = found
                if not any(slot.column == "step" for slot in found):
                    carried.add(shape)
        records = collect(lines, slots, carried=frozenset(carried))
        runs = split(records)
        skipped = left_out(lines.torn, runs, messages)
        blocks = _arguments(text)
        if not runs:
            if not blocks:
                raise LoadError("it holds no complete iteration line")
            problems = {0: "its log ends before the first iteration line"}
            return Log.of_records(
                [blocks[-1][1]], messages=messages, problems=problems, settled=True, read=0, skipped=skipped
            )
        rows, problems = [], {}
        for row, run in enumerate(runs):
            last = runs[row + 1].lines[0] if row + 1 < len(runs) else np.inf
            first = runs[row - 1].lines[1] if row else -1
            arguments = [said for line, said in blocks if first < line < min(last, run.lines[1])]
            rows.append(_row(run, arguments[-1] if arguments else {}))
            total = _total(run)
            if total is not None:
                rows[-1]["planned_steps"] = total
                steps = np.unique(run.curve["step"].to_numpy())
                if steps[-1] + (steps[-1] - steps[-2] if steps.size > 1 else 1.0) <= total:
                    problems[row] = f"its log ends at iteration {steps[-1]:.0f} of {total:.0f}"
            for name, word in zip(_COUNTS, ("skipped by the loss scaler", "lost to NaN"), strict=True):
                if rows[-1].get(name):
                    messages.append(f"{path.name}: {rows[-1][name]:.0f} iterations were {word}")
        if len(runs) == 1:
            rows[0].update(_params(lines, rows[0]))
        return Log.of_records(
            rows,
            curves={row: run.curve.drop(columns="total", errors="ignore") for row, run in enumerate(runs)},
            messages=messages,
            problems=problems,
            settled=True,
            read=int(records.line.size),
            skipped=skipped,
        )


def _slots(shape: str) -> list[Slot]:
    """Where the values of an iteration or validation line are; empty for every other line."""
    if MARK not in shape or len(shape) > 5000:
        return []
    iteration = _ITERATION.search(shape)
    if iteration:
        place = shape.count(MARK, 0, iteration.start())
        found = {"step": Slot("step", place), "total": Slot("total", place + 1)}
        place += 2
        for field in shape[iteration.end() :].split("|"):
            match = _FIELD.fullmatch(field)
            if _NAN_ITERATIONS.fullmatch(field):
                found.setdefault("nan_iterations", Slot("nan_iterations", place + 1))
            elif match:
                name = _NAMES.get(match[1], match[1])
                found.setdefault(name, Slot(name, place, _THOUSANDS[match[2]]))
            place += field.count(MARK)
        # ranks that print at the same time may mix their lines: such a line has no fields of its own
        return list(found.values()) if len(found) > 2 and len(_ITERATION.findall(shape)) == 1 else []
    validation = _VALIDATION.search(shape)
    if validation is None:
        return []
    place = shape.count(MARK, 0, validation.start())
    found = {}
    if MARK in shape[validation.start() : validation.start(2)]:
        found["step"] = Slot("step", place)
    place = shape.count(MARK, 0, validation.start(3))
    prefix = _data_set(validation[1], validation[2])
    for field in validation[3].split("|"):
        match = _VALUE.fullmatch(field)
        if match:
            name = f"{prefix}loss" if match[1] == "lm loss" else f"{prefix}{match[1].replace(' ', '_')}"
            found.setdefault(name, Slot(name, place))
        place += field.count(MARK)
    return list(found.values()) if len(found) > ("step" in found) else []


def _data_set(kind: str, where: str) -> str:
    """``val_``, ``test_``, or with the name of one of several validation sets in front of it."""
    words = re.findall(r"\w+", where.replace(MARK, ""))
    split_name = "test_" if "test" in {kind.lower(), *(word.lower() for word in words)} else "val_"
    names = [w for w in words if w not in ("on", "for", "set", "data", "the", "validation", "valid", "test")]
    return f"{'_'.join(names)}.{split_name}" if names else split_name


def _arguments(text: str) -> list[tuple[int, dict[str, Any]]]:
    """Every block of arguments: the line it begins at and what it says; arguments that are None left out."""
    blocks = []
    for match in _ARGUMENTS.finditer(text):
        end = _END.search(text, match.end())
        block = text[match.end() : end.start() if end else match.end() + 100_000]
        said = {}
        for line in block.split("\n")[1:-1]:
            argument = _ARGUMENT.search(line)
            if argument and argument[2] != "None" and argument[1] not in _STATE:
                said[argument[1]] = argument[2]
        if said:
            blocks.append((text.count("\n", 0, match.start()), said))
        if len(blocks) == 1000:  # a restart every hour of a month; more is no log of one job
            break
    return blocks


def _row(run: TextRun, arguments: dict[str, Any]) -> dict[str, Any]:
    final = {name: value for name, value in run.final.items() if name != "total"}
    if "lr" in arguments:
        final.pop("learning rate", None)
    for name in _COUNTS:
        if name in run.curve:
            final[name] = float(run.curve.groupby("step")[name].last().sum())
    return {**arguments, **final}


def _params(lines: Lines, row: dict[str, Any]) -> dict[str, float]:
    """The parameter count, which each rank prints of its own part, where one part is all."""
    parallel = ("tensor_model_parallel_size", "pipeline_model_parallel_size")
    if any(str(row.get(name)) != "1" for name in parallel):
        return {}
    shapes = [code for code, shape in enumerate(lines.shapes) if _ON_RANK.search(shape)]
    counts = {
        float(lines.values[lines.first[line] + lines.shapes[code].count(MARK) - 1])
        for code in shapes[:8]
        for line in np.flatnonzero(lines.code == code)
    }
    return {"num_params": counts.pop()} if len(counts) == 1 else {}


def _total(run: TextRun) -> float | None:
    if "total" not in run.curve:
        return None
    totals = run.curve["total"].dropna()
    return float(totals.iloc[-1]) if len(totals) else None
