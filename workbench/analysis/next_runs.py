"""Which run to train next: the one whose result narrows the interval of a conclusion most for its compute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from workbench.analysis.conclusions import ask
from workbench.analysis.costs import SIX_ND, cost_model
from workbench.analysis.outcome import Outcome, percent, rounded, strict
from workbench.engine.covariance import covariance
from workbench.fits.intervals import t_quantile
from workbench.fits.predict import extrapolation
from workbench.fits.result import Fit
from workbench.late import late
from workbench.units import human

__all__ = ["NextRuns", "next_runs"]

#: Candidates per input where nobody names them, and how far beyond the runs they reach.
STEPS, BEYOND = 13, 4.0


@dataclass(frozen=True, repr=False)
class NextRuns(Outcome):
    """What the next runs would teach.

    Attributes:
        frame: one row a candidate: the law's inputs, ``flops``, ``narrowing`` (share by which one such run
            narrows the interval of the conclusion), ``narrowing_per_flop``, ``extrapolation``, ``order``
            (1, 2, ... for the runs chosen, in order; 0 for the others) and ``times`` it was chosen.
        chosen: the rows chosen, in order, with ``half_width`` of the interval after each.
        question: the conclusion in words.
        estimate: its value now.
        half_width: half the width of its interval now.
        relative: whether widths are of the conclusion's logarithm (a factor) or of itself.
        level: nominal coverage.
        budget: compute allowed for all chosen runs, in FLOP.
        verdict: one sentence.
    """

    frame: pd.DataFrame
    chosen: pd.DataFrame
    question: str
    estimate: float
    half_width: float
    relative: bool
    level: float
    budget: float
    verdict: str

    plot = late("workbench.figures.next_runs:next_runs", "What each candidate would teach, against its compute.")

    def table(self) -> pd.DataFrame:
        """The chosen runs, rounded."""
        out = pd.DataFrame(index=range(len(self.chosen)))
        for column in self.chosen.columns.drop(["narrowing_per_flop", "order", "times"]):
            show = percent if column == "narrowing" else rounded
            out[column.replace("_", " ")] = [show(v) for v in self.chosen[column]]
        return out

    def to_dict(self) -> dict:
        """The answer as strict JSON types."""
        return strict(
            {
                "question": self.question, "estimate": self.estimate, "half_width": self.half_width,
                "relative": self.relative, "level": self.level, "budget": self.budget, "verdict": self.verdict,
                "chosen": self.chosen,
            }
        )  # fmt: skip


def next_runs(
    fit: Fit,
    question: Any = None,
    *,
    budget: float,
    n: int = 3,
    candidates: Any = None,
    cost: Any = SIX_ND,
    level: float = 0.95,
    **at: float,
) -> NextRuns:
    """The next runs worth training for a conclusion, one after the other.

    The covariance of the estimate, linear in its neighbourhood, tells what a further run with the noise of
    the runs at hand would do to the variance of the conclusion before it is trained (c-optimal design:
    Silvey 1980, Optimal Design, chapter 2; sequentially as in Chaloner and Verdinelli 1995, doi
    10.1214/ss/1177009939). Runs are added one by one under three rules (most narrowing, most per FLOP, most
    within an equal share of the budget), and the plan that narrows most is returned. It trusts the law; a run
    that tests the law is one beyond the data.

    Args:
        fit: the fit so far.
        question: the conclusion to narrow, as in `multiverse`: ``tokens_per_param`` or ``optimal_params`` at
            ``flops=``, ``loss`` at a place, ``exponent``, a parameter; default tokens per parameter or the
            metric, at ten times the largest scale.
        budget: compute for all of them together, in FLOP.
        n: how many runs at most.
        candidates: frame or mapping with the columns of the law's inputs; default a grid from the smallest
            run to four times the largest, in each input.
        cost: cost model of params and tokens, see `costs.cost_model`; a law with ``flops`` among its inputs
            counts that.
        level: nominal coverage.
        **at: where the question is asked, by column.

    Raises:
        ValueError: a question the law cannot answer, candidates without the inputs, a budget that buys none.
    """
    budget, n = _positive("budget", budget), int(_positive("n", n))
    asked = ask(question, fit, **at)
    frame = _candidates(fit, candidates)
    flops = _flops(fit, frame, cost)
    if not (flops <= budget).any():
        raise ValueError(
            f"a budget of {human(budget)} FLOP buys none of the {len(frame)} candidates, the cheapest of which costs "
            f"{human(float(flops.min()))}; raise it or give smaller candidates="
        )
    spread, one = covariance(fit.problem, fit.theta), _unit_noise(fit)
    slope, estimate, relative = _slope(fit, asked)
    if not np.isfinite(spread).all() or not np.isfinite(slope).all():
        raise ValueError("the runs do not determine this conclusion at all yet; add runs or fix parameters first")
    rows = _rows(fit, frame)
    quantile = t_quantile(level, fit.degrees)
    now = quantile * float(np.sqrt(slope @ spread @ slope))
    first = _narrowing(spread, rows, slope, one)
    picks, gains, variances = min(
        (_greedy(spread, rows, slope, one, flops, budget, n, rule) for rule in _RULES), key=lambda plan: plan[2][-1]
    )
    order = np.zeros(len(frame), dtype=int)
    for turn, pick in reversed(list(enumerate(picks, start=1))):
        order[pick] = turn
    frame = frame.assign(flops=flops, narrowing=first, narrowing_per_flop=first / flops)
    frame["extrapolation"] = extrapolation(fit, {s: frame[c].to_numpy(float) for s, c in fit.points.columns.items()})
    frame["order"], frame["times"] = order, np.bincount(picks, minlength=len(frame))
    chosen = frame.iloc[picks].reset_index(drop=True)
    chosen["narrowing"] = gains
    chosen["half_width"] = quantile * np.sqrt(variances)
    words = _verdict(asked.text, now, chosen, level, relative)
    return NextRuns(frame, chosen, asked.text, estimate, now, relative, level, budget, words)


def _candidates(fit: Fit, given: Any) -> pd.DataFrame:
    columns = list(fit.points.columns.values())
    if given is None:
        axes = []
        for symbol in fit.points.columns:
            values = fit.points.x[symbol]
            low, high = values[values > 0].min(), values.max() * BEYOND
            axes.append(np.geomspace(low, high, STEPS if len(columns) > 1 else 4 * STEPS))
        mesh = np.meshgrid(*axes, indexing="ij")
        return pd.DataFrame({c: m.ravel() for c, m in zip(columns, mesh, strict=True)})
    frame = pd.DataFrame(given) if isinstance(given, Mapping) else getattr(given, "frame", given)
    missing = [c for c in columns if c not in frame]
    if missing:
        raise ValueError(f"candidates= lacks the column {missing[0]!r}; the law takes {', '.join(columns)}")
    frame = frame[columns].astype(float).drop_duplicates(ignore_index=True)
    if not len(frame) or not (np.isfinite(frame).all(axis=None) and (frame >= 0).all(axis=None)):
        raise ValueError(f"candidates= must hold finite, positive {', '.join(columns)} in at least one row")
    return frame


def _flops(fit: Fit, frame: pd.DataFrame, cost: Any) -> np.ndarray:
    if "flops" in frame:
        return frame["flops"].to_numpy(float)
    size = next((c for c in frame if c.startswith("params")), None)
    if size is None or "tokens" not in frame:
        raise ValueError(
            f"what a run costs cannot be told from {', '.join(fit.points.columns.values())}; fit a law of flops, or "
            "of params and tokens"
        )
    return np.asarray(cost_model(cost)(frame[size].to_numpy(float), frame["tokens"].to_numpy(float)), dtype=float)


def _rows(fit: Fit, frame: pd.DataFrame) -> np.ndarray:
    """Derivatives ``[m, F]`` of each candidate's residual in the free coordinates."""
    problem = fit.problem
    x = {s: frame[c].to_numpy(float) for s, c in fit.points.columns.items()}
    z = problem.to_z(fit.theta[None])
    # A problem of the candidates with any observation: its Jacobian does not depend on what was observed
    # in logs, and neither in linear space.
    y = fit.law.predict(fit.theta, x)
    far = type(problem)(fit.law, x, y, np.ones(len(frame)), problem.objective, problem.fixed, problem.tied)
    return far.jacobian(z)[1][0].T


def _unit_noise(fit: Fit) -> float:
    """Variance that one run's residual counts with under the fit's objective."""
    p, r = fit.problem, fit.residuals
    m2, slope = p.objective.noise(r, p.weights, len(p.free), p.objective.zone(p.y))
    return m2 / slope**2


def _slope(fit: Fit, asked: Any) -> tuple[np.ndarray, float, bool]:
    """Derivatives ``[F]`` of the conclusion, of its logarithm where it is positive, by central differences."""
    problem = fit.problem
    centre = problem.to_z(fit.theta[None])[0]
    step = 1e-4
    moved = centre + step * np.concatenate([np.eye(centre.size), -np.eye(centre.size)])
    value = asked.answer(fit.law, fit.points.columns, problem.to_theta(np.vstack([centre[None], moved])))
    relative = bool((value > 0).all())
    value = np.log(value) if relative else value
    up, down = value[1 : 1 + centre.size], value[1 + centre.size :]
    return (up - down) / (2 * step), float(np.exp(value[0]) if relative else value[0]), relative


def _greedy(
    spread: np.ndarray, rows: np.ndarray, slope: np.ndarray, one: float, flops: np.ndarray, budget: float, n: int, rule
) -> tuple[list[int], list[float], np.ndarray]:
    """Up to `n` candidates, each the best by `rule` that is still affordable: indices, gains, variances after each."""
    picks, gains, variances, left = [], [], [], budget
    for turn in range(n):
        gain = _narrowing(spread, rows, slope, one)
        score = np.where(flops <= left, rule(gain, flops, left / (n - turn)), -np.inf)
        pick = int(np.argmax(score))
        if not np.isfinite(score[pick]):
            break
        moved = spread @ rows[pick]
        spread = spread - np.outer(moved, moved) / (one + rows[pick] @ moved)
        left -= flops[pick]
        picks.append(pick)
        gains.append(float(gain[pick]))
        variances.append(max(float(slope @ spread @ slope), 0.0))
    return picks, gains, np.array(variances)


#: Ways to go through the candidates, given (narrowing, FLOP, an equal share of what is left): the most that can
#: be had at once, the most for its compute, the most within an equal share. The plan that narrows most wins.
_RULES = (
    lambda gain, flops, share: gain,
    lambda gain, flops, share: gain / flops,
    lambda gain, flops, share: np.where(flops <= share, gain, gain - 1),
)


def _narrowing(spread: np.ndarray, rows: np.ndarray, slope: np.ndarray, one: float) -> np.ndarray:
    """Share by which the conclusion's interval narrows with each candidate (Sherman and Morrison 1950)."""
    moved = rows @ spread
    total = slope @ spread @ slope
    gone = (moved @ slope) ** 2 / (one + np.einsum("mf,mf->m", moved, rows))
    return 1 - np.sqrt(np.clip(1 - gone / max(total, 1e-300), 0, 1))


def _verdict(text: str, now: float, chosen: pd.DataFrame, level: float, relative: bool) -> str:
    def width(value: float) -> str:
        if not relative:
            return f"{value:.3g}"
        return f"{100 * value:.2g} %" if value < 0.1 else f"a factor of {np.exp(value):.3g}"

    n = len(chosen)
    runs = "one run" if n == 1 else f"{n} runs"
    return (
        f"{text[0].upper()}{text[1:]} is known within {width(now)} either way ({level:.0%}); {runs} of "
        f"{human(float(chosen['flops'].sum()))} FLOP in all should bring that to "
        f"{width(chosen['half_width'].iloc[-1])}, if the law holds."
    )


def _positive(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 < value < np.inf:
        raise ValueError(f"{name} is {value!r}; it must be a positive number")
    return float(value)
