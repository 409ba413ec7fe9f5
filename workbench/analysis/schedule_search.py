"""Which schedule a fitted law of loss curves likes best: a teaching tool with a caution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from workbench.laws.schedules.schedule import DECAYS, Schedule

if TYPE_CHECKING:
    from workbench.analysis.schedule_fit import CurveFit

__all__ = ["CAUTION", "Search", "best_schedule"]

CAUTION = (
    "The best schedule under a fitted law is where the law was pushed hardest: its predicted gain is optimistic "
    "and lies outside the schedules the law was fitted on. Train it against a plain one before believing it."
)


@dataclass(frozen=True)
class Search:
    """Schedules of one length compared under a fitted law.

    Attributes:
        best: the schedule of lowest predicted final loss.
        frame: one row a candidate, best first: ``shape``, ``decay`` (share of the steps after warm-up),
            ``final_loss``, ``gain`` over the cosine schedule of the same length, peak and end.
        cosine: predicted final loss of that cosine.
        interval: 95 % bootstrap interval of the best one's gain; of the parameters only.
        caution: what to know before using it.
    """

    best: Schedule
    frame: pd.DataFrame
    cosine: float
    interval: tuple[float, float]
    caution: str = CAUTION

    def __repr__(self) -> str:
        row, (low, high) = self.frame.iloc[0], self.interval
        return (
            f"<best of {len(self.frame)} schedules: {self.best.name}, predicted final loss {row['final_loss']:.4f}, "
            f"{row['gain']:.4f} below the cosine ({low:.4f} to {high:.4f}). {self.caution}>"
        )


def best_schedule(
    result: CurveFit,
    steps: int,
    peak: float | None = None,
    *,
    end: float | None = None,
    warmup: int | None = None,
    decays: Sequence[float] = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 1.0),
    shapes: Sequence[str] = tuple(DECAYS),
    n: int = 100,
) -> Search:
    """The schedule of lowest predicted final loss among warm-up, stable, decay ones of a given length.

    Every share of decay is tried with every shape; a share of 1 with shape ``cosine`` is the cosine
    schedule. A teaching tool: see `CAUTION`.

    Args:
        result: the fitted law.
        steps: length of the run.
        peak: peak rate; default the largest of the fitted schedules.
        end: rate of the last step; default the lowest that a fitted schedule reaches.
        warmup: steps of warm-up; default that of the first fitted schedule.
        decays: shares of the steps after the warm-up that the decay takes.
        shapes: shapes of the decay, from `DECAYS`.
        n: bootstrap resamples for the interval of the best against the cosine.

    Raises:
        ValueError: a share outside 0 to 1, or an unknown shape.
    """
    trained = [result.schedules[name] for name in result.train]
    peak = max(s.peak for s in trained) if peak is None else peak
    warmup = trained[0].warmup if warmup is None else warmup
    end = min(min(float(s.rates[s.warmup :].min()) for s in trained), peak) if end is None else end
    if not len(decays) or not all(0 < d <= 1 for d in decays):
        raise ValueError(f"decays is {decays!r}; give shares above 0 and at most 1")
    candidates = []
    for shape in shapes:
        for share in decays:
            length = max(round(share * (steps - warmup)), 1)
            name = f"{shape}, last {share:.0%}"
            candidates.append((share, Schedule.wsd(steps, peak, length, end, shape=shape, warmup=warmup, name=name)))
    cosine = Schedule.cosine(steps, peak, end, warmup=warmup, name="cosine for comparison")
    law = result.fit.law.bind([*(s for _, s in candidates), cosine])
    x = {"t": np.full(len(candidates) + 1, float(steps)), "j": np.arange(1.0, len(candidates) + 2)}
    final = law.predict(result.fit.theta, x)
    frame = pd.DataFrame(
        {
            "shape": [s.name.rsplit(",", 1)[0] for _, s in candidates],
            "decay": [share for share, _ in candidates],
            "final_loss": final[:-1],
            "gain": final[-1] - final[:-1],
        }
    )
    best = int(np.argmin(final[:-1]))
    gain = (np.nan, np.nan)
    if n and result.fit.degrees >= 1:
        both = law.predict(result.fit.draws(n), {"t": x["t"][[best, -1]], "j": x["j"][[best, -1]]})
        gain = tuple(float(v) for v in np.nanpercentile(both[:, 1] - both[:, 0], [2.5, 97.5]))
    order = np.argsort(final[:-1], kind="stable")
    return Search(candidates[best][1], frame.iloc[order].reset_index(drop=True), float(final[-1]), gain)
