"""Loss in parameters and tokens as two additive power laws above a floor, with free and with tied exponents."""

from __future__ import annotations

from workbench.laws.base import Input, Law, Parameter

__all__ = ["Chinchilla", "ChinchillaTied"]

_INPUTS = (Input("N", "params"), Input("D", "tokens"))
_E = Parameter("E", "irreducible loss", "loss")
_A = Parameter("A", "size of the loss from finite parameters", "loss")
_B = Parameter("B", "size of the loss from finite data", "loss")


class Chinchilla(Law):
    """``L(N, D) = E + A N^-alpha + B D^-beta``.

    Hoffmann et al. 2022 (arXiv 2203.15556, eq. 2). Their published constants do not follow from
    their points; Besiroglu et al. 2024 (arXiv 2404.10102) give the replication this project checks
    itself against.
    """

    name = "chinchilla"
    title = "Chinchilla"
    inputs = _INPUTS
    parameters = (
        _E,
        _A,
        _B,
        Parameter("alpha", "exponent of parameters", high=20.0),
        Parameter("beta", "exponent of tokens", high=20.0),
    )
    linear = ("E", "A", "B")
    floor = "E"
    latex = r"E + A\,N^{-\alpha} + B\,D^{-\beta}"
    reference = "Hoffmann et al. 2022, arXiv 2203.15556, eq. 2"

    @staticmethod
    def formula(N, D, E, A, B, alpha, beta):
        return E + A * N**-alpha + B * D**-beta


class ChinchillaTied(Law):
    """``L(N, D) = E + A N^-alpha + B D^-alpha``: one exponent, so optimal N and D grow in proportion.

    The tied form is the special case alpha = beta of Hoffmann et al. 2022 (arXiv 2203.15556, eq. 2),
    under which their approach 3 gives N_opt ~ C^(1/2).
    """

    name = "chinchilla_tied"
    title = "Chinchilla, one exponent"
    inputs = _INPUTS
    parameters = (_E, _A, _B, Parameter("alpha", "exponent of parameters and tokens", high=20.0))
    linear = ("E", "A", "B")
    floor = "E"
    latex = r"E + A\,N^{-\alpha} + B\,D^{-\alpha}"
    reference = "Hoffmann et al. 2022, arXiv 2203.15556, eq. 2 with alpha = beta"

    @staticmethod
    def formula(N, D, E, A, B, alpha):
        return E + A * N**-alpha + B * D**-alpha
