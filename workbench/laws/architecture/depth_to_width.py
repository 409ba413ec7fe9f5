"""How deep a transformer of a given size should be."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.optimize import brentq

from workbench.laws.base import Input, Law, Parameter

__all__ = ["PUBLISHED", "DepthToWidth", "best_shape", "transition_params"]

#: Constants as commonly quoted from Levine et al. 2020; not checked against the paper. They reproduce the
#: width of 30 thousand for 10^12 parameters that its abstract states.
PUBLISHED = {"a": 5.039, "b": 0.0555}


class DepthToWidth(Law):
    """``width(l) = exp(a + b l)``: the width from which a network of depth l is worth its depth.

    Self-attention gains from depth only up to a depth logarithmic in the width (Levine et al. 2020, "Limits
    to Depth-Efficiencies of Self-Attention", arXiv 2006.12467; form as commonly quoted, equation numbers not
    checked). Fit with ``y="width"`` to the widths at which a deeper network begins to win.
    """

    name = "depth_to_width"
    title = "Depth to width"
    inputs = (Input("l", "depth"),)
    parameters = (
        Parameter("a", "log of the width at depth 0", low=-50.0, high=50.0, start=(-2.0, 10.0)),
        Parameter("b", "growth of log width with each layer", low=-10.0, high=10.0, start=(-0.1, 0.3)),
    )
    trend = ""
    latex = r"e^{a + b\,l}"
    reference = "Levine et al. 2020, Limits to Depth-Efficiencies of Self-Attention, arXiv 2006.12467"

    @staticmethod
    def formula(l, a, b):  # noqa: E741 - the letter of the literature for depth
        return np.exp(a + b * l)


def transition_params(depth: float, parameters: Mapping[str, float] = PUBLISHED) -> float:
    """Parameters ``12 l width(l)^2`` from which depth `depth` is the best, embeddings not counted.

    Args:
        depth: layers l.
        parameters: symbol -> value of `DepthToWidth`.

    Raises:
        ValueError: a depth that is not positive.
    """
    if not depth > 0:
        raise ValueError(f"depth is {depth!r}; give a positive number of layers")
    return float(12 * depth * np.exp(2 * (parameters["a"] + parameters["b"] * depth)))


def best_shape(params: float, parameters: Mapping[str, float] = PUBLISHED) -> tuple[float, float]:
    """Depth and width of the network of `params` parameters that lies on the transition.

    Args:
        params: parameters without embeddings, counted as 12 l width^2.
        parameters: symbol -> value of `DepthToWidth`; b must be positive.

    Returns:
        ``(depth, width)``, real numbers.

    Raises:
        ValueError: fewer parameters than one layer on the transition has, or b not positive.
    """
    if not parameters["b"] > 0:
        raise ValueError(f"b is {parameters['b']!r}; only with a positive b does the best depth grow with size")
    smallest = transition_params(1.0, parameters)
    if not (np.isfinite(params) and params >= smallest):
        raise ValueError(f"params is {params!r}; with one layer the transition already has {smallest:.3g}")
    upper = 2.0
    while transition_params(upper, parameters) < params:
        upper *= 2
    depth = brentq(lambda l: np.log(transition_params(l, parameters) / params), 1.0, upper)  # noqa: E741
    return float(depth), float(np.exp(parameters["a"] + parameters["b"] * depth))
