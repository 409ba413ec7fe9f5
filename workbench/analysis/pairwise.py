"""Pairwise comparisons of means: Welch's test corrected for many pairs, and the seeds it would take to know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from scipy.optimize import brentq
from scipy.special import ndtr

__all__ = ["CORRECTIONS", "corrected", "pair", "range_tail", "seeds_needed", "welch"]

#: How pairwise tests account for there being several pairs; see `replicates`.
CORRECTIONS = ("games-howell", "holm", "tukey")
#: More extra seeds than this are not worth counting.
MOST = 100_000
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(96)


def seeds_needed(
    difference: float,
    spreads: Sequence[float],
    sizes: Sequence[int],
    alpha: float = 0.05,
    power: float = 0.8,
    rest: float | None = None,
) -> float:
    """Further seeds of each of two recipes for which a two-sided Welch test has `power` against `difference`.

    Args:
        difference: of the true means.
        spreads: standard deviation of one run of each.
        sizes: seeds there are of each.
        alpha: size of this one test, after correction for others.
        power: probability of a significant difference, of either sign.
        rest: degrees of freedom that other recipes lend to a pooled spread; None for Welch's.

    Returns:
        A whole number; NaN where there is none up to 100 000 or the spread is unknown.
    """
    spreads, sizes = np.asarray(spreads, dtype=float), np.asarray(sizes, dtype=float)
    if not np.isfinite(spreads).all() or not difference > 0 or not (spreads > 0).any() or not 0 < alpha < 1:
        return np.nan

    def reached(more: int) -> bool:
        n = sizes + more
        if n.min() < 2:
            return False
        error = np.sqrt((spreads**2 / n).sum())
        degrees = welch(spreads, n) if rest is None else rest + 2.0 * more
        critical = stats.t.isf(alpha / 2, degrees)
        shift = difference / error
        with np.errstate(all="ignore"):
            found = stats.nct.sf(critical, degrees, shift) + stats.nct.cdf(-critical, degrees, shift)
        # scipy has no noncentral t far out; there the power is 1 or nearly so
        return bool((found if np.isfinite(found) else stats.norm.sf(critical - shift)) >= power)

    high = 1
    while not reached(high):
        high *= 2
        if high > MOST:
            return np.nan
    low = 0 if high == 1 else high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return float(high)


def welch(spreads: np.ndarray, n: np.ndarray) -> float:
    part = spreads**2 / n
    return float(part.sum() ** 2 / (part**2 / (n - 1)).sum())


def pair(better, worse, difference, spreads, n, degrees, correction) -> dict[str, Any]:
    row = {"better": better, "worse": worse, "difference": difference, "note": "", "fewest": int(n.min())}
    row |= {"spreads": spreads, "sizes": n, "error": np.nan, "t": np.nan, "degrees": np.nan, "p": np.nan}
    row["rest"] = degrees[0] if correction == "tukey" else None
    if not np.isfinite(spreads).all():
        lonely = worse if not np.isfinite(spreads[1]) else better
        return row | {"note": f"{lonely} has one seed, so its spread is not known; give it at least two"}
    if not (spreads > 0).any():
        return row | {"note": "no seed differs from another, as if they were copies of one run"}
    error = np.sqrt((spreads**2 / n).sum())
    df = degrees[0] if correction == "tukey" else welch(spreads, n)
    t = difference / error
    return row | {"error": error, "t": t, "degrees": df, "p": float(2 * stats.t.sf(abs(t), df))}


def corrected(pairs: pd.DataFrame, recipes: int, correction: str, level: float) -> pd.DataFrame:
    """Corrected p, simultaneous intervals, and the size each single test is left with."""
    t, df = pairs["t"].to_numpy(float), pairs["degrees"].to_numpy(float)
    known = np.isfinite(t)
    adjusted, critical = np.full(len(pairs), np.nan), np.full(len(pairs), np.nan)
    if correction == "holm":
        p = pairs["p"].to_numpy(float)[known]
        order = np.argsort(p, kind="stable")
        stepped = np.minimum(np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1)), 1.0)
        back = np.empty(p.size)
        back[order] = stepped
        adjusted[known] = back
        critical[known] = stats.t.isf((1 - level) / 2 / max(p.size, 1), df[known])
    elif known.any():
        # sqrt(2) because the studentized range is counted in errors of one mean, t in errors of a difference
        adjusted[known] = [
            range_tail(abs(v) * np.sqrt(2), recipes, d) for v, d in zip(t[known], df[known], strict=True)
        ]
        critical[known] = [_critical(level, recipes, d) for d in df[known]]
    reach = critical * pairs["error"].to_numpy(float)
    return pairs.assign(
        p_adjusted=np.clip(adjusted, 0, 1),
        low=pairs["difference"] - reach,
        high=pairs["difference"] + reach,
        alpha=2 * stats.t.sf(critical, df),
    )


def range_tail(q: float, recipes: int, degrees: float) -> float:
    """Probability that the studentized range of `recipes` means exceeds `q`, by Gauss-Legendre quadrature.

    The double integral of Tukey's distribution; scipy has it too, a hundred times slower.
    """
    s_end = np.sqrt(stats.chi2.isf([1 - 1e-13, 1e-13], degrees) / degrees)
    s = s_end[0] + (s_end[1] - s_end[0]) * (_NODES + 1) / 2
    density = stats.chi.pdf(s * np.sqrt(degrees), degrees) * np.sqrt(degrees) * (s_end[1] - s_end[0]) / 2
    z = 9.0 * _NODES
    between = ndtr(z) - ndtr(z - q * s[:, None])
    inside = recipes * (9.0 * _WEIGHTS * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) * between ** (recipes - 1)).sum(-1)
    return float(np.clip(1 - (_WEIGHTS * density * inside).sum(), 0.0, 1.0))


def _critical(level: float, recipes: int, degrees: float) -> float:
    """Critical t of the studentized range, bracketed by one test alone and by Bonferroni's correction."""
    low = stats.t.isf((1 - level) / 2, degrees)
    if recipes == 2:
        return float(low)
    high = stats.t.isf((1 - level) / (recipes * (recipes - 1)), degrees)

    def excess(t: float) -> float:
        return range_tail(t * np.sqrt(2), recipes, degrees) - (1 - level)

    return float(brentq(excess, 0.999 * low, 1.001 * high, xtol=1e-7))
