"""`Component`: a named part of a probe (a task, a model, an optimizer) with checked settings.

A new part is a frozen dataclass in a new file of its room; walking the room finds it. Its fields are
declared with `number`, `whole`, `choice` and `flag`, which hold the default, the allowed values, one
sentence of meaning with the unit, and whether members of a stack may differ in the field.
"""

from __future__ import annotations

import importlib
import math
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from functools import cache
from typing import Any, ClassVar, TypeVar

__all__ = ["Component", "checked", "choice", "flag", "known", "number", "own", "registry", "whole"]


def number(
    default: float | None, low: float, high: float, doc: str, *, member: bool = False, later: bool = False,
    optional: bool = False,
) -> Any:  # fmt: skip
    """A field that holds a number in [low, high], or None where `optional`.

    Args:
        default: its default.
        low, high: what is allowed, both included.
        doc: one sentence: meaning and unit.
        member: members of a stack may differ in it. Else it enters the shape that decides who is stacked.
        later: the field is younger than its component: it enters JSON, and so the id, only where it differs
            from the default, so that ids of probes that do not use it stay what they were.
        optional: None is allowed.
    """
    return _field(default, "number", doc, member, later, low=low, high=high, optional=optional)


def whole(default: int, low: int, high: int, doc: str, *, member: bool = False, later: bool = False) -> Any:
    """A field that holds a whole number in [low, high]; arguments as in `number`."""
    return _field(default, "whole", doc, member, later, low=low, high=high)


def choice(default: str, values: tuple[str, ...], doc: str, *, member: bool = False, later: bool = False) -> Any:
    """A field that holds one of `values`; arguments as in `number`."""
    return _field(default, "choice", doc, member, later, values=values)


def flag(default: bool, doc: str, *, member: bool = False, later: bool = False) -> Any:
    """A field that is True or False; arguments as in `number`."""
    return _field(default, "flag", doc, member, later)


def own(default: Any, check: Callable[[str, Any], Any], doc: str, *, member: bool = False, later: bool = False) -> Any:
    """A field of its own kind: ``check(name, value)`` returns the value in canonical, hashable, JSON-ready form."""
    return _field(default, "own", doc, member, later, check=check)


def _field(default: Any, kind: str, doc: str, member: bool, later: bool, **rest: Any) -> Any:
    return field(default=default, metadata={"kind": kind, "doc": doc, "member": member, "later": later, **rest})


@dataclass(frozen=True)
class Component:
    """A part of a probe: its settings, validated at construction.

    Attributes:
        name: what a probe calls it.
        kind: ``task``, ``model`` or ``optimizer``; set by the base class of the room.

    Raises:
        TypeError: a field has the wrong type.
        ValueError: a field is out of range.
    """

    name: ClassVar[str] = ""
    kind: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for one in fields(self):
            object.__setattr__(self, one.name, checked(one, getattr(self, one.name)))
        self.check()

    def check(self) -> None:
        """Refuse fields that do not fit together; a ValueError of one sentence."""


def checked(declared: Field, value: Any) -> Any:
    """`value` in canonical form, or one sentence about what is wrong with it."""
    name, meta = declared.name, declared.metadata
    kind = meta["kind"]
    if kind == "choice":
        if not isinstance(value, str) or value not in meta["values"]:
            raise ValueError(f"{name}={value!r} is not known; choose one of {', '.join(meta['values'])}.")
        return value
    if kind == "flag":
        if value not in (True, False):
            raise TypeError(f"{name}={value!r} is neither True nor False.")
        return bool(value)
    if kind == "own":
        return meta["check"](name, value)
    if value is None and meta.get("optional"):
        return None
    what = "a whole number" if kind == "whole" else "a number"
    if isinstance(value, bool | str) or not hasattr(value, "__float__"):
        raise TypeError(f"{name}={value!r} is not {what}.")
    as_float = float(value)
    if kind == "whole" and not (math.isfinite(as_float) and as_float == int(value)):
        raise TypeError(f"{name}={value!r} is not {what}.")
    if not meta["low"] <= as_float <= meta["high"]:
        raise ValueError(f"{name}={value!r} is out of range; it must lie between {meta['low']} and {meta['high']}.")
    # numpy scalars and 2e5 become plain numbers here, so equal probes have equal JSON and equal ids
    return int(value) if kind == "whole" else as_float


C = TypeVar("C", bound=Component)


@cache
def registry(room: str, base: type[C]) -> Mapping[str, type[C]]:
    """The components of a room (a package) by name, found by importing its modules.

    Raises:
        ValueError: two of them share a name.
    """
    package = importlib.import_module(room)
    for module in pkgutil.walk_packages(package.__path__, f"{room}."):
        importlib.import_module(module.name)
    found: dict[str, type[C]] = {}
    for one in _descendants(base):
        if one.name and one.__module__.startswith(f"{room}.") and found.setdefault(one.name, one) is not one:
            raise ValueError(f"{found[one.name].__module__} and {one.__module__} both call a {one.kind} {one.name!r}")
    return dict(sorted(found.items()))


def known(room: str, base: type[C], name: Any) -> type[C]:
    """The component of that name, or one sentence that lists the names."""
    all_of_them = registry(room, base)
    if not isinstance(name, str) or name not in all_of_them:
        raise ValueError(f"{base.kind}={name!r} is not known; choose one of {', '.join(all_of_them)}.")
    return all_of_them[name]


def _descendants(base: type) -> list[type]:
    return [one for child in base.__subclasses__() for one in (child, *_descendants(child))]
