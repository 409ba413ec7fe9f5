"""A stretch of the sorted analyses of a multiverse: which they are, and which choices they have in common."""

from __future__ import annotations

import numpy as np
import pandas as pd

from workbench.analysis.verses import Multiverse

__all__ = ["in_common", "stretch"]


def stretch(m: Multiverse, low: float, high: float) -> list[int]:
    """Rows of `m.frame` whose answers lie in a stretch of the sorted ones, in that order.

    Args:
        m: the multiverse; only analyses that count are sorted.
        low, high: where the stretch begins and ends, in percent of the analyses that count: 0 and 100 give all.
            An analysis belongs to it if its middle does: the k-th of n, from 0, lies at (k + 1/2) / n.

    Raises:
        ValueError: not 0 <= low <= high <= 100.
    """
    if not (0 <= low <= high <= 100):
        raise ValueError(f"the stretch is {low!r} to {high!r}; give two percentages between 0 and 100, the lower first")
    counted = m.frame[m.frame["counted"]].sort_values("estimate", kind="stable")
    middle = 100 * (np.arange(len(counted)) + 0.5) / max(len(counted), 1)
    return counted.index[(middle >= low) & (middle <= high)].tolist()


def in_common(m: Multiverse, rows: list[int]) -> pd.DataFrame:
    """Which options these analyses take more often, or less often, than all that count.

    Args:
        m: the multiverse.
        rows: rows of `m.frame`.

    Returns:
        One row an option of a varied dimension, the largest difference first: ``dimension``, ``option``,
        ``share`` (of these analyses), ``overall`` (of all that count) and their ``difference``.
    """
    counted, chosen = m.frame[m.frame["counted"]], m.frame.iloc[rows]
    found = [
        (d, option, float((chosen[d] == option).mean()), float((counted[d] == option).mean()))
        for d in (m.varied if len(chosen) else ())
        for option in m.dimensions[d]
    ]
    out = pd.DataFrame(found, columns=["dimension", "option", "share", "overall"])
    out["difference"] = out["share"] - out["overall"]
    order = np.argsort(-out["difference"].abs().to_numpy(float), kind="stable")
    return out.iloc[order].reset_index(drop=True)
