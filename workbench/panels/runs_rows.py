"""The rows of a page of runs, as text."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd

from workbench.runs.logged import SMOOTHED
from workbench.runs.table import RunTable
from workbench.units import human, quantity

__all__ = ["PAGE", "columns_of", "page_of"]

#: Rows of a page, and columns beside the run's name.
PAGE, _MOST = 15, 10
#: Longest text of a cell.
_LONG = 60


def columns_of(runs: RunTable, y: str, smoothed: bool, sort: str) -> list[dict[str, Any]]:
    """Columns worth showing: the run, its tag, the metric, and what differs between runs."""
    frame = runs.frame
    varied = [c for c in frame.columns if c not in ("run", "problem", "tag", y) and frame[c].nunique(dropna=False) > 1]
    metric = [y] if y in frame else []
    names = ["run", *(["tag"] if "tag" in frame else []), *metric, *([SMOOTHED] if smoothed else []), *varied]
    names = names[: _MOST + 1]
    if sort and sort not in names and (sort in frame or sort == SMOOTHED):
        names.append(sort)
    if (frame["problem"] != "").any():
        names.append("problem")
    return [_column(name, frame, y) for name in names]


def page_of(
    runs: RunTable,
    columns: list[dict[str, Any]],
    page: int,
    *,
    marked: Collection[str],
    left_out: Collection[str],
    colours: Mapping[str, str],
    smoothed: Callable[[str], float],
) -> list[dict[str, Any]]:
    """The rows of one page."""
    part = runs.frame.iloc[page * PAGE : (page + 1) * PAGE]
    bold, out = set(marked), set(left_out)
    rows = []
    for row in part.to_dict("records"):
        run = row["run"]
        cells = [_text(smoothed(run) if c["key"] == SMOOTHED else row[c["key"]]) for c in columns]
        rows.append(
            {
                "run": run,
                "cells": cells,
                "marked": run in bold,
                "used": run not in out,
                "colour": colours.get(run, ""),
            }
        )
    return rows


def _column(name: str, frame: pd.DataFrame, y: str) -> dict[str, Any]:
    if name == SMOOTHED and name not in frame:
        q = quantity(y)
        return {"key": name, "label": f"{q.meaning}, smoothed", "unit": q.unit, "number": True}
    label = {"run": "Run", "tag": "Tag", "problem": "Problem"}.get(name, quantity(name).meaning)
    number = pd.api.types.is_numeric_dtype(frame[name]) and not pd.api.types.is_bool_dtype(frame[name])
    return {"key": name, "label": label, "unit": quantity(name).unit, "number": bool(number)}


def _text(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | float | np.number):
        return human(float(value), 5) if not math.isnan(value) else "—"
    words = "" if value is None or value is pd.NA else str(value)
    return words if len(words) <= _LONG else words[: _LONG - 1] + "…"
