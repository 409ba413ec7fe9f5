"""The multiverse of a crossing: at what scale one recipe overtakes another, under every defensible analysis."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from workbench.analysis.allocation import allocation
from workbench.analysis.along import split_groups
from workbench.analysis.choices import Choice, offered
from workbench.analysis.conclusions import Question
from workbench.analysis.multiverse import around, dimensions_of
from workbench.analysis.verses import Multiverse
from workbench.fits.fit import fit
from workbench.fits.result import Fit
from workbench.laws.base import Law
from workbench.units import FLOPS_PER_PARAM_TOKEN, quantity

__all__ = ["CrossingMultiverse", "crossings"]

#: How far beyond the runs a crossing is looked for, and how finely.
BEYOND, POINTS = 1e3, 400
#: Budgets a frontier is computed at; between them the loss is interpolated in logarithms.
BUDGETS = 60


@dataclass(frozen=True, repr=False)
class CrossingMultiverse(Multiverse):
    """A `Multiverse` of the scale at which two groups' laws cross.

    Attributes:
        parts: the multiverse of each group, whose ``estimate`` only numbers the fits.
    """

    parts: tuple[Multiverse, Multiverse] = field(default=())

    def refit(self, row: int) -> tuple[Fit, Fit]:
        """The two fits of one analysis, done again from scratch."""
        names = list(self.dimensions)
        wanted = self.frame[names].iloc[row]
        return tuple(part.refit(int((part.frame[names] == wanted).all(axis=1).argmax())) for part in self.parts)


def crossings(
    runs: Any,
    law: str | Law,
    by: str,
    groups: Sequence[Any] | None = None,
    *,
    choices: Iterable[Choice] | Mapping[str, Iterable[Choice]] = (),
    drop: str | Iterable[str] = (),
    n: int = 400,
    level: float = 0.95,
    seed: int = 0,
    tick: Callable[[float, str], None] | None = None,
    options: Mapping[str, Any] | None = None,
) -> CrossingMultiverse:
    """Where the fitted laws of two groups cross, for every analysis made alike of both.

    The choices are those the two groups offer together, so that a filter or an outlier rule means the same
    for both. A law of one input is compared along it, a law of size and data along its compute-optimal
    frontier under C = 6ND. Where the curves cross more than once the last crossing counts.

    Args:
        runs, law, choices, drop, level, seed, tick, options: as in `multiverse`.
        by: column that tells the groups apart.
        groups: its two values; may be left out if there are no others.
        n: bootstrap resamples behind the interval of the default analysis.

    Raises:
        ValueError: not two groups, or a law that cannot be laid along one scale.
    """
    tables = split_groups(runs, by, groups, exactly=2)
    fits = [fit(table, law, seed=seed, **(options or {})) for table in tables.values()]
    both = fit(pd.concat([t.frame.drop(columns="problem") for t in tables.values()]), law, seed=seed, **(options or {}))
    shared, skipped = dimensions_of(both, choices, drop)
    own = [choice for offers in shared.values() for choice in offers]
    named = set(shared)
    say = tick or (lambda fraction, what: None)
    parts, thetas = [], []
    for i, fitted in enumerate(fits):
        store = _Store()
        unwanted = [d for d in offered(fitted)[0] if d not in named]
        found = around(
            fitted, Question("fits", store), choices=own, drop=unwanted,
            tick=lambda f, what, i=i: say((i + f) / 2, what),
        )  # fmt: skip
        parts.append(found)
        thetas.append(store)
    dimensions = {d: o for d, o in parts[0].dimensions.items() if d in named}
    names = list(dimensions)
    other = {tuple(row[d] for d in names): row for _, row in parts[1].frame.iterrows()}
    place = _Place(fits)
    rows = []
    for _, row in parts[0].frame.iterrows():
        mate = other.get(tuple(row[d] for d in names))
        rows.append({d: row[d] for d in names} | _one(place, thetas, row, mate))
    frame = pd.DataFrame(rows)
    drawn = [f.joint_draws(n) for f in fits]
    # Fits of equally many runs draw by the same random numbers; in another order they are independent.
    drawn[1] = np.random.default_rng([seed, 41]).permutation(drawn[1])
    values = place.crossing(*drawn)
    values = values[np.isfinite(values)]
    if values.size >= 0.5 * n:
        tail = 50 * (1 - level)
        frame.loc[0, ["low", "high"]] = np.percentile(values, [tail, 100 - tail])
    frame["default"] = np.arange(len(frame)) == 0
    frame["counted"] = np.isfinite(frame["estimate"]) & (frame["note"] == "")
    first, second = tables
    asked = Question(f"the {quantity(place.along).meaning.lower()} at which {first} and {second} cross", place.answer)
    return CrossingMultiverse(frame, asked, parts[0].specs, dimensions, skipped, fits[0], 0, float(level),
                              parts=tuple(parts))  # fmt: skip


class _Store:
    """A question that answers with the number of the fit and remembers its parameters."""

    def __init__(self) -> None:
        self.theta: list[np.ndarray] = []

    def __call__(self, law: Law, columns: Mapping[str, str], theta: np.ndarray) -> np.ndarray:
        first = len(self.theta)
        self.theta.extend(np.array(theta))
        return np.arange(first, len(self.theta), dtype=float)


class _Place:
    """The scale along which two fits are compared."""

    def __init__(self, fits: Sequence[Fit]) -> None:
        self.law, columns = fits[0].law, fits[0].points.columns
        self.columns = columns
        one = len(columns) == 1
        self.along = next(iter(columns.values())) if one else "flops"
        spans = []
        for fitted in fits:
            if one:
                spans.append(next(iter(fitted.points.x.values())))
            else:
                try:
                    size = next(fitted.points.x[s] for s, c in columns.items() if c.startswith("params"))
                    data = next(fitted.points.x[s] for s, c in columns.items() if c == "tokens")
                except StopIteration:
                    raise ValueError(
                        f"{self.law.name} over {', '.join(columns.values())} cannot be laid along one scale; "
                        "take a law of one input, or of params and tokens"
                    ) from None
                spans.append(FLOPS_PER_PARAM_TOKEN * size * data)
        low, high = min(s.min() for s in spans), max(s.max() for s in spans)
        self.grid = np.geomspace(low, high * BEYOND, POINTS)

    def values(self, theta: np.ndarray) -> np.ndarray:
        """Loss ``[K, G]`` of each parameter vector along the grid."""
        if len(self.columns) == 1:
            with np.errstate(all="ignore"):
                return self.law.formula(self.grid, *(theta[:, j, None] for j in range(theta.shape[1])))
        budgets = np.geomspace(self.grid[0], self.grid[-1], BUDGETS)
        at = np.stack([allocation(self.law, self.columns, theta, b)[2] for b in budgets], axis=1)
        return np.array([np.interp(np.log(self.grid), np.log(budgets), row) for row in at])

    def crossing(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Last crossing ``[K]`` of the curves of ``[K, P]`` and ``[K, P]``; NaN where there is none."""
        gap = self.values(a) - self.values(b)
        change = np.sign(gap[:, 1:]) * np.sign(gap[:, :-1]) < 0
        last = change.shape[1] - 1 - np.argmax(change[:, ::-1], axis=1)
        k = np.arange(len(gap))
        left, right = gap[k, last], gap[k, last + 1]
        log = np.log(self.grid)
        with np.errstate(all="ignore"):
            at = np.exp(log[last] + (log[last + 1] - log[last]) * left / (left - right))
        return np.where(change.any(axis=1), at, np.nan)

    def answer(self, law: Law, columns: Mapping[str, str], theta: np.ndarray) -> np.ndarray:
        raise ValueError("a crossing is a question to two groups of runs; ask it with by= and groups=")


def _one(place: _Place, stores: Sequence[_Store], row: pd.Series, mate: pd.Series | None) -> dict[str, Any]:
    out = {"estimate": np.nan, "low": np.nan, "high": np.nan, "objective_value": np.nan}
    if mate is None:
        return out | {"n_runs": int(row["n_runs"]), "note": "the second group offers no such analysis"}
    out |= {"n_runs": int(row["n_runs"] + mate["n_runs"])}
    note = "; ".join(dict.fromkeys(x["note"] for x in (row, mate) if x["note"]))
    if note or not (np.isfinite(row["estimate"]) and np.isfinite(mate["estimate"])):
        return out | {"note": note or "one of the two could not be fitted"}
    pair = [store.theta[int(x["estimate"])][None] for store, x in zip(stores, (row, mate), strict=True)]
    at = float(place.crossing(*pair)[0])
    none = f"they do not cross up to {BEYOND:g} times the largest run"
    return out | {"estimate": at, "objective_value": float(row["objective_value"] + mate["objective_value"]),
                  "note": "" if np.isfinite(at) else none}  # fmt: skip
