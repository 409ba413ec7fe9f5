"""`influence`: which runs the conclusion hangs on, each alone, in groups, and as the few that move it most.

Coefficients may move a lot without consequence, and a decision may hang on runs whose residuals look
harmless; so what is watched here is the answer to a question (leave-one-out influence: Cook 1977, doi
10.1080/00401706.1977.10489493; the smallest set that overturns a conclusion: Broderick, Giordano and Meager
2020, arXiv 2011.14999, here by refitting and not by approximation).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from workbench.analysis.choices import HIGH
from workbench.analysis.conclusions import Question, ask
from workbench.analysis.verses import rounding
from workbench.engine.solver import solve
from workbench.fits.result import Fit
from workbench.late import late
from workbench.units import human, quantity

__all__ = ["Influence", "influence"]

#: At most this share of the runs is taken out together.
MOST = 0.1
#: Steps of the greedy search in each direction.
STEPS = 12


@dataclass(frozen=True, repr=False)
class Influence:
    """How a conclusion changes without some runs.

    Attributes:
        frame: one row a run, the most influential first: ``run``, the fit's input columns and target,
            ``residual`` (as the objective sees it), ``without`` (the conclusion without it) and ``change``:
            the logarithm of the ratio to the full conclusion where all answers are positive, else the
            difference.
        groups: the same for whole groups of `by`, empty if nothing was asked.
        paths: runs taken out one after the other: ``rule`` (``greedy up``, ``greedy down``, ``highest
            loss``, ``smallest params``, ...), ``taken`` (how many), ``run`` (the last one taken),
            ``without``, ``change``.
        question: what was asked.
        estimate, low, high: the conclusion from all runs with its interval.
        in_logs: whether changes are logarithms of ratios.
        fit: the fit.
    """

    frame: pd.DataFrame
    groups: pd.DataFrame
    paths: pd.DataFrame
    question: Question
    estimate: float
    low: float
    high: float
    in_logs: bool
    fit: Fit

    plot = late("workbench.figures.influence:influence", "The most influential runs, and where all of them lie.")

    @property
    def natural(self) -> tuple[str, list[str], float]:
        """The natural 2 % of the runs that move the conclusion most: rule, run ids, conclusion without them.

        A natural set is what an analyst might drop by a rule: the highest or lowest of a column, the largest
        residuals. Its size is that of the outlier rule of `multiverse`.
        """
        k = max(round(HIGH * len(self.frame)), 1)
        own = self.paths[~self.paths["rule"].str.startswith("greedy") & (self.paths["taken"] == k)]
        if not np.isfinite(own["change"]).any():
            return "", [], np.nan
        best = own.loc[own["change"].abs().idxmax()]
        return best["rule"], self.taken(best["rule"], k), float(best["without"])

    @property
    def smallest(self) -> tuple[list[str], float]:
        """The fewest runs found whose removal takes the conclusion out of its interval, and what it is then."""
        out = self.paths[(self.paths["without"] < self.low) | (self.paths["without"] > self.high)]
        if not len(out):
            return [], np.nan
        # Of sets of one size, the one that moves it farther.
        best = out.assign(size=-out["change"].abs()).sort_values(["taken", "size"], kind="stable").iloc[0]
        return self.taken(best["rule"], int(best["taken"])), float(best["without"])

    def taken(self, rule: str, k: int) -> list[str]:
        """The first `k` runs that `rule` takes out."""
        path = self.paths[self.paths["rule"] == rule]
        if not len(path):
            raise ValueError(f"no rule is called {rule!r}; there are {', '.join(dict.fromkeys(self.paths['rule']))}")
        return list(path["run"][path["taken"] <= k])

    def number(self, value: float) -> str:
        """`value` with enough digits to tell the answers without one run apart."""
        known = self.frame["without"].to_numpy(float)
        known = np.append(known[np.isfinite(known)], self.estimate)
        return rounding(float(known.min()), float(known.max()))(value)

    @property
    def verdict(self) -> str:
        """What the conclusion hangs on, in a few sentences."""
        n = len(self.frame)
        text = (
            f"{self.question.text[0].upper()}{self.question.text[1:]} is {self.number(self.estimate)} from all {n} runs"
        )
        text += f" (95% interval {self.number(self.low)}–{self.number(self.high)})"
        first = self.frame.iloc[0]
        text += f"; without the most influential run, {str(first['run'])[:40]}, it is {self.number(first['without'])}"
        rule, ids, value = self.natural
        if ids:
            text += f"; without the {len(ids)} of {rule} it is {self.number(value)}"
        ids, value = self.smallest
        if ids:
            text += f"; taking out {len(ids)} {'runs' if len(ids) > 1 else 'run'} is enough to leave the interval"
            text += f" ({self.number(value)})"
        elif len(self.paths):
            text += f"; no set of up to {int(self.paths['taken'].max())} runs that was tried takes it out of there"
        return text + "."

    def table(self, rows: int = 10, digits: int = 3) -> pd.DataFrame:
        """The most influential runs, for reading."""
        top = self.frame.head(rows)
        out = pd.DataFrame({"run": top["run"].astype(str)})
        for column in [*self.fit.points.columns.values(), self.fit.points.target]:
            out[column] = [human(v, digits) for v in top[column]]
        out["without it"] = [self.number(v) for v in top["without"]]
        out["change"] = [f"{100 * np.expm1(v):+.2g} %" if self.in_logs else f"{v:+.{digits}g}" for v in top["change"]]
        return out.reset_index(drop=True)

    def to_dict(self) -> dict[str, Any]:
        """Strict JSON types."""
        rule, ids, value = self.natural
        fewest, beyond = self.smallest
        return {
            "question": self.question.text, "estimate": _plain(self.estimate), "low": _plain(self.low),
            "high": _plain(self.high), "verdict": self.verdict, "change_is_log_ratio": self.in_logs,
            "natural_set": {"rule": rule, "runs": ids, "without": _plain(value)},
            "smallest_set": {"runs": fewest, "without": _plain(beyond)},
            "runs": _records(self.frame), "groups": _records(self.groups), "paths": _records(self.paths),
        }  # fmt: skip

    def __repr__(self) -> str:
        return f"{self.verdict}\n\n{self.table().to_string(index=False)}"

    def _repr_html_(self) -> str:
        table = self.table().to_html(index=False, escape=True, border=0)
        return f"<figure><figcaption>{escape(self.verdict)}</figcaption>{table}</figure>"


def influence(
    fit: Fit,
    question: Any = None,
    *,
    by: str | None = None,
    n: int = 400,
    sets: bool = True,
    tick: Callable[[float], None] | None = None,
    **at: float,
) -> Influence:
    """Leave out each run, each group and each natural or greedy set of runs, and answer the question again.

    All refits of a kind are one batch, each started from the full fit.

    Args:
        fit: the fit.
        question: what is decided on; see `conclusions.ask`.
        by: column whose equal values are left out together, besides single runs.
        n: bootstrap resamples behind the interval of the full conclusion.
        sets: also take out natural and greedy sets of runs; single runs alone take a tenth of the time.
        tick: called with the fraction done; may raise to cancel.
        **at: where the question is asked, e.g. ``flops=5.88e23``.

    Returns:
        An `Influence`.

    Raises:
        ValueError: the question cannot be answered, there is no such column, or no run can be spared.
    """
    points = fit.points
    size = len(points)
    if size <= len(fit.problem.free) + 1:
        raise ValueError(
            f"{size} runs for {len(fit.problem.free)} free parameters: none can be left out; add runs or fix parameters"
        )
    if by is not None and by not in points.frame:
        raise ValueError(
            f"there is no column {by!r} to leave groups out by; there are {', '.join(points.frame.columns)}"
        )
    asked = ask(question, fit, **at)
    report = tick or (lambda fraction: None)
    estimate = float(_answer(asked, fit, fit.theta[None])[0])
    drawn = _answer(asked, fit, fit.joint_draws(n))
    drawn = drawn[np.isfinite(drawn)]
    low, high = np.percentile(drawn, [2.5, 97.5]) if drawn.size else (np.nan, np.nan)
    report(0.2)

    alone = _without(fit, asked, ~np.eye(size, dtype=bool))
    in_logs = bool(estimate > 0 and (alone[np.isfinite(alone)] > 0).all())

    def change(values: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            return np.log(values / estimate) if in_logs else values - estimate

    frame = points.frame[["run", *dict.fromkeys([*points.columns.values(), points.target])]].copy()
    frame["residual"], frame["without"], frame["change"] = fit.residuals, alone, change(alone)
    order = np.argsort(-np.abs(np.nan_to_num(frame["change"], nan=np.inf)), kind="stable")
    groups = pd.DataFrame(columns=["group", "runs", "without", "change"])
    if by is not None:
        labels = points.frame[by].astype(str).to_numpy()
        names = list(dict.fromkeys(labels))
        left = _without(fit, asked, np.array([labels != name for name in names]))
        counts = [int((labels == name).sum()) for name in names]
        groups = pd.DataFrame({"group": names, "runs": counts, "without": left, "change": change(left)})
        groups = groups.sort_values("change", key=lambda c: -c.abs(), ignore_index=True)
    report(0.4)
    if not sets:
        none = pd.DataFrame({"rule": pd.Series(dtype=str), "taken": pd.Series(dtype=int), "run": pd.Series(dtype=str),
                             "without": pd.Series(dtype=float), "change": pd.Series(dtype=float)})  # fmt: skip
        return Influence(frame.iloc[order].reset_index(drop=True), groups, none, asked,
                         estimate, float(low), float(high), in_logs, fit)  # fmt: skip
    most = max(min(int(MOST * size), size - len(fit.problem.free) - 1), 1)
    paths = [_natural(fit, asked, most, change)]
    for k, sign in enumerate((1, -1)):
        paths.append(_greedy(fit, asked, min(most, STEPS), sign, change, (low, high)))
        report(0.6 + 0.2 * k)
    return Influence(frame.iloc[order].reset_index(drop=True), groups, pd.concat(paths, ignore_index=True), asked,
                     estimate, float(low), float(high), in_logs, fit)  # fmt: skip


def _answer(asked: Question, fit: Fit, theta: np.ndarray) -> np.ndarray:
    return asked.answer(fit.law, fit.points.columns, theta)


def _without(fit: Fit, asked: Question, keep: np.ndarray, start: np.ndarray | None = None) -> np.ndarray:
    """The answer ``[K]`` with only the runs of each row of `keep` ``[K, n]``; NaN where too few are left."""
    return _refit(fit, asked, keep, start)[0]


def _refit(fit: Fit, asked: Question, keep: np.ndarray, start: np.ndarray | None = None):
    weights = keep * fit.points.weights
    enough = (weights > 0).sum(axis=1) >= len(fit.problem.free)
    start = np.repeat((fit.theta if start is None else start)[None], len(keep), axis=0)
    theta = solve(
        fit.problem, start, np.where(enough[:, None], weights, fit.points.weights), warm=True, tolerance=1e-9
    ).theta
    return np.where(enough, _answer(asked, fit, theta), np.nan), theta


def _natural(fit: Fit, asked: Question, most: int, change) -> pd.DataFrame:
    """The k most extreme runs of every natural order taken out, k = 1 to `most`."""
    points, ids = fit.points, fit.points.frame["run"].to_numpy()
    target = quantity(points.target).meaning.lower() if points.target == "loss" else points.target
    orders = {
        f"highest {target}": -points.y, f"lowest {target}": points.y,
        "largest residual": -np.abs(fit.residuals),
    }  # fmt: skip
    extra = {"tokens_per_param": points.frame.get("tokens_per_param")} if len(points.columns) > 1 else {}
    for name, values in {**{c: points.x[s] for s, c in points.columns.items()}, **extra}.items():
        if values is not None and np.unique(values).size > 2:
            orders |= {f"largest {name}": -np.asarray(values, float), f"smallest {name}": np.asarray(values, float)}
    keep, rows = [], []
    for rule, values in orders.items():
        ranks = np.argsort(values, kind="stable")[:most]
        mask = np.ones(len(points), dtype=bool)
        for k, i in enumerate(ranks):
            mask = mask.copy()
            mask[i] = False
            keep.append(mask)
            rows.append((rule, k + 1, ids[i]))
    values = _without(fit, asked, np.array(keep))
    out = pd.DataFrame(rows, columns=["rule", "taken", "run"])
    return out.assign(without=values, change=change(values))


def _greedy(fit: Fit, asked: Question, steps: int, sign: int, change, interval: tuple[float, float]) -> pd.DataFrame:
    """One run after the other, each time the one that moves the answer farthest up (or down)."""
    size, ids = len(fit.points), fit.points.frame["run"].to_numpy()
    gone, theta, rows = np.zeros(size, dtype=bool), fit.theta, []
    for k in range(steps):
        left = np.flatnonzero(~gone)
        keep = np.tile(~gone, (left.size, 1))
        keep[np.arange(left.size), left] = False
        values, thetas = _refit(fit, asked, keep, theta)
        moved = np.nan_to_num(sign * change(values), nan=-np.inf)
        best = int(np.argmax(moved))
        if not np.isfinite(moved[best]):
            break
        gone[left[best]], theta = True, thetas[best]
        rows.append((f"greedy {'up' if sign > 0 else 'down'}", k + 1, ids[left[best]], values[best]))
        if not interval[0] <= values[best] <= interval[1]:
            break
    out = pd.DataFrame(rows, columns=["rule", "taken", "run", "without"])
    return out.assign(change=change(out["without"].to_numpy(float)))


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _records(frame: pd.DataFrame) -> list[dict]:
    return [{k: _plain(v) for k, v in row.items()} for row in frame.to_dict(orient="records")]
