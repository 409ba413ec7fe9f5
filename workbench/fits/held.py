"""`hold_out`: fit without some runs that are there, and see how they are predicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from workbench.fits.predict import extrapolation
from workbench.fits.result import Fit
from workbench.late import late
from workbench.runs.table import RunTable

__all__ = ["HELD", "HeldOut", "hold_out"]

#: Why a held-out run is not in the fit, in `Points.left_out`.
HELD = "held out"


@dataclass(frozen=True, repr=False)
class HeldOut:
    """A fit, and runs kept from it to be predicted.

    Attributes:
        fit: the fit without them.
        runs: the runs held out.
        errors: ``[m]`` predicted / measured - 1 of each.
        extrapolation: scale of the largest of them over the largest in the fit (compute where it is known).
    """

    fit: Fit
    runs: RunTable
    errors: np.ndarray
    extrapolation: float

    plot = late("workbench.figures.curve:held_out", "The fit, and the held-out runs with their intervals.")

    @property
    def error(self) -> float:
        """Root mean square of the relative errors."""
        return float(np.sqrt(np.mean(self.errors**2)))

    @property
    def bias(self) -> float:
        """Mean of the relative errors; positive where the fit predicts too much."""
        return float(np.mean(self.errors))

    @property
    def verdict(self) -> str:
        """One sentence."""
        n = len(self.errors)
        return (
            f"{n} run{'s' if n != 1 else ''} held out, up to {self.extrapolation:.2g} times the largest fitted: "
            f"root mean square error {self.error:.2%}, mean {self.bias:+.2%}"
        )

    def __repr__(self) -> str:
        return f"{self.verdict}; {self.fit!r}"


def hold_out(fit: Fit, largest: float = 0.0, runs: Sequence[str] = ()) -> HeldOut:
    """Fit again without the largest runs, and without others that are named.

    Args:
        fit: the fit.
        largest: share of the runs to hold out, the largest by compute (by the first input where the law's
            inputs do not determine compute); runs as large as the smallest of them go along.
        runs: ids of further runs of the fit to hold out.

    Raises:
        ValueError: the share is not below 1, a run is not in the fit, nothing or too much is held out.
    """
    if isinstance(largest, bool) or not isinstance(largest, int | float | np.number) or not 0 <= largest < 1:
        raise ValueError(f"largest is {largest!r}; give the share of runs to hold out, such as 0.2 for a fifth")
    ids = fit.points.frame["run"]
    unknown = set(runs) - set(ids)
    if unknown:
        raise ValueError(f"no run called {sorted(unknown)[0]!r} is in this fit; fit.points.frame lists those that are")
    held = ids.isin(list(runs)).to_numpy()
    if largest > 0:
        scale = extrapolation(fit, fit.points.x)
        edge = np.sort(scale)[::-1][max(round(largest * scale.size), 1) - 1]
        held = held | (scale >= edge * (1 - 1e-9))
    if not held.any():
        raise ValueError("nothing is held out; give a share such as largest=0.2, or the ids of some runs")
    left = int((~held).sum())
    if left < len(fit.problem.free):
        raise ValueError(
            f"holding out {held.sum()} of {held.size} runs leaves {left} for {len(fit.problem.free)} free parameters; "
            "hold out fewer"
        )
    rest = fit.subset(~held)
    why = {**rest.points.left_out, **dict.fromkeys(ids[held], HELD)}
    rest = replace(rest, points=replace(rest.points, left_out=why), _cache={})
    x = {s: v[held] for s, v in fit.points.x.items()}
    table = fit.runs.where(fit.runs.frame["run"].isin(ids[held]).to_numpy())
    errors = fit.law.predict(rest.theta, x) / fit.points.y[held] - 1
    return HeldOut(rest, table, errors, float(extrapolation(rest, x).max()))
