"""How optima move with compute: lines in log C, and a loss with a floor, with bootstrap draws of both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

__all__ = ["Trend", "floored_power", "line", "trend"]

_EXPONENTS = (0.005, 1.5)
_NAMES = ("params", "tokens")


@dataclass(frozen=True)
class Trend:
    """``log N_opt`` and ``log D_opt`` as lines in log C, and the loss along them; row 0 of every draw is the estimate.

    Attributes:
        slopes: ``params`` and ``tokens`` -> exponents ``[1 + B]``.
        levels: ``params`` and ``tokens`` -> log of the optimum at compute `centre` ``[1 + B]``.
        loss: ``[1 + B, 3]`` E, k, gamma of E + k (C / centre)^-gamma; NaN where unknown.
        centre: FLOP at which levels are given.
        largest: largest compute the trend was fitted to.
        scatter: standard deviation of the optima about the line, in log N, beyond what their own noise explains.
    """

    slopes: dict[str, np.ndarray]
    levels: dict[str, np.ndarray]
    loss: np.ndarray
    centre: float
    largest: float
    scatter: float = 0.0

    def at(self, flops: np.ndarray) -> dict[str, np.ndarray]:
        """``params``, ``tokens``, ``tokens_per_param`` and ``loss``, each ``[1 + B, G]``, at budgets ``[G]``."""
        x = np.log(np.asarray(flops, float) / self.centre)
        logs = {name: self.levels[name][:, None] + self.slopes[name][:, None] * x for name in _NAMES}
        floor, size, gamma = self.loss.T[..., None]
        return {
            **{name: np.exp(value) for name, value in logs.items()},
            "tokens_per_param": np.exp(logs["tokens"] - logs["params"]),
            "loss": floor + size * np.exp(-gamma * x),
        }


def line(x: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Weighted least squares: level at ``x = 0`` and slope ``[...]`` of ``y [..., m]``; NaN slope on one point."""
    w = np.ones(x.size) if weights is None else weights
    middle = (w * x).sum() / w.sum()
    spread = (w * (x - middle) ** 2).sum()
    level = (w * y).sum(-1) / w.sum()
    if x.size < 2 or spread <= 0:
        return level, np.full(level.shape, np.nan)
    slope = (w * (x - middle) * y).sum(-1) / spread
    return level - slope * middle, slope


def trend(
    flops: np.ndarray,
    size: np.ndarray,
    data: np.ndarray,
    loss: np.ndarray,
    degrees: int,
    seed: int,
    level: float = 0.95,
) -> Trend:
    """Lines through the optima of several budgets.

    The optima carry the noise of their own runs, which the draws show, and may scatter about any line for
    other reasons (one badly tuned budget). That scatter is a property of budgets, not of runs: its variance
    is estimated by moments and added budget by budget, as in a random-effects meta-regression
    (DerSimonian and Laird 1986, doi 10.1016/0197-2456(86)90046-2). The draws are then stretched to Student's
    t with the degrees of freedom of both sources combined (Satterthwaite 1946).

    Args:
        flops: ``[m]`` budgets.
        size, data: ``[1 + B, m]`` log N and log D of the optimum; row 0 is the estimate, the others draws.
        loss: ``[1 + B, m]`` loss at the optimum.
        degrees: degrees of freedom of the runs' noise.
        seed: seed of the scatter that is added.
        level: coverage at which the stretch is exact.
    """
    centre = float(np.exp(np.log(flops).mean()))
    x = np.log(flops / centre)
    size, data = (np.where(np.isfinite(v), v, v[0]) for v in (size, data))
    noise = size[1:].var(axis=0) if len(size) > 1 else np.zeros(x.size)
    noise = np.maximum(noise, 1e-12)
    scatter = _scatter(x, size[0], noise)
    weights = 1 / (noise + scatter)
    rng = np.random.default_rng([seed, 2])
    extra = np.sqrt(scatter) * rng.standard_normal(size[1:].shape)
    stretch = _stretch(x, noise, scatter, weights, degrees, level)
    slopes, levels = {}, {}
    # A budget's optimum moves along its own line of equal compute, so that D falls where N rises.
    for name, values, sign in (("params", size, 1.0), ("tokens", data, -1.0)):
        shaken = np.concatenate([values[:1], values[1:] + sign * extra])
        for target, found in zip((levels, slopes), line(x, shaken, weights), strict=True):
            target[name] = found[0] + (found - found[0]) * np.where(np.arange(found.size) == 0, 1.0, stretch)
    return Trend(slopes, levels, floored_power(x, loss), centre, float(flops.max()), float(np.sqrt(scatter)))


def _scatter(x: np.ndarray, y: np.ndarray, noise: np.ndarray) -> float:
    """Variance between budgets beyond `noise`, by the method of moments; 0 on fewer than three budgets."""
    if x.size < 3:
        return 0.0
    w = 1 / noise
    basis = np.column_stack([np.ones(x.size), x])
    inverse = np.linalg.inv(basis.T @ (w[:, None] * basis))
    residual = y - basis @ (inverse @ (basis.T @ (w * y)))
    excess = (w * residual**2).sum() - (x.size - 2)
    return max(0.0, excess / (w.sum() - np.trace(inverse @ (basis.T @ (w[:, None] ** 2 * basis)))))


def _stretch(x, noise, scatter, weights, degrees: int, level: float) -> float:
    pull = weights * (x - (weights * x).sum() / weights.sum())
    within, between = (pull**2 * noise).sum(), (pull**2 * scatter).sum()
    if within + between <= 0:
        return 1.0
    spent = within**2 / max(degrees, 1) + between**2 / max(x.size - 2, 1)
    freedom = max((within + between) ** 2 / spent, 1.0)
    return float(student.ppf(0.5 + level / 2, freedom) / norm.ppf(0.5 + level / 2))


def floored_power(x: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """E, k, gamma of ``E + k exp(-gamma x)`` by least squares on relative errors, for every row of ``loss [B, m]``.

    The exponent is searched on a grid, then on a finer one; floor and factor are solved for, the floor held
    at 0 where it would be negative and where fewer than four points leave nothing to tell it by.

    Returns:
        ``[B, 3]``; NaN for rows with fewer than two points.
    """
    out = np.full((len(loss), 3), np.nan)
    loss = np.where(np.isfinite(loss), loss, loss[0])
    if x.size < 2 or not np.isfinite(loss).all():
        return out
    gammas = np.broadcast_to(np.geomspace(*_EXPONENTS, 40), (len(loss), 40))
    for _ in range(3):
        basis = np.exp(-gammas[..., None] * x) / loss[:, None, :]
        one = np.broadcast_to((1 / loss)[:, None, :], basis.shape)
        bb, oo, bo, b1, o1 = ((p).sum(-1) for p in (basis * basis, one * one, basis * one, basis, one))
        determinant = np.maximum(bb * oo - bo**2, 1e-14 * bb * oo)
        k, floor = (oo * b1 - bo * o1) / determinant, (bb * o1 - bo * b1) / determinant
        plain = (floor <= 0) | (k <= 0) | (x.size < 4)
        k, floor = np.where(plain, b1 / bb, k), np.where(plain, 0.0, floor)
        error = ((1 - k[..., None] * basis - floor[..., None] * one) ** 2).sum(-1)
        best = error.argmin(axis=1)
        rows = np.arange(len(loss))
        out = np.stack([floor[rows, best], k[rows, best], gammas[rows, best]], axis=1)
        low, high = gammas[rows, np.maximum(best - 1, 0)], gammas[rows, np.minimum(best + 1, gammas.shape[1] - 1)]
        gammas = low[:, None] + (high - low)[:, None] * np.linspace(0, 1, 21)
    return out
