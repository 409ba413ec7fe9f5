"""The minimum of loss over size within each compute budget: three models of an isoFLOP curve.

All work on many resampled loss vectors at once. Rows of a budget lie next to each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["METHODS", "MINIMUM_SIZES", "Design", "Slices", "solve"]

#: Models of loss against log N at fixed compute.
METHODS = ("shared", "cubic", "parabola")
#: Sizes a budget must have, which leaves each model at least one degree of freedom.
MINIMUM_SIZES = {"shared": 4, "cubic": 5, "parabola": 4}
#: Exponents of the shared model are searched within these; as both tend to 0 it becomes a parabola.
_LOW, _HIGH = np.log(0.02), np.log(3.0)
_STEP = 1e-4


@dataclass(frozen=True)
class Design:
    """Where the runs of every budget lie.

    Attributes:
        group: ``[K]`` index of each run's budget, ascending from 0 without gaps.
        size: ``[K]`` log N.
        data: ``[K]`` log D.
        slope, offset: ``[m]`` log D = offset - slope log N along each budget.
    """

    group: np.ndarray
    size: np.ndarray
    data: np.ndarray
    slope: np.ndarray
    offset: np.ndarray

    @property
    def starts(self) -> np.ndarray:
        """``[m]`` first row of each budget."""
        return np.flatnonzero(np.r_[True, np.diff(self.group) > 0])

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Mean over each budget, ``[..., K]`` to ``[..., m]``."""
        return np.add.reduceat(values, self.starts, axis=-1) / np.bincount(self.group)


@dataclass(frozen=True)
class Slices:
    """Fitted isoFLOP curves of `B` loss vectors.

    Attributes:
        size: ``[B, m]`` log N at the minimum, NaN where the curve has none.
        loss: ``[B, m]`` loss there.
        fitted: ``[B, K]`` fitted losses.
        leverage: ``[K]`` diagonal of the first fit's (linearised) hat matrix.
        exponents: ``[B, 2]`` shared exponents of size and data, NaN for the other models.
        shape: ``[B, m, p]`` coefficients, for `curve`.
    """

    size: np.ndarray
    loss: np.ndarray
    fitted: np.ndarray
    leverage: np.ndarray
    exponents: np.ndarray
    shape: np.ndarray

    def curve(self, design: Design, budget: int, size: np.ndarray) -> np.ndarray:
        """The first fit's loss along one budget at log N `size` ``[G]``."""
        c, centre = self.shape[0, budget], design.mean(design.size)[budget]
        if np.isfinite(self.exponents[0, 0]):
            alpha, beta = self.exponents[0]
            data = design.offset[budget] - design.slope[budget] * size - design.mean(design.data)[budget]
            return c[0] + c[1] * np.exp(-alpha * (size - centre)) + c[2] * np.exp(-beta * data)
        return np.polynomial.polynomial.polyval(size - centre, c)


def solve(method: str, design: Design, loss: np.ndarray, start: np.ndarray | None = None) -> Slices:
    """Least-squares isoFLOP curves.

    Args:
        method: ``shared``: E_i + A_i N^-alpha + B_i D^-beta with a floor and prefactors of each budget i and
            exponents common to all; ``cubic`` and ``parabola``: a polynomial in log N for each budget.
        design: where the runs lie.
        loss: ``[B, K]`` loss vectors.
        start: ``[2]`` shared exponents to start from; default a grid.
    """
    if method == "shared":
        return _shared(design, loss, start)
    return _polynomial(design, loss, {"parabola": 2, "cubic": 3}[method])


def _polynomial(design: Design, loss: np.ndarray, degree: int) -> Slices:
    b, m = len(loss), design.group[-1] + 1
    size, lowest = np.full((b, m), np.nan), np.full((b, m), np.nan)
    fitted, leverage, shape = np.empty_like(loss), np.empty(loss.shape[1]), np.empty((b, m, degree + 1))
    for i in range(m):
        rows = design.group == i
        x = design.size[rows] - design.size[rows].mean()
        q, r = np.linalg.qr(np.vander(x, degree + 1, increasing=True))
        fitted[:, rows] = loss[:, rows] @ q @ q.T
        leverage[rows] = (q**2).sum(axis=1)
        c = shape[:, i] = np.linalg.solve(r, (loss[:, rows] @ q).T).T
        # The root of the derivative at which the second derivative, twice this square root, is positive.
        inner = c[:, 2] ** 2 - 3 * c[:, 1] * c[:, 3] if degree == 3 else c[:, 2] ** 2
        root = np.sqrt(np.maximum(inner, 0)) if degree == 3 else c[:, 2]
        with np.errstate(all="ignore"):
            at = -c[:, 1] / (c[:, 2] + root)
        at[~((root > 0) & np.isfinite(at))] = np.nan
        size[:, i] = at + design.size[rows].mean()
        lowest[:, i] = np.polynomial.polynomial.polyval(at, c.T, tensor=False)
    return Slices(size, lowest, fitted, leverage, np.full((b, 2), np.nan), shape)


def _shared(design: Design, loss: np.ndarray, start: np.ndarray | None) -> Slices:
    """Variable projection (Golub and Pereyra 1973): only the two exponents are iterated."""
    x = design.size - design.mean(design.size)[design.group]
    d = design.data - design.mean(design.data)[design.group]
    level = design.mean(loss)
    y = loss - level[:, design.group]
    # Shared exponents weigh budgets alike whatever the unit of the loss.
    if start is None:
        ticks = np.linspace(_LOW, np.log(1.5), 12)
        grid = np.stack(np.meshgrid(ticks, ticks, indexing="ij"), axis=-1).reshape(-1, 2)
        theta = np.empty((len(loss), 2))
        for k, row in enumerate(y):
            r, *_ = _project(design, x, d, grid, np.broadcast_to(row, (len(grid), row.size)))
            theta[k] = grid[np.argmin((r**2).sum(axis=1))]
    else:
        theta = np.broadcast_to(np.log(start), (len(loss), 2)).copy()
    theta = _iterate(design, x, d, theta, y)
    r, a, b, mean_f, mean_g = _project(design, x, d, theta, y)
    alpha, beta = np.exp(theta[:, :1]), np.exp(theta[:, 1:])
    # Along the budget d = offset - slope log N, seen from the means that x and d were taken from.
    centre = design.mean(design.size)
    shift = design.offset - design.slope * centre - design.mean(design.data)
    good = (a > 0) & (b > 0)
    with np.errstate(all="ignore"):
        ratio = np.log(np.where(good, alpha * a / (design.slope * beta * b), np.nan)) + beta * shift
        at = ratio / (alpha + design.slope * beta)
        floor = level - a * mean_f - b * mean_g
        lowest = floor + a * np.exp(-alpha * at) + b * np.exp(-beta * (shift - design.slope * at))
    leverage = _leverage(design, x, d, theta[:1], y[:1])
    shape = np.stack([floor, a, b], axis=-1)
    return Slices(at + centre, lowest, loss - r, leverage, np.exp(theta), shape)


def _project(design: Design, x: np.ndarray, d: np.ndarray, theta: np.ndarray, y: np.ndarray):
    """Residuals ``[B, K]`` with floors and prefactors solved for, the prefactors ``[B, m]``, means of the bases."""
    group, starts = design.group, design.starts
    f, g = np.exp(-np.exp(theta[:, :1]) * x), np.exp(-np.exp(theta[:, 1:]) * d)
    mean_f, mean_g = design.mean(f), design.mean(g)
    f, g = f - mean_f[:, group], g - mean_g[:, group]
    ff, gg, fg, fy, gy = (np.add.reduceat(p, starts, axis=1) for p in (f * f, g * g, f * g, f * y, g * y))
    determinant = np.maximum(ff * gg - fg**2, 1e-13 * ff * gg)
    a, b = (gg * fy - fg * gy) / determinant, (ff * gy - fg * fy) / determinant
    return y - a[:, group] * f - b[:, group] * g, a, b, mean_f, mean_g


def _iterate(design: Design, x: np.ndarray, d: np.ndarray, theta: np.ndarray, y: np.ndarray, most: int = 25):
    """Damped Gauss-Newton in the logarithms of the two exponents; rows that have settled are left alone."""
    theta = theta.copy()
    damping = np.full(len(theta), 1e-3)
    r = _project(design, x, d, theta, y)[0]
    best = (r**2).sum(axis=1)
    going = np.arange(len(theta))
    for _ in range(most):
        at, now, old = theta[going], r[going], y[going]
        slopes = [(_project(design, x, d, at + _STEP * e, old)[0] - now) / _STEP for e in np.eye(2)]
        j00, j11, j01 = ((slopes[i] * slopes[k]).sum(axis=1) for i, k in ((0, 0), (1, 1), (0, 1)))
        g0, g1 = ((s * now).sum(axis=1) for s in slopes)
        d0, d1 = (j * (1 + damping[going]) + 1e-300 for j in (j00, j11))
        determinant = np.maximum(d0 * d1 - j01**2, 1e-12 * d0 * d1) + 1e-300
        step = -np.stack([d1 * g0 - j01 * g1, d0 * g1 - j01 * g0], axis=1) / determinant[:, None]
        trial = np.clip(at + np.clip(step, -0.7, 0.7), _LOW, _HIGH)
        r_trial = _project(design, x, d, trial, old)[0]
        value = (r_trial**2).sum(axis=1)
        better = value < best[going]
        # A millionth of the objective is a thousandth of a standard error.
        settled = np.where(better, value > best[going] * (1 - 1e-6), damping[going] > 1e3)
        won = going[better]
        theta[won], r[won], best[won] = trial[better], r_trial[better], value[better]
        damping[going] = np.where(better, damping[going] / 5, damping[going] * 8).clip(1e-9, 1e9)
        going = going[~settled]
        if not going.size:
            break
    return theta


def _leverage(design, x, d, theta, y) -> np.ndarray:
    """Diagonal of the hat matrix of the linearised model: floors, prefactors and the two exponents."""
    member = np.eye(design.group[-1] + 1)[design.group]
    f, g = np.exp(-np.exp(theta[:, :1]) * x)[0], np.exp(-np.exp(theta[:, 1:]) * d)[0]
    r = _project(design, x, d, theta, y)[0][0]
    slopes = [(_project(design, x, d, theta + _STEP * e, y)[0][0] - r) / _STEP for e in np.eye(2)]
    basis = np.column_stack([member, member * f[:, None], member * g[:, None], *slopes])
    basis /= np.linalg.norm(basis, axis=0) + 1e-300
    u, s, _ = np.linalg.svd(basis, full_matrices=False)
    return (u[:, s > 1e-10 * s[0]] ** 2).sum(axis=1)
