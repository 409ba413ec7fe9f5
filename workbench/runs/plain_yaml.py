"""Settings in YAML, as loggers write them: scalars, lists and mappings. Nothing in a file is ever built or run.

PyYAML (which JupyterLab brings) reads the structure; an object of another program's class is read as what it holds.
"""

from __future__ import annotations

import math
import re
from typing import Any

__all__ = ["loads"]

#: More is no settings, but a file made to fill the memory: an alias may repeat a thousand values in three bytes.
_MOST = 20_000
_DEEPEST = 50
_LONGEST = 2_000_000

_STANDARD = "tag:yaml.org,2002:"
#: Not 017, which YAML 1.1 takes for octal and a person for seventeen.
_WHOLE = re.compile(r"[-+]?(?:0|[1-9][0-9_]*)")
#: YAML 1.1 asks for a point and a sign; people and programs write 1e-3.
_FLOAT = re.compile(r"[-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


def loads(text: str) -> Any:
    """The value of a document: None, truth values, numbers, text, lists and mappings with text as keys.

    Raises:
        ValueError: it is no YAML, not one document, or too large or too deep to be settings.
    """
    import yaml

    if len(text) > _LONGEST:
        raise ValueError("it is too long to be settings")
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ValueError(f"it is not YAML ({' '.join(str(error).split())[:100]})") from None
    room = [_MOST]
    return None if node is None else _value(node, room, 0)


def _value(node: Any, room: list[int], depth: int) -> Any:
    import yaml

    room[0] -= 1
    if room[0] < 0 or depth > _DEEPEST:
        raise ValueError("it holds more than settings would, or refers to itself")
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node.tag.removeprefix(_STANDARD), node.value)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, room, depth + 1) for item in node.value]
    found = {}
    for key, item in node.value:
        name = _value(key, room, depth + 1) if isinstance(key, yaml.ScalarNode) else "?"
        found[str(name)] = _value(item, room, depth + 1)
    return found


def _scalar(kind: str, text: str) -> Any:
    if kind in ("null", "python/none"):
        return None
    if kind in ("bool", "python/bool"):
        return text.lower() in ("true", "yes", "on")
    if kind in ("int", "python/int", "python/long"):
        if not _WHOLE.fullmatch(text):
            return text
        return int(text.replace("_", "")) if len(text) <= 18 else float(text.replace("_", ""))
    if kind in ("float", "python/float"):
        word = text.lower().lstrip("+-")
        if word in (".inf", ".nan"):
            return math.nan if word == ".nan" else math.copysign(math.inf, -1 if text.startswith("-") else 1)
        if _FLOAT.fullmatch(text):
            return float(text.replace("_", ""))
    return text
