"""What a fit minimises: a loss of residuals, in log or linear space, summed over the runs.

*Summed*, never averaged: an optimizer's tolerances are absolute, and the mean over 240 runs of a Huber
loss with delta 1e-3 is so small that a default tolerance stops at once, far from the optimum (that is
how Hoffmann et al. 2022 arrive at a = 0.46; Besiroglu et al. 2024, arXiv 2404.10102, appendix).
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import erf

__all__ = ["OBJECTIVES", "Objective", "huber"]

#: name -> (residuals are of logarithms, shape of the loss)
OBJECTIVES = {
    "log-huber": (True, "huber"),
    "huber": (False, "huber"),
    "log-mse": (True, "square"),
    "mse": (False, "square"),
    "log-mae": (True, "absolute"),
    "mae": (False, "absolute"),
}

#: The absolute loss is first fitted as a Huber loss whose quadratic zone is this fraction of the data's
#: spread; `workbench.engine.absolute` then goes from there to the exact optimum.
ABSOLUTE_ZONE = 1e-3
#: Ratio of neighbouring zones on the way to a narrow one.
RUNG = 10.0


def huber(residuals: np.ndarray, zone: float) -> np.ndarray:
    """Huber's loss: quadratic within `zone`, linear beyond, with slope `zone`; squares for an infinite zone."""
    size = np.abs(residuals)
    inner = np.minimum(size, zone)
    value = 0.5 * inner * inner
    return value + zone * (size - inner) if np.isfinite(zone) else value


@dataclass(frozen=True)
class Objective:
    """``sum_i w_i rho(r_i)`` with r = log(prediction) - log(observed), or prediction - observed.

    rho is Huber's ``r^2/2`` for ``|r| <= delta`` and ``delta (|r| - delta/2)`` beyond (Huber 1964, doi
    10.1214/aoms/1177703732), ``r^2/2``, or ``|r|``.

    Attributes:
        name: one of `OBJECTIVES`.
        delta: where Huber's loss turns linear, in units of the residual; unused by the others.

    Raises:
        ValueError: unknown name or a delta that is not a positive number.
    """

    name: str = "log-huber"
    delta: float = 1e-3

    def __post_init__(self):
        if self.name not in OBJECTIVES:
            near = difflib.get_close_matches(str(self.name), OBJECTIVES, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"no objective is called {self.name!r}; {hint}choose one of {', '.join(OBJECTIVES)}")
        try:
            fine = np.isfinite(self.delta) and self.delta > 0
        except TypeError:
            fine = False
        if not fine:
            raise ValueError(f"delta is {self.delta!r}; it must be a positive number, such as 1e-3")

    @property
    def in_logs(self) -> bool:
        """Whether residuals are differences of logarithms."""
        return OBJECTIVES[self.name][0]

    @property
    def shape(self) -> str:
        """``huber``, ``square`` or ``absolute``."""
        return OBJECTIVES[self.name][1]

    def spread(self, y: np.ndarray) -> float:
        """Standard deviation of the fitted quantity, the scale that residuals are small against."""
        spread = float(np.std(np.log(y)) if self.in_logs else np.std(y))
        return spread if np.isfinite(spread) and spread > 0 else 1.0

    def ladder(self, y: np.ndarray) -> list[float]:
        """Wider quadratic zones to pass through on the way to a narrow one, widest first.

        Under a zone far narrower than the residuals the objective is a polyhedron with many facets, on
        which a method that looks at curvature crawls; the optimum under a few times wider zone is near.
        """
        zone, widest = self.zone(y), 0.1 * self.spread(y)
        if not np.isfinite(zone) or zone >= widest:
            return []
        rungs = int(np.ceil(np.log(widest / zone) / np.log(RUNG)))
        return [zone * RUNG**k for k in range(rungs, 0, -1)]

    def zone(self, y: np.ndarray) -> float:
        """Half-width of the quadratic zone used on data `y`: delta, infinity, or nearly nothing."""
        if self.shape == "huber":
            return float(self.delta)
        if self.shape == "square":
            return np.inf
        return ABSOLUTE_ZONE * self.spread(y)

    def loss(self, residuals: np.ndarray) -> np.ndarray:
        """rho, elementwise."""
        if self.shape == "absolute":
            return np.abs(residuals)
        return huber(residuals, self.delta if self.shape == "huber" else np.inf)

    def log_likelihood(self, residuals: np.ndarray, weights: np.ndarray, y: np.ndarray) -> float:
        """Largest log-likelihood of the residuals under the density this objective implies.

        The density is ``exp(-rho(r)/t) / Z(t)``: normal for squares, Laplace for absolute values, and
        in between for Huber, whose Z has the closed form below. The scale t is free and counts as one
        parameter. Leaves out the Jacobian of the logarithm, which no law can change.
        """
        n = float(weights.sum())
        zone = self.zone(y)
        total = float((weights * self.loss(residuals)).sum())
        if self.shape == "absolute":  # Laplace: the best scale is the mean absolute residual
            return -n * (np.log(2 * max(total / n, 1e-300)) + 1)
        if self.shape == "square":  # normal: the best variance is the mean square
            return -0.5 * n * (np.log(2 * np.pi * max(2 * total / n, 1e-300)) + 1)

        def negative(log_t):
            t = np.exp(log_t)
            inside = np.sqrt(2 * np.pi * t) * erf(zone / np.sqrt(2 * t))
            outside = 2 * t / zone * np.exp(-zone * zone / (2 * t))
            return total / t + n * np.log(inside + outside)

        # The scale lies between that of a Laplace and that of a normal density.
        centre = np.log(max(total / n, 1e-300))
        best = minimize_scalar(negative, bounds=(centre - 12, centre + 12), method="bounded", options={"xatol": 1e-10})
        return -float(best.fun)

    def noise(self, residuals: np.ndarray, weights: np.ndarray, n_parameters: int, zone: float) -> tuple[float, float]:
        """Second moment of psi and mean of its slope, the two numbers every asymptotic interval needs.

        The estimate's covariance is ``m2 / slope^2 (J^T W J)^-1`` and twice the objective's rise divided
        by ``m2 / slope`` is chi-square (Huber and Ronchetti 2009, Robust Statistics, chapter 7). For
        squares the slope is 1 and m2 the residual variance. Where the quadratic zone is narrower than
        the residuals few points lie inside it, so the slope comes from a kernel estimate of the
        residual density at zero instead of a count.

        Returns:
            ``(m2, slope)``, m2 with the small-sample factor n / (n - P); NaN without degrees of freedom.
        """
        used = weights > 0
        n = float(used.sum())
        if n <= n_parameters:
            return np.nan, np.nan
        share = weights / weights.sum()
        m2 = float((share * np.clip(residuals, -zone, zone) ** 2).sum()) * n / (n - n_parameters)
        if not np.isfinite(zone):
            return m2, 1.0
        spread = 1.4826 * float(np.median(np.abs(residuals[used])))
        width = max(zone, 1.06 * spread * n**-0.2)
        inside = max(float((share * (np.abs(residuals) < width)).sum()), 1 / n)
        return m2, inside * min(1.0, zone / width)
