"""`equal_exponents`: do groups of runs share an exponent, so that one is only the other shifted?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from workbench.analysis.along import split_groups
from workbench.analysis.outcome import Outcome, probable, rounded, strict
from workbench.engine.objective import Objective
from workbench.engine.solver import Problem, solve
from workbench.fits.fit import Fit, fit
from workbench.fits.result import RESAMPLES
from workbench.laws.base import Input, Law, get

__all__ = ["EqualExponents", "equal_exponents"]


@dataclass(frozen=True, repr=False)
class EqualExponents(Outcome):
    """Whether groups share parameters, usually the exponent.

    Attributes:
        frame: one row a group and parameter: ``group``, ``parameter``, ``estimate``, ``low``, ``high``,
            ``shared`` (the common value of the joint fit), ``n_runs``, ``noise`` (standard deviation of the
            residuals).
        differences: one row a pair of groups and a parameter: ``first``, ``second``, ``parameter``,
            ``difference``, ``low``, ``high``, ``p`` (bootstrap) and ``p_adjusted`` (Holm over the rows).
        tests: one row a test of "all groups share": ``test``, ``statistic``, ``degrees``, ``p``.
        shared: names of the shared parameters.
        by: column the groups come from.
        p: of the test the verdict rests on: `rests_on`.
        rests_on: ``F`` under squares of logarithms, else ``bootstrap``.
        level: 1 - level is the size of the test.
        fits: group -> its own `Fit`.
        n: bootstrap resamples.
    """

    frame: pd.DataFrame
    differences: pd.DataFrame
    tests: pd.DataFrame
    shared: tuple[str, ...]
    by: str
    p: float
    rests_on: str
    level: float
    fits: dict[str, Fit]
    n: int

    @property
    def rejected(self) -> bool:
        """Whether a common value is rejected at the size 1 - level."""
        return bool(self.p < 1 - self.level)

    @property
    def verdict(self) -> str:
        """One sentence: shared or not, by which test, and the largest difference with its interval."""
        what = " and ".join(self.shared)
        count = len(self.fits)
        groups = f"the {count} groups of {self.by}" if count > 2 else " and ".join(self.fits)
        rows = self.differences
        row = rows.loc[rows["difference"].abs().idxmax()]
        most = (
            f"{row['parameter']} of {row['first']} minus that of {row['second']} is {rounded(row['difference'])} "
            f"({self.level:.0%} interval {rounded(row['low'])} to {rounded(row['high'])})"
        )
        p = probable(self.p, self.n if self.rests_on == "bootstrap" else 10_000)
        p = f"{self.rests_on} test, p {p if p[0] in '<>' else '= ' + p}"
        if self.rejected:
            return f"{what} differs between {groups} ({p}): {most}."
        return f"No difference in {what} between {groups} can be told ({p}): {most}."

    def table(self, digits: int = 3) -> pd.DataFrame:
        """The groups' own values with intervals beside the shared one."""
        f = self.frame
        out = pd.DataFrame({self.by: f["group"], "parameter": f["parameter"]})
        out["estimate"] = [rounded(v, digits) for v in f["estimate"]]
        out[f"{self.level:.0%} interval"] = [
            f"{rounded(lo, digits)} to {rounded(hi, digits)}" for lo, hi in zip(f["low"], f["high"], strict=True)
        ]
        out["if shared"] = [rounded(v, digits) for v in f["shared"]]
        out["runs"] = f["n_runs"]
        out["noise"] = [rounded(v, 2) for v in f["noise"]]
        return out

    def to_dict(self) -> dict:
        """The answer as strict JSON types."""
        return strict(
            {
                "by": self.by,
                "shared": self.shared,
                "p": self.p,
                "rests_on": self.rests_on,
                "rejected": self.rejected,
                "level": self.level,
                "n": self.n,
                "verdict": self.verdict,
                "groups": self.frame,
                "differences": self.differences,
                "tests": self.tests,
            }
        )


def equal_exponents(
    runs: Any,
    by: str,
    law: str | Law = "power",
    *,
    parameter: str | Sequence[str] | None = None,
    groups: Sequence[Any] | None = None,
    objective: str | Objective = "log-huber",
    delta: float = 1e-3,
    level: float = 0.95,
    n: int = RESAMPLES,
    seed: int = 0,
    **options: Any,
) -> EqualExponents:
    """Test whether the groups of one table share an exponent: a joint fit with one value against separate fits.

    Two classical tests are always given, for squares of log residuals: F, the rise of the residual sum of
    squares per shared degree of freedom over the residual variance, exact for a law linear in its parameters
    with normal noise of one size in all groups (Seber and Wild 1989, Nonlinear Regression, section 5.3), and
    the likelihood ratio against chi-square. The bootstrap test makes no such assumption and uses the chosen
    objective: a Wald statistic of the differences, compared with the same statistic of resamples about their
    own centre (Efron and Tibshirani 1993, chapter 16), deviations widened by sqrt(n / (n - P)) since resampled
    runs vary too little.

    Args:
        runs: a table of runs, or anything `workbench.load` takes.
        by: column that splits it.
        law: law fitted to every group; the other parameters stay each group's own.
        parameter: symbol or symbols to be shared; default every parameter called an exponent.
        groups: the values of `by` to use; default all.
        objective, delta: of the groups' fits and of the bootstrap test.
        level: nominal coverage of the intervals; 1 - level is the size of the test.
        n: bootstrap resamples.
        seed: seed of starts and bootstrap.
        options: further arguments of `workbench.fit` (`x`, `y`, `inputs`, `where`, `cluster`, ...).

    Returns:
        An `EqualExponents`; its verdict rests on F for ``log-mse`` and on the bootstrap otherwise.

    Raises:
        ValueError: no such column or parameter, fewer than two groups, or a group too small to leave a
            degree of freedom.
    """
    law = get(law)
    shared = _shared(law, parameter)
    if not (isinstance(level, int | float) and 0 < level < 1):
        raise ValueError(f"level is {level!r}; a nominal coverage lies between 0 and 1, such as 0.95")
    for symbol in shared:
        if symbol in (options.get("fixed") or {}) or symbol in (options.get("tied") or {}):
            raise ValueError(f"{symbol} is fixed or tied, so there is nothing to test; leave it free")
    objective = objective if isinstance(objective, Objective) else Objective(objective, delta)
    where = options.pop("where", None)
    parts = split_groups(runs, by, groups)
    options = {**options, "where": where, "seed": seed}
    fits = {g: fit(part, law, objective=objective, **options) for g, part in parts.items()}
    for g, one in fits.items():
        if one.degrees < 1:
            raise ValueError(
                f"group {g} has {one.n_runs} runs for {len(one.problem.free)} free parameters: nothing is left to "
                "judge by; add runs, fix parameters, or leave it out with groups=[...]"
            )
    squares = fits
    if objective.name != "log-mse":
        squares = {g: fit(part, law, objective="log-mse", **options) for g, part in parts.items()}
    tests = _classical(squares, shared)
    draws = _deviations(fits, shared, n)
    estimates = np.array([[one.params[s] for s in shared] for one in fits.values()])  # [G, S]
    statistic, p = _wald(estimates, draws)
    tests.loc[len(tests)] = ["bootstrap", statistic, (len(fits) - 1) * len(shared), p]
    joint = _joint(fits, shared)[0]
    tail = 50 * (1 - level)
    ends = np.percentile(estimates + draws, [tail, 100 - tail], axis=0)
    frame = pd.DataFrame(
        [
            {
                "group": g,
                "parameter": s,
                "estimate": estimates[k, j],
                "low": ends[0, k, j],
                "high": ends[1, k, j],
                "shared": joint[s],
                "n_runs": one.n_runs,
                "noise": float(np.sqrt((one.residuals**2).sum() / one.degrees)),
            }
            for k, (g, one) in enumerate(fits.items())
            for j, s in enumerate(shared)
        ]
    )
    rests_on = "F" if objective.name == "log-mse" else "bootstrap"
    p = float(tests.set_index("test")["p"][rests_on])
    return EqualExponents(
        frame, _differences(list(fits), shared, estimates, draws, tail), tests, shared, by, p, rests_on, level, fits, n
    )


def _shared(law: Law, parameter: str | Sequence[str] | None) -> tuple[str, ...]:
    if parameter is None:
        found = tuple(p.symbol for p in law.parameters if "exponent" in p.meaning.lower())
        if not found:
            raise ValueError(f"{law.name} has no exponent; choose parameter= from {', '.join(law.symbols)}")
        return found
    chosen = (parameter,) if isinstance(parameter, str) else tuple(parameter)
    for symbol in chosen:
        if symbol not in law.symbols:
            raise ValueError(f"{law.name} has no parameter {symbol!r} to share; it has {', '.join(law.symbols)}")
    if not chosen:
        raise ValueError(f"parameter is empty; name at least one of {', '.join(law.symbols)}")
    return chosen


class _Groups(Law):
    """One law for several groups at once: the groups' parameters side by side, chosen by a group index."""

    def __init__(self, law: Law, groups: int, anchors: list[tuple[float, ...]]):
        self.one, self.groups, self.anchors = law, groups, anchors
        self.name, self.title, self.cost = law.name, law.title, groups * law.cost
        self.inputs = (*law.inputs, Input("group", zero=True))
        self.parameters = tuple(replace(p, symbol=f"{p.symbol} {k}") for k in range(groups) for p in law.parameters)

    def formula(self, *args):
        inputs, group = args[: len(self.one.inputs)], args[len(self.one.inputs)]
        theta, size = args[len(self.one.inputs) + 1 :], len(self.one.parameters)
        out = 0.0
        for k in range(self.groups):
            mine = group == k
            # Other groups' points are moved to a harmless place, so that nothing overflows there.
            own = [np.where(mine, x, anchor) for x, anchor in zip(inputs, self.anchors[k], strict=True)]
            out = out + self.one.formula(*own, *theta[k * size : (k + 1) * size]) * mine
        return out


def _joint(fits: Mapping[str, Fit], shared: Sequence[str]) -> tuple[dict[str, float], float]:
    """Shared values and the objective of the joint fit, each group keeping its other parameters."""
    first = next(iter(fits.values()))
    law, size = first.law, len(first.law.parameters)
    x = {s: np.concatenate([f.points.x[s] for f in fits.values()]) for s in first.points.x}
    x["group"] = np.concatenate([np.full(f.n_runs, float(k)) for k, f in enumerate(fits.values())])
    anchors = [tuple(float(np.median(f.points.x[i.symbol])) for i in law.inputs) for f in fits.values()]
    together = _Groups(law, len(fits), anchors)
    tied = {f"{s} {k}": f"{s} 0" for k in range(1, len(fits)) for s in shared}
    for k in range(len(fits)):
        tied |= {f"{s} {k}": f"{o} {k}" for s, o in first.problem.tied.items()}
    # A parameter tied to a shared one follows the one that all groups share.
    tied = {s: tied.get(o, o) for s, o in tied.items()}
    problem = Problem(
        together,
        x,
        np.concatenate([f.points.y for f in fits.values()]),
        np.concatenate([f.points.weights for f in fits.values()]),
        first.problem.objective,
        {f"{s} {k}": v for k in range(len(fits)) for s, v in first.problem.fixed.items()},
        tied,
    )
    columns = [law.symbols.index(s) for s in shared]
    values = np.array([f.theta[columns] for f in fits.values()])
    starts = np.empty((len(fits) + 1, len(fits) * size))
    for row, value in enumerate([values.mean(axis=0), *values]):
        for k, f in enumerate(fits.values()):
            theta = f.theta.copy()
            theta[columns] = value
            # With the shared value held, the rest of each group is refitted: a start near the joint optimum.
            starts[row, k * size : (k + 1) * size] = solve(f.problem, theta[None], frozen=tuple(shared)).theta[0]
    solution = solve(problem, starts)
    best = int(np.argmin(solution.value))
    theta = solution.theta[best]
    return {s: float(theta[law.symbols.index(s)]) for s in shared}, float(solution.value[best])


def _classical(fits: Mapping[str, Fit], shared: Sequence[str]) -> pd.DataFrame:
    """F and likelihood ratio for normal noise of one size on the logarithms."""
    separate = sum(2 * f.value for f in fits.values())
    together = max(2 * _joint(fits, shared)[1], separate)
    q = (len(fits) - 1) * len(shared)
    n = sum(f.n_runs for f in fits.values())
    rest = sum(f.degrees for f in fits.values())
    f_value = (together - separate) / q / max(separate / rest, 1e-300)
    ratio = n * np.log(max(together, 1e-300) / max(separate, 1e-300))
    rows = [("F", f_value, q, float(stats.f.sf(f_value, q, rest)))]
    rows.append(("likelihood ratio", ratio, q, float(stats.chi2.sf(ratio, q))))
    return pd.DataFrame(rows, columns=["test", "statistic", "degrees", "p"])


def _deviations(fits: Mapping[str, Fit], shared: Sequence[str], n: int) -> np.ndarray:
    """Bootstrap deviations ``[n, G, S]`` from the estimate, independent between groups, widened for small n."""
    out = []
    for k, f in enumerate(fits.values()):
        columns = [f.law.symbols.index(s) for s in shared]
        drawn = f.draws(n)
        drawn = drawn[np.isfinite(drawn).all(axis=1)]
        order = np.random.default_rng([f.seed, 31 + k]).permutation(len(drawn))
        clusters = int(f.points.cluster.max()) + 1
        free = len(f.problem.free)
        wider = np.sqrt(clusters / (clusters - free)) if clusters > free else np.sqrt(f.n_runs / f.degrees)
        out.append((drawn[np.resize(order, n)][:, columns] - f.theta[columns]) * wider)
    return np.stack(out, axis=1)


def _wald(estimates: np.ndarray, deviations: np.ndarray) -> tuple[float, float]:
    """Wald statistic of the contrasts to the first group, and its bootstrap p-value."""
    contrast = (estimates[1:] - estimates[0]).ravel()
    spread = (deviations[:, 1:] - deviations[:, :1]).reshape(len(deviations), -1)
    precision = np.linalg.pinv(np.atleast_2d(np.cov(spread.T)))
    observed = float(contrast @ precision @ contrast)
    resampled = np.einsum("ni,ij,nj->n", spread, precision, spread)
    # The observed value counts as one of the draws, so that p is never 0 (Davison and Hinkley 1997, eq. 4.11).
    return observed, float((1 + (resampled >= observed).sum()) / (1 + len(resampled)))


def _differences(
    groups: list[str], shared: Sequence[str], estimates: np.ndarray, deviations: np.ndarray, tail: float
) -> pd.DataFrame:
    rows = []
    for (i, first), (k, second) in combinations(enumerate(groups), 2):
        for j, symbol in enumerate(shared):
            difference = estimates[i, j] - estimates[k, j]
            spread = deviations[:, i, j] - deviations[:, k, j]
            low, high = np.percentile(difference + spread, [tail, 100 - tail])
            p = (1 + (np.abs(spread) >= abs(difference)).sum()) / (1 + len(spread))
            rows.append((first, second, symbol, difference, low, high, float(p)))
    frame = pd.DataFrame(rows, columns=["first", "second", "parameter", "difference", "low", "high", "p"])
    order = np.argsort(frame["p"].to_numpy(), kind="stable")
    stepped = np.maximum.accumulate(frame["p"].to_numpy()[order] * np.arange(len(frame), 0, -1))
    adjusted = np.empty(len(frame))
    adjusted[order] = np.minimum(stepped, 1.0)
    return frame.assign(p_adjusted=adjusted)
