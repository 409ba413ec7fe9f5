"""Whole loss curves under schedules never trained: fit one to three curves, predict, score, search a schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from workbench.analysis.schedule_fit import CurveFit
from workbench.fits.fit import fit
from workbench.laws.base import get
from workbench.laws.schedules.base import ScheduleLaw
from workbench.laws.schedules.schedule import Schedule
from workbench.runs.table import RunTable

__all__ = ["CurveFit", "fit_curves", "refit"]

#: Points that enter the fit from each curve, and the stretches of a curve that the bootstrap resamples.
POINTS, BLOCKS = 64, 8


def fit_curves(
    curves: Mapping[str, pd.DataFrame] | RunTable,
    law: str | ScheduleLaw = "multi_power",
    *,
    train: Sequence[str] | None = None,
    warmup: int = 0,
    schedules: Mapping[str, Schedule] | None = None,
    points: int = POINTS,
    spacing: str = "log",
    blocks: int = BLOCKS,
    y: str = "loss",
    **options: Any,
) -> CurveFit:
    """Fit a law of whole loss curves, such as ``multi_power`` or ``annealing``.

    A curve's logged losses are strongly correlated from one step to the next, so few of them carry all
    it says and no two neighbours are independent evidence: `points` of them enter the fit, and the
    bootstrap resamples `blocks` contiguous stretches of each curve (as clusters), not single losses. What
    differs between runs as wholes (their seed, what the law gets wrong of a schedule) is not in that
    bootstrap; `CurveFit.predict` with ``kind="schedule"`` judges it by leaving out whole curves.

    Args:
        curves: name -> frame with ``step``, ``lr`` and the loss; or a `RunTable` whose runs logged these.
        law: a schedule law or its name.
        train: names of the curves to fit; default all of them. The others are there to be predicted.
        warmup: steps of linear warm-up that the logs leave out (or show).
        schedules: name -> `Schedule` where it is known exactly; the others are read off the ``lr`` column by
            `Schedule.from_frame`.
        points: places of each curve at which the nearest logged loss enters the fit, each once; a curve with
            fewer losses enters whole.
        spacing: ``log`` for places evenly spread in the logarithm of the step, so that each stage of training
            weighs alike; ``even`` for the step itself.
        blocks: stretches of each curve that the bootstrap resamples.
        y: column of the loss.
        options: further arguments of `workbench.fit`, such as ``fixed={"tau": Annealing.memory(0.999)}``.

    Returns:
        A `CurveFit`.

    Raises:
        ValueError: no such curve or law, a curve without the columns, too few points, or a law of other inputs.
    """
    law = get(law)
    if not isinstance(law, ScheduleLaw) or len(law.inputs) != 2:
        raise ValueError(f"{law.name} is no law of whole curves of one model; take multi_power or annealing")
    if spacing not in ("even", "log"):
        raise ValueError(f"spacing is {spacing!r}; choose 'even' or 'log'")
    for what, value in (("points", points), ("blocks", blocks)):
        if not isinstance(value, int | np.integer) or value < 2:
            raise ValueError(f"{what} is {value!r}; it must be a whole number of at least 2")
    given = {k: curves.curves[k] for k in curves.curves} if isinstance(curves, RunTable) else dict(curves)
    if not given:
        raise ValueError("there is no curve to fit; give a mapping from name to a frame with step, lr and loss")
    train = tuple(given) if train is None else tuple(train)
    for name in train:
        if name not in given:
            raise ValueError(f"there is no curve {name!r} to fit; there are {', '.join(map(str, given))}")
    if not train:
        raise ValueError("train names no curve; name at least one")
    found, kept, left_out = {}, {}, {}
    for name, frame in given.items():
        schedule = (schedules or {}).get(name)
        found[name], kept[name], left_out[name] = _curve(str(name), frame, schedule, warmup, y)
    spread = np.geomspace if spacing == "log" else np.linspace
    parts = []
    for number, name in enumerate(train, 1):
        curve = kept[name]
        if len(curve) > points:
            step = curve["step"].to_numpy(float)
            curve = curve.iloc[np.unique(_nearest(step, spread(step[0], step[-1], points)))]
        stretch = np.arange(len(curve)) * blocks // len(curve)
        part = curve.assign(run=[f"{name} step {s:g}" for s in curve["step"]], curve=str(name), schedule=float(number))
        parts.append(part.assign(stretch=[f"{name} {k}" for k in stretch], problem=""))
    columns = ["run", "step", "schedule", "loss", "curve", "stretch", "problem"]
    table = RunTable(pd.concat(parts, ignore_index=True)[columns])
    bound = law.bind([found[name] for name in train])
    fitted = fit(table, bound, inputs={"j": "schedule"}, cluster="stretch", **options)
    settings = {"law": law, "points": points, "spacing": spacing, "blocks": blocks, **options}
    return CurveFit(fitted, kept, found, train, left_out, settings)


def refit(result: CurveFit, train: Sequence[str]) -> CurveFit:
    """The law of `result` with its settings, fitted to the curves of `result` that `train` names.

    Raises:
        ValueError: as `fit_curves`.
    """
    return fit_curves(result.curves, train=train, schedules=result.schedules, **result.settings)


def _curve(name: str, frame: pd.DataFrame, schedule: Schedule | None, warmup: int, y: str):
    """The schedule of a curve, its usable rows as ``step``, ``lr``, ``loss``, and how many are not usable."""
    wanted = ["step", y] if schedule is not None else ["step", "lr", y]
    for column in wanted:
        if column not in frame:
            raise ValueError(f"curve {name!r} has no column {column!r}; it has {', '.join(map(str, frame.columns))}")
    numbers = frame[wanted].apply(pd.to_numeric, errors="coerce").astype(float).rename(columns={y: "loss"})
    if schedule is None:
        schedule = Schedule.from_frame(numbers, warmup=warmup, name=name)
    elif schedule.name != name:
        schedule = replace(schedule, name=name)
    good = np.isfinite(numbers["loss"]) & (numbers["loss"] > 0)
    good &= (numbers["step"] >= 1) & (numbers["step"] <= schedule.steps)
    rows = numbers[good].drop_duplicates("step", keep="last").sort_values("step").reset_index(drop=True)
    if len(rows) < 2:
        raise ValueError(
            f"curve {name!r} has {len(rows)} usable rows (a positive loss at a step from 1 to {schedule.steps}); "
            "give at least 2"
        )
    rows["lr"] = schedule.rates[np.ceil(rows["step"]).astype(int).to_numpy() - 1]
    return schedule, rows[["step", "lr", "loss"]], int(len(frame) - len(rows))


def _nearest(values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Index of the value nearest to each of those wanted; `values` ascending."""
    after = np.clip(np.searchsorted(values, wanted), 1, values.size - 1)
    return np.where(wanted - values[after - 1] < values[after] - wanted, after - 1, after)
