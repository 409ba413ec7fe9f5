"""The weights of a probe at step 0."""

from __future__ import annotations

import torch

from workbench.probes.parametrization import scales
from workbench.probes.spec import Probe

__all__ = ["initial_weights"]


def initial_weights(probe: Probe) -> dict[str, torch.Tensor]:
    """The weights of one member at step 0, a function of its probe alone (drawn on the CPU, float32).

    Normal numbers from the probe's seed, weight after weight in the order of `Model.weights`.
    """
    generator = torch.Generator().manual_seed(probe.seed)
    found = probe.model_settings.weights(probe.task_settings)
    drawn = {}
    for name, scale in scales(probe, found).items():
        weight = found[name]
        # drawn also where it is not used, so that the draws of later weights do not depend on it
        noise = torch.randn(weight.shape, generator=generator)
        drawn[name] = (
            weight.mean + noise * (scale.std * probe.init_scale) if scale.std else torch.full(weight.shape, weight.mean)
        )
    return drawn
