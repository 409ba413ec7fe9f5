"""`plan`: given a law of size and data and a compute budget, how large a model on how many tokens."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from workbench.fits.predict import add_noise, extrapolation
from workbench.units import FLOPS_PER_PARAM_TOKEN, human

if TYPE_CHECKING:
    from workbench.fits.result import Fit

__all__ = ["Plan", "plan"]

#: The search runs over this range of tokens per parameter; an optimum at its edge is no optimum.
RATIO_RANGE = (1e-6, 1e9)
#: Points per zoom and number of zooms: 24 decades of N down to a relative step of about 1e-6.
GRID, ZOOMS = 65, 6
#: What each canonical column is at a given size and data, counting C = 6ND.
_COLUMNS = {
    "params": lambda n, d: n,
    "params_non_embedding": lambda n, d: n,
    "params_active": lambda n, d: n,
    "tokens": lambda n, d: d,
    "flops": lambda n, d: FLOPS_PER_PARAM_TOKEN * n * d,
    "tokens_per_param": lambda n, d: d / n,
}


@dataclass(frozen=True)
class Plan:
    """Compute-optimal allocations.

    Attributes:
        frame: one row a budget: ``flops``; ``params``, ``tokens``, ``tokens_per_param`` and the predicted
            metric, each with ``_low`` and ``_high``; ``extrapolation`` (budget over the largest compute
            in the fit); ``note``.
        target: name of the predicted column.
        level: nominal coverage of the intervals.
        size: the column that stands for N, since the law knows only the count it was fitted with.
        law: title of the law.
    """

    frame: pd.DataFrame
    target: str
    level: float
    size: str
    law: str

    def to_dict(self) -> list[dict]:
        """One JSON-ready mapping a budget; what is not finite becomes None."""
        rows = self.frame.to_dict(orient="records")
        return [{k: (None if isinstance(v, float) and not np.isfinite(v) else v) for k, v in r.items()} for r in rows]

    def table(self, digits: int = 3) -> pd.DataFrame:
        """The same with people's numbers: estimate and interval in one cell."""

        def cell(row, name):
            return (
                f"{human(row[name], digits)} ({human(row[name + '_low'], digits)}–{human(row[name + '_high'], digits)})"
            )

        names = ["params", "tokens", "tokens_per_param", self.target]
        out = pd.DataFrame({n: [cell(r, n) for _, r in self.frame.iterrows()] for n in names})
        out.insert(0, "flops", [f"{v:.3g}" for v in self.frame["flops"]])
        out["extrapolation"] = [f"{v:.3g}×" for v in self.frame["extrapolation"]]
        out["note"] = self.frame["note"]
        return out

    def __repr__(self) -> str:
        lines = [
            f"{r.flops:.3g} FLOP: {human(r.params)} parameters on {human(r.tokens)} tokens "
            f"({human(r.tokens_per_param)} per parameter), {self.target} {getattr(r, self.target):.4g}"
            + (f"; {r.note}" if r.note else "")
            for r in self.frame.itertuples()
        ]
        return f"Plan by {self.law}, C = 6ND:\n  " + "\n  ".join(lines)

    def _repr_html_(self) -> str:
        caption = (
            f"Compute-optimal size and data by {escape(self.law)}, C = 6ND, N = {escape(self.size)}; "
            f"{self.level:.0%} intervals in brackets"
        )
        table = self.table().to_html(index=False, escape=True, border=0)
        return f"<figure><figcaption>{caption}</figcaption>{table}</figure>"


def plan(fit: Fit, flops: Any, *, level: float = 0.95, n: int = 1000) -> Plan:
    """Minimise the fitted loss over N and D at fixed C = 6ND (Hoffmann et al. 2022, eq. 3, approach 3).

    Args:
        fit: a fit of a law whose inputs are sizes, tokens, compute or tokens per parameter.
        flops: one budget or several, in FLOP.
        level: nominal coverage.
        n: bootstrap resamples; each is optimised on its own.

    Returns:
        A `Plan`.

    Raises:
        ValueError: the law has no trade-off between size and data, or a budget is not positive.
    """
    columns = fit.points.columns
    foreign = [c for c in columns.values() if c not in _COLUMNS]
    if foreign or len(columns) < 2:
        raise ValueError(
            f"{fit.law.name} over {', '.join(columns.values())} has no trade-off between size and data to optimise; "
            "plan with chinchilla, chinchilla_tied, kaplan or over_training"
        )
    try:
        budgets = np.atleast_1d(np.asarray(flops, dtype=float))
    except (TypeError, ValueError):
        raise ValueError(f"flops is {flops!r}; give a budget in FLOP such as 1e21, or a list of them") from None
    if budgets.size == 0 or not np.isfinite(budgets).all() or not (budgets > 0).all():
        raise ValueError(f"flops is {flops!r}; a budget must be a positive number of FLOP, such as 1e21")

    theta = fit.theta[None]
    if fit.degrees >= 1:
        theta = np.concatenate([theta, fit.draws(n)])
    rows = []
    for budget in budgets:
        ratio, loss, interior = _optimum(fit, theta, budget)
        params = np.sqrt(budget / (FLOPS_PER_PARAM_TOKEN * ratio))
        tokens = params * ratio
        row: dict[str, Any] = {"flops": float(budget)}
        noisy = add_noise(fit, loss[1:, None])[:, 0] if len(theta) > 1 else loss[1:]
        for name, values, spread in (
            ("params", params, params[1:]),
            ("tokens", tokens, tokens[1:]),
            ("tokens_per_param", ratio, ratio[1:]),
            (fit.points.target, loss, noisy),
        ):
            tail = 50 * (1 - level)
            low, high = np.percentile(spread, [tail, 100 - tail]) if spread.size else (np.nan, np.nan)
            row |= {name: float(values[0]), f"{name}_low": float(low), f"{name}_high": float(high)}
        at = {s: np.array([_COLUMNS[c](params[0], tokens[0])]) for s, c in columns.items()}
        row["extrapolation"] = float(extrapolation(fit, at)[0])
        row["note"] = _note(interior)
        rows.append(row)
    size = next((c for c in columns.values() if c.startswith("params")), "params")
    return Plan(pd.DataFrame(rows), fit.points.target, level, size, fit.law.title)


def _note(interior: np.ndarray) -> str:
    if not interior[0]:
        return "the loss falls to the edge of the search: this fit has no compute optimum"
    lost = 1 - interior[1:].mean() if interior.size > 1 else 0.0
    return f"{lost:.0%} of the resamples have no optimum" if lost > 0.025 else ""


def _optimum(fit: Fit, theta: np.ndarray, budget: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Best tokens per parameter ``[K]`` at one budget for each parameter vector ``[K, P]``, and the loss there.

    A grid in log ratio, zoomed around its minimum: no derivative is asked of the law, every candidate is
    searched at once, and a minimum at the edge is seen as such.
    """
    low, high = (np.full(len(theta), np.log(r)) for r in RATIO_RANGE)
    everywhere = low[0], high[0]
    share = np.linspace(0, 1, GRID)
    for _ in range(ZOOMS):
        log_ratio = low[:, None] + (high - low)[:, None] * share
        loss = _loss(fit, theta, budget, log_ratio)
        best = np.nanargmin(np.where(np.isfinite(loss), loss, np.inf), axis=1)
        rows = np.arange(len(theta))
        low = log_ratio[rows, np.maximum(best - 1, 0)]
        high = log_ratio[rows, np.minimum(best + 1, GRID - 1)]
    centre = log_ratio[rows, best]
    interior = (centre > everywhere[0] + 1e-3) & (centre < everywhere[1] - 1e-3)
    return np.exp(centre), loss[rows, best], interior


def _loss(fit: Fit, theta: np.ndarray, budget: float, log_ratio: np.ndarray) -> np.ndarray:
    """Predicted loss ``[K, G]`` of each parameter vector on its own grid ``[K, G]`` of ratios."""
    ratio = np.exp(log_ratio)
    n = np.sqrt(budget / (FLOPS_PER_PARAM_TOKEN * ratio))
    columns = [_COLUMNS[c](n, n * ratio) for c in fit.points.columns.values()]
    with np.errstate(all="ignore"):
        return fit.law.formula(*columns, *(theta[:, j, None] for j in range(theta.shape[1])))
