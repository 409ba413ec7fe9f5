"""What one run logged, record by record: its last values at once, its curve when somebody looks at it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from workbench.runs.cells import text
from workbench.runs.lazy_curves import LazyCurves

__all__ = ["History", "lazy"]


class History:
    """Records of one run in the order in which they were logged, each a step and some metrics."""

    def __init__(self) -> None:
        self.records: list[tuple[float, Mapping[str, Any]]] = []

    def add(self, step: float, metrics: Mapping[str, Any]) -> None:
        """One record. A metric called ``step`` is left out, as the record has its own."""
        self.records.append((step, metrics))

    @property
    def last_step(self) -> float | None:
        """The largest step, None where nothing was logged."""
        return max((step for step, _ in self.records), default=None)

    def final(self) -> dict[str, Any]:
        """The last value given for each metric, in order of their first appearance; of one step the later counts."""
        found: dict[str, tuple[float, Any]] = {}
        for step, metrics in self.records:
            for name, value in metrics.items():
                if name != "step" and value is not None and (name not in found or step >= found[name][0]):
                    found[name] = (step, value)
        return {name: value for name, (_, value) in found.items()}

    def frame(self) -> pd.DataFrame:
        """All records: `step`, and a column for each metric, float where all of its values are numbers."""
        places: dict[str, list[int]] = {}
        values: dict[str, list[Any]] = {}
        for place, (_, metrics) in enumerate(self.records):
            for name, value in metrics.items():
                if name != "step" and value is not None:
                    header = name if name.isascii() else text(name)
                    places.setdefault(header, []).append(place)
                    values.setdefault(header, []).append(value)
        data: dict[str, Any] = {"step": np.array([step for step, _ in self.records], dtype=float)}
        for name, given in values.items():
            number = all(isinstance(value, int | float) for value in given)
            column = np.full(len(self.records), math.nan if number else None, dtype=float if number else object)
            for place, value in zip(places[name], given, strict=True):
                column[place] = value
            data[name] = column
        return pd.DataFrame(data)


def lazy(histories: Mapping[int, History]) -> LazyCurves:
    """Curves for `Log.curves`, of those rows whose history holds a record."""
    return LazyCurves({row: history.frame for row, history in histories.items() if history.records})
