"""The three regions of a learning curve: guessing, power law, irreducible."""

from __future__ import annotations

import numpy as np

from workbench.laws.base import Input, Law, Parameter

__all__ = ["ThreeRegions"]


class ThreeRegions(Law):
    """``L(x) = E + (G - E) [1 + (x / x_0)^(1/f)]^(-alpha f)``: G, then a power law of exponent alpha, then E.

    Hestness et al. 2017 (arXiv 1712.00409) sketch these regions and write no formula for all three; this
    smooth rendering is ours. f says how gently the first region bends into the second: f = 1 is the law
    `shifted_power_constant`, f = 1/alpha the law `threshold`, f near 0 a corner at x_0. Where guessing
    is known it can be held: ``fixed={"G": log(50257)}`` for a vocabulary of 50257.
    """

    name = "three_regions"
    title = "Three regions"
    inputs = (Input("x"),)
    parameters = (
        Parameter("E", "irreducible loss", "loss"),
        Parameter("G", "loss of the best guess without data", "loss"),
        Parameter("x_0", "scale at which learning begins", "x", start=(1.0, 0.1), of="x"),
        Parameter("alpha", "exponent of the power law", high=20.0),
        Parameter("f", "width of the bend at x_0; small is sharp", low=1e-3, high=20.0, start=(0.1, 3.0)),
    )
    linear = ("E", "G")
    floor = "E"
    latex = r"E + (G - E)\left[1 + (x/x_0)^{1/f}\right]^{-\alpha f}"
    reference = "regions: Hestness et al. 2017, arXiv 1712.00409; smooth form of this package"

    @staticmethod
    def formula(x, E, G, x_0, alpha, f):
        falling = np.exp(-alpha * f * np.logaddexp(0.0, np.log(x / x_0) / f))
        return E + (G - E) * falling
