"""The best split of a budget C = 6ND between size and data, for many parameter vectors of a law at once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from workbench.laws.base import Law
from workbench.units import FLOPS_PER_PARAM_TOKEN

__all__ = ["AT", "RATIOS", "allocation"]

#: Tokens per parameter searched; an optimum at the edge is none.
RATIOS = (1e-6, 1e9)

#: Canonical column -> its value at a given size and data under C = 6ND.
AT = {
    "params": lambda n, d: n,
    "params_non_embedding": lambda n, d: n,
    "params_active": lambda n, d: n,
    "tokens": lambda n, d: d,
    "flops": lambda n, d: FLOPS_PER_PARAM_TOKEN * n * d,
    "tokens_per_param": lambda n, d: d / n,
}


def allocation(
    law: Law, columns: Mapping[str, str], theta: np.ndarray, budget: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens per parameter that minimise the law at C = 6ND = `budget`, for each of ``theta`` ``[K, P]``.

    Bracketed on a grid over 15 decades, then solved by Newton's method on differences. Where two minima
    compete, the lower one of the grid is refined.

    Returns:
        ``(ratio, params, loss)``, ``[K]`` each; NaN where the minimum lies at the edge of the search.
    """
    grid = np.linspace(np.log(RATIOS[0]), np.log(RATIOS[1]), 61)
    width = grid[1] - grid[0]

    def loss(log_ratio: np.ndarray) -> np.ndarray:
        n = np.sqrt(budget / FLOPS_PER_PARAM_TOKEN) * np.exp(-0.5 * log_ratio)
        inputs = [AT[columns[i.symbol]](n, n * np.exp(log_ratio)) for i in law.inputs]
        with np.errstate(all="ignore"):
            return law.formula(*inputs, *(theta[:, j, None] for j in range(theta.shape[1])))

    value = loss(np.broadcast_to(grid, (len(theta), grid.size)))
    best = np.argmin(np.where(np.isfinite(value), value, np.inf), axis=1)
    inside = (best > 0) & (best < grid.size - 1)
    centre = grid[best]
    here, step = centre.copy(), 1e-2
    for _ in range(8):
        left, middle, right = loss(here[:, None] + step * np.array([-1.0, 0.0, 1.0])).T
        with np.errstate(all="ignore"):
            bend = (left - 2 * middle + right) / step
            move = np.where(bend > 0, -0.5 * (right - left) / bend, 0.0)
        here = np.clip(here + np.nan_to_num(np.clip(move, -0.5 * width, 0.5 * width)), centre - width, centre + width)
    here = np.where(inside, here, np.nan)
    ratio = np.exp(here)
    return ratio, np.sqrt(budget / (FLOPS_PER_PARAM_TOKEN * ratio)), loss(here[:, None])[:, 0]
