"""Covariance of the free coordinates at an optimum, from the Jacobian there."""

from __future__ import annotations

import numpy as np

from workbench.engine.solver import Problem

__all__ = ["covariance"]


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
    if values.size and values[0] < 1e-13 * values[-1]:
        with np.errstate(divide="ignore"):
            inverse = vectors @ np.diag(1 / np.maximum(values, 1e-300)) @ vectors.T
    else:
        inverse = vectors @ np.diag(1 / values) @ vectors.T
    return m2 / slope**2 * inverse / np.outer(scale, scale)
