"""`multiverse`: the same question put to the same runs in every defensible way at once.

One analysis gives one number with an interval that knows the noise of the runs and nothing of the choices
made on the way. Here every combination of choices is made (Steegen et al. 2016, doi
10.1177/1745691616658637; Simonsohn et al. 2020, doi 10.1038/s41562-020-0912-z); which choices to vary for
scaling laws follows the survey of Li et al. 2025, (Mis)Fitting, section 6.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from workbench.analysis.batch import draws, optima
from workbench.analysis.checkpoints import PARENT, points_of_curves
from workbench.analysis.choices import DIMENSIONS, Choice, Specification, offered, rows_kept
from workbench.analysis.conclusions import ask
from workbench.analysis.verses import Multiverse
from workbench.engine.diagnostics import diagnose
from workbench.engine.search import search
from workbench.engine.solver import Problem, Solution
from workbench.fits.fit import fit
from workbench.fits.points import Points, gather
from workbench.fits.result import Fit
from workbench.laws.base import Law
from workbench.runs.table import RunTable

__all__ = ["Multiverse", "around", "dimensions_of", "multiverse"]

#: Resamples behind the ordinary interval of the default analysis.
ORDINARY = 400
#: Most analyses made without being asked twice.
MOST = 20_000


def multiverse(
    runs: Any,
    law: str | Law = "chinchilla",
    *,
    question: Any = None,
    choices: Iterable[Choice] | Mapping[str, Iterable[Choice]] = (),
    drop: str | Iterable[str] = (),
    by: str | None = None,
    groups: Sequence[Any] | None = None,
    n: int = 0,
    level: float = 0.95,
    seed: int = 0,
    tick: Callable[[float, str], None] | None = None,
    options: Mapping[str, Any] | None = None,
    **at: float,
) -> Multiverse:
    """Would I decide the same, had I analysed it another way?

    Args:
        runs: a `RunTable`, or anything `workbench.load` takes.
        law: name of a law or a `Law`.
        question: what is decided on; see `conclusions.ask`. Default tokens per parameter at ten times the
            largest compute in the data, or the metric at ten times the largest scale. ``crossover`` asks at
            what scale the two groups of `by` cross.
        choices: options of your own, in place of the usual ones of their dimensions; of each dimension the
            first is the default analysis.
        drop: dimensions not to vary; the default analysis' option stays.
        by: column that tells two groups of runs apart, for the question ``crossover``.
        groups: its two values, where there are more.
        n: bootstrap resamples of each analysis; 0 leaves all but the default analysis without interval.
            Rules that leave points out are applied once, to the runs and not to every resample.
        level: nominal coverage.
        seed: seed of starts and resamples.
        tick: called with the fraction done and what is being done; may raise to cancel.
        options: further arguments of `workbench.fit` for the default analysis (``y``, ``x``, ``inputs``,
            ``where``, ``fixed``, ``tied``, ``objective``, ``delta``, ``weights``, ``cluster``).
        **at: where the question is asked, e.g. ``flops=5.88e23``.

    Returns:
        A `Multiverse`. Where parameters are counted in another way, N in the question is counted so too.

    Raises:
        ValueError: bad runs, law, question or choices, or more than 20 000 combinations.
    """
    if question == "crossover" or by is not None:
        from workbench.analysis.crossing import crossings  # which makes two multiverses

        if question not in ("crossover", None) or by is None or at:
            raise ValueError(
                "the question 'crossover' takes by= (a column with two groups) and no place, others no by="
            )
        options = dict(options or {})
        return crossings(runs, law, by, groups, choices=choices, drop=drop, n=n or ORDINARY, level=level, seed=seed,
                         tick=tick, options=options)  # fmt: skip
    base = fit(runs, law, seed=seed, **(options or {}))
    return around(base, question, choices=choices, drop=drop, n=n, level=level, tick=tick, **at)


def around(
    base: Fit,
    question: Any = None,
    *,
    choices: Iterable[Choice] | Mapping[str, Iterable[Choice]] = (),
    drop: str | Iterable[str] = (),
    n: int = 0,
    level: float = 0.95,
    tick: Callable[[float, str], None] | None = None,
    **at: float,
) -> Multiverse:
    """Every analysis around the fit `base`, which is the default one; see `multiverse`."""
    if not isinstance(n, int | np.integer) or isinstance(n, bool) or n < 0 or n == 1:
        raise ValueError(f"n is {n!r}; the number of resamples is 0 for none, or a whole number of at least 2")
    if not 0 < level < 1:
        raise ValueError(f"level is {level!r}; a nominal coverage lies between 0 and 1, such as 0.95")
    asked = ask(question, base, **at)
    dimensions, skipped = dimensions_of(base, choices, drop)
    size = int(np.prod([len(c) for c in dimensions.values()]))
    if size > MOST:
        raise ValueError(
            f"{' x '.join(str(len(c)) for c in dimensions.values())} choices make {size} analyses, more than {MOST}; "
            "drop dimensions or options"
        )
    specs = tuple(Specification(c) for c in itertools.product(*dimensions.values()))
    say = tick or (lambda fraction, what: None)
    families = _families(base, specs)
    rows: list[dict[str, Any]] = [{} for _ in specs]
    tail = 50 * (1 - level)
    for done, (family, members) in enumerate(families.items()):
        say(done / len(families), "fitting")
        share = (done / len(families), 1 / len(families))
        _answer_family(base, asked, specs, family, members, n, tail, rows, say, share)
    say(1.0, "done")
    frame = pd.DataFrame([{**s.options, **row} for s, row in zip(specs, rows, strict=True)])
    frame["default"] = np.arange(len(specs)) == 0
    frame["counted"] = np.isfinite(frame["estimate"]) & (frame["note"] == "")
    return Multiverse(frame, asked, specs, {d: tuple(x.option for x in c) for d, c in dimensions.items()}, skipped,
                      base, n, float(level))  # fmt: skip


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


@dataclass(frozen=True)
class _Family:
    """Analyses that share their points, tied and fixed parameters, and whether residuals are of logarithms."""

    checkpoints: str
    derive: tuple[tuple[str, str], ...]
    inputs: tuple[tuple[str, str], ...]
    tied: tuple[tuple[str, str], ...]
    fixed: tuple[tuple[str, float], ...]


def _families(base: Fit, specs: tuple[Specification, ...]) -> dict[_Family, list[int]]:
    out: dict[_Family, list[int]] = {}
    for i, spec in enumerate(specs):
        out.setdefault(_family(base, spec), []).append(i)
    return out


def _family(base: Fit, spec: Specification) -> _Family:
    return _Family(
        spec.one("checkpoints", "final"),
        tuple(spec.pairs("derive").items()),
        tuple(spec.pairs("inputs").items()),
        tuple({**base.problem.tied, **spec.pairs("tied")}.items()),
        tuple({**base.problem.fixed, **spec.pairs("fixed")}.items()),
    )


def spec_points(base: Fit, spec: Specification) -> tuple[RunTable, dict[str, str]]:
    """The points of one analysis as a table, with their weights and clusters, and the columns of its inputs."""
    family = _family(base, spec)
    points = _points(base, family)
    kept = rows_kept(spec.rules, points.frame.assign(residual_z=_residual_z(base, points)))
    frame = points.frame.assign(weight_of_point=points.weights, cluster_of_point=points.cluster.astype(float))
    return RunTable(frame=frame[kept].reset_index(drop=True)), dict(points.columns)


def _points(base: Fit, family: _Family) -> Points:
    """The points of one way to count and to take checkpoints."""
    if family.checkpoints == "final" and not family.derive and not family.inputs:
        return base.points
    kept = base.runs.where(base.runs.frame["run"].isin(base.points.frame["run"]).to_numpy())
    weight = pd.Series(base.points.weights, index=base.points.frame["run"].to_numpy())
    table = points_of_curves(kept, base.points.target, family.checkpoints)
    table = table.derive(**dict(family.derive)) if family.derive else table
    return gather(
        base.law,
        table,
        base.points.target,
        inputs={**base.points.columns, **dict(family.inputs)},
        weights=weight.reindex(table.frame[PARENT]).to_numpy(float),
        cluster=base.points.grouped_by or PARENT,
        positive=base.problem.objective.in_logs,
    )


def _answer_family(base, asked, specs, family, members, n, tail, rows, say, share) -> None:
    """Estimates, intervals and notes of the analyses `members`; writes into `rows`."""
    blank = {"estimate": np.nan, "low": np.nan, "high": np.nan, "objective_value": np.nan, "n_runs": 0}
    try:
        points = _points(base, family)
        z = _residual_z(base, points)
        masks, kept = _masks(points, z, [specs[i].rules for i in members])
    except ValueError as reason:
        for i in members:
            rows[i].update(blank, note=str(reason))
        return
    problem = Problem(base.law, points.x, points.y, points.weights, base.problem.objective,
                      dict(family.fixed), dict(family.tied))  # fmt: skip
    weights = masks * points.weights
    enough = (weights > 0).sum(axis=1) > len(problem.free)
    chosen = [specs[i].one("objective", base.problem.objective) for i in members]
    start = None
    for half, in_logs in enumerate((True, False)):
        objectives = list(dict.fromkeys(o for o in chosen if o.in_logs == in_logs))
        if not objectives:
            continue
        found = None
        positive = bool((points.y > 0).all())
        if enough.any() and (positive or not in_logs):
            found = optima(problem, weights[enough], objectives, base.seed, start)
            start = found.theta[0]
        place = np.cumsum(enough) - 1
        for row in range(len(masks)):
            mine = [(i, objectives.index(o)) for i, o, k in zip(members, chosen, kept, strict=True)
                    if k == row and o.in_logs == in_logs]  # fmt: skip
            if not mine:
                continue
            count = len(np.unique(points.cluster[weights[row] > 0]))
            if found is None or not enough[row]:
                why = (
                    f"{count} runs for {len(problem.free)} free parameters"
                    if not enough[row]
                    else "not all values are positive, and this objective takes logarithms"
                )
                for i, _ in mine:
                    rows[i].update(blank, n_runs=count, note=why)
                continue
            at = place[row]
            estimate = asked.answer(base.law, points.columns, found.theta[:, at])
            for i, k in mine:
                note = _note(problem, weights[row], objectives[k], found.theta[k, at], found.converged[k, at])
                if not note and not np.isfinite(estimate[k]):
                    note = "no answer: this law has no optimum there"
                rows[i].update(
                    blank,
                    estimate=float(estimate[k]),
                    objective_value=float(found.value[k, at]),
                    n_runs=count,
                    note=note,
                )
            _intervals(base, asked, problem, points, weights[row], objectives, found.theta[:, at], mine, n, tail, rows)
            say(share[0] + share[1] * (half + (row + 1) / len(masks)) / 2, "resampling" if n else "fitting")


def _intervals(base, asked, problem, points, weights, objectives, theta, mine, n, tail, rows) -> None:
    """Percentile intervals of the answers; of the default analysis even where no other has any."""
    for only, resamples in ((False, n), (True, max(n, ORDINARY))):
        wanted = [(i, k) for i, k in mine if (i == 0) == only]
        if not wanted or not resamples or (weights > 0).sum() <= len(problem.free):
            continue
        used = list(dict.fromkeys(k for _, k in wanted))
        drawn = draws(
            problem, weights, [objectives[k] for k in used], theta[used], points.cluster, resamples, base.seed
        )
        answers = asked.answer(base.law, points.columns, drawn.reshape(-1, theta.shape[1])).reshape(len(used), -1)
        for i, k in wanted:
            values = answers[used.index(k)]
            # A resample without an answer is one more way to be unsure: it is counted out, not as a number.
            values = values[np.isfinite(values)]
            if values.size >= 0.5 * resamples:
                rows[i]["low"], rows[i]["high"] = (float(v) for v in np.percentile(values, [tail, 100 - tail]))


def _masks(points: Points, z: np.ndarray, rules: list[tuple[Choice, ...]]) -> tuple[np.ndarray, list[int]]:
    """Different sets of kept points ``[M, n]``, and which of them each analysis uses."""
    frame = points.frame.assign(residual_z=z)
    by_choice = {c: rows_kept([c], frame) for c in dict.fromkeys(c for r in rules for c in r)}
    seen: dict[bytes, int] = {}
    kept, masks = [], []
    for own in rules:
        mask = np.logical_and.reduce([by_choice[c] for c in own]) if own else np.ones(len(frame), dtype=bool)
        key = mask.tobytes()
        if key not in seen:
            seen[key] = len(masks)
            masks.append(mask)
        kept.append(seen[key])
    return np.array(masks), kept


def _residual_z(base: Fit, points: Points) -> np.ndarray:
    """Modified z-score ``[n]`` of the residuals of the default analysis on these points."""
    residuals = base.residuals
    if points is not base.points:
        objective, law = base.problem.objective, base.law
        pilot = Problem(law, points.x, points.y, points.weights, objective, base.problem.fixed, base.problem.tied)
        residuals = pilot.residuals(search(pilot, 128, base.seed, warm=base.theta)[0][None])[0]
    away = np.abs(residuals - np.median(residuals))
    return away / max(1.4826 * float(np.median(away)), 1e-300)


def _note(problem: Problem, weights: np.ndarray, objective, theta: np.ndarray, converged: bool) -> str:
    """Why an analysis should not be believed, empty if it may."""
    used = weights > 0
    part = replace(
        problem, x={s: v[used] for s, v in problem.x.items()}, y=problem.y[used], weights=weights[used],
        objective=objective,
    )  # fmt: skip
    if not converged:
        return "did not converge"
    one = np.ones(1)
    solution = Solution(theta[None], part.values(theta[None]), 0 * one, np.array([True]), one.astype(int))
    found = diagnose(part, solution, 0, 1).unidentified
    return "; ".join(f"{s} not identified ({why})" for s, why in found.items())
