"""Alias tables with integer thresholds: an exact draw from V outcomes in two integer operations.

Walker 1977; the table is built by the sweep of Hübschle-Schneider & Sanders 2019 (arXiv 1903.00227,
section 3), which finishes one column an iteration and so runs over all rows at once.
"""

from __future__ import annotations

import numpy as np

__all__ = ["ONE", "alias_tables", "quantized", "table_probabilities"]

#: Probability 1 of a threshold: a column is kept when a uniform 32-bit number is below its threshold.
ONE = 2**32


def quantized(probabilities: np.ndarray) -> np.ndarray:
    """Rows of probabilities [R, V] as integers [R, V] that sum to exactly V * 2^32 (int64).

    The rounding error of a probability is at most 2^-33 / V, except at the largest one of the row,
    which takes the rest.
    """
    probabilities = np.atleast_2d(probabilities)
    v = probabilities.shape[1]
    weights = np.rint(probabilities * (v * ONE)).astype(np.int64)
    rows = np.arange(len(weights))
    weights[rows, weights.argmax(1)] += v * ONE - weights.sum(1)
    return weights


def alias_tables(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Thresholds [R, V] in 0..2^32 and aliases [R, V] (int64) for rows of probabilities [R, V].

    A draw takes a uniform column c and a uniform 32-bit u: it returns c if u < threshold[c], else alias[c].
    """
    weights = quantized(probabilities)
    r, v = weights.shape
    rows = np.arange(r)
    heavy = weights > ONE
    # Light columns first, heavy columns last, both in index order.
    order = np.argsort(heavy, axis=1, kind="stable")
    threshold = np.full((r, v), ONE, np.int64)
    alias = np.tile(np.arange(v), (r, 1))
    light_at, heavy_at = np.zeros(r, np.int64), (v - heavy.sum(1)).astype(np.int64)
    first_heavy = heavy_at.copy()
    residual = np.where(heavy_at < v, weights[rows, order[rows, np.minimum(heavy_at, v - 1)]], ONE)
    for _ in range(v):
        current = order[rows, np.minimum(heavy_at, v - 1)]
        # A heavy column that is down to one share or less is closed and topped up by the next heavy one;
        # otherwise it tops up the next light column. Integers make the sums exact: nothing is left over.
        close = (residual <= ONE) & (heavy_at + 1 < v) & (heavy_at < v)
        give = ~close & (light_at < first_heavy) & (heavy_at < v)
        following = order[rows, np.minimum(heavy_at + 1, v - 1)]
        light = order[rows, np.minimum(light_at, v - 1)]
        c, g = rows[close], rows[give]
        threshold[c, current[c]], alias[c, current[c]] = residual[c], following[c]
        residual[c] += weights[c, following[c]] - ONE
        threshold[g, light[g]], alias[g, light[g]] = weights[g, light[g]], current[g]
        residual[g] += weights[g, light[g]] - ONE
        heavy_at[c] += 1
        light_at[g] += 1
    return threshold, alias


def table_probabilities(threshold: np.ndarray, alias: np.ndarray) -> np.ndarray:
    """The integers [R, V] that the tables draw from, in units of 1 / (V 2^32); equal to `quantized`."""
    total = threshold.copy()
    rows = np.broadcast_to(np.arange(len(total))[:, None], total.shape)
    np.add.at(total, (rows, alias), ONE - threshold)
    return total
