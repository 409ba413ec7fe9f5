"""What a scaling law is: a formula with named inputs, named parameters and a reference.

A law is mathematics only. Its `formula` is written with plain numpy operations on one input array and
one scalar per parameter; the workbench calls it with whole batches of parameter vectors and
differentiates it (`workbench.engine.dual`), so an author writes neither loops nor gradients.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np

from workbench.late import late

__all__ = ["FAMILIES", "Input", "Law", "Parameter", "get", "names", "positive_least_squares"]


#: Families of laws in reading order; each is a folder.
FAMILIES = ("scale", "data", "schedules", "hyperparameters", "architecture", "tasks", "shapes")


@dataclass(frozen=True)
class Input:
    """One argument of the formula.

    Attributes:
        symbol: its name in `Law.formula`, e.g. ``N``.
        quantity: the canonical column it is taken from, e.g. ``params``; None where any scale will do
            (the person fitting says which, with ``x=``).
        zero: whether the value 0 means something, as for mantissa bits or generations; every other input
            must be positive.
    """

    symbol: str
    quantity: str | None = None
    zero: bool = False


@dataclass(frozen=True)
class Parameter:
    """One free parameter of a law.

    Attributes:
        symbol: its name in `Law.formula`, e.g. ``alpha``.
        meaning: what it stands for, in a few words.
        unit: its unit; ``loss`` stands for the unit of the fitted column, ``x`` for that of the input.
        low, high: bounds. A parameter with ``low >= 0`` is fitted in log space, where the many decades
            of a prefactor are one short walk.
        start: range the starting points are drawn from.
        of: symbol of an input; `start` then multiplies that input's smallest and largest value.
    """

    symbol: str
    meaning: str
    unit: str = ""
    low: float = 0.0
    high: float = np.inf
    start: tuple[float, float] = (0.05, 1.5)
    of: str | None = None

    @property
    def log(self) -> bool:
        """Whether the fit moves the logarithm of this parameter."""
        return self.low >= 0


class Law:
    """Base class of every law. Subclasses in `workbench.laws` register themselves under `name`.

    A subclass states the class attributes below and `formula`; `guess` only where a default start is
    not good enough. `workbench.testing.LawContract` holds every law to the same promises.

    Attributes:
        name: key in the registry and on the command line, e.g. ``chinchilla``.
        title: what people call it.
        inputs: arguments of the formula, in order.
        parameters: free parameters, in order.
        linear: symbols in which the formula is linear when the others are held; starting values for
            them are solved for instead of drawn.
        trend: ``falls`` or ``rises`` if the law does so as all its inputs grow together, else empty.
        floor: symbol of the parameter the law tends to as every input grows; None if a falling law tends
            to 0, or if there is no such limit.
        cost: numbers computed for one point, where that is more than a few; batches shrink accordingly.
        latex: the formula.
        reference: paper and equation.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    inputs: ClassVar[tuple[Input, ...]]
    parameters: ClassVar[tuple[Parameter, ...]]
    linear: ClassVar[tuple[str, ...]] = ()
    trend: ClassVar[str] = "falls"
    floor: ClassVar[str | None] = None
    cost: ClassVar[int] = 1
    latex: ClassVar[str]
    reference: ClassVar[str]

    explore = late("workbench.panels.explorer:panel", "A panel with a slider for each parameter of the law.")

    _registry: ClassVar[dict[str, type[Law]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" in cls.__dict__:
            taken = Law._registry.get(cls.name)
            if taken is not None and (taken.__module__, taken.__qualname__) != (cls.__module__, cls.__qualname__):
                raise ValueError(
                    f"two laws are called {cls.name!r}: {taken.__module__} and {cls.__module__}; rename one"
                )
            Law._registry[cls.name] = cls

    @staticmethod
    def formula(*args):
        """The law itself: inputs, then parameters, in the declared order; numpy operations only."""
        raise TypeError("a law needs a formula; see CONTRIBUTING.md for a ten-line example")

    @property
    def family(self) -> str:
        """The family of the law, which is the folder its file lies in; ``other`` outside this package."""
        path = type(self).__module__.split(".")
        return path[2] if path[:2] == ["workbench", "laws"] and len(path) > 3 else "other"

    @property
    def symbols(self) -> tuple[str, ...]:
        """The parameters' symbols, in order."""
        return tuple(p.symbol for p in self.parameters)

    def predict(self, theta: Any, x: Mapping[str, Any]) -> Any:
        """Value of the law.

        Args:
            theta: parameter values ``[..., P]``, or a mapping from symbol to value.
            x: input symbol -> values ``[n]`` (or a number).

        Returns:
            Predictions ``[..., n]``, in the unit of the fitted column.

        Raises:
            KeyError: an input or parameter is missing; the message lists what the law takes.
        """
        if isinstance(theta, Mapping):
            theta = np.array([_take(theta, s, self, "parameter") for s in self.symbols], dtype=float)
        theta = np.asarray(theta, dtype=float)
        if theta.shape[-1:] != (len(self.parameters),):
            raise ValueError(
                f"{self.name} takes {len(self.parameters)} parameters ({', '.join(self.symbols)}) "
                f"on the last axis, got shape {theta.shape}"
            )
        columns = [np.asarray(_take(x, i.symbol, self, "input"), dtype=float) for i in self.inputs]
        # [..., P] against [n]: one trailing axis on each parameter broadcasts over the points
        return self.formula(*columns, *(theta[..., j, None] for j in range(theta.shape[-1])))

    def parts(self, theta: Any, x: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The additive terms of the law, such as floor, size and data; they add up to `predict`.

        They are read off the formula. A law whose formula does not show them as a reader would name them
        defines this method itself.

        Args:
            theta: parameter values ``[P]``, or a mapping from symbol to value.
            x: input symbol -> values ``[n]``.

        Returns:
            How a term reads, such as ``A·N^−α`` -> its values ``[n]``.
        """
        from workbench.laws.expression import additive

        return additive(self, theta, x)

    def guess(self, x: Mapping[str, np.ndarray], y: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
        """`n` starting points for a fit to `y`.

        The non-linear parameters are drawn log-uniformly from their `start` ranges; the `linear` ones
        are then the least-squares answer to relative errors, pushed into their bounds (variable
        projection: Golub and Pereyra 1973, doi 10.1137/0710036).

        Args:
            x: input symbol -> values ``[m]``.
            y: observed values ``[m]``, positive.
            n: number of starting points.
            rng: source of randomness.

        Returns:
            ``[n, P]`` parameter vectors within bounds.
        """
        theta = np.empty((n, len(self.parameters)))
        for j, parameter in enumerate(self.parameters):
            low, high = parameter.start
            if parameter.of is not None:
                low, high = low * x[parameter.of].min(), high * x[parameter.of].max()
            drawn = rng.random(n)
            theta[:, j] = low * (high / low) ** drawn if low > 0 else low + (high - low) * drawn
        if self.linear:
            columns = [self.symbols.index(s) for s in self.linear]
            basis = np.empty((n, len(columns), y.size))
            # An accuracy of exactly 0 has no relative error; it counts like the smallest value there is.
            sizes = np.abs(y[y != 0])
            scale = np.where(y == 0, sizes.min() if sizes.size else 1.0, y)
            for k, j in enumerate(columns):
                unit = theta.copy()
                unit[:, columns] = 0.0
                unit[:, j] = 1.0
                basis[:, k] = self.predict(unit, x) / scale
            theta[:, columns] = positive_least_squares(basis)
        return self.clip(theta)

    def clip(self, theta: np.ndarray) -> np.ndarray:
        """`theta` ``[..., P]`` pushed into the parameters' bounds, in place of NaN and infinities too."""
        low = np.array([p.low if p.low > 0 or not p.log else TINY for p in self.parameters])
        high = np.array([min(p.high, HUGE) for p in self.parameters])
        return np.clip(np.nan_to_num(theta, nan=1.0), low, high)

    def to_dict(self) -> dict[str, Any]:
        """The law as strict JSON types; a bound that is infinite is None."""
        return {
            "name": self.name,
            "family": self.family,
            "title": self.title,
            "formula": self.latex,
            "inputs": [{"symbol": i.symbol, "quantity": i.quantity} for i in self.inputs],
            "parameters": [
                {
                    "symbol": p.symbol,
                    "meaning": p.meaning,
                    "low": p.low if np.isfinite(p.low) else None,
                    "high": p.high if np.isfinite(p.high) else None,
                }
                for p in self.parameters
            ],
            "reference": self.reference,
        }

    def _repr_html_(self) -> str:
        return f"<b>{self.title}</b> (<code>{self.name}</code>): $ {self.latex} $<br><small>{self.reference}</small>"

    def __repr__(self) -> str:
        return f"<law {self.name}: {self.latex}>"


#: Bounds of a fitted value in log space; beyond them a parameter has left the data.
TINY, HUGE = 1e-30, 1e60


def positive_least_squares(basis: np.ndarray) -> np.ndarray:
    """Least squares of ``sum_k c_k basis[:, k] = 1`` for every row of the batch; negatives refitted away.

    Args:
        basis: ``[n, K, m]``.

    Returns:
        ``[n, K]``, each entry positive.
    """
    n, k, _ = basis.shape
    active = np.ones((n, k), dtype=bool)
    coefficients = np.zeros((n, k))
    with np.errstate(all="ignore"):
        for _ in range(k):
            masked = np.where(active[:, :, None], basis, 0.0)
            size = np.sqrt((masked**2).sum(-1))
            scaled = masked / np.where(size > 0, size, 1.0)[:, :, None]
            gram = scaled @ scaled.transpose(0, 2, 1) + 1e-10 * np.eye(k)
            solved = np.linalg.solve(np.nan_to_num(gram), np.nan_to_num(scaled.sum(-1))[..., None])[..., 0]
            coefficients = np.where(active, solved / np.where(size > 0, size, 1.0), 0.0)
            if (coefficients >= 0).all():
                break
            active &= coefficients > 0
    # A coefficient that wants to be negative starts as a hundredth of the prediction, so that the
    # logarithmic walk can bring it back.
    level = 0.01 / np.maximum(np.abs(basis).mean(-1), 1e-300)
    return np.where(coefficients > 0, coefficients, level)


def _take(mapping: Mapping[str, Any], symbol: str, law: Law, what: str) -> Any:
    try:
        return mapping[symbol]
    except KeyError:
        allowed = ", ".join(law.symbols if what == "parameter" else [i.symbol for i in law.inputs])
        raise KeyError(f"{law.name} needs the {what} {symbol!r}; it takes {allowed}") from None


@cache
def _load_all() -> None:
    """Import every module of this package and its families once, so that their laws register."""
    import workbench.laws as package

    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)


def names() -> list[str]:
    """Names of all laws, in alphabetical order."""
    _load_all()
    return sorted(Law._registry)


def get(law: str | Law | type[Law]) -> Law:
    """The law called `law` (a `Law` or its class passes through).

    Raises:
        ValueError: no law has this name; the nearest one is suggested.
        TypeError: `law` is neither a name nor a law.
    """
    if isinstance(law, Law):
        return law
    if isinstance(law, type) and issubclass(law, Law):
        return law()
    if not isinstance(law, str):
        raise TypeError(
            f"a law is given by name or as a Law, got {type(law).__name__}; `workbench laws` lists the names"
        )
    _load_all()
    key = law.strip().lower().replace("-", "_").replace(" ", "_")
    if key not in Law._registry:
        near = difflib.get_close_matches(key, Law._registry, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise ValueError(f"no law is called {law!r}; {hint}`workbench laws` lists all {len(Law._registry)} of them")
    return Law._registry[key]()
