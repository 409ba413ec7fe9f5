"""Analyses that are fitted together: they share their points and their tied and fixed parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from workbench.analysis.batch import optima
from workbench.analysis.checkpoints import PARENT, points_of_curves
from workbench.analysis.choices import Choice, Specification, rows_kept
from workbench.engine.diagnostics import diagnose
from workbench.engine.objective import Objective
from workbench.engine.search import search
from workbench.engine.solver import Problem, Solution
from workbench.fits.points import Points, gather
from workbench.fits.result import Fit
from workbench.runs.table import RunTable

__all__ = ["Family", "Found", "families", "fit_family", "points_of", "spec_points"]

#: Share of a family's time that the search for its optima takes; the rest judges them.
_SEARCH = 0.8


@dataclass(frozen=True)
class Family:
    """Analyses that share their points, tied and fixed parameters, and whether residuals are of logarithms."""

    checkpoints: str
    derive: tuple[tuple[str, str], ...]
    inputs: tuple[tuple[str, str], ...]
    tied: tuple[tuple[str, str], ...]
    fixed: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Found:
    """What came out of one family.

    Attributes:
        members: places in `Analyses.specs`.
        points, problem: its points and problem; no problem where they cannot be gathered.
        weights: ``[M, n]`` weights of each different set of kept points.
        row: which of them each member uses.
        objective: objective of each member.
        theta, value, n_runs, notes: of each member; NaN where nothing could be fitted.
    """

    members: list[int]
    points: Points
    problem: Problem | None
    weights: np.ndarray
    row: list[int]
    objective: list[Objective]
    theta: np.ndarray
    value: np.ndarray
    n_runs: np.ndarray
    notes: list[str]


def fit_family(
    base: Fit,
    specs: Sequence[Specification],
    members: list[int],
    family: Family,
    points: Points | str,
    say: Callable[[float], None],
) -> Found:
    """Optima of every member, and why some are not to be believed."""
    size, width = len(members), len(base.law.parameters)
    theta, value = np.full((size, width), np.nan), np.full(size, np.nan)
    n_runs, notes = np.zeros(size, dtype=int), [""] * size
    chosen = [specs[i].one("objective", base.problem.objective) for i in members]
    try:
        if isinstance(points, str):
            raise ValueError(points)
        masks, kept = _masks(points, _residual_z(base, points), [specs[i].rules for i in members])
    except ValueError as reason:
        return Found(members, base.points, None, np.zeros((0, 0)), [0] * size, chosen, theta, value, n_runs,
                      [str(reason)] * size)  # fmt: skip
    problem = Problem(base.law, points.x, points.y, points.weights, base.problem.objective,
                      dict(family.fixed), dict(family.tied))  # fmt: skip
    weights = masks * points.weights
    enough = (weights > 0).sum(axis=1) > len(problem.free)
    counts = [len(np.unique(points.cluster[w > 0])) for w in weights]
    start = None
    positive = bool((points.y > 0).all())
    halves = [h for h in (True, False) if any(o.in_logs == h for o in chosen)]
    for half, in_logs in enumerate(halves):
        objectives = list(dict.fromkeys(o for o in chosen if o.in_logs == in_logs))
        found = None
        if enough.any() and (positive or not in_logs):
            found = optima(problem, weights[enough], objectives, base.seed, start,
                           tick=lambda f, half=half: say((half + _SEARCH * f) / len(halves)))  # fmt: skip
            start = found.theta[0]
        at = np.cumsum(enough) - 1
        for k in [k for k, o in enumerate(chosen) if o.in_logs == in_logs]:
            row, objective = kept[k], objectives.index(chosen[k])
            n_runs[k] = counts[row]
            if not enough[row]:
                notes[k] = f"{counts[row]} runs for {len(problem.free)} free parameters"
            elif found is None:
                notes[k] = "not all values are positive, and this objective takes logarithms"
            else:
                theta[k], value[k] = found.theta[objective, at[row]], found.value[objective, at[row]]
                notes[k] = _note(problem, weights[row], chosen[k], theta[k], found.converged[objective, at[row]])
            say((half + _SEARCH + (1 - _SEARCH) * (k + 1) / size) / len(halves))
    return Found(members, points, problem, weights, kept, chosen, theta, value, n_runs, notes)


def families(base: Fit, specs: tuple[Specification, ...]) -> dict[Family, list[int]]:
    out: dict[Family, list[int]] = {}
    for i, spec in enumerate(specs):
        out.setdefault(_family(base, spec), []).append(i)
    return out


def _family(base: Fit, spec: Specification) -> Family:
    return Family(
        spec.one("checkpoints", "final"),
        tuple(spec.pairs("derive").items()),
        tuple(spec.pairs("inputs").items()),
        tuple({**base.problem.tied, **spec.pairs("tied")}.items()),
        tuple({**base.problem.fixed, **spec.pairs("fixed")}.items()),
    )


def spec_points(base: Fit, spec: Specification) -> tuple[RunTable, dict[str, str]]:
    """The points of one analysis as a table, with their weights and clusters, and the columns of its inputs."""
    family = _family(base, spec)
    points = points_of(base, family)
    kept = rows_kept(spec.rules, points.frame.assign(residual_z=_residual_z(base, points)))
    frame = points.frame.assign(weight_of_point=points.weights, cluster_of_point=points.cluster.astype(float))
    return RunTable(frame=frame[kept].reset_index(drop=True)), dict(points.columns)


def points_of(base: Fit, family: Family) -> Points:
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
