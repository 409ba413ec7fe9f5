"""Step Law: the best learning rate and batch size as powers of model size and data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.laws.base import Input, Law, Parameter

__all__ = ["PUBLISHED", "StepLaw", "StepLawBatch", "Suggestion", "suggest"]

#: Constants of Li et al. 2025: N without embeddings, D and B in tokens, AdamW, final learning rate 1e-5.
PUBLISHED = {
    "step_law": {"c": 1.79, "a": -0.713, "b": 0.307},
    "step_law_batch": {"c": 0.58, "b": 0.571},
}


class StepLaw(Law):
    """``lr(N, D) = c N^a D^b``: the best peak learning rate, lower for larger models, higher for more data.

    Li et al. 2025 (arXiv 2503.04715; form and constants as commonly quoted, the equation number was not
    checked against the paper). Fit it with ``y="lr"``; with ``y="batch_tokens"`` it is a batch size that
    may depend on N as well, which the paper's form rules out. The published constants count N without
    embeddings: ``inputs={"N": "params_non_embedding"}``. Exponents may have either sign.
    """

    name = "step_law"
    title = "Step Law, learning rate"
    inputs = (Input("N", "params"), Input("D", "tokens"))
    parameters = (
        Parameter("c", "learning rate at N = D = 1", "loss", start=(1e-4, 1e4)),
        Parameter("a", "exponent of parameters", low=-20.0, high=20.0, start=(-1.5, 0.5)),
        Parameter("b", "exponent of tokens", low=-20.0, high=20.0, start=(-0.5, 1.5)),
    )
    linear = ("c",)
    trend = ""
    latex = r"c\,N^{a}\,D^{b}"
    reference = "Li et al. 2025, Predictable Scale: Part I, arXiv 2503.04715"

    @staticmethod
    def formula(N, D, c, a, b):
        return c * N**a * D**b


class StepLawBatch(Law):
    """``B(D) = c D^b``: the best batch size in tokens grows with the data alone.

    Li et al. 2025 (arXiv 2503.04715; form and constants as commonly quoted, the equation number was not
    checked against the paper). Fit it with ``y="batch_tokens"``; ``step_law`` is the larger law in which
    the batch may depend on N too.
    """

    name = "step_law_batch"
    title = "Step Law, batch size"
    inputs = (Input("D", "tokens"),)
    parameters = (
        Parameter("c", "batch size at D = 1", "loss", start=(1e-4, 1e4)),
        Parameter("b", "exponent of tokens", low=-20.0, high=20.0, start=(-0.5, 1.5)),
    )
    linear = ("c",)
    trend = ""
    latex = r"c\,D^{b}"
    reference = "Li et al. 2025, Predictable Scale: Part I, arXiv 2503.04715"

    @staticmethod
    def formula(D, c, b):
        return c * D**b


@dataclass(frozen=True)
class Suggestion:
    """What the published Step Law advises.

    Attributes:
        lr: peak learning rate.
        batch_tokens: batch size in tokens.
        steps: tokens over batch size.
    """

    lr: float
    batch_tokens: float
    steps: float


def suggest(params: float, tokens: float) -> Suggestion:
    """Peak learning rate and batch size by the published constants of Step Law.

    The authors' own bootstrap knows the prefactor of the learning rate only within a factor of three either
    way, which makes this a place to start a sweep, and no replacement for it.

    Args:
        params: parameters without embeddings.
        tokens: training tokens.

    Raises:
        ValueError: a number that is not positive and finite.
    """
    for what, value in (("params", params), ("tokens", tokens)):
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"{what} is {value!r}; give a positive number, such as 1e9")
    lr = StepLaw().predict(PUBLISHED["step_law"], {"N": [params], "D": [tokens]})[0]
    batch = StepLawBatch().predict(PUBLISHED["step_law_batch"], {"D": [tokens]})[0]
    return Suggestion(float(lr), float(batch), float(tokens / batch))
