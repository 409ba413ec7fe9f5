"""Parametrizations: how initial size, forward multiplier and learning rate of a weight follow width and depth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.probes.models.base import Weight

if TYPE_CHECKING:
    from workbench.probes.spec import Probe

__all__ = ["Scale", "scales"]


@dataclass(frozen=True)
class Scale:
    """What a parametrization makes of one weight.

    Attributes:
        std: initial standard deviation.
        multiplier: of the weight in the forward pass.
        lr: multiplier of the run's learning rate; 0 keeps the weight as drawn.
    """

    std: float
    multiplier: float = 1.0
    lr: float = 1.0


def scales(probe: Probe, weights: Mapping[str, Weight]) -> dict[str, Scale]:
    """The scale of every weight of the probe's model, by name.

    The same shapes, the same rules: members of a stack share them.
    """
    return {name: _with_rates(probe, name, weight, _standard(weight)) for name, weight in weights.items()}


def _standard(weight: Weight) -> Scale:
    return Scale(weight.std)


def _with_rates(probe: Probe, name: str, weight: Weight, scale: Scale) -> Scale:
    """The scale with the probe's own rates for layers; the longest matching start of the name wins."""
    rate = 1.0
    for prefix, given in sorted(probe.layer_rates, key=lambda pair: len(pair[0])):
        if name.startswith(prefix):
            rate = given
    return Scale(scale.std, scale.multiplier, 0.0 if weight.role == "frozen" else scale.lr * rate)
