"""From a run table to budgets: which runs enter a compute-optimal analysis, and which share a compute."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, linkage

from workbench.analysis.slices import MINIMUM_SIZES
from workbench.fits.points import check_target
from workbench.runs.load import load
from workbench.runs.table import RunTable
from workbench.units import FLOPS_PER_PARAM_TOKEN

__all__ = ["gather", "grouped", "mark_spikes"]

#: A run this far above both neighbours in size did not train: its budget's curve cannot do that.
SPIKE = 1.2
#: Distance of a run from its budget: of equal compute, and of bands of a factor of two.
TOLERANCE, BAND = 0.1, 2**0.5 - 1


def gather(
    runs: Any, y: str, params: str, tokens: str, flops: str, where: str | None, keep: tuple[str, ...] = ()
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Runs as ``run``, ``params``, ``tokens``, ``flops``, ``loss`` and the columns `keep`, and why others are left out.

    Raises:
        ValueError: a column is missing, or no run is left.
    """
    table: RunTable = load(runs)
    table = table if where is None else table.where(where)
    frame = table.frame
    check_target(table, y)
    given = {name: column for name, column in (("tokens", tokens), ("flops", flops)) if column in frame}
    for column in (params, *keep):
        if column not in frame:
            raise ValueError(f"there is no column {column!r}; this table has {', '.join(frame.columns)}")
    if not given:
        raise ValueError(
            f"compute-optimal analysis needs {tokens!r} or {flops!r} beside {params!r}; "
            f"this table has {', '.join(frame.columns)}"
        )
    out = pd.DataFrame({"run": frame["run"].astype(str), "params": frame[params].astype(float)})
    for name, column in given.items():
        out[name] = frame[column].astype(float)
    if "flops" not in out:
        out["flops"] = FLOPS_PER_PARAM_TOKEN * out["params"] * out["tokens"]
    if "tokens" not in out:
        out["tokens"] = out["flops"] / (FLOPS_PER_PARAM_TOKEN * out["params"])
    out["loss"] = frame[y].astype(float)
    for column in keep:
        out[column] = frame[column]
    reason = "marked: " + frame["problem"].astype(str)
    reason = reason.where(frame["problem"].astype(str) != "", "")
    for name in ("params", "tokens", "flops", "loss"):
        bad = ~(np.isfinite(out[name]) & (out[name] > 0))
        reason = reason.where((reason != "") | ~bad, f"{y if name == 'loss' else name} is missing or not positive")
    left_out = dict(zip(out["run"][reason != ""], reason[reason != ""], strict=True))
    out = out[reason == ""].reset_index(drop=True)
    if out.empty:
        shown = "; ".join(sorted(set(left_out.values()))[:3])
        raise ValueError(f"of {len(frame)} runs none is left to analyse" + (f" ({shown})" if shown else ""))
    return out, left_out


def grouped(points, left_out, budget, budgets, tolerance, method) -> tuple[pd.DataFrame, str]:
    """`points` with the column ``group``, without the runs that belong to no budget."""
    narrow = TOLERANCE if tolerance is None else tolerance
    if budget is not None:
        return points.assign(group=pd.factorize(points[budget])[0]), f"by {budget}"
    if budgets is None:
        found = _linked(points, narrow)
        sizes = found.groupby("group")["params"].transform("nunique")
        # Two sizes above the minimum: a few sizes that happen to fall together make no isoFLOP curve.
        if tolerance is None and method == "shared" and (sizes >= MINIMUM_SIZES[method] + 2).mean() < 0.5:
            wide = _linked(points, BAND)
            if wide["group"].nunique() < found["group"].nunique():
                return wide, "compute comes in no groups: bands of a factor of two"
        return found, f"by compute within ±{narrow:.0%}"
    try:
        wanted = np.unique(np.atleast_1d(np.asarray(budgets, dtype=float)))
    except (TypeError, ValueError):
        wanted = np.array([np.nan])
    if not wanted.size or not np.isfinite(wanted).all() or (wanted <= 0).any():
        raise ValueError(f"budgets is {budgets!r}; give positive numbers of FLOP, such as [1e19, 1e20, 1e21]")
    distance = np.abs(np.log(points["flops"].to_numpy()[:, None] / wanted))
    nearest = distance.argmin(axis=1)
    inside = distance[np.arange(len(points)), nearest] <= np.log1p(narrow) + 1e-9
    left_out.update(dict.fromkeys(points["run"][~inside], f"compute is not within ±{narrow:.0%} of a budget"))
    if not inside.any():
        raise ValueError(
            f"no run lies within ±{narrow:.0%} of the budgets; compute runs from "
            f"{points['flops'].min():.3g} to {points['flops'].max():.3g} FLOP"
        )
    return points.assign(group=nearest)[inside].reset_index(drop=True), f"given, runs within ±{narrow:.0%}"


def _linked(points: pd.DataFrame, tolerance: float) -> pd.DataFrame:
    """Groups by compute of which none spans more than (1 + tolerance)^2 (complete linkage)."""
    # Runs of a sweep repeat the same few computes; rounding keeps the linkage small.
    values, index = np.unique(np.round(np.log(points["flops"].to_numpy()), 4), return_inverse=True)
    if values.size > 4000:
        raise ValueError(f"{values.size} different computes are too many to group; give budgets= in FLOP")
    if values.size < 2:
        return points.assign(group=0)
    tree = linkage(values[:, None], "complete")
    return points.assign(group=fcluster(tree, 2 * np.log1p(tolerance), "distance")[index])


def mark_spikes(points: pd.DataFrame, left_out: dict[str, str]) -> None:
    """Note runs whose loss stands far above both neighbouring sizes of their budget."""
    for _, part in points.groupby("group"):
        part = part.sort_values("params")
        best = part.groupby("params")["loss"].min()
        sizes, values = best.index.to_numpy(), best.to_numpy()
        for run, size, loss in zip(part["run"], part["params"], part["loss"], strict=True):
            i = int(np.searchsorted(sizes, size))
            around = [*values[max(i - 1, 0) : i], *values[i + 1 : i + 2]]
            if 0 < i < sizes.size - 1 and loss > SPIKE * max(around):
                left_out[run] = (
                    f"loss is more than {SPIKE - 1:.0%} above both neighbouring sizes of its budget: diverged?"
                )
