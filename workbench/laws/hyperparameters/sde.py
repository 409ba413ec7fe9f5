"""Scaling rules between batch sizes from stochastic differential equations: linear for SGD, square root for Adam.

These are functions and not laws: they have no parameters to fit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["LIMIT", "AdamSettings", "linear_rule", "square_root_rule"]

#: kappa (1 - beta) from which the averages of Adam reach back a step or two only, and the rule no longer holds.
LIMIT = 0.3


@dataclass(frozen=True)
class AdamSettings:
    """Settings of Adam at one batch size.

    Attributes:
        lr: learning rate.
        beta1, beta2: decay of the averages of gradient and squared gradient.
        eps: what is added to the root of the second average.
        warnings: sentences on why the rule may not hold here; empty where it should.
    """

    lr: float
    beta1: float
    beta2: float
    eps: float
    warnings: tuple[str, ...] = ()


def square_root_rule(
    kappa: float, lr: float, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8
) -> AdamSettings:
    """Adam's settings after the batch became `kappa` times as large.

    ``lr sqrt(kappa)``, ``1 - beta -> kappa (1 - beta)`` for both betas and ``eps / sqrt(kappa)``, under which
    the stochastic differential equation of the small steps stays the same in time measured in examples:
    one new step stands for kappa old ones (Malladi et al. 2022, arXiv 2205.10287, the square-root scaling
    rule; form as commonly quoted, checked here by simulation). It supposes that gradient noise, and not the
    gradient, sets the size of Adam's denominator.

    Args:
        kappa: new batch over old batch.
        lr, beta1, beta2, eps: settings at the old batch.

    Returns:
        The new settings. Where ``kappa (1 - beta)`` comes near 1 the average forgets within a step; the
        warning says so. A beta that would turn negative is set to 0.

    Raises:
        ValueError: a number outside its range.
    """
    _positive(kappa, "kappa")
    _positive(lr, "lr")
    if not (math.isfinite(eps) and eps >= 0):
        raise ValueError(f"eps is {eps!r}; give a number of at least 0, such as 1e-8")
    betas, warnings = [], []
    for name, beta in (("beta1", beta1), ("beta2", beta2)):
        if not 0 <= beta < 1:
            raise ValueError(f"{name} is {beta!r}; a decay lies in [0, 1), such as 0.9")
        forgets = kappa * (1 - beta)
        betas.append(max(0.0, 1 - forgets))
        if forgets > LIMIT and beta > 0:  # with a beta of 0 there is no average to lose
            warnings.append(
                f"kappa (1 - {name}) = {forgets:.3g} is not small: the average spans about {max(1 / forgets, 1):.2g} "
                f"steps, so the rule is no longer a good approximation; take a smaller kappa"
            )
    return AdamSettings(lr * math.sqrt(kappa), betas[0], betas[1], eps / math.sqrt(kappa), tuple(warnings))


def linear_rule(kappa: float, lr: float) -> float:
    """SGD's learning rate after the batch became `kappa` times as large: ``kappa lr``.

    Goyal et al. 2017 (arXiv 1706.02677); it keeps the stochastic differential equation of SGD the same in
    time measured in examples, as long as the steps stay small against the curvature.

    Raises:
        ValueError: a number that is not positive.
    """
    _positive(kappa, "kappa")
    _positive(lr, "lr")
    return kappa * lr


def _positive(value: float, name: str) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} is {value!r}; give a positive number")
