"""JSON that any parser accepts and that still carries NaN and infinities.

RFC 8259 has no NaN; Python's `json` writes one anyway, and other parsers then refuse the whole line. We
write ``{"$float": "nan"}``, ``{"$float": "inf"}`` and ``{"$float": "-inf"}`` instead. Reading accepts these
and, because many logs hold them, the bare ``NaN`` and ``Infinity`` too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

__all__ = ["dumps", "flatten", "loads"]

_KEY = "$float"
#: Whoever walks through a value may recurse this far without harm.
_DEEPEST = 100


def dumps(value: Any, **kwargs: Any) -> str:
    """`value` as strict JSON text on one line, unless `indent` is given.

    Raises:
        TypeError: something in `value` is neither a number, text, truth value, list nor mapping.
        ValueError: a mapping uses the reserved key ``$float``.
    """
    return json.dumps(_encode(value), allow_nan=False, **kwargs)


def loads(text: str) -> Any:
    """The value written in `text`; ``{"$float": "nan"}`` and bare ``NaN`` become floats.

    Raises:
        ValueError: `text` is not one whole JSON value, or is nested too deeply to read.
    """
    try:
        value = json.loads(text, object_hook=_decode, parse_int=_integer)
    except RecursionError:
        value = None
        deep = True
    else:
        # few texts have so many brackets that their depth is worth a walk
        deep = text.count("{") + text.count("[") > _DEEPEST and _deeper(value, _DEEPEST)
    if deep:
        raise ValueError(f"the JSON is nested more than {_DEEPEST} levels deep")
    return value


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, keys joined by dots: ``{"model": {"width": 8}}`` -> ``{"model.width": 8}``."""
    flat: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            flat.update(flatten(item, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = item
    return flat


def _encode(value: Any) -> Any:
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | float):
        return {_KEY: str(float(value))} if not math.isfinite(value) else value
    if isinstance(value, Mapping):
        if _KEY in value:
            raise ValueError(f"the key {_KEY!r} is reserved for NaN and infinities; use another name")
        return {str(key): _encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(item) for item in value]
    if hasattr(value, "tolist"):  # numpy scalars and arrays, torch tensors
        return _encode(value.tolist())
    raise TypeError(f"cannot write a {type(value).__name__} to JSON; give numbers, text, lists or mappings")


def _decode(mapping: dict[str, Any]) -> Any:
    if len(mapping) == 1 and mapping.get(_KEY) in ("nan", "inf", "-inf"):
        return float(mapping[_KEY])
    return mapping


def _deeper(value: Any, levels: int) -> bool:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels < 0 or any(_deeper(item, levels - 1) for item in items)


def _integer(digits: str) -> int | float:
    # beyond 18 digits an int leaves int64, and beyond 4300 Python refuses to parse it at all
    return int(digits) if len(digits) <= 18 else float(digits)
