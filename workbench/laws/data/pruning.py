"""Error against the examples kept: a power law for random choice, towards an exponential for good pruning."""

from __future__ import annotations

import numpy as np

from workbench.laws.base import Input, Law, Parameter

__all__ = ["Pruning", "frontier"]


class Pruning(Law):
    """``L(n) = E + A (1 + n/(alpha s))^-alpha``: a power law of exponent alpha that becomes exp(-n/s) as alpha grows.

    Examples kept at random lower the error like a power of their number n (exponent 1 for the teacher-student
    perceptron). Sorscher et al. 2022 (arXiv 2206.14486) show that keeping the right ones, and a smaller share of
    them the more there are to choose from, can approach an exponential; any fixed share kept returns to the power
    law in the end. This family holds both ends, so a fitted alpha says where between them a pruning metric lies:
    compare it with the alpha of random choice. It is ours, not theirs: the same curves as
    `shifted_power_constant`, in coordinates in which the exponential limit is finite.
    """

    name = "pruning"
    title = "Pruning"
    inputs = (Input("n", "tokens"),)
    parameters = (
        Parameter("E", "irreducible error", "loss"),
        Parameter("A", "error to be gained", "loss"),
        Parameter("s", "examples that lower the error e-fold at first", "x", start=(1e-2, 10.0), of="n"),
        Parameter("alpha", "exponent in the end; infinite for an exponential", high=1e4, start=(0.2, 30.0)),
    )
    linear = ("E", "A")
    floor = "E"
    latex = r"E + A\,\left(1 + \frac{n}{\alpha s}\right)^{-\alpha}"
    reference = "after Sorscher et al. 2022, arXiv 2206.14486"

    @staticmethod
    def formula(n, E, A, s, alpha):
        return E + A * np.exp(-alpha * np.log1p(n / (alpha * s)))


def frontier(kept: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Which runs are Pareto-optimal: none keeps as few examples and errs less.

    Sorscher et al. 2022 (arXiv 2206.14486) read the limit of pruning off this envelope over all initial sizes and
    fractions kept, not off one fraction.

    Args:
        kept: examples kept ``[n]``.
        error: test error ``[n]``; runs where either is not finite are never optimal.

    Returns:
        Boolean ``[n]``.

    Raises:
        ValueError: arrays of different length.
    """
    kept, error = np.asarray(kept, dtype=float), np.asarray(error, dtype=float)
    if kept.shape != error.shape or kept.ndim != 1:
        raise ValueError(f"kept has shape {kept.shape} and error {error.shape}; give one of each for every run")
    finite = np.isfinite(kept) & np.isfinite(error)
    order = np.lexsort((error, kept))
    order = order[finite[order]]
    before = np.minimum.accumulate(np.concatenate([[np.inf], error[order]]))[:-1]
    optimal = np.zeros(kept.shape, dtype=bool)
    optimal[order] = error[order] < before
    return optimal
