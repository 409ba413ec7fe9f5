"""Kaplan's joint law of parameters and tokens, as published and above an irreducible loss."""

from __future__ import annotations

import numpy as np

from workbench.laws.base import Input, Law, Parameter
from workbench.laws.scale._starts import floors, weights_of_powers

__all__ = ["KaplanConstant", "KaplanJoint"]

_INPUTS = (Input("N", "params"), Input("D", "tokens"))
_LATEX = r"\left[\left(\frac{N_c}{N}\right)^{\alpha_N/\alpha_D} + \frac{D_c}{D}\right]^{\alpha_D}"


def _parameters(start):
    """The four of the bracket, with exponents drawn from `start`."""
    return (
        Parameter("N_c", "parameters at which unlimited data give a loss of 1", "x", start=(1e2, 1e8), of="N"),
        Parameter("D_c", "tokens at which an unlimited model gives a loss of 1", "x", start=(1e2, 1e8), of="D"),
        Parameter("alpha_N", "exponent of parameters", high=20.0, start=start),
        Parameter("alpha_D", "exponent of tokens", high=20.0, start=start),
    )


def _scales(x, y, alpha_n, alpha_d):
    """N_c and D_c ``[n]`` for exponents ``[n]`` and losses above the floor ``[m]`` or ``[n, m]``.

    L^(1/alpha_D) is linear in N_c^(alpha_N/alpha_D) and D_c.
    """
    ratio = alpha_n / alpha_d
    with np.errstate(all="ignore"):
        target = np.log(y) / alpha_d[:, None]
        power, d_c = weights_of_powers([np.log(x["N"]), np.log(x["D"])], [ratio, np.ones_like(ratio)], target)
        return power ** (1 / ratio), d_c


class KaplanJoint(Law):
    """``L(N, D) = [(N_c / N)^(alpha_N / alpha_D) + D_c / D]^alpha_D``, with no irreducible loss.

    Kaplan et al. 2020 (arXiv 2001.08361, eq. 1.5). Overfitting depends on one combination of N and D;
    as N and D grow together the loss tends to zero.
    """

    name = "kaplan"
    title = "Kaplan joint"
    inputs = _INPUTS
    parameters = _parameters((0.01, 0.6))
    latex = _LATEX
    reference = "Kaplan et al. 2020, arXiv 2001.08361, eq. 1.5"

    @staticmethod
    def formula(N, D, N_c, D_c, alpha_N, alpha_D):
        return ((N_c / N) ** (alpha_N / alpha_D) + D_c / D) ** alpha_D

    def guess(self, x, y, n, rng):
        """Draw the exponents and solve for the scales."""
        theta = super().guess(x, y, n, rng)
        theta[:, 0], theta[:, 1] = _scales(x, y, theta[:, 2], theta[:, 3])
        return self.clip(theta)


class KaplanConstant(Law):
    """``L(N, D) = E + [(N_c / N)^(alpha_N / alpha_D) + D_c / D]^alpha_D``: Kaplan's joint law above a floor.

    Kaplan et al. 2020 (arXiv 2001.08361, eq. 1.5) saw no sign of a floor, and say that natural language
    must have one. E is added here; N_c and D_c are then where the reducible loss is 1.
    """

    name = "kaplan_constant"
    title = "Kaplan joint + constant"
    inputs = _INPUTS
    parameters = (Parameter("E", "irreducible loss", "loss"), *_parameters((0.03, 2.0)))
    floor = "E"
    latex = "E + " + _LATEX
    reference = "Kaplan et al. 2020, arXiv 2001.08361, eq. 1.5 with a floor added"

    @staticmethod
    def formula(N, D, E, N_c, D_c, alpha_N, alpha_D):
        return E + ((N_c / N) ** (alpha_N / alpha_D) + D_c / D) ** alpha_D

    def guess(self, x, y, n, rng):
        """Draw the floor and the exponents and solve for the scales."""
        theta = super().guess(x, y, n, rng)
        theta[:, 0] = floors(y, n, rng)
        theta[:, 1], theta[:, 2] = _scales(x, y - theta[:, 0, None], theta[:, 3], theta[:, 4])
        return self.clip(theta)
