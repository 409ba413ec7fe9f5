"""Starting values shared by laws that become linear once a floor is subtracted and a power undone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workbench.laws.base import positive_least_squares

__all__ = ["floors", "log_uniform", "weights_of_powers"]


def log_uniform(low: float, high: float, n: int, rng: np.random.Generator) -> np.ndarray:
    """`n` draws ``[n]``, uniform in the logarithm between two positive ends."""
    return low * (high / low) ** rng.random(n)


def floors(y: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """`n` candidate floors ``[n]`` below every one of the values `y` ``[m]``.

    Their distance to the smallest value is drawn log-uniformly between 0.3 % and all of it: data may end
    close above their floor or far from it.
    """
    return y.min() * (1 - log_uniform(3e-3, 0.999, n, rng))


def weights_of_powers(
    log_x: Sequence[np.ndarray], exponents: Sequence[np.ndarray], log_target: np.ndarray
) -> list[np.ndarray]:
    """Positive c_k with ``sum_k c_k x_k^-e_k`` closest to a target, by relative error.

    Args:
        log_x: for each term the logarithm of its input, ``[m]`` or, where it differs by start, ``[n, m]``.
        exponents: for each term one exponent a start ``[n]``.
        log_target: logarithm of the sum wanted ``[n, m]``; kept a logarithm because a root of a small
            exponent overflows.

    Returns:
        For each term its coefficients ``[n]``.
    """
    # Centred, so that x^-e neither overflows nor vanishes before the coefficient makes up for it.
    centres = [float(np.mean(lx)) for lx in log_x]
    with np.errstate(all="ignore"):
        basis = np.stack(
            [np.exp(-e[:, None] * (lx - c) - log_target) for lx, c, e in zip(log_x, centres, exponents, strict=True)],
            axis=1,
        )
        solved = positive_least_squares(np.nan_to_num(basis, posinf=1e150)).T
        return [w * np.exp(e * c) for w, e, c in zip(solved, exponents, centres, strict=True)]
