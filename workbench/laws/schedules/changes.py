"""The changes of a learning-rate schedule, gathered into blocks that a law sums over.

Schedule laws hold a sum over every change of the rate up to the step asked for: 24 000 terms for one
point of a cosine. What a change does depends smoothly on how long ago it was, so that neighbouring
changes can share one term. Blocks grow in proportion to their age and end where the rate has moved
by a fixed factor. A block has exactly the total drop of its changes and their exact mean age and mean
log rate (weighted by the drop), so the error is of second order in its width; rises and falls never
share a block, since they would cancel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.laws.schedules.schedule import Schedule

__all__ = ["RATIO", "Terms", "terms"]

#: Factor by which age and rate may vary within a block; 1 keeps every change by itself.
RATIO = 1.5
#: A rate below this share of the peak counts as this share where its logarithm is needed.
LEAST = 1e-6


@dataclass(frozen=True)
class Terms:
    """Everything the formula of a schedule law needs at ``n`` points with ``m`` blocks together.

    Attributes:
        area: ``[n]`` sum of the learning rates up to each point.
        first: ``[n]`` where each point's blocks begin, for ``np.add.reduceat``; no point is without one.
        drop: ``[m]`` by how much the rate fell in a block, negative for a rise.
        since: ``[m]`` sum of the rates from the change to the point, the step of the change included.
        age: ``[m]`` number of steps from the change to the point, both included.
        log_rate: ``[m]`` logarithm of the rate after the change.
    """

    area: np.ndarray
    first: np.ndarray
    drop: np.ndarray
    since: np.ndarray
    age: np.ndarray
    log_rate: np.ndarray


def terms(schedules: tuple[Schedule, ...], t: np.ndarray, which: np.ndarray, ratio: float, by_area: bool) -> Terms:
    """The blocks of every point.

    Args:
        schedules: the schedules.
        t: ``[n]`` step of each point.
        which: ``[n]`` index of its schedule.
        ratio: see `RATIO`; 1 for the exact sum.
        by_area: whether the age that a block's width follows is counted in area, else in steps.
    """
    n = t.size
    area = np.empty(n)
    rows, columns = [], []
    for k in np.unique(which):
        at = np.flatnonzero(which == k)
        schedule, steps = schedules[k], t[at]
        area[at] = schedule.area(steps)
        row, values = _blocks(schedule, steps, area[at], ratio, by_area)
        rows.append(at[row])
        columns.append(values)
    # A block without a drop for each point: reduceat has no empty sums.
    rows.append(np.arange(n))
    columns.append(np.stack([np.zeros(n), np.ones(n), np.ones(n), np.zeros(n)]))
    row, values = np.concatenate(rows), np.concatenate(columns, axis=1)
    order = np.argsort(row, kind="stable")
    first = np.searchsorted(row[order], np.arange(n))
    return Terms(area, first, *values[:, order])


def _blocks(
    schedule: Schedule, t: np.ndarray, area: np.ndarray, ratio: float, by_area: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Row and ``(drop, since, age, log rate)`` ``[4, m]`` of the blocks of one schedule's points."""
    drops = schedule.drops
    log_rate = np.log(np.maximum(schedule.rates, LEAST * schedule.peak))
    last = np.floor(t).astype(int)
    if ratio <= 1:
        changed = np.flatnonzero(drops) + 1
        row, column = np.nonzero(changed[None, :] <= last[:, None])
        k = changed[column]
        return row, np.stack([drops[k - 1], area[row] - schedule.areas[k - 1], t[row] - k + 1, log_rate[k - 1]])
    edges = np.sort(_edges(schedule, t, last, area, log_rate, ratio, by_area), axis=1)
    found_rows, found = [], []
    for changed in (np.flatnonzero(drops > 0), np.flatnonzero(drops < 0)):
        if not changed.size:
            continue
        weights = np.empty((4, changed.size + 1))
        weights[:, 0] = 0.0
        weights[1:, 1:] = schedule.areas[changed], changed + 1, log_rate[changed]
        weights[0, 1:] = drops[changed]
        weights[1:, 1:] *= drops[changed]
        sums = np.cumsum(weights, axis=1)
        place = np.searchsorted(changed, edges)  # how many of these changes lie before each edge
        row, column = np.nonzero(np.diff(place, axis=1))
        begin, end = place[row, column], place[row, column + 1]
        total, *moments = sums[:, end] - sums[:, begin]
        since, age, rate = (m / total for m in moments)
        found_rows.append(row)
        # Prefix sums cancel in their last digits; an age is at least that of the youngest change.
        youngest = changed[end - 1]
        since = np.maximum(area[row] - since, area[row] - schedule.areas[youngest])
        found.append(np.stack([total, since, np.maximum(t[row] - age + 1, t[row] - youngest), rate]))
    if not found:
        return np.empty(0, dtype=int), np.empty((4, 0))
    return np.concatenate(found_rows), np.concatenate(found, axis=1)


def _edges(schedule, t, last, area, log_rate, ratio, by_area) -> np.ndarray:
    """``[n, E]`` ends of blocks: a block holds the changes after one end up to and with the next."""
    if by_area:
        youngest = max(float(schedule.rates[schedule.rates > 0].min()), 1e-7 * float(area.max()))
        reach = np.log(max(float(area.max()) / youngest, 1.0)) / np.log(ratio)
        back = youngest * ratio ** np.arange(np.ceil(reach) + 1)
        by_age = np.searchsorted(schedule.areas, area[:, None] - back)
    else:
        reach = np.log(max(float(t.max()), 1.0)) / np.log(ratio)
        by_age = np.floor(t[:, None] - ratio ** np.arange(np.ceil(reach) + 1)).astype(int)
    by_rate = np.zeros(1, dtype=int)
    if by_area:  # an effect that follows area depends on the rate as well
        by_rate = np.r_[0, np.flatnonzero(np.diff(np.floor(log_rate / np.log(ratio)))) + 1]
    both = np.concatenate([by_age, np.broadcast_to(by_rate, (t.size, by_rate.size)), last[:, None]], axis=1)
    return np.clip(both, 0, last[:, None])
