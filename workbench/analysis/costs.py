"""What a run of N parameters on D tokens costs: the C that a compute-optimal allocation is constrained by."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workbench.runs.load import load
from workbench.units import FLOPS_PER_PARAM_TOKEN, human

__all__ = ["SIX_ND", "Cost", "InferenceCost", "MeasuredCost", "PowerCost", "cost_model"]

#: Range of log N that the general inversion searches; beyond it there is no model.
_LOG_N = (-20.0, 120.0)


def _positive(value: Any, name: str, what: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = np.nan
    if not (np.isfinite(number) and number > 0):
        raise ValueError(f"{name} is {value!r}; {name} {what} must be a positive number")
    return number


class Cost:
    """Base class of cost models: subclasses give `__call__`, and closed forms where they have one.

    A cost must rise with N at fixed D, and with D at fixed N. An own model is a subclass of a few lines.
    """

    @property
    def label(self) -> str:
        """The cost as titles write it."""
        return type(self).__name__

    @property
    def training(self) -> Cost:
        """The part spent on training, which is what a law's compute input counts."""
        return self

    def __call__(self, params: Any, tokens: Any) -> np.ndarray:
        """FLOP of `params` parameters on `tokens` tokens."""
        raise TypeError("a cost model needs __call__(params, tokens); see PowerCost for an example")

    def tokens(self, flops: Any, params: Any) -> np.ndarray:
        """Tokens that `flops` buys a model of `params` parameters; NaN where it buys none."""
        flops, params = np.broadcast_arrays(np.asarray(flops, float), np.asarray(params, float))
        out = np.exp(_bisect(lambda z: self(params, np.exp(z)), flops))
        return np.where(np.isclose(self(params, out), flops, rtol=1e-6), out, np.nan)

    def params(self, flops: Any, ratio: Any) -> np.ndarray:
        """Parameters N at which N parameters on `ratio` N tokens cost `flops`."""
        flops, ratio = np.broadcast_arrays(np.asarray(flops, float), np.asarray(ratio, float))
        return np.exp(_bisect(lambda z: self(np.exp(z), ratio * np.exp(z)), flops))


@dataclass(frozen=True)
class PowerCost(Cost):
    """``C = k N^a D^b``; the default ``6 N D`` counts a forward and a backward pass.

    The 6 is that of Kaplan et al. 2020 (arXiv 2001.08361, section 2.1).

    Attributes:
        k: FLOP at one parameter and one token.
        a: exponent of parameters.
        b: exponent of tokens.

    Raises:
        ValueError: one of them is not a positive number.
    """

    k: float = FLOPS_PER_PARAM_TOKEN
    a: float = 1.0
    b: float = 1.0

    def __post_init__(self) -> None:
        for name in ("k", "a", "b"):
            object.__setattr__(self, name, _positive(getattr(self, name), name, "of a power cost k N^a D^b"))

    @property
    def label(self) -> str:
        """The cost as titles write it."""
        if self.a == self.b == 1:
            return f"C = {self.k:.4g}ND"
        return f"C = {self.k:.4g} N^{self.a:.4g} D^{self.b:.4g}"

    def __call__(self, params: Any, tokens: Any) -> np.ndarray:
        """FLOP of `params` parameters on `tokens` tokens."""
        return self.k * np.asarray(params, float) ** self.a * np.asarray(tokens, float) ** self.b

    def tokens(self, flops: Any, params: Any) -> np.ndarray:
        """Tokens that `flops` buys a model of `params` parameters."""
        return (np.asarray(flops, float) / (self.k * np.asarray(params, float) ** self.a)) ** (1 / self.b)

    def params(self, flops: Any, ratio: Any) -> np.ndarray:
        """Parameters N at which N parameters on `ratio` N tokens cost `flops`."""
        return (np.asarray(flops, float) / (self.k * np.asarray(ratio, float) ** self.b)) ** (1 / (self.a + self.b))


#: Training compute as nearly everybody counts it.
SIX_ND = PowerCost()


@dataclass(frozen=True)
class MeasuredCost(PowerCost):
    """``C = k N^a D^b`` fitted to the compute that runs logged; make one with `MeasuredCost.of`.

    Attributes:
        error: root mean square of log(fitted / logged): 0.05 is five percent.
        n_runs: runs it was fitted to.
        note: exponents that the runs do not determine, and that were held at 1.
    """

    error: float = field(default=np.nan, compare=False)
    n_runs: int = field(default=0, compare=False)
    note: str = field(default="", compare=False)

    @classmethod
    def of(cls, runs: Any, params: str = "params", tokens: str = "tokens", flops: str = "flops") -> MeasuredCost:
        """Least squares on log FLOP.

        Args:
            runs: a `RunTable`, or anything `workbench.load` takes.
            params, tokens, flops: the columns.

        Raises:
            ValueError: a column is missing, or no run has all three.
        """
        frame = load(runs).good.frame
        for column in (params, tokens, flops):
            if column not in frame:
                raise ValueError(
                    f"a measured cost needs the column {column!r}; this table has {', '.join(frame.columns)}: "
                    "use PowerCost() for C = 6ND"
                )
        values = frame[[params, tokens, flops]].to_numpy(float)
        values = values[(np.isfinite(values) & (values > 0)).all(axis=1)]
        if not len(values):
            raise ValueError(f"no run has positive {params}, {tokens} and {flops}; use PowerCost() for C = 6ND")
        n, d, c = np.log(values).T
        varies = [np.ptp(n) > 0.1, np.ptp(d) > 0.1]
        if all(varies) and len(n) > 3 and abs(np.corrcoef(n, d)[0, 1]) > 0.999:
            varies[1] = False  # parameters and tokens in fixed proportion: only a + b is determined
        held = [name for name, free in zip((params, tokens), varies, strict=True) if not free]
        exponents = np.ones(2)
        basis = np.column_stack([np.ones(len(n)), *(x for x, free in zip((n, d), varies, strict=True) if free)])
        target = c - sum(x for x, free in zip((n, d), varies, strict=True) if not free)
        if len(n) < basis.shape[1]:
            held, varies, basis, target = [params, tokens], [False, False], np.ones((len(n), 1)), c - n - d
        found, *_ = np.linalg.lstsq(basis, target, rcond=None)
        exponents[varies] = found[1:]
        error = float(np.sqrt(np.mean((basis @ found - target) ** 2)))
        note = f"the runs do not determine the exponent of {' or '.join(held)}, held at 1" if held else ""
        return cls(float(np.exp(found[0])), *map(float, exponents), error=error, n_runs=len(n), note=note)


@dataclass(frozen=True)
class InferenceCost(Cost):
    """Training plus use: ``C = training(N, D) + 2 N D_inf``.

    Each generated or read token costs a forward pass, 2N FLOP (Sardana et al. 2023, arXiv 2401.00448), so
    the more a model will be used, the smaller and the longer trained it should be. The budget is then the
    FLOP of both.

    Attributes:
        served: D_inf, tokens that will pass through the model in use.
        train: cost of training, default 6ND.

    Raises:
        ValueError: `served` is negative or no number, or `train` includes inference already.
    """

    served: float
    train: Cost = SIX_ND

    def __post_init__(self) -> None:
        if self.served != 0:
            object.__setattr__(self, "served", _positive(self.served, "served", "(tokens in use), or 0 for none"))
        if not isinstance(self.train, Cost) or isinstance(self.train, InferenceCost):
            raise ValueError(f"train is {self.train!r}; give the cost of training alone, such as PowerCost()")

    @property
    def label(self) -> str:
        """The cost as titles write it."""
        return f"{self.train.label} + 2N·{human(self.served)} tokens served"

    @property
    def training(self) -> Cost:
        """The part spent on training."""
        return self.train

    def __call__(self, params: Any, tokens: Any) -> np.ndarray:
        """FLOP of training `params` parameters on `tokens` tokens, and of serving."""
        return self.train(params, tokens) + 2.0 * np.asarray(params, float) * self.served

    def tokens(self, flops: Any, params: Any) -> np.ndarray:
        """Training tokens that are left to a model of `params` parameters; NaN where serving takes it all."""
        left = np.asarray(flops, float) - 2.0 * np.asarray(params, float) * self.served
        return self.train.tokens(np.where(left > 0, left, np.nan), params)

    def params(self, flops: Any, ratio: Any) -> np.ndarray:
        """Parameters N at which training N on `ratio` N tokens, and serving, cost `flops`."""
        if not (isinstance(self.train, PowerCost) and self.train.a == self.train.b == 1):
            return super().params(flops, ratio)
        # k ratio N^2 + 2 D_inf N = C, by the form that does not cancel where D_inf dominates
        flops, square = np.asarray(flops, float), self.train.k * np.asarray(ratio, float)
        return flops / (self.served + np.sqrt(self.served**2 + square * flops))


def cost_model(cost: Any) -> Cost:
    """`cost` as a `Cost`: None is 6ND, a function of N and D is inverted numerically.

    Raises:
        ValueError: it is neither, or does not rise with N and with D.
    """
    if cost is None:
        return SIX_ND
    if isinstance(cost, Cost):
        return cost
    if callable(cost):
        model = _FunctionCost(cost)
        try:
            seen = [float(cost(*at)) for at in ((1e8, 1e9), (2e8, 1e9), (1e8, 2e9))]
        except Exception as error:
            raise ValueError(f"cost(1e8, 1e9) fails ({error}); give a function of parameters and tokens") from error
        if not (np.isfinite(seen).all() and seen[1] > seen[0] > 0 and seen[2] > seen[0]):
            raise ValueError(f"cost gives {seen[0]:g} FLOP at N = 1e8, D = 1e9; it must rise with N and with D")
        return model
    raise ValueError(f"cost is {cost!r}; give PowerCost, MeasuredCost.of(runs), InferenceCost or a function of N and D")


@dataclass(frozen=True)
class _FunctionCost(Cost):
    function: Any

    @property
    def label(self) -> str:
        return f"C = {getattr(self.function, '__name__', 'cost').strip('<>')}(N, D)"

    def __call__(self, params: Any, tokens: Any) -> np.ndarray:
        return np.asarray(self.function(np.asarray(params, float), np.asarray(tokens, float)), float)


def _bisect(function: Any, goal: np.ndarray, steps: int = 60) -> np.ndarray:
    """Where a rising function of a logarithm reaches `goal`, elementwise."""
    low, high = (np.full(goal.shape, end) for end in _LOG_N)
    for _ in range(steps):
        middle = (low + high) / 2
        with np.errstate(all="ignore"):
            above = function(middle) >= goal
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return (low + high) / 2
