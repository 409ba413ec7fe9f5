"""`Fit`: what came out of a fit, and what may be asked of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from workbench.engine.diagnostics import Diagnostics
from workbench.engine.search import search
from workbench.engine.solver import Problem
from workbench.fits import intervals as _intervals
from workbench.fits import predict as _predict
from workbench.fits.points import Points
from workbench.late import late
from workbench.laws.base import Law
from workbench.runs.table import RunTable

__all__ = ["METHODS", "RESAMPLES", "Fit"]

#: Bootstrap resamples when nobody says how many.
RESAMPLES = 1000
#: Interval methods to look at side by side; `workbench.fits.intervals.OFFERED` lists all there are.
METHODS = ("bootstrap", "profile", "jacobian")


@dataclass(frozen=True)
class Fit:
    """A law fitted to runs. Immutable; every verb returns something new.

    Attributes:
        law: the law.
        runs: the table that was offered, after ``where``.
        points: the runs that entered, and why the others did not.
        problem: the optimisation problem, for the interval methods.
        theta: ``[P]`` estimates in the law's order.
        diagnostics: evidence for and against.
        seed: seed of starts and bootstrap.
        where: the expression that selected the runs, if any.
    """

    law: Law
    runs: RunTable
    points: Points
    problem: Problem
    theta: np.ndarray
    diagnostics: Diagnostics
    seed: int = 0
    where: str | None = None
    _cache: dict = field(default_factory=dict, repr=False, compare=False)

    plot = late("workbench.figures.curve:curve", "The runs, the fitted curve and its band, as an Altair chart.")
    panel = late("workbench.panels.fit:panel", "An interactive panel on this fit.")
    plan = late(
        "workbench.analysis.frontier:plan", "Compute-optimal parameters and tokens at each budget, as a `Frontier`."
    )

    hold_out = late("workbench.fits.held:hold_out", "The fit without its largest runs, and how it predicts them.")
    plot_profiles = late(
        "workbench.figures.profiles:profiles", "The objective along each parameter, as an Altair chart."
    )
    influence = late("workbench.analysis.influence:influence", "Which runs a conclusion hangs on, as an `Influence`.")
    multiverse = late(
        "workbench.analysis.multiverse:around", "The same question under every defensible analysis, as a `Multiverse`."
    )

    @property
    def params(self) -> dict[str, float]:
        """Estimates by symbol."""
        return dict(zip(self.law.symbols, map(float, self.theta), strict=True))

    @cached_property
    def value(self) -> float:
        """The objective at the estimate, summed over runs."""
        return float(self.problem.values(self.theta[None])[0])

    @property
    def n_runs(self) -> int:
        """How many runs entered the fit."""
        return len(self.points)

    @property
    def degrees(self) -> int:
        """Degrees of freedom: runs minus free parameters."""
        return self.n_runs - len(self.problem.free)

    @cached_property
    def residuals(self) -> np.ndarray:
        """``[n]`` log(predicted) - log(observed), or predicted - observed for linear objectives."""
        return self.problem.residuals(self.theta[None])[0]

    @cached_property
    def log_likelihood(self) -> float:
        """Log-likelihood under the density the objective implies; see `Objective.log_likelihood`."""
        return self.problem.objective.log_likelihood(self.residuals, self.points.weights, self.points.y)

    def draws(self, n: int = RESAMPLES, tick: Callable[[float], None] | None = None) -> np.ndarray:
        """Bootstrap draws ``[n, P]`` of the parameters, resampling runs or clusters; kept for later calls.

        Args:
            n: number of resamples.
            tick: called with the fraction done; may raise to cancel.

        Raises:
            ValueError: `n` is no positive whole number, or there are no degrees of freedom.
        """
        self._check_draws(n)
        if n not in self._cache:
            self._cache[n], _ = _intervals.bootstrap(
                self.problem, self.theta, self.points.cluster, n, self.seed, tick, self.points.strata
            )
        return self._cache[n]

    def _check_draws(self, n: int) -> None:
        if not isinstance(n, int | np.integer) or isinstance(n, bool) or n < 1:
            raise ValueError(f"n is {n!r}; the number of bootstrap resamples must be a whole number of at least 1")
        if self.degrees < 1:
            raise ValueError(
                f"{self.n_runs} runs and {len(self.problem.free)} free parameters leave nothing to resample; "
                "add runs or fix parameters"
            )

    def joint_draws(self, n: int = RESAMPLES, tick: Callable[[float], None] | None = None) -> np.ndarray:
        """Draws ``[n, P]`` of the parameters, for what follows from all of them or from two fits: crossings, optima.

        The wild bootstrap for single runs where the objective is a parabola on the residuals' scale (squares, a wide
        Huber zone): of few runs, resampled ones give intervals that are too narrow. Where it is nearly a median, or
        runs come in clusters (of which few leave the wild bootstrap's leverages far too large), `draws`.
        ``benchmarks/pair_coverage.py`` has the coverage of both.

        Args:
            n: number of draws.
            tick: called with the fraction done; may raise to cancel.

        Raises:
            ValueError: as `draws`.
        """
        self._check_draws(n)
        return _intervals.joint_draws(self, n, tick)

    @property
    def recommended(self) -> _intervals.Choice:
        """The interval method that covers on data like these, and why; see `intervals.recommend`."""
        return _intervals.recommend(self)

    def intervals(
        self,
        method: str = "recommended",
        level: float = 0.95,
        n: int = RESAMPLES,
        tick: Callable[[float], None] | None = None,
    ) -> pd.DataFrame:
        """Estimates with intervals, one row a parameter.

        Args:
            method: one of

                * ``recommended``: chosen by the data, see `Fit.recommended`;
                * ``bootstrap``: runs or clusters drawn again, within strata if the fit has any; percentiles;
                * ``profile``: where the objective rises to F(1, n - P); errors taken as independent;
                * ``jacobian``: covariance at the optimum, Student's t; errors taken as independent and equal;
                * ``sandwich``: HC3 for single runs, CR3 for clusters, Student's t;
                * ``jackknife``: refits without each run or cluster, Student's t;
                * ``wild``: wild (cluster) bootstrap with refits, percentiles scaled to Student's t;
                * ``simulated``: refits to noise drawn around the curve, studentised; for fits of medians.
            level: nominal coverage.
            n: bootstrap resamples, or simulated data sets.
            tick: progress callback of the methods that resample.

        Returns:
            Columns ``estimate``, ``low``, ``high``, ``identified``, ``note``; the index is the symbol. Fixed
            and tied parameters say so in the note. Where no interval exists low and high are NaN. The
            frame's ``attrs`` hold the ``method`` used and, if it was recommended, ``why``.

        Raises:
            ValueError: unknown method, or a level outside 0 to 1.
        """
        if method not in _intervals.OFFERED:
            raise ValueError(
                f"no interval method is called {method!r}; choose one of {', '.join(METHODS)}, or "
                + ", ".join(m for m in _intervals.OFFERED if m not in METHODS)
            )
        method, why = self.recommended if method == "recommended" else _intervals.Choice(method, "")
        level = _level(level)
        edges = _intervals.edges(self, method, level, n, tick) if self.degrees >= 1 else {}
        rows = []
        for symbol, parameter in zip(self.law.symbols, self.law.parameters, strict=True):
            source = self.problem.tied.get(symbol, symbol)
            low, high = edges.get(source, (np.nan, np.nan))
            note = self.diagnostics.unidentified.get(source, "")
            if symbol in self.problem.fixed:
                low = high = self.params[symbol]
                note = "fixed"
            elif symbol in self.problem.tied:
                note = f"tied to {source}" + (f"; {note}" if note else "")
            elif self.degrees < 1:
                note = note or "no degrees of freedom, so no interval"
            elif not note and not (np.isfinite(low) and np.isfinite(high)):
                note = _intervals.no_end(method, low, high)
            identified = source not in self.diagnostics.unidentified and np.isfinite(low) and np.isfinite(high)
            rows.append((symbol, self.params[symbol], low, high, bool(identified), note, parameter.meaning))
        table = pd.DataFrame(rows, columns=["symbol", "estimate", "low", "high", "identified", "note", "meaning"])
        table = table.set_index("symbol")
        table.attrs.update(method=method, why=why)
        return table

    def profile(self, symbol: str) -> _intervals.Profile:
        """The objective along one free parameter with the others refitted; see `intervals.profile`."""
        if symbol not in self.problem.free_symbols:
            raise ValueError(f"{symbol!r} is not free here; profile one of {', '.join(self.problem.free_symbols)}")
        key = ("profile", symbol)
        if key not in self._cache:
            self._cache[key] = _intervals.profile(self.problem, self.theta, symbol)
        return self._cache[key]

    def predict(
        self,
        at: Any = None,
        *,
        level: float = 0.95,
        kind: str = "run",
        n: int = RESAMPLES,
        method: str = "recommended",
        **columns: Any,
    ) -> pd.DataFrame:
        """Predictions with intervals, and how far each one extrapolates.

        Args:
            at: a `RunTable`, frame or mapping with the law's input columns; or give them by keyword:
                ``fit.predict(params=1e9, tokens=20e9)``. Default the runs of the fit.
            level: nominal coverage.
            kind: ``run``: interval for one new run (noise of a single run included); ``curve``: for the
                expected value.
            n: bootstrap resamples, or draws of the noise.
            method: as for `intervals`; ``recommended`` covers best, ``bootstrap`` follows `draws`. A profile
                is of a parameter, so ``jacobian`` takes its place here.

        Returns:
            The inputs, then ``prediction``, ``low``, ``high`` in the unit of the fitted column and
            ``extrapolation``: the point's scale over the largest in the fit (compute where it is known).

        Raises:
            ValueError: a column is missing or not positive; the sentence names it.
        """
        return _predict.predict(self, columns if at is None else at, level=_level(level), kind=kind, n=n, method=method)

    def conclusion(
        self,
        of: Callable[[dict[str, np.ndarray]], Any],
        *,
        level: float = 0.95,
        method: str = "recommended",
        n: int = RESAMPLES,
    ) -> dict[str, float | str]:
        """Interval of a number that follows from the parameters, such as the exponent of the optimal size.

        ``fit.conclusion(lambda p: p["beta"] / (p["alpha"] + p["beta"]))``

        Args:
            of: function of a mapping from symbol to values ``[K]``; plain numpy operations, one number a fit.
                Give the logarithm of what spans decades.
            level: nominal coverage.
            method: as for `intervals`; a profile is of a parameter, so ``jacobian`` takes its place.
            n: bootstrap resamples, or simulated data sets.

        Returns:
            ``estimate``, ``low``, ``high`` and the ``method`` used. NaN ends without degrees of freedom.
        """
        return _predict.conclusion(self, of, level=_level(level), method=method, n=n)

    def card(self):
        """The fit's card: what was done, with what evidence, and what nobody stated; see `card.card`."""
        from workbench.fits.card import card

        return card(self)

    def without(self, ids: str | list[str]) -> Fit:
        """The same fit without some runs, started from this one.

        Raises:
            ValueError: a run is not in the fit, or too few are left.
        """
        ids = [ids] if isinstance(ids, str) else list(ids)
        unknown = set(ids) - set(self.points.frame["run"])
        if unknown:
            raise ValueError(
                f"no run called {sorted(unknown)[0]!r} is in this fit; fit.points.frame lists those that are"
            )
        return self.subset(~self.points.frame["run"].isin(ids).to_numpy())

    def subset(self, keep: np.ndarray) -> Fit:
        """The same fit on some of its runs, started from this one.

        Args:
            keep: ``[n]`` booleans, which of the fitted runs stay.
        """
        keep = np.asarray(keep, dtype=bool)
        p = self.points
        if keep.sum() < len(self.problem.free):
            raise ValueError(f"{keep.sum()} runs are left for {len(self.problem.free)} free parameters; keep more")
        dropped = dict.fromkeys(p.frame["run"][~keep], "taken out")
        points = replace(
            p,
            frame=p.frame[keep].reset_index(drop=True),
            x={s: v[keep] for s, v in p.x.items()},
            y=p.y[keep],
            weights=p.weights[keep],
            cluster=np.unique(p.cluster[keep], return_inverse=True)[1],
            strata=None if p.strata is None else np.unique(p.strata[keep], return_inverse=True)[1],
            left_out={**p.left_out, **dropped},
        )
        problem = replace(self.problem, x=points.x, y=points.y, weights=points.weights)
        theta, diagnostics = search(problem, 64, self.seed, warm=self.theta)
        return replace(self, points=points, problem=problem, theta=theta, diagnostics=diagnostics, _cache={})

    def refit(
        self,
        *,
        objective: str | None = None,
        delta: float | None = None,
        fixed: Mapping[str, float] | None = None,
        tied: Mapping[str, str] | None = None,
    ) -> Fit:
        """The same runs under other settings, walked to from this optimum alone.

        Takes milliseconds, where `workbench.fit` screens many starts; where the objective has several optima,
        this one's neighbour is found and not necessarily the best. What is not given stays.

        Args:
            objective: name of an objective that takes the same runs (logarithms or not, as now).
            delta: where Huber's loss turns linear.
            fixed: parameters held at a value, instead of those held now.
            tied: parameters kept equal to another, instead of those tied now.

        Raises:
            ValueError: as `workbench.fit`, or an objective that might take other runs.
        """
        from workbench.engine.objective import Objective
        from workbench.fits.fit import held_and_tied

        was = self.problem
        new = Objective(objective or was.objective.name, was.objective.delta if delta is None else delta)
        if new.in_logs != was.objective.in_logs:
            raise ValueError(
                f"{new.name} may take other runs than {was.objective.name}, which "
                f"{'needs' if was.objective.in_logs else 'does not need'} positive values; fit again with workbench.fit"
            )
        fixed, tied = held_and_tied(self.law, was.fixed if fixed is None else fixed, was.tied if tied is None else tied)
        problem = replace(was, objective=new, fixed=fixed, tied=tied)
        if self.n_runs < len(problem.free):
            raise ValueError(f"{self.n_runs} runs for {len(problem.free)} free parameters; fix some with fixed=")
        theta, diagnostics = search(problem, 0, self.seed, warm=problem.complete(self.theta))
        return replace(self, problem=problem, theta=theta, diagnostics=diagnostics, _cache={})

    def to_dict(self, method: str = "recommended", level: float = 0.95, n: int = RESAMPLES, tick=None) -> dict:
        """The fit as strict JSON types: parameters with intervals, objective, diagnostics, exclusions."""
        table = self.intervals(method, level, n, tick)
        parameters = {
            symbol: {
                "estimate": _number(row.estimate),
                "low": _number(row.low),
                "high": _number(row.high),
                "identified": bool(row.identified),
                "note": row.note,
            }
            for symbol, row in table.iterrows()
        }
        objective = self.problem.objective
        return {
            "law": self.law.name,
            "formula": self.law.latex,
            "y": self.points.target,
            "inputs": dict(self.points.columns),
            "n_runs": self.n_runs,
            "n_left_out": len(self.points.left_out),
            "left_out": dict(list(self.points.left_out.items())[:50]),
            "objective": objective.name,
            "delta": objective.delta if objective.shape == "huber" else None,
            "objective_value": _number(self.value),
            "parameters": parameters,
            "interval": {
                "method": table.attrs["method"],
                "why": table.attrs["why"] or None,
                "level": level,
                "n": n if table.attrs["method"] in ("bootstrap", "wild", "simulated") else None,
                "seed": self.seed,
            },
            "diagnostics": self.diagnostics.to_dict(),
        }

    def table(
        self, method: str = "recommended", level: float = 0.95, n: int = RESAMPLES, digits: int = 3
    ) -> pd.DataFrame:
        """`intervals` rounded to `digits` significant digits, for reading and for notebooks."""
        out = self.intervals(method, level, n)
        unsure = ~out["identified"] & (out["note"] != "fixed")
        out.loc[unsure, ["low", "high"]] = np.nan
        for column in ("estimate", "low", "high"):
            # Objects, so that pandas shows each number by itself: 4.814 above 12000, not 12000.0000
            rounded = [float(f"{v:.{digits}g}") for v in out[column]]
            out[column] = pd.Series([int(v) if v.is_integer() else v for v in rounded], out.index, dtype=object)
        return out[["estimate", "low", "high", "note"]]

    def __repr__(self) -> str:
        pairs = ", ".join(
            f"{s} = {v:.4g}" + (" (not identified)" if s in self.diagnostics.unidentified else "")
            for s, v in self.params.items()
        )
        return f"{self.law.title} on {self.n_runs} runs: {pairs}; {self.problem.objective.name} {self.value:.6g}"

    def _repr_html_(self) -> str:
        return self.card()._repr_html_()


def _level(level: float) -> float:
    try:
        value = float(level)
    except (TypeError, ValueError):
        value = np.nan
    if not 0 < value < 1:
        raise ValueError(f"level is {level!r}; a nominal coverage lies between 0 and 1, such as 0.95")
    return value


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
