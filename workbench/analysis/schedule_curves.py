"""Whole loss curves under schedules never trained: fit one to three curves, predict, score, search a schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from workbench.analysis.schedule_search import Search, best_schedule
from workbench.fits.fit import fit
from workbench.fits.result import Fit
from workbench.late import late
from workbench.laws.base import get
from workbench.laws.schedules.base import ScheduleLaw
from workbench.laws.schedules.schedule import Schedule
from workbench.runs.table import RunTable

__all__ = ["KINDS", "CurveFit", "fit_curves"]

#: Points that enter the fit from each curve, and the stretches of a curve that the bootstrap resamples.
POINTS, BLOCKS = 64, 8
#: Bootstrap resamples behind a predicted band, when nobody says how many.
RESAMPLES = 100
#: Kinds of prediction interval: what each of them holds, for the subtitle of a figure.
KINDS = {
    "curve": "of the parameters, without the law's own error",
    "run": "of one logged loss, without the law's own error under another schedule",
    "schedule": "of another schedule, from leaving out each fitted curve",
}
#: Fitted curves from which the law's error under another schedule can be judged.
ENOUGH = 3


@dataclass(frozen=True)
class CurveFit:
    """A law of whole loss curves, fitted to some of the curves given.

    Attributes:
        fit: the `Fit`; one of its points is one step of one curve, and its bootstrap resamples stretches of
            curves.
        curves: name -> frame with ``step``, ``lr`` and ``loss``, every finite row of every curve given.
        schedules: name -> schedule, of every curve given.
        train: names of the curves fitted.
        left_out: how many rows of each curve could not be used (not finite, not positive, or before step 1).
        settings: what else `fit_curves` was given, for `refit`.
    """

    fit: Fit
    curves: dict[str, pd.DataFrame]
    schedules: dict[str, Schedule]
    train: tuple[str, ...]
    left_out: dict[str, int]
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)

    plot = late("workbench.figures.schedules:curves", "Loss curves with their predictions, as an Altair chart.")

    @property
    def held_out(self) -> tuple[str, ...]:
        """Names of the curves given and not fitted."""
        return tuple(name for name in self.curves if name not in self.train)

    def refit(self, train: Sequence[str]) -> CurveFit:
        """The same law under the same settings, fitted to other ones of the curves given."""
        return fit_curves(self.curves, train=train, schedules=self.schedules, **self.settings)

    @cached_property
    def transfer(self) -> pd.DataFrame:
        """How well each fitted curve is predicted by the others: the columns of `score`, one row a curve.

        Each row is one more fit. The errors are those of a law that has seen one curve fewer.

        Raises:
            ValueError: fewer than three curves were fitted.
        """
        return pd.concat([left.score([name], n=0).iloc[:1] for name, left in self._without.items()])

    @cached_property
    def misfit(self) -> float:
        """Root mean square of log(predicted / logged) of the fitted curves, each predicted by the others.

        Every curve weighs alike, and so does every logged step within it.

        Raises:
            ValueError: fewer than three curves were fitted.
        """
        squares = []
        for name, left in self._without.items():
            curve = self.curves[name]
            predicted = left.predict(name, curve["step"].to_numpy(float), n=0)["prediction"].to_numpy()
            squares.append(np.mean(np.log(predicted / curve["loss"].to_numpy(float)) ** 2))
        return float(np.sqrt(np.mean(squares)))

    @cached_property
    def _without(self) -> dict[str, CurveFit]:
        """Fitted curve -> the fit to all the others."""
        if len(self.train) < ENOUGH:
            raise ValueError(
                f"the law's error under another schedule is judged by leaving out each fitted curve, and {self.train} "
                f"leave too few; fit {ENOUGH} curves or more"
            )
        return {name: self.refit([m for m in self.train if m != name]) for name in self.train}

    def predict(
        self,
        schedule: Schedule | str,
        steps: Sequence[float] | None = None,
        *,
        level: float = 0.95,
        kind: str = "curve",
        n: int = RESAMPLES,
    ) -> pd.DataFrame:
        """The loss curve under a schedule, trained or not.

        Args:
            schedule: a `Schedule`, or the name of one of the curves.
            steps: at which steps; default about 300 of them, evenly spread from the first logged step on.
            level: nominal coverage of the band.
            kind: ``curve`` for the expected loss, ``run`` with the scatter of one logged value around it, both
                as if the law held; ``schedule`` for a loss logged under a schedule that was not fitted.
            n: bootstrap resamples behind ``curve`` and ``run``; 0 for no band of any kind.

        Returns:
            Columns ``step``, ``lr``, ``prediction``, ``low``, ``high``. The bands ``curve`` and ``run`` hold the
            uncertainty of the parameters and not the law's own error under a new schedule, which is mostly
            larger. ``schedule`` is ``prediction * exp(+- t * misfit)`` with Student's t of as many degrees of
            freedom as there are fitted curves: their errors, each predicted by the others, stand for that of
            a curve of no known sign. It is as wide at every step, and three curves say little about how wide:
            it holds at its level on average over choices of the curves, not for each of them.

        Raises:
            ValueError: no curve of this name, a step outside the schedule, a bad level or kind, or too few fitted
                curves for ``schedule``.
        """
        if not 0 < level < 1:
            raise ValueError(f"level is {level!r}; a nominal coverage lies between 0 and 1, such as 0.95")
        if kind not in KINDS:
            raise ValueError(f"no prediction interval is called {kind!r}; choose one of {', '.join(KINDS)}")
        schedule = self._schedule(schedule)
        if steps is None:
            first = min(self._first, schedule.steps)
            steps = np.unique(np.round(np.linspace(first, schedule.steps, 300)))
        at = np.atleast_1d(np.asarray(steps, dtype=float))
        law = self.fit.law.bind([schedule])
        x = {"t": at, "j": np.ones(at.size)}
        out = pd.DataFrame({"prediction": law.predict(self.fit.theta, x), "low": np.nan, "high": np.nan})
        if n and kind == "schedule":
            wide = np.exp(stats.t.ppf(0.5 + level / 2, len(self.train)) * self.misfit)
            out["low"], out["high"] = out["prediction"] / wide, out["prediction"] * wide
        elif n and self.fit.degrees >= 1:
            drawn = law.predict(self.fit.draws(n), x)
            if kind == "run":
                drawn = self._scattered(drawn)
            tail = 50 * (1 - level)
            out["low"], out["high"] = np.nanpercentile(drawn, [tail, 100 - tail], axis=0)
        rate = schedule.rates[np.clip(np.ceil(at).astype(int), 1, schedule.steps) - 1]
        return pd.DataFrame({"step": at, "lr": rate}).join(out)

    def score(
        self,
        curves: Sequence[str] | None = None,
        *,
        level: float = 0.95,
        kind: str = "run",
        n: int = RESAMPLES,
    ) -> pd.DataFrame:
        """How well curves are predicted, over all their logged steps.

        Args:
            curves: names; default those held out, or those fitted if there are none.
            level: nominal coverage of the intervals.
            kind: which intervals, as in `predict`.
            n: bootstrap resamples; 0 leaves the coverage out.

        Returns:
            One row a curve and a last row ``mean``, the mean of the rows above, as Luo et al. 2025 report:
            ``points``, ``R2``, ``MAE``, ``RMSE``, ``worst`` (largest absolute error), all in the unit of the
            loss, ``final_error`` (prediction minus loss at the last logged step), and ``coverage`` (share of
            the logged values inside their interval).

        Raises:
            ValueError: an unknown name.
        """
        names = list(curves) if curves is not None else list(self.held_out or self.train)
        rows = {}
        for name in names:
            if name not in self.curves:
                raise ValueError(f"there is no curve {name!r}; there are {', '.join(self.curves)}")
            curve = self.curves[name]
            out = self.predict(name, curve["step"].to_numpy(float), level=level, kind=kind, n=n)
            loss = curve["loss"].to_numpy(float)
            error = out["prediction"].to_numpy() - loss
            spread = float(((loss - loss.mean()) ** 2).sum())
            inside = (loss >= out["low"]) & (loss <= out["high"])
            rows[name] = {
                "points": loss.size,
                "R2": 1 - float((error**2).sum()) / spread if spread > 0 else np.nan,
                "MAE": float(np.abs(error).mean()),
                "RMSE": float(np.sqrt((error**2).mean())),
                "worst": float(np.abs(error).max()),
                "final_error": float(error[-1]),
                "coverage": float(inside.mean()) if n else np.nan,
            }
        table = pd.DataFrame.from_dict(rows, orient="index").astype(float)
        table.loc["mean"] = table.mean()
        return table.rename_axis("curve")

    def best_schedule(self, steps: int, peak: float | None = None, **options: Any) -> Search:
        """The schedule of `steps` steps with the lowest predicted final loss; see `schedule_search.best_schedule`."""
        return best_schedule(self, steps, peak, **options)

    def _scattered(self, drawn: np.ndarray) -> np.ndarray:
        """Draws ``[n, m]`` with a residual of the fit added to each, inflated for the parameters spent."""
        rng = np.random.default_rng([self.fit.seed, 1])
        inflated = self.fit.residuals * np.sqrt(self.fit.n_runs / self.fit.degrees)
        noise = rng.choice(inflated, size=drawn.shape)
        return drawn * np.exp(-noise) if self.fit.problem.objective.in_logs else drawn - noise

    def _schedule(self, schedule: Schedule | str) -> Schedule:
        if isinstance(schedule, Schedule):
            return schedule
        if schedule not in self.schedules:
            raise ValueError(f"there is no curve {schedule!r}; there are {', '.join(self.schedules)}")
        return self.schedules[schedule]

    @property
    def _first(self) -> int:
        return max(1, int(min(self.curves[name]["step"].min() for name in self.train)))

    def __repr__(self) -> str:
        return f"{self.fit!r}; fitted on {', '.join(self.train)}"


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
