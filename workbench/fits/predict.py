"""What a fit says about runs not yet trained, with the noise of one run and the distance from the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from workbench.fits.intervals import OFFERED, confidence_draws, interval_of, percentiles, recommend
from workbench.fits.simulated import draw_errors
from workbench.runs.table import RunTable
from workbench.units import FLOPS_PER_PARAM_TOKEN

if TYPE_CHECKING:
    from workbench.fits.result import Fit

__all__ = ["KINDS", "add_noise", "conclusion", "extrapolation", "predict"]

#: Prediction intervals on offer: of one new run, or of the expected value.
KINDS = ("run", "curve")


def predict(fit: Fit, at: Any, *, level: float, kind: str, n: int, method: str = "recommended") -> pd.DataFrame:
    """Predictions of `fit` with intervals; the engine of `Fit.predict`, which documents the arguments."""
    if kind not in KINDS:
        raise ValueError(f"no prediction interval is called {kind!r}; choose {' or '.join(map(repr, KINDS))}")
    method = _method(fit, method)
    x = _inputs(fit, at)
    mean = fit.law.predict(fit.theta, x)
    # Errors are symmetric on the scale of the residuals.
    logs = fit.problem.objective.in_logs and bool((mean > 0).all())

    def of(theta):
        value = fit.law.predict(theta, x)
        return np.log(value) if logs else value

    low = high = np.full(mean.shape, np.nan)
    if fit.degrees >= 1:
        with np.errstate(all="ignore"):
            if kind == "curve":
                low, high = interval_of(fit, of, level, method, n)
                low, high = (np.exp(low), np.exp(high)) if logs else (low, high)
            else:
                drawn = confidence_draws(fit, of, method, n)
                drawn = add_noise(fit, np.exp(drawn) if logs else drawn)
                low, high = percentiles(drawn, level)
        unlimited = ~(np.isfinite(low) & np.isfinite(high))
        low, high = np.where(unlimited, np.nan, low), np.where(unlimited, np.nan, high)
    out = pd.DataFrame({fit.points.columns[s]: np.broadcast_to(v, mean.shape) for s, v in x.items()})
    out["prediction"], out["low"], out["high"] = mean, low, high
    out["extrapolation"] = extrapolation(fit, x)
    return out


def conclusion(fit: Fit, function: Callable, *, level: float, method: str, n: int) -> dict[str, float | str]:
    """Interval of a function of the parameters; the engine of `Fit.conclusion`, which documents the arguments."""
    method = _method(fit, method)

    def of(theta):
        value = np.asarray(function(dict(zip(fit.law.symbols, theta.T, strict=True))), dtype=float)
        return np.broadcast_to(value, len(theta))[:, None]

    ends = (np.nan, np.nan)
    if fit.degrees >= 1:
        ends = (float(end[0]) for end in interval_of(fit, of, level, method, n))
    low, high = ends
    return {"estimate": float(of(fit.theta[None])[0, 0]), "low": low, "high": high, "method": method}


def _method(fit: Fit, method: str) -> str:
    if method not in OFFERED:
        raise ValueError(f"no interval method is called {method!r}; choose one of {', '.join(OFFERED)}")
    chosen = recommend(fit).method if method == "recommended" else method
    return "jacobian" if chosen == "profile" else chosen


def add_noise(fit: Fit, drawn: np.ndarray) -> np.ndarray:
    """Add the error of one new run to each draw ``[B, m]``.

    Errors as in `draw_errors`, and as uncertain in size as so few runs leave them: scaled by
    ``sqrt(df / chi2_df)``, which turns normal errors into Student's t.
    """
    rng = np.random.default_rng([fit.seed, 1])
    groups = int(fit.points.cluster.max()) + 1
    degrees = groups - 1 if 1 < groups < fit.n_runs else fit.degrees
    noise = draw_errors(fit.problem, fit.residuals, drawn.shape, rng)
    noise *= np.sqrt(degrees / rng.chisquare(degrees, len(drawn)))[:, None]
    return drawn * np.exp(-noise) if fit.problem.objective.in_logs else drawn - noise


def extrapolation(fit: Fit, x: Mapping[str, np.ndarray]) -> np.ndarray:
    """Scale of points `x` over the largest scale in the fit; above 1 is extrapolation.

    Scale is compute where the inputs determine it (C, or N times D), else the first input.
    """
    return _scale(fit.points.columns, x) / _scale(fit.points.columns, fit.points.x).max()


def _inputs(fit: Fit, at: Any) -> dict[str, np.ndarray]:
    """The law's inputs ``[m]`` at the places asked for; no place at all means the runs of the fit."""
    if isinstance(at, Mapping) and not at:
        return fit.points.x
    given = at.frame if isinstance(at, RunTable) else at
    x = {}
    for symbol, column in fit.points.columns.items():
        try:
            value = given[column]
        except (KeyError, TypeError, IndexError):
            value = _derived(given, column)
        if value is None:
            needed = ", ".join(fit.points.columns.values())
            raise ValueError(f"{fit.law.name} predicts from {needed}; {column!r} is missing: give {column}=...")
        try:
            x[symbol] = np.atleast_1d(np.asarray(value, dtype=float))
        except (TypeError, ValueError):
            raise ValueError(f"{column} is {value!r}; give a number or an array of numbers") from None
        zero = next(i.zero for i in fit.law.inputs if i.symbol == symbol)
        if not ((x[symbol] >= 0) if zero else (x[symbol] > 0)).all():
            wanted = "zero or positive" if zero else "positive"
            raise ValueError(f"{column} must be {wanted} everywhere to predict, got {np.min(x[symbol])!r}")
    shape = np.broadcast_shapes(*(v.shape for v in x.values()))
    return {s: np.broadcast_to(v, shape) for s, v in x.items()}


def _derived(given: Any, column: str) -> Any:
    """A column that parameters and tokens determine under C = 6ND, or None."""
    try:
        params, tokens = (np.asarray(given[k], dtype=float) for k in ("params", "tokens"))
    except (KeyError, TypeError, IndexError, ValueError):
        return None
    return {"flops": FLOPS_PER_PARAM_TOKEN * params * tokens, "tokens_per_param": tokens / params}.get(column)


def _scale(columns: Mapping[str, str], x: Mapping[str, np.ndarray]) -> np.ndarray:
    by_column = {columns[s]: v for s, v in x.items()}
    if "flops" in by_column:
        return by_column["flops"]
    size = next((v for c, v in by_column.items() if c.startswith("params")), None)
    if size is not None and "tokens" in by_column:
        return size * by_column["tokens"]
    return next(iter(by_column.values()))
