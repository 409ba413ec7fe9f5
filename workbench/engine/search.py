"""Finding the optimum: draw starts, screen them all by their objective, walk the best, judge where they end."""

from __future__ import annotations

import numpy as np

from workbench.engine.absolute import least_absolute
from workbench.engine.diagnostics import Diagnostics, diagnose
from workbench.engine.solver import Problem, solve

__all__ = ["STARTS", "WALKED", "search"]

#: Starting points drawn and screened, and how many of the best are walked to convergence.
STARTS, WALKED = 512, 32
#: Drawn starts that a refit walks besides its warm start, in case the optimum has moved away.
CHALLENGERS = 3


def search(problem: Problem, starts: int, seed: int, warm: np.ndarray | None = None) -> tuple[np.ndarray, Diagnostics]:
    """The best optimum found and the evidence for it.

    Args:
        problem: what to minimise.
        starts: starting points to draw and screen; 0 walks from `warm` alone.
        seed: seed of the drawing.
        warm: ``[P]`` a point known to be near the optimum; few others are then walked.

    Returns:
        ``[P]`` parameters and their `Diagnostics`.

    Raises:
        ValueError: the law gives no finite prediction from any start.
    """
    if starts == 0 and warm is not None:
        solution = solve(problem, warm[None], warm=True)
        if not solution.converged[0]:  # the optimum is not near; go there through wider zones
            solution = solve(problem, warm[None])
    else:
        rng = np.random.default_rng(seed)
        drawn = problem.complete(problem.law.guess(problem.x, problem.y, starts, rng))
        order = np.argsort(problem.values(drawn), kind="stable")
        walkers = drawn[order[:WALKED]] if warm is None else np.concatenate([warm[None], drawn[order[:CHALLENGERS]]])
        solution = solve(problem, walkers)
    best = int(np.argmin(solution.value))
    if not np.isfinite(solution.value[best]):
        raise ValueError(
            f"{problem.law.name} gives no finite prediction from any of {starts} starts; "
            "check the units of its inputs, or choose another law"
        )
    if problem.objective.shape == "absolute" and problem.free:
        theta, converged = least_absolute(problem, solution.theta[best])
        solution.theta[best], solution.converged[best] = theta, converged
        solution.value[best] = problem.values(theta[None])[0]
    return solution.theta[best], diagnose(problem, solution, best, starts)
