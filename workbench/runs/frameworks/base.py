"""What a framework's file is: from the keys it writes to an architecture and to what a step trains on.

A configuration is recognised by keys that must all be there. What the keys do not say is not guessed: then there is
no architecture, or one whose vocabulary is None.
"""

from __future__ import annotations

import importlib
import math
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, ClassVar

from workbench.runs.calculator import Architecture
from workbench.units import parse_number

__all__ = ["Config", "Counted", "Framework", "frameworks", "planned", "sequences"]

#: Beyond it a number is no size, and products of sizes would leave the range of floats.
_LARGEST = 1e15
_NOTHING = frozenset({"", "none", "null", "nan", "n/a", "<na>"})


@dataclass(frozen=True)
class Counted:
    """One canonical quantity that follows from a configuration.

    Attributes:
        value: in the canonical unit.
        how: what it follows from, for the column's note. ``from ...`` where it was logged under another name.
        misread: what a log's own column of this name holds where its key means something else: `batch_size` of one
            micro-batch. It is then replaced.
    """

    value: float
    how: str
    misread: float | None = None


class Config:
    """The settings of one run, found by key whatever they are nested in.

    ``config.model.n_layer`` is found as ``n_layer`` and as ``model.n_layer``. Where several keys end alike, the one
    nested least counts; if two of them are nested alike and differ, none does.

    Args:
        cells: dotted key -> cell as logged.

    Attributes:
        asked: the keys of `cells` that were looked at.
    """

    def __init__(self, cells: Mapping[str, Any]) -> None:
        self._cells = cells
        self._ends = _ends(tuple(cells))
        self.asked: dict[str, None] = {}

    def __contains__(self, key: str) -> bool:
        return self.get(key) is not None

    def names(self, keys: tuple[str, ...]) -> bool:
        """Whether there is a header for each of `keys`, given or not."""
        return all(key in self._ends for key in keys)

    def get(self, *keys: str) -> Any:
        """The first of `keys` that is given; None if none is."""
        for key in keys:
            self.asked.update(dict.fromkeys(self._ends.get(key, ())))
            found = [self._cells[header] for header in self._ends.get(key, ())]
            found = [cell for cell in found if not _missing(cell)]
            if found and all(str(cell) == str(found[0]) for cell in found):
                return found[0]
        return None

    def number(self, *keys: str) -> float | None:
        """A finite number, None if there is none."""
        cell = self.get(*keys)
        if cell is None or isinstance(cell, bool):
            return None
        try:
            value = parse_number(cell)
        except (ValueError, TypeError):
            return None
        return value if math.isfinite(value) else None

    def whole(self, *keys: str) -> int | None:
        """A positive whole number, None if there is none, or one that no model or batch has."""
        value = self.number(*keys)
        return int(value) if value is not None and 1 <= value <= _LARGEST and value == value // 1 else None

    def truth(self, key: str, default: bool | None = None) -> bool | None:
        """True or False; `default` if the key is not given."""
        cell = self.get(key)
        if cell is None:
            return default
        word = str(cell).strip().lower()
        return (
            True if word in ("true", "1", "1.0", "yes") else False if word in ("false", "0", "0.0", "no") else default
        )

    def word(self, *keys: str) -> str:
        """Text in lower case, empty if there is none."""
        cell = self.get(*keys)
        return "" if cell is None else str(cell).strip().lower()


class Framework:
    """Base class; subclasses in `workbench.runs.frameworks` register under `name`.

    Attributes:
        name: as people call it.
        of_model: keys that an architecture needs; all must be there.
        of_training: keys of which one must be there for `training`.
    """

    name: ClassVar[str]
    of_model: ClassVar[tuple[str, ...]] = ()
    of_training: ClassVar[tuple[str, ...]] = ()

    _registry: ClassVar[dict[str, type[Framework]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Framework._registry[cls.name] = cls

    def architecture(self, config: Config) -> Architecture | None:
        """The model that `config` describes, None if its keys do not fix it.

        Raises:
            ValueError: numbers do not fit each other.
        """
        return None

    def training(self, config: Config) -> dict[str, Counted]:
        """Canonical quantities of training: context, batch, batch_tokens, steps, tokens, lr."""
        return {}


@cache
def frameworks() -> tuple[Framework, ...]:
    """One instance of every framework, by name."""
    import workbench.runs.frameworks as package

    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return tuple(Framework._registry[name]() for name in sorted(Framework._registry, key=str.lower))


@lru_cache(maxsize=64)
def _ends(headers: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """End of a dotted key -> the headers that end so and are nested least."""
    found: dict[str, list[tuple[int, str]]] = {}
    for header in headers:
        if "[" in header:  # an item of a list is not the run's own setting
            continue
        parts = header.replace("/", ".").split(".")
        for depth in range(len(parts)):
            found.setdefault(".".join(parts[depth:]), []).append((depth, header))
    return {
        end: tuple(header for depth, header in places if depth == min(d for d, _ in places))
        for end, places in found.items()
    }


def _missing(cell: Any) -> bool:
    if cell is None or (isinstance(cell, float) and cell != cell):
        return True
    return isinstance(cell, str) and cell.strip().lower() in _NOTHING


def planned(config: Config, key: str) -> dict[str, Counted]:
    """The steps that a run was to have, under `key`; a number below 1 stands for no limit and is taken back."""
    steps = config.number(key)
    if steps is None:
        return {}
    return {"steps": Counted(steps, f"{key}, as planned") if steps >= 1 else Counted(math.nan, "", steps)}


def sequences(config: Config, batch: int | None, how: str, context: int | None, misread: float | None = None) -> dict:
    """What a step trains on, from its sequences and their length, as far as they are known."""
    found = {}
    if context is not None:
        found["context"] = Counted(context, "from the configuration")
    if batch is not None:
        found["batch"] = Counted(batch, how, misread)
        if context is not None:
            found["batch_tokens"] = Counted(float(batch) * context, f"{how} x sequence length")
    return found
