"""Covariances of the free coordinates at an optimum: from the Jacobian alone, and robust to how errors spread."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.engine.solver import Problem

__all__ = ["Sandwich", "covariance", "sandwich"]

#: A group whose share of the information along some direction exceeds this cannot be left out.
SOLE = 1 - 1e-8


def covariance(problem: Problem, theta: np.ndarray) -> np.ndarray:
    """Covariance ``[F, F]`` of the free coordinates from the Jacobian at the optimum.

    ``m2 / slope^2 (J^T W J)^-1`` with the moments of `Objective.noise`; for squares the usual
    least-squares covariance. Huge where the Jacobian is singular.
    """
    r, jac = problem.jacobian(problem.to_z(theta[None]))
    m2, slope = problem.objective.noise(r[0], problem.weights, len(problem.free), problem.objective.zone(problem.y))
    information = (jac[0] * problem.weights) @ jac[0].T
    scale = np.sqrt(np.maximum(np.diag(information), 1e-300))
    scaled = information / np.outer(scale, scale)
    values, vectors = np.linalg.eigh(scaled)
    if values.size and values[0] <= 1e-13 * values[-1]:
        with np.errstate(divide="ignore"):
            inverse = vectors @ np.diag(1 / np.maximum(values, 1e-300)) @ vectors.T
    else:
        inverse = vectors @ np.diag(1 / values) @ vectors.T
    with np.errstate(over="ignore"):  # a direction the data say nothing about
        return m2 / slope**2 * inverse / np.outer(scale, scale)


@dataclass(frozen=True)
class Sandwich:
    """A covariance that lets errors differ in size and hang together within clusters.

    Attributes:
        changes: ``[G, F]`` how far the estimate moves, to first order, when a cluster is left out; infinite
            in coordinates that the others do not determine.
        residuals: ``[n]`` residuals inflated by the leverage of their cluster, as in HC3 and CR3.
        degrees: of freedom for Student's t: G - 1 for clusters, n - F for single runs.
        factor: what the sum of squared changes is multiplied by.
    """

    changes: np.ndarray
    residuals: np.ndarray
    degrees: int
    factor: float

    @property
    def covariance(self) -> np.ndarray:
        """``[F, F]`` covariance of the free coordinates; infinite where a change is."""
        with np.errstate(all="ignore"):
            return np.nan_to_num(self.factor * self.changes.T @ self.changes, nan=np.inf)

    def spread(self, contrasts: np.ndarray) -> np.ndarray:
        """Standard errors ``[K]`` of the linear combinations ``[K, F]`` of the free coordinates."""
        with np.errstate(all="ignore"):
            return np.nan_to_num(np.sqrt(self.factor * ((self.changes @ contrasts.T) ** 2).sum(0)), nan=np.inf)


def sandwich(problem: Problem, theta: np.ndarray, cluster: np.ndarray) -> Sandwich:
    """Leave-one-cluster-out covariance to first order: HC3 for single runs, CR3 for clusters.

    Leaving cluster g out moves the estimate by ``(H - H_g)^-1 s_g``, with s_g its part of the gradient and
    H_g of the Hessian; for squares that is exact in a linear law. The covariance sums the outer products
    of these changes: HC3 as simplified by Davidson and MacKinnon 1993 from MacKinnon and White 1985 (doi
    10.1016/0304-4076(85)90158-7), and times (G - 1)/G the CR3 of Bell and McCaffrey 2002, called CV3 by
    MacKinnon, Nielsen and Webb 2023 (doi 10.1002/jae.2969), who pair it with Student's t of G - 1 degrees.
    For Huber's loss the Hessian takes the slope of psi from `Objective.noise`.

    Args:
        problem: the fitted problem.
        theta: ``[P]`` the optimum.
        cluster: ``[n]`` index of the group of each run, 0 to G - 1.
    """
    r, jac = problem.jacobian(problem.to_z(theta[None]))
    r, jac, w = r[0], jac[0], problem.weights
    zone = problem.objective.zone(problem.y)
    slope = problem.objective.noise(r, w, len(jac), zone)[1]
    root = np.sqrt(w)
    # In an orthonormal basis of the weighted Jacobian (H - H_g)^-1 is small, well scaled algebra.
    norms = np.maximum(np.linalg.norm(jac * root, axis=1), 1e-300)
    basis, singular, right = np.linalg.svd((jac * root / norms[:, None]).T, full_matrices=False)
    back = right.T / np.maximum(singular, 1e-13 * singular.max(initial=1e-300)) / norms[:, None]  # [F, F]
    psi = np.clip(r, -zone, zone) * root / slope
    groups = int(cluster.max()) + 1
    changes, inflated = np.empty((groups, len(jac))), np.empty_like(r)
    for g in range(groups):
        rows = np.flatnonzero(cluster == g)
        q = basis[rows]
        values, vectors = np.linalg.eigh(q.T @ q)
        sole = values > SOLE
        inverse = (vectors / np.where(sole, 1.0, 1 - values)) @ vectors.T
        changes[g] = back @ (inverse @ (q.T @ psi[rows]))
        # (I - Q Q^T)^-1 = I + Q (I - Q^T Q)^-1 Q^T
        inflated[rows] = r[rows] + q @ (inverse @ (q.T @ (r * root)[rows])) / root[rows]
        # A direction that this cluster alone fixes is lost without it.
        lost = np.abs(back @ vectors[:, sole]).max(axis=1, initial=0.0)
        changes[g][lost > 1e-9 * np.linalg.norm(back, axis=1)] = np.inf
    single = groups == r.size
    degrees = r.size - len(jac) if single else groups - 1
    return Sandwich(changes, inflated, degrees, 1.0 if single else (groups - 1) / groups)
