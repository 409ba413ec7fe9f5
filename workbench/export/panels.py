"""Panels in a page: what a notebook says about them is checked, never trusted.

The object under the panel's media type (see `workbench.panels.explorer_embed`) becomes a JSON block that the page's
own script reads. Whatever is not of the expected form makes the page show the picture instead.
"""

from __future__ import annotations

import json
import math
from typing import Any

from workbench.laws.expression import MOST, OPERATIONS

__all__ = ["MEDIA", "VERSION", "checked"]

MEDIA = "application/vnd.workbench.panel+json"
VERSION = 1
#: Most bytes of one panel; a page stays under 5 MB with a handful of these.
MOST_BYTES = 1_000_000
#: Keys of a Vega-Lite specification by which it could reach out of the page or set how it is embedded.
_FORBIDDEN = {"url", "href", "usermeta", "loader", "$schema", "projection"}
_ARITY = {"negative": 1, "exp": 1, "log": 1, "expm1": 1, "log1p": 1, "log2": 1, "log10": 1, "sqrt": 1, "tanh": 1,
          "absolute": 1, "where": 3}  # fmt: skip


def checked(held: Any) -> dict[str, Any] | None:
    """The panel, or None if anything about it is not as this version writes it; packed as one text or not."""
    try:
        if len(held.get("panel", "")) > MOST_BYTES:
            return None
        held = json.loads(held["panel"]) if "panel" in held else held
        if held["version"] != VERSION or len(json.dumps(held, allow_nan=False)) > MOST_BYTES:
            return None
        steps = [_step(step, i) for i, step in enumerate(held["steps"])]
        sliders = [_slider(s) for s in held["sliders"]]
        known = {s["symbol"] for s in sliders}
        if len(steps) > MOST or len(known) != len(sliders):
            return None
        data = {str(name): [_row(row) for row in rows] for name, rows in held["data"].items()}
        curves = [_curve(c, data, len(steps)) for c in held["curves"]]
        needed = {step[1] for step in steps if step[0] == "argument"}
        if any(needed - known - set(c["inputs"]) for c in curves):
            return None
        return {
            "title": str(held["title"]),
            "spec": _harmless(held["spec"]),
            "data": data,
            "steps": steps,
            "sliders": sliders,
            "curves": curves,
            "log": bool(held["log"]),
            "start": str(held.get("start", "the start")),
            "points": _points(held["points"], needed - known),
            "reveal": _reveal(held["reveal"], known),
        }
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return None


def _step(step: Any, at: int) -> list[Any]:
    kind, *rest = step
    if kind == "argument":
        (symbol,) = rest
        if not isinstance(symbol, str):
            raise TypeError("a symbol is text")
        return [kind, symbol]
    if kind == "constant":
        (value,) = rest
        return [kind, [_number(v) for v in value] if isinstance(value, list) else _number(value)]
    if kind not in OPERATIONS or len(rest) != _ARITY.get(kind, 2):
        raise ValueError("no such operation")
    if not all(type(i) is int and 0 <= i < at for i in rest):
        raise ValueError("a step uses earlier steps")
    return [kind, *rest]


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("not a finite number")
    return value


def _slider(slider: Any) -> dict[str, Any]:
    low, high, value = (_number(slider[k]) for k in ("min", "max", "value"))
    if not low < high or (slider["log"] and low <= 0):
        raise ValueError("a slider without room")
    words = {k: str(slider[k])[:200] for k in ("symbol", "label", "meaning")}
    return {**words, "min": low, "max": high, "value": min(max(value, low), high), "log": bool(slider["log"])}


def _row(row: Any) -> dict[str, Any]:
    return {str(k): v for k, v in row.items() if v is None or isinstance(v, str | int | float | list)}


def _curve(curve: Any, data: dict[str, Any], steps: int) -> dict[str, Any]:
    rows, out = [_row(r) for r in curve["rows"]], list(curve["out"])
    inputs = {str(s): [_number(v) for v in values] for s, values in curve["inputs"].items()}
    sizes = {len(v) for v in inputs.values()}
    if curve["dataset"] not in data or not out or any(type(i) is not int or not 0 <= i < steps for i in out):
        raise ValueError("a curve of nothing")
    if len(sizes) != 1 or len(rows) != sizes.pop() * len(out):
        raise ValueError("blocks of another length")
    return {"dataset": curve["dataset"], "rows": rows, "inputs": inputs, "out": out}


def _points(points: Any, needed: set[str]) -> dict[str, Any] | None:
    if points is None:
        return None
    y = [_number(v) for v in points["y"]]
    inputs = {str(s): [_number(v) for v in values] for s, values in points["inputs"].items()}
    if any(len(v) != len(y) for v in inputs.values()) or needed - set(inputs) or not y:
        raise ValueError("points of another length")
    return {"inputs": inputs, "y": y}


def _reveal(reveal: Any, known: set[str]) -> dict[str, Any] | None:
    if reveal is None:
        return None
    params = {s: _number(v) for s, v in reveal["params"].items()}
    if set(params) != known:
        raise ValueError("a fit of another law")
    return {"params": params, "rms": _number(reveal["rms"]), "runs": int(reveal["runs"])}


def _harmless(node: Any) -> Any:
    """A specification without addresses and settings of the embedding; expressions run in Vega's interpreter."""
    if isinstance(node, list):
        return [_harmless(item) for item in node]
    if isinstance(node, dict):
        return {k: _harmless(v) for k, v in node.items() if k not in _FORBIDDEN}
    return node
