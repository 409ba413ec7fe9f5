"""How good a guess at a law's parameters was, once the fit is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from workbench.fits.points import Points
from workbench.fits.result import Fit
from workbench.laws.base import Law

__all__ = ["Guess", "judge", "misfit"]


@dataclass(frozen=True)
class Guess:
    """A guess beside the fit.

    Attributes:
        frame: one row a parameter: ``guess``, ``fitted``, ``factor`` (guess over fitted, NaN where one of them is
            not positive) and ``difference`` (guess minus fitted).
        rms: `misfit` of the guess.
        rms_fit: `misfit` of the fit.
        runs: runs of the fit.
    """

    frame: pd.DataFrame
    rms: float
    rms_fit: float
    runs: int


def misfit(law: Law, params: Any, points: Points) -> float:
    """Root mean square of ``log(predicted / measured)`` over the points: 0.02 is 2 %.

    Args:
        law: the law.
        params: parameter symbol -> value.
        points: the runs; those measured at or below 0 do not count.

    Returns:
        A number of at least 0; infinite where the law is not positive at some run, NaN without any run.
    """
    good = points.y > 0
    if not good.any():
        return float("nan")
    with np.errstate(all="ignore"):
        predicted = np.asarray(law.predict(params, points.x), dtype=float)[good]
        if not (np.isfinite(predicted) & (predicted > 0)).all():
            return float("inf")
        return float(np.sqrt(np.mean(np.log(predicted / points.y[good]) ** 2)))


def judge(fit: Fit, params: Mapping[str, float]) -> Guess:
    """Compare guessed parameters with those of a fit.

    Args:
        fit: the fit.
        params: parameter symbol -> guessed value.

    Raises:
        ValueError: a parameter of the law was not guessed.
    """
    missing = [s for s in fit.law.symbols if s not in params]
    if missing:
        raise ValueError(f"the guess lacks {', '.join(missing)}; {fit.law.name} takes {', '.join(fit.law.symbols)}")
    guess = np.array([float(params[s]) for s in fit.law.symbols])
    fitted = np.array([float(fit.params[s]) for s in fit.law.symbols])
    with np.errstate(all="ignore"):
        factor = np.where((guess > 0) & (fitted > 0), guess / fitted, np.nan)
    frame = pd.DataFrame(
        {"guess": guess, "fitted": fitted, "factor": factor, "difference": guess - fitted},
        index=pd.Index(fit.law.symbols, name="parameter"),
    )
    rms = misfit(fit.law, dict(zip(fit.law.symbols, guess, strict=True)), fit.points)
    return Guess(frame, rms, misfit(fit.law, fit.params, fit.points), len(fit.points))
