"""Data and compute that value-based reinforcement learning needs, against the updates per environment step."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from workbench.laws.base import Input, Law, Parameter, positive_least_squares

__all__ = ["ValueRL", "best_ratio", "compute_needed"]


class ValueRL(Law):
    """``D_J(sigma) = D_min + (beta/sigma)^alpha``: environment steps needed to reach performance J.

    sigma is the number of gradient updates per environment step (UTD). More updates save data, down to D_min; they
    cost compute (`compute_needed`), and the best sigma trades the two (`best_ratio`). Rybkin et al. 2025,
    "Value-Based Deep RL Scales Predictably" (arXiv 2502.04327); form as commonly quoted, equation number not
    checked. The fitted column is a number of environment steps, not a loss. Their hyperparameter rules, batch
    size and learning rate as powers of sigma, are the plain `power` law with ``x="updates_per_data"``.
    """

    name = "value_rl"
    title = "Data to reach a performance"
    inputs = (Input("sigma", "updates_per_data"),)
    parameters = (
        Parameter("D_min", "environment steps needed however many updates are made", "loss"),
        Parameter("beta", "updates per step at which one more step is needed"),
        Parameter("alpha", "exponent of updates per step", high=20.0),
    )
    floor = "D_min"
    latex = r"D_\min + \left(\frac{\beta}{\sigma}\right)^{\alpha}"
    reference = "Rybkin et al. 2025, arXiv 2502.04327"

    @staticmethod
    def formula(sigma, D_min, beta, alpha):
        return D_min + (beta / sigma) ** alpha

    def guess(self, x, y, n, rng):
        """Draw alpha; D_min and beta^alpha are then linear."""
        theta = super().guess(x, y, n, rng)
        alpha = theta[:, 2, None]
        power = x["sigma"] ** -alpha
        theta[:, 0], size = positive_least_squares(np.stack([np.broadcast_to(1 / y, power.shape), power / y], axis=1)).T
        with np.errstate(all="ignore"):
            theta[:, 1] = size ** (1 / alpha[:, 0])
        return self.clip(theta)


def compute_needed(sigma: Any, data: Any, batch: float, batch_exponent: float, per_example: float = 1.0) -> Any:
    """Compute ``per_example sigma B D`` of training on D environment steps, with ``B = batch sigma^-batch_exponent``.

    Args:
        sigma: updates per environment step.
        data: environment steps D, e.g. from a fitted `ValueRL`.
        batch: batch size at sigma = 1, in examples.
        batch_exponent: how fast the best batch size falls with sigma (Rybkin et al. 2025 find about 0.3).
        per_example: compute of one example in one update, e.g. 6 N FLOP; any unit.

    Returns:
        Compute, in the unit of `per_example`.
    """
    return per_example * np.asarray(sigma) ** (1 - batch_exponent) * batch * np.asarray(data)


def best_ratio(
    D_min: float,
    beta: float,
    alpha: float,
    *,
    price: float,
    batch: float = 1.0,
    batch_exponent: float = 0.0,
    per_example: float = 1.0,
    between: tuple[float, float] = (1e-3, 1e3),
) -> dict[str, float]:
    """Updates per environment step at which reaching the performance costs least, ``compute + price * data``.

    Rybkin et al. 2025 (arXiv 2502.04327) write the budget as ``F = C + delta D``; the minimum is found numerically,
    on a grid of log sigma first, since the cost may have flat ends.

    Args:
        D_min, beta, alpha: a fitted `ValueRL`.
        price: what one environment step costs, in units of compute (delta).
        batch, batch_exponent, per_example: see `compute_needed`.
        between: range of sigma to look in.

    Returns:
        ``sigma``, ``data``, ``compute``, ``cost`` and ``at_bound`` (1.0 where the range ends the search).

    Raises:
        ValueError: a number that is not positive, or an empty range.
    """
    numbers = {"beta": beta, "alpha": alpha, "price": price, "batch": batch, "per_example": per_example}
    for name, value in numbers.items():
        if not value > 0:
            raise ValueError(f"{name} is {value!r}; it must be positive")
    if not 0 < between[0] < between[1]:
        raise ValueError(f"between is {between!r}; give two positive numbers, the smaller first")

    def cost(log_sigma):
        sigma = np.exp(log_sigma)
        data = D_min + (beta / sigma) ** alpha
        return compute_needed(sigma, data, batch, batch_exponent, per_example) + price * data

    grid = np.linspace(*np.log(between), 401)
    at = int(np.argmin(cost(grid)))
    ends = grid[max(at - 1, 0)], grid[min(at + 1, grid.size - 1)]
    found = minimize_scalar(cost, bounds=ends, method="bounded", options={"xatol": 1e-10})
    log_sigma = found.x if found.fun < cost(grid[at]) else grid[at]
    sigma = float(np.exp(log_sigma))
    data = float(D_min + (beta / sigma) ** alpha)
    return {
        "sigma": sigma,
        "data": data,
        "compute": float(compute_needed(sigma, data, batch, batch_exponent, per_example)),
        "cost": float(cost(log_sigma)),
        "at_bound": float(at in (0, grid.size - 1)),
    }
