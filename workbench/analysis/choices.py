"""The choices an analyst makes before a number comes out, and which of them given runs leave open."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from workbench.analysis.checkpoints import PARENT
from workbench.engine.objective import Objective
from workbench.fits.result import Fit
from workbench.laws.base import Law
from workbench.runs.table import RunTable
from workbench.units import FLOPS_PER_PARAM_TOKEN, human

__all__ = ["CHECKPOINTS", "DIMENSIONS", "Choice", "Specification", "offered", "rows_kept"]

#: Dimension -> what people call it.
DIMENSIONS = {
    "objective": "objective",
    "outliers": "outlier rule",
    "size": "parameter counting",
    "compute": "FLOP counting",
    "checkpoints": "checkpoint policy",
    "lr": "learning-rate policy",
    "exponents": "tying of exponents",
    "subset": "subset of runs",
}
#: Checkpoint policies.
CHECKPOINTS = ("final", "best", "last 3", "all")
#: Modified z-score beyond which a residual is an outlier (Iglewicz and Hoaglin 1993, ASQC volume 16).
OUTLIER = 3.5
#: Shares of the runs that the rules for high losses and for short runs leave out.
HIGH, SHORT = 0.02, 0.05


@dataclass(frozen=True)
class Choice:
    """One option of one dimension, and what it does to an analysis. What is not given stays as it is.

    Attributes:
        dimension: what is decided; `DIMENSIONS` has the usual ones, any other name is as good.
        option: this decision, in a few words.
        objective: what to minimise.
        inputs: pairs of input symbol and column, to count differently.
        derive: pairs of column and expression, computed before the fit.
        checkpoints: one of `CHECKPOINTS`.
        tied, fixed: pairs of parameter symbol and what it is tied to or held at.
        keep: which points stay: an expression over the columns, or a function of their frame. Both also see
            ``residual_z``, the modified z-score of each point's residual under the default analysis.
    """

    dimension: str
    option: str
    objective: Objective | None = None
    inputs: tuple[tuple[str, str], ...] = ()
    derive: tuple[tuple[str, str], ...] = ()
    checkpoints: str = ""
    tied: tuple[tuple[str, str], ...] = ()
    fixed: tuple[tuple[str, float], ...] = ()
    keep: str | Callable[[pd.DataFrame], np.ndarray] | None = None

    def __post_init__(self):
        if not self.dimension or not self.option:
            raise ValueError("a choice needs the names of its dimension and of its option")
        if self.checkpoints and self.checkpoints not in CHECKPOINTS:
            raise ValueError(
                f"no checkpoint policy is called {self.checkpoints!r}; choose one of {', '.join(CHECKPOINTS)}"
            )


@dataclass(frozen=True)
class Specification:
    """One whole analysis: one choice in each dimension."""

    choices: tuple[Choice, ...]

    @property
    def options(self) -> dict[str, str]:
        """Dimension -> option."""
        return {c.dimension: c.option for c in self.choices}

    def pairs(self, name: str) -> dict:
        """What all choices together say for ``inputs``, ``derive``, ``tied`` or ``fixed``; later ones win."""
        return {k: v for c in self.choices for k, v in getattr(c, name)}

    def one(self, name: str, default):
        """The last given ``objective`` or ``checkpoints``."""
        return next((getattr(c, name) for c in reversed(self.choices) if getattr(c, name)), default)

    @property
    def rules(self) -> tuple[Choice, ...]:
        """The choices that leave points out."""
        return tuple(c for c in self.choices if c.keep is not None)

    def __str__(self) -> str:
        return ", ".join(f"{d}: {o}" for d, o in self.options.items())


def offered(fit: Fit) -> tuple[dict[str, tuple[Choice, ...]], dict[str, str]]:
    """Options by dimension that the runs of `fit` leave open, the fit's own first, and why others do not apply."""
    open_, closed = {}, {}
    makers = {
        "objective": _objectives, "outliers": _outliers, "size": _sizes, "compute": _computes,
        "checkpoints": _checkpoints, "lr": _rates, "exponents": _exponents, "subset": _subsets,
    }  # fmt: skip
    for dimension, make in makers.items():
        found = make(fit)
        if isinstance(found, str):
            closed[dimension] = found
        else:
            open_[dimension] = tuple(replace(c, dimension=dimension) for c in found)
    return open_, closed


def rows_kept(rules: Iterable[Choice], frame: pd.DataFrame) -> np.ndarray:
    """Which points ``[n]`` pass every rule; `frame` holds their columns and ``residual_z``.

    Raises:
        ValueError: an expression cannot be evaluated, or a function returns no truth value for each point.
    """
    kept = np.ones(len(frame), dtype=bool)
    for choice in rules:
        if isinstance(choice.keep, str):
            left = RunTable(frame=frame.assign(run=np.arange(len(frame)).astype(str))).where(choice.keep)
            own = np.zeros(len(frame), dtype=bool)
            own[left.frame["run"].astype(int)] = True
        else:
            own = np.asarray(choice.keep(frame))
            if own.shape != kept.shape or own.dtype != bool:
                raise ValueError(
                    f"keep of {choice.dimension}: {choice.option} must give true or false for each of "
                    f"{len(frame)} points; it gave {own.dtype} of shape {own.shape}"
                )
        kept &= own
    return kept


def _objectives(fit: Fit) -> list[Choice]:
    own = fit.problem.objective
    usual = [
        Objective("log-huber", 1e-3), Objective("log-huber", 1e-2), Objective("huber", 1e-3), Objective("log-mse"),
        Objective("mse"), Objective("log-mae"), Objective("mae"),
    ]  # fmt: skip
    if not (fit.points.y > 0).all():
        usual = [o for o in usual if not o.in_logs]
    same = [o for o in usual if _spoken(o) == _spoken(own)]
    return [Choice("objective", _spoken(o), objective=o) for o in [own, *(o for o in usual if o not in same)]]


def _spoken(objective: Objective) -> str:
    return f"{objective.name} {objective.delta:g}" if objective.shape == "huber" else objective.name


def _outliers(fit: Fit) -> list[Choice]:
    y, n = fit.points.target, len(fit.points)
    high = max(round(HIGH * n), 1)
    out = [Choice("outliers", "keep all")]

    def not_highest(frame):
        values = frame[y].to_numpy(float)
        return values < np.sort(values)[-max(round(HIGH * len(values)), 1)]

    out.append(Choice("outliers", f"drop {high} highest", keep=not_highest))

    def usual(frame):
        return frame["residual_z"].to_numpy(float) <= OUTLIER

    out.append(Choice("outliers", f"drop residual z > {OUTLIER:g}", keep=usual))
    length = next((c for c in ("tokens", "steps", "flops") if c in fit.points.frame), None)
    if length is not None and fit.points.frame[length].nunique() > 1:

        def not_short(frame):
            values = frame[length].to_numpy(float)
            return ~(values <= np.nanquantile(values, SHORT, method="lower"))

        out.append(Choice("outliers", f"drop shortest {SHORT:.0%}", keep=not_short))
    return out


def _sizes(fit: Fit) -> list[Choice] | str:
    symbol = next((s for s, c in fit.points.columns.items() if c.startswith("params")), None)
    roles = set(fit.points.columns.values())
    frame = fit.points.frame
    if symbol is None and not roles & {"flops", "tokens_per_param"}:
        return f"{fit.law.name} here takes no number of parameters"
    own = fit.points.columns[symbol] if symbol else "params"
    others = [
        c for c in ("params", "params_non_embedding", "params_active")
        if c != own and c in frame and (frame[c] > 0).all() and not np.allclose(frame[c], frame.get(own, np.nan))
    ]  # fmt: skip
    if not others:
        return f"the table counts parameters in one way only ({own})"
    out = [Choice("size", own)]
    for column in others:
        inputs = ((symbol, column),) if symbol else ()
        derive = []
        if "tokens" in frame:
            if "flops" in roles:
                derive.append(("flops", f"{FLOPS_PER_PARAM_TOKEN:g} * {column} * tokens"))
            if "tokens_per_param" in roles:
                derive.append(("tokens_per_param", f"tokens / {column}"))
        if inputs or derive:
            out.append(Choice("size", column, inputs=inputs, derive=tuple(derive)))
    return out if len(out) > 1 else f"{fit.law.name} here takes compute, and without tokens it cannot be counted again"


def _computes(fit: Fit) -> list[Choice] | str:
    roles, frame, notes = set(fit.points.columns.values()), fit.points.frame, fit.runs.notes
    needed = ("flops", "tokens", "params")
    if not set(needed) <= set(frame.columns):
        return f"no {next(c for c in needed if c not in frame)} column, so there is one way to count compute"
    for column in needed:
        if notes.get(column, "").startswith("derived"):
            return f"{column} was derived from the others by C = 6ND, so both ways to count agree"
    exact = FLOPS_PER_PARAM_TOKEN * frame["params"] * frame["tokens"]
    if np.allclose(frame["flops"], exact, rtol=1e-3):
        return "the logged compute is 6ND, so both ways to count agree"
    if "flops" in roles:
        again = ("flops", f"{FLOPS_PER_PARAM_TOKEN:g} * params * tokens")
        return [Choice("compute", "as logged"), Choice("compute", "6ND", derive=(again,))]
    if "tokens" in roles:
        again = ("tokens", f"flops / ({FLOPS_PER_PARAM_TOKEN:g} * params)")
        return [Choice("compute", "tokens as logged"), Choice("compute", "tokens = C/6N", derive=(again,))]
    return f"{fit.law.name} here takes neither compute nor tokens"


def _checkpoints(fit: Fit) -> list[Choice] | str:
    runs, y, ids = fit.runs, fit.points.target, list(fit.points.frame["run"])
    moving = {"tokens", "flops", "steps", "tokens_per_param"} & set(fit.points.columns.values())
    if not moving:
        return f"{fit.law.name} here takes no input that grows while a run trains"
    with_curve = [run for run in ids if run in runs.curves and y in runs.curves[run]]
    if not with_curve:
        return f"no run has a curve of {y}"
    return [Choice("checkpoints", policy, checkpoints=policy) for policy in CHECKPOINTS]


def _rates(fit: Fit) -> list[Choice] | str:
    frame, columns = fit.points.frame, list(fit.points.columns.values())
    if "lr" not in frame:
        return "the table has no learning rates"
    if "lr" in columns:
        return f"the learning rate is an input of {fit.law.name}"
    if not (frame.groupby(columns)["lr"].nunique() > 1).any():
        return "no two runs of one cell differ in learning rate"
    y = fit.points.target
    usual = frame.groupby("lr")[columns[0]].size().idxmax()

    mean = frame.groupby([*columns, "lr"])[y].transform("mean")
    lowest = mean <= mean.groupby([frame[c] for c in columns]).transform("min") * (1 + 1e-12)
    winners = set(frame["run"][lowest])

    # Judged by the final loss: whichever checkpoints are fitted belong to the runs that won their cell.
    def best(frame):
        return frame[PARENT if PARENT in frame else "run"].isin(winners).to_numpy(bool)

    def fixed(frame):
        return np.isclose(frame["lr"], usual, rtol=1e-6)

    out = [Choice("lr", "all pooled"), Choice("lr", "best of each cell", keep=best)]
    if fixed(frame).sum() > len(fit.problem.free) + 1:
        out.append(Choice("lr", f"only {human(float(usual))}", keep=fixed))
    return out


def _exponents(fit: Fit) -> list[Choice] | str:
    exponents = _pair(fit.law)
    if exponents is None:
        return f"{fit.law.name} does not have two exponents that could be one"
    first, second = exponents
    if {first, second} & (set(fit.problem.fixed) | set(fit.problem.tied)):
        return f"{first} or {second} is fixed or tied in this fit already"
    return [Choice("exponents", "free"), Choice("exponents", f"{second} = {first}", tied=((second, first),))]


def _pair(law: Law) -> tuple[str, str] | None:
    found = [p.symbol for p in law.parameters if p.meaning.startswith("exponent")]
    return tuple(found) if len(found) == 2 else None


def _subsets(fit: Fit) -> list[Choice] | str:
    columns, x = fit.points.columns, fit.points.x
    frame, n = fit.points.frame, len(fit.points)
    enough = 3 * len(fit.problem.free)
    first = next((c for c in columns.values() if c.startswith("params")), next(iter(columns.values())))
    size = x[next(s for s, c in columns.items() if c == first)]
    if not (size > 0).all() or np.unique(size).size < 3:
        return f"{first} takes fewer than three values"
    # A column whose name is no word goes in backticks, as in RunTable.where.
    name = first if first.isidentifier() else f"`{first}`"
    middle, third = (float(f"{np.quantile(size, q):.2g}") for q in (0.5, 1 / 3))
    wanted = [
        (f"{first} ≤ {human(middle)}", f"{name} <= {middle!r}"),
        (f"{first} > {human(third)}", f"{name} > {third!r}"),
    ]
    if {"params", "tokens"} <= set(frame.columns) and (frame["params"] > 0).all():
        ratio = (frame["tokens"] / frame["params"]).to_numpy(float)
        if np.isfinite(ratio).all() and ratio.max() / max(ratio.min(), 1e-300) > 2:
            split = float(f"{np.median(ratio):.2g}")
            wanted.append((f"D/N ≤ {human(split)}", f"tokens / params <= {split!r}"))
            wanted.append((f"D/N > {human(split)}", f"tokens / params > {split!r}"))
    out = [Choice("subset", "all")]
    for option, expression in wanted:
        choice = Choice("subset", option, keep=expression)
        if enough <= rows_kept([choice], frame).sum() < n:
            out.append(choice)
    return out if len(out) > 1 else f"too few runs ({n}) to leave a part of them out"
