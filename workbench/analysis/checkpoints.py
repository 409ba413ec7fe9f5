"""One point a run, or several: which checkpoints of a training run a law is fitted to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from workbench.runs.checkpoints import CLUSTER, Curve, rows_of_curves
from workbench.runs.table import RunTable

__all__ = ["PARENT", "points_of_curves"]

#: Column that names the run each checkpoint belongs to.
PARENT = "checkpoint_of"
#: Checkpoints before this share of a run's tokens are left out: the loss there still falls off a cliff.
WARM_UP = 0.1
#: Checkpoints of one run at most, evenly spaced in the logarithm of the step.
MOST = 8


def points_of_curves(runs: RunTable, y: str, policy: str) -> RunTable:
    """`runs` with one row for each checkpoint that `policy` takes.

    Args:
        runs: the runs; one without a curve of `y` keeps its final row.
        y: metric.
        policy: ``best`` (the lowest `y` of each curve), ``last 3``, or ``all`` after the first tenth of
            training, at most 8 a run. ``final`` returns the runs as they are.

    Returns:
        A table with the column ``checkpoint_of``; tokens, compute and steps as `workbench.runs.checkpoints.pick`
        has them.
    """
    if policy == "final":
        return replace(runs, frame=runs.frame.assign(**{PARENT: runs.frame["run"]}))

    def choose(curve: Curve) -> list[np.ndarray] | str:
        fine = np.flatnonzero(curve.share >= WARM_UP)
        if not fine.size:
            return f"its curve has no {y} after the first {WARM_UP:.0%} of training"
        return [np.array([i]) for i in _chosen(policy, fine, curve.value, curve.step)]

    table = rows_of_curves(runs, y, choose, named=True)
    return replace(table, frame=table.frame.rename(columns={CLUSTER: PARENT}))


def _chosen(policy: str, fine: np.ndarray, value: np.ndarray, step: np.ndarray) -> np.ndarray:
    if policy == "best":
        return fine[[np.argmin(value[fine])]]
    if policy == "last 3":
        return fine[-3:]
    if fine.size <= MOST:
        return fine
    wanted = np.geomspace(max(step[fine[0]], 1), step[fine[-1]], MOST)
    return fine[np.unique(np.argmin(np.abs(step[fine][None] - wanted[:, None]), axis=1))]
