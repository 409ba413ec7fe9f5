"""What a scaling law is asked: one number that a decision hangs on, for many parameter vectors at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.analysis.allocation import AT, allocation
from workbench.fits.result import Fit
from workbench.laws.base import Law
from workbench.units import FLOPS_PER_PARAM_TOKEN, human, quantity

__all__ = ["QUESTIONS", "Question", "ask"]

#: Questions by name; besides them a parameter (``parameter E`` or its symbol) and any function.
QUESTIONS = ("tokens_per_param", "optimal_params", "exponent", "loss")
#: A question nobody spelled out is asked this far beyond the largest run.
BEYOND = 10.0


@dataclass(frozen=True)
class Question:
    """One number asked of a law.

    Attributes:
        text: the conclusion in words: ``tokens per parameter at 5.88e+23 FLOP``.
        answer: ``(law, columns, theta)`` -> ``[K]``, with the input columns by symbol and parameters
            ``[K, P]``; NaN where there is no answer.
        why: how a question that nobody spelled out was chosen, else empty.
    """

    text: str
    answer: Callable[[Law, Mapping[str, str], np.ndarray], np.ndarray]
    why: str = ""


def ask(question: Any, fit: Fit, **at: float) -> Question:
    """The `Question` that `question` names.

    Args:
        question: ``tokens_per_param`` or ``optimal_params`` at ``flops=``; ``exponent`` (a of N_opt ~ C^a);
            ``loss`` (or the name of the fitted column) at ``params=, tokens=``, at the inputs of a law of
            one scale, or at ``flops=`` spent best; ``parameter E`` or just ``E``; a function of the law and
            one parameter vector ``[P]`` that returns a number; or a `Question`. None asks for tokens per
            parameter at ten times the largest compute in the data, or, of a law that trades nothing off,
            for the metric at ten times the largest scale.
        fit: the fit that it is asked of; it knows the columns and the largest run.
        **at: where, by column.

    Raises:
        ValueError: no such question, a law that cannot answer it, or a place missing or not positive.
    """
    if isinstance(question, Question):
        return question
    for name, value in at.items():
        if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 < value < np.inf:
            raise ValueError(f"{name} is {value!r}; a question is asked at a positive number, such as {name}=1e21")
    if callable(question):
        return Question(getattr(question, "__name__", "the answer").replace("_", " "), _each(question))
    trades = _trades(fit.points.columns)
    target = fit.points.target
    if question is None:
        question = "tokens_per_param" if trades or "flops" in at else target
        if question != target and not trades:
            raise ValueError(_no_trade(fit))
    question = str(question).strip()
    key = question.lower().replace(" ", "_")
    if key in ("tokens_per_param", "tokens_per_parameter", "optimal_params", "exponent"):
        if not trades:
            raise ValueError(_no_trade(fit))
        budget, why = _budget(fit, at)
        return _allocation(key, budget, why)
    if key == "loss" or question == target:
        return _level(fit, target, at, trades)
    symbol = question.removeprefix("parameter").strip()
    if symbol in fit.law.symbols:
        j = fit.law.symbols.index(symbol)

        def parameter(law: Law, columns: Mapping[str, str], theta: np.ndarray) -> np.ndarray:
            return theta[:, j]

        return Question(f"{symbol} ({fit.law.parameters[j].meaning})", parameter)
    raise ValueError(
        f"nobody can answer the question {question!r}; ask for one of {', '.join(QUESTIONS)}, a parameter "
        f"({', '.join(fit.law.symbols)}), or give a function of (law, theta)"
    )


def _allocation(key: str, budget: float, why: str) -> Question:
    if key == "exponent":

        def exponent(law, columns, theta):
            small, large = (allocation(law, columns, theta, budget * f)[1] for f in (10**-0.5, 10**0.5))
            return np.log10(large / small)

        return Question(f"exponent a of N_opt ~ C^a around {human(budget)} FLOP", exponent, why)
    which = 1 if key == "optimal_params" else 0

    def at_budget(law, columns, theta):
        return allocation(law, columns, theta, budget)[which]

    what = "optimal parameters" if which else "tokens per parameter"
    return Question(f"{what} at {human(budget)} FLOP", at_budget, why)


def _level(fit: Fit, target: str, at: Mapping[str, float], trades: bool) -> Question:
    """The metric at given inputs, or at a budget spent best."""
    columns, why = fit.points.columns, ""
    name = quantity(target).meaning.lower() if target == "loss" else target
    if trades and set(at) == {"flops"} and "flops" not in columns.values():
        budget = float(at["flops"])

        def best(law, columns, theta):
            return allocation(law, columns, theta, budget)[2]

        return Question(f"{name} at {human(budget)} FLOP spent best", best)
    at = dict(at)
    if not at:
        x = fit.points.x
        first = next(iter(columns))
        if trades and len(columns) == 2:
            # the shape of the largest run, at ten times its compute
            size, tokens = _size_and_data(columns, x)
            i = int(np.argmax(size * tokens))
            at = {"params": size[i] * BEYOND**0.5, "tokens": tokens[i] * BEYOND**0.5}
            why = f"{BEYOND:g} times the largest run's compute, N and D in its proportion"
        else:
            at = {columns[s]: float(np.median(v)) for s, v in x.items()}
            at[columns[first]] = float(x[first].max()) * BEYOND
            rest = ", the other inputs at their medians" if len(columns) > 1 else ""
            why = f"{BEYOND:g} times the largest {columns[first]} in the data{rest}"
    place = {k: float(v) for k, v in at.items()}
    _place(columns, place)  # says at once what is missing

    def level(law, columns, theta):
        inputs = _place(columns, place)
        with np.errstate(all="ignore"):
            return law.formula(*(inputs[i.symbol] for i in law.inputs), *theta.T) + 0.0 * theta[:, 0]

    where = ", ".join(f"{k} {human(v)}" for k, v in place.items())
    return Question(f"{name} at {where}", level, why)


def _place(columns: Mapping[str, str], at: Mapping[str, float]) -> dict[str, float]:
    """Each input of the law at the place asked for; another count of parameters stands for the one given."""
    sizes = [at[k] for k in at if k.startswith("params")]
    out = {}
    for symbol, column in columns.items():
        if column in at:
            out[symbol] = at[column]
        elif column.startswith("params") and sizes:
            out[symbol] = sizes[0]
        elif column in AT and sizes and "tokens" in at:
            out[symbol] = AT[column](sizes[0], at["tokens"])
        else:
            needed = ", ".join(columns.values())
            raise ValueError(f"the law answers from {needed}; {column!r} is missing: give {column}=...")
    return out


def _budget(fit: Fit, at: Mapping[str, float]) -> tuple[float, str]:
    foreign = sorted(set(at) - {"flops"})
    if foreign:
        raise ValueError(f"{foreign[0]}= does not belong to a question about a budget; give flops= only")
    if "flops" in at:
        return float(at["flops"]), ""
    size, tokens = _size_and_data(fit.points.columns, fit.points.x)
    largest = FLOPS_PER_PARAM_TOKEN * float((size * tokens).max())
    return float(f"{BEYOND * largest:.2g}"), f"{BEYOND:g} times the largest compute in the data"


def _size_and_data(columns: Mapping[str, str], x: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """N and D of the runs from whichever two columns the law takes."""
    have = {("params" if c.startswith("params") else c): x[s] for s, c in columns.items()}
    compute = have.get("flops", np.array(np.nan)) / FLOPS_PER_PARAM_TOKEN
    if "params" in have:
        n = have["params"]
        d = have["tokens"] if "tokens" in have else compute / n if "flops" in have else n * have["tokens_per_param"]
    elif "tokens" in have:
        d = have["tokens"]
        n = compute / d if "flops" in have else d / have["tokens_per_param"]
    else:
        n = np.sqrt(compute / have["tokens_per_param"])
        d = n * have["tokens_per_param"]
    return n, d


def _trades(columns: Mapping[str, str]) -> bool:
    roles = {"params" if c.startswith("params") else c for c in columns.values()}
    return len(columns) == 2 and len(roles) == 2 and all(c in AT for c in columns.values())


def _no_trade(fit: Fit) -> str:
    return (
        f"{fit.law.name} over {', '.join(fit.points.columns.values())} has no trade-off between size and data; "
        "ask for loss at a scale or for a parameter, or take a law of params and tokens"
    )


def _each(function: Callable[[Law, np.ndarray], float]) -> Callable:
    def answer(law: Law, columns: Mapping[str, str], theta: np.ndarray) -> np.ndarray:
        return np.array([float(function(law, row)) for row in theta])

    return answer
