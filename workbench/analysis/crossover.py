"""`crossover`: at which scale one recipe overtakes another, and how sure that is."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from workbench.analysis.along import Curve, pair, scale_text
from workbench.analysis.outcome import Outcome, probable, rounded, strict
from workbench.fits.result import RESAMPLES
from workbench.late import late
from workbench.laws.base import Law

__all__ = ["KINDS", "Crossover", "crossover"]

#: What is compared: expected values, or one run of each.
KINDS = ("curve", "run")
#: How many times the largest run of either the search for a crossing goes when nobody says.
REACH = 10.0
#: Scales the curves are evaluated at: many where that is a formula, fewer where each is a minimisation.
_GRID, _FRONTIER_GRID = 241, 49


@dataclass(frozen=True, repr=False)
class Crossover(Outcome):
    """Where two laws cross.

    Attributes:
        frame: one row a scale: the scale, ``a`` and ``b`` (expected values) each with ``_low`` and ``_high``,
            ``probability`` that A is better in expectation, ``probability_run`` that one run of A beats one
            of B, ``extrapolation`` (scale over the largest run of the series that ends first).
        a, b: the curves; ``a.label`` and ``b.label`` name them.
        at: scale at which the fitted curves cross, NaN if they do not within `between`.
        value: the value there.
        low, high: interval of `at`. A resample without a crossing counts as one beyond the end at which it
            has its curves still in the order of the other end, so an end may be infinite (``-inf`` is
            printed as "below").
        crossings: every crossing of the fitted curves within `between`.
        never: share of resamples without a crossing within `between`; `always_a` and `always_b` split it by
            who is better throughout.
        first: label of the better one at the small end, as fitted.
        between: the scales searched.
        extrapolation: `at` over the largest run of the series that ends first; NaN where unknown.
        level: nominal coverage.
        n: resamples.
        better: ``lower`` or ``higher``.
    """

    frame: pd.DataFrame
    a: Curve
    b: Curve
    at: float
    value: float
    low: float
    high: float
    crossings: tuple[float, ...]
    never: float
    always_a: float
    always_b: float
    first: str
    between: tuple[float, float]
    extrapolation: float
    level: float
    n: int
    better: str
    seed: int = 0
    _cache: dict = field(default_factory=dict, repr=False, compare=False)

    plot = late("workbench.figures.crossover:crossover", "Both curves, where they cross, and the probability beneath.")

    def probability(self, at: Any, kind: str = "curve") -> Any:
        """Probability that A is better than B at scale `at`.

        Args:
            at: one scale or several, in the unit of the column `a.along`.
            kind: ``curve``: the expected value of A is better; ``run``: a single run of A beats a single
                run of B, the noise of both included.

        Returns:
            A number, or an array of the shape of `at`. Shares of `n` draws, so never closer to 0 or 1 than
            about ``1 / n`` can tell.
        """
        if kind not in KINDS:
            raise ValueError(f"no probability is of kind {kind!r}; choose {' or '.join(map(repr, KINDS))}")
        try:
            scale = np.atleast_1d(np.asarray(at, dtype=float))
        except (TypeError, ValueError):
            scale = np.array([np.nan])
        if not (np.isfinite(scale).all() and (scale > 0).all()):
            raise ValueError(f"at is {at!r}; give one or several positive scales ({self.a.along})")
        values = [c.values(d, scale.ravel()) for c, d in zip((self.a, self.b), self._draws(), strict=True)]
        share = _share(*values, self, kind).reshape(scale.shape)
        return float(share[0]) if np.ndim(at) == 0 else share

    @property
    def verdict(self) -> str:
        """One sentence: who overtakes whom, where, how sure, and how far beyond the data."""
        a, b, along = self.a.label, self.b.label, self.a.along
        span = f"between {scale_text(self.between[0], along)} and {scale_text(self.between[1], along)}"
        fixed = self.a.fit is None and self.b.fit is None
        missed = "" if fixed else f"; the probability that they never cross {span} is {self._probable(self.never)}"
        if not self.crossings:
            if not self.first:
                return f"The curves of {a} and {b} are the same {span}."
            crossing = "" if fixed else f"; the probability that they do cross is {self._probable(1 - self.never)}"
            return f"{self.first} is better than {b if self.first == a else a} everywhere {span}{crossing}."
        later = b if self.first == a else a
        where = scale_text(self.at, along)
        interval = "" if fixed else f" ({self.level:.0%} interval {self._end(self.low)} to {self._end(self.high)})"
        if len(self.crossings) > 1:
            places = ", ".join(f"{c:.3g}".replace("e+", "e") for c in self.crossings)
            return f"The curves of {a} and {b} cross {len(self.crossings)} times {span}, at {places}{missed}."
        return f"{later} overtakes {self.first} at {where}{interval}{self._distance()}{missed}."

    def table(self, digits: int = 3) -> pd.DataFrame:
        """About one row a decade: both values with intervals and the probability that A is better."""
        scale = self.frame[self.a.along].to_numpy(float)
        rows = max(round(np.log10(scale[-1] / scale[0])) + 1, 5)
        chosen = self.frame.iloc[np.unique(np.round(np.linspace(0, len(scale) - 1, min(rows, 12))).astype(int))]
        out = pd.DataFrame({self.a.along: [f"{v:.3g}" for v in chosen[self.a.along]]})
        for key, made in (("a", self.a), ("b", self.b)):
            out[made.label] = [
                rounded(v, digits + 1)
                + (f" ({rounded(lo, digits + 1)} to {rounded(hi, digits + 1)})" if made.fit else "")
                for v, lo, hi in zip(chosen[key], chosen[f"{key}_low"], chosen[f"{key}_high"], strict=True)
            ]
        out[f"P({self.a.label} better)"] = [self._probable(p) for p in chosen["probability"]]
        out["one run each"] = [self._probable(p) for p in chosen["probability_run"]]
        out["extrapolation"] = ["—" if not np.isfinite(v) else f"{v:.2g}×" for v in chosen["extrapolation"]]
        return out

    def to_dict(self) -> dict:
        """The answer as strict JSON types, without the draws."""
        names = ("at", "value", "low", "high", "crossings", "never", "always_a", "always_b", "first", "between")
        out = {name: getattr(self, name) for name in names}
        curves = {
            key: {
                "label": c.label,
                "law": c.law.name,
                "params": dict(zip(c.law.symbols, map(float, c.theta), strict=True)),
                "span": c.span,
            }
            for key, c in (("a", self.a), ("b", self.b))
        }
        return strict(
            {
                "along": self.a.along,
                **curves,
                **out,
                "extrapolation": self.extrapolation,
                "level": self.level,
                "n": self.n,
                "better": self.better,
                "verdict": self.verdict,
                "curve": self.frame,
            }
        )

    def _draws(self) -> tuple[np.ndarray, np.ndarray]:
        if "draws" not in self._cache:
            self._cache["draws"] = _draws(self.a, self.b, self.n, self.seed)
        return self._cache["draws"]

    def _probable(self, p: float) -> str:
        # Without a fit nothing is uncertain, and 0 and 1 are meant.
        return probable(p, self.n) if self.a.fit or self.b.fit else f"{p:g}"

    def _end(self, value: float) -> str:
        if np.isfinite(value):
            return f"{value:.3g}".replace("e+", "e")
        edge = f"below {self.between[0]:.3g}" if value < 0 else f"beyond {self.between[1]:.3g}"
        return edge.replace("e+", "e")

    def _distance(self) -> str:
        if not np.isfinite(self.extrapolation):
            return ""
        if self.extrapolation <= 1:
            return ", within the fitted runs"
        return f", {self.extrapolation:.2g} times the largest run of the shorter series"


def crossover(
    a: Any,
    b: Any = None,
    *,
    along: str | None = None,
    held: Mapping[str, float] | None = None,
    by: str | None = None,
    groups: Sequence[Any] | None = None,
    law: str | Law = "power_constant",
    labels: Sequence[str] | None = None,
    between: tuple[float, float] | None = None,
    better: str = "lower",
    level: float = 0.95,
    n: int = RESAMPLES,
    seed: int = 0,
    **options: Any,
) -> Crossover:
    """Where two laws cross, with what certainty, and who is better at any scale.

    The two fits are resampled independently, each by its own bootstrap (`Fit.joint_draws`), and every pair of
    resamples crosses somewhere, or nowhere. Both outcomes are counted: an interval from the crossings alone
    would hide that there may be none.

    Args:
        a, b: two fits; or laws with known parameters, ``("power", {"A": 10, "alpha": 0.05})``; or `a` a table
            of runs and `by` the column that splits it in two, each part then fitted with `law`.
        along: column of the scale; default the laws' one input, else ``flops``: laws of size and data are
            then compared on their compute-optimal frontiers, C = 6ND.
        held: column -> value, to hold an input constant instead (``{"params": 1e9}`` with ``along="tokens"``).
        by, groups: column, and the two values of it where there are more.
        law, options: law fitted to each group, and further arguments of `workbench.fit` (`x`, `y`,
            `objective`, `cluster`, `fixed`, ...).
        labels: what two fits are called; default ``A`` and ``B``.
        between: smallest and largest scale searched; default the smallest run of either to 10 times the
            largest run of either.
        better: whether ``lower`` or ``higher`` values are better.
        level: nominal coverage.
        n: bootstrap resamples.
        seed: seed of how the resamples are paired, and of the noise of single runs.

    Returns:
        A `Crossover`.

    Raises:
        ValueError: fits along different scales or of different quantities, a law that is no curve along the
            scale, or no range to search.
    """
    if better not in ("lower", "higher"):
        raise ValueError(f"better is {better!r}; say whether 'lower' or 'higher' values are better")
    if not (isinstance(level, int | float) and 0 < level < 1):
        raise ValueError(f"level is {level!r}; a nominal coverage lies between 0 and 1, such as 0.95")
    first, second = pair(a, b, along=along, held=held, by=by, groups=groups, law=law, labels=labels, **options)
    between = _between(first, second, between)
    frontier = first.frontier or second.frontier
    scale = np.geomspace(*between, _FRONTIER_GRID if frontier else _GRID)
    drawn = _draws(first, second, n, seed)
    centre = [c.values(c.theta[None], scale)[0] for c in (first, second)]
    if not all(np.isfinite(v).all() for v in centre):
        raise ValueError("a curve has no finite value somewhere in the range; narrow it with between=(low, high)")
    values = [c.values(d, scale) for c, d in zip((first, second), drawn, strict=True)]
    crossings = _crossings(first, second, scale, centre[0] - centre[1])
    sign = 1.0 if better == "lower" else -1.0
    gap = sign * (centre[0] - centre[1])  # positive where B is better
    leader = next((first.label if g < 0 else second.label for g in gap if g != 0), "")
    places, always_a, always_b = _places(values, scale, sign, crossings, leader == first.label)
    at = crossings[0] if crossings else np.nan
    if len(crossings) > 1:  # the last change of the lead is the one that stays
        at = crossings[-1]
    tail = 50 * (1 - level)
    low, high = np.percentile(places, [tail, 100 - tail], method="inverted_cdf") if places.size else (np.nan, np.nan)
    if first.fit is None and second.fit is None:
        low = high = at
    ends = [c.span[1] for c in (first, second) if np.isfinite(c.span[1])]
    frame = pd.DataFrame({first.along: scale})
    for key, made, estimate, spread in zip("ab", (first, second), centre, values, strict=True):
        frame[key] = estimate
        known = made.fit is not None
        ends_of = np.nanpercentile(spread, [tail, 100 - tail], axis=0) if known else (estimate, estimate)
        frame[f"{key}_low"], frame[f"{key}_high"] = ends_of
    frame["extrapolation"] = scale / min(ends) if ends else np.nan
    found = Crossover(
        frame=frame,
        a=first,
        b=second,
        at=float(at),
        value=float(first.values(first.theta[None], np.array([at]))[0, 0]) if crossings else np.nan,
        low=float(low),
        high=float(high),
        crossings=tuple(crossings),
        never=always_a + always_b,
        always_a=always_a,
        always_b=always_b,
        first=leader,
        between=between,
        extrapolation=float(at / min(ends)) if ends and crossings else np.nan,
        level=float(level),
        n=n,
        better=better,
        seed=seed,
        _cache={"draws": drawn},
    )
    frame["probability"] = _share(*values, found, "curve")
    frame["probability_run"] = _share(*values, found, "run")
    return found


def _draws(a: Curve, b: Curve, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    return a.draws(n, 2 * seed + 11), b.draws(n, 2 * seed + 12)


def _between(a: Curve, b: Curve, between: tuple[float, float] | None) -> tuple[float, float]:
    if between is None:
        spans = [c.span for c in (a, b) if np.isfinite(c.span[1])]
        if not spans:
            raise ValueError("laws with given parameters have no runs to take a range from; give between=(low, high)")
        between = (min(s[0] for s in spans), REACH * max(s[1] for s in spans))
    try:
        low, high = map(float, between)
    except (TypeError, ValueError):
        low = high = np.nan
    if not (0 < low < high < np.inf):
        raise ValueError(f"between is {between!r}; give two positive scales, the smaller first")
    return low, high


def _crossings(a: Curve, b: Curve, scale: np.ndarray, gap: np.ndarray) -> list[float]:
    """Every zero of the gap between the fitted curves, found on the grid and sharpened."""

    def difference(log_scale):
        at = np.exp(np.array([log_scale]))
        return float((a.values(a.theta[None], at) - b.values(b.theta[None], at))[0, 0])

    found = []
    sign = np.sign(gap)
    known = np.flatnonzero(sign)
    for i, j in itertools.pairwise(known):
        if sign[i] != sign[j]:
            found.append(float(np.exp(brentq(difference, np.log(scale[i]), np.log(scale[j]), xtol=1e-12))))
    return found


def _places(
    values: list[np.ndarray], scale: np.ndarray, sign: float, crossings: list[float], a_leads: bool
) -> tuple[np.ndarray, float, float]:
    """Crossing of each resample ``[n]`` (infinite where none), and the shares in which A, or B, is always better.

    Of several crossings in one resample the one nearest to the estimate counts.
    """
    a, b = values
    with np.errstate(all="ignore"):
        gap = np.log(a) - np.log(b) if (a > 0).all() and (b > 0).all() else a - b
    gap = sign * np.nan_to_num(gap, nan=0.0)
    turns = (np.sign(gap[:, :-1]) * np.sign(gap[:, 1:])) < 0
    log_scale = np.log(scale)
    with np.errstate(all="ignore"):
        share = gap[:, :-1] / (gap[:, :-1] - gap[:, 1:])
    where = log_scale[:-1] + np.where(turns, share, 0.0) * np.diff(log_scale)
    centre = np.log(crossings[-1]) if crossings else log_scale[-1]
    nearest = np.argmin(np.where(turns, np.abs(where - centre), np.inf), axis=1)
    crosses = turns.any(axis=1)
    a_always = ~crosses & (gap.mean(axis=1) < 0)
    b_always = ~crosses & (gap.mean(axis=1) > 0)
    places = np.exp(where[np.arange(len(where)), nearest])
    # The leader at the small end still leads at the large end: the crossing, if any, lies beyond it.
    places[a_always] = np.inf if a_leads else -np.inf
    places[b_always] = -np.inf if a_leads else np.inf
    return places[crosses | a_always | b_always], float(a_always.mean()), float(b_always.mean())


def _share(a: np.ndarray, b: np.ndarray, found: Crossover, kind: str) -> np.ndarray:
    """Share of draws ``[n, G]`` in which A is better, ties counted half."""
    if kind == "run":
        a, b = found.a.disturbed(a, 2 * found.seed + 21), found.b.disturbed(b, 2 * found.seed + 22)
    gap = (a - b) if found.better == "lower" else (b - a)
    return np.where(gap < 0, 1.0, np.where(gap > 0, 0.0, 0.5)).mean(axis=0)
