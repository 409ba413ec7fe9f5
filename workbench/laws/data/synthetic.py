"""Training on generated data: a floor from what the generator forgot, and errors that pile up or do not."""

from __future__ import annotations

import numpy as np

from workbench.laws.base import Input, Law, Parameter

__all__ = ["LossOfScaling", "ReplaceOrAccumulate", "TailCut"]

_E = Parameter("E", "irreducible loss", "loss")
_A = Parameter("A", "size of the loss from finite training data", "loss")
_T = Input("T", "tokens")

#: Generations followed one by one; the sum over them stops there.
MAX_GENERATIONS = 4096


class TailCut(Law):
    """``L(T, k) = E + A T^-((beta - 1)/beta) + B k^-(beta - 1)``: a tail that is cut off leaves a floor.

    The world's facts follow a Zipf law ``p_i ~ i^-beta``; generated data hold only the k commonest ones (top-k or
    nucleus sampling, low temperature, a generator that never saw the rest). Training on T tokens of them helps as
    before, ``T^-c`` with ``c = (beta - 1)/beta``, down to the mass of the tail that is missing, ``k^-(beta - 1)``.
    Dohmatob et al. 2024, "A Tale of Tails" (arXiv 2402.07043); form as commonly quoted, equation number not
    checked against the paper. The tests derive both exponents from a memorising learner.
    """

    name = "tail_cut"
    title = "Cut tail"
    inputs = (_T, Input("k", "vocab"))
    parameters = (
        _E,
        _A,
        Parameter("B", "size of the loss from the tail cut off", "loss"),
        Parameter("beta", "Zipf exponent of the data", low=1.0, high=20.0, start=(1.05, 3.0)),
    )
    linear = ("E", "A", "B")
    floor = "E"
    latex = r"E + A\,T^{-(\beta - 1)/\beta} + B\,k^{-(\beta - 1)}"
    reference = "Dohmatob et al. 2024, arXiv 2402.07043"

    @staticmethod
    def formula(T, k, E, A, B, beta):
        return E + A * T ** -((beta - 1) / beta) + B * k ** -(beta - 1)


class LossOfScaling(Law):
    """``L(T, T_0, n) = E + A T^-c + B n T_0^-c``: n generations of data, each generated from T_0 tokens.

    T tokens are seen in training, ``unique_tokens`` T_0 are what every generator in the chain was trained on, n
    counts the generations between the real data and these (0: the data are real). However many tokens are
    generated, the loss stays above ``B n T_0^-c``: the scaling in T is lost. Dohmatob et al. 2024, "A Tale of
    Tails" (arXiv 2402.07043); form as commonly quoted, equation number not checked against the paper. The factor
    n is for a handful of generations: where each one only resamples the last, the missing mass grows slower, about
    like ``n^c`` (the tests compute it), and the law is then an upper bound.
    """

    name = "loss_of_scaling"
    title = "Loss of scaling"
    inputs = (_T, Input("T_0", "unique_tokens"), Input("n", "generations", zero=True))
    parameters = (
        _E,
        _A,
        Parameter("B", "size of the loss added by one generation", "loss"),
        Parameter("c", "exponent of tokens", high=20.0),
    )
    linear = ("E", "A", "B")
    trend = ""
    latex = r"E + A\,T^{-c} + B\,n\,T_0^{-c}"
    reference = "Dohmatob et al. 2024, arXiv 2402.07043"

    @staticmethod
    def formula(T, T_0, n, E, A, B, c):
        return E + A * T**-c + B * n * T_0**-c


class ReplaceOrAccumulate(Law):
    """``L(T, n) = E + S d/(T - d - 1) sum_{i=1}^{n+1} i^-p``: p = 0 replaces the data, p = 2 accumulates them.

    Linear regression in d dimensions with label noise of variance S: T samples are labelled by the previous
    model, n generations after the real ones. If each generation's data replace the last, the errors add up,
    ``(n + 1) S d/(T - d - 1)``; if they are added to all earlier data, they stay below pi^2/6 of one generation's
    error, however many follow. Gerstgrasser et al. 2024 (arXiv 2404.01413), who count the model of the real data
    as the first; form as commonly quoted, equation numbers not checked. A fitted p between says how far a
    mixture of old and new data protects. Generations that are no whole number are interpolated.
    """

    name = "replace_or_accumulate"
    title = "Replace or accumulate"
    inputs = (_T, Input("n", "generations", zero=True))
    parameters = (
        _E,
        Parameter("S", "error added by one generation where T is twice d", "loss"),
        Parameter("d", "number of things to learn from the data", "x", start=(0.01, 0.9), of="T"),
        Parameter("p", "0: data replaced each generation; 2: accumulated", low=-5.0, high=20.0, start=(0.0, 3.0)),
    )
    linear = ("E", "S")
    trend = ""
    latex = r"E + \frac{S\,d}{T - d - 1}\sum_{i=1}^{n+1} i^{-p}"
    reference = "Gerstgrasser et al. 2024, arXiv 2404.01413"

    @staticmethod
    def formula(T, n, E, S, d, p):
        # The expected error is infinite from T = d + 1 downwards; a large number keeps the fit on its way.
        return E + S * d / np.maximum(T - d - 1, 1e-9 * T) * _sum_of_powers(n, p)

    def guess(self, x, y, n, rng):
        """Draw d below the smallest T, where the law is finite."""
        theta = super().guess(x, y, n, rng)
        theta[:, 2] = np.minimum(theta[:, 2], 0.9 * x["T"].min())
        return self.clip(theta)


def _sum_of_powers(n: np.ndarray, p):
    """``sum_{i=1}^{n+1} i^-p`` for n ``[m]``, the last term in proportion where n is no whole number."""
    last = int(min(np.ceil(n.max()), MAX_GENERATIONS)) + 1
    total = 0.0 * p
    for i in range(1, last + 1):
        total = total + float(i) ** -p * np.clip(n + 2 - i, 0.0, 1.0)
    return total
