"""From scale to loss to task score: two fits in a row, with the uncertainty of both in the forecast.

Task scores of small models are noisy and near chance, their losses are smooth; so the loss is fitted in scale, the
score in loss, and the forecast goes through both (Gadre et al. 2024, arXiv 2403.08540).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from workbench.engine.solver import solve
from workbench.fits import holdout
from workbench.fits.fit import fit
from workbench.fits.intervals import resample
from workbench.fits.points import Points
from workbench.fits.predict import KINDS
from workbench.fits.result import RESAMPLES, Fit
from workbench.laws.base import Law, get
from workbench.runs.load import load
from workbench.runs.table import RunTable

__all__ = ["Chain", "chain"]


def chain(
    runs: Any,
    *,
    score: str,
    loss: str = "loss",
    law: str | Law = "chinchilla",
    link: str | Law = "exponential_link",
    where: str | None = None,
    link_where: str | None = None,
    cluster: str | None = None,
    seed: int = 0,
    law_options: Mapping[str, Any] | None = None,
    link_options: Mapping[str, Any] | None = None,
) -> Chain:
    """Fit `law` to the loss and `link` to a score as a function of the loss.

    Args:
        runs: a `RunTable`, or anything `workbench.load` takes.
        score: column to forecast, e.g. an error rate or an accuracy. ``exponential_link`` wants one that rises with
            the loss (an error), ``sigmoid_link`` one that falls (an accuracy).
        loss: column that connects the two fits.
        law: loss in scale.
        link: score in loss; a law of one input.
        where: runs of the first fit.
        link_where: runs of the second; default the same. A larger run whose score is known may help the link
            while the loss law is still fitted to the small ones.
        cluster: column whose equal values are resampled together, such as the model a checkpoint belongs to.
        seed: of starts, bootstrap and noise.
        law_options, link_options: further arguments of `workbench.fit` for each, e.g. ``{"objective": "mse"}`` or
            ``{"fixed": {"c": 0.25}}``.

    Returns:
        A `Chain`.

    Raises:
        ValueError: the link has more than one input, or one of the fits cannot be made; the sentence says why.
    """
    link = get(link)
    if len(link.inputs) != 1:
        raise ValueError(
            f"{link.name} takes {', '.join(i.symbol for i in link.inputs)}; a link is a law of the loss alone, "
            "such as exponential_link or sigmoid_link"
        )
    table = load(runs)
    shared = {"cluster": cluster, "seed": seed}
    first = fit(table, law, y=loss, where=where, **shared | dict(law_options or {}))
    second = fit(
        table,
        link,
        y=score,
        inputs={link.inputs[0].symbol: loss},
        where=where if link_where is None else link_where,
        **shared | dict(link_options or {}),
    )
    return Chain(first, second)


@dataclass(frozen=True)
class Chain:
    """A loss fitted in scale and a score fitted in that loss. Immutable.

    Attributes:
        first: the loss in scale.
        second: the score in the measured loss.
    """

    first: Fit
    second: Fit
    _cache: dict = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def points(self) -> Points:
        """The runs of the link, with the inputs of the loss law: what the chain predicts, and from what."""
        return replace(self.second.points, columns=self.first.points.columns)

    def draws(self, n: int = RESAMPLES) -> tuple[np.ndarray, np.ndarray]:
        """Joint bootstrap draws ``[n, P]`` of both fits: each draw resamples the runs once and refits both.

        Raises:
            ValueError: one of the fits has no degrees of freedom.
        """
        for stage in (self.first, self.second):
            if stage.degrees < 1:
                raise ValueError(
                    f"{stage.law.name} has {len(stage.problem.free)} free parameters and {stage.n_runs} runs, which "
                    "leaves nothing to resample; add runs or fix parameters"
                )
        if n not in self._cache:
            labels = [_labels(stage.points) for stage in (self.first, self.second)]
            codes, names = pd.factorize(np.concatenate(labels))
            counts = resample(np.arange(len(names)), np.ones(len(names)), n, np.random.default_rng(self.first.seed))
            split = len(labels[0])
            out = []
            for stage, code in ((self.first, codes[:split]), (self.second, codes[split:])):
                weights = counts[:, code] * stage.points.weights
                starts = np.repeat(stage.theta[None], n, axis=0)
                out.append(solve(stage.problem, starts, weights, warm=True, tolerance=1e-9).theta)
            self._cache[n] = tuple(out)
        return self._cache[n]

    def predict(
        self, at: Any = None, *, level: float = 0.95, kind: str = "run", n: int = RESAMPLES, **columns: Any
    ) -> pd.DataFrame:
        """Forecasts of the score with intervals through both fits.

        Args:
            at: where, as in `Fit.predict`: ``chain.predict(params=7e9, tokens=140e9)``. Default the runs of the
                loss fit.
            level: nominal coverage.
            kind: ``run``: for one new run, whose loss scatters around the first law and whose score scatters
                around the link; ``curve``: for the expected value.
            n: bootstrap resamples.

        Returns:
            The inputs, the loss forecast, then ``prediction``, ``low``, ``high`` in the unit of the score and
            ``extrapolation`` as in `Fit.predict`. Low and high are NaN where a fit has no degrees of freedom.

        Raises:
            ValueError: a column is missing or not positive, or `level` or `kind` is not allowed.
        """
        if kind not in KINDS:
            raise ValueError(f"no prediction interval is called {kind!r}; choose {' or '.join(map(repr, KINDS))}")
        # the first fit checks the inputs and knows how far they extrapolate; its own interval is not needed
        said = self.first.predict(at, level=level, kind="curve", n=1, **columns)
        x = {s: said[c].to_numpy(float) for s, c in self.first.points.columns.items()}
        loss = said["prediction"].to_numpy(float)
        out = said.drop(columns=["prediction", "low", "high", "extrapolation"])
        out[self.first.points.target] = loss
        out["prediction"] = self._link(self.second.theta, loss)
        out["low"] = out["high"] = np.nan
        if min(self.first.degrees, self.second.degrees) >= 1:
            drawn = self._drawn(x, n, kind == "run")
            tail = 50 * (1 - float(level))
            out["low"], out["high"] = np.nanpercentile(drawn, [tail, 100 - tail], axis=0)
        out["extrapolation"] = said["extrapolation"]
        return out

    def score(self, held_out: RunTable, n: int = RESAMPLES) -> tuple[dict[str, float], pd.DataFrame]:
        """How well the chain forecasts the score of runs it has not seen; scores and rows as in `holdout.score`."""
        return holdout.score(self, held_out, n)

    def _link(self, theta: np.ndarray, loss: np.ndarray) -> np.ndarray:
        """The link's formula with a loss for every draw: ``[..., P]`` and ``[..., m]`` give ``[..., m]``."""
        return self.second.law.formula(loss, *(theta[..., j, None] for j in range(theta.shape[-1])))

    def _drawn(self, x: Mapping[str, np.ndarray], n: int, noisy: bool) -> np.ndarray:
        theta, phi = self.draws(n)
        loss = self.first.law.predict(theta, x)
        if not noisy:
            return self._link(phi, loss)
        rng = np.random.default_rng([self.first.seed, 1])
        first = rng.choice(self.first.n_runs, size=loss.shape, p=_share(self.first))
        # A run with an unlucky loss may have an unlucky score beyond what the link says: where both fits saw the
        # same runs, the two residuals of one run stay together.
        same = list(self.first.points.frame["run"]) == list(self.second.points.frame["run"])
        second = first if same else rng.choice(self.second.n_runs, size=loss.shape, p=_share(self.second))
        return _noisy(self.second, self._link(phi, _noisy(self.first, loss, first)), second)

    def __repr__(self) -> str:
        return f"{self.first!r}\nthen {self.second!r}"


def _labels(points: Points) -> np.ndarray:
    """What is resampled together: the run, or the group it belongs to."""
    column = points.grouped_by if points.grouped_by is not None else "run"
    return points.frame[column].to_numpy(dtype=object)


def _share(stage: Fit) -> np.ndarray:
    return stage.points.weights / stage.points.weights.sum()


def _noisy(stage: Fit, drawn: np.ndarray, index: np.ndarray) -> np.ndarray:
    """`drawn` with the residuals of runs `index`, inflated for the parameters already spent."""
    noise = (stage.residuals * np.sqrt(stage.n_runs / stage.degrees))[index]
    return drawn * np.exp(-noise) if stage.problem.objective.in_logs else drawn - noise
