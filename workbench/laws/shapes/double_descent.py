"""Risk with a pole where a model just interpolates its data."""

from __future__ import annotations

import numpy as np

from workbench.laws.base import Input, Law, Parameter, positive_least_squares

__all__ = ["DoubleDescentPole", "InterpolationPole"]

_X_P = Parameter("x_p", "scale at which the model just interpolates", "x", start=(1.0, 1.0), of="x")


def _poles(x, y, n, rng):
    """`n` candidate poles ``[n]``, four in five of them next to the largest value.

    The objective is infinite with the pole on a point, so a walk cannot pass from one gap between
    neighbouring points to the next: starts have to lie in the right one.
    """
    log_x = np.unique(np.log(x))
    top = int(np.searchsorted(log_x, np.log(x[int(np.argmax(y))])))
    low, high = log_x[max(top - 1, 0)], log_x[min(top + 1, log_x.size - 1)]
    near = rng.uniform(low, high, n)
    anywhere = rng.uniform(log_x[0] - 0.5, log_x[-1] + 0.5, n)
    return np.exp(np.where(rng.random(n) < 0.8, near, anywhere))


class DoubleDescentPole(Law):
    """Error of least squares without ridge, of least norm beyond the pole, against ``gamma = x / x_p``.

    ``E + sigma^2 gamma / (1 - gamma)`` for gamma < 1, ``E + r^2 (1 - 1/gamma) + sigma^2 / (gamma - 1)``
    for gamma > 1, with x the number of features and x_p that of samples, isotropic features, label
    noise of variance sigma^2 and a signal of squared norm r^2. It is exact as both numbers grow in
    proportion: Hastie et al. 2019 (arXiv 1903.08560, theorem 1) for the excess risk, to which E = 0
    belongs; a test error carries the noise as E = sigma^2. A network's curve is rounder; see
    `interpolation_pole`.
    """

    name = "double_descent_pole"
    title = "Double descent (ridgeless least squares)"
    inputs = (Input("x"),)
    parameters = (
        Parameter("E", "error without any feature: 0 for excess risk, the noise for test error", "loss"),
        Parameter("sigma", "standard deviation of the label noise", "sqrt(loss)"),
        Parameter("r", "norm of the signal", "sqrt(loss)"),
        _X_P,
    )
    trend = ""
    latex = (
        r"E + \begin{cases}\sigma^2\,\frac{\gamma}{1 - \gamma} & \gamma < 1\\"
        r" r^2\left(1 - \frac{1}{\gamma}\right) + \frac{\sigma^2}{\gamma - 1} & \gamma > 1\end{cases}"
        r",\quad \gamma = \frac{x}{x_p}"
    )
    reference = "Hastie et al. 2019, arXiv 1903.08560, theorem 1"

    @staticmethod
    def formula(x, E, sigma, r, x_p):
        gamma = x / x_p
        # The two sides share 1/|gamma - 1|; on the pole itself a huge number stands for infinity.
        gap = np.maximum(np.absolute(gamma - 1.0), 1e-300)
        return E + sigma**2 * np.minimum(gamma, 1.0) / gap + r**2 * np.maximum(1.0 - 1.0 / gamma, 0.0)

    def guess(self, x, y, n, rng):
        """Draw the pole; the error is then linear in E, sigma^2 and r^2."""
        theta = super().guess(x, y, n, rng)
        theta[:, 3] = _poles(x["x"], y, n, rng)
        one, zero = np.ones(n), np.zeros(n)
        with np.errstate(all="ignore"):
            basis = [
                self.predict(np.stack([*unit, theta[:, 3]], axis=1), x) / y
                for unit in ((one, zero, zero), (zero, one, zero), (zero, zero, one))
            ]
            solved = positive_least_squares(np.nan_to_num(np.stack(basis, axis=1)))
        theta[:, 0], theta[:, 1], theta[:, 2] = solved[:, 0], np.sqrt(solved[:, 1]), np.sqrt(solved[:, 2])
        return self.clip(theta)


class InterpolationPole(Law):
    """``y(x) = E + b / |1 - x / x_p|``: a pole at x_p, b far below it, and the level E far beyond.

    The shortest form with a peak where a model just interpolates. b/|1 - gamma| is the variance of
    ridgeless least squares up to bounded factors (compare `double_descent_pole`); as a curve through
    a network's errors it is a rule of thumb, not theory.
    """

    name = "interpolation_pole"
    title = "Interpolation peak"
    inputs = (Input("x"),)
    parameters = (
        Parameter("E", "error of a very large model", "loss"),
        Parameter("b", "further error of a very small model", "loss"),
        _X_P,
    )
    linear = ("E", "b")
    trend = ""
    floor = "E"
    latex = r"E + \frac{b}{\left|1 - x / x_p \right|}"
    reference = "rule of thumb after Hastie et al. 2019, arXiv 1903.08560"

    @staticmethod
    def formula(x, E, b, x_p):
        return E + b / np.maximum(np.absolute(x / x_p - 1.0), 1e-300)

    def guess(self, x, y, n, rng):
        """Draw the pole, most often next to the largest value, and solve for E and b."""
        theta = super().guess(x, y, n, rng)
        theta[:, 2] = _poles(x["x"], y, n, rng)
        one, zero = np.ones(n), np.zeros(n)
        basis = [self.predict(np.stack([*unit, theta[:, 2]], axis=1), x) / y for unit in ((one, zero), (zero, one))]
        theta[:, :2] = positive_least_squares(np.stack(basis, axis=1))
        return self.clip(theta)
