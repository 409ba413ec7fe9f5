"""What to train for a budget of money or compute, when the model will be used and the data are limited."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from workbench.analysis.conclusions import Question, ask
from workbench.analysis.costs import SIX_ND, Cost, InferenceCost
from workbench.analysis.frontier import Frontier, frontier
from workbench.analysis.next_runs import BEYOND, NextRuns, next_runs
from workbench.fits.result import Fit
from workbench.units import human

__all__ = ["ASKED", "Hardware", "along_sizes", "bill", "next_probes", "served"]

#: What next probes may narrow: name -> in words.
ASKED = {"loss": "loss of the plan", "size": "best size", "ratio": "tokens per parameter"}
#: Candidate sizes and horizons of probes, each.
_STEPS = 13


@dataclass(frozen=True)
class Hardware:
    """What compute costs.

    Attributes:
        price: money for one GPU for an hour.
        peak: FLOP/s of one GPU that its maker states for the precision of training.
        utilisation: share of that which training reaches (model FLOPs utilisation).

    Raises:
        ValueError: a value is not positive, or the utilisation is above 1.
    """

    price: float = 2.0
    peak: float = 989e12
    utilisation: float = 0.4

    def __post_init__(self) -> None:
        for name in ("price", "peak", "utilisation"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < np.inf:
                raise ValueError(f"{name} is {value!r}; it must be a positive number")
        if self.utilisation > 1:
            raise ValueError(f"utilisation is {self.utilisation!r}; it is a share of the peak, such as 0.4")

    def hours(self, flops: float) -> float:
        """GPU-hours that `flops` take."""
        return flops / (self.peak * self.utilisation * 3600)

    def money(self, flops: float) -> float:
        """What `flops` cost."""
        return self.hours(flops) * self.price

    def flops(self, money: float) -> float:
        """FLOP that `money` buys."""
        return money / self.price * 3600 * self.peak * self.utilisation


def bill(plan: Frontier, hardware: Hardware, *, gpus: int = 1, serve_utilisation: float | None = None) -> pd.DataFrame:
    """What the plan at its first budget costs: one row for training, serving and both.

    Args:
        plan: of `frontier`.
        hardware: what compute costs.
        gpus: GPUs that work at the same time.
        serve_utilisation: share of the peak that serving reaches; default that of training.

    Returns:
        Indexed by ``training``, ``serving``, ``total``: ``flops`` (what is computed), ``gpu_hours``, ``money``
        and ``days`` (of wall clock on `gpus`).
    """
    row, cost = plan.frame.iloc[0], plan.cost
    training = float(cost.training(row["params"], row["tokens"]))
    # what a budget pays for serving is counted in training's FLOP, so that both cost the same
    paid = float(cost(row["params"], row["tokens"])) - training
    share = 1.0 if serve_utilisation is None else serve_utilisation / hardware.utilisation
    rows = {"training": (training, training), "serving": (paid * share, paid)}
    rows["total"] = (training + paid * share, training + paid)
    return pd.DataFrame.from_dict(
        {
            name: (flops, hardware.hours(worth), hardware.money(worth), hardware.hours(worth) / gpus / 24)
            for name, (flops, worth) in rows.items()
        },
        orient="index",
        columns=["flops", "gpu_hours", "money", "days"],
    )


def along_sizes(
    fit: Fit,
    flops: float,
    sizes: np.ndarray,
    *,
    cost: Cost = SIX_ND,
    held: Mapping[str, float] | None = None,
    level: float = 0.95,
    n: int = 1000,
) -> pd.DataFrame:
    """The predicted metric of models of `sizes` ``[m]`` that all use up the budget, with its interval.

    Args:
        fit: a fit of a law of size and data.
        flops: budget in FLOP as `cost` counts it.
        sizes: parameters; those that the budget does not pay are left out.
        cost: cost model.
        held: further inputs of the law -> value.
        level: nominal coverage.
        n: bootstrap resamples.

    Returns:
        ``params``, ``tokens``, ``loss``, ``low``, ``high``: the interval is of the expected value, from the
        bootstrap over runs.
    """
    sizes = np.asarray(sizes, dtype=float)
    tokens = cost.tokens(flops, sizes)
    with np.errstate(all="ignore"):
        paid = np.isfinite(tokens) & (tokens > 0)
    sizes, tokens = sizes[paid], tokens[paid]
    if not sizes.size:
        return pd.DataFrame(columns=["params", "tokens", "loss", "low", "high"], dtype=float)
    at = {c: _column(c, sizes, tokens, cost, held or {}) for c in fit.points.columns.values()}
    there = fit.predict(at, level=level, kind="curve", method="bootstrap", n=n)
    out = pd.DataFrame({"params": sizes, "tokens": tokens, "loss": there["prediction"].to_numpy()})
    return out.assign(low=there["low"].to_numpy(), high=there["high"].to_numpy())


def _column(column: str, n: np.ndarray, d: np.ndarray, cost: Cost, held: Mapping[str, float]) -> np.ndarray:
    if column in held:
        return np.full(n.shape, float(held[column]))
    if column.startswith("params"):
        return n
    return {"tokens": d, "flops": cost.training(n, d), "tokens_per_param": d / n}[column]


def next_probes(
    fit: Fit,
    flops: float,
    asked: str = "loss",
    *,
    budget: float,
    n: int = 3,
    cost: Any = SIX_ND,
    held: Mapping[str, float] | None = None,
    level: float = 0.95,
) -> NextRuns:
    """The next probes worth running for the plan at a budget; see `next_runs`, which chooses them.

    Candidates are sizes and horizons from the smallest run to four times the largest in each, on data that are
    not repeated; they cost 6ND.

    Args:
        fit: the fit that plans.
        flops: the budget planned for, in FLOP as `cost` counts it.
        asked: what should become more certain: a key of `ASKED`.
        budget: compute for all probes together, in FLOP.
        n: how many at most.
        cost, held: of the plan, as in `frontier`.
        level: nominal coverage.

    Raises:
        ValueError: no such question, or as `next_runs`.
    """
    if asked not in ASKED:
        raise ValueError(f"probes cannot be chosen for {asked!r}; ask for one of {', '.join(ASKED)}")
    held = dict(held or {})
    candidates = _candidates(fit)
    if asked == "loss":
        best = frontier(fit, flops, cost=cost, held=held, n=1).frame.iloc[0]
        size = next(c for c in fit.points.columns.values() if c.startswith("params"))
        place = {size: best["params"], "tokens": best["tokens"], **held}
        question = ask("loss", fit, **{c: float(v) for c, v in place.items()})
        question = Question(f"loss of the plan at {human(flops)} FLOP", question.answer)
    else:
        question = Question(f"{ASKED[asked]} at {human(flops)} FLOP", _optimum(asked, flops, cost, held))
    answer = next_runs(fit, question, budget=budget, n=n, candidates=candidates, level=level)
    if not answer.half_width > 1e-9:
        raise ValueError(
            f"the {ASKED[asked]} at this budget is set by the data limit and not by the fit, so that no probe makes it "
            "more certain; ask for the loss, or raise the limit"
        )
    return answer


def _optimum(asked: str, flops: float, cost: Any, held: Mapping[str, float]):
    column = {"size": "params", "ratio": "tokens_per_param"}[asked]

    def answer(law, columns, theta):
        constants = [dict(zip(law.symbols, row, strict=True)) for row in theta]
        found = [frontier((law, each), flops, cost=cost, held=held) for each in constants]
        return np.array([f.frame[column].iloc[0] for f in found])

    return answer


def _candidates(fit: Fit) -> pd.DataFrame:
    columns = list(fit.points.columns.values())
    size = next((c for c in columns if c.startswith("params")), None)
    if size is None or "tokens" not in columns:
        raise ValueError(f"{fit.law.name} takes {', '.join(columns)}; probes are chosen for a law of size and tokens")
    symbol = {c: s for s, c in fit.points.columns.items()}
    axes = []
    for column in (size, "tokens"):
        values = fit.points.x[symbol[column]]
        axes.append(np.geomspace(values[values > 0].min(), values.max() * BEYOND, _STEPS))
    n, d = (m.ravel() for m in np.meshgrid(*axes, indexing="ij"))
    return pd.DataFrame({c: _column(c, n, d, SIX_ND, {}) if c != "unique_tokens" else d for c in columns})


def served(tokens: float, hardware: Hardware, serve_utilisation: float | None = None) -> Cost:
    """Cost model of training and of `tokens` served, in FLOP at training's utilisation.

    Serving seldom uses a GPU as well as training does; a token served then counts as several.
    """
    if not tokens:
        return SIX_ND
    worse = hardware.utilisation / (serve_utilisation or hardware.utilisation)
    return InferenceCost(tokens * worse)
