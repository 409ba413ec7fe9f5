"""Task scores as a function of loss: an exponential towards chance, and a sigmoid above it."""

from __future__ import annotations

import numpy as np

from workbench.laws.base import Input, Law, Parameter

__all__ = ["ExponentialLink", "SigmoidLink"]

_L = (Input("L", "loss"),)


class ExponentialLink(Law):
    """``Err(L) = epsilon - k exp(-gamma L)``: the mean error of many tasks rises with the loss to epsilon.

    Gadre et al. 2024 (arXiv 2403.08540, eq. 5): "a power law in perplexity", as ``exp(-gamma L)`` is perplexity to
    the power -gamma. Of an average over tasks it is smooth; of one task it need not be.
    """

    name = "exponential_link"
    title = "Exponential in the loss"
    inputs = _L
    parameters = (
        Parameter("epsilon", "error of a model that knows nothing", "error"),
        Parameter("k", "error gained at loss 0", "error"),
        Parameter("gamma", "exponent of perplexity", high=50.0, start=(0.05, 5.0)),
    )
    linear = ("epsilon", "k")
    trend = "rises"
    latex = r"\epsilon - k\,e^{-\gamma L}"
    reference = "Gadre et al. 2024, arXiv 2403.08540, eq. 5"

    @staticmethod
    def formula(L, epsilon, k, gamma):
        return epsilon - k * np.exp(-gamma * L)


class SigmoidLink(Law):
    """``S(L) = c + a / (1 + exp((L - L_0)/w))``: a score rises from chance c by a as the loss falls past L_0.

    The second step of two-step task prediction as in Bhagia et al. 2024 (arXiv 2412.04403), there with their own
    letters. Where chance is known, hold it: ``fixed={"c": 0.25}`` for four choices. Nothing bounds c + a by 1;
    a fit that exceeds it has not seen the upper bend.
    """

    name = "sigmoid_link"
    title = "Sigmoid in the loss"
    inputs = _L
    parameters = (
        Parameter("c", "score by chance", "score", high=1e3),
        Parameter("a", "score to be gained", "score"),
        Parameter("L_0", "loss at which half of it is gained", "nats/token", start=(0.5, 1.2), of="L"),
        Parameter("w", "width of the rise", "nats/token", start=(0.05, 3.0)),
    )
    linear = ("c", "a")
    floor = "c"
    latex = r"c + \frac{a}{1 + e^{(L - L_0)/w}}"
    reference = "after Bhagia et al. 2024, arXiv 2412.04403"

    @staticmethod
    def formula(L, c, a, L_0, w):
        # the logistic function as a hyperbolic tangent, which does not overflow
        return c + a * (0.5 - 0.5 * np.tanh((L - L_0) / (2 * w)))
