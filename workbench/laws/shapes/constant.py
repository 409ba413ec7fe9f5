"""The null model: scale changes nothing."""

from __future__ import annotations

from workbench.laws.base import Input, Law, Parameter

__all__ = ["Constant"]


class Constant(Law):
    """``L(x) = E``. A law that does not beat this one by a wide margin has not been shown to hold."""

    name = "constant"
    title = "Constant (null model)"
    inputs = (Input("x"),)
    parameters = (Parameter("E", "the one value", "loss"),)
    linear = ("E",)
    floor = "E"
    latex = r"E"
    reference = "null model"

    @staticmethod
    def formula(x, E):
        # 0 * x keeps the shape of the input
        return E + 0.0 * x
