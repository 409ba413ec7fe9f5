"""Where runs lie in the plane of a figure: fitted ones, those left out, those the fit has not seen.

Every frame here has the columns ``run``, ``x``, ``y`` (measured), ``by`` (what is constant along a line),
``predicted`` and ``error`` (percent of measured).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from workbench.figures.lines import Lines, lines
from workbench.fits.result import Fit
from workbench.runs.table import RunTable

__all__ = ["fitted", "inside", "left_out", "unseen"]


def fitted(fit: Fit, layout: Lines) -> pd.DataFrame:
    """The runs that entered the fit, in its order."""
    return _placed(fit, layout, fit.points.frame)


def left_out(fit: Fit, layout: Lines) -> pd.DataFrame:
    """Runs that did not enter but have coordinates; ``why`` gives the reason."""
    frame = fit.runs.frame[fit.runs.frame["run"].isin(fit.points.left_out)]
    # Where measured values may be negative the y axis is linear and takes any of them.
    out = _placed(fit, layout, frame[_drawable(fit, frame, positive=bool((fit.points.y > 0).all()))])
    out["why"] = [fit.points.left_out[run] for run in out["run"]]
    return out


def unseen(fit: Fit, layout: Lines, extra: Any, level: float, n: int, method: str = "recommended") -> pd.DataFrame:
    """Runs of another table, with the prediction interval of a single run in ``low`` and ``high``.

    Args:
        extra: a `RunTable` or frame; None gives no rows.
        level: nominal coverage.
        n: bootstrap resamples.
        method: of the interval, see `Fit.predict`.

    Raises:
        ValueError: a column is missing or no run can be drawn.
    """
    if extra is None:
        return _placed(fit, layout, fit.points.frame.iloc[:0]).assign(low=np.nan, high=np.nan)
    frame = extra.frame if isinstance(extra, RunTable) else pd.DataFrame(extra)
    needed = [*fit.points.columns.values(), fit.points.target]
    missing = [c for c in needed if c not in frame]
    if missing:
        raise ValueError(f"extra= lacks the column {missing[0]!r}; it needs {', '.join(needed)}")
    frame = frame[_drawable(fit, frame, positive=True)].reset_index(drop=True)
    if not len(frame):
        raise ValueError("extra= holds no run with positive inputs and a positive result; leave it out or give others")
    if "run" not in frame:
        frame = frame.assign(run=[f"new {i + 1}" for i in range(len(frame))])
    out = _placed(fit, layout, frame)
    interval = fit.predict(frame, level=level, kind="run", n=n, method=method)
    return out.assign(low=interval["low"], high=interval["high"])


def inside(fit: Fit, box: dict[str, list[float]], x: str | None = None) -> list[str]:
    """Ids of the fitted runs whose points lie inside a box of `figures.curve` or `figures.residuals`.

    Args:
        fit: the fit.
        box: ``{"x": [low, high], "y": [low, high]}``, either optional, as a brush reports it (``error`` for y
            in residuals); empty for no box, in which no run lies.
        x: as in `curve`.
    """
    if not box:
        return []
    runs = fitted(fit, lines(fit, x))
    chosen = np.ones(len(runs), dtype=bool)
    for axis in ("x", "y", "error"):
        if axis in box:
            low, high = sorted(box[axis])
            chosen &= runs[axis].between(low, high).to_numpy()
    return runs["run"][chosen].tolist()


def _drawable(fit: Fit, frame: pd.DataFrame, positive: bool) -> np.ndarray:
    numbers = frame[[*fit.points.columns.values(), fit.points.target]].to_numpy(float)
    good = np.isfinite(numbers).all(axis=1) & (numbers[:, :-1] > 0).all(axis=1)
    return good & (numbers[:, -1] > 0) if positive else good


def _placed(fit: Fit, layout: Lines, frame: pd.DataFrame) -> pd.DataFrame:
    columns = {c: frame[c].to_numpy(float) for c in fit.points.columns.values()}
    y = frame[fit.points.target].to_numpy(float)
    predicted = fit.law.predict(fit.theta, {s: columns[c] for s, c in fit.points.columns.items()})
    return pd.DataFrame(
        {
            "run": frame["run"].astype(str).to_numpy(),
            "x": layout.x_of(columns),
            "y": y,
            "by": columns[layout.by] if layout.by else np.full(len(frame), np.nan),
            "predicted": predicted,
            "error": 100 * (predicted / y - 1),
        }
    )
