"""Loss when tokens are seen more than once: repeated data and surplus parameters lose value exponentially."""

from __future__ import annotations

import numpy as np

from workbench.laws.base import Input, Law, Parameter, positive_least_squares

__all__ = ["PUBLISHED", "RepeatedData", "RepeatedTokens", "effective"]

#: Constants of Muennighoff et al. 2023 (arXiv 2305.16264, appendix A) on C4: 182 runs, 7M to 9B parameters, 1 to
#: 500 epochs. E, A and B are printed there as logarithms.
PUBLISHED = {
    "E": float(np.exp(0.6254804)),
    "A": float(np.exp(6.255414)),
    "B": float(np.exp(7.3049974)),
    "alpha": 0.3526596,
    "beta": 0.3526596,
    "R_D": 15.387756,
    "R_N": 5.309743,
}

_INPUTS = (Input("N", "params"), Input("D", "tokens"), Input("U", "unique_tokens"))
_CORE = (
    Parameter("E", "irreducible loss", "loss"),
    Parameter("A", "size of the loss from finite parameters", "loss"),
    Parameter("B", "size of the loss from finite data", "loss"),
    Parameter("alpha", "exponent of parameters", high=20.0),
    Parameter("beta", "exponent of tokens", high=20.0),
)
_R_D = Parameter("R_D", "repetitions after which a repeated token has lost 63 % of its value", start=(1.0, 60.0))
_R_N = Parameter("R_N", "the same for parameters beyond what the unique tokens need", start=(0.5, 30.0))


def effective(seen, unique, R):
    """What `seen` is worth in fresh units: ``U + U R (1 - exp(-(seen/U - 1) / R))`` with U = min(unique, seen).

    Muennighoff et al. 2023, eq. 5 (tokens) and eq. 6 (parameters). One pass is worth itself; no number of
    passes is worth more than ``(1 + R) U``.

    Args:
        seen: tokens seen in training (or parameters), ``[n]``.
        unique: different tokens among them (or parameters these tokens need), ``[n]``.
        R: repetitions after which a repeated token has lost a share 1 - 1/e of its value.

    Returns:
        Effective tokens (or parameters), in the unit of `seen`.
    """
    unique = np.minimum(unique, seen)
    return unique + unique * R * (1 - np.exp(-(seen / unique - 1) / R))


class RepeatedData(Law):
    """``L = E + A N'^-alpha + B D'^-beta`` with repeated tokens and surplus parameters discounted.

    D' is `effective(D, U, R_D)` with U unique tokens, N' is `effective(N, U_N, R_N)` where U_N is the
    compute-optimal number of parameters for U tokens under the same A, B, alpha and beta:
    ``U_N = G (G U)^(beta/alpha)``, ``G = (alpha A / beta B)^(1/(alpha + beta))``. Muennighoff et al. 2023
    (arXiv 2305.16264, eq. 5 and 6; the constants of appendix A are `PUBLISHED`). The law only saturates: it
    cannot describe a loss that rises again after many epochs.
    """

    name = "repeated_data"
    title = "Repeated data"
    inputs = _INPUTS
    parameters = (*_CORE, _R_D, _R_N)
    floor = "E"
    latex = (
        r"E + \frac{A}{N'^{\alpha}} + \frac{B}{D'^{\beta}},\quad"
        r" D' = U + U R_D\left(1 - e^{-(D/U - 1)/R_D}\right),\quad"
        r" N' = U_N + U_N R_N\left(1 - e^{-(N/U_N - 1)/R_N}\right)"
    )
    reference = "Muennighoff et al. 2023, arXiv 2305.16264, eq. 5-6 and appendix A"

    @staticmethod
    def formula(N, D, U, E, A, B, alpha, beta, R_D, R_N):
        G = (alpha * A / (beta * B)) ** (1 / (alpha + beta))
        needed = G * (G * np.minimum(U, D)) ** (beta / alpha)
        return E + A * effective(N, needed, R_N) ** -alpha + B * effective(D, U, R_D) ** -beta

    def guess(self, x, y, n, rng):
        """Draw exponents and decay constants; E, A and B are then solved for as if no parameter were surplus."""
        return _solve_core(self, x, y, super().guess(x, y, n, rng))


class RepeatedTokens(Law):
    """``L = E + A N^-alpha + B D'^-beta``: Chinchilla's law with repeated tokens discounted, parameters not.

    D' is `effective(D, U, R_D)`: Muennighoff et al. 2023 (arXiv 2305.16264, eq. 5) without their discount of
    parameters. Enough where every model is small for its unique tokens.
    """

    name = "repeated_tokens"
    title = "Repeated tokens"
    inputs = _INPUTS
    parameters = (*_CORE, _R_D)
    linear = ("E", "A", "B")
    floor = "E"
    latex = (
        r"E + \frac{A}{N^{\alpha}} + \frac{B}{D'^{\beta}},\quad"
        r" D' = U + U R_D\left(1 - e^{-(D/U - 1)/R_D}\right)"
    )
    reference = "Muennighoff et al. 2023, arXiv 2305.16264, eq. 5"

    @staticmethod
    def formula(N, D, U, E, A, B, alpha, beta, R_D):
        return E + A * N**-alpha + B * effective(D, U, R_D) ** -beta


def _solve_core(law: Law, x, y: np.ndarray, theta: np.ndarray) -> np.ndarray:
    alpha, beta, decay = (theta[:, j, None] for j in (3, 4, 5))
    seen = effective(x["D"], x["U"], decay)
    basis = np.stack([np.broadcast_to(1 / y, seen.shape), x["N"] ** -alpha / y, seen**-beta / y], axis=1)
    theta[:, :3] = positive_least_squares(basis)
    return law.clip(theta)
