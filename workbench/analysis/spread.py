"""Which decision moves the result: the variance over all combinations of choices, split exactly."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd

__all__ = ["closed_share", "filled", "shares"]


def shares(grid: np.ndarray, names: list[str]) -> pd.DataFrame:
    """Shares of the variance of a full grid of results, every set of decisions on its own.

    The analysis of variance of a full factorial design with equal weights is the decomposition of Hoeffding
    and Sobol (Sobol 1993, Math. Model. Comput. Exp. 1, 407; Saltelli et al. 2010, doi
    10.1016/j.cpc.2009.09.018): the shares of all sets add up to 1.

    Args:
        grid: ``[d1, ..., dk]`` results, finite.
        names: one name an axis.

    Returns:
        One row for every non-empty set of axes: ``dimensions`` (a tuple), ``order``, ``share``, and
        ``total`` for single ones, the share of every set that contains it.
    """
    everything = grid.var()
    axes = range(grid.ndim)
    closed, own = {(): 0.0}, {(): 0.0}
    for order in range(1, grid.ndim + 1):
        for chosen in itertools.combinations(axes, order):
            closed[chosen] = float(grid.mean(axis=tuple(a for a in axes if a not in chosen)).var())
            inner = (s for r in range(order) for s in itertools.combinations(chosen, r))
            own[chosen] = closed[chosen] - sum(own[s] for s in inner)
    scale = 1 / everything if everything > 0 else 0.0
    rows = []
    for chosen, variance in own.items():
        if not chosen:
            continue
        total = np.nan
        if len(chosen) == 1:
            total = scale * (everything - closed[tuple(a for a in axes if a not in chosen)])
        rows.append((tuple(names[a] for a in chosen), len(chosen), max(variance * scale, 0.0), total))
    return pd.DataFrame(rows, columns=["dimensions", "order", "share", "total"])


def closed_share(table: pd.DataFrame, chosen: set[str]) -> float:
    """Share of the variance that decisions `chosen` explain alone and among themselves."""
    inside = [set(d) <= chosen for d in table["dimensions"]]
    return float(table["share"][inside].sum())


def filled(grid: np.ndarray) -> np.ndarray:
    """`grid` with what is missing replaced by the sum of main effects of what is there.

    Expectation and maximisation of the additive model; nothing is added to the interactions.
    """
    missing = ~np.isfinite(grid)
    if not missing.any():
        return grid
    out = np.where(missing, grid[~missing].mean(), grid)
    for _ in range(200):
        centre = out.mean()
        effects = [
            out.mean(axis=tuple(b for b in range(out.ndim) if b != a), keepdims=True) - centre for a in range(out.ndim)
        ]
        new = np.where(missing, centre + sum(effects), out)
        if np.abs(new - out).max() <= 1e-10 * max(np.abs(out).max(), 1e-300):
            return new
        out = new
    return out
