"""Loss of models trained in floating-point formats of few bits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from workbench.laws.base import Input, Law, Parameter, positive_least_squares

__all__ = ["PUBLISHED", "FloatQuantization", "best_split", "critical_tokens", "layouts"]

#: Constants as commonly quoted from Sun et al. 2025; not checked against the paper.
PUBLISHED = {
    "n": 69.2343, "alpha": 0.2368, "d": 68973.0621, "beta": 0.5162, "epsilon": 1.9061,
    "gamma": 11334.5197, "delta": 3.1926, "nu": 2.9543,
}  # fmt: skip


class FloatQuantization(Law):
    """Chinchilla's law plus a price of few bits that grows with data and shrinks with size.

    ``L = n/N^alpha + d/D^beta + epsilon + (D^beta / N^alpha) log2(B) / (gamma (E + 1/2)^delta (M + 1/2)^nu)``
    for E exponent bits, M mantissa bits and one scaling factor for each B numbers (Sun et al. 2025, arXiv
    2501.02423; form and constants as commonly quoted, equation numbers not checked). Since the price grows
    with D, more data than `critical_tokens` does harm.
    """

    name = "float_quantization"
    title = "Floating-point quantization"
    inputs = (
        Input("N", "params"),
        Input("D", "tokens"),
        Input("E", "exponent_bits", zero=True),
        Input("M", "mantissa_bits", zero=True),
        Input("B", "scale_block"),
    )
    parameters = (
        Parameter("n", "size of the loss from finite parameters", "loss"),
        Parameter("alpha", "exponent of parameters", high=20.0, start=(0.1, 0.8)),
        Parameter("d", "size of the loss from finite data", "loss"),
        Parameter("beta", "exponent of tokens", high=20.0, start=(0.1, 0.8)),
        Parameter("epsilon", "irreducible loss", "loss"),
        Parameter("gamma", "how little a coarse format costs", "1/loss"),
        Parameter("delta", "exponent of the exponent bits", high=20.0, start=(1.0, 6.0)),
        Parameter("nu", "exponent of the mantissa bits", high=20.0, start=(1.0, 6.0)),
    )
    trend = ""
    latex = (
        r"\frac{n}{N^{\alpha}} + \frac{d}{D^{\beta}} + \epsilon + \frac{D^{\beta}}{N^{\alpha}}"
        r" \frac{\log_2 B}{\gamma\,(E + 0.5)^{\delta} (M + 0.5)^{\nu}}"
    )
    reference = "Sun et al. 2025, Scaling Laws for Floating-Point Quantization Training, arXiv 2501.02423"

    @staticmethod
    def formula(N, D, E, M, B, n, alpha, d, beta, epsilon, gamma, delta, nu):
        size, data = N**-alpha, D**-beta
        price = np.log2(B) * (E + 0.5) ** -delta * (M + 0.5) ** -nu
        return n * size + d * data + epsilon + price * size / (data * gamma)

    def guess(self, x, y, n, rng):
        """Draw the exponents; the loss is then linear in n, d, epsilon and 1/gamma."""
        theta = super().guess(x, y, n, rng)
        alpha, beta, delta, nu = (theta[:, j, None] for j in (1, 3, 6, 7))
        size, data = x["N"] ** -alpha, x["D"] ** -beta
        price = np.log2(x["B"]) * (x["E"] + 0.5) ** -delta * (x["M"] + 0.5) ** -nu * size / data
        basis = np.stack([size, data, np.ones_like(size), price], axis=1) / y
        found = positive_least_squares(basis)
        theta[:, 0], theta[:, 2], theta[:, 4] = found[:, 0], found[:, 1], found[:, 2]
        theta[:, 5] = 1 / np.maximum(found[:, 3], 1e-30)
        return self.clip(theta)


def critical_tokens(
    params: Any, exponent_bits: Any, mantissa_bits: Any, scale_block: Any, parameters: Mapping[str, float] = PUBLISHED
) -> np.ndarray:
    """The tokens at which the loss is lowest for a size and a format; beyond it more data does harm.

    ``D_crit = [d gamma N^alpha (E + 1/2)^delta (M + 1/2)^nu / log2 B]^(1 / (2 beta))``, where the derivative
    of the law in D vanishes; infinite if every number has its own scaling factor (B = 1).

    Args:
        params: N.
        exponent_bits, mantissa_bits, scale_block: the format; arrays broadcast.
        parameters: symbol -> value of `FloatQuantization`.
    """
    p = parameters
    fine = (np.asarray(exponent_bits) + 0.5) ** p["delta"] * (np.asarray(mantissa_bits) + 0.5) ** p["nu"]
    with np.errstate(divide="ignore"):
        worth = p["d"] * p["gamma"] * np.asarray(params, dtype=float) ** p["alpha"] * fine / np.log2(scale_block)
    return worth ** (1 / (2 * p["beta"]))


def layouts(bits: int) -> list[tuple[int, int]]:
    """All pairs of exponent and mantissa bits of a format of `bits` bits, one of them the sign.

    Raises:
        ValueError: fewer than two bits, or no whole number.
    """
    if isinstance(bits, bool) or not isinstance(bits, int | np.integer) or bits < 2:
        raise ValueError(f"bits is {bits!r}; a format has a whole number of at least 2 bits, its sign included")
    return [(e, int(bits) - 1 - e) for e in range(int(bits))]


def best_split(bits: int, parameters: Mapping[str, float] = PUBLISHED) -> tuple[int, int]:
    """Exponent and mantissa bits that lose least, at any N, D and B.

    On real numbers the optimum is ``E + 1/2 = bits delta / (delta + nu)``, since ``(E + 1/2) + (M + 1/2)`` is
    `bits` with the sign counted; the answer is the better of the two whole splits beside it.

    Args:
        bits: bits of the format, the sign included.
        parameters: symbol -> value of `FloatQuantization`; delta and nu are used.
    """
    whole = layouts(bits)
    delta, nu = float(parameters["delta"]), float(parameters["nu"])
    below = int(np.clip(np.floor(bits * delta / (delta + nu) - 0.5), 0, bits - 1))
    near = [whole[below], whole[min(below + 1, bits - 1)]]
    return max(near, key=lambda s: delta * np.log(s[0] + 0.5) + nu * np.log(s[1] + 0.5))
