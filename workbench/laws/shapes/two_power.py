"""Two power laws, one after the other, above a constant."""

from __future__ import annotations

from workbench.laws.base import Input, Law, Parameter

__all__ = ["TwoPower"]


class TwoPower(Law):
    """``L(x) = E + A x^-(beta + delta) + B x^-beta``: a fast power law gives way to a slow one.

    The sum of two sources of error, of which the one that falls faster is seen at small scale only. The
    faster exponent is written ``beta + delta``, so that the two terms cannot change places. With E free
    it asks for several decades; hold E at 0 on fewer.
    """

    name = "two_power"
    title = "Two power laws + constant"
    inputs = (Input("x"),)
    parameters = (
        Parameter("E", "irreducible loss", "loss"),
        Parameter("A", "size at x = 1 of the part that falls faster", "loss"),
        Parameter("B", "size at x = 1 of the part that falls more slowly", "loss"),
        Parameter("beta", "exponent of the slow part", high=20.0, start=(0.03, 1.0)),
        Parameter("delta", "how much larger the exponent of the fast part is", high=20.0, start=(0.1, 2.0)),
    )
    linear = ("E", "A", "B")
    floor = "E"
    latex = r"E + A\,x^{-(\beta + \delta)} + B\,x^{-\beta}"
    reference = "sum of two power laws"

    @staticmethod
    def formula(x, E, A, B, beta, delta):
        return E + A * x ** -(beta + delta) + B * x**-beta
