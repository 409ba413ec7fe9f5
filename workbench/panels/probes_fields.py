"""What a person types for a setting of probes: one value, several, or a range. Reading it, and help beside it."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping
from dataclasses import Field, dataclass, fields
from functools import cache
from typing import Any

import numpy as np

from workbench.probes.component import checked
from workbench.probes.models.base import find_model
from workbench.probes.optimizers.base import find_optimizer
from workbench.probes.run import Run
from workbench.probes.sweep import Span
from workbench.probes.tasks.base import find_task
from workbench.units import human, parse_number

__all__ = ["PARTS", "declared", "help_of", "numbers", "read", "spelled"]

#: The parts of a probe whose settings a form offers.
PARTS = ("task", "model", "optimizer", "run")
#: Most values of one range.
_MOST = 1000
_RANGE = re.compile(r"^\s*(?P<low>[^\s,]+)\s*(?:\.\.|…)\s*(?P<high>[^\s,]+?)\s*(?:,\s*(?P<rest>.*))?$")
_POWER = re.compile(r"^(\d+)\s*(?:\*\*|\^)\s*(\d+)$")
HOW_RANGE = "write a range like 1e-4 .. 1e-1, 5 log"


@dataclass(frozen=True)
class _Range:
    """``low .. high, count log``; without a count it is a range to draw from."""

    low: float
    high: float
    count: int | None
    log: bool


@cache
def declared(task: str, model: str, optimizer: str) -> Mapping[str, tuple[str, Field]]:
    """Settings of such probes: name -> (part, declaration), in the order of `PARTS`.

    Raises:
        ValueError: there is no such task, model or optimizer.
    """
    parts = zip(PARTS, (find_task(task), find_model(model), find_optimizer(optimizer), Run), strict=True)
    return {one.name: (part, one) for part, kind in parts for one in fields(kind)}


def help_of(one: Field) -> str:
    """Meaning, allowed values and default of a setting, on one line."""
    meta = one.metadata
    if meta["kind"] == "choice":
        allowed = ", ".join(meta["values"])
    elif meta["kind"] == "flag":
        allowed = "True, False"
    else:
        allowed = f"{human(meta['low'])} to {human(meta['high'])}" if "low" in meta else ""
    whole = "whole, " if meta["kind"] == "whole" else ""
    return "; ".join(filter(None, [meta["doc"], whole + allowed, f"default {spelled(one.default) or 'none'}"]))


def spelled(value: Any) -> str:
    """`value` as one would type it; empty for nothing."""
    if value is None or value in ((), []):
        return ""
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int | float):
        short = f"{value:.12g}"
        return short if type(value)(float(short)) == value and "+" not in short else repr(value)
    if isinstance(value, tuple | list) and all(isinstance(v, str) for v in value):
        return ", ".join(value)
    return repr(_lists(value))


def read(one: Field, text: str, drawn: bool = False) -> tuple[str, Any]:
    """What `text` says about a setting.

    Args:
        one: its declaration.
        text: a value, several with commas between them, ``1e-4 .. 1e-1, 5 log`` or ``64 .. 256, 4 linear``; with
            `drawn` also a range without a number of values.
        drawn: whether values are drawn at random from ranges.

    Returns:
        ``("one", value)``, ``("list", [values])`` or ``("span", Span)``. Values of a range have six digits; of
        whole numbers each is there once.

    Raises:
        ValueError, TypeError: it cannot be read, or the setting does not allow a value; one sentence.
    """
    meta, name = one.metadata, one.name
    if meta["kind"] == "own":
        return "one", _lists(checked(one, _literal(name, text)))
    if meta["kind"] in ("choice", "flag"):
        words: list[Any] = [word.strip() for word in text.split(",") if word.strip()]
        if meta["kind"] == "flag":
            words = [{"true": True, "false": False}.get(word.lower(), word) for word in words]
        values = [checked(one, word) for word in words]
    else:
        whole = meta["kind"] == "whole"
        found = numbers(name, text, whole, optional=bool(meta.get("optional")))
        if isinstance(found, _Range):
            for end in (found.low, found.high):
                checked(one, end)
            if found.count is None:
                if not drawn:
                    raise ValueError(f"{name}: {text.strip()} does not say how many values; {HOW_RANGE}.")
                return "span", Span(found.low, found.high, log=found.log)
            found = _spread(found, whole)
        values = [checked(one, value) for value in found]
    values = list(dict.fromkeys(values))
    return ("one", values[0]) if len(values) == 1 else ("list", values)


def numbers(name: str, text: str, whole: bool = False, optional: bool = False) -> Any:
    """The numbers of a text: a list, or a range.

    Numbers may be written ``3e-4``, ``64k``, ``1M`` or ``2**14``; where `optional`, ``none`` is one of them.

    Raises:
        ValueError: there is none, or something that is no number.
    """
    if (match := _RANGE.match(text)) is not None:
        return _range(name, text.strip(), match, whole)
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise ValueError(f"{name} has no value; write one, several with commas, or a range.")
    return [None if optional and part.lower() == "none" else _number(name, part, whole) for part in parts]


def spread(name: str, text: str, whole: bool = False) -> list[float]:
    """The numbers of a text that must say how many there are.

    Raises:
        ValueError: it cannot be read, or is a range without a number of values.
    """
    found = numbers(name, text, whole)
    if not isinstance(found, _Range):
        return list(dict.fromkeys(found))
    if found.count is None:
        raise ValueError(f"{name}: {text.strip()} does not say how many values; {HOW_RANGE}.")
    return _spread(found, whole)


def _range(name: str, text: str, match: re.Match, whole: bool) -> _Range:
    low, high = (_number(name, match[end], whole) for end in ("low", "high"))
    words = re.findall(r"[^\s,]+", match["rest"] or "")
    count, scale = None, None
    for word in words:
        if word.isdigit() and count is None:
            count = int(word)
        elif word.lower() in ("log", "logarithmic", "linear", "lin") and scale is None:
            scale = word.lower()[:3]
        elif word.lower() not in ("values", "value", "steps", "points"):
            raise ValueError(f"{name}: {word!r} in {text!r} is not understood; {HOW_RANGE}.")
    log = scale != "lin"
    if not (low < high and (low > 0 or not log)):
        raise ValueError(f"{name}: the range {text!r} needs 0 < low < high; with 'linear', low < high.")
    if count is not None and not 2 <= count <= _MOST:
        raise ValueError(f"{name}: a range has 2 to {_MOST} values, not {count}.")
    return _Range(low, high, count, log)


def _spread(of: _Range, whole: bool) -> list[float]:
    values = np.geomspace(of.low, of.high, of.count) if of.log else np.linspace(of.low, of.high, of.count)
    if whole:
        return list(dict.fromkeys(round(float(v)) for v in values))
    return list(dict.fromkeys(float(f"{v:.6g}") for v in values))


def _number(name: str, text: str, whole: bool) -> float | int:
    match = _POWER.match(text)
    try:
        value = float(match[1]) ** int(match[2]) if match and len(match[2]) < 4 else parse_number(text)
    except (ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        what = "a whole number such as 64, 16k or 2**14" if whole else "a number such as 0.01, 3e-4 or 2M"
        raise ValueError(f"{name}: {text[:60]!r} is not {what}.")
    if whole and value != int(value):
        raise ValueError(f"{name}: {text[:60]!r} is not a whole number.")
    return int(value) if whole else value


def _literal(name: str, text: str) -> Any:
    """A setting of its own kind: a list of words, or what Python reads as a list."""
    stripped = text.strip()
    if name == "measure" and not stripped.startswith(("[", "(")):
        return [word.strip() for word in stripped.split(",") if word.strip()]
    try:
        return ast.literal_eval(stripped)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise ValueError(f"{name}: {stripped[:60]!r} is not a list; write it like [[0, 1.0], [1, 0.1]].") from None


def _lists(value: Any) -> Any:
    """`value` with lists for tuples, as JSON gives it back."""
    return [_lists(v) for v in value] if isinstance(value, tuple | list) else value
