"""Judging a fit where it matters: on larger runs it has not seen, and on left-out folds.

A law that describes the fitted runs may still miss the next order of magnitude, and only held-out
larger runs show it (most published laws were never checked so: Li et al. 2025, (Mis)Fitting, section 6).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from workbench.engine.solver import solve
from workbench.fits.result import Fit
from workbench.runs.table import RunTable
from workbench.units import SCALES

__all__ = ["cross_validate", "score", "split"]


def split(runs: RunTable, holdout: Any) -> tuple[RunTable, RunTable, str]:
    """Runs to fit and runs to predict.

    Args:
        runs: the table.
        holdout: an expression such as ``"flops > 1e21"``; or a share such as 0.2, the largest runs by
            the first of flops, tokens, params, steps there is (runs tied with the smallest of them go
            along, so that seeds of one configuration are never on both sides).

    Returns:
        ``(fitted, held_out, description)``.

    Raises:
        ValueError: the choice holds out nothing or everything, or is neither a share nor an expression.
    """
    if isinstance(holdout, str):
        out = runs.where(holdout)
        chosen = runs.frame["run"].isin(out.frame["run"]).to_numpy()
        description = holdout
    elif isinstance(holdout, int | float | np.number) and not isinstance(holdout, bool) and 0 < holdout < 1:
        scale = next((c for c in SCALES if c in runs.frame and runs.frame[c].nunique() > 1), None)
        if scale is None:
            raise ValueError(f"none of {', '.join(SCALES)} varies, so no run is larger; give holdout= an expression")
        values = runs.frame[scale].to_numpy(float)
        finite = np.isfinite(values)
        edge = np.sort(values[finite])[::-1][max(round(holdout * finite.sum()), 1) - 1]
        chosen = finite & (values >= edge * (1 - 1e-9))
        description = f"{scale} >= {edge:.4g}"
    else:
        raise ValueError(f"holdout is {holdout!r}; give an expression such as 'flops > 1e21' or a share such as 0.2")
    if not chosen.any():
        raise ValueError(f"holdout={holdout!r} holds out none of the {len(runs)} runs; loosen it")
    if chosen.all():
        raise ValueError(f"holdout={holdout!r} holds out all {len(runs)} runs and leaves none to fit; tighten it")
    return runs.where(~chosen), runs.where(chosen), description


def score(fit: Fit, held_out: RunTable, n: int = 1000) -> tuple[dict[str, float], pd.DataFrame]:
    """How well `fit` predicts runs it has not seen.

    Args:
        fit: fitted without them.
        held_out: the runs to predict; those with a problem or without the fitted column are skipped.
        n: bootstrap resamples for the interval.

    Returns:
        Scores and one row a run (``run``, inputs, measured, ``prediction``, ``low``, ``high``,
        ``error`` = prediction / measured - 1, ``extrapolation``). Scores: ``mean_abs_error`` and ``bias``
        (relative), ``coverage`` (share of runs inside their 95 % interval), ``extrapolation`` (largest).
    """
    y = fit.points.target
    frame = held_out.frame
    needed = [y, *fit.points.columns.values()]
    good = np.isfinite(frame[needed].to_numpy(float)).all(axis=1) & (frame[needed].to_numpy(float) > 0).all(axis=1)
    good &= (frame["problem"] == "").to_numpy()
    frame = frame[good].reset_index(drop=True)
    if not len(frame):
        raise ValueError(f"none of the {len(held_out)} held-out runs has {', '.join(needed)}; hold out others")
    rows = fit.predict(frame, n=n)
    rows.insert(0, "run", frame["run"])
    rows.insert(len(rows.columns) - 4, "measured", frame[y].to_numpy(float))
    rows["error"] = rows["prediction"] / rows["measured"] - 1
    inside = (rows["measured"] >= rows["low"]) & (rows["measured"] <= rows["high"])
    known = rows["low"].notna()
    scores = {
        "mean_abs_error": float(rows["error"].abs().mean()),
        "bias": float(rows["error"].mean()),
        "coverage": float(inside[known].mean()) if known.any() else np.nan,
        "extrapolation": float(rows["extrapolation"].max()),
    }
    return scores, rows


def cross_validate(fit: Fit, folds: int = 10, cluster: str | None = None) -> float:
    """Root mean square relative error over left-out folds, all folds fitted in one batch.

    Runs that belong together are left out together: a run whose twin stays in the fit is no unseen run.

    Args:
        fit: the fit to judge.
        folds: how many; fewer where there are fewer groups.
        cluster: column whose equal values stay on one side. Default the clusters of the fit; where it has
            none, runs with the same inputs (seeds of one configuration).

    Returns:
        The error as a fraction; NaN with fewer groups than two or folds too small to fit.

    Raises:
        ValueError: there is no column `cluster`.
    """
    group = _groups(fit, cluster)
    groups = int(group.max()) + 1
    folds = min(folds, groups)
    if folds < 2:
        return np.nan
    rng = np.random.default_rng([fit.seed, 2])
    fold_of = rng.permutation(np.arange(groups) % folds)[group]
    keep = fold_of[None, :] != np.arange(folds)[:, None]
    if keep.sum(axis=1).min() < len(fit.problem.free):
        return np.nan
    solution = solve(fit.problem, np.repeat(fit.theta[None], folds, axis=0), keep * fit.points.weights)
    predicted = fit.law.predict(solution.theta, fit.points.x)
    error = predicted / fit.points.y - 1
    return float(np.sqrt((error[~keep] ** 2).mean()))


def _groups(fit: Fit, cluster: str | None) -> np.ndarray:
    """Index of the group of each fitted run ``[n]``."""
    frame = fit.points.frame
    if cluster is not None:
        if cluster not in frame:
            raise ValueError(f"there is no column {cluster!r} to group by; this table has {', '.join(frame.columns)}")
        # as in the bootstrap, runs without a value are one group
        return np.unique(pd.factorize(frame[cluster])[0], return_inverse=True)[1]
    if fit.points.grouped_by is not None:
        return np.unique(fit.points.cluster, return_inverse=True)[1]
    return pd.DataFrame(fit.points.x).groupby(list(fit.points.x), sort=False).ngroup().to_numpy()
