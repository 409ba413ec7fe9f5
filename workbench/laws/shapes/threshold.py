"""Sudden change at a scale: a step between two levels, and a waiting time that diverges."""

from __future__ import annotations

import numpy as np

from workbench.laws.base import Input, Law, Parameter, positive_least_squares

__all__ = ["GrokTime", "Threshold"]


class Threshold(Law):
    """``y(x) = b + (a - b) / (1 + (x / x_0)^(1/w))``: from level a to level b, half way at x_0.

    A logistic step in log x, down or up: w is its width in units of log x, so that the middle half of the
    change takes a factor of ``9^w`` in x (from a quarter below to a quarter above the middle). Test
    accuracy against steps in grokking, or a quantity that jumps at a critical scale. For a > b it is
    also the power law of exponent 1/w between a ceiling a and a floor b.
    """

    name = "threshold"
    title = "Threshold (step in log x)"
    inputs = (Input("x"),)
    parameters = (
        Parameter("a", "level far below x_0", "loss"),
        Parameter("b", "level far above x_0", "loss"),
        Parameter("x_0", "scale half way", "x", start=(1.0, 1.0), of="x"),
        Parameter("w", "width of the step in log x", low=1e-3, high=50.0, start=(0.03, 3.0)),
    )
    linear = ("a", "b")
    trend = ""
    floor = "b"
    latex = r"b + \frac{a - b}{1 + (x/x_0)^{1/w}}"
    reference = "logistic function of log x"

    @staticmethod
    def formula(x, a, b, x_0, w):
        return b + (a - b) * (0.5 - 0.5 * np.tanh(0.5 * np.log(x / x_0) / w))


class GrokTime(Law):
    """``t(x) = t_0 + A / (x - x_c)^nu`` for x > x_c, never (infinite) for x <= x_c.

    Steps until a model generalises against the fraction of data it sees, which grow without limit at a
    critical fraction x_c. That such a fraction exists is reported by Power et al. 2022 (arXiv
    2201.02177, a steep rise) and by Liu et al. 2022 (arXiv 2205.10343, a critical size); the power of the
    distance is the usual form for a time near a critical point and is not taken from either.
    """

    name = "grok_time"
    title = "Time to grok near a critical fraction"
    inputs = (Input("x"),)
    parameters = (
        Parameter("t_0", "time with unlimited data", "loss"),
        Parameter("A", "further time at a distance of 1 from x_c", "loss"),
        Parameter("x_c", "critical x, below which it never happens", "x", start=(0.05, 0.99), of="x"),
        Parameter("nu", "exponent of the divergence", high=20.0, start=(0.3, 3.0)),
    )
    linear = ("t_0", "A")
    floor = "t_0"
    latex = r"t_0 + \frac{A}{(x - x_c)^{\nu}}"
    reference = "critical slowing down; critical data in grokking: Power et al. 2022, arXiv 2201.02177"

    @staticmethod
    def formula(x, t_0, A, x_c, nu):
        beyond = x > x_c
        gap = np.where(beyond, x - x_c, 1.0)
        return np.where(beyond, t_0 + A * gap**-nu, np.inf)

    def guess(self, x, y, n, rng):
        """Draw x_c between nothing and the smallest x, where every run that has finished lies beyond it."""
        smallest = x["x"].min()
        theta = np.empty((n, 4))
        theta[:, 2] = smallest * (1 - 10 ** rng.uniform(-3, 0, n))
        theta[:, 3] = 10 ** rng.uniform(-0.5, 0.5, n)
        # The gap's own size first, so that the least squares below see numbers near 1.
        power = (x["x"] - theta[:, 2, None]) ** -theta[:, 3, None]
        basis = np.stack([np.broadcast_to(1 / y, power.shape), power / y], axis=1)
        theta[:, :2] = positive_least_squares(basis)
        return self.clip(theta)
