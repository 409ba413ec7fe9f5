"""A straight line against log x, the simplest thing to draw and a rival of every bounded law."""

from __future__ import annotations

import numpy as np

from workbench.laws.base import Input, Law, Parameter

__all__ = ["Logarithmic"]


class Logarithmic(Law):
    """``y(x) = a - b log x``: every doubling of x brings the same; b < 0 for a quantity that rises.

    A null model for a short range: it has no limit and crosses zero in the end, so it must not be
    carried far beyond its data. A power law of small exponent looks like it.
    """

    name = "logarithmic"
    title = "Straight line in log x"
    inputs = (Input("x"),)
    parameters = (
        Parameter("a", "value at x = 1", "loss", low=-np.inf),
        Parameter("b", "gain for each factor e in x", "loss", low=-np.inf),
    )
    linear = ("a", "b")
    trend = ""
    latex = r"a - b\,\log x"
    reference = "null model"

    @staticmethod
    def formula(x, a, b):
        return a - b * np.log(x)

    def guess(self, x, y, n, rng):
        """The least-squares line for relative errors, and lines near it."""
        log_x = np.log(x["x"])
        centre = log_x.mean()
        basis = np.stack([1 / y, -(log_x - centre) / y], axis=1)
        (level, slope), *_ = np.linalg.lstsq(basis, np.ones_like(y), rcond=None)
        factor = rng.uniform(0.9, 1.1, (n, 2))
        factor[0] = 1.0
        b = slope * factor[:, 1]
        return self.clip(np.stack([level * factor[:, 0] + b * centre, b], axis=1))
