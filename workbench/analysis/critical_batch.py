"""The critical batch size from steps to a target at several batch sizes, by two definitions, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

from workbench.engine.covariance import covariance
from workbench.fits.fit import Fit, fit
from workbench.fits.points import check_target
from workbench.laws.hyperparameters.critical_batch import overhead_batch
from workbench.runs.columns import nearest
from workbench.runs.load import load

__all__ = ["DEFINITIONS", "critical_batch"]

#: Definition -> law it is read from.
DEFINITIONS = {"noise": "steps_batch_noise", "overhead": "steps_batch_power"}


def critical_batch(
    runs: Any,
    within: str | Sequence[str] = (),
    *,
    batch: str = "batch_tokens",
    y: str = "steps",
    overhead: float = 0.2,
    reference: float | None = None,
    level: float = 0.95,
    n: int = 4000,
    seed: int = 0,
) -> pd.DataFrame:
    """The critical batch size in each cell of runs that agree in `within`, by both common definitions.

    ``noise`` is the noise scale of McCandlish et al. 2018 (arXiv 1812.06162), at which steps and examples
    are both twice their smallest; ``overhead`` is the batch of Zhang et al. 2024 (arXiv 2410.21676) that needs
    a fifth more examples than perfect scaling from a small one. They are different numbers with different
    exponents, and a claim about either holds for that one only. Intervals come from draws of the fit's
    parameters by its Jacobian covariance, with Student's quantiles: ten batches are too few to resample.

    Args:
        runs: a `RunTable`, or anything `workbench.load` takes; one row is the steps to the target at a batch.
        within: columns whose values tell the cells apart, such as ``params``.
        batch: column of the batch size, whose unit the answers have.
        y: column of the steps to the target.
        overhead: share of further examples in the second definition.
        reference: batch that perfect scaling starts from; default the smallest of each cell.
        level: nominal coverage.
        n, seed: number and seed of the draws that carry the parameters' uncertainty to the critical batch.

    Returns:
        A frame with a row a cell and definition: the columns of `within`, ``definition``,
        ``critical_batch``, ``low``, ``high`` (NaN where too many draws have no critical batch),
        ``runs`` and ``note``, which says why a cell has no answer.

    Raises:
        ValueError: a column is missing or not numeric, or `level`, `overhead` or `reference` out of range.
    """
    within = (within,) if isinstance(within, str) else tuple(within)
    if not 0 < level < 1:
        raise ValueError(f"level is {level!r}; a nominal coverage lies between 0 and 1, such as 0.95")
    if not overhead > 0 or (reference is not None and not reference > 0):
        raise ValueError(f"overhead={overhead!r} and reference={reference!r} must be positive")
    table = load(runs)
    check_target(table, y)
    check_target(table, batch)
    for column in within:
        if column not in table:
            raise ValueError(f"there is no column {column!r}; {nearest(column, table.frame.columns)}")
    keys = table.frame[list(within)].drop_duplicates().to_dict("records") if within else [{}]
    rows = []
    for key in keys:
        part = table
        for column, value in key.items():
            part = part.where((part[column] == value).to_numpy())
        for definition, law in DEFINITIONS.items():
            row = {**key, "definition": definition, "critical_batch": np.nan, "low": np.nan, "high": np.nan}
            row |= {"runs": 0, "note": ""}
            try:
                found = fit(part, law, y=y, inputs={"B": batch}, objective="log-mse")
                draws = _draws(found, n, level, seed)
                start = float(found.points.x["B"].min()) if reference is None else float(reference)
                best = _read(found.theta[None], definition, start, overhead)[0]
                low, high = _interval(_read(draws, definition, start, overhead), level)
                note = "; ".join(found.diagnostics.unidentified) and "not identified by these batches"
                row |= {"critical_batch": best, "low": low, "high": high, "runs": found.n_runs, "note": note}
            except ValueError as reason:
                row["note"] = str(reason)
            rows.append(row)
    return pd.DataFrame(rows).sort_values(["definition", *within], kind="stable", ignore_index=True)


def _draws(found: Fit, n: int, level: float, seed: int) -> np.ndarray:
    """Draws ``[n, P]`` of the parameters, normal in their logarithms but with Student's quantile at `level`."""
    if found.degrees < 1:
        return np.empty((0, len(found.law.symbols)))
    spread = covariance(found.problem, found.theta)
    values, vectors = np.linalg.eigh(spread)
    root = vectors * np.sqrt(np.clip(values, 0, 1e4))
    wide = student.ppf(0.5 + level / 2, found.degrees) / student.ppf(0.5 + level / 2, np.inf)
    normal = np.random.default_rng(seed).standard_normal((n, len(values)))
    z = found.problem.to_z(found.theta[None]) + wide * normal @ root.T
    return found.problem.to_theta(np.clip(z, -60, 60))


def _read(theta: np.ndarray, definition: str, reference: float, overhead: float) -> np.ndarray:
    if definition == "noise":
        return theta[:, 1]
    return overhead_batch(*theta.T, reference=reference, overhead=overhead)


def _interval(draws: np.ndarray, level: float) -> tuple[float, float]:
    """Percentiles; a draw without a critical batch counts as an infinite one."""
    if not draws.size:
        return np.nan, np.nan
    filled = np.where(np.isfinite(draws), draws, np.inf)
    low, high = np.percentile(filled, [50 * (1 - level), 50 * (1 + level)], method="nearest")
    return float(low) if np.isfinite(low) else np.nan, float(high) if np.isfinite(high) else np.nan
