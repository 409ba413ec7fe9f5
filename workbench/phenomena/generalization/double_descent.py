"""Double descent: the error of random-feature regression peaks where features equal samples, unless ridge is tuned."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.optimize import brentq, minimize_scalar

from workbench.phenomena.base import Claim, Paper, Phenomenon, Tell
from workbench.phenomena.estimates import Estimate, mean, slope

__all__ = ["DoubleDescent", "best_ridge", "expected_error", "spectrum"]

#: Variance of a label's noise, in units of the target's variance.
NOISE = 0.2
#: Budget -> (samples n, dimensions of the inputs, repetitions).
SIZES = {"cpu": (100, 400, 60), "gpu": (800, 3200, 20)}
#: Features over samples.
RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
#: The first valley of the curve by theory, in features over samples.
VALLEY = 0.2


def spectrum(dimensions: int) -> tuple[np.ndarray, np.ndarray]:
    """Variances of the inputs i^-1.2 and squared weights of the target ~ i^-1.5 (they add to 1), [dimensions] each.

    The target is a sum over orthonormal functions with these weights, the inputs' variances are the eigenvalues
    that the features see: power laws, as natural images have.
    """
    i = np.arange(1, dimensions + 1.0)
    return i**-1.2, i**-1.5 / (i**-1.5).sum()


def expected_error(variances: np.ndarray, weights: np.ndarray, n: float, k: float, ridge: float, noise: float) -> float:
    """Expected squared error on a fresh sample, label noise included, of random-feature ridge regression.

    The eigenframework of Simon et al. 2024 (arXiv 2311.14646), right for large n, k and many dimensions; checked
    here against simulation. Two sizes kappa and gamma solve ``n = z + ridge / kappa`` and
    ``k = z + k kappa / gamma`` with ``z = sum variances / (variances + gamma)``.

    Args:
        variances: eigenvalues, [dimensions].
        weights: squared coefficients of the target, [dimensions].
        n: samples.
        k: features, each a Gaussian mixture of all inputs over sqrt(k).
        ridge: added to the kernel's diagonal (not multiplied by n); 0 for the interpolator of least norm.
        noise: variance of the labels' noise.

    Returns:
        Infinity for k = n without ridge.
    """
    if ridge == 0 and k == n:
        return float("inf")

    def learned(log_gamma: float) -> float:
        return float((variances / (variances + np.exp(log_gamma))).sum())

    low = -80.0 if k >= len(variances) else brentq(lambda g: learned(g) - k, -80, 40)
    if ridge == 0:
        log_gamma = low if k < n else brentq(lambda g: learned(g) - n, -80, 40)
    else:

        def excess(g: float) -> float:
            kappa = (k - learned(g)) * np.exp(g) / k
            return 1e300 if kappa <= 0 else learned(g) + ridge / kappa - n

        log_gamma = brentq(excess, low, 40)
    gamma, z = np.exp(log_gamma), learned(log_gamma)
    kappa = max(0.0, (k - z) * gamma / k)
    share = variances / (variances + gamma)
    q = float((share**2).sum())
    missed = gamma / (variances + gamma) - kappa * variances / (variances + gamma) ** 2 * k / (k - q)
    return float((missed @ weights + noise) / (1 - (q * (k - 2 * z) + z**2) / (n * (k - q))))


def best_ridge(variances: np.ndarray, weights: np.ndarray, n: float, k: float, noise: float) -> float:
    """The ridge for which `expected_error` is least."""
    found = minimize_scalar(
        lambda log: expected_error(variances, weights, n, k, np.exp(log), noise), bounds=(-12, 12), method="bounded"
    )
    return float(np.exp(found.x))


class DoubleDescent(Phenomenon):
    """Least squares on k random features of power-law inputs, n samples with noisy labels.

    Without ridge (the effect) the error falls, rises to a pole where k = n, and falls again: the model that can
    only just fit all samples must do so with huge weights. With the ridge that theory finds best for each k (the
    control) the error falls with every further feature (Simon et al. 2024; Nakkiran et al. 2021 for isotropic
    inputs). Errors are exact for the fitted weights: no test sample is drawn.
    """

    name = "double_descent"
    title = "Double descent, and why tuned ridge removes it"
    question = "Is a model with as many features as samples better or worse than a smaller and a larger one?"
    papers = (
        Paper("Belkin et al. 2019", "Reconciling modern machine learning and the bias-variance trade-off", "PNAS 116"),
        Paper("Simon et al. 2024", "More is Better in Modern Machine Learning", "arXiv 2311.14646"),
        Paper("Nakkiran et al. 2021", "Optimal Regularization Can Mitigate Double Descent", "arXiv 2003.01897"),
    )
    claims = (
        Claim(
            "features over samples at the largest error", 0.9, 1.1, expected=1.0, rival=RATIOS[-1],
            source="pole of the exact theory; the neighbours tried are 0.9 and 1.1. Rival: more parameters, more error",
        ),
        Claim(
            "error at as many features as samples, over the first valley's", 5.0, np.inf, rival=1.0, digits=1,
            source="infinite in theory; at finite size heavy-tailed, so a geometric mean, and only a lower end",
        ),
        Claim(
            "exponent of the error beside the peak, in the distance 1 - min/max", -1.15, -0.7, expected=-0.93,
            rival=-2.0,
            source="-1 at the pole itself: mean inverse of a Wishart matrix, 1/(1 - k/n) below and 1/(1 - n/k) above; "
            "the theory's slope over 0.7 n to 1.5 n features is -0.93, and the experiment's size gives 0.08, which "
            "the range takes threefold. Rival: one over the smallest eigenvalue, (1 - sqrt(k/n))^-2",
        ),
        Claim(
            "measured error over the theory's, at 0.8 n features and fewer, 1.25 n and more", 0.9, 1.1,
            expected=1.0, controlled=False, digits=3,
            source="Simon et al. 2024, for large n; 10 % for the size there is. Holds for the control too",
        ),
        Claim(
            "error at ten times as many features as samples, over that at 1.25 times", -np.inf, 0.5,
            rival=1.0, source="the second descent: theory gives 0.28 at this size, no second descent would give 1",
        ),
    )  # fmt: skip
    control = "Each model is fitted with the ridge that theory finds best for its number of features."
    outcome = ("error",)
    caveats = (
        "At the peak the error is heavy-tailed: its mean does not exist, so a geometric mean is shown.",
        "The ridge is tuned by theory, which knows the target; validation data do nearly as well.",
        "In this misspecified linear model the peak is there without label noise too; Gu et al. 2024 (arXiv "
        "2310.13572) find that trained networks need noisy labels.",
    )

    def experiment(self, arm: str, budget: str, seed: int, tell: Tell) -> pd.DataFrame:
        n, dimensions, repetitions = SIZES[budget]
        put, solve = _arithmetic(budget)
        variances, weights = spectrum(dimensions)
        sizes = [round(ratio * n) for ratio in RATIOS]
        ridges = {k: best_ridge(variances, weights, n, k, NOISE) if arm == "control" else 0.0 for k in sizes}
        theory = {k: expected_error(variances, weights, n, k, ridges[k], NOISE) for k in sizes}
        scale, target = put(np.sqrt(variances)), put(np.sqrt(weights))
        rows = []
        for repetition in range(repetitions):
            rng = np.random.default_rng([seed, repetition, arm == "control"])
            x = put(rng.standard_normal((n, dimensions)))
            y = x @ target + put(rng.standard_normal(n)) * NOISE**0.5
            for k in sizes:
                mix = scale[:, None] * put(rng.standard_normal((dimensions, k))) / k**0.5
                seen = x @ mix
                if k < n:
                    w = solve(seen.T @ seen + ridges[k] * put(np.eye(k)), seen.T @ y)
                else:  # the same weights, by the smaller of the two matrices
                    w = seen.T @ solve(seen @ seen.T + ridges[k] * put(np.eye(n)), y)
                error = float(((mix @ w - target) ** 2).sum()) + NOISE
                rows.append((repetition, k, n, ridges[k], error, theory[k]))
            tell((repetition + 1) / repetitions)
        return pd.DataFrame(rows, columns=["repetition", "features", "samples", "ridge", "error", "theory"])

    def measure(self, runs: pd.DataFrame) -> Mapping[str, Estimate]:
        runs = runs.assign(ratio=runs["features"] / runs["samples"])
        log = runs.assign(log=np.log(runs["error"])).pivot(index="repetition", columns="ratio", values="log")
        valley, equal = log[VALLEY], log[1.0]
        beside = runs[(runs["ratio"].between(0.7, 0.9)) | (runs["ratio"].between(1.1, 1.5))]
        distance = 1 - np.minimum(beside["ratio"], 1 / beside["ratio"])
        far = runs[(runs["ratio"] <= 0.8) | (runs["ratio"] >= 1.25)]
        found = (
            mean(log.idxmax(axis=1)),
            _exp(mean(equal - valley)),
            slope(distance, beside["error"], log=True, seeds=beside["repetition"]),
            mean((far["error"] / far["theory"]).groupby(far["repetition"]).mean()),
            _exp(mean(log[10.0] - log[1.25])),
        )
        return {claim.name: value for claim, value in zip(self.claims, found, strict=True)}

    def figure(self, runs: pd.DataFrame):
        from workbench.figures.trend import trend

        names = {"effect": "none", "control": "tuned"}
        n, repetitions = int(runs["samples"].iloc[0]), runs["repetition"].nunique()
        points = []
        for (arm, k), rows in runs.groupby(["arm", "features"], sort=False):
            error = _exp(mean(np.log(rows["error"])))
            points.append((k / n, error.value, error.low, error.high, names[arm]))
        dimensions = next(d for m, d, _ in SIZES.values() if m == n)
        # without ridge both branches stop before the pole, and no line joins them
        near = 1 - np.concatenate([np.geomspace(0.015, 0.3, 25), np.linspace(0.34, 0.9, 15)])
        ratios = {"effect": np.concatenate([near, 1 / near]), "control": np.geomspace(0.1, 10, 25)}
        curves = []
        for arm in runs["arm"].unique():
            within = (ratios[arm] >= runs["features"].min() / n) & (ratios[arm] <= runs["features"].max() / n)
            for ratio in ratios[arm][within]:
                args = (*spectrum(dimensions), n, ratio * n)
                ridge = 0.0 if arm == "effect" else best_ridge(*args, NOISE)
                curves.append((ratio, expected_error(*args, ridge, NOISE), names[arm]))
        return trend(
            pd.DataFrame(points, columns=["x", "y", "low", "high", "group"]),
            "Features over samples",
            "Error on fresh samples (target variance = 1)",
            theory=pd.DataFrame(curves, columns=["x", "y", "group"]),
            joined=False, group="Ridge",
            heading="Error of random-feature regression against its size",
            notes=(
                f"{n} samples, noise variance {NOISE:g}",
                f"geometric means of {repetitions} repetitions, bars: 95 % intervals",
            ),
        )  # fmt: skip


def _exp(estimate: Estimate) -> Estimate:
    """The estimate of a logarithm as that of the number itself."""
    return Estimate(*(float(np.exp(v)) for v in (estimate.value, estimate.low, estimate.high)), estimate.n)


def _arithmetic(budget: str):
    """Where matrices are put, and what solves linear systems there: numpy, or torch on a GPU for the large sizes."""
    if budget == "gpu":
        import torch

        if torch.cuda.is_available():
            return lambda array: torch.as_tensor(array, device="cuda"), torch.linalg.solve
    return np.asarray, np.linalg.solve
