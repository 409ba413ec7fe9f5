"""The exact optimum of least absolute deviations, by a sequence of linear programs.

The optimum lies in a corner, where as many residuals vanish as there are parameters, and a method of
gradients stalls on the edges that lead there. With the residuals linearised the problem is a linear
program; solving it within a trust region and repeating converges quadratically to a corner (Osborne and
Watson 1971, doi 10.1093/comjnl/14.2.184).
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linprog

from workbench.engine.solver import Problem

__all__ = ["least_absolute"]


def least_absolute(problem: Problem, theta: np.ndarray, max_iterations: int = 60) -> tuple[np.ndarray, bool]:
    """Walk from `theta` ``[P]``, near the optimum, to it.

    Returns:
        The optimum ``[P]`` and whether the last linear program promised no further decrease.
    """
    low, high = problem.bounds()
    z = problem.to_z(theta[None])[0]
    used = problem.weights > 0
    weights = problem.weights[used]
    value, trust = problem.values(theta[None])[0], 0.1
    for _ in range(max_iterations):
        r, jac = problem.jacobian(z[None])
        r, slope = r[0, used], jac[0][:, used].T
        n, f = slope.shape
        sides = np.block([[slope, -np.eye(n)], [-slope, -np.eye(n)]])
        step = list(zip(np.maximum(-trust, low - z), np.minimum(trust, high - z), strict=True))
        program = linprog(
            np.concatenate([np.zeros(f), weights]),
            A_ub=sides,
            b_ub=np.concatenate([-r, r]),
            bounds=step + [(0, None)] * n,
        )
        if program.x is None:
            return problem.to_theta(z[None])[0], False
        promised = value - program.fun
        if promised <= 1e-11 * value:
            return problem.to_theta(z[None])[0], True
        target = z + program.x[:f]
        value_new = problem.values(problem.to_theta(target[None]))[0]
        if value_new < value:
            z, trust = target, trust * (2.0 if value - value_new > 0.75 * promised else 1.0)
            value = value_new
        else:
            trust *= 0.25
    return problem.to_theta(z[None])[0], False
