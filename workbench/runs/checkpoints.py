"""Which point of each training curve becomes the run's numbers: the last, the best, one at fixed compute, or all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from workbench.runs.checks import add_problem
from workbench.runs.columns import nearest
from workbench.runs.curves import Curves
from workbench.runs.table import RunTable, arrange

__all__ = ["ALONG", "CLUSTER", "DECAYED_AT", "POLICIES", "Curve", "pick", "rows_of_curves"]

#: Policy -> what it takes.
POLICIES = {
    "final": "last point",
    "best": "lowest point",
    "last": "mean of the last k points",
    "at": "last point at or before a fixed compute, number of tokens or step",
    "all": "every point, one row each",
}
#: Column that names the run each row was taken from.
CLUSTER = "cluster"
#: What a fixed point may be stated in.
ALONG = ("flops", "tokens", "steps", "seconds")
#: A learning rate has decayed once it is down to this share of its peak.
DECAYED_AT = 0.15
_HIGH = f"lie where the learning rate was above {DECAYED_AT:.0%} of its peak; where('decayed') leaves them out"
#: What grows in proportion to the step while a run trains.
_GROWING = ("steps", "tokens", "epochs", "flops", "seconds", "tokens_per_param")
#: What is a run's setting although a curve may log it; a row keeps the run's.
_SETTINGS = frozenset({"run", "problem", "lr", "batch_tokens", *_GROWING})
#: A run whose end falls short of the wanted point by rounding only has reached it.
_SAME = 1e-6


@dataclass(frozen=True)
class Curve:
    """The finite points of one run's metric.

    Attributes:
        run: the run's id.
        position: ``[n]`` their row numbers in the run's curve.
        value: ``[n]`` the metric.
        step: ``[n]``.
        share: ``[n]`` step as a share of the last step of the curve.
        grown: canonical column (`ALONG`, epochs, tokens_per_param) -> ``[n]`` its value at each point, NaN if unknown.
        frame: the whole curve as logged.
    """

    run: str
    position: np.ndarray
    value: np.ndarray
    step: np.ndarray
    share: np.ndarray
    grown: dict[str, np.ndarray]
    frame: pd.DataFrame


def pick(
    runs: RunTable,
    policy: str = "final",
    *,
    k: int = 5,
    at: float | None = None,
    along: str = "flops",
    metric: str = "loss",
    within: tuple[float, float] | None = None,
) -> RunTable:
    """`runs` with the numbers of one point of each curve, or of every point.

    Only logged points are taken, never a value between two, and none before the first step of training. `metric`,
    every other metric that both the table and the curve have, and what grows while a run trains (steps, tokens,
    epochs, flops, seconds, tokens_per_param) become those of the point; tokens and seconds are scaled by the step
    where the curve lacks them, flops and epochs by the tokens. Settings such as the peak learning rate stay. A run
    without a curve of `metric` keeps its row, and the note of `metric` counts such runs.

    Args:
        runs: the runs with their curves.
        policy: ``final``, the run's own numbers, or the last point of its curve where it has none; ``best``, the
            lowest value; ``last``, the mean of each metric over the last `k` finite points, at the place of the last;
            ``at``, the last point at or before `at`; ``all``, a row for each point, called ``run @ step``.
        k: points of ``last``.
        at: where ``at`` stands, in the unit of `along`.
        along: ``flops``, ``tokens``, ``steps`` or ``seconds``.
        metric: the metric that must be finite at a point, lower being better.
        within: with ``all``, only points from the first to the second of these in the unit of `along`, ends included;
            a run without one has no row then.

    Returns:
        A table with the column ``cluster``, the id of the run that a row was taken from, for a fit whose points of
        one run share errors; and, where a curve has ``lr``, ``decayed``: whether the learning rate at the point was
        down to 15 % of its peak; `messages` counts the points where it was not. A run whose curve cannot be used is
        one row with a `problem`.

    Raises:
        ValueError: an argument is none of those allowed, or ``at`` lacks its `at`.
    """
    _check(runs, policy, k, at, along, metric, within)

    def choose(curve: Curve) -> list[np.ndarray] | str:
        if policy == "final":
            return [np.array([curve.value.size - 1])]
        if policy == "best":
            return [np.array([np.argmin(curve.value)])]
        if policy == "last":
            return [np.arange(max(curve.value.size - k, 0), curve.value.size)]
        where = curve.grown[along]
        if policy == "at":
            return _reached(where, at, along)
        inside = np.ones(where.size, bool) if within is None else (where >= within[0]) & (where <= within[1])
        return [np.array([i]) for i in np.flatnonzero(inside)]

    table = rows_of_curves(runs, metric, choose, finished=policy == "final", named=policy == "all")
    said = {"last": f"mean of the last {k} points", "at": f"last point at or before {along} {at:g}" if at else ""}
    if policy != "final":
        how = said.get(policy) or POLICIES[policy]
        notes = {**table.notes, metric: "; ".join(filter(None, (how, _since(runs, table, metric))))}
        table = replace(table, notes=notes)
    before = (message for message in table.messages if not message.endswith(_HIGH))  # of an earlier choice
    return replace(table, messages=(*before, *_still_high(table)))


def _still_high(table: RunTable) -> list[str]:
    """A sentence if points were taken before the learning rate had come down: their losses are not final ones."""
    if "decayed" not in table:
        return []
    known = table["decayed"].dropna()
    high = int((~known.astype(bool)).sum())
    return [f"{high} of {len(known)} points {_HIGH}"] if high else []


def _check(runs, policy, k, at, along, metric, within) -> None:
    if policy not in POLICIES:
        raise ValueError(f"no checkpoint policy is called {policy!r}; choose one of {', '.join(POLICIES)}.")
    if along not in ALONG:
        raise ValueError(f"checkpoints cannot be placed along {along!r}; choose one of {', '.join(ALONG)}.")
    if isinstance(k, bool) or k != int(k) or k < 1:
        raise ValueError(f"the last {k} points are no mean; give a whole number k of 1 or more.")
    if policy == "at" and not (at is not None and np.isfinite(at) and at > 0):
        raise ValueError(f"the policy 'at' needs a positive number at= in the unit of {along}, got {at!r}.")
    if within is not None and not (len(within) == 2 and within[0] <= within[1]):
        raise ValueError(f"within={within!r} is no range; give (lowest, highest) in the unit of {along}.")
    if metric not in runs.frame and not any(metric in c for c in _sound(runs)):
        raise ValueError(f"neither the table nor a curve has {metric!r}; {nearest(metric, runs.frame.columns)}.")


def _sound(runs: RunTable):
    """The curves that can be made, one after another."""
    for run in runs.ids:
        try:
            curve = runs.curves.get(run)
        except Exception:  # the run is marked, with the reason, where its own checkpoint is looked for
            continue
        if curve is not None:
            yield curve


def _reached(where: np.ndarray, at: float, along: str) -> list[np.ndarray] | str:
    known = np.flatnonzero(np.isfinite(where))
    if not known.size:
        return f"its {along} along the curve are not known"
    if where[known].max() < at * (1 - _SAME):
        return f"it ends at {where[known].max():.4g} {along}, before {at:.4g}"
    before = known[where[known] <= at * (1 + _SAME)]
    if not before.size:
        return f"its first point is at {where[known].min():.4g} {along}, after {at:.4g}"
    return [before[[np.argmax(where[before])]]]


def _since(old: RunTable, new: RunTable, metric: str) -> str:
    """What the note of `metric` gained."""
    before, after = old.notes.get(metric, ""), new.notes.get(metric, "")
    return after.removeprefix(before).removeprefix("; ")


def rows_of_curves(
    runs: RunTable,
    metric: str,
    choose: Callable[[Curve], list[np.ndarray] | str],
    *,
    finished: bool = False,
    named: bool = False,
) -> RunTable:
    """`runs` with a row for each group of points that `choose` takes; what `pick` is made of.

    Args:
        runs: the runs.
        metric: which metric.
        choose: from a `Curve` to groups of its points (indices, ascending), each of which becomes a row with the
            mean of its metrics at the place of its last point; or to a sentence on why the curve cannot be used.
        finished: whether a run that has its own value of `metric` at its end keeps its row.
        named: whether rows are called ``run @ step``; they have no curves of their own then.
    """
    rows: list[int] = []
    taken: list[_Taken] = []
    problems: dict[int, str] = {}
    without = 0
    frame = runs.frame
    lookup = _Rows(frame, metric)
    for i, run in enumerate(runs.ids):
        try:
            curve = lookup.curve(i, runs.curves.get(run))
            groups = [] if curve is None else choose(curve)
        except Exception as error:  # a file that has gone, or a curve that is no curve: one bad run
            reason = str(error).splitlines() or [type(error).__name__]
            curve, groups = None, f"its curve cannot be used: {reason[0]}"
        if isinstance(groups, str):
            problems[len(rows)] = groups
            rows.append(i)
        elif curve is None:
            without += 1
            rows.append(i)
        else:
            groups = [] if finished and lookup.whole(i, curve) else groups
            count = len(groups) or int(finished)
            taken.append(_Taken(np.arange(len(rows), len(rows) + count), curve, groups))
            rows += [i] * count
    new = frame.iloc[rows].reset_index(drop=True)
    own = f"{CLUSTER}_logged"
    if CLUSTER in new and own not in new and not new[CLUSTER].equals(new["run"]):
        new = new.rename(columns={CLUSTER: own})
    new[CLUSTER] = new["run"]
    new = _filled(new, metric, taken, named)
    new = arrange(new)
    add_problem(new, np.array(list(problems), dtype=int), list(problems.values()))
    notes = dict(runs.notes)
    if without:
        kept = f"{without} of {len(frame)} runs have no curve of {metric} and keep their row"
        notes[metric] = f"{notes[metric]}; {kept}" if notes.get(metric) else kept
    curves = Curves() if named else runs.curves
    return replace(runs, frame=new, notes=notes, curves=curves)


class _Rows:
    """The rows of a table as plain arrays, and their curves with what grows along them."""

    def __init__(self, frame: pd.DataFrame, metric: str) -> None:
        self.metric = metric
        self.ids = frame["run"].tolist()
        self.held = {c: frame[c].to_numpy(float) for c in _GROWING if c in frame}
        self.value = frame[metric].to_numpy(float) if metric in frame else np.full(len(frame), np.nan)

    def curve(self, i: int, frame: pd.DataFrame | None) -> Curve | None:
        """The curve of row `i`, None if it has none of the metric."""
        if frame is None or self.metric not in frame:
            return None
        value, step = frame[self.metric].to_numpy(float), frame["step"].to_numpy(float)
        seen = frame["tokens"].to_numpy(float) if "tokens" in frame else np.full(step.size, np.nan)
        trained = np.where(np.isfinite(seen), seen, step) > 0
        good = np.flatnonzero(np.isfinite(value) & np.isfinite(step) & trained)
        if not good.size:
            raise ValueError(f"no {self.metric} in it is finite after the start of training")
        last = np.nanmax(step)
        share = step[good] / last if last > 0 else np.ones(good.size)
        return Curve(self.ids[i], good, value[good], step[good], share, self._grown(i, frame, good, share), frame)

    def _grown(self, i: int, frame: pd.DataFrame, good: np.ndarray, share: np.ndarray) -> dict[str, np.ndarray]:
        step = frame["step"].to_numpy(float)[good]
        own = {c: values[i] for c, values in self.held.items()}
        # what a row holds belongs to its own number of steps, which an earlier choice may have made smaller
        steps = own.get("steps", np.nan)
        share = step / steps if np.isfinite(steps) and steps > 0 else share
        nothing = np.full(good.size, np.nan)

        def along(column: str, by: np.ndarray) -> np.ndarray:
            logged = frame[column].to_numpy(float)[good] if column in frame else nothing
            scaled = own.get(column, np.nan) * by
            return np.where(np.isfinite(logged), logged, scaled)

        grown = {"steps": step, "seconds": along("seconds", share), "tokens": along("tokens", share)}
        total = own.get("tokens", np.nan)
        spent = np.where(np.isfinite(grown["tokens"] / total), grown["tokens"] / total, share) if total > 0 else share
        return grown | {c: along(c, spent) for c in ("flops", "epochs", "tokens_per_param")}

    def whole(self, i: int, curve: Curve) -> bool:
        """Whether row `i` holds the metric at the end of its curve already."""
        steps = self.held["steps"][i] if "steps" in self.held else np.nan
        return bool(np.isfinite(self.value[i])) and not steps < curve.step[-1]


def _filled(new: pd.DataFrame, metric: str, taken: list[_Taken], named: bool) -> pd.DataFrame:
    """`new` with the numbers of the points in it."""
    moved = [t for t in taken if t.groups]
    logged = set().union(*(t.curve.frame.columns for t in moved))
    own = [c for c in new.select_dtypes("number").columns if c in logged and c not in _SETTINGS and c != "step"]
    growing = ["steps", *(c for c in _GROWING if c in new and c != "steps")]
    for name in [*growing, *dict.fromkeys([metric, *own])] if moved else []:
        column = new[name].to_numpy(float, copy=True) if name in new else np.full(len(new), np.nan)
        for t in moved:
            column[t.rows] = t.curve.grown[name][t.last] if name in growing else t.means(name)
        new[name] = column
    decayed = np.full(len(new), None, dtype=object)
    for t in taken:
        decayed[t.rows] = _decayed(t)
    if any(d is not None for d in decayed):
        new["decayed"] = pd.array(decayed, dtype="boolean")
        if new["decayed"].notna().all():
            new["decayed"] = new["decayed"].astype(bool)
    if named:
        ids = new["run"].to_numpy(dtype=object, copy=True)
        for t in moved:
            ids[t.rows] = [f"{t.curve.run} @ {step:.15g}" for step in t.curve.step[t.last]]
        new["run"] = pd.Series(ids, index=new.index, dtype="str")
    return new


@dataclass(frozen=True)
class _Taken:
    """Rows of the new table, and the groups of points of one curve that they hold; no groups for a row as it was."""

    rows: np.ndarray
    curve: Curve
    groups: list[np.ndarray]

    @property
    def last(self) -> np.ndarray:
        return np.array([group[-1] for group in self.groups] or [-1])

    def means(self, name: str) -> np.ndarray:
        """The mean of one metric over each group, NaN where none of it is finite."""
        if name not in self.curve.frame:
            return np.full(len(self.groups), np.nan)
        values = self.curve.frame[name].to_numpy(float)[self.curve.position]
        values = np.where(np.isfinite(values), values, np.nan)
        if all(group.size == 1 for group in self.groups):
            return values[self.last]
        return np.array([pd.Series(values[group]).mean() for group in self.groups])


def _decayed(taken: _Taken) -> np.ndarray | None:
    """Whether the last learning rate logged up to each row's point is down from its peak; None where there is none."""
    frame = taken.curve.frame
    lr = frame["lr"].to_numpy(float) if "lr" in frame else np.empty(0)
    known = np.flatnonzero(np.isfinite(lr))
    if not known.size:
        return None
    peak = int(np.argmax(lr[known]))
    before = np.searchsorted(known, taken.curve.position[taken.last], side="right") - 1
    down = (before > peak) & (lr[known[before]] <= DECAYED_AT * lr[known[peak]])
    return np.where(before >= 0, down, None)
