"""A fitted law as one curve along one scale, so that two of them can be held against each other.

A law of one input is its own curve. A law of size and data becomes one along compute by its
compute-optimal frontier, or along any input with the others held.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from workbench.analysis.allocation import AT, allocation
from workbench.fits.fit import fit
from workbench.fits.result import Fit
from workbench.laws.base import Law, get
from workbench.runs.load import load
from workbench.units import FLOPS_PER_PARAM_TOKEN, quantity

__all__ = ["Curve", "curve", "pair", "scale_text", "split_groups"]


@dataclass(frozen=True)
class Curve:
    """A law along one scale.

    Attributes:
        label: what it is called.
        along: column of the scale.
        law: the law.
        columns: input symbol -> column.
        held: column -> value it is held at.
        theta: ``[P]`` estimates.
        fit: where they come from; None for parameters taken from elsewhere, which have no uncertainty.
        span: smallest and largest scale of the fitted runs; NaN where unknown.
    """

    label: str
    along: str
    law: Law
    columns: dict[str, str]
    held: dict[str, float]
    theta: np.ndarray
    fit: Fit | None
    span: tuple[float, float]

    @property
    def frontier(self) -> bool:
        """Whether the value is a minimum over size and data at given compute."""
        return self.along not in self.columns.values()

    @property
    def target(self) -> str:
        """Column the law predicts; ``value`` where nobody said."""
        return "value" if self.fit is None else self.fit.points.target

    def draws(self, n: int, seed: int) -> np.ndarray:
        """Parameter draws ``[n, P]`` in an order of their own, so that two fits are drawn independently.

        Fits of equally many runs resample by the same random numbers; paired row by row their draws would
        share which places were drawn.
        """
        if self.fit is None or not self.fit.problem.free:
            return np.repeat(self.theta[None], n, axis=0)
        drawn = self.fit.joint_draws(n)
        drawn = drawn[np.isfinite(drawn).all(axis=1)]
        if not len(drawn):
            raise ValueError(f"no bootstrap resample of {self.label} has finite parameters; take a smaller law")
        order = np.random.default_rng([self.fit.seed, seed]).permutation(len(drawn))
        return drawn[np.resize(order, n)]

    def values(self, theta: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Value ``[K, G]`` at parameters ``[K, P]`` and scales ``[G]``."""
        scale = np.asarray(scale, dtype=float)
        if not self.frontier:
            given = {c: np.full(scale.shape, v) for c, v in self.held.items()} | {self.along: scale}
            with np.errstate(all="ignore"):
                return self.law.predict(theta, {s: given[c] for s, c in self.columns.items()})
        return np.stack([allocation(self.law, self.columns, theta, budget)[2] for budget in scale], axis=1)

    def noise(self, shape: tuple[int, int], seed: int) -> np.ndarray:
        """Residuals of single runs, inflated for the parameters spent; zero without a fit."""
        if self.fit is None or self.fit.degrees < 1:
            return np.zeros(shape)
        inflated = self.fit.residuals * np.sqrt(self.fit.n_runs / self.fit.degrees)
        weights = self.fit.points.weights / self.fit.points.weights.sum()
        return np.random.default_rng([self.fit.seed, seed]).choice(inflated, size=shape, p=weights)

    def disturbed(self, values: np.ndarray, seed: int) -> np.ndarray:
        """`values` ``[K, G]`` of single runs instead of expected ones."""
        noise = self.noise(values.shape, seed)
        in_logs = self.fit is None or self.fit.problem.objective.in_logs
        return values * np.exp(-noise) if in_logs else values - noise


def curve(
    source: Fit | tuple[Any, Mapping[str, float]],
    along: str | None = None,
    held: Mapping[str, float] | None = None,
    label: str = "A",
) -> Curve:
    """`source` as a curve along one scale.

    Args:
        source: a `Fit`, or a pair of a law and its parameters by symbol, as published.
        along: column of the scale; default the law's input if it has one only, else ``flops``, along which
            size and data are chosen best under C = 6ND.
        held: column -> value for inputs held constant.
        label: what the curve is called.

    Raises:
        ValueError: the law cannot be drawn along this scale, or parameters are missing.
    """
    if isinstance(source, Fit):
        law, theta, columns = source.law, source.theta, dict(source.points.columns)
    else:
        law, theta = _given(source)
        columns = {i.symbol: i.quantity or along or "flops" for i in law.inputs}
        if len(columns) == 1 and along is not None:
            columns = {law.inputs[0].symbol: along}
    held = {c: float(v) for c, v in (held or {}).items()}
    unknown = [c for c in held if c not in columns.values()]
    if unknown:
        raise ValueError(f"held names {unknown[0]!r}; {law.name} here runs over {', '.join(columns.values())}")
    free = [c for c in columns.values() if c not in held]
    along = along or (free[0] if len(free) == 1 else "flops")
    optimal = along == "flops" and len(free) == 2 and not held and set(free) <= set(AT)
    if not (free == [along] or (optimal and "flops" not in free)):
        raise ValueError(
            f"{law.name} over {', '.join(columns.values())} is no curve along {along!r}: go along "
            f"{'flops, its compute-optimal frontier, ' if set(columns.values()) <= set(AT) else 'one input '}"
            f"or hold the other inputs, held={{{(free or ['params'])[0]!r}: ...}}"
        )
    made = Curve(label, along, law, columns, held, np.asarray(theta, dtype=float), None, (np.nan, np.nan))
    if isinstance(source, Fit):
        made = Curve(label, along, law, columns, held, source.theta, source, _span(source, along))
    if made.frontier:
        budget = made.span[1] if np.isfinite(made.span[1]) else 1e21
        if not np.isfinite(allocation(law, columns, made.theta[None], budget)[0][0]):
            raise ValueError(
                f"{law.title} of {label} has no compute optimum: its loss falls to the edge of the search over size "
                "and data; take a law with a trade-off, or hold an input with held="
            )
    return made


def pair(
    a: Any,
    b: Any = None,
    *,
    along: str | None = None,
    held: Mapping[str, float] | None = None,
    by: str | None = None,
    groups: Sequence[Any] | None = None,
    law: str | Law = "power_constant",
    labels: Sequence[str] | None = None,
    **options: Any,
) -> tuple[Curve, Curve]:
    """Two curves: of two fits (or laws with parameters), or of the two groups of one table, each fitted.

    Raises:
        ValueError: neither two fits nor a table with `by`; more than two groups and no choice; curves along
            different scales.
    """
    if by is not None:
        if b is not None:
            raise ValueError("give two fits, or one table of runs with by=, not both")
        parts = split_groups(load(a), by, groups, exactly=2)
        if options.get("x") is None and len(get(law).inputs) == 1 and along is not None:
            options["x"] = along
        sources = {label: fit(part, law, **options) for label, part in parts.items()}
    else:
        if b is None:
            raise ValueError("give two fits to compare, or one table of runs with by= the column that splits it")
        if options:
            raise ValueError(f"{next(iter(options))}= is for runs that are still to be fitted; these are fits already")
        names = list(map(str, labels or ("A", "B")))
        if len(names) != 2 or names[0] == names[1]:
            raise ValueError(f"labels is {labels!r}; give two different names")
        sources = dict(zip(names, (a, b), strict=True))
    first, second = (curve(s, along, held, label) for label, s in sources.items())
    if first.along != second.along:
        raise ValueError(
            f"{first.label} runs along {first.along} and {second.label} along {second.along}; name one with along="
        )
    if first.target != second.target and first.fit is not None and second.fit is not None:
        raise ValueError(f"{first.label} predicts {first.target} and {second.label} {second.target}; fit one quantity")
    return first, second


def split_groups(runs: Any, by: str, groups: Sequence[Any] | None = None, exactly: int | None = None) -> dict[str, Any]:
    """The table of each value of column `by`, in order of the values (or as `groups` lists them).

    Raises:
        ValueError: no such column, fewer than two groups, or not as many as wanted.
    """
    table = load(runs)
    if by not in table:
        raise ValueError(f"there is no column {by!r} to split by; this table has {', '.join(table.frame.columns)}")
    column = table.frame[by]
    there = sorted(column.dropna().unique(), key=lambda v: (str(type(v)), v))
    known = {str(v): v for v in there}
    chosen = [str(g) for g in groups] if groups is not None else list(known)
    missing = [g for g in chosen if g not in known]
    if missing:
        raise ValueError(f"{by!r} has no value {missing[0]!r}; it has {', '.join(list(known)[:12])}")
    if len(set(chosen)) < 2 or (exactly is not None and len(chosen) != exactly):
        wanted = "two" if exactly == 2 else "at least two"
        raise ValueError(
            f"{by!r} gives {len(chosen)} group{'s' if len(chosen) != 1 else ''} ({', '.join(chosen[:12])}) and this "
            f"takes {wanted}; choose with groups=[...]"
        )
    return {g: table.where((column == known[g]).to_numpy(bool)) for g in chosen}


def scale_text(value: float, along: str) -> str:
    """A scale in words: ``3.2e+21 FLOP``, ``1.5e+10 training tokens``."""
    q = quantity(along)
    unit = q.unit or (q.meaning.lower() if along != q.meaning else along)
    return f"{value:.3g} {unit}".replace("e+", "e")


def _given(source: Any) -> tuple[Law, np.ndarray]:
    try:
        name, parameters = source
        parameters = dict(parameters)
    except (TypeError, ValueError):
        raise ValueError(
            f"got {type(source).__name__}; give a Fit, or a law with its parameters such as ('power', {{'A': 10, "
            "'alpha': 0.05})"
        ) from None
    law = get(name)
    extra = [s for s in parameters if s not in law.symbols]
    missing = [s for s in law.symbols if s not in parameters]
    if extra or missing:
        raise ValueError(f"{law.name} takes {', '.join(law.symbols)}; got {', '.join(map(str, parameters)) or 'none'}")
    return law, np.array([float(parameters[s]) for s in law.symbols])


def _span(fitted: Fit, along: str) -> tuple[float, float]:
    by_column = {c: fitted.points.x[s] for s, c in fitted.points.columns.items()}
    if along in by_column:
        values = by_column[along]
    elif along in fitted.points.frame and pd.api.types.is_numeric_dtype(fitted.points.frame[along]):
        values = fitted.points.frame[along].to_numpy(float)
    else:
        size = next((v for c, v in by_column.items() if c.startswith("params")), np.nan)
        values = FLOPS_PER_PARAM_TOKEN * size * by_column.get("tokens", np.nan)
    values = np.asarray(values, dtype=float)
    values = values[np.isfinite(values) & (values > 0)]
    return (float(values.min()), float(values.max())) if values.size else (np.nan, np.nan)
