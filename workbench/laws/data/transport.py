"""Performance from the optimal-transport distance between training data and target, at any size of the data."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import wasserstein_distance

from workbench.laws.base import Input, Law, Parameter

__all__ = ["Transport", "between_sizes", "sliced_distance"]


class Transport(Law):
    """``L(W, n) = (a_0 + a_1 W) + (b_0 + b_1 W) ln n``: linear in the distance W, linear in log size n.

    W is the optimal-transport distance of the training mixture to the target data. Two stages in one formula:
    at each of two disclosed sizes the loss is a line in W, and between and beyond them a line in log n through
    the two (`between_sizes` is that second stage, which fits nothing). Four free numbers are two lines of two,
    so data at two sizes determine all of them. After Kang et al. 2023, "Performance Scaling via Optimal
    Transport" (projektor, arXiv 2307.02460); form as commonly quoted, equations not checked against the paper. A
    line in log n has no floor: far enough out it predicts a negative loss, so read it near the sizes it was
    fitted to.
    """

    name = "transport"
    title = "Transport distance"
    inputs = (Input("W", "transport_distance", zero=True), Input("n", "tokens"))
    parameters = (
        Parameter("a_0", "loss at distance 0 and one sample", "loss", low=-np.inf),
        Parameter("a_1", "loss added by a unit of distance at one sample", "loss", low=-np.inf),
        Parameter("b_0", "change per e-fold of data at distance 0", "loss", low=-np.inf),
        Parameter("b_1", "change of that by a unit of distance", "loss", low=-np.inf),
    )
    linear = ("a_0", "a_1", "b_0", "b_1")
    trend = ""
    latex = r"(a_0 + a_1 W) + (b_0 + b_1 W)\,\ln n"
    reference = "Kang et al. 2023, arXiv 2307.02460"

    @staticmethod
    def formula(W, n, a_0, a_1, b_0, b_1):
        return a_0 + a_1 * W + (b_0 + b_1 * W) * np.log(n)

    def guess(self, x, y, n, rng):
        """The least-squares answer to relative errors, and points scattered around it."""
        basis = np.stack([np.ones_like(y), x["W"], np.log(x["n"]), x["W"] * np.log(x["n"])], axis=1) / y[:, None]
        centre = np.linalg.lstsq(basis, np.ones_like(y), rcond=None)[0]
        return self.clip(centre * (1 + 0.1 * rng.standard_normal((n, 4)) * (np.arange(n) > 0)[:, None]))


def between_sizes(n: Any, n_1: float, loss_1: Any, n_2: float, loss_2: Any) -> Any:
    """Loss at size `n` on the line in log n through two sizes; no parameter is fitted.

    ``L(n) = [ln(n/n_1) L(n_2) - ln(n/n_2) L(n_1)] / ln(n_2/n_1)``; Kang et al. 2023 (arXiv 2307.02460), form as
    commonly quoted.

    Args:
        n: sizes asked for.
        n_1, n_2: the two sizes at which losses are known, in the unit of `n`.
        loss_1, loss_2: losses there; numbers, or arrays over mixtures.

    Raises:
        ValueError: a size is not positive, or the two are equal.
    """
    n, n_1, n_2 = (np.asarray(v, dtype=float) for v in (n, n_1, n_2))
    if not ((n > 0).all() and (n_1 > 0).all() and (n_2 > 0).all()) or (n_1 == n_2).any():
        raise ValueError(f"the sizes are {n_1} and {n_2}; give two different positive ones, and positive n")
    return (np.log(n / n_1) * loss_2 - np.log(n / n_2) * loss_1) / np.log(n_2 / n_1)


def sliced_distance(a: np.ndarray, b: np.ndarray, projections: int = 64, seed: int = 0) -> float:
    """Wasserstein-1 distance between two samples: exact in one dimension, averaged over directions in more.

    The sliced distance (Bonneel et al. 2015, doi 10.1007/s10851-014-0506-3) is a lower bound of the true one; for
    a shift by v in d dimensions it is ``|v|`` times the mean of ``|cos|`` over the sphere.

    Args:
        a, b: samples ``[n]`` or ``[n, d]`` and ``[m]`` or ``[m, d]``.
        projections: random directions where d > 1.
        seed: of the directions.

    Returns:
        The distance, in the unit of the samples.

    Raises:
        ValueError: no sample, or samples of different dimension.
    """
    a, b = (np.atleast_2d(np.asarray(v, dtype=float).T).T for v in (a, b))
    if a.ndim != 2 or b.ndim != 2 or not a.size or not b.size or a.shape[1] != b.shape[1]:
        raise ValueError(f"the samples have shapes {a.shape} and {b.shape}; give [n, d] and [m, d] with the same d")
    if a.shape[1] == 1:
        return float(wasserstein_distance(a[:, 0], b[:, 0]))
    directions = np.random.default_rng(seed).standard_normal((projections, a.shape[1]))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return float(np.mean([wasserstein_distance(a @ u, b @ u) for u in directions]))
