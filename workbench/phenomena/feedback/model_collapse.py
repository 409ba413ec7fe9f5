"""Model collapse: a linear model that is trained, generation after generation, on what its predecessor said."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from workbench.phenomena.base import Claim, Paper, Phenomenon, Tell
from workbench.phenomena.estimates import Estimate, mean, slope

__all__ = ["ModelCollapse"]

DIMENSION, SAMPLES, NOISE = 50, 200, 0.5
#: Generation -> is it recorded; the last is the one that claims are made of.
GENERATIONS = (0, 1, 2, 3, 5, 7, 10, 14, 19)
SEEDS = {"cpu": 200, "gpu": 5000}


def floor() -> float:
    """Expected excess risk of least squares on n real samples of dimension d, sigma^2 d / (n - d - 1).

    The inverse of a Wishart matrix has mean I / (n - d - 1) (Mardia, Kent, Bibby 1979, section 3.8), and the excess
    risk is sigma^2 times the trace of that mean.
    """
    return NOISE**2 * DIMENSION / (SAMPLES - DIMENSION - 1)


class ModelCollapse(Phenomenon):
    """Least squares in 50 dimensions; each generation is fitted to labels that the one before it made, plus noise.

    *Replace* (the effect): only the newest 200 samples are used. Each fit adds its own error to its teacher's, so
    the excess risk after n further generations is (n + 1) sigma^2 d / (T - d - 1) (Dohmatob et al. 2024; derived by
    adding independent errors). *Accumulate* (the control): the samples of all generations are kept, the error of
    fit k counts 1/k as much, and the risk stays below pi^2 / 6 of the first generation's (Gerstgrasser et al. 2024).
    """

    name = "model_collapse"
    title = "Model collapse: replace against accumulate"
    question = "How much worse is the twentieth model that learns only from its predecessor's answers?"
    papers = (
        Paper("Dohmatob et al. 2024", "Model Collapse Demystified: The Case of Regression", "arXiv 2402.07712"),
        Paper("Gerstgrasser et al. 2024", "Is Model Collapse Inevitable?", "arXiv 2404.01413"),
    )
    claims = (
        Claim(
            "risk added by a generation, over the first risk", 0.9, 1.1, expected=1.0, rival=0.0, digits=3,
            source="exact: independent errors add (linear in n); 10 % for the seeds there are",
        ),
        Claim(
            "risk of the last generation, over the first", 18.0, 22.0, expected=20.0, rival=np.pi**2 / 6, digits=3,
            source="exact: 19 generations after the first give 20",
        ),
        Claim(
            "first risk over sigma^2 d/(n-d-1)", 0.9, 1.1, expected=1.0, controlled=False, digits=3,
            source="exact: mean of the inverse Wishart matrix",
        ),
    )  # fmt: skip
    control = "All generations' samples are kept instead of the newest only."
    outcome = ("risk",)
    caveats = (
        "The labels are noisy: without noise a linear model copies its teacher exactly and nothing collapses.",
        "Accumulating costs: the twentieth fit reads twenty times the samples of the first.",
        "The line is straight in this linear model; a language model's tails are lost in another way.",
    )

    def experiment(self, arm: str, budget: str, seed: int, tell: Tell) -> pd.DataFrame:
        repetitions = SEEDS[budget]
        rows = []
        for repetition in range(repetitions):
            rng = np.random.default_rng([seed, repetition, arm == "control"])
            truth = rng.standard_normal(DIMENSION) / np.sqrt(DIMENSION)
            teacher, gram, moment = truth, 0.0, 0.0
            for generation in range(GENERATIONS[-1] + 1):
                x = rng.standard_normal((SAMPLES, DIMENSION))
                y = x @ teacher + NOISE * rng.standard_normal(SAMPLES)
                kept = arm == "control"  # what is kept of all earlier samples
                gram, moment = kept * gram + x.T @ x, kept * moment + x.T @ y
                teacher = np.linalg.solve(gram, moment)
                if generation in GENERATIONS:
                    rows.append((repetition, generation, float(((teacher - truth) ** 2).sum())))
            tell((repetition + 1) / repetitions)
        return pd.DataFrame(rows, columns=["repetition", "generation", "risk"])

    def measure(self, runs: pd.DataFrame) -> Mapping[str, Estimate]:
        last = runs[runs["generation"] == GENERATIONS[-1]]
        first = runs[runs["generation"] == 0]
        per_generation = slope(runs["generation"], runs["risk"] / floor(), seeds=runs["repetition"])
        return {
            "risk added by a generation, over the first risk": per_generation,
            "risk of the last generation, over the first": mean(last["risk"] / floor()),
            "first risk over sigma^2 d/(n-d-1)": mean(first["risk"] / floor()),
        }

    def figure(self, runs: pd.DataFrame):
        from workbench.figures.trend import trend

        names = {"effect": "replace", "control": "accumulate"}
        points = []
        for (arm, generation), rows in runs.groupby(["arm", "generation"], sort=False):
            risk = mean(rows["risk"] / floor())
            points.append((generation + 1, risk.value, risk.low, risk.high, names[arm]))
        n = np.arange(1, GENERATIONS[-1] + 2)
        theory = [(k, k, "replace") for k in n] + [(k, (1 / n[:k] ** 2).sum(), "accumulate") for k in n]
        return trend(
            pd.DataFrame(points, columns=["x", "y", "low", "high", "group"]),
            "Generations trained",
            "Excess risk over that of the first generation",
            theory=pd.DataFrame(theory, columns=["x", "y", "group"]),
            joined=False, log_x=False, log_y=False, group="Samples",
            heading="Each generation learns from the answers of the one before",
            notes=(
                f"least squares, d = {DIMENSION}, {SAMPLES} samples a generation",
                f"{runs['repetition'].nunique()} seeds, bars: 95 % intervals of the mean",
            ),
        )  # fmt: skip
