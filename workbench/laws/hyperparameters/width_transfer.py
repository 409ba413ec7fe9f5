"""The best learning rate against width, and the exponent that theory gives for each parametrization."""

from __future__ import annotations

from workbench.laws.base import Input, Law, Parameter

__all__ = ["LAYERS", "OPTIMIZERS", "PARAMETRIZATIONS", "WidthTransfer", "width_exponent"]

#: Parametrization -> layer -> (a, b): weights are ``n^-a w`` with ``w ~ N(0, n^-2b)`` at width n.
PARAMETRIZATIONS = {
    "standard": {"embedding": (0.0, 0.0), "hidden": (0.0, 0.5), "readout": (0.0, 0.5)},
    "ntk": {"embedding": (0.0, 0.0), "hidden": (0.5, 0.0), "readout": (0.5, 0.0)},
    "mup": {"embedding": (-0.5, 0.5), "hidden": (0.0, 0.5), "readout": (0.5, 0.5)},
    "mean-field": {"embedding": (0.0, 0.0), "hidden": (0.5, 0.0), "readout": (1.0, 0.0)},
}
LAYERS = ("embedding", "hidden", "readout")
OPTIMIZERS = ("sgd", "adam", "adafactor")


class WidthTransfer(Law):
    """``lr(n) = kappa n^-p``: the best learning rate against width n.

    p depends on parametrization, optimizer and layer (Everett et al. 2024, arXiv 2407.05872);
    `width_exponent` has what theory expects. A p of 0 is transfer of the learning rate across width. Fit
    with ``y="lr"``.
    """

    name = "width_transfer"
    title = "Learning rate against width"
    inputs = (Input("n", "width"),)
    parameters = (
        Parameter("kappa", "learning rate at width 1", "loss"),
        Parameter("p", "exponent of the width", low=-20.0, high=20.0, start=(-0.5, 1.5)),
    )
    linear = ("kappa",)
    trend = ""
    latex = r"\kappa\,n^{-p}"
    reference = "Everett et al. 2024, Scaling Exponents Across Parameterizations and Optimizers, arXiv 2407.05872"

    @staticmethod
    def formula(n, kappa, p):
        return kappa * n**-p


def width_exponent(
    parametrization: str = "standard", optimizer: str = "adam", layer: str = "global", alignment: str = "full"
) -> float:
    """The p of ``lr ~ n^-p`` at which a layer's update changes its output by as much at every width.

    Derived here from that condition, for weights ``n^-a w``; it gives the table commonly quoted from
    Everett et al. 2024 (arXiv 2407.05872), which was not checked entry by entry. An update of entries u,
    summed over n inputs, changes the output by ``u n^A`` with A = 1 if weights and inputs are aligned,
    A = 1/2 if they are not, and A = 0 at the embedding, whose inputs do not grow. Adam's u is
    ``n^-a lr``, hence ``p = A - a``. Adafactor multiplies by the weights' size n^-b: ``p = A - a - b``.
    SGD's u is ``n^-2a lr g`` with a backward signal g below the readout as small as the readout's weights,
    ``n^-min(a + b, A)`` of the readout.

    Args:
        parametrization: one of `PARAMETRIZATIONS`.
        optimizer: one of `OPTIMIZERS`.
        layer: one of `LAYERS`, or ``global`` for one learning rate for all layers, which the layer with the
            largest p limits.
        alignment: ``full`` or ``none``.

    Raises:
        ValueError: a name that is none of these.
    """
    for given, known, what in (
        (parametrization, tuple(PARAMETRIZATIONS), "parametrization"),
        (optimizer, OPTIMIZERS, "optimizer"),
        (layer, (*LAYERS, "global"), "layer"),
        (alignment, ("full", "none"), "alignment"),
    ):
        if given not in known:
            raise ValueError(f"no {what} is called {given!r}; choose one of {', '.join(known)}")
    if layer == "global":
        return max(width_exponent(parametrization, optimizer, each, alignment) for each in LAYERS)
    aligned = 1.0 if alignment == "full" else 0.5
    a, b = PARAMETRIZATIONS[parametrization][layer]
    gain = 0.0 if layer == "embedding" else aligned
    if optimizer == "adam":
        return gain - a
    if optimizer == "adafactor":
        return gain - a - b
    backward = 0.0 if layer == "readout" else min(sum(PARAMETRIZATIONS[parametrization]["readout"]), aligned)
    return gain - 2 * a - backward
