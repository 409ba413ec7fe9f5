"""Jackknife: the fit without each run, or each cluster of runs, in turn."""

from __future__ import annotations

import numpy as np

from workbench.engine.solver import Problem, solve

__all__ = ["leave_one_out"]


def leave_one_out(problem: Problem, theta: np.ndarray, cluster: np.ndarray) -> np.ndarray:
    """Refits ``[G, P]`` without one cluster each, every one walked from the estimate.

    Their spread ``(G - 1)/G sum (z_g - z)^2`` about the estimate is the jackknife variance (Tukey 1958;
    for clusters CV3 of MacKinnon, Nielsen and Webb 2023, doi 10.1002/jae.2969). It suits smooth objectives;
    the median of few runs is not smooth, and neither is Huber's loss of a narrow zone.

    Args:
        problem: the fitted problem.
        theta: ``[P]`` the optimum.
        cluster: ``[n]`` index of the group of each run, 0 to G - 1.
    """
    groups = int(cluster.max()) + 1
    weights = (cluster[None] != np.arange(groups)[:, None]) * problem.weights
    return solve(problem, np.repeat(theta[None], groups, axis=0), weights, warm=True).theta
