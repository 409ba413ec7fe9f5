"""Loss curves of one-pass SGD on random features of power-law data: for large models, and for one random matrix."""

from __future__ import annotations

from math import log, pi

import numpy as np

__all__ = ["loss_curve", "matrix_curve"]


def _spectrum(alpha: float, beta: float, d: float, white: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Variances, squared target coefficients times variance, multiplicities; beyond the 200th in bins of 5 %."""
    v = white or (4 if 2 * alpha < 1 else 100) * d
    edges = np.geomspace(200.5, v + 0.5, int(20 * log(v / 200)) + 2)
    j = np.r_[np.arange(1, 201.0), np.sqrt(edges[1:] * edges[:-1])]
    return np.ones_like(j) if white else j ** (-2 * alpha), j ** (-2 * alpha - 2 * beta), np.r_[
        np.ones(200), np.diff(edges)
    ]  # fmt: skip


def loss_curve(alpha: float, beta: float, d: float, last: float, white: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Expected loss of one-pass SGD, a sample a step, on d random features: steps [n] and losses [n].

    Inputs x_j = j^-alpha z_j, target coefficients j^-beta, features W^T x with entries of W of variance 1/d, learning
    rate half the inverse of the spectrum's sum. Random matrices enter through their deterministic equivalent,
    exact for large d: the resolvent is 1 / (lambda_j m(z) - z) with m (1 + sum_j lambda_j / (lambda_j m - z) / d)
    = 1. The loss then obeys P(r) = F(r) + sum_s K(r - 1 - s) P(s), F and K being integrals of the resolvent around
    the spectrum. Their trapezoidal sums have finitely many exponentials, so the recursion is a finite matrix, whose
    powers 2^k are had by squaring. For alpha < 1/2 there are v = 4 d inputs, else 100 d.

    Args:
        last: at least that many steps.
        white: if positive, that many inputs, all of variance 1.
    """
    lam, target, n = _spectrum(alpha, beta, d, white)
    trace = float(n @ lam)
    rate = 0.5 / trace
    low, high = 1e-40, 1e6  # the ridge kappa at which d degrees of freedom are left
    for _ in range(200):
        kappa = (low * high) ** 0.5
        low, high = (kappa, high) if n @ (lam / (lam + kappa)) > d else (low, kappa)
    floor = float((n * target) @ (kappa / (lam + kappa)))
    # The map top / (1 + exp(-w)) takes a straight line to a loop around the spectrum that meets the real axis at 0
    # and beyond the largest eigenvalue; there the integrands vanish, so the trapezoidal rule converges geometrically.
    step, top = 0.45, 2 * (1 + trace / d)
    w = np.exp(-(np.arange(12, log(1e-4 * kappa / top), -step) + 0.8j))
    z, weight = top / (1 + w), step * top * w / (1 + w) ** 2 / (2j * pi)
    m, at = np.empty_like(z), 1 + 0j
    for i, one in enumerate(z):
        for _ in range(80):
            gap = lam * at - one
            sum_, change = n @ (lam / gap) / d, -(n @ (lam**2 / gap**2)) / d
            move = (at * (1 + sum_) - 1) / (1 + sum_ + at * change)
            at -= move
            if abs(move) < 1e-12 * abs(at):
                break
        m[i] = at
    resolvent = ((n * target) / (lam * m[:, None] - z[:, None])).sum(1) + floor / z
    # z^2 times the trace of the resolvent, less what is analytic inside the loop and only costs digits
    state = weight * resolvent
    noise = rate**2 * d * z * (1 - m) * weight
    decay = -2 * rate * z + 2 * rate**2 * z * z
    decay, noise, state = (np.r_[part, part.conj()] for part in (decay, noise, state))
    size = len(decay)
    # The matrix of a step, less the identity: eigenvalues within rounding of 1 would lose their digits else.
    power = np.zeros((size + 1, size + 1), complex)
    power[:size, :size] = np.diag(decay) + noise[:, None]
    power[:size, size] = noise * floor
    state, read = np.r_[state, 1], np.r_[np.ones(size), floor]
    steps, losses, r, half = [], [], 1.0, power
    while r <= last:
        now = state + power @ state
        steps.append(r)
        losses.append(float((read @ now).real))
        if r > 1:
            steps.append(1.5 * r)
            losses.append(float((read @ (now + half @ now)).real))
        half, power, r = power, 2 * power + power @ power, 2 * r
    return np.array(steps), np.array(losses)


def matrix_curve(alpha: float, beta: float, d: int, steps: np.ndarray, seed: int | list[int]) -> np.ndarray:
    """The same loss for one random W, exactly: second moments of SGD on Gaussian inputs close in W's eigenbasis."""
    j = np.arange(1, (4 if 2 * alpha < 1 else 100) * d + 1.0)
    rate = 0.5 / (j ** (-2 * alpha)).sum()
    features = j[:, None] ** -alpha * np.random.default_rng(seed).standard_normal((len(j), d)) / d**0.5
    target = j ** (-alpha - beta)
    lam, axes = np.linalg.eigh(features.T @ features)
    seen = axes.T @ (features.T @ target)
    floor = target @ target - (seen**2 / lam).sum()
    rates, modes = np.linalg.eigh(np.diag(-2 * rate * lam + 2 * rate**2 * lam**2) + rate**2 * np.outer(lam, lam))
    end = modes @ ((modes.T @ (-(rate**2) * lam * floor)) / rates)
    part = (modes.T @ lam) * (modes.T @ ((seen / lam) ** 2 - end))
    return floor + lam @ end + (part * np.exp(np.outer(steps, np.log1p(rates)))).sum(1)
