"""Pass rates over many orders of magnitude: their law in model size, and estimators that can see rare passes."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import gammaln
from scipy.stats import beta

from workbench.laws.base import Input, Law, Parameter

__all__ = ["PassRate", "pass_at_k", "pass_until"]


class PassRate(Law):
    """``PU(N) = exp(-c N^-alpha)``: the logarithm of the pass rate is a power law of model size.

    Hu et al. 2024, "Predicting Emergent Abilities with Infinite Resolution Evaluation" (arXiv 2310.03262); form
    as commonly quoted, equation number not checked. A task whose pass rate goes from 1e-4 to 0.3 looks emergent
    in ten samples and is a straight line in ``log(-log PU)`` against log N, given rates measured by `pass_until`.
    """

    name = "pass_rate"
    title = "Pass rate"
    inputs = (Input("N", "params"),)
    parameters = (
        Parameter("c", "minus log of the pass rate of a model of one parameter"),
        Parameter("alpha", "exponent of parameters", high=20.0, start=(0.02, 1.0)),
    )
    trend = "rises"
    latex = r"e^{-c\,N^{-\alpha}}"
    reference = "Hu et al. 2024, arXiv 2310.03262"

    @staticmethod
    def formula(N, c, alpha):
        return np.exp(-c * N**-alpha)

    def guess(self, x, y, n, rng):
        """Draw alpha; the median of -log PU N^alpha is then c."""
        theta = super().guess(x, y, n, rng)
        level = np.maximum(-np.log(np.minimum(y, 1.0)), 1e-6)
        theta[:, 0] = np.exp(np.median(np.log(level) + theta[:, 1, None] * np.log(x["N"]), axis=1))
        return self.clip(theta)


def pass_until(passes: Any, tries: Any, level: float = 0.95) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pass rate of a task that was sampled until it had passed `passes` times, with an exact interval.

    The number of tries is negative binomial. ``passes / tries`` overestimates; ``(r - 1)/(K - 1)`` is unbiased
    (Haldane 1945, doi 10.1093/biomet/33.3.222) and needs r >= 2. The interval holds the rates under which as many
    tries, or as few, are no rarer than (1 - level)/2; it covers at least `level`.

    Args:
        passes: passes r at which sampling stopped, whole, at least 2.
        tries: samples K drawn until then, at least r.
        level: nominal coverage.

    Returns:
        ``(rate, low, high)``, arrays of the common shape.

    Raises:
        ValueError: fewer than two passes, fewer tries than passes, or a level outside (0, 1).
    """
    r, k = np.broadcast_arrays(np.asarray(passes, dtype=float), np.asarray(tries, dtype=float))
    if not 0 < level < 1:
        raise ValueError(f"level is {level!r}; a nominal coverage lies between 0 and 1, such as 0.95")
    if not ((r >= 2) & (k >= r) & (r == np.floor(r)) & (k == np.floor(k))).all():
        raise ValueError("give whole numbers: at least 2 passes, and at least as many tries as passes")
    tail = (1 - level) / 2
    low = beta.ppf(tail, r, k - r + 1)
    # With every try a pass the upper end is 1, where the beta distribution is not defined.
    high = np.where(k > r, beta.ppf(1 - tail, r, np.maximum(k - r, 1)), 1.0)
    return (r - 1) / (k - 1), low, high


def pass_at_k(samples: Any, correct: Any, k: Any) -> np.ndarray:
    """Chance that at least one of k samples passes, from `correct` among `samples`: ``1 - C(n-c, k)/C(n, k)``.

    Unbiased, unlike ``1 - (1 - c/n)^k`` (Chen et al. 2021, arXiv 2107.03374, eq. 1).

    Args:
        samples: samples drawn n.
        correct: how many of them passed c.
        k: samples allowed, at most n.

    Returns:
        Array of the common shape.

    Raises:
        ValueError: counts that are not whole or do not fit together.
    """
    n, c, k = np.broadcast_arrays(*(np.asarray(v, dtype=float) for v in (samples, correct, k)))
    whole = (n == np.floor(n)) & (c == np.floor(c)) & (k == np.floor(k))
    if not (whole & (c >= 0) & (c <= n) & (k >= 1) & (k <= n)).all():
        raise ValueError("give whole numbers with 0 <= correct <= samples and 1 <= k <= samples")
    missed = np.maximum(n - c, 0)
    possible = missed >= k
    left = np.where(possible, missed - k, 0.0)
    log_ratio = gammaln(missed + 1) - gammaln(left + 1) - gammaln(n + 1) + gammaln(n - k + 1)
    return np.where(possible, -np.expm1(np.minimum(log_ratio, 0.0)), 1.0)
