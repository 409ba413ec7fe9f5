"""The multi-power law of loss curves."""

from __future__ import annotations

import numpy as np

from workbench.laws.base import Parameter
from workbench.laws.schedules.base import ScheduleLaw

__all__ = ["SQUARE_ROOT", "MultiPower"]

#: Exponents to fix where the curves do not determine them, which three curves rarely do: the shape of the
#: response then has one free number, C. Luo et al. publish .58 to .60 and .64 to .66 for three model sizes.
SQUARE_ROOT = {"beta": 0.5, "gamma": 0.5}


class MultiPower(ScheduleLaw):
    """A power law in the sum of learning rates, less what each fall of the rate has saved so far.

    ``L(t) = L_0 + A S(t)^-alpha - B sum_(k<=t) (eta_(k-1) - eta_k) G(eta_k^-gamma S_k(t))`` with
    ``G(x) = 1 - (1 + C x)^-beta``, S(t) the sum of the rates of the first t steps, warm-up included (the
    authors write S_1 + S_W), and S_k(t) the sum from step k to step t. A rise of the rate counts as a
    negative fall, those of the warm-up too. Under a constant rate the sum vanishes and a power law remains.

    After a warm-up from 0 the sum stays below by nearly B times the peak, which L_0 makes up for: parameters
    fitted with the warm-up's rises must be used with them. A rate of zero is taken as a millionth of the
    peak where ``eta^-gamma`` needs it.

    Luo et al. 2025, "A Multi-Power Law for Loss Curve Prediction Across Learning Rate Schedules"; the form
    and the treatment of the warm-up are those of the authors' code (thu-yao-01-luo/MultiPowerLaw).
    """

    name = "multi_power"
    title = "Multi-power law"
    parameters = (
        Parameter("L_0", "loss that neither training nor a lower rate removes", "loss"),
        Parameter("A", "reducible loss at a sum of learning rates of 1", "loss"),
        Parameter("alpha", "exponent of the sum of learning rates", "", high=20.0, start=(0.1, 1.5)),
        Parameter("B", "loss saved in the end by a fall of the learning rate by 1", "loss"),
        Parameter("C", "how soon a fall is felt", "", start=(1e-3, 30.0)),
        Parameter("beta", "exponent with which a fall comes to its full effect", "", high=20.0, start=(0.1, 2.0)),
        Parameter("gamma", "how much faster a fall acts at a lower rate", "", high=5.0, start=(0.1, 1.5)),
    )
    linear = ("L_0", "A", "B")
    latex = (
        r"L_j(t) = L_0 + A\,S(t)^{-\alpha} - B \sum_{k \le t} (\eta_{k-1} - \eta_k)"
        r"\left[1 - \left(1 + C\,\eta_k^{-\gamma} S_k(t)\right)^{-\beta}\right]"
    )
    reference = "Luo et al. 2025, arXiv 2503.12811"

    def formula(self, t, j, L_0, A, alpha, B, C, beta, gamma):
        on = self.terms(t, j)
        felt = -np.expm1(-beta * np.log1p(C * (np.exp(-gamma * on.log_rate) * on.since)))
        return L_0 + A * on.area**-alpha - B * np.add.reduceat(on.drop * felt, on.first, axis=-1)
