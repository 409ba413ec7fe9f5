"""Exponential decay to a floor: the rival every power law should beat."""

from __future__ import annotations

import numpy as np

from workbench.laws.base import Input, Law, Parameter

__all__ = ["Exponential"]


class Exponential(Law):
    """``L(x) = E + A exp(-x / x_0)``: improvement stops after a few x_0.

    The approach to a floor under ideal data pruning in Sorscher et al. 2022 (arXiv 2206.14486), and the
    usual alternative in a test of power-law behaviour (Clauset et al. 2009, arXiv 0706.1062).
    """

    name = "exponential"
    title = "Exponential"
    inputs = (Input("x"),)
    parameters = (
        Parameter("E", "irreducible loss", "loss"),
        Parameter("A", "size of the reducible loss at x = 0", "loss"),
        Parameter("x_0", "scale of the decay", "x", start=(0.3, 3.0), of="x"),
    )
    linear = ("E", "A")
    floor = "E"
    latex = r"E + A\,e^{-x/x_0}"
    reference = "Sorscher et al. 2022, arXiv 2206.14486 (exponential scaling under pruning)"

    @staticmethod
    def formula(x, E, A, x_0):
        return E + A * np.exp(-x / x_0)
