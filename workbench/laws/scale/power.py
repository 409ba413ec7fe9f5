"""Power laws of one scale: bare, with an irreducible loss, and shifted."""

from __future__ import annotations

from workbench.laws.base import Input, Law, Parameter

__all__ = ["Power", "PowerConstant", "ShiftedPowerConstant"]

_E = Parameter("E", "irreducible loss", "loss")
_A = Parameter("A", "size of the reducible loss at x = 1", "loss")
_ALPHA = Parameter("alpha", "exponent", "", high=20.0)


class Power(Law):
    """``L(x) = A x^-alpha``: a straight line on log-log axes, falling to zero.

    The form of Kaplan et al. 2020 for one scale at a time (arXiv 2001.08361, eq. 1.1 to 1.3, where
    ``A = x_c^alpha``).
    """

    name = "power"
    title = "Power law"
    inputs = (Input("x"),)
    parameters = (_A, _ALPHA)
    linear = ("A",)
    latex = r"A\,x^{-\alpha}"
    reference = "Kaplan et al. 2020, arXiv 2001.08361, eq. 1.1-1.3"

    @staticmethod
    def formula(x, A, alpha):
        return A * x**-alpha


class PowerConstant(Law):
    """``L(x) = E + A x^-alpha``: a power law above an irreducible loss.

    Henighan et al. 2020 (arXiv 2010.14701, eq. 1.1, where ``A = x_0^alpha``) read E as the entropy of
    the data and the rest as the model's divergence from it.
    """

    name = "power_constant"
    title = "Power law + constant"
    inputs = (Input("x"),)
    parameters = (_E, _A, _ALPHA)
    linear = ("E", "A")
    floor = "E"
    latex = r"E + A\,x^{-\alpha}"
    reference = "Henighan et al. 2020, arXiv 2010.14701, eq. 1.1"

    @staticmethod
    def formula(x, E, A, alpha):
        return E + A * x**-alpha


class ShiftedPowerConstant(Law):
    """``L(x) = E + A (x + s)^-alpha``: flat below the scale s, a power law above it.

    Saturates at both ends. Nezhurina et al. 2025 fit it to zero-shot error against compute ("Scaling Laws
    for Robust Comparison of Open Foundation Language-Vision Models and Datasets").
    """

    name = "shifted_power_constant"
    title = "Shifted power law + constant"
    inputs = (Input("x"),)
    parameters = (_E, _A, Parameter("s", "scale below which nothing improves", "x", start=(0.03, 0.3), of="x"), _ALPHA)
    linear = ("E", "A")
    floor = "E"
    latex = r"E + A\,(x + s)^{-\alpha}"
    reference = "Nezhurina et al. 2025, Scaling Laws for Robust Comparison of Open Foundation Language-Vision Models"

    @staticmethod
    def formula(x, E, A, s, alpha):
        return E + A * (x + s) ** -alpha
