"""The best learning rate against batch size: SGD's saturation, Adam's surge, and a bare power."""

from __future__ import annotations

import numpy as np

from workbench.laws.base import Input, Law, Parameter

__all__ = ["LrBatchPower", "LrBatchSGD", "LrBatchSurge"]

_B = (Input("B", "batch_tokens"),)


class LrBatchSGD(Law):
    """``lr(B) = eta_m / (1 + B_n / B)``: proportional to B in small batches, constant in large ones.

    The step that lowers a quadratic loss most under gradient noise of covariance Sigma/B, with the noise
    scale ``B_n = tr(H Sigma) / G^T H G`` (McCandlish et al. 2018, arXiv 1812.06162, section 2.2; the
    equation number was not checked). B and B_n are in the unit of the batch column; for batches counted in
    examples fit with ``inputs={"B": "batch"}``.
    """

    name = "lr_batch_sgd"
    title = "Learning rate against batch, SGD"
    inputs = _B
    parameters = (
        Parameter("eta_m", "best learning rate without gradient noise", "loss"),
        Parameter("B_n", "noise scale: batch at which half of it is reached", "x", start=(0.1, 10.0), of="B"),
    )
    linear = ("eta_m",)
    trend = "rises"
    floor = "eta_m"
    latex = r"\frac{\eta_m}{1 + B_n / B}"
    reference = "McCandlish et al. 2018, An Empirical Model of Large-Batch Training, arXiv 1812.06162, section 2.2"

    @staticmethod
    def formula(B, eta_m, B_n):
        return eta_m / (1 + B_n / B)


class LrBatchSurge(Law):
    """``lr(B) = 2 eta_m / (sqrt(B / B_n) + sqrt(B_n / B))``: rises as sqrt(B), peaks at the noise scale, falls.

    For optimizers that step by the sign of the gradient, as Adam nearly does (Li et al. 2024, "Surge
    Phenomenon in Optimal Learning Rate and Batch Size Scaling", arXiv 2405.14578; form as commonly quoted,
    the equation number was not checked). It is an approximation near the peak: far beyond it the exact
    one-step optimum tends to a constant, and with a diagonal Hessian there is no fall at all.
    """

    name = "lr_batch_surge"
    title = "Learning rate against batch, Adam's surge"
    inputs = _B
    parameters = (
        Parameter("eta_m", "largest best learning rate, at the peak", "loss"),
        Parameter("B_n", "noise scale: batch at the peak", "x", start=(0.1, 10.0), of="B"),
    )
    linear = ("eta_m",)
    trend = ""
    latex = r"\frac{2\,\eta_m}{\sqrt{B / B_n} + \sqrt{B_n / B}}"
    reference = "Li et al. 2024, Surge Phenomenon in Optimal Learning Rate and Batch Size Scaling, arXiv 2405.14578"

    @staticmethod
    def formula(B, eta_m, B_n):
        ratio = np.sqrt(B / B_n)
        return 2 * eta_m / (ratio + 1 / ratio)


class LrBatchPower(Law):
    """``lr(B) = c B^p``: the linear rule has p = 1, the square-root rule p = 1/2.

    The linear rule for SGD is Goyal et al. 2017 (arXiv 1706.02677), the square-root rule for Adam Malladi
    et al. 2022 (arXiv 2205.10287). Both end where the noise no longer rules the step; `lr_batch_sgd` and
    `lr_batch_surge` say where.
    """

    name = "lr_batch_power"
    title = "Learning rate against batch, power"
    inputs = _B
    parameters = (
        Parameter("c", "best learning rate at B = 1", "loss"),
        Parameter("p", "exponent of the batch size", low=-20.0, high=20.0, start=(-1.0, 1.5)),
    )
    linear = ("c",)
    trend = ""
    latex = r"c\,B^{p}"
    reference = "Goyal et al. 2017, arXiv 1706.02677 (p = 1); Malladi et al. 2022, arXiv 2205.10287 (p = 1/2)"

    @staticmethod
    def formula(B, c, p):
        return c * B**p
