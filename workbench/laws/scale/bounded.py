"""Laws that stay between a floor and a ceiling: the level of guessing at small scale, a limit at large scale."""

from __future__ import annotations

import numpy as np

from workbench.laws.base import Input, Law, Parameter
from workbench.laws.scale._starts import floors, log_uniform, weights_of_powers

__all__ = ["M4", "Bounded", "LogitAccuracy", "LogitError"]

_E = Parameter("E", "irreducible loss", "loss")
_I = Parameter("I", "loss of a guess, before anything is learnt", "loss")


def _ceilings(y, n, rng):
    """`n` candidate ceilings ``[n]`` above every value `y`, between 0.3 % and three times it away."""
    return y.max() * (1 + log_uniform(3e-3, 3.0, n, rng))


class Bounded(Law):
    """``L(N, D) = (E + I g) / (1 + g)`` with ``g = A N^-alpha + B D^-beta``: between a ceiling I and a floor E.

    Far from both ends ``L - E`` falls as Chinchilla's two power laws; at small N or D it stays at I. In
    one input the same curve is the law `threshold`. It is the case of shape exponent 1, and two inputs,
    of the law `m4` of Alabdulmohsin et al. 2022 (arXiv 2209.06640); the sum over two inputs is
    the package simple-scaling-laws', not theirs. On data that show no plateau I is not identified.
    """

    name = "bounded"
    title = "Bounded"
    inputs = (Input("N", "params"), Input("D", "tokens"))
    parameters = (
        _E,
        _I,
        Parameter("A", "weight of the shortage of parameters"),
        Parameter("B", "weight of the shortage of data"),
        Parameter("alpha", "exponent of parameters", high=20.0),
        Parameter("beta", "exponent of tokens", high=20.0),
    )
    floor = "E"
    latex = r"\frac{E + I\,g}{1 + g},\quad g = A\,N^{-\alpha} + B\,D^{-\beta}"
    reference = "Alabdulmohsin et al. 2022, arXiv 2209.06640, M4 with shape exponent 1 and two inputs"

    @staticmethod
    def formula(N, D, E, I, A, B, alpha, beta):  # noqa: E741
        g = A * N**-alpha + B * D**-beta
        return E + (I - E) * (g / (1.0 + g))

    def guess(self, x, y, n, rng):
        """Draw the ends and the exponents; ``(L - E) / (I - L)`` is then linear in A and B."""
        theta = super().guess(x, y, n, rng)
        theta[:, 0], theta[:, 1] = floors(y, n, rng), _ceilings(y, n, rng)
        with np.errstate(all="ignore"):
            target = np.log((y - theta[:, 0, None]) / (theta[:, 1, None] - y))
        logs = [np.log(x["N"]), np.log(x["D"])]
        theta[:, 2], theta[:, 3] = weights_of_powers(logs, [theta[:, 4], theta[:, 5]], target)
        return self.clip(theta)


class M4(Law):
    """``(L - E) / (I - L)^a ~ x^-alpha``: between a ceiling I and a floor E, with a free shape between them.

    L stands on both sides and `formula` solves for it. The exponent of the fall towards E is alpha, that
    of leaving I is ``alpha / a``; a = 0 is the power law with a constant, a = 1 the law `threshold`.
    Alabdulmohsin et al. 2022, "Revisiting Neural Scaling Laws in Language and Vision" (arXiv
    2209.06640), estimator M4; form as commonly quoted, equation number not checked against the paper.
    """

    name = "m4"
    title = "Bounded, free shape (M4)"
    inputs = (Input("x"),)
    parameters = (
        _E,
        _I,
        Parameter("x_0", "scale where the two sides are equal at half height", "x", start=(0.1, 10.0), of="x"),
        Parameter("alpha", "exponent of the approach to E", high=20.0),
        Parameter("a", "shape: alpha / a is the exponent of leaving I", low=0.05, high=20.0, start=(0.3, 3.0)),
    )
    floor = "E"
    latex = r"E + (I - E)\,u,\quad \frac{u}{(1 - u)^{a}} = 2^{a - 1} \left(\frac{x}{x_0}\right)^{-\alpha}"
    reference = "Alabdulmohsin et al. 2022, arXiv 2209.06640, estimator M4 (as quoted; equation not checked)"

    @staticmethod
    def formula(x, E, I, x_0, alpha, a):  # noqa: E741
        # With u = (L - E) / (I - E) and v = log(u / (1 - u)) the equation is
        # f(v) = a log(1 + e^v) - log(1 + e^-v) = q, and f grows with a slope between 1 and a.
        q = -alpha * np.log(x / x_0) + (a - 1.0) * np.log(2.0)
        v = np.minimum(q, 0.0) + np.maximum(q, 0.0) / a
        for _ in range(_ITERATIONS):
            f = a * np.logaddexp(0.0, v) - np.logaddexp(0.0, -v)
            u = 0.5 + 0.5 * np.tanh(0.5 * v)
            v = v - (f - q) / ((1.0 - u) + a * u)
        return E + (I - E) * np.exp(-np.logaddexp(0.0, -v))

    def guess(self, x, y, n, rng):
        """Draw the ends and the shape; the logarithm of the equation is then linear in log x."""
        theta = super().guess(x, y, n, rng)
        theta[:, 0], theta[:, 1] = floors(y, n, rng), _ceilings(y, n, rng)
        e, i, a = theta[:, 0, None], theta[:, 1, None], theta[:, 4, None]
        with np.errstate(all="ignore"):
            left = np.log((y - e) / (i - e)) - a * np.log((i - y) / (i - e)) - (a - 1) * np.log(2)
        log_x = np.log(x["x"])
        centred = log_x - log_x.mean()
        slope = (left @ centred) / max(float(centred @ centred), 1e-300)
        alpha = np.maximum(-slope, 0.01)
        theta[:, 3] = alpha
        theta[:, 2] = np.exp(np.clip(log_x.mean() + left.mean(axis=1) / alpha, -50, 130))
        return self.clip(theta)


#: Newton steps of the implicit law.
_ITERATIONS = 8


class LogitError(Law):
    """``y(x) = c / (1 + (x / x_0)^k)``: the logit of error over chance error is a straight line in log x.

    ``log(y / (c - y)) = -k log(x / x_0)``. c is the error of guessing: 1 for exact match, ``1 - 1/m`` for
    m equally likely answers; hold it with ``fixed={"c": 0.75}`` where it is known. A logistic
    regression on log scale, written as a law.
    """

    name = "logit_error"
    title = "Logit-linear error"
    inputs = (Input("x"),)
    parameters = (
        Parameter("c", "error of guessing", high=1.0, start=(0.3, 1.0)),
        Parameter("x_0", "scale where half of it is left", "x", start=(0.1, 10.0), of="x"),
        Parameter("k", "slope of the logit in log x", high=20.0, start=(0.1, 3.0)),
    )
    latex = r"\frac{c}{1 + (x/x_0)^{k}}"
    reference = "logistic regression on log scale"

    @staticmethod
    def formula(x, c, x_0, k):
        return c * (0.5 - 0.5 * np.tanh(0.5 * k * np.log(x / x_0)))


class LogitAccuracy(Law):
    """``y(x) = c + (1 - c) / (1 + (x / x_0)^-k)``: accuracy from chance c to 1, its logit a line in log x.

    ``log((y - c) / (1 - y)) = k log(x / x_0)``. Hold c with ``fixed={"c": 0.25}`` where the level of
    guessing is known, and at 0 for exact match. A logistic regression on log scale, written as a law.
    """

    name = "logit_accuracy"
    title = "Logit-linear accuracy"
    inputs = (Input("x"),)
    parameters = (
        Parameter("c", "accuracy of guessing", high=1.0, start=(0.003, 0.6)),
        Parameter("x_0", "scale half way from guessing to 1", "x", start=(0.1, 10.0), of="x"),
        Parameter("k", "slope of the logit in log x", high=20.0, start=(0.1, 3.0)),
    )
    trend = "rises"
    latex = r"c + \frac{1 - c}{1 + (x/x_0)^{-k}}"
    reference = "logistic regression on log scale"

    @staticmethod
    def formula(x, c, x_0, k):
        return c + (1.0 - c) * (0.5 + 0.5 * np.tanh(0.5 * k * np.log(x / x_0)))
