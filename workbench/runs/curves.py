"""Curves over steps: telling checkpoints from runs, and looking curves up by run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from workbench.runs.cells import Cells
from workbench.runs.columns import nearest, resolve
from workbench.runs.headers import read_header

__all__ = ["Curves", "final_values", "is_one_curve", "is_step", "last_given", "settle", "tidy"]

#: Settings that do not change while one run trains; where they vary, rows are runs.
FIXED = frozenset(
    {"params", "params_non_embedding", "params_active", "unique_tokens", "width", "depth", "context", "vocab", "seed"}
)


class Curves(Mapping[str, pd.DataFrame]):
    """Run id -> curve: a frame with `step` (increasing) and one float column for each metric.

    A curve is made at the first look and then kept. Frames are shared: do not modify them.
    """

    def __init__(self, makers: Mapping[str, Callable[[], pd.DataFrame]] | None = None) -> None:
        self._makers = dict(makers or {})
        self._made: dict[str, pd.DataFrame] = {}

    def __getitem__(self, run: str) -> pd.DataFrame:
        if run not in self._makers:
            raise KeyError(f"no curve for run {run!r}; {nearest(run, self._makers, 'runs with curves')}")
        if run not in self._made:
            self._made[run] = self._makers[run]()
        return self._made[run]

    def __contains__(self, run: object) -> bool:
        return run in self._makers

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)

    def __repr__(self) -> str:
        return f"<curves of {len(self)} runs>"

    def select(self, ids: Iterable[str]) -> Curves:
        """The curves of these runs only."""
        chosen = Curves({run: self._makers[run] for run in ids if run in self._makers})
        chosen._made = {run: curve for run, curve in self._made.items() if run in chosen._makers}
        return chosen


def is_step(header: str) -> bool:
    """Whether a header counts steps: ``step``, ``iter``, ``global_step``, ``_step``."""
    reading = read_header(header)
    return reading is not None and reading.name == "step"


def final_values(frame: pd.DataFrame) -> dict[str, Any]:
    """The last cell given in each column but the step's; loggers write train and eval on different rows."""
    cells = Cells(frame)
    final = {}
    for header in frame.columns:
        given = np.flatnonzero(cells.given(header))
        if given.size and not is_step(header):
            final[header] = frame[header].iloc[given[-1]]
    steps = [cells.numbers(header)[0] for header in frame.columns if is_step(header)]
    if steps and np.isfinite(steps[0]).any():
        final.setdefault("steps", float(np.nanmax(steps[0])))
    return final


def tidy(raw: pd.DataFrame, columns: Mapping[str, Any] | None = None) -> pd.DataFrame:
    """A curve as logged -> `step` first, then every numeric column under its canonical name, settled."""
    cells = Cells(raw)
    headers = list(raw.columns)
    wanted = {name: value for name, value in (columns or {}).items() if _header(value) in headers}
    try:
        resolved = resolve(headers, wanted, cells).columns
    except ValueError:  # rivals for one quantity: both keep their own names, only the step must be known
        resolved = [c for h in headers for c in resolve([h], None, cells).columns if is_step(h)]
        resolved += [c for h in headers if not is_step(h) for c in resolve(["step", h], None, None).columns[1:]]
        resolved = [c if c.name == "step" else type(c)(c.source, c.source) for c in resolved]
    data = {}
    for column in resolved:
        values, bad = cells.numbers(column.source)
        if column.name == "step" or (not bad.any() and np.isfinite(values).any()):
            data.setdefault(column.name, values * column.factor)
    if "step" not in data:
        return pd.DataFrame({"step": []}, dtype=float)
    return settle(pd.DataFrame({"step": data.pop("step"), **data}))


def settle(curve: pd.DataFrame) -> pd.DataFrame:
    """`curve` with finite, strictly increasing steps.

    Rows of one step are merged; where a metric was logged twice for a step, as after a restart from a
    checkpoint, the later value counts.
    """
    curve = curve[np.isfinite(curve["step"])]
    steps = curve["step"].to_numpy()
    if (np.diff(steps) <= 0).any():
        curve = curve.groupby("step", sort=True, as_index=False).last()
    return curve.reset_index(drop=True)


def is_one_curve(data: pd.DataFrame) -> bool:
    """Whether the rows of `data` (canonical columns, parsed) are checkpoints of a single run.

    They are if a `step` never falls, takes at least three values, no setting that is fixed within a run
    varies, and rows of one step do not contradict each other.
    """
    if "step" not in data:
        return False
    steps = data["step"].to_numpy()
    known = np.isfinite(steps)
    if (np.diff(steps[known]) < 0).any() or len(np.unique(steps[known])) < 3:
        return False
    if any(data[name].nunique() > 1 for name in FIXED & set(data.columns)):
        return False
    if known.sum() == len(np.unique(steps[known])):
        return True
    clocks = [c for c in data.columns if c == "seconds" or "time" in c.lower()]
    metrics = data[known].select_dtypes("number").drop(columns=clocks, errors="ignore")
    return bool((metrics.groupby("step").nunique() <= 1).all(axis=None))


def last_given(given: np.ndarray, order: np.ndarray) -> int:
    """Position of the last given cell in `order`, or of the last row if none was given."""
    hits = order[given[order]]
    return int(hits[-1] if hits.size else order[-1])


def _header(value: Any) -> Any:
    return value if isinstance(value, str) else value[0]
