"""`Measure`: a function of a stack in training, called at the evaluation points of probes that ask for it."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from workbench.probes.ensemble import Ensemble

__all__ = ["Measure", "find_measure", "measures"]


@dataclass(frozen=True)
class Measure:
    """A measurement.

    A file of this room defines one (or several) at module level; walking the room finds it.

    Attributes:
        name: what a probe calls it.
        doc: one sentence: what it measures, its columns and their units.
        take: columns by name, each [E] (float64, CPU), from the stack. It leaves weights, optimizer and
            data stream as they are, and a member's value does not depend on its neighbours.
    """

    name: str
    doc: str
    take: Callable[[Ensemble], dict[str, torch.Tensor]]

    def __call__(self, ensemble: Ensemble) -> dict[str, torch.Tensor]:
        return self.take(ensemble)


@cache
def measures() -> dict[str, Measure]:
    """All measurements by name."""
    package = importlib.import_module("workbench.probes.measures")
    found: dict[str, Measure] = {}
    for entry in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        for value in vars(importlib.import_module(entry.name)).values():
            if isinstance(value, Measure):
                found[value.name] = value
    return dict(sorted(found.items()))


def find_measure(name: str) -> Measure:
    """The measurement of that name.

    Raises:
        ValueError: there is none; the sentence lists them.
    """
    if name not in measures():
        raise ValueError(f"measure={name!r} is not known; choose of {', '.join(measures())}.")
    return measures()[name]
