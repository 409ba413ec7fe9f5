"""Loss of mixtures of experts in dense size and number of experts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from workbench.laws.base import Input, Law, Parameter

__all__ = ["PUBLISHED", "Routed", "cutoff", "effective_params", "saturated_experts"]

#: Coefficients as commonly quoted from Clark et al. 2022, by routing technique; rounded to three decimals.
PUBLISHED = {
    "s-base": {"a": -0.082, "b": -0.108, "c": 0.009, "d": 1.104, "E_s": 1.847, "E_m": 314.478},
    "rl-r": {"a": -0.083, "b": -0.126, "c": 0.012, "d": 1.111, "E_s": 1.880, "E_m": 469.982},
    "hash": {"a": -0.087, "b": -0.136, "c": 0.012, "d": 1.157, "E_s": 4.175, "E_m": 477.741},
}


def saturated_experts(E: Any, E_s: Any, E_m: Any) -> Any:
    """``Ehat`` with ``1/Ehat = 1/(E - 1 + 1/(1/E_s - 1/E_m)) + 1/E_m``: E_s at one expert, E_m at infinitely many."""
    return 1 / (1 / (E - 1 + 1 / (1 / E_s - 1 / E_m)) + 1 / E_m)


class Routed(Law):
    """``log10 L(N, E) = a log10 N + b log10 Ehat + c log10 N log10 Ehat + d``, with experts that saturate.

    N is the size of the dense model that each token passes, E the number of experts, and
    ``1/Ehat = 1/(E - 1 + 1/(1/E_s - 1/E_m)) + 1/E_m`` (Clark et al. 2022, arXiv 2202.01169; form as commonly
    quoted, equation numbers not checked). a and b are negative in all published fits, c positive: routing
    helps less the larger the model, and not at all from `cutoff` on. Needs runs at several E, one of them
    dense (E = 1), since E_s and E_m are the two ends of a saturating curve.
    """

    name = "routed"
    title = "Routed models"
    inputs = (Input("N", "params"), Input("E", "experts"))
    parameters = (
        Parameter("a", "exponent of the dense size", low=-20.0, high=20.0, start=(-0.3, 0.0)),
        Parameter("b", "exponent of the experts", low=-20.0, high=20.0, start=(-0.4, 0.0)),
        Parameter("c", "how the gain from experts shrinks with size", low=-20.0, high=20.0, start=(0.0, 0.05)),
        Parameter("d", "log10 of the loss at N = Ehat = 1", low=-50.0, high=50.0, start=(0.5, 2.0)),
        Parameter("E_s", "experts that a dense model counts for", low=1e-3, high=1e6, start=(1.0, 8.0)),
        Parameter("E_m", "experts beyond which nothing is gained", low=1.0, high=1e9, start=(30.0, 3000.0)),
    )
    latex = (
        r"10^{\,a \log N + b \log\hat E + c \log N \log\hat E + d},\quad"
        r" \frac{1}{\hat E} = \frac{1}{E - 1 + (1/E_s - 1/E_m)^{-1}} + \frac{1}{E_m}"
    )
    reference = "Clark et al. 2022, Unified Scaling Laws for Routed Language Models, arXiv 2202.01169"

    @staticmethod
    def formula(N, E, a, b, c, d, E_s, E_m):
        log_n, log_e = np.log10(N), np.log10(saturated_experts(E, E_s, E_m))
        return 10.0 ** (a * log_n + b * log_e + c * log_n * log_e + d)

    def guess(self, x, y, n, rng):
        """Draw E_s and E_m; log L is then linear in a, b, c and d."""
        theta = super().guess(x, y, n, rng)
        log_n, target = np.log10(x["N"]), np.log10(y)
        for row in theta:
            log_e = np.log10(saturated_experts(x["E"], row[4], row[5]))
            basis = np.stack([log_n, log_e, log_n * log_e, np.ones_like(log_n)], axis=1)
            row[:4] = np.linalg.lstsq(basis, target, rcond=None)[0]
        return self.clip(theta)


def cutoff(parameters: Mapping[str, float]) -> float:
    """``10^(-b/c)``: the dense size from which more experts no longer lower the loss; infinite if c <= 0.

    Two digits lost in c are an order of magnitude here: coefficients rounded to three decimals give it only
    within a factor of several.

    Args:
        parameters: symbol -> value of `Routed`, such as ``fit.params`` or an entry of `PUBLISHED`.
    """
    b, c = float(parameters["b"]), float(parameters["c"])
    return float(10.0 ** (-b / c)) if c > 0 else np.inf


def effective_params(params: Any, experts: Any, parameters: Mapping[str, float]) -> np.ndarray:
    """Size of the dense model with the same loss, the effective parameter count.

    ``N^(alpha(Ehat)/alpha(E_s)) (Ehat/E_s)^(b/alpha(E_s))`` with ``alpha(x) = a + c log10 x`` (Clark et al.
    2022, arXiv 2202.01169, as commonly quoted; it follows from setting the two losses equal).

    Args:
        params: dense size N.
        experts: number of experts E.
        parameters: symbol -> value of `Routed`.
    """
    a, b, c, start = (float(parameters[s]) for s in ("a", "b", "c", "E_s"))
    seen = saturated_experts(np.asarray(experts, dtype=float), start, float(parameters["E_m"]))
    dense = a + c * np.log10(start)
    return np.asarray(params, float) ** ((a + c * np.log10(seen)) / dense) * (seen / start) ** (b / dense)
