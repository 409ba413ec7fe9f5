"""Compute-optimal frontiers: how large a model on how many tokens at each budget, whatever the answer comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from workbench.analysis.costs import SIX_ND, Cost, PowerCost, cost_model
from workbench.analysis.trend import Trend
from workbench.fits.predict import add_noise, extrapolation
from workbench.fits.result import Fit
from workbench.late import late
from workbench.laws.base import Law, get
from workbench.units import human

__all__ = ["Frontier", "Plan", "frontier", "plan", "trend_exponents"]

#: The search runs over this range of tokens per parameter; an optimum at its edge is no optimum.
RATIO_RANGE = (1e-6, 1e9)
#: Points per zoom and number of zooms: 15 decades down to a relative step of about 1e-7.
GRID, ZOOMS = 65, 6
#: What each canonical column is at a given size and data, with compute as the cost model counts training.
_COLUMNS: dict[str, Callable] = {
    "params": lambda n, d, cost: n,
    "params_non_embedding": lambda n, d, cost: n,
    "params_active": lambda n, d, cost: n,
    "tokens": lambda n, d, cost: d,
    "flops": lambda n, d, cost: cost.training(n, d),
    "tokens_per_param": lambda n, d, cost: d / n,
}
#: Laws whose optimum has a closed form under a power cost: name -> symbols of A, B, alpha, beta.
_CLOSED = {"chinchilla": ("A", "B", "alpha", "beta"), "chinchilla_tied": ("A", "B", "alpha", "alpha")}
_WHAT = ("params", "tokens")


@dataclass(frozen=True, repr=False)
class Frontier:
    """Compute-optimal allocations at one budget or many.

    Attributes:
        frame: one row a budget: ``flops``; ``params``, ``tokens``, ``tokens_per_param`` and the predicted
            metric, each with ``_low`` and ``_high``; ``extrapolation`` (budget over the largest compute
            in the runs); ``note``.
        target: name of the predicted column.
        level: nominal coverage of the intervals.
        size: the column that stands for N, since the source knows only the count it was given.
        law: what the frontier comes from: the title of a law or the name of an approach.
        cost: the cost model.
        local: exponents a and b at the geometric mean of the budgets; see `exponents`.
    """

    frame: pd.DataFrame
    target: str
    level: float
    size: str
    law: str
    cost: Cost
    local: pd.DataFrame

    plot = late("workbench.figures.plan:plan", "Optimal size and data against compute.")

    def exponents(self) -> pd.DataFrame:
        """Exponents of the optimum: N_opt ~ C^a in the row ``params``, D_opt ~ C^b in the row ``tokens``.

        Returns:
            ``exponent``, ``low``, ``high``, ``note``. Where the frontier is no power law the exponents are
            its slopes at the geometric mean of the budgets, and the note says so.
        """
        return self.local.copy()

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
            f"{r['flops']:.3g} FLOP: {human(r['params'])} parameters on {human(r['tokens'])} tokens "
            f"({human(r['tokens_per_param'])} per parameter), {self.target} {r[self.target]:.4g}"
            + (f"; {r['note']}" if r["note"] else "")
            for r in self.frame.to_dict(orient="records")
        ]
        return f"Plan by {self.law}, {self.cost.label}:\n  " + "\n  ".join(lines)

    def _repr_html_(self) -> str:
        caption = (
            f"Compute-optimal size and data by {escape(self.law)}, {escape(self.cost.label)}, N = {escape(self.size)}; "
            f"{self.level:.0%} intervals in brackets"
        )
        table = self.table().to_html(index=False, escape=True, border=0)
        return f"<figure><figcaption>{caption}</figcaption>{table}</figure>"


#: A plan is the frontier at the budgets somebody has.
Plan = Frontier


def frontier(
    source: Any,
    flops: Any,
    *,
    cost: Any = None,
    held: Mapping[str, float] | None = None,
    level: float = 0.95,
    n: int = 1000,
) -> Frontier:
    """Compute-optimal size and data at each budget.

    From a `Fit` (approach 3 of Hoffmann et al. 2022, their eq. 4 and section 3.3): the fitted loss is
    minimised over N and D at fixed cost, for the estimate and for every bootstrap draw of the parameters.
    Under a power cost the additive law has a closed form: with C = k N^p D^q, N_opt ~ C^a with
    a = beta / (p beta + q alpha), which is beta / (alpha + beta) for 6ND. Other laws and costs are searched.
    From an `Envelope` or `IsoFLOP`: the line through their optima.

    Args:
        source: a `Fit` of a law of size and data; a law with known constants, as
            ``("chinchilla", {"E": 1.69, ...})``, which has no intervals; an `Envelope` or an `IsoFLOP`.
        flops: one budget or several, in FLOP as `cost` counts them.
        cost: a cost model or a function of N and D; default C = 6ND. Only for a fit: approaches 1 and 2
            measure the optimum under the compute the runs were grouped by.
        held: further inputs of the law -> value they are held at, e.g. ``{"unique_tokens": 1e11}``.
        level: nominal coverage.
        n: bootstrap resamples of a fit.

    Raises:
        ValueError: the law has no trade-off between size and data, an input is neither held nor known, a
            budget is not positive, or the approach found no line.
    """
    budgets = _budgets(flops)
    if not (isinstance(level, int | float) and 0 < level < 1):
        raise ValueError(f"level is {level!r}; a nominal coverage lies between 0 and 1, such as 0.95")
    if isinstance(source, Fit):
        return _parametric(_fitted(source, n), budgets, cost_model(cost), dict(held or {}), level)
    if isinstance(source, tuple) and len(source) == 2:
        return _parametric(_published(*source), budgets, cost_model(cost), dict(held or {}), level)
    if not hasattr(source, "trend"):
        raise ValueError(
            f"a frontier comes from a Fit, a pair of law and constants, an Envelope or an IsoFLOP, "
            f"got {type(source).__name__}"
        )
    if cost is not None or held:
        raise ValueError(
            f"{source.title} measures the optimum under its runs' own compute; cost= and held= need a fit of a law"
        )
    return _empirical(source, budgets, level)


def plan(fit: Fit, flops: Any, *, level: float = 0.95, n: int = 1000, cost: Any = None, held: Any = None) -> Frontier:
    """What to train: `frontier` of a fit at one budget or several."""
    return frontier(fit, flops, cost=cost, held=held, level=level, n=n)


def trend_exponents(trend: Trend | None, level: float, why: str = "no optimum to draw a line through") -> pd.DataFrame:
    """Exponents a and b of an approach's lines with intervals; NaN and a reason where there is no line."""
    rows = {}
    for name in _WHAT:
        slopes = np.array([np.nan]) if trend is None else trend.slopes[name]
        note = why if trend is None else "" if np.isfinite(slopes[0]) else "one budget leaves no line to draw"
        rows[name] = (float(slopes[0]), *_ends(slopes[1:], level), note)
    return pd.DataFrame.from_dict(rows, orient="index", columns=["exponent", "low", "high", "note"])


@dataclass(frozen=True)
class _Source:
    """A law and its parameter vectors ``[1 + B, P]``, the estimate first."""

    law: Law
    theta: np.ndarray
    columns: dict[str, str]
    target: str
    fit: Fit | None = None


def _fitted(fit: Fit, n: int) -> _Source:
    theta = fit.theta[None]
    if fit.degrees >= 1:
        theta = np.concatenate([theta, fit.joint_draws(n)])
    return _Source(fit.law, theta, fit.points.columns, fit.points.target, fit)


def _published(law: str | Law, constants: Mapping[str, float]) -> _Source:
    law = get(law)
    missing = [s for s in law.symbols if s not in constants]
    if missing:
        raise ValueError(f"{law.name} needs a constant {missing[0]!r}; it takes {', '.join(law.symbols)}")
    theta = np.array([[float(constants[s]) for s in law.symbols]])
    return _Source(law, theta, {i.symbol: i.quantity or i.symbol for i in law.inputs}, "loss")


def _parametric(source: _Source, budgets: np.ndarray, cost: Cost, held: dict[str, float], level: float) -> Frontier:
    columns, law, fit = source.columns, source.law, source.fit
    free = [c for c in columns.values() if c in _COLUMNS and c not in held]
    foreign = [c for c in columns.values() if c not in _COLUMNS and c not in held]
    if foreign or len(free) < 2:
        hint = (
            f"hold the others with held={{{foreign[0]!r}: ...}}"
            if foreign and len(free) > 1
            else "plan with chinchilla, chinchilla_tied, kaplan or over_training"
        )
        raise ValueError(
            f"{law.name} over {', '.join(columns.values())} has no trade-off between size and data to optimise; {hint}"
        )
    unknown = set(held) - set(columns.values())
    if unknown:
        raise ValueError(f"held= names {sorted(unknown)[0]!r}; {law.name} takes {', '.join(columns.values())}")
    rows = []
    for budget in budgets:
        params, tokens, loss, interior = _optimum(source, budget, cost, held)
        noisy = loss[1:] if fit is None or len(loss) == 1 else add_noise(fit, loss[1:, None])[:, 0]
        row: dict[str, Any] = {"flops": float(budget)}
        for name, values, spread in (
            ("params", params, params[1:]),
            ("tokens", tokens, tokens[1:]),
            ("tokens_per_param", tokens / params, tokens[1:] / params[1:]),
            (source.target, loss, noisy),
        ):
            low, high = _ends(spread, level)
            row |= {name: float(values[0]), f"{name}_low": low, f"{name}_high": high}
        at = _inputs(source, params[:1], tokens[:1], cost, held)
        row["extrapolation"] = np.nan if fit is None else float(extrapolation(fit, at)[0])
        row["note"] = _note(interior)
        rows.append(row)
    size = next((c for c in columns.values() if c.startswith("params")), "params")
    local = _exponents(source, float(np.exp(np.log(budgets).mean())), cost, held, level)
    return Frontier(pd.DataFrame(rows), source.target, level, size, law.title, cost, local)


def _empirical(source: Any, budgets: np.ndarray, level: float) -> Frontier:
    if source.trend is None:
        raise ValueError(f"{source.title} found no optimum away from the edges, so there is no frontier to follow")
    if source.trend.slopes["params"][:1].size and not np.isfinite(source.trend.slopes["params"][0]):
        raise ValueError(f"{source.title} found one optimum, and a frontier takes two; see its frame for that one")
    values = source.trend.at(budgets)
    frame = pd.DataFrame({"flops": budgets})
    for name, key in (*((c, c) for c in ("params", "tokens", "tokens_per_param")), (source.target, "loss")):
        frame[name] = values[key][0]
        ends = [_ends(values[key][1:, j], level) for j in range(budgets.size)]
        frame[f"{name}_low"], frame[f"{name}_high"] = zip(*ends, strict=True)
    frame["extrapolation"] = budgets / source.trend.largest
    frame["note"] = ""
    local = trend_exponents(source.trend, level)
    return Frontier(frame, source.target, level, "params", source.title, SIX_ND, local)


def _budgets(flops: Any) -> np.ndarray:
    try:
        budgets = np.atleast_1d(np.asarray(flops, dtype=float))
    except (TypeError, ValueError):
        raise ValueError(f"flops is {flops!r}; give a budget in FLOP such as 1e21, or a list of them") from None
    if budgets.size == 0 or not np.isfinite(budgets).all() or not (budgets > 0).all():
        raise ValueError(f"flops is {flops!r}; a budget must be a positive number of FLOP, such as 1e21")
    return budgets.ravel()


def _ends(draws: np.ndarray, level: float) -> tuple[float, float]:
    draws = draws[np.isfinite(draws)]
    if not draws.size:
        return np.nan, np.nan
    low, high = np.percentile(draws, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)


def _note(interior: np.ndarray) -> str:
    if not interior[0]:
        return "the loss falls to the edge of the search: this fit has no compute optimum"
    lost = 1 - interior[1:].mean() if interior.size > 1 else 0.0
    return f"{lost:.0%} of the resamples have no optimum" if lost > 0.025 else ""


def _exponents(source: _Source, budget: float, cost: Cost, held, level: float) -> pd.DataFrame:
    if source.law.name in _CLOSED and isinstance(cost, PowerCost):
        alpha, beta = (source.theta[:, source.law.symbols.index(s)] for s in _CLOSED[source.law.name][2:])
        with np.errstate(all="ignore"):
            a = beta / (cost.a * beta + cost.b * alpha)
        slopes, notes = (a, (1 - cost.a * a) / cost.b), ["", ""]
    else:
        ends = [_optimum(source, budget * factor, cost, held) for factor in (0.1, 10.0)]
        slopes = [np.log(ends[1][k] / ends[0][k]) / np.log(100.0) for k in (0, 1)]
        lost = not (ends[0][3][0] and ends[1][3][0])
        word = "no compute optimum" if lost else f"slope over two decades about {budget:.3g} FLOP"
        slopes = [np.where(ends[0][3] & ends[1][3], s, np.nan) for s in slopes]
        notes = [word, word]
    rows = {name: (float(s[0]), *_ends(s[1:], level), note) for name, s, note in zip(_WHAT, slopes, notes, strict=True)}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["exponent", "low", "high", "note"])


def _optimum(source: _Source, budget: float, cost: Cost, held: Mapping[str, float]):
    """Best N and D ``[K]`` at one budget for each parameter vector ``[K, P]``, the loss there, and whether inside.

    A grid in log tokens per parameter, zoomed around its minimum: no derivative is asked of the law, every
    candidate is searched at once, and a minimum at the edge is seen as such.
    """
    if source.law.name in _CLOSED and isinstance(cost, PowerCost) and not held:
        found = _closed(source, budget, cost)
        if found is not None:
            return found
    low, high = (np.full(len(source.theta), np.log(r)) for r in RATIO_RANGE)
    everywhere = low[0], high[0]
    share = np.linspace(0, 1, GRID)
    rows = np.arange(len(source.theta))
    for _ in range(ZOOMS):
        log_ratio = low[:, None] + (high - low)[:, None] * share
        loss = _loss(source, budget, np.exp(log_ratio), cost, held)
        best = np.argmin(np.where(np.isfinite(loss), loss, np.inf), axis=1)
        low = log_ratio[rows, np.maximum(best - 1, 0)]
        high = log_ratio[rows, np.minimum(best + 1, GRID - 1)]
    centre = log_ratio[rows, best]
    interior = (centre > everywhere[0] + 1e-3) & (centre < everywhere[1] - 1e-3) & np.isfinite(loss[rows, best])
    params = cost.params(budget, np.exp(centre))
    return params, params * np.exp(centre), loss[rows, best], interior


def _closed(source: _Source, budget: float, cost: PowerCost):
    """alpha A N^-alpha / p = beta B D^-beta / q on k N^p D^q = C; None if any optimum leaves the searched range."""
    a, b, alpha, beta = (source.theta[:, source.law.symbols.index(s)] for s in _CLOSED[source.law.name])
    with np.errstate(all="ignore"):
        balance = np.log(cost.b * alpha * a / (cost.a * beta * b))
        log_n = (balance + beta / cost.b * np.log(budget / cost.k)) / (alpha + beta * cost.a / cost.b)
        params = np.exp(log_n)
        tokens = cost.tokens(budget, params)
        ratio = tokens / params
    inside = np.isfinite(ratio) & (ratio > RATIO_RANGE[0]) & (ratio < RATIO_RANGE[1])
    if not inside.all():
        return None
    loss = source.law.formula(params, tokens, *source.theta.T)
    return params, tokens, loss, inside


def _loss(source: _Source, budget: float, ratio: np.ndarray, cost: Cost, held) -> np.ndarray:
    """Predicted loss ``[K, G]`` of each parameter vector on its own grid ``[K, G]`` of tokens per parameter."""
    params = cost.params(budget, ratio)
    x = _inputs(source, params, params * ratio, cost, held)
    with np.errstate(all="ignore"):
        return source.law.formula(*x.values(), *(source.theta[:, j, None] for j in range(source.theta.shape[1])))


def _inputs(source: _Source, params: np.ndarray, tokens: np.ndarray, cost: Cost, held) -> dict[str, np.ndarray]:
    return {
        s: np.full(params.shape, float(held[c])) if c in held else _COLUMNS[c](params, tokens, cost)
        for s, c in source.columns.items()
    }
