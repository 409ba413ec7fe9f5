"""Parametrizations at work: the scale of every weight of a probe."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from workbench.probes.models.base import Weight
from workbench.probes.parametrization_rules import RULES, At, Scale

if TYPE_CHECKING:
    from workbench.probes.spec import Probe

__all__ = ["Scale", "multipliers", "scales"]


def scales(probe: Probe, weights: Mapping[str, Weight]) -> dict[str, Scale]:
    """The scale of every weight of the probe's model, by name.

    The same shapes, the same rules: members of a stack share them.
    """
    if probe.parametrization == "standard":
        return {name: _with_rates(probe, name, weight, Scale(weight.std)) for name, weight in weights.items()}
    rule, where = RULES[probe.parametrization], _Places(probe, weights)
    found = {}
    for name, weight in weights.items():
        at = where(name)
        # what is never trained, and a linear model, which has no width, are as the model says
        plain = weight.role == "frozen" or (weight.role == "output" and not at.grows)
        found[name] = _with_rates(probe, name, weight, Scale(weight.std) if plain else rule(weight, at))
    return found


def multipliers(probe: Probe, weights: Mapping[str, Weight]) -> dict[str, float]:
    """Forward multipliers by weight; for an embedding that serves as head too, another one as ``<name>.head``."""
    found = {name: scale.multiplier for name, scale in scales(probe, weights).items()}
    tied = probe.model_settings.tied_head
    if tied is not None and probe.parametrization != "standard":
        table = weights[tied]
        head = Weight(table.shape[::-1], "output", table.std)
        found[f"{tied}.head"] = RULES[probe.parametrization](head, _Places(probe, weights)(tied)).multiplier
    return found


class _Places:
    """The places of a probe's weights, by name.

    How the model itself would start at the base shape is asked from the model. Only sizes are of interest, so
    the other shapes need not be ones that could be trained (heads that do not divide a width).
    """

    def __init__(self, probe: Probe, weights: Mapping[str, Weight]) -> None:
        self.probe, self.weights = probe, weights
        self.thin = self._reshaped(width=probe.base_width)
        self.thick = self._reshaped(width=2 * probe.width)
        self.shallow = self._reshaped(depth=probe.base_depth)
        settings = probe.optimizer_settings
        self.family = settings.family
        if self.family == "adam" and getattr(settings, "relative", False):
            self.family = "relative"
        if self.family == "matrix" and getattr(settings, "muon_scale", "original") == "match_rms":
            self.family = "matched"
        self.branches = sum(w.branch and len(w.shape) > 1 for w in weights.values())
        self.depth = max(1, getattr(probe.model_settings, "depth", probe.base_depth))

    def __call__(self, name: str) -> At:
        weight, base = self.weights[name], self.probe.base_depth
        # a block that the base shape lacks is compared with one that it has
        twin = re.sub(r"(?<![^.])\d+(?![^.])", lambda number: str(int(number[0]) % base), name, count=1)
        return At(
            family=self.family,
            width=self.probe.width,
            wider=self.probe.width / self.probe.base_width,
            deeper=self.depth / base,
            branches=self.branches,
            branch=weight.branch or self.weights.get(name.removesuffix("_bias"), weight).branch,
            inside=self.branches > 0 and any(part.isdigit() for part in name.split(".")),
            base_width_std=self.thin.get(name, weight).std,
            base_depth_std=self.shallow.get(twin, weight).std,
            grows=self.thick.get(name, weight).size > weight.size,
        )

    def _reshaped(self, **shape: int) -> Mapping[str, Weight]:
        model = copy.copy(self.probe.model_settings)
        for name, value in shape.items():
            if hasattr(model, name):
                object.__setattr__(model, name, value)
        return model.weights(self.probe.task_settings)


def _with_rates(probe: Probe, name: str, weight: Weight, scale: Scale) -> Scale:
    """The scale with the probe's own rates for layers; the longest matching start of the name wins."""
    rate = 1.0
    for prefix, given in sorted(probe.layer_rates, key=lambda pair: len(pair[0])):
        if name.startswith(prefix):
            rate = given
    return Scale(scale.std, scale.multiplier, 0.0 if weight.role == "frozen" else scale.lr * rate)
