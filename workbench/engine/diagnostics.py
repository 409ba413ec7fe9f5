"""What can be said against a fit: starts that disagree, parameters the data do not identify, thin evidence.

That an optimizer reports success proves nothing (scipy's L-BFGS-B does so on all 4500 starts of the
Chinchilla grid, of which 387 reach the optimum), so the verdicts here come from the optimum itself.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import numpy as np

from workbench.engine.covariance import covariance
from workbench.engine.solver import Problem, Solution

__all__ = ["Diagnostics", "diagnose"]

#: Two starts agree when their objectives do, to this relative difference.
SAME_OPTIMUM = 1e-6
#: Condition number of the unit-normed Jacobian beyond which its weakest direction is noise.
ILL_CONDITIONED = 1e6
#: A log-parameter whose standard error exceeds this is not known within a factor of e^3 either way.
LOOSE = 1.5


@dataclass(frozen=True)
class Diagnostics:
    """Evidence for and against one fit.

    Attributes:
        starts: starting points screened by their objective.
        walked: the best of them, walked to convergence.
        agreeing: how many of those reached the best optimum.
        converged: whether the best one met the convergence test.
        gradient: norm of the objective's gradient at the optimum, in the solver's coordinates.
        condition: condition number of the Jacobian with unit columns.
        unidentified: parameter -> why the data do not determine it.
        warnings: sentences a reader should see before using a number.
    """

    starts: int
    walked: int
    agreeing: int
    converged: bool
    gradient: float
    condition: float
    unidentified: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict:
        """The same as plain JSON types; a condition number that is not finite becomes None."""
        out = asdict(self)
        out["warnings"] = list(self.warnings)
        for key in ("gradient", "condition"):
            out[key] = float(out[key]) if np.isfinite(out[key]) else None
        return out


def diagnose(problem: Problem, solution: Solution, best: int, starts: int) -> Diagnostics:
    """Judge the optimum `best` of `solution`."""
    theta, value = solution.theta[best], solution.value[best]
    # The corner of least absolute deviations is found from the best start alone; the others stop short of it.
    near = 1e-2 if problem.objective.shape == "absolute" else SAME_OPTIMUM
    floor = near * max(abs(value), 1e-300)
    # Objectives at rounding level (noiseless data) are all the same optimum.
    noise_floor = 1e-24 * problem.weights.sum()
    agreeing = int((solution.value <= value + floor + noise_floor).sum())
    converged = bool(solution.converged[best]) or value <= noise_floor
    condition, weak = _condition(problem, theta)
    unidentified = _unidentified(problem, theta, weak)

    warnings = []
    n, free = int((problem.weights > 0).sum()), len(problem.free)
    if not converged:
        warnings.append(
            f"the solver did not converge (gradient {solution.gradient[best]:.1e}); do not use these numbers"
        )
    if agreeing == 1 and solution.value.size > 1:
        warnings.append(
            f"only 1 of {solution.value.size} starts reached the best optimum; try more with starts={4 * starts}"
        )
    if n <= free:
        warnings.append(
            f"{n} runs for {free} free parameters: the curve passes through the points, so no interval exists"
        )
    elif n < 3 * free:
        warnings.append(f"{n} runs for {free} free parameters is thin; intervals are rough")
    warnings += [f"{symbol} is not identified: {reason}" for symbol, reason in unidentified.items()]
    return Diagnostics(
        starts=starts,
        walked=int(solution.value.size),
        agreeing=agreeing,
        converged=converged,
        gradient=float(solution.gradient[best]),
        condition=condition,
        unidentified=unidentified,
        warnings=tuple(warnings),
    )


def _condition(problem: Problem, theta: np.ndarray) -> tuple[float, dict[str, float]]:
    """Condition number of the unit-normed Jacobian, and each parameter's part in its weakest direction."""
    symbols = problem.free_symbols
    if not symbols:
        return 1.0, {}
    _, jac = problem.jacobian(problem.to_z(theta[None]))
    weighted = jac[0] * np.sqrt(problem.weights)
    norms = np.linalg.norm(weighted, axis=1)
    live = norms > 1e-12 * max(norms.max(), 1e-300)
    if not live.any():
        return np.inf, {}
    _, singular, right = np.linalg.svd((weighted[live] / norms[live, None]).T, full_matrices=False)
    if singular.size < live.sum():  # fewer points than parameters
        return np.inf, dict.fromkeys(symbols, 1.0)
    condition = float(singular[0] / max(singular[-1], 1e-300))
    if condition < ILL_CONDITIONED:
        return condition, {}
    part = np.abs(right[-1])
    return condition, {s: float(p) for s, p in zip(np.array(symbols)[live], part, strict=True) if p > 0.1}


def _unidentified(problem: Problem, theta: np.ndarray, weak: dict[str, float]) -> dict[str, str]:
    low, high = problem.bounds()
    z = problem.to_z(theta[None])[0]
    spread = covariance(problem, theta) if len(z) else np.zeros((0, 0))
    here = problem.residuals(theta[None])[0]
    out: dict[str, str] = {}
    for k, j in enumerate(problem.free):
        parameter = problem.law.parameters[j]
        step = theta.copy()
        step[j] = theta[j] * 0.1 if parameter.log else theta[j] - 1.0
        moved = np.abs(problem.residuals(problem.complete(step[None]))[0] - here)
        moves = float(np.where(np.isfinite(moved), moved, 1.0).max())
        error = np.sqrt(spread[k, k]) if spread[k, k] >= 0 else np.inf
        if z[k] <= low[k] + 1e-9 or (parameter.log and moves < 1e-7):
            out[parameter.symbol] = f"driven to {max(parameter.low, 0.0):g}; the data do not ask for it"
        elif z[k] >= high[k] - 1e-9:
            out[parameter.symbol] = f"driven to its upper bound {parameter.high:g}"
        elif parameter.symbol in weak:
            others = [s for s in weak if s != parameter.symbol]
            out[parameter.symbol] = (
                f"the runs cannot tell it from {' and '.join(others)}" if others else "the runs do not determine it"
            )
        elif parameter.log and np.isfinite(error) and error > LOOSE:
            out[parameter.symbol] = f"known only within a factor of {np.exp(min(1.96 * error, 50)):.2g} either way"
    return out
