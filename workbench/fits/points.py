"""From a run table to the numbers a fit sees: which runs enter, with which inputs and weights."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from workbench.laws.base import Law
from workbench.runs.table import RunTable
from workbench.units import SCALES

__all__ = ["Points", "check_target", "gather", "input_columns"]


@dataclass(frozen=True)
class Points:
    """The runs that enter a fit.

    Attributes:
        frame: their rows of the run table, RangeIndex.
        x: input symbol -> values ``[n]``.
        y: the fitted metric ``[n]``.
        weights: one weight per run ``[n]``.
        cluster: index of the group each run is resampled with ``[n]``.
        left_out: run id -> why it is not here.
        columns: input symbol -> column it came from.
        target: name of the fitted column.
        grouped_by: column the clusters come from, None where every run stands alone.
        strata: index of the stratum each run is resampled within ``[n]``, None where there are none.
        stratified_by: column the strata come from.
    """

    frame: pd.DataFrame
    x: dict[str, np.ndarray]
    y: np.ndarray
    weights: np.ndarray
    cluster: np.ndarray
    left_out: dict[str, str]
    columns: dict[str, str]
    target: str
    grouped_by: str | None = None
    strata: np.ndarray | None = None
    stratified_by: str | None = None

    def __len__(self) -> int:
        return self.y.size


def input_columns(
    law: Law, runs: RunTable, x: str | None = None, inputs: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Which column feeds each input of `law`.

    Args:
        law: the law.
        runs: the table.
        x: column for a law with one input.
        inputs: input symbol -> column, to count differently from the default
            (``{"N": "params_non_embedding"}``).

    Raises:
        ValueError: an input has no column; the sentence names the columns there are.
    """
    chosen = dict(inputs or {})
    known = [i.symbol for i in law.inputs]
    for symbol in chosen:
        if symbol not in known:
            raise ValueError(f"{law.name} has no input {symbol!r}; its inputs are {', '.join(known)}")
    available = [c for c in runs.frame.columns if pd.api.types.is_numeric_dtype(runs.frame[c])]
    if x is not None:
        if len(known) != 1:
            raise ValueError(
                f"x={x!r} is for laws of one input; {law.name} takes {', '.join(known)}: "
                f"use inputs={{{known[0]!r}: ...}} to change a column"
            )
        chosen.setdefault(known[0], x)
    for given in law.inputs:
        if given.symbol in chosen:
            continue
        if given.quantity is not None:
            chosen[given.symbol] = given.quantity
        else:
            scales = [c for c in SCALES if c in available and runs.frame[c].nunique() > 1]
            if not scales:
                raise ValueError(
                    f"{law.name} needs a scale to run along, and none of {', '.join(SCALES)} varies in this "
                    f"table; give x= one of {', '.join(available) or 'its columns (it has no numeric one)'}"
                )
            chosen[given.symbol] = scales[0]
    for symbol, column in chosen.items():
        if column not in available:
            near = difflib.get_close_matches(str(column), available, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(
                f"{law.name} needs the column {column!r} for {symbol}; {hint}this table has the numeric columns "
                f"{', '.join(available) or '(none)'}: rename with load(..., columns={{{column!r}: ...}}) or choose "
                f"with inputs={{{symbol!r}: ...}}"
            )
    return {i.symbol: chosen[i.symbol] for i in law.inputs}


def gather(
    law: Law,
    runs: RunTable,
    y: str = "loss",
    x: str | None = None,
    inputs: Mapping[str, str] | None = None,
    weights: str | Any | None = None,
    cluster: str | None = None,
    positive: bool = True,
    strata: str | None = None,
) -> Points:
    """The points of a fit of `law` to column `y` of `runs`.

    Runs with a problem, a missing input or a value the objective cannot take are left out and listed.

    Args:
        law, runs, x, inputs: see `input_columns`.
        y: column to fit.
        weights: column or array of weights, one per run of the table; default 1.
        cluster: column whose equal values are resampled together; default every run alone.
        positive: whether `y` must be positive (objectives on logarithms).
        strata: column within whose equal values the bootstrap draws, such as a budget.

    Raises:
        ValueError: no such column, bad weights, a cluster in two strata, or no run left.
    """
    frame = runs.frame
    check_target(runs, y)
    columns = input_columns(law, runs, x, inputs)
    w = _weights(weights, runs)
    target = frame[y].to_numpy(float)
    reason = pd.Series("", index=frame.index, dtype=object)

    def leave_out(mask, why):
        reason[(reason == "") & mask] = why

    # A problem with another column than those fitted is no reason to leave a run out; a metric that is
    # missing or not positive is found below, so only the verdict on the whole row counts here.
    problem = frame["problem"].astype(str) if "problem" in frame else pd.Series("", index=frame.index)
    leave_out(problem.str.len() > 0, "marked: " + problem)
    leave_out(~np.isfinite(target), f"{y} is missing or not finite")
    if positive:
        leave_out(np.isfinite(target) & (target <= 0), f"{y} is not positive, and the objective takes its logarithm")
    for given in law.inputs:
        column = columns[given.symbol]
        values = frame[column].to_numpy(float)
        leave_out(~np.isfinite(values), f"{column} is missing or not finite")
        bad = values < 0 if given.zero else values <= 0
        leave_out(np.isfinite(values) & bad, f"{column} is {'negative' if given.zero else 'not positive'}")
    leave_out(w <= 0, "weight 0")
    keep = (reason == "").to_numpy()
    left_out = dict(zip(frame["run"][~keep].astype(str), reason[~keep], strict=True))
    if not keep.any():
        shown = "; ".join(sorted(set(left_out.values()))[:3])
        raise ValueError(
            f"no run is left to fit {law.name} to {y!r}: of {len(frame)} runs "
            + (f"all were left out ({shown})" if len(frame) else "there are none; check the filter or the file")
        )
    kept = frame[keep].reset_index(drop=True)
    groups = _indices(kept, cluster, "resample by")
    layers = None if strata is None else _indices(kept, strata, "stratify by")
    if layers is not None and len(np.unique(np.stack([groups, layers]), axis=1).T) > groups.max() + 1:
        raise ValueError(
            f"some {cluster} has runs of several {strata}, and is drawn whole: take strata that hold whole clusters"
        )
    return Points(
        frame=kept,
        x={symbol: kept[column].to_numpy(float) for symbol, column in columns.items()},
        y=target[keep],
        weights=w[keep],
        cluster=groups,
        left_out=left_out,
        columns=columns,
        target=y,
        grouped_by=cluster,
        strata=layers,
        stratified_by=strata,
    )


def _indices(frame: pd.DataFrame, column: str | None, purpose: str) -> np.ndarray:
    """Index ``[n]`` of each row's value in a column, missing values being one of their own; else of the row."""
    if column is None:
        return np.arange(len(frame))
    if column not in frame.columns:
        raise ValueError(f"there is no column {column!r} to {purpose}; this table has {', '.join(frame.columns)}")
    return pd.factorize(frame[column], use_na_sentinel=False)[0]


def check_target(runs: RunTable, y: str) -> None:
    """Raise a ValueError that names the numeric columns if `y` is none of them."""
    frame = runs.frame
    if y not in frame.columns or not pd.api.types.is_numeric_dtype(frame[y]):
        numeric = [c for c in frame.columns if pd.api.types.is_numeric_dtype(frame[c])]
        near = difflib.get_close_matches(str(y), numeric, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(
            f"there is no numeric column {y!r} to fit; {hint}this table has {', '.join(numeric) or '(none)'}"
        )


def _weights(weights: Any, runs: RunTable) -> np.ndarray:
    n = len(runs.frame)
    if weights is None:
        return np.ones(n)
    if isinstance(weights, str):
        if weights not in runs.frame.columns:
            raise ValueError(
                f"there is no column {weights!r} to weight by; this table has {', '.join(runs.frame.columns)}"
            )
        weights = runs.frame[weights]
    try:
        values = np.asarray(weights, dtype=float)
    except (TypeError, ValueError):
        raise ValueError("weights must be numbers, one per run of the table, or the name of a column") from None
    if values.shape != (n,):
        raise ValueError(f"weights have shape {values.shape}; this table has {n} runs and takes one weight for each")
    if not np.isfinite(values).all() or (values < 0).any():
        raise ValueError("weights must be finite and not negative")
    return values
