"""Learning-rate schedules as tables: one multiplier of the peak learning rate for every step."""

from __future__ import annotations

import numpy as np

from workbench.probes.spec import Probe

__all__ = ["multipliers"]


def multipliers(probe: Probe) -> np.ndarray:
    """Multipliers [steps] (float64) in (0, 1] of the probe's peak learning rate.

    The warm-up takes round(warmup * steps) steps and rises linearly to 1 at its last one. The decay
    starts at 1 and would reach 0 one step after the end, so that no step is wasted.
    """
    steps = probe.steps
    warm = round(probe.warmup * steps)
    rise = np.arange(1, warm + 1) / max(warm, 1)
    done = np.arange(steps - warm) / (steps - warm)
    fall = {"linear": 1 - done, "cosine": 0.5 * (1 + np.cos(np.pi * done)), "constant": np.ones_like(done)}
    return np.concatenate([rise, fall[probe.schedule]])
