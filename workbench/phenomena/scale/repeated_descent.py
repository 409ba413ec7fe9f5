"""Descent on a power-law regression without noise: the loss on new examples, and on the same ones again and again."""

from __future__ import annotations

import functools

import numpy as np

__all__ = ["RATE", "flow_loss", "fresh_loss", "fresh_worth", "problem", "settled_loss"]

#: Input variances i^-SPECTRUM; the part of the answer that direction i carries is i^-TARGET.
SPECTRUM, TARGET = 1.5, 1.75
#: Learning rate over its largest useful size, 1 / E|x|^2.
RATE = 0.2
#: Of the quadrature in `flow_loss`.
NODES = 24


def problem(features: int) -> tuple[np.ndarray, np.ndarray]:
    """Variances of the inputs, and squared weights of the answer; its variance is 1."""
    place = np.arange(1.0, features + 1)
    spectrum = place**-SPECTRUM
    squared = place**-TARGET / spectrum
    return spectrum, squared / (squared @ spectrum)


@functools.cache
def _fresh_curve(features: int, rate: float) -> tuple[np.ndarray, np.ndarray]:
    from workbench.phenomena.hyperparameters.critical_batch import risks

    spectrum, squared = problem(features)
    seen = np.geomspace(0.1, 1e7, 800)
    loss = risks(rate / spectrum.sum(), 1, spectrum, squared, 0.0, seen)
    return seen[loss > 1e-12], loss[loss > 1e-12]


def fresh_loss(seen, features: int, rate: float = RATE) -> np.ndarray:
    """Expected loss after so many different examples on topic, each seen once; exact but for interpolation."""
    n, loss = _fresh_curve(features, rate)
    return np.exp(np.interp(np.log(seen), np.log(n), np.log(loss)))


def fresh_worth(loss, features: int, rate: float = RATE) -> np.ndarray:
    """How many different examples on topic give this loss: the inverse of `fresh_loss`."""
    n, curve = _fresh_curve(features, rate)
    return np.exp(np.interp(-np.log(loss), -np.log(curve), np.log(n)))


def settled_loss(unique: float, features: int) -> float:
    """Loss after infinitely many passes over so many examples on topic, in the limit of many features.

    Descent from zero ends at the shortest weights that fit every example. Their risk is
    ``sum l (k w / (l + k))^2 / (1 - sum (l / (l + k))^2 / unique)`` with ``sum l / (l + k) = unique`` (for instance
    Hastie et al. 2022, arXiv 1903.08560, which this agrees with for equal variances).

    Raises:
        ValueError: as many examples as features or more.
    """
    from scipy.optimize import brentq

    if not 0 < unique < features:
        raise ValueError(f"{unique:g} examples for {features} features; give fewer examples than features.")
    spectrum, squared = problem(features)
    kappa = np.exp(brentq(lambda u: (spectrum / (spectrum + np.exp(u))).sum() - unique, -80, 80))
    kept = spectrum / (spectrum + kappa)
    return float(spectrum @ (squared * (1 - kept) ** 2) / (1 - kept @ kept / unique))


def flow_loss(passes, unique: float, features: int, rate: float = RATE) -> np.ndarray:
    """Loss after so many passes over the same examples on topic, for a small learning rate and many features.

    Steps of a small rate add up to gradient flow on the examples, ``exp(-t C)`` with their covariance C at the time
    t = rate / E|x|^2 * passes * unique. As an inverse Laplace transform that is an integral over resolvents
    ``(C + s)^-1``, whose products have known means: with ``k`` from ``s = k (1 - sum l / (l + k) / unique)``,
    ``E w (C + s)^-1 L (C + s')^-1 w = (k k' / s s') T / (1 - S)``, ``T = sum l w^2 / (l + k)(l + k')`` and
    ``S = sum l^2 / (l + k)(l + k') / unique``; L holds the variances l. The two integrals are sums over the nodes of
    Trefethen, Weideman and Schmelzer's parabola (BIT 46, 2006). One pass is the loss of new examples.

    Args:
        passes: over the examples, positive, rising [n].
        unique: examples on topic.
        features: of the inputs.
        rate: learning rate over 1 / E|x|^2.

    Returns:
        [n], of answers of variance 1.
    """
    spectrum, squared = problem(features)
    times = rate / spectrum.sum() * unique * np.atleast_1d(np.asarray(passes, dtype=float))
    angle = np.pi * np.arange(1 - NODES, NODES, 2) / NODES
    node = NODES * (0.1309 - 0.1194 * angle**2 + 0.25j * angle)
    weight = np.exp(node) * (0.25j - 0.2388 * angle) / 1j
    variance, kappa, found = spectrum[:, None], None, []
    # kappa is easy to find at early times, where s is large, and is then followed
    for time in np.r_[np.geomspace(1e-4 * times[0], times[0], 13)[:-1], times]:
        s = node / time
        kappa = s + spectrum.sum() / unique if kappa is None else kappa
        for _ in range(6):
            kept = variance / (variance + kappa)
            kappa = kappa - (kappa * (1 - kept.sum(0) / unique) - s) / (1 - (kept * kept).sum(0) / unique)
        if time < times[0]:
            continue
        one = 1 / (variance + kappa)
        pairs = (one.T * (spectrum * squared)) @ one / (1 - (one.T * spectrum**2) @ one / unique)
        c = weight / time * kappa / s
        found.append((c @ pairs @ c).real)
    return np.array(found)
