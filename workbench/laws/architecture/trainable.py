"""Which parameters count, those that are trained or all of them: two laws and the one that holds both."""

from __future__ import annotations

from workbench.laws.base import Input, Law, Parameter

__all__ = ["TotalParams", "TrainableOrTotal", "TrainableParams"]

_E = Parameter("E", "irreducible loss", "loss")
_A = Parameter("A", "size of the reducible loss at one parameter", "loss")
_REFERENCE = "Chatelain et al. 2021, Is the Number of Trainable Parameters All That Actually Matters?, arXiv 2109.11928"


class TrainableParams(Law):
    """``L = E + A N_t^-alpha``: only trained parameters count; frozen random ones are free and useless.

    The claim of Chatelain et al. 2021 (arXiv 2109.11928), written as a power above a floor; they fit loss
    against compute. Compare it with `total_params` on the same runs.
    """

    name = "trainable_params"
    title = "Trainable parameters"
    inputs = (Input("N_t", "params_trainable"),)
    parameters = (_E, _A, Parameter("alpha", "exponent of trainable parameters", high=20.0))
    linear = ("E", "A")
    floor = "E"
    latex = r"E + A\,N_t^{-\alpha}"
    reference = _REFERENCE

    @staticmethod
    def formula(N_t, E, A, alpha):
        return E + A * N_t**-alpha


class TotalParams(Law):
    """``L = E + A N_a^-alpha``: all parameters count, frozen ones as much as trained ones.

    The rival of `trainable_params` in the question of Chatelain et al. 2021 (arXiv 2109.11928).
    """

    name = "total_params"
    title = "Total parameters"
    inputs = (Input("N_a", "params_total"),)
    parameters = (_E, _A, Parameter("alpha", "exponent of all parameters", high=20.0))
    linear = ("E", "A")
    floor = "E"
    latex = r"E + A\,N_a^{-\alpha}"
    reference = _REFERENCE

    @staticmethod
    def formula(N_a, E, A, alpha):
        return E + A * N_a**-alpha


class TrainableOrTotal(Law):
    """``L = E + A N_t^-a N_a^-b``: both counts, so that the fit says which of them matters.

    b = 0 is `trainable_params`, a = 0 is `total_params`; the exponents may have either sign, so that an
    interval can hold 0. A form of ours for the question of Chatelain et al. 2021 (arXiv 2109.11928). Needs
    runs in which the frozen share varies, or the two exponents cannot be told apart.
    """

    name = "trainable_or_total"
    title = "Trainable or total parameters"
    inputs = (Input("N_t", "params_trainable"), Input("N_a", "params_total"))
    parameters = (
        _E,
        _A,
        Parameter("a", "exponent of trainable parameters", low=-20.0, high=20.0, start=(-0.1, 0.8)),
        Parameter("b", "exponent of all parameters", low=-20.0, high=20.0, start=(-0.1, 0.8)),
    )
    linear = ("E", "A")
    floor = "E"
    latex = r"E + A\,N_t^{-a}\,N_a^{-b}"
    reference = "our form for the question of Chatelain et al. 2021, arXiv 2109.11928"

    @staticmethod
    def formula(N_t, N_a, E, A, a, b):
        return E + A * N_t**-a * N_a**-b
