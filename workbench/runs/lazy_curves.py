"""Curves of a log that are made when they are looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import pandas as pd

__all__ = ["LazyCurves"]


class LazyCurves(Mapping[int, pd.DataFrame]):
    """Row number -> curve, by a function for each row that has one. Nothing is kept: `load` keeps what it asked for."""

    def __init__(self, makers: Mapping[int, Callable[[], pd.DataFrame]]) -> None:
        self._makers = dict(makers)

    def __getitem__(self, row: int) -> pd.DataFrame:
        return self._makers[row]()

    def __contains__(self, row: object) -> bool:
        return row in self._makers

    def __iter__(self) -> Iterator[int]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)
