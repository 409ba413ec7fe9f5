"""The annealing law: a power of the summed learning rate, less an annealing area, predicts schedules never run."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from workbench.phenomena.base import Claim, Paper, Phenomenon, Tell
from workbench.phenomena.estimates import Estimate, mean

__all__ = ["AnnealingPredicts", "problem", "risk", "schedules"]

#: Budget -> problems, features of each, and steps of a run.
SIZES = {"cpu": (8, 500, 3000), "gpu": (100, 4000, 30_000)}
BATCH = 4
FITTED, UNSEEN = ("constant", "drop"), ("cosine", "late decay", "linear")
#: Losses kept of each curve, evenly in the logarithm of the step, from this share of the run on.
POINTS, FIRST = 80, 0.02


def risk(rates: np.ndarray, spectrum: np.ndarray, start: np.ndarray, noise: float, batch: int) -> np.ndarray:
    """Expected excess risk of one-pass SGD on Gaussian least squares, after each step; exact.

    For inputs x ~ N(0, diag(spectrum)), labels with noise of standard deviation `noise`, and the mean square C_i of
    the error of weight i, one step at the rate eta on `batch` new samples gives (Isserlis' theorem for the fourth
    moments of x)

    ``C_i <- C_i (1 - 2 eta l_i + eta^2 l_i^2 (1 + 1/b)) + eta^2 l_i (sum_j l_j C_j + noise^2) / b``.

    Args:
        rates: learning rates [S, T] of S schedules.
        spectrum: variances l of the inputs [d].
        start: mean square error of each weight at the start [d].
        noise: standard deviation of the labels' noise.
        batch: samples of a step, b.

    Returns:
        ``sum_i l_i C_i`` [S, T]; the expected squared error on new samples is larger by noise^2.
    """
    c = np.repeat(start[None], len(rates), axis=0)
    found = np.empty(rates.shape)
    total = c @ spectrum
    for t in range(rates.shape[1]):
        eta = rates[:, t, None]
        c *= 1 - 2 * eta * spectrum + eta**2 * spectrum**2 * (1 + 1 / batch)
        c += eta**2 * spectrum / batch * (total[:, None] + noise**2)
        total = found[:, t] = c @ spectrum
    return found


def problem(features: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
    """A random least-squares problem: power laws of the inputs' variances and of the target, and the noise.

    Returns:
        variances [d], squared weights of the target [d] with an initial risk of 1, and the noise's standard deviation.
    """
    place = np.arange(1, features + 1)
    spectrum = place ** -rng.uniform(1.1, 1.5)
    start = place ** -rng.uniform(0.4, 1.0)
    return spectrum, start / (start @ spectrum), rng.uniform(0.5, 1.0)


def schedules(steps: int, peak: float) -> list:
    """The two schedules that are fitted and the three that are not, as `Schedule`."""
    from workbench.laws.schedules.schedule import Schedule

    return [
        Schedule.constant(steps, peak, name=FITTED[0]),
        Schedule.two_stage(steps, peak, peak / 10, round(0.6 * steps), name=FITTED[1]),
        Schedule.cosine(steps, peak, 0.0, name=UNSEEN[0]),
        Schedule.wsd(steps, peak, 0.2, 0.0, name=UNSEEN[1]),
        Schedule.linear(steps, peak, 0.0, name=UNSEEN[2]),
    ]


class AnnealingPredicts(Phenomenon):
    """SGD on random least squares with power-law inputs: two curves are fitted, three under other schedules predicted.

    The loss is exact (`risk`), so that every error is the law's own. The rate's peak is half the inverse of the summed
    variances, a quarter of where single-sample steps diverge; a batch of four then makes annealing worth some 5 % of
    the loss. `workbench.fit_curves` fits the law ``L_0 + A S_1^-alpha - C S_2`` to a constant rate and to one sudden
    drop to a tenth. The control fits the same law without the annealing area S_2, as if only the sum of the
    learning rates counted. Each repetition is a problem with exponents and noise of its own.
    """

    name = "annealing"
    title = "The annealing law predicts schedules never run"
    question = "Two loss curves are fitted: where will a cosine end that has never been run?"
    papers = (
        Paper("Tissue, Wang and Wang 2024", "Scaling Law with Learning Rate Annealing", "arXiv 2408.11029"),
        Paper("Hu et al. 2024", "MiniCPM (warm-up, stable, decay)", "arXiv 2404.06395"),
    )
    claims = (
        Claim(
            "cosine: error of the predicted last loss", -1.0, 1.0, expected=0.0, rival=5.0, unit="%",
            source="the law is an approximation; 1 % is a fifth of what annealing is worth, which a law of the summed "
            "rates alone must miss",
        ),
        Claim(
            "late decay: error of the predicted last loss", -1.0, 1.0, expected=0.0, rival=5.0, unit="%",
            source="as for the cosine; the rate falls over the last fifth of the steps",
        ),
        Claim(
            "late decay: predicted share of the fall", 0.8, 1.2, expected=1.0, rival=0.0,
            source="from the first step of the decay to the last; 20 % for a law that gives all of the spectrum one "
            "memory. In a law of the summed rates the fall is next to 0.",
        ),
    )  # fmt: skip
    control = "The law is fitted without its annealing area S_2."
    outcome = ("loss",)
    caveats = (
        "The loss is an expectation: no run-to-run noise enters, which a real fit has to bear.",
        "The law remembers each fall of the rate with one decay time, least squares with a spectrum of them: it "
        "predicts somewhat too small a gain.",
        "Twice the steps or a larger peak are not tested here; schedules of one length are.",
        "A cosine alone does not determine the law: it follows its own curve closely and errs on others.",
    )

    def experiment(self, arm: str, budget: str, seed: int, tell: Tell) -> pd.DataFrame:
        import workbench

        problems, features, steps = SIZES[budget]
        kept = np.unique(np.geomspace(FIRST * steps, steps, POINTS).round().astype(int))
        kept = np.union1d(kept, [round(0.8 * steps)])  # where the decay begins
        without = {"fixed": {"C": 0.0, "tau": 100.0}} if arm == "control" else {}
        tables = []
        for repetition in range(problems):
            spectrum, start, noise = problem(features, np.random.default_rng([seed, repetition]))
            plans = schedules(steps, 0.5 / spectrum.sum())
            excess = risk(np.array([plan.rates for plan in plans]), spectrum, start, noise, BATCH)
            curves = {
                plan.name: pd.DataFrame({"step": kept, "lr": plan.rates[kept - 1], "loss": row[kept - 1] + noise**2})
                for plan, row in zip(plans, excess, strict=True)
            }
            known = {plan.name: plan for plan in plans}
            law = workbench.fit_curves(curves, "annealing", train=FITTED, schedules=known, points=POINTS, **without)
            for name, curve in curves.items():
                predicted = law.predict(name, kept, n=0)["prediction"].to_numpy()
                tables.append(curve.assign(repetition=repetition, schedule=name, predicted=predicted))
            tell((repetition + 1) / problems)
        return pd.concat(tables, ignore_index=True)[["repetition", "schedule", "step", "lr", "loss", "predicted"]]

    def measure(self, runs: pd.DataFrame) -> Mapping[str, Estimate]:
        last = runs["step"].max()
        at_end = runs[runs["step"] == last].set_index(["schedule", "repetition"])
        error = 100 * (at_end["predicted"] / at_end["loss"] - 1)
        decay = runs[(runs["schedule"] == UNSEEN[1]) & runs["step"].isin([round(0.8 * last), last])]
        ends = decay.sort_values("step").groupby("repetition")[["loss", "predicted"]]
        fall = ends.first() - ends.last()
        return {
            "cosine: error of the predicted last loss": mean(error[UNSEEN[0]]),
            "late decay: error of the predicted last loss": mean(error[UNSEEN[1]]),
            "late decay: predicted share of the fall": mean(fall["predicted"] / fall["loss"]),
        }

    def figure(self, runs: pd.DataFrame):
        from workbench.figures.trend import trend

        names = {"effect": "law with annealing area", "control": "law of the summed rates"}
        one = runs[(runs["repetition"] == 0) & (runs["step"] >= runs["step"].max() / 8)]
        one = one[one["schedule"] != UNSEEN[2]]  # four panels; the straight line looks much as the cosine does
        panel = one["schedule"] + [" (fitted)" if s in FITTED else " (predicted)" for s in one["schedule"]]
        one = one.assign(x=one["step"], panel=panel)
        measured = one[one["arm"] == one["arm"].iloc[0]].assign(y=lambda f: f["loss"], group="run")
        laws = one.assign(y=one["predicted"], group=one["arm"].map(names))
        return trend(
            measured[["x", "y", "group", "panel"]],
            "Step",
            "Expected squared error",
            theory=laws[["x", "y", "group", "panel"]],
            joined=False, log_x=False, log_y=False, group="Loss of",
            heading="Two curves are fitted; what does the law say of the others?",
            notes=("least squares, first random problem", "left out: first eighth of the steps, linear schedule"),
        )  # fmt: skip
