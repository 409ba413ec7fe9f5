"""Loss in parameters and tokens as two additive power laws above a floor: free, tied and shifted."""

from __future__ import annotations

from workbench.laws.base import Input, Law, Parameter

__all__ = ["Chinchilla", "ChinchillaShifted", "ChinchillaTied"]

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


class ChinchillaShifted(Law):
    """``L(N, D) = E + A (N + N_0)^-alpha + B (D + D_0)^-beta``: flat below the scales N_0 and D_0.

    Chinchilla's law for ladders that reach down to models and data too small to follow it. On runs that
    all lie on the power laws N_0 and D_0 are driven to 0 and reported so. The two-input form of
    `shifted_power_constant`.
    """

    name = "chinchilla_shifted"
    title = "Chinchilla, shifted"
    inputs = _INPUTS
    parameters = (
        _E,
        _A,
        _B,
        Parameter("alpha", "exponent of parameters", high=20.0),
        Parameter("beta", "exponent of tokens", high=20.0),
        Parameter("N_0", "parameters below which fewer cost nothing", "x", start=(0.1, 0.1), of="N"),
        Parameter("D_0", "tokens below which fewer cost nothing", "x", start=(0.1, 0.1), of="D"),
    )
    linear = ("E", "A", "B")
    floor = "E"
    latex = r"E + A\,(N + N_0)^{-\alpha} + B\,(D + D_0)^{-\beta}"
    reference = "Hoffmann et al. 2022, arXiv 2203.15556, eq. 2, with both scales shifted"

    @staticmethod
    def formula(N, D, E, A, B, alpha, beta, N_0, D_0):
        return E + A * (N + N_0) ** -alpha + B * (D + D_0) ** -beta
