"""Loss in parameters and tokens whose two shortages act on each other: coupled, and purely multiplicative."""

from __future__ import annotations

import numpy as np

from workbench.laws.base import Input, Law, Parameter
from workbench.laws.scale._starts import floors, weights_of_powers

__all__ = ["Coupled", "Multiplicative"]

_INPUTS = (Input("N", "params"), Input("D", "tokens"))
_E = Parameter("E", "irreducible loss", "loss")


class Coupled(Law):
    """``L(N, D) = E + (A N^-alpha + B D^-beta)^k``, known as Skaling.

    k = 1 is Chinchilla's law, beta = 1 is Kaplan's joint law above a floor. For k < 1 more data are worth
    more to a larger model. With ample data the exponent of parameters is ``alpha k``, with an ample model
    that of tokens ``beta k``; k itself shows only where neither shortage dominates, so it asks for a full
    grid of N and D.

    Videau et al. 2026, "Skaling: Chinchilla's Exponents Meet Kaplan's Coupling" (arXiv 2608.07222); the
    form as quoted by the package simple-scaling-laws, not checked against the paper.
    """

    name = "coupled"
    title = "Coupled (Skaling)"
    inputs = _INPUTS
    parameters = (
        _E,
        Parameter("A", "weight of the shortage of parameters"),
        Parameter("B", "weight of the shortage of data"),
        Parameter("alpha", "exponent of parameters inside the sum", high=20.0, start=(0.05, 2.0)),
        Parameter("beta", "exponent of tokens inside the sum", high=20.0, start=(0.05, 2.0)),
        Parameter("k", "exponent of the sum; 1 if the two act separately", high=20.0, start=(0.1, 2.0)),
    )
    floor = "E"
    latex = r"E + \left(A\,N^{-\alpha} + B\,D^{-\beta}\right)^{k}"
    reference = "Videau et al. 2026, arXiv 2608.07222 (as quoted; equation not checked against the paper)"

    @staticmethod
    def formula(N, D, E, A, B, alpha, beta, k):
        return E + (A * N**-alpha + B * D**-beta) ** k

    def guess(self, x, y, n, rng):
        """Draw the floor and the exponents; (L - E)^(1/k) is then linear in A and B."""
        theta = super().guess(x, y, n, rng)
        theta[:, 0] = floors(y, n, rng)
        k = theta[:, 5]
        with np.errstate(all="ignore"):
            target = np.log(y - theta[:, 0, None]) / k[:, None]
        logs = [np.log(x["N"]), np.log(x["D"])]
        theta[:, 1], theta[:, 2] = weights_of_powers(logs, [theta[:, 3], theta[:, 4]], target)
        return self.clip(theta)


class Multiplicative(Law):
    """``L(N, D) = E + A N^-alpha D^-beta``: parameters and tokens make up for each other without limit.

    A rival that a law with separate shortages should beat: it says that a tiny model reaches any loss
    given enough data. The logarithm of the reducible loss is linear in log N and log D, which is what a
    plain regression on logarithms assumes.
    """

    name = "multiplicative"
    title = "Multiplicative"
    inputs = _INPUTS
    parameters = (
        _E,
        Parameter("A", "size of the reducible loss at N = D = 1", "loss"),
        Parameter("alpha", "exponent of parameters", high=20.0, start=(0.02, 0.8)),
        Parameter("beta", "exponent of tokens", high=20.0, start=(0.02, 0.8)),
    )
    linear = ("E", "A")
    floor = "E"
    latex = r"E + A\,N^{-\alpha}\,D^{-\beta}"
    reference = "log-linear regression in two inputs, above a floor; rival model"

    @staticmethod
    def formula(N, D, E, A, alpha, beta):
        return E + A * N**-alpha * D**-beta
