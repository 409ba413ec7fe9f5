"""Every analysis around one fit, fitted once and asked as often as one likes.

Analyses that share their points and their tied and fixed parameters are a family and are fitted together, since
neighbours help each other to their optima. A family is fitted whole or not at all, so that an answer never
depends on which of its neighbours somebody looks at.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from workbench.analysis.batch import draws
from workbench.analysis.choices import DIMENSIONS, Choice, Specification, offered
from workbench.analysis.conclusions import ask
from workbench.analysis.families import Family, Found, families, fit_family, points_of
from workbench.analysis.verses import Multiverse
from workbench.fits.points import Points
from workbench.fits.result import Fit

__all__ = ["ORDINARY", "Analyses", "dimensions_of"]

#: Resamples behind the ordinary interval of the default analysis.
ORDINARY = 400
#: Most analyses made without being asked twice.
MOST = 20_000


class Analyses:
    """All combinations of choices around one fit.

    Args:
        base: the fit that the default analysis is.
        choices, drop: as in `workbench.multiverse`.

    Attributes:
        base: the fit.
        dimensions: dimension -> its choices, the default one first.
        skipped: dimension -> why it is not varied.
        specs: every combination, the default one first.

    Raises:
        ValueError: bad choices, or more than 20 000 combinations.
    """

    def __init__(
        self,
        base: Fit,
        choices: Iterable[Choice] | Mapping[str, Iterable[Choice]] = (),
        drop: str | Iterable[str] = (),
    ) -> None:
        self.base = base
        self.dimensions, self.skipped = dimensions_of(base, choices, drop)
        size = int(np.prod([len(c) for c in self.dimensions.values()]))
        if size > MOST:
            raise ValueError(
                f"{' x '.join(str(len(c)) for c in self.dimensions.values())} choices make {size} analyses, more than "
                f"{MOST}; drop dimensions or options"
            )
        self.specs = tuple(Specification(c) for c in itertools.product(*self.dimensions.values()))
        self._families = families(base, self.specs)
        self._found: dict[Family, Found] = {}
        self._draws: dict[tuple[int, int], np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.specs)

    @property
    def options(self) -> dict[str, tuple[str, ...]]:
        """Dimension -> names of its options, the default one first."""
        return {d: tuple(c.option for c in choices) for d, choices in self.dimensions.items()}

    def rows(self, keep: Mapping[str, Sequence[str]] | None = None) -> list[int]:
        """Places of the analyses that take only the options of `keep`, in the order of `specs`.

        Args:
            keep: dimension -> options; a dimension that is not named keeps all.

        Raises:
            ValueError: a dimension or an option that is not offered, or a dimension left without any.
        """
        offers = self.options
        for dimension, wanted in (keep or {}).items():
            if dimension not in offers:
                raise ValueError(f"there is no dimension {dimension!r} to keep; there are {', '.join(offers)}")
            unknown = [o for o in wanted if o not in offers[dimension]]
            if unknown or not len(wanted):
                named = f"{unknown[0]!r} is not offered" if unknown else "none is kept"
                raise ValueError(f"{dimension}: {named}; keep at least one of {', '.join(offers[dimension])}")
        kept = {d: set(o) for d, o in (keep or {}).items()}
        return [
            i for i, s in enumerate(self.specs)
            if all(c.option in kept[c.dimension] for c in s.choices if c.dimension in kept)
        ]  # fmt: skip

    def missing(self, keep: Mapping[str, Sequence[str]] | None = None) -> int:
        """How many analyses are still to be fitted before `keep` can be asked."""
        return sum(len(self._families[f]) for f in self._unfitted(self.rows(keep)))

    def fit(
        self,
        keep: Mapping[str, Sequence[str]] | None = None,
        tick: Callable[[float, str], None] | None = None,
    ) -> Analyses:
        """Fit what `keep` needs and is not fitted yet.

        Args:
            keep: as in `rows`.
            tick: called with the fraction done and what is being done; may raise to cancel. Families that
                were finished by then stay.
        """
        say = tick or (lambda fraction, what: None)
        families = self._unfitted(self.rows(keep))
        points = {family: self._gathered(family) for family in families}
        sizes = np.array([len(p) if isinstance(p, Points) else 0 for p in points.values()], dtype=float) + 1.0
        ends = np.concatenate([[0.0], np.cumsum(sizes) / sizes.sum()]) if len(sizes) else np.zeros(1)
        for k, (family, own) in enumerate(points.items()):

            def part(fraction: float, k: int = k) -> None:
                say(float(ends[k] + (ends[k + 1] - ends[k]) * fraction), "fitting")

            part(0.0)
            self._found[family] = fit_family(self.base, self.specs, self._families[family], family, own, part)
        say(1.0, "done")
        return self

    def ask(
        self,
        question: Any = None,
        *,
        keep: Mapping[str, Sequence[str]] | None = None,
        n: int = 0,
        level: float = 0.95,
        tick: Callable[[float, str], None] | None = None,
        **at: float,
    ) -> Multiverse:
        """The answer of every analysis of `keep`; those that are not fitted yet are fitted first.

        Asking again costs milliseconds, as long as `n` is 0.

        Args:
            question, n, level, at: as in `workbench.multiverse`.
            keep: as in `rows`. Where the default option of a dimension is not kept, the first one that is
                takes its place, and the default analysis is the one made of those.
            tick: as in `fit`.

        Raises:
            ValueError: a bad question or level, a number of resamples that is none, or what `rows` refuses.
        """
        if not isinstance(n, int | np.integer) or isinstance(n, bool) or n < 0 or n == 1:
            raise ValueError(f"n is {n!r}; the number of resamples is 0 for none, or a whole number of at least 2")
        if not 0 < level < 1:
            raise ValueError(f"level is {level!r}; a nominal coverage lies between 0 and 1, such as 0.95")
        asked = ask(question, self.base, **at)
        chosen = self.rows(keep)
        self.fit(keep, tick)
        say = tick or (lambda fraction, what: None)
        place = {i: row for row, i in enumerate(chosen)}
        size, width = len(chosen), len(self.base.law.parameters)
        estimate, low, high, value = (np.full(size, np.nan) for _ in range(4))
        n_runs, notes, theta = np.zeros(size, dtype=int), [""] * size, np.full((size, width), np.nan)
        families = [f for f, members in self._families.items() if not place.keys().isdisjoint(members)]
        for done, family in enumerate(families):
            found = self._found[family]
            here = [k for k, i in enumerate(found.members) if i in place]
            rows = [place[found.members[k]] for k in here]
            theta[rows], value[rows], n_runs[rows] = found.theta[here], found.value[here], found.n_runs[here]
            fitted = [k for k in here if np.isfinite(found.value[k])]
            if fitted:
                own = [place[found.members[k]] for k in fitted]
                estimate[own] = asked.answer(self.base.law, found.points.columns, found.theta[fitted])
            for k, row in zip(here, rows, strict=True):
                unanswered = np.isfinite(value[row]) and not np.isfinite(estimate[row])
                notes[row] = found.notes[k] or ("no answer: this law has no optimum there" if unanswered else "")
            for k, ends in self._ends(asked, family, found, fitted, chosen[0], n, level):
                low[place[found.members[k]]], high[place[found.members[k]]] = ends
            if n:
                say((done + 1) / len(families), "resampling")
        frame = pd.DataFrame([self.specs[i].options for i in chosen])
        frame = frame.assign(estimate=estimate, low=low, high=high, objective_value=value, n_runs=n_runs, note=notes)
        frame["default"] = np.arange(size) == 0
        frame["counted"] = np.isfinite(frame["estimate"]) & (frame["note"] == "")
        specs = tuple(self.specs[i] for i in chosen)
        kept = {d: tuple(o for o in options if o in set((keep or {}).get(d, options)))
                for d, options in self.options.items()}  # fmt: skip
        return Multiverse(frame, asked, specs, kept, self.skipped, self.base, int(n), float(level), theta)

    def _unfitted(self, rows: Sequence[int]) -> list[Family]:
        wanted = set(rows)
        return [f for f, members in self._families.items() if f not in self._found and not wanted.isdisjoint(members)]

    def _gathered(self, family: Family) -> Points | str:
        try:
            return points_of(self.base, family)
        except ValueError as reason:
            return str(reason)

    def _ends(self, asked, family, found, fitted, default, n, level):
        """Percentile intervals of the answers; of the default analysis even where no other has any."""
        tail = 50 * (1 - level)
        groups: dict[tuple, list[int]] = {}
        for k in fitted:
            alone = found.members[k] == default
            if alone or n:
                groups.setdefault((found.row[k], found.objective[k].in_logs, alone), []).append(k)
        for (row, _, alone), ks in groups.items():
            resamples = max(n, ORDINARY) if alone else n
            drawn = self._drawn(found, row, ks, resamples, default if alone else None)
            width = drawn.shape[-1]
            answers = asked.answer(self.base.law, found.points.columns, drawn.reshape(-1, width)).reshape(len(ks), -1)
            for k, values in zip(ks, answers, strict=True):
                # A resample without an answer is one more way to be unsure: it is counted out, not as a number.
                values = values[np.isfinite(values)]
                if values.size >= 0.5 * resamples:
                    yield k, tuple(float(v) for v in np.percentile(values, [tail, 100 - tail]))

    def _drawn(self, found: Found, row: int, ks: list[int], n: int, default: int | None) -> np.ndarray:
        """Bootstrap draws ``[len(ks), n, P]``; those of the default analysis are kept for the next question."""
        if default is not None and (default, n) in self._draws:
            return self._draws[default, n]
        drawn = draws(found.problem, found.weights[row], [found.objective[k] for k in ks], found.theta[ks],
                      found.points.cluster, n, self.base.seed)  # fmt: skip
        if default is not None:
            self._draws[default, n] = drawn
        return drawn


def dimensions_of(base: Fit, choices, drop) -> tuple[dict[str, tuple[Choice, ...]], dict[str, str]]:
    """Dimensions with their options, the default one first, and why others are not varied; see `multiverse`."""
    given = [c for part in choices.values() for c in part] if isinstance(choices, Mapping) else list(choices)
    if not all(isinstance(c, Choice) for c in given):
        raise ValueError("choices are given as Choice objects, e.g. Choice('subset', 'small', keep='params < 1e9')")
    dimensions, skipped = offered(base)
    for dimension in dict.fromkeys(c.dimension for c in given):
        own = tuple(c for c in given if c.dimension == dimension)
        if len({c.option for c in own}) < len(own):
            raise ValueError(f"two options of {dimension!r} have the same name; name each option once")
        dimensions[dimension] = own
        skipped.pop(dimension, None)
    drop = [drop] if isinstance(drop, str) else list(drop)
    for name in drop:
        if name not in dimensions and name not in DIMENSIONS:
            raise ValueError(f"there is no dimension {name!r} to drop; there are {', '.join(dimensions)}")
        if name in dimensions:
            dimensions[name] = dimensions[name][:1]
            skipped[name] = "dropped by request"
    reserved = {"estimate", "low", "high", "objective_value", "n_runs", "note", "default", "counted"} & set(dimensions)
    if reserved:
        raise ValueError(f"{reserved.pop()!r} is a column of the result; call the dimension otherwise")
    return {d: c for d, c in dimensions.items() if len(c) > 1 or d not in skipped}, skipped
