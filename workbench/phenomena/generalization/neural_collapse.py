"""Neural collapse: features shrink to their class means, at right angles; classes too rare shrink to nothing."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pandas as pd

from workbench.phenomena.base import Claim, Paper, Phenomenon, Tell
from workbench.phenomena.estimates import Estimate, mean, slope

__all__ = ["NeuralCollapse", "critical_size", "squared_lengths", "train"]

#: Budget -> (classes, smallest and largest class, width of the features, problems).
SIZES = {"cpu": (6, 2, 100, 16, 96), "gpu": (20, 2, 400, 64, 192)}
#: A class is gone if its classifier's squared length is below this multiple of N decay_features (theory: 2 % beyond
#: the critical size).
GONE = 0.01


def squared_lengths(sizes: np.ndarray, decay_head: float, decay_features: float) -> np.ndarray:
    """Squared length of each class's classifier at the global minimum of the model of `train`, [classes].

    ``max(0, sqrt(n_k decay_features / decay_head) - N decay_features)`` for classes of n_k among N samples. Derived:
    the two decays together charge the nuclear norm of Z = W H at the rate sqrt(decay_head decay_features), so that
    the singular values sqrt(n_k) of the one-hot labels are lowered by N sqrt(decay_head decay_features), at most to
    zero. Dang et al. 2023 (arXiv 2301.00437) prove this form; the equation was not compared with theirs.
    """
    sizes = np.asarray(sizes, dtype=float)
    return np.maximum(0.0, np.sqrt(sizes * decay_features / decay_head) - sizes.sum() * decay_features)


def critical_size(total: float, decay_head: float, decay_features: float) -> float:
    """Class size at and below which `squared_lengths` is zero: N^2 decay_head decay_features."""
    return total**2 * decay_head * decay_features


def train(
    sizes: np.ndarray,
    decay_head: float,
    decay_features: float,
    width: int,
    rng: np.random.Generator,
    steps: int = 20000,
    tolerance: float = 1e-8,
) -> tuple[np.ndarray, np.ndarray]:
    """Unconstrained features: head and features are both trained, by gradient descent with momentum.

    The loss is ``|W H - Y|^2 / 2N + decay_head |W|^2 / 2 + decay_features |H|^2 / 2`` for one-hot labels Y: what the
    last layer of a network sees if the layers below can make any features they like.

    Args:
        sizes: samples of each class.
        width: of the features; initial entries have variance 1 / width.
        rng: draws the initial values.
        steps: at most.
        tolerance: descent ends when all entries of the gradient are smaller.

    Returns:
        The head W [classes, width] and the features H [width, N], sorted by class.
    """
    labels = np.repeat(np.arange(len(sizes)), sizes)
    y = np.eye(len(sizes))[:, labels]
    w, h = (rng.standard_normal(shape) / np.sqrt(width) for shape in ((len(sizes), width), (width, len(labels))))
    speed_w, speed_h = np.zeros_like(w), np.zeros_like(h)
    for _ in range(steps):
        residual = (w @ h - y) / len(labels)
        grad_w, grad_h = residual @ h.T + decay_head * w, w.T @ residual + decay_features * h
        speed_w, speed_h = 0.9 * speed_w - grad_w, 0.9 * speed_h - grad_h
        w, h = w + speed_w, h + speed_h
        if max(np.abs(grad_w).max(), np.abs(grad_h).max()) < tolerance:
            break
    return w, h


class NeuralCollapse(Phenomenon):
    """Heads and unconstrained features, trained on classes of unequal size with weight decay.

    With it (the effect) all features of a class become one point, class means stand at right angles, a class's
    classifier is the longer the larger the class, and a class of at most N^2 decay_head decay_features samples has
    none: *minority collapse* (named by Fang et al. 2021). The control trains the same problems without decay.
    """

    name = "neural_collapse"
    title = "Neural collapse, balanced and imbalanced"
    question = "How small may a class be before a trained classifier forgets it altogether?"
    papers = (
        Paper("Papyan et al. 2020", "Prevalence of Neural Collapse", "PNAS 117, arXiv 2008.08186"),
        Paper("Fang et al. 2021", "Minority Collapse in Imbalanced Training", "PNAS 118, arXiv 2101.12699"),
        Paper(
            "Dang et al. 2023",
            "Neural Collapse in Deep Linear Networks: From Balanced to Imbalanced Data",
            "arXiv 2301.00437",
        ),
    )
    claims = (
        Claim(
            "class size at which classifiers vanish, over N^2 times both decays", 0.8, 1.25, expected=1.0, rival=0.25,
            source="exact; the sizes tried leave a gap of 20 %. Rival: a loss without the factor one half",
        ),
        Claim(
            "difference of a classifier's squared length and the theory's, over the larger", -np.inf, 0.02,
            expected=0.0, source="exact at the minimum; 2 % for classes near the threshold, where descent is slow",
        ),
        Claim(
            "exponent of squared length plus N decay_features in the class size", 0.48, 0.52, expected=0.5, rival=1.0,
            digits=3, source="exact: sqrt(n_k). Rival: lengths in proportion to sizes",
        ),
        Claim(
            "cosine between class means, root mean square", -np.inf, 0.02, expected=0.0, rival=0.2,
            source="exact: right angles without a bias. Rival: the simplex of balanced classes with a bias, 1/(K-1)",
        ),
        Claim(
            "spread of features inside a class, over the class mean's length", -np.inf, 0.02, expected=0.0, rival=1.0,
            source="exact: each feature is its class mean; 2 % for the descent's end",
        ),
    )  # fmt: skip
    control = "The same classes and initial values, trained without weight decay."
    outcome = ("length", "cosine", "spread")
    caveats = (
        "Features are free variables: a network's layers must produce them from inputs, and collapse only nearly so.",
        "Squared loss without bias: with a bias, or with cross-entropy, class means form other frames.",
        "The threshold's decays are coefficients of the loss; an optimizer's decoupled decay enters otherwise.",
    )

    def experiment(self, arm: str, budget: str, seed: int, tell: Tell) -> pd.DataFrame:
        classes, smallest, largest, width, problems = SIZES[budget]
        rows = []
        for problem in range(problems):
            rng = np.random.default_rng([seed, problem])
            sizes = np.sort(rng.uniform(np.log(smallest), np.log(largest), classes))[::-1]
            sizes = np.round(np.exp(sizes)).astype(int) if problem % 4 else np.full(classes, largest // 3)
            total = int(sizes.sum())
            # the threshold lies somewhere among the sizes
            head = float(np.exp(rng.uniform(np.log(0.01), np.log(0.03))))
            features = float(np.exp(rng.uniform(np.log(smallest), np.log(largest / 4)))) / (total**2 * head)
            w, h = train(sizes, *((head, features) if arm == "effect" else (0.0, 0.0)), width, rng)
            ends = np.concatenate([[0], np.cumsum(sizes)])
            parts = [h[:, a:b] for a, b in pairwise(ends)]
            means = np.stack([part.mean(1) for part in parts])
            unit = means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-300)
            left = (w**2).sum(1) > GONE * total * features
            for k, part in enumerate(parts):
                others = left & (np.arange(classes) != k)
                rows.append({
                    "problem": problem,
                    "balanced": bool(problem % 4 == 0),
                    "size": int(sizes[k]),
                    "total": total,
                    "decay_head": head,
                    "decay_features": features,
                    "length": float((w[k] ** 2).sum()),
                    "cosine": float(np.sqrt(np.mean((unit[others] @ unit[k]) ** 2))) if others.any() else np.nan,
                    "spread": _spread(part) if left[k] else np.nan,
                })  # fmt: skip
            tell((problem + 1) / problems)
        return pd.DataFrame(rows)

    def measure(self, runs: pd.DataFrame) -> Mapping[str, Estimate]:
        runs = _judged(runs)
        thresholds = []
        for _, some in runs.groupby(runs["problem"] % 6):
            gone, left = some.loc[~some["left"], "relative"], some.loc[some["left"], "relative"]
            thresholds.append(np.sqrt(gone.max() * left.min()) if len(gone) and len(left) else 0.0)
        left = runs[runs["left"]]
        unequal = left[~left["balanced"]].groupby("problem").filter(lambda one: one["size"].nunique() > 2)
        by = left.groupby("problem")
        larger = np.maximum(runs["length"], runs["theory"])
        apart = ((runs["length"] - runs["theory"]).abs() / larger.where(larger > GONE))[
            runs["left"] | (runs["theory"] > 0)
        ]
        found = (
            mean(thresholds),
            mean(apart.groupby(runs["problem"]).mean().dropna()),
            slope(
                unequal["size"],
                unequal["length"] + unequal["total"] * unequal["decay_features"],
                log=True,
                seeds=unequal["problem"],
            ),
            mean(by["cosine"].mean().dropna()),
            mean(by["spread"].mean().dropna()),
        )
        return {claim.name: _rounded(value) for claim, value in zip(self.claims, found, strict=True)}

    def figure(self, runs: pd.DataFrame):
        from workbench.figures.trend import trend

        names = {"effect": "with weight decay", "control": "without"}
        runs = _judged(runs)
        # in these units all problems lie on one curve: sqrt(relative size) - 1
        points = pd.DataFrame({
            "x": runs["relative"],
            "y": runs["length"] / (runs["total"] * runs["decay_features"]),
            "group": np.where(runs["balanced"], "of equal size", "of unequal sizes"),
            "panel": runs["arm"].map(names),
        })  # fmt: skip
        x = np.geomspace(points["x"].min(), points["x"].max(), 200)
        line = pd.DataFrame({"x": x, "y": np.maximum(0, np.sqrt(x) - 1), "group": "of unequal sizes"})
        return trend(
            points,
            "Class size over N² × both decays",
            "Squared length over N × decay of features",
            theory=line.assign(panel=names["effect"]) if "effect" in set(runs["arm"]) else None,
            joined=False, log_y=False, group="Classes",
            heading="A class's size and the length of its classifier",
            notes=(f"{runs['problem'].nunique()} problems, a point a class",),
        )  # fmt: skip


def _spread(features: np.ndarray) -> float:
    """Root mean square distance of features [width, n] from their mean, over the mean's length."""
    middle = features.mean(1, keepdims=True)
    return float(np.sqrt(((features - middle) ** 2).sum(0).mean() / (middle**2).sum()))


def _rounded(found: Estimate) -> Estimate:
    """To three decimals: what lies below says only when descent was stopped."""
    return Estimate(*(round(number, 3) + 0.0 for number in (found.value, found.low, found.high)), found.n)


def _judged(runs: pd.DataFrame) -> pd.DataFrame:
    """With the theory's length, the size over the critical one, and whether there is a classifier left."""
    critical = critical_size(runs["total"], runs["decay_head"], runs["decay_features"])
    root = np.sqrt(runs["size"] * runs["decay_features"] / runs["decay_head"])
    return runs.assign(
        relative=runs["size"] / critical,
        theory=np.maximum(0.0, root - runs["total"] * runs["decay_features"]),
        left=runs["length"] > GONE * runs["total"] * runs["decay_features"],
    )
