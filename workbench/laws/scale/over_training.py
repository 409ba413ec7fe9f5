"""Loss in compute and tokens per parameter, for models trained past the compute optimum."""

from __future__ import annotations

from workbench.laws.base import Input, Law, Parameter

__all__ = ["OverTraining"]


class OverTraining(Law):
    """``L(C, M) = E + (a M^eta + b M^-eta) C^-eta`` with C = 6ND FLOP and M = D/N tokens per parameter.

    Gadre et al. 2024 (arXiv 2403.08540, eq. 4). It is Chinchilla's law with one exponent 2 eta, written
    so that over-training shifts the curve in C without changing its slope: A = a 6^-eta, B = b 6^-eta.
    """

    name = "over_training"
    title = "Over-training"
    inputs = (Input("C", "flops"), Input("M", "tokens_per_param"))
    parameters = (
        Parameter("E", "irreducible loss", "loss"),
        Parameter("a", "size of the loss from finite parameters", "loss"),
        Parameter("b", "size of the loss from finite data", "loss"),
        Parameter("eta", "exponent of compute", high=10.0, start=(0.02, 1.2)),
    )
    linear = ("E", "a", "b")
    floor = "E"
    latex = r"E + \left(a\,M^{\eta} + b\,M^{-\eta}\right) C^{-\eta}"
    reference = "Gadre et al. 2024, arXiv 2403.08540, eq. 4"

    @staticmethod
    def formula(C, M, E, a, b, eta):
        return E + (a * M**eta + b * M**-eta) * C**-eta
