"""A law fitted to whole loss curves: predictions under other schedules, their scores and their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from workbench.analysis.schedule_search import Search, best_schedule
from workbench.fits.result import Fit
from workbench.late import late
from workbench.laws.schedules.schedule import Schedule

__all__ = ["KINDS", "RESAMPLES", "CurveFit"]

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
    refit = late(
        "workbench.analysis.schedule_curves:refit", "The same law and settings, fitted to others of the curves."
    )

    @property
    def held_out(self) -> tuple[str, ...]:
        """Names of the curves given and not fitted."""
        return tuple(name for name in self.curves if name not in self.train)

    @cached_property
    def misfit(self) -> float:
        """Root mean square of log(predicted / logged) of the fitted curves, each predicted by the others.

        Every curve weighs alike, and so does every logged step within it. Takes one more fit a curve, of a law
        that has seen one curve fewer.

        Raises:
            ValueError: fewer than three curves were fitted.
        """
        if len(self.train) < ENOUGH:
            raise ValueError(
                "the law's error under another schedule is judged by leaving out each fitted curve in turn, which "
                f"needs {ENOUGH} of them; {len(self.train)} were fitted: {', '.join(self.train)}"
            )
        squares = []
        for name in self.train:
            curve = self.curves[name]
            others = self.refit([m for m in self.train if m != name])
            predicted = others.predict(name, curve["step"].to_numpy(float), n=0)["prediction"].to_numpy()
            squares.append(np.mean(np.log(predicted / curve["loss"].to_numpy(float)) ** 2))
        return float(np.sqrt(np.mean(squares)))

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
