"""Exponential decay to a floor, plain and stretched: the rivals every power law should beat."""

from __future__ import annotations

import numpy as np

from workbench.laws.base import Input, Law, Parameter

__all__ = ["Exponential", "StretchedExponential"]

_E = Parameter("E", "irreducible loss", "loss")
_A = Parameter("A", "size of the reducible loss at x = 0", "loss")


class Exponential(Law):
    """``L(x) = E + A exp(-x / x_0)``: improvement stops after a few x_0.

    The approach to a floor under ideal data pruning in Sorscher et al. 2022 (arXiv 2206.14486), and the
    usual alternative in a test of power-law behaviour (Clauset et al. 2009, arXiv 0706.1062).
    """

    name = "exponential"
    title = "Exponential"
    inputs = (Input("x"),)
    parameters = (_E, _A, Parameter("x_0", "scale of the decay", "x", start=(0.3, 3.0), of="x"))
    linear = ("E", "A")
    floor = "E"
    latex = r"E + A\,e^{-x/x_0}"
    reference = "Sorscher et al. 2022, arXiv 2206.14486 (exponential scaling under pruning)"

    @staticmethod
    def formula(x, E, A, x_0):
        return E + A * np.exp(-x / x_0)


class StretchedExponential(Law):
    """``L(x) = E + A exp(-(x / x_0)^beta)``: exponential for beta = 1, over many decades for small beta.

    For beta near 0 it looks like a power law over any range one can afford, which makes it a hard rival
    (Clauset et al. 2009, arXiv 0706.1062, compare the two as distributions). Named after Kohlrausch.
    """

    name = "stretched_exponential"
    title = "Stretched exponential"
    inputs = (Input("x"),)
    parameters = (
        _E,
        _A,
        Parameter("x_0", "scale of the decay", "x", start=(0.01, 3.0), of="x"),
        Parameter("beta", "stretching exponent", high=20.0, start=(0.1, 1.5)),
    )
    linear = ("E", "A")
    floor = "E"
    latex = r"E + A\,e^{-(x/x_0)^{\beta}}"
    reference = "Clauset et al. 2009, arXiv 0706.1062 (as a rival of the power law)"

    @staticmethod
    def formula(x, E, A, x_0, beta):
        return E + A * np.exp(-((x / x_0) ** beta))
