"""What the three approaches answer at one budget, fast enough to follow a hand that moves the budget."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from workbench.analysis.allocation import AT
from workbench.analysis.approaches import Approaches
from workbench.analysis.frontier import frontier
from workbench.fits.result import Fit
from workbench.units import FLOPS_PER_PARAM_TOKEN

__all__ = ["ANSWERS", "at_budget", "equal_compute"]

#: Columns of `at_budget` that hold an estimate with an interval.
ANSWERS = ("a", "b", "params", "tokens", "tokens_per_param", "loss")


def at_budget(found: Approaches, flops: float, *, n: int = 1000) -> pd.DataFrame:
    """Exponents, best size and data, their ratio and the loss at a budget, one row an approach.

    The approaches are not carried out again: the lines through the optima of the first two, and the law of the
    third with its bootstrap draws, are read off at the budget.

    Args:
        found: the approaches.
        flops: budget in FLOP.
        n: bootstrap resamples of the law; those made for `found` are used again if `n` is the same.

    Returns:
        ``approach``; ``a`` and ``b`` (N_opt ~ C^a, D_opt ~ C^b), ``params``, ``tokens``, ``tokens_per_param``
        and ``loss`` (the fitted metric, whatever its name), each with ``_low`` and ``_high``; ``extrapolation``
        (budget over the largest compute behind the approach); ``note``, which says why there is no answer.
        The interval of the loss is that of the frontier for approaches 1 and 2 and that of one new run for 3.

    Raises:
        ValueError: `flops` is no positive number.
    """
    sources = dict(zip((1, 2, 3), (found.envelope, found.isoflop, found.fit), strict=True))
    rows = []
    for each in found.frame.to_dict("records"):
        row: dict[str, Any] = {"approach": each["approach"]}
        row |= {f"{name}{end}": np.nan for name in ANSWERS for end in ("", "_low", "_high")}
        row |= {"extrapolation": np.nan, "note": each["note"]}
        if each["approach"] in found.frontiers:
            there = frontier(sources[int(each["approach"][0])], [flops], level=found.level, n=n)
            row |= _read(there)
            row["note"] = "; ".join(filter(None, dict.fromkeys((each["note"], there.frame["note"].iloc[0]))))
        rows.append(row)
    return pd.DataFrame(rows)


def _read(there: Any) -> dict[str, float]:
    spot, slopes = there.frame.iloc[0], there.exponents()
    out = {"extrapolation": spot["extrapolation"]}
    for letter, name in (("a", "params"), ("b", "tokens")):
        for end, column in (("", "exponent"), ("_low", "low"), ("_high", "high")):
            out[letter + end] = slopes.loc[name, column]
    for name, column in (*((c, c) for c in ("params", "tokens", "tokens_per_param")), ("loss", there.target)):
        for end in ("", "_low", "_high"):
            out[name + end] = spot[column + end]
    return out


def equal_compute(fit: Fit, flops: float, sizes: np.ndarray) -> np.ndarray:
    """The fitted metric ``[m]`` of models of `sizes` ``[m]`` that all cost `flops`, counted as 6ND.

    Raises:
        ValueError: the law takes an input that size and budget do not determine.
    """
    sizes = np.asarray(sizes, dtype=float)
    tokens = flops / (FLOPS_PER_PARAM_TOKEN * sizes)
    unknown = [c for c in fit.points.columns.values() if c not in AT]
    if unknown:
        raise ValueError(f"{fit.law.name} takes {unknown[0]!r}, which a size and a budget do not determine")
    x = {symbol: AT[column](sizes, tokens) for symbol, column in fit.points.columns.items()}
    return fit.law.predict(fit.theta, x)
