"""The surge: stepping by signs or Adam, the best learning rate rises with the batch, peaks, and falls."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from workbench.phenomena.base import Claim, Paper, Phenomenon, Tell
from workbench.phenomena.estimates import Estimate, mean, slope

__all__ = ["Surge", "best_rate"]

DIMENSION, COUPLING, SIGNAL = 101, 0.25, 0.02
#: Curvature along the signs of the gradient, over the trace: what a step by signs meets without and with noise.
RATIO = 1 + COUPLING * (DIMENSION - 1)
BATCHES = tuple(2**k for k in range(20))
#: Steps a rate is the best for; more in small batches, whose steps are nearly all noise.
STEPS, STEPS_SMALL, SMALL = 500, 10_000, 8
REPETITIONS = {"cpu": 12, "gpu": 800}
OPTIMIZERS = ("sign", "adam", "sgd")


def best_rate(optimizer: str, mu: np.ndarray, sigma: np.ndarray, hessian: np.ndarray, batch: float) -> float:
    """The learning rate whose single step lowers a quadratic loss most, on average; exact.

    A step s at the rate eta changes the loss by ``-eta mu.s + eta^2 s'Hs / 2``, so the best rate is
    ``mu.E[s] / E[s'Hs]``. The entries of the gradient are independent and normal with mean mu and standard deviation
    sigma / sqrt(B). A sign has the mean ``erf(mu sqrt(B/2) / sigma)`` and the square 1; an entry that Adam divides by
    the root of its mean square, averaged over many steps, has the mean ``mu / sqrt(mu^2 + sigma^2/B)`` and the mean
    square 1.

    Args:
        optimizer: ``sign``, ``adam`` (without momentum) or ``sgd``.
        mu: expected gradient [d].
        sigma: standard deviation of one example's gradient [d].
        hessian: [d, d].
        batch: examples of a step.
    """
    from scipy.special import erf

    if optimizer == "sgd":
        return float(mu @ mu / (mu @ hessian @ mu + np.diag(hessian) @ sigma**2 / batch))
    if optimizer == "sign":
        moved = erf(mu * math.sqrt(batch / 2) / sigma)
    else:
        moved = mu / np.sqrt(mu**2 + sigma**2 / batch)
    return float(mu @ moved / (moved @ hessian @ moved + np.diag(hessian) @ (1 - moved**2)))


class Surge(Phenomenon):
    """One step on a quadratic loss in 101 dimensions, with the gradient of a batch: which learning rate was best?

    The Hessian has ones on its diagonal and, in the effect, rho = 0.25 beside it with the signs of the gradient, as
    where the gradient lies along a direction of high curvature. Let f be the mean share of a unit that a sign (or
    Adam's step) moves the right way; it grows with the batch from 0 to 1. Then the best rate is proportional to
    ``f / (1 + (R - 1) f^2)`` with ``R = 1 + rho (d - 1) = 26``, the curvature of the noise-free step over that of
    pure noise. It peaks at ``f = 1 / sqrt(R - 1)``, where it is ``R / (2 sqrt(R - 1)) = 2.6`` times its limit; for
    R <= 2 it has no peak. Each gradient is drawn and each step taken: the measured rate is the one that lowers the
    mean loss of 500 such steps most (of 10 000 in small batches).
    """

    name = "surge"
    title = "The surge: best learning rate against batch size"
    question = "The batch grows a thousandfold: should the learning rate of Adam go up or down?"
    papers = (
        Paper("Li et al. 2024", "Surge Phenomenon in Optimal Learning Rate and Batch Size Scaling", "arXiv 2405.14578"),
        Paper("McCandlish et al. 2018", "An Empirical Model of Large-Batch Training", "arXiv 1812.06162"),
    )
    claims = (
        Claim(
            "sign: peak over limit", 2.34, 2.86, expected=2.6, rival=1.0, digits=3,
            source="highest best rate over that in the largest batch, exact: R/(2 sqrt(R-1)), R = 26; 10 % for noise "
            "and grid. SGD's saturation would give 1.",
        ),
        Claim(
            "Adam: peak over limit", 2.34, 2.86, expected=2.6, rival=1.0, digits=3,
            source="exact for an average of the squares over many steps, derived as for signs: the same height",
        ),
        Claim(
            "SGD: peak over limit", 0.95, 1.1, expected=1.0, rival=2.6,
            controlled=False,
            source="McCandlish et al. 2018: eta_max/(1 + B_n/B) saturates; 5 to 10 % for the steps drawn",
        ),
        Claim(
            "sign: peak moves if the gradient halves", 3.4, 4.6, expected=4.0, rival=2.0,
            controlled=False,
            source="times the batch, exact: f depends on mu sqrt(B) only; 15 % as the peak is flat. "
            "A peak at B ~ 1/mu would give 2.",
        ),
        Claim(
            "sign: exponent of the rise", 0.42, 0.54, expected=0.48, rival=1.0, controlled=False,
            source="square-root rule 0.5; exact theory over batches 1 to 8 gives 0.48, as the rate already "
            "bends. SGD's linear rule would give 1.",
        ),
    )  # fmt: skip
    control = "The Hessian is diagonal: moves along different axes do not add up in curvature."
    outcome = ("rate",)
    caveats = (
        "One step on a quadratic: what a whole training run prefers is another question.",
        "The noise of different entries is independent. If it is correlated as the Hessian is, small batches meet the "
        "coupling too: exact theory then leaves 1.1 of Adam's 2.6, and the surge is nearly gone.",
        "The published form 2 eta/(sqrt(B/B_n) + sqrt(B_n/B)) falls to 0; the exact rate tends to a constant, as the "
        "paper says of very large batches too. The form is good up to some ten times the peak's batch.",
        "No peak for R <= 2: the coupling must outweigh the trace.",
    )

    def experiment(self, arm: str, budget: str, seed: int, tell: Tell) -> pd.DataFrame:
        rho = COUPLING * (arm == "effect")
        rows = []
        for repetition in range(REPETITIONS[budget]):
            rng = np.random.default_rng([seed, repetition, arm == "control"])
            signs = rng.choice(np.array([-1, 1], dtype=np.float32), DIMENSION)
            for gradient, batch in [(g, b) for g in (1.0, 0.5) for b in BATCHES]:
                mu = np.float32(gradient * SIGNAL) * signs
                count = STEPS_SMALL if batch <= SMALL and gradient == 1.0 else STEPS
                noise = rng.standard_normal((count, DIMENSION), dtype=np.float32)
                drawn = mu + noise / np.float32(math.sqrt(batch))
                steps = {"sign": np.sign(drawn)}
                if gradient == 1.0:
                    steps |= {"adam": drawn / np.sqrt((drawn**2).mean(0)), "sgd": drawn}
                for optimizer, s in steps.items():
                    # s'Hs of H = (1 - rho) I + rho signs signs'
                    curvature = (1 - rho) * float((s**2).sum()) + rho * float(((s @ signs) ** 2).sum())
                    rows.append((repetition, optimizer, gradient, batch, float((s @ mu).sum()) / curvature))
            tell((repetition + 1) / REPETITIONS[budget])
        return pd.DataFrame(rows, columns=["repetition", "optimizer", "gradient", "batch", "rate"])

    def measure(self, runs: pd.DataFrame) -> Mapping[str, Estimate]:
        peaks = {key: [_peak(rows) for _, rows in group.groupby("repetition")] for key, group in _series(runs)}
        found = {
            f"{said}: peak over limit": mean([height for _, height in peaks[optimizer, 1.0]])
            for optimizer, said in (("sign", "sign"), ("adam", "Adam"), ("sgd", "SGD"))
        }
        moved = [after[0] / before[0] for before, after in zip(peaks["sign", 1.0], peaks["sign", 0.5], strict=True)]
        found["sign: peak moves if the gradient halves"] = mean(moved)
        small = runs[(runs["optimizer"] == "sign") & (runs["gradient"] == 1.0) & (runs["batch"] <= SMALL)]
        found["sign: exponent of the rise"] = slope(
            small["batch"], small["rate"].clip(lower=1e-12), log=True, seeds=small["repetition"]
        )
        return found

    def figure(self, runs: pd.DataFrame):
        from workbench.figures.trend import trend

        names = {"sign": "sign of the gradient", "adam": "Adam, no momentum", "sgd": "SGD"}
        panels = {"effect": "curvature couples the axes", "control": "diagonal Hessian"}
        points, theory = [], []
        shown = runs[runs["gradient"] == 1.0]
        mu, sigma = np.full(DIMENSION, SIGNAL), np.ones(DIMENSION)
        for (arm, optimizer), rows in shown.groupby(["arm", "optimizer"], sort=False):
            rho = COUPLING * (arm == "effect")
            hessian = (1 - rho) * np.eye(DIMENSION) + rho
            limit = best_rate(optimizer, mu, sigma, hessian, math.inf)
            for batch, group in rows.groupby("batch"):
                rate = mean(group["rate"] / limit)
                points.append((batch, rate.value, rate.low, rate.high, names[optimizer], panels[arm]))
            for batch in np.geomspace(BATCHES[0], rows["batch"].max(), 80):
                rate = best_rate(optimizer, mu, sigma, hessian, batch) / limit
                theory.append((batch, rate, names[optimizer], panels[arm]))
        return trend(
            pd.DataFrame(points, columns=["x", "y", "low", "high", "group", "panel"]),
            "Batch (examples)",
            "Best learning rate, over its limit",
            theory=pd.DataFrame(theory, columns=["x", "y", "group", "panel"]),
            joined=False, log_y=False, group="Step by",
            heading="Which learning rate makes one step lower the loss most?",
            notes=(
                f"quadratic loss, d = {DIMENSION}",
                f"{shown['repetition'].nunique()} repetitions",
            ),
        )  # fmt: skip


def _series(runs: pd.DataFrame):
    return runs.groupby(["optimizer", "gradient"], sort=False)


def _peak(rows: pd.DataFrame) -> tuple[float, float]:
    """Batch and height of the highest best rate, the height over that in the largest batch.

    Where the highest point has two neighbours on each side, a parabola through these five in logarithms; the batch
    is NaN where it has not: the rate then rises, or falls, throughout.
    """
    rows = rows.sort_values("batch")
    batch, rate = np.log(rows["batch"].to_numpy()), rows["rate"].to_numpy()
    top = int(np.argmax(rate))
    if top < 2 or top > len(rate) - 3 or (rate[top - 2 : top + 3] <= 0).any():
        return math.nan, float(rate[top] / rate[-1])
    near = slice(top - 2, top + 3)
    bend, tilt, level = np.polyfit(batch[near] - batch[top], np.log(rate[near]), 2)
    if bend >= 0:
        return math.nan, float(rate[top] / rate[-1])
    place = float(np.clip(-tilt / (2 * bend), batch[top - 2] - batch[top], batch[top + 2] - batch[top]))
    return math.exp(batch[top] + place), math.exp(level + tilt * place + bend * place**2) / float(rate[-1])
