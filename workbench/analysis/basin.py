"""A polynomial fitted around the minimum of a sweep, in logarithms, and what it says about the minimum.

Local least squares with tricube weights (Cleveland 1979, doi 10.1080/01621459.1979.10481038); the interval
of a minimum in one variable is Fieller's, the set where the slope is not significantly different from zero.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import f as f_distribution
from scipy.stats import t as t_distribution

__all__ = ["Basin", "Minimum", "line", "plane"]

#: Times the window moves onto the minimum that was found in it.
ROUNDS = 4
#: Significance at which a misfit of the cubic narrows the window.
MISFIT = 0.05
#: Positions at which a polynomial is looked at.
GRID = 1601
#: Draws of the coefficients of a paraboloid.
DRAWS = 4000


@dataclass(frozen=True)
class Minimum:
    """Where a basin is lowest; everything in logarithms, one entry a swept column.

    Attributes:
        status: ``ok``, ``open``, ``edge`` or ``not convex``.
        note: a sentence for whatever is not ``ok``.
        at, low, high, sigma: minimum, interval and standard error; for ``edge`` low and high are bounds.
        plateau: pairs between which the polynomial stays within the rise asked for.
        value: the polynomial at the minimum.
    """

    status: str
    note: str = ""
    at: np.ndarray | None = None
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    sigma: np.ndarray | None = None
    plateau: tuple[tuple[float, float], ...] = ()
    value: float = np.nan

    def with_note(self, note: str) -> Minimum:
        """The same with another note."""
        return replace(self, note=note)


@dataclass(frozen=True)
class Basin:
    """A local polynomial fitted to log metric against log settings.

    Attributes:
        centre: ``[p]`` where the polynomial is expanded.
        powers: ``[k, p]`` exponents of its terms.
        coefficients: ``[k]``.
        shape: ``[k, k]`` covariance of the coefficients for runs of unit variance.
        low, high: ``[p]`` ends of the settings that had weight.
        ends: ``[p, 2]`` ends of all settings.
        settings: ``[n, p]`` distinct settings, ascending for p = 1, and `means` of the metric there.
        squares: weighted sum of squared residuals; `expected` its expectation at unit variance, and
            `expected2` the trace that gives its degrees of freedom (Satterthwaite 1946).
        width: distance from the centre at which the weights are zero, for p = 1.
    """

    centre: np.ndarray
    powers: np.ndarray
    coefficients: np.ndarray
    shape: np.ndarray
    low: np.ndarray
    high: np.ndarray
    ends: np.ndarray
    settings: np.ndarray
    means: np.ndarray
    squares: float
    expected: float
    expected2: float
    width: float = np.nan

    @property
    def own(self) -> tuple[float, float]:
        """Variance of one run as this fit's residuals have it, and its degrees of freedom."""
        if self.expected < 1e-6:
            return np.nan, 0.0
        return self.squares / self.expected, self.expected**2 / max(self.expected2, 1e-300)

    def __call__(self, u: np.ndarray) -> np.ndarray:
        """The polynomial at log settings ``[n, p]``."""
        return _terms(np.atleast_2d(u) - self.centre, self.powers) @ self.coefficients

    def minimum(self, variance: float, degrees: float, level: float, rise: float, rng) -> Minimum:
        """The minimum with its interval.

        Args:
            variance: of one run; NaN if unknown, for which intervals are open.
            degrees: of freedom of the variance.
            level: nominal coverage.
            rise: how far the polynomial may rise on the plateau.
            rng: source of randomness for two columns.
        """
        t = float(t_distribution.ppf(0.5 + level / 2, degrees)) if degrees > 0 else np.inf
        spread = np.sqrt(variance) if np.isfinite(variance) else 0.0
        return self._on_line(t, spread, rise) if self.centre.size == 1 else self._on_plane(t, spread, level, rise, rng)

    # ---- one column ----

    def _slope(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Slope at log settings ``[n]`` and its standard error for runs of unit variance."""
        k = self.powers[:, 0]
        basis = k * (u - self.centre[0])[:, None] ** np.maximum(k - 1, 0)
        return basis @ self.coefficients, np.sqrt(np.einsum("nk,kl,nl->n", basis, self.shape, basis))

    def _on_line(self, t: float, spread: float, rise: float) -> Minimum:
        u = np.linspace(self.low[0], self.high[0], GRID)
        f = self(u[:, None])
        i = int(np.argmin(f))
        first, last = int(np.argmin(self.means)) == 0, int(np.argmin(self.means)) == len(self.means) - 1
        peak = int(np.argmax(self.means))
        humped = 0 < peak < len(self.means) - 1 and self.means[peak] > max(self.means[[0, -1]]) + 2 * spread
        if (first or last) and humped:
            return Minimum("not convex", "highest in the middle of the sweep, so there is no minimum to find")
        if i in (0, GRID - 1):
            if np.isclose(u[i], self.ends[0][0 if i == 0 else 1]):
                return self._edge(below=i == 0)
            return Minimum("not convex", "the fitted curve has no minimum within the window")
        slope, error = self._slope(u)
        error = error * spread
        # between the two grid points around the lowest the slope changes its sign
        left, right = (i - 1, i) if slope[i] > 0 else (i, i + 1)
        at = u[left] - slope[left] * (u[right] - u[left]) / (slope[right] - slope[left])
        flat = np.abs(slope) <= t * error if np.isfinite(t) else np.ones(GRID, dtype=bool)
        flat[[left, right]] = True
        a, b = left, right
        while a > 0 and flat[a - 1]:
            a -= 1
        while b < GRID - 1 and flat[b + 1]:
            b += 1
        open_below, open_above = a == 0, b == GRID - 1
        if (first and open_below) or (last and open_above):
            return self._edge(below=first)
        low = -np.inf if open_below else min(_cross(u, np.abs(slope) - t * error, a, a - 1), at)
        high = np.inf if open_above else max(_cross(u, np.abs(slope) - t * error, b, b + 1), at)
        sides = " and ".join(s for s, is_open in (("below", open_below), ("above", open_above)) if is_open)
        note = f"the noise sets no limit {sides} within the window" if sides else ""
        bottom = float(self(np.array([[at]]))[0])
        gap = bottom - self.means.min()
        if gap > rise:
            # Noise, or a valley too sharp for a cubic on so coarse a grid: nobody can say, so both stay possible.
            best = float(self.settings[int(np.argmin(self.means)), 0])
            low, high = min(low, best), max(high, best)
            missed = f"the best setting lies {np.expm1(gap):.1%} below the fitted minimum, so the interval holds it"
            note = f"{note}; {missed}" if note else missed
        reach = (min(high, u[-1]) - max(low, u[0])) / 2
        sigma = reach / t if np.isfinite(t) else np.nan
        inside = f <= bottom + rise
        a, b = left, right
        while a > 0 and inside[a - 1]:
            a -= 1
        while b < GRID - 1 and inside[b + 1]:
            b += 1
        return Minimum(
            "open" if sides else "ok",
            note,
            at=np.array([at]),
            low=np.array([low if np.isfinite(low) else np.nan]),
            high=np.array([high if np.isfinite(high) else np.nan]),
            sigma=np.array([sigma]),
            plateau=((float(u[a]), float(u[b])),),
            value=bottom,
        )

    def _edge(self, below: bool) -> Minimum:
        """The best setting is an end of the sweep: the optimum lies beyond the setting next to it."""
        u = self.settings[:, 0]
        side, end, bound = ("smallest", u[0], u[1]) if below else ("largest", u[-1], u[-2])
        low, high = (-np.inf, bound) if below else (bound, np.inf)
        note = f"best at the {side} setting tried, {float(np.exp(end)):.3g}: only a bound"
        return Minimum("edge", note, low=np.array([low]), high=np.array([high]))

    # ---- two columns ----

    def _on_plane(self, t: float, spread: float, level: float, rise: float, rng) -> Minimum:
        at, hessian = _vertex(self.coefficients[None], self.centre)
        at, hessian = at[0], hessian[0]
        best = self.settings[int(np.argmin(self.means))]
        on_end = np.isclose(best[:, None], self.ends).any()
        if not (np.linalg.eigvalsh(hessian) > 0).all():
            if on_end:
                return Minimum("edge", "best at an end of the sweep, and no minimum within: only a bound")
            return Minimum("not convex", "the fitted surface has no minimum within the window")
        if (at < self.ends[:, 0]).any() or (at > self.ends[:, 1]).any():
            return Minimum("edge", "the fitted minimum lies outside the sweep: only a bound")
        if not np.isfinite(t):
            low = high = np.full(2, np.nan)
            sigma, note = np.full(2, np.nan), "no degrees of freedom for an interval"
        else:
            low, high, sigma = self._draw(t, spread, level, rng)
            note = "" if np.isfinite(low).all() else "the noise sets no limit to the minimum within the window"
        # The paraboloid rises by `rise` on an ellipse, whose box has these half-widths.
        half = np.sqrt(2 * rise * np.diag(np.linalg.inv(hessian)))
        box = tuple(
            (max(a - h, e0), min(a + h, e1)) for a, h, (e0, e1) in zip(at, half, self.ends.tolist(), strict=True)
        )
        value = float(self(at[None])[0])
        return Minimum("open" if note else "ok", note, at, low, high, sigma, box, value)

    def _draw(self, t: float, spread: float, level: float, rng) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Interval and standard error from draws of the coefficients; NaN if too many have no minimum inside."""
        normal = float(t_distribution.ppf(0.5 + level / 2, np.inf))
        # Normal draws widened so that their quantile at `level` is Student's.
        root = np.linalg.cholesky(self.shape + 1e-14 * np.trace(self.shape) * np.eye(len(self.shape)))
        drawn = self.coefficients + spread * t / normal * rng.standard_normal((DRAWS, len(root))) @ root.T
        at, hessian = _vertex(drawn, self.centre)
        sound = (np.linalg.eigvalsh(hessian) > 0).all(-1)
        wide = 2 * (self.high - self.low)
        sound &= (np.abs(at - self.centre) < wide).all(-1)
        if (~sound).mean() > (1 - level) / 2:
            return np.full(2, np.nan), np.full(2, np.nan), np.ptp(self.ends, axis=1) / 2
        low, high = np.percentile(at[sound], [50 * (1 - level), 50 * (1 + level)], axis=0)
        return low, high, (high - low) / (2 * t)


def line(u: np.ndarray, z: np.ndarray, reach: float) -> Basin | None:
    """A basin over one column: a cubic, or a parabola where fewer than five settings have weight.

    Args:
        u: ``[n]`` log settings.
        z: ``[n]`` log metric.
        reach: distance from the centre at which the weight is zero; widened to hold five settings.

    Returns:
        None from fewer than four distinct settings.
    """
    distinct, index = np.unique(u, return_inverse=True)
    if distinct.size < 4:
        return None
    means = np.bincount(index, z) / np.bincount(index)
    best = int(np.argmin(means))
    basin, ends = _walk(u, z, reach, 4, distinct, means)
    while len(basin.powers) == 4 and reach > 0.5 and _misfits(basin, u, z):
        reach *= 0.85
        basin, ends = _walk(u, z, reach, 4, distinct, means)
    # A cliff where runs become unstable is no cubic and can hide a minimum that the settings show plainly.
    while ends and 0 < best < distinct.size - 1 and reach > 0.1:
        reach *= 0.7
        basin, ends = _walk(u, z, reach, 4 if reach > 0.5 else 3, distinct, means)
    return basin


def _misfits(basin: Basin, u: np.ndarray, z: np.ndarray) -> bool:
    """Whether the cubic visibly fails: repeats agree better than it fits, or a fourth-order term is significant.

    Both at `MISFIT`, with the weights of the fit; False where the window holds too few settings to tell.
    """
    weights = np.clip(1 - (np.abs(u - basin.centre[0]) / basin.width) ** 3, 0, None) ** 3
    used = weights > 0
    distinct, index = np.unique(u[used], return_inverse=True)
    if distinct.size < 6:
        return False
    count, w = np.bincount(index), weights[used]
    means = np.bincount(index, z[used]) / count
    pure, expected = w @ (z[used] - means[index]) ** 2, w @ (1 - 1 / count[index])
    if used.sum() - distinct.size >= 3 and expected > 0.1 * w.sum() / distinct.size:
        # Lack of fit: the rest of the squares over the rest of their expectation, against pure error.
        ratio = (basin.squares - pure) / max(basin.expected - expected, 1e-300) / max(pure / expected, 1e-300)
        return bool(ratio > f_distribution.ppf(1 - MISFIT, distinct.size - 4, used.sum() - distinct.size))
    quartic = _fit(u[:, None], z, weights, basin.centre, np.arange(5)[:, None], basin.settings, basin.means)
    variance, degrees = quartic.own
    if not degrees > 0.5:
        return False
    limit = t_distribution.ppf(1 - MISFIT / 2, degrees)
    return bool(abs(quartic.coefficients[4]) > limit * np.sqrt(variance * quartic.shape[4, 4]))


def _walk(u, z, reach: float, terms: int, distinct: np.ndarray, means: np.ndarray) -> tuple[Basin, bool]:
    """The basin after its window has moved onto its minimum, and whether that lies at an end of the window."""
    centre = distinct[int(np.argmin(means))]
    for _ in range(ROUNDS):
        needed = np.sort(np.abs(distinct - centre))[min(terms, distinct.size - 1)]
        width = max(reach, 1.05 * needed)
        weights = np.clip(1 - (np.abs(u - centre) / width) ** 3, 0, None) ** 3
        used = np.unique(u[weights > 0])
        powers = np.arange(min(terms, used.size - 1))[:, None]
        basin = _fit(u[:, None], z, weights, np.array([centre]), powers, distinct[:, None], means)
        grid = np.linspace(used[0], used[-1], GRID)
        lowest = int(np.argmin(basin(grid[:, None])))
        if abs(grid[lowest] - centre) < 1e-3:
            break
        centre = grid[lowest]
    return replace(basin, width=width), lowest in (0, GRID - 1)


def plane(u: np.ndarray, z: np.ndarray, reach: float) -> Basin | None:
    """A basin over two columns: a paraboloid.

    Args:
        u: ``[n, 2]`` log settings.
        z: ``[n]`` log metric.
        reach: as in `line`, for each column; widened until nine settings, three of each column, have weight.

    Returns:
        None from fewer settings.
    """
    distinct, index = np.unique(u, axis=0, return_inverse=True)
    index = index.ravel()
    if len(distinct) < 9 or min(np.unique(distinct[:, j]).size for j in (0, 1)) < 3:
        return None
    means = np.bincount(index, z) / np.bincount(index)
    powers = np.array([(0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2)])
    centre, basin = distinct[int(np.argmin(means))], None
    for _ in range(ROUNDS):
        width = reach
        while True:
            distance = np.sqrt((((u - centre) / width) ** 2).sum(1))
            weights = np.clip(1 - distance**3, 0, None) ** 3
            used = np.unique(u[weights > 1e-3], axis=0)
            if len(used) >= 9 and min(np.unique(used[:, j]).size for j in (0, 1)) >= 3:
                break
            width *= 1.15
        basin = _fit(u, z, weights, centre, powers, distinct, means)
        at, hessian = _vertex(basin.coefficients[None], centre)
        moved = np.clip(at[0], basin.low, basin.high)
        if not (np.linalg.eigvalsh(hessian[0]) > 0).all() or np.abs(moved - centre).max() < 1e-3:
            break
        centre = moved
    return basin


def _fit(u, z, weights, centre, powers, settings, means) -> Basin:
    x = _terms(u - centre, powers)
    inverse = np.linalg.pinv((x * weights[:, None]).T @ x, hermitian=True)
    solve = inverse @ (x * weights[:, None]).T
    coefficients = solve @ z
    residual = z - x @ coefficients
    # Weighted residuals have the expectation tr(M) and twice the variance tr(M^2) of unit noise.
    left = np.eye(z.size) - x @ solve
    m = left.T @ (weights[:, None] * left)
    used = u[weights > 0]
    return Basin(
        centre=centre,
        powers=powers,
        coefficients=coefficients,
        shape=solve @ solve.T,
        low=used.min(axis=0),
        high=used.max(axis=0),
        ends=np.stack([u.min(axis=0), u.max(axis=0)], axis=1),
        settings=settings,
        means=means,
        squares=float(weights @ residual**2),
        expected=float(np.trace(m)),
        expected2=float((m * m.T).sum()),
    )


def _terms(v: np.ndarray, powers: np.ndarray) -> np.ndarray:
    return np.prod(v[:, None, :] ** powers[None], axis=-1)


def _vertex(coefficients: np.ndarray, centre: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Stationary points ``[m, 2]`` and Hessians ``[m, 2, 2]`` of paraboloids ``[m, 6]``."""
    _, gx, gy, xx, xy, yy = coefficients.T
    hessian = np.stack([np.stack([2 * xx, xy], -1), np.stack([xy, 2 * yy], -1)], -2)
    determinant = 4 * xx * yy - xy**2
    with np.errstate(all="ignore"):
        step = -np.stack([2 * yy * gx - xy * gy, 2 * xx * gy - xy * gx], -1) / determinant[:, None]
    return centre + np.nan_to_num(step, nan=np.inf, posinf=1e9, neginf=-1e9), hessian


def _cross(u: np.ndarray, g: np.ndarray, inside: int, outside: int) -> float:
    """Where `g` changes its sign between two neighbouring grid points, on a straight line."""
    a, b = g[inside], g[outside]
    share = a / (a - b) if a < 0 < b else 0.0
    return float(u[inside] + share * (u[outside] - u[inside]))
