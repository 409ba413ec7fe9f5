"""Curves with one turning point: U-shapes and rise-and-fall."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from workbench.laws.base import Input, Law, Parameter

__all__ = ["LogParabola", "RiseAndFall", "UShape"]


class UShape(Law):
    """``y(x) = E + A x^-alpha + B x^beta``: one power law falls, another rises; `minimum` is where they balance.

    The shape of a loss against a quantity of which there can be too much: regularisation, a learning
    rate, model size under inverse scaling and back. Plain sum of two powers; not of one paper.
    """

    name = "u_shape"
    title = "U-shape of two powers"
    inputs = (Input("x"),)
    parameters = (
        Parameter("E", "part that x does not change", "loss"),
        Parameter("A", "size of the falling part at x = 1", "loss"),
        Parameter("B", "size of the rising part at x = 1", "loss"),
        Parameter("alpha", "exponent of the fall", high=20.0, start=(0.1, 3.0)),
        Parameter("beta", "exponent of the rise", high=20.0, start=(0.1, 3.0)),
    )
    linear = ("E", "A", "B")
    trend = ""
    latex = r"E + A\,x^{-\alpha} + B\,x^{\beta}"
    reference = "sum of a falling and a rising power law"

    @staticmethod
    def formula(x, E, A, B, alpha, beta):
        return E + A * x**-alpha + B * x**beta

    def minimum(self, params: Mapping[str, float]) -> tuple[float, float]:
        """Where the curve is lowest and how low: ``x = (alpha A / (beta B))^(1/(alpha + beta))``.

        Args:
            params: parameter symbol -> value, such as ``fit.params``.

        Returns:
            x and y of the minimum.
        """
        p = params
        x = (p["alpha"] * p["A"] / (p["beta"] * p["B"])) ** (1 / (p["alpha"] + p["beta"]))
        return float(x), float(self.predict(params, {"x": np.array([x])})[0])


class LogParabola(Law):
    """``y(x) = m + q log(x / x_0)^2``: a parabola in log x with its lowest value m at x_0.

    The curve drawn through the losses at one compute budget (Hoffmann et al. 2022, arXiv 2203.15556,
    section 3.2, approach 2) and through a sweep of learning rates. True curves with unequal sides pull x_0
    to one side; `u_shape` allows for them.
    """

    name = "log_parabola"
    title = "Parabola in log x"
    inputs = (Input("x"),)
    parameters = (
        Parameter("m", "lowest value", "loss"),
        Parameter("q", "curvature: rise at a factor e from the best x", "loss"),
        Parameter("x_0", "best x", "x", start=(0.3, 3.0), of="x"),
    )
    linear = ("m", "q")
    trend = ""
    latex = r"m + q\,\log^2(x/x_0)"
    reference = "Hoffmann et al. 2022, arXiv 2203.15556, approach 2"

    @staticmethod
    def formula(x, m, q, x_0):
        return m + q * np.log(x / x_0) ** 2


class RiseAndFall(Law):
    """``y(x) = A (x / x_0)^p / (1 + (x / x_0)^q)``: grows as x^p, falls as x^-(q - p); `peak` is between.

    For q > p the peak is at ``x_0 (p / (q - p))^(1/q)``; for q = p the curve only levels off at A. With
    p = 1/2 and q = 1 it is the best learning rate of Adam against batch size (Li et al. 2024, arXiv
    2405.14578), whose peak is at x_0 and half as high as A.
    """

    name = "rise_and_fall"
    title = "Rise and fall"
    inputs = (Input("x"),)
    parameters = (
        Parameter("A", "twice the value at x_0", "loss"),
        Parameter("x_0", "scale of the turn", "x", start=(0.3, 3.0), of="x"),
        Parameter("p", "exponent of the rise", high=20.0, start=(0.1, 3.0)),
        Parameter("q", "exponents of rise and fall together", high=40.0, start=(0.2, 6.0)),
    )
    linear = ("A",)
    trend = ""
    latex = r"\frac{A\,(x/x_0)^{p}}{1 + (x/x_0)^{q}}"
    reference = "ratio of powers; with p = 1/2, q = 1 the form of Li et al. 2024, arXiv 2405.14578"

    @staticmethod
    def formula(x, A, x_0, p, q):
        log_x = np.log(x / x_0)
        return A * np.exp(p * log_x - np.logaddexp(0.0, q * log_x))

    def peak(self, params: Mapping[str, float]) -> tuple[float, float]:
        """Where the curve is highest and how high.

        Args:
            params: parameter symbol -> value, such as ``fit.params``.

        Returns:
            x and y of the peak.

        Raises:
            ValueError: q is not above p, so that the curve never falls.
        """
        p, q = params["p"], params["q"]
        if not q > p:
            raise ValueError(f"the curve has no peak: q = {q:g} must be larger than p = {p:g}")
        x = params["x_0"] * (p / (q - p)) ** (1 / q)
        return float(x), float(self.predict(params, {"x": np.array([x])})[0])
