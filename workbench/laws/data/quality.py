"""Data of different quality: utility that halves with repetition, and mixtures of pools at a budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from workbench.laws.base import Input, Law, Parameter, positive_least_squares

__all__ = ["QualityPool", "best_mixture", "mixture"]

#: Epochs followed one by one; samples beyond them no longer lower the loss.
MAX_EPOCHS = 512


class QualityPool(Law):
    """``L = E + (D/D_1)^-b`` in the first epoch; each later epoch k goes on with utility ``b 2^(-k/tau)``.

    Goyal et al. 2024 (arXiv 2404.07177): the reducible loss R follows ``d ln R = -b_k d ln D``, where b is the
    quality of the pool and halves every tau epochs, ``b_k = b (1/2)^(k/tau)``. Hence, after more than one epoch
    over a pool of U samples, ``R = (U/D_1)^-b prod_{k>=1} (D_{k+1}/D_k)^(-b_k)`` with ``D_k = min(k U, D)``. The
    utility is constant within an epoch, as published, so the loss is continuous in D and its slope in log D drops
    at whole epochs; a fraction of an epoch counts as that fraction. Epochs beyond `MAX_EPOCHS` add nothing.

    D_1 is common to the pools of one study (the authors write ``1/D_1 = a/10^5`` and share a and E): fit them
    together or hold ``fixed={"D_1": ..., "E": ...}`` before mixing pools with `mixture`. Form and coefficients
    are those of the authors' code; the equation numbers were not checked against the paper.
    """

    name = "quality_pool"
    title = "Quality pool"
    inputs = (Input("D", "tokens"), Input("U", "unique_tokens"))
    parameters = (
        Parameter("E", "irreducible loss", "loss"),
        Parameter("D_1", "samples at which the reducible loss is one unit of the loss", "x", start=(1e-3, 1e3), of="D"),
        Parameter("b", "utility: exponent of the first epoch", high=20.0),
        Parameter("tau", "epochs after which the utility has halved", "epochs", start=(0.5, 50.0)),
    )
    floor = "E"
    cost = 8
    latex = (
        r"E + \left(\frac{\min(D, U)}{D_1}\right)^{-b} \prod_{k \geq 1}"
        r" \left(\frac{\min((k+1)U, D)}{\min(kU, D)}\right)^{-b\,2^{-k/\tau}}"
    )
    reference = "Goyal et al. 2024, arXiv 2404.07177"

    @staticmethod
    def formula(D, U, E, D_1, b, tau):
        return E + np.exp(-b * (np.log(np.minimum(D, U)) - np.log(D_1) + _later_epochs(D / U, 2 ** (-1 / tau))))

    def guess(self, x, y, n, rng):
        """Draw b and tau; the reducible loss is then linear in D_1^b."""
        theta = super().guess(x, y, n, rng)
        b, tau = theta[:, 2, None], theta[:, 3, None]
        log_seen = np.log(np.minimum(x["D"], x["U"])) + _later_epochs(x["D"] / x["U"], 2 ** (-1 / tau))
        middle = log_seen.mean()
        shape = np.exp(-b * (log_seen - middle))
        theta[:, 0], size = positive_least_squares(np.stack([np.broadcast_to(1 / y, shape.shape), shape / y], axis=1)).T
        theta[:, 1] = np.exp(middle + np.log(size) / b[:, 0])
        return self.clip(theta)


def _later_epochs(epochs: np.ndarray, q: Any) -> Any:
    """``sum_{k>=1} q^k ln(min(k + 1, epochs) / min(k, epochs))``: what repetition adds to log D, by Horner's rule."""
    last = int(min(np.ceil(epochs.max()), MAX_EPOCHS))
    total = 0.0 * q
    for k in range(last - 1, 0, -1):
        total = (total + np.log(np.minimum(k + 1, np.maximum(epochs, k)) / k)) * q
    return total


def mixture(seen: Any, sizes: Sequence[float], b: Sequence[float], tau: Sequence[float], D_1: float, E: float) -> Any:
    """Loss after training on several pools at once, from the fits of each pool alone.

    One epoch passes over the union. Its utility is the mean of the pools' utilities, each decaying with its own
    half-life stretched by the number of pools, ``b_k = mean_i b_i 2^(-k/(p tau_i))`` (Goyal et al. 2024, arXiv
    2404.07177). For pools of unequal size the mean is weighted by size and tau_i is multiplied by (sum of sizes) /
    size_i; that generalisation is ours and equals theirs for equal sizes.

    Args:
        seen: samples seen in training, ``[n]`` or a number, positive.
        sizes: samples in each pool ``[p]``.
        b, tau: utility and half-life of each pool ``[p]``, as fitted with `QualityPool`.
        D_1, E: the pools' common scale and irreducible loss.

    Returns:
        Loss ``[n]``, in the unit of E.

    Raises:
        ValueError: lists of different lengths, or a value that is not positive.
    """
    sizes, b, tau = (np.atleast_1d(np.asarray(v, dtype=float)) for v in (sizes, b, tau))
    if not sizes.shape == b.shape == tau.shape or sizes.ndim != 1:
        raise ValueError(
            f"sizes, b and tau have {sizes.size}, {b.size} and {tau.size} entries; give one of each for every pool"
        )
    seen = np.atleast_1d(np.asarray(seen, dtype=float))
    for name, values in {"seen": seen, "sizes": sizes, "b": b, "tau": tau, "D_1": np.asarray(D_1)}.items():
        if not (values > 0).all():
            raise ValueError(f"{name} holds {values.min():g}; give positive samples, sizes, utilities and half-lives")
    total = sizes.sum()
    share, stretched = sizes / total, tau * total / sizes
    epochs = seen / total
    exponent = (share * b).sum() * np.log(np.minimum(seen, total) / D_1)
    for size, utility, half_life in zip(share, b, stretched, strict=True):
        exponent = exponent + size * utility * _later_epochs(epochs, 2 ** (-1 / half_life))
    return E + np.exp(-exponent)


def best_mixture(
    budgets: Sequence[float], sizes: Sequence[float], b: Sequence[float], tau: Sequence[float], D_1: float, E: float
) -> pd.DataFrame:
    """How hard to filter at each budget: the loss of keeping the best pool, the best two, ..., and which wins.

    Pools are ranked by their utility b. With few samples to see, the best pool alone wins; with many it is
    repeated until it is worth less than fresh samples of the next (Goyal et al. 2024, arXiv 2404.07177).

    Args:
        budgets: samples seen in training, one row each.
        sizes, b, tau, D_1, E: see `mixture`.

    Returns:
        Columns ``seen``, ``top_1`` ... ``top_p`` (losses), ``best`` (number of pools kept), and ``epochs`` of
        that mixture.
    """
    sizes, b, tau = (np.atleast_1d(np.asarray(v, dtype=float)) for v in (sizes, b, tau))
    budgets = np.atleast_1d(np.asarray(budgets, dtype=float))
    order = np.argsort(-b, kind="stable")
    losses = np.stack(
        [mixture(budgets, sizes[order[:p]], b[order[:p]], tau[order[:p]], D_1, E) for p in range(1, b.size + 1)]
    )
    best = losses.argmin(axis=0) + 1
    out = pd.DataFrame({"seen": budgets} | {f"top_{p + 1}": row for p, row in enumerate(losses)})
    return out.assign(best=best, epochs=budgets / np.cumsum(sizes[order])[best - 1])
