"""Steps to a target loss against batch size, and what two definitions call the critical batch."""

from __future__ import annotations

from typing import Any

import numpy as np

from workbench.laws.base import Input, Law, Parameter

__all__ = ["CriticalBatchData", "CriticalBatchLoss", "StepsBatchNoise", "StepsBatchPower", "overhead_batch"]

_B = (Input("B", "batch_tokens"),)


class StepsBatchNoise(Law):
    """``S(B) = S_m (1 + B_n / B)``: steps to a target loss, with the noise scale B_n as critical batch.

    The same hyperbola as ``(S / S_min - 1)(E / E_min - 1) = 1`` with ``E = B S`` examples and
    ``B_crit = E_min / S_min`` (McCandlish et al. 2018, arXiv 1812.06162, section 2.3; the equation number
    was not checked). At B = B_n both steps and examples are twice their smallest. Fit with ``y="steps"``;
    for batches counted in examples, ``inputs={"B": "batch"}``.
    """

    name = "steps_batch_noise"
    title = "Steps against batch, noise scale"
    inputs = _B
    parameters = (
        Parameter("S_m", "steps with batches of any size", "loss"),
        Parameter("B_n", "noise scale, the critical batch", "x", start=(0.1, 10.0), of="B"),
    )
    linear = ("S_m",)
    floor = "S_m"
    latex = r"S_m \left(1 + \frac{B_n}{B}\right)"
    reference = "McCandlish et al. 2018, An Empirical Model of Large-Batch Training, arXiv 1812.06162, section 2.3"

    @staticmethod
    def formula(B, S_m, B_n):
        return S_m * (1 + B_n / B)


class StepsBatchPower(Law):
    """``S(B) = a + b B^-alpha``: steps to a target loss, with a free exponent instead of 1.

    Zhang et al. 2024 (arXiv 2410.21676; form as commonly quoted, the equation number was not checked).
    Their critical batch is where the examples needed exceed those of perfect scaling by a fifth:
    `overhead_batch`.
    """

    name = "steps_batch_power"
    title = "Steps against batch, free exponent"
    inputs = _B
    parameters = (
        Parameter("a", "steps with batches of any size", "loss"),
        Parameter("b", "size of the steps that larger batches save", "loss"),
        Parameter("alpha", "exponent of the batch size", high=20.0, start=(0.3, 2.0)),
    )
    linear = ("a", "b")
    floor = "a"
    latex = r"a + b\,B^{-\alpha}"
    reference = "Zhang et al. 2024, How Does Critical Batch Size Scale in Pre-training?, arXiv 2410.21676"

    @staticmethod
    def formula(B, a, b, alpha):
        return a + b * B**-alpha


class CriticalBatchLoss(Law):
    """``B_crit(L) = B_s L^(-1/alpha)``: the critical batch grows as the loss falls, whatever the model's size.

    Kaplan et al. 2020 (arXiv 2001.08361, eq. 1.4), who find B_s = 2.1e8 tokens and alpha = 0.21. Fit with
    ``y="critical_batch"``.
    """

    name = "critical_batch_loss"
    title = "Critical batch against loss"
    inputs = (Input("L", "loss"),)
    parameters = (
        Parameter("B_s", "critical batch at a loss of 1", "loss"),
        Parameter("alpha", "one over the exponent of the loss", low=1e-3, high=20.0, start=(0.05, 1.0)),
    )
    linear = ("B_s",)
    latex = r"B_s\,L^{-1/\alpha}"
    reference = "Kaplan et al. 2020, arXiv 2001.08361, eq. 1.4"

    @staticmethod
    def formula(L, B_s, alpha):
        return B_s * L ** (-1 / alpha)


class CriticalBatchData(Law):
    """``B_crit(D) = c D^p``: the critical batch grows with the data.

    Zhang et al. 2024 (arXiv 2410.21676) find 22.91 D^0.47 sequences of 512 tokens with D in millions of
    tokens, and next to no dependence on the model's size; form and constants as commonly quoted, not
    checked against the paper. Fit with ``y="critical_batch"``; ``inputs={"D": "params"}`` fits a power
    of the model's size.
    """

    name = "critical_batch_data"
    title = "Critical batch against data"
    inputs = (Input("D", "tokens"),)
    parameters = (
        Parameter("c", "critical batch at D = 1", "loss", start=(1e-3, 1e3)),
        Parameter("p", "exponent of the tokens", low=-20.0, high=20.0, start=(-0.5, 1.5)),
    )
    linear = ("c",)
    trend = ""
    latex = r"c\,D^{p}"
    reference = "Zhang et al. 2024, How Does Critical Batch Size Scale in Pre-training?, arXiv 2410.21676"

    @staticmethod
    def formula(D, c, p):
        return c * D**p


def overhead_batch(a: Any, b: Any, alpha: Any, reference: float, overhead: float = 0.2) -> np.ndarray:
    """The batch at which ``steps_batch_power`` needs `overhead` more examples than perfect scaling.

    Perfect scaling keeps the examples ``B S(B)`` at what the `reference` batch needs, which must be small
    enough to lie where steps halve as the batch doubles. The answer is the smallest ``B > reference`` with
    ``B S(B) = (1 + overhead) reference S(reference)``, found by bisection on log B.

    Args:
        a, b, alpha: parameters of the law; arrays of one shape give one answer each (bootstrap draws).
        reference: batch that perfect scaling starts from (256 sequences in Zhang et al. 2024).
        overhead: accepted share of further examples.

    Returns:
        Batch sizes in the unit of `reference`; NaN where no batch costs so much (a = 0).

    Raises:
        ValueError: `reference` or `overhead` is not positive.
    """
    if not (reference > 0 and overhead > 0):
        raise ValueError(f"reference={reference!r} and overhead={overhead!r} must both be positive")
    a, b, alpha = np.broadcast_arrays(*(np.asarray(v, dtype=float) for v in (a, b, alpha)))

    def excess(log_b):  # log of examples over those allowed
        with np.errstate(all="ignore"):
            steps, first = a + b * np.exp(-alpha * log_b), a + b * reference**-alpha
            return log_b + np.log(steps) - np.log(reference) - np.log(first) - np.log1p(overhead)

    # With alpha > 1 examples first fall, so that they pass the allowed number only once, on the way up:
    # log examples is convex in log B.
    low = np.full(a.shape, np.log(reference))
    high = low + 60.0
    found = excess(high) > 0
    for _ in range(100):
        middle = 0.5 * (low + high)
        beyond = excess(middle) > 0
        low, high = np.where(beyond, low, middle), np.where(beyond, middle, high)
    return np.where(found, np.exp(0.5 * (low + high)), np.nan)
