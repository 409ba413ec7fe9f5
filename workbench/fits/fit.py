"""`fit`: one law, some runs, one objective."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from workbench.engine.objective import Objective
from workbench.engine.search import STARTS, search
from workbench.engine.solver import Problem
from workbench.fits.points import gather
from workbench.fits.result import Fit
from workbench.laws.base import Law, get
from workbench.runs.load import load

__all__ = ["Fit", "fit", "held_and_tied"]


def fit(
    runs: Any,
    law: str | Law = "chinchilla",
    *,
    y: str = "loss",
    x: str | None = None,
    inputs: Mapping[str, str] | None = None,
    where: str | None = None,
    fixed: Mapping[str, float] | None = None,
    tied: Mapping[str, str] | None = None,
    objective: str | Objective = "log-huber",
    delta: float = 1e-3,
    weights: str | Any | None = None,
    cluster: str | None = None,
    strata: str | None = None,
    starts: int = STARTS,
    seed: int = 0,
) -> Fit:
    """Fit `law` to `runs`.

    Args:
        runs: a `RunTable`, or anything `workbench.load` takes.
        law: name of a law (`workbench laws` lists them) or a `Law`.
        y: column to fit, in its own unit; nats per token for ``loss``.
        x: column for a law of one input; default the first of flops, tokens, params that varies.
        inputs: input symbol -> column, to count differently (``{"N": "params_non_embedding"}``).
        where: only runs that satisfy this expression (``"flops > 1e18 and loss < 4"``).
        fixed: parameters held at a value, e.g. ``{"E": 1.69}``.
        tied: parameters kept equal to another, e.g. ``{"beta": "alpha"}``.
        objective: what is summed over runs; `workbench.engine.objective.OBJECTIVES` lists the names.
        delta: where Huber's loss turns linear.
        weights: column or array with one weight per run.
        cluster: column whose equal values share errors (checkpoints of one run, seeds of one configuration):
            every interval method but profile and jacobian keeps them together; default each run alone.
        strata: column within whose equal values the bootstrap draws (budgets of an isoFLOP design), so that
            every resample keeps the design; default one stratum.
        starts: starting points to screen.
        seed: seed of the starting points and of the bootstrap.

    Returns:
        A `Fit`; its `diagnostics` say how far to trust it.

    Raises:
        ValueError: unknown law, column, parameter or objective, an expression that selects nothing, or
            fewer runs than free parameters. The sentence says what is allowed.
    """
    law = get(law)
    table = load(runs)
    table = table if where is None else table.where(where)
    if where is not None and not len(table):
        raise ValueError(f"where={where!r} selects none of the {len(load(runs))} runs; loosen it")
    if not isinstance(objective, Objective):
        objective = Objective(objective, delta)
    points = gather(law, table, y, x, inputs, weights, cluster, objective.in_logs, strata)
    if not isinstance(starts, int | np.integer) or starts < 1:
        raise ValueError(f"starts is {starts!r}; it must be a whole number of at least 1")
    problem = Problem(law, points.x, points.y, points.weights, objective, *held_and_tied(law, fixed, tied))
    n, free = len(points), len(problem.free)
    if n < free:
        raise ValueError(
            f"{law.name} has {free} free parameters ({', '.join(problem.free_symbols)}) and only {n} "
            f"run{'s' if n != 1 else ''} to fit: add runs, fix parameters with fixed=, or take a smaller law"
        )
    theta, diagnostics = search(problem, starts, seed)
    return Fit(
        law=law,
        runs=table,
        points=points,
        problem=problem,
        theta=theta,
        diagnostics=diagnostics,
        seed=seed,
        where=where,
    )


def held_and_tied(
    law: Law, fixed: Mapping[str, float] | None, tied: Mapping[str, str] | None
) -> tuple[dict[str, float], dict[str, str]]:
    """`fixed` and `tied` of `fit` as the solver takes them, or a sentence on what is wrong with them."""
    return _fixed(law, fixed), _tied(law, tied, fixed)


def _fixed(law: Law, fixed: Mapping[str, float] | None) -> dict[str, float]:
    out = {}
    for symbol, value in (fixed or {}).items():
        if symbol not in law.symbols:
            raise ValueError(f"{law.name} has no parameter {symbol!r} to fix; it has {', '.join(law.symbols)}")
        parameter = law.parameters[law.symbols.index(symbol)]
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise ValueError(f"{symbol} is fixed at {value!r}; give a number") from None
        if not np.isfinite(number) or not parameter.low <= number <= parameter.high:
            raise ValueError(
                f"{symbol} is fixed at {value!r}; it must lie between {parameter.low:g} and {parameter.high:g}"
            )
        out[symbol] = number
    return out


def _tied(law: Law, tied: Mapping[str, str] | None, fixed: Mapping[str, float] | None) -> dict[str, str]:
    out = {}
    for symbol, other in (tied or {}).items():
        for s in (symbol, other):
            if s not in law.symbols:
                raise ValueError(f"{law.name} has no parameter {s!r} to tie; it has {', '.join(law.symbols)}")
        if symbol == other or other in (tied or {}) or symbol in (fixed or {}):
            raise ValueError(
                f"{symbol!r} cannot be tied to {other!r}: tie a free parameter to another that is not tied"
            )
        out[symbol] = other
    return out
