"""One point a run, or several: which checkpoints of a training run a law is fitted to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from workbench.runs.table import RunTable

__all__ = ["PARENT", "points_of_curves"]

#: Column that names the run each checkpoint belongs to.
PARENT = "checkpoint_of"
#: Checkpoints before this share of a run's tokens are left out: the loss there still falls off a cliff.
WARM_UP = 0.1
#: Checkpoints of one run at most, evenly spaced in the logarithm of the step.
MOST = 8
#: What grows in proportion to the step while a run trains.
_GROWING = ("tokens", "flops", "steps", "tokens_per_param", "seconds")


def points_of_curves(runs: RunTable, y: str, policy: str) -> RunTable:
    """`runs` with one row for each checkpoint that `policy` takes.

    Args:
        runs: the runs; one without a curve of `y` keeps its final row.
        y: metric.
        policy: ``best`` (the lowest `y` of each curve), ``last 3``, or ``all`` after the first tenth of
            training, at most 8 a run. ``final`` returns the runs as they are.

    Returns:
        A table with the column ``checkpoint_of``. Tokens, compute and steps of a checkpoint are the run's
        times the checkpoint's share of its steps, or the curve's own tokens where it logged them.
    """
    if policy == "final":
        return replace(runs, frame=runs.frame.assign(**{PARENT: runs.frame["run"]}))
    frame, rows = runs.frame, []
    growing = [c for c in _GROWING if c in frame]
    for i, run in enumerate(frame["run"]):
        curve = runs.curves.get(run)
        if curve is None or y not in curve:
            rows.append(frame.iloc[[i]].assign(**{PARENT: run}))
            continue
        value, step = curve[y].to_numpy(float), curve["step"].to_numpy(float)
        share = step / step.max() if step.max() > 0 else np.ones(step.size)
        fine = np.flatnonzero(np.isfinite(value) & (share >= WARM_UP))
        if not fine.size:
            rows.append(frame.iloc[[i]].assign(**{PARENT: run}))
            continue
        chosen = _chosen(policy, fine, value, step)
        part = frame.iloc[np.full(chosen.size, i)].copy()
        for column in growing:
            logged = curve[column].to_numpy(float)[chosen] if column in curve else np.full(chosen.size, np.nan)
            scaled = frame[column].iloc[i] * share[chosen]
            part[column] = np.where(np.isfinite(logged) & (logged > 0), logged, scaled)
        part[y], part[PARENT] = value[chosen], run
        part["run"] = [f"{run} @ {s:g}" for s in step[chosen]]
        rows.append(part)
    return replace(runs, frame=pd.concat(rows, ignore_index=True))


def _chosen(policy: str, fine: np.ndarray, value: np.ndarray, step: np.ndarray) -> np.ndarray:
    if policy == "best":
        return fine[[np.argmin(value[fine])]]
    if policy == "last 3":
        return fine[-3:]
    if fine.size <= MOST:
        return fine
    wanted = np.geomspace(max(step[fine[0]], 1), step[fine[-1]], MOST)
    return fine[np.unique(np.argmin(np.abs(step[fine][None] - wanted[:, None]), axis=1))]
