"""The scaling law with learning-rate annealing, for one model and for several sizes."""

from __future__ import annotations

import numpy as np

from workbench.laws.base import Input, Parameter
from workbench.laws.schedules.base import ScheduleLaw

__all__ = ["Annealing", "AnnealingSize"]

_L_0 = Parameter("L_0", "irreducible loss", "loss")
_A = Parameter("A", "reducible loss at a sum of learning rates of 1", "loss")
_ALPHA = Parameter("alpha", "exponent of the sum of learning rates", "", high=20.0, start=(0.1, 1.5))
_C = Parameter("C", "loss saved by a unit of annealing area", "loss")
_TAU = Parameter("tau", "memory of a change of the rate, -1 / ln(lambda)", "steps", start=(0.1, 0.5), of="t")
_SUM = r"\sum_{i \le t} \sum_{k \le i} (\eta_{k-1} - \eta_k)\,e^{-(i-k)/\tau}"


class Annealing(ScheduleLaw):
    """``L(t) = L_0 + A S_1^-alpha - C S_2``: a power law in the sum of learning rates, less an annealing area.

    ``S_1`` is the sum of the rates up to step t and ``S_2 = sum_(i<=t) sum_(k<=i) (eta_(k-1) - eta_k)
    lambda^(i-k)``: each fall of the rate is remembered with the decay lambda and goes on saving loss.
    Rises count as negative falls. The memory is fitted as a time, ``tau = -1 / ln(lambda)`` steps, on
    whose logarithm the loss depends far more evenly than on lambda; `memory` converts, so that
    ``fixed={"tau": Annealing.memory(0.999)}`` gives the form with lambda = .999.

    Tissue, Wang and Wang 2024, "Scaling Law with Learning Rate Annealing". The law is that of the abstract;
    the definition of S_2 is as commonly quoted and not checked against the paper, nor is how the
    authors count a warm-up; here its rises are changes like any other.
    """

    name = "annealing"
    title = "Learning-rate annealing law"
    parameters = (_L_0, _A, _ALPHA, _C, _TAU)
    linear = ("L_0", "A", "C")
    by_area = False
    latex = rf"L_j(t) = L_0 + A\,S_1(t)^{{-\alpha}} - C {_SUM}"
    reference = "Tissue, Wang and Wang 2024, arXiv 2408.11029"

    def formula(self, t, j, L_0, A, alpha, C, tau):
        on = self.terms(t, j)
        return L_0 + A * on.area**-alpha - C * annealing_area(on, tau)

    @staticmethod
    def memory(decay: float) -> float:
        """tau, in steps, of a decay lambda between 0 and 1: .999 is 999.5 steps."""
        if not 0 < decay < 1:
            raise ValueError(f"lambda is {decay!r}; it must lie between 0 and 1, such as 0.999")
        return float(-1 / np.log(decay))


class AnnealingSize(ScheduleLaw):
    """``L(t, N) = L_0 + A S_1^-alpha + B N^-beta - C S_2``: the annealing law for models of several sizes N.

    S_1 and S_2 as in `Annealing`; the term in N is added as in Chinchilla's law. Form as commonly quoted for
    Tissue, Wang and Wang 2024; equation not checked against the paper. B and beta are determined only by
    curves of several sizes, at least three.
    """

    name = "annealing_size"
    title = "Learning-rate annealing law with model size"
    inputs = (*ScheduleLaw.inputs, Input("N", "params"))
    parameters = (
        _L_0,
        _A,
        _ALPHA,
        Parameter("B", "reducible loss of size at N = 1", "loss"),
        Parameter("beta", "exponent of size", "", high=20.0, start=(0.1, 1.0)),
        _C,
        _TAU,
    )
    linear = ("L_0", "A", "B", "C")
    by_area = False
    latex = rf"L_j(t, N) = L_0 + A\,S_1(t)^{{-\alpha}} + B\,N^{{-\beta}} - C {_SUM}"
    reference = "after Tissue, Wang and Wang 2024, arXiv 2408.11029"

    def formula(self, t, j, N, L_0, A, alpha, B, beta, C, tau):
        on = self.terms(t, j)
        return L_0 + A * on.area**-alpha + B * N**-beta - C * annealing_area(on, tau)


def annealing_area(on, tau):
    """S_2: a fall n steps ago has saved ``1 + lambda + ... + lambda^(n-1) = (1 - lambda^n) / (1 - lambda)``."""
    saved = np.expm1(-on.age / tau) / np.expm1(-1.0 / tau)
    return np.add.reduceat(on.drop * saved, on.first, axis=-1)
