"""JSON documents that were cut off or damaged: what stands before the damage."""

from __future__ import annotations

import re
from typing import Any

from workbench.runs import strict_json

__all__ = ["loads_torn"]

_SPACE = re.compile(r"[ \t\r\n]*")
_TEXT = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')
_PLAIN = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null|NaN|-?Infinity", re.ASCII)
#: A value is whole only where something follows that ends it: 12 may be the beginning of 125.
_END = re.compile(r"[ \t\r\n]*[,\]}]")


def loads_torn(text: str) -> tuple[Any, bool]:
    """The value written in `text`, and whether it is whole.

    Of a damaged text the objects and lists that were open at the damage are closed there; a value that may have been
    cut in two is left out, and so is all that follows the damage.

    Raises:
        ValueError: not even a beginning can be read, or it is nested too deeply.
    """
    try:
        return strict_json.loads(text), True
    except ValueError as error:
        beginning = _beginning(text)
        if beginning is None:
            raise ValueError(str(error)) from None
    return strict_json.loads(beginning), False


def _beginning(text: str) -> str | None:
    """The longest beginning of `text` that ends with a whole value, its open brackets closed."""
    at = _SPACE.match(text, text.startswith("\ufeff")).end()
    if text[at : at + 1] not in ("{", "["):
        return None
    begin = at
    open_brackets = [text[at]]
    kept, closing = at + 1, "}" if text[at] == "{" else "]"
    at += 1
    first = True  # whether nothing stands in the innermost bracket yet
    while open_brackets:
        at = _SPACE.match(text, at).end()
        char = text[at : at + 1]
        if char and char == ("}" if open_brackets[-1] == "{" else "]"):
            open_brackets.pop()
            at, first = at + 1, False
            kept, closing = at, _closing(open_brackets)
            continue
        if not first:
            if char != ",":
                break
            at = _SPACE.match(text, at + 1).end()
        if open_brackets[-1] == "{":
            key = _TEXT.match(text, at)
            if key is None:
                break
            at = _SPACE.match(text, key.end()).end()
            if text[at : at + 1] != ":":
                break
            at = _SPACE.match(text, at + 1).end()
        char = text[at : at + 1]
        if char and char in "{[":
            open_brackets.append(char)
            at, first = at + 1, True
            kept, closing = at, _closing(open_brackets)
            continue
        value = _TEXT.match(text, at) or _PLAIN.match(text, at)
        if value is None or _END.match(text, value.end()) is None:
            break
        at, first = value.end(), False
        kept, closing = at, _closing(open_brackets)
    return text[begin:kept] + closing


def _closing(open_brackets: list[str]) -> str:
    return "".join("}" if bracket == "{" else "]" for bracket in reversed(open_brackets))
