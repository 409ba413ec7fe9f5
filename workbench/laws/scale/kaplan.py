"""Kaplan's joint law of parameters and tokens."""

from __future__ import annotations

import numpy as np

from workbench.laws.base import Input, Law, Parameter, positive_least_squares

__all__ = ["KaplanJoint"]


class KaplanJoint(Law):
    """``L(N, D) = [(N_c / N)^(alpha_N / alpha_D) + D_c / D]^alpha_D``, with no irreducible loss.

    Kaplan et al. 2020 (arXiv 2001.08361, eq. 1.5). Overfitting depends on one combination of N and D;
    as N and D grow together the loss tends to zero.
    """

    name = "kaplan"
    title = "Kaplan joint"
    inputs = (Input("N", "params"), Input("D", "tokens"))
    parameters = (
        Parameter("N_c", "parameters at which unlimited data give a loss of 1", "x", start=(1e2, 1e8), of="N"),
        Parameter("D_c", "tokens at which an unlimited model gives a loss of 1", "x", start=(1e2, 1e8), of="D"),
        Parameter("alpha_N", "exponent of parameters", high=20.0, start=(0.01, 0.6)),
        Parameter("alpha_D", "exponent of tokens", high=20.0, start=(0.01, 0.6)),
    )
    latex = r"\left[\left(\frac{N_c}{N}\right)^{\alpha_N/\alpha_D} + \frac{D_c}{D}\right]^{\alpha_D}"
    reference = "Kaplan et al. 2020, arXiv 2001.08361, eq. 1.5"

    @staticmethod
    def formula(N, D, N_c, D_c, alpha_N, alpha_D):
        return ((N_c / N) ** (alpha_N / alpha_D) + D_c / D) ** alpha_D

    def guess(self, x, y, n, rng):
        """Draw the exponents; L^(1/alpha_D) is then linear in N_c^(alpha_N/alpha_D) and D_c."""
        theta = super().guess(x, y, n, rng)
        alpha_n, alpha_d = theta[:, 2, None], theta[:, 3, None]
        ratio = alpha_n / alpha_d
        # Divided by L^(1/alpha_D), so that the sum should be 1 at every point; in logs, since
        # 1/alpha_D of a small exponent overflows.
        scale = np.log(y) / alpha_d
        basis = np.exp(np.stack([-ratio * np.log(x["N"]) - scale, -np.log(x["D"]) - scale], axis=1))
        with np.errstate(all="ignore"):
            power, d_c = positive_least_squares(basis).T
            n_c = power ** (1 / ratio[:, 0])
        theta[:, 0], theta[:, 1] = n_c, d_c
        return self.clip(theta)
