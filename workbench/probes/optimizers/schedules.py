"""Learning-rate schedules as tables: one multiplier of the peak learning rate for every step."""

from __future__ import annotations

import numpy as np

from workbench.probes.spec import Probe

__all__ = ["multipliers"]


def multipliers(probe: Probe) -> np.ndarray:
    """Multipliers [steps] (float64) of the probe's peak learning rate.

    The warm-up takes round(warmup * steps) steps and rises linearly to 1 at its last one. The decay
    starts at 1 and would reach 0 one step after the end, so that no step is wasted. A table holds from the
    end of the warm-up on, which rises to its first multiplier.
    """
    steps = probe.steps
    warm = round(probe.warmup * steps)
    rise = np.arange(1, warm + 1) / max(warm, 1)
    done = np.arange(steps - warm) / (steps - warm)
    if probe.schedule == "table":
        return np.concatenate([rise * probe.table[0][1], _between(np.array(probe.table), done)])
    fall = {"linear": 1 - done, "cosine": 0.5 * (1 + np.cos(np.pi * done)), "constant": np.ones_like(done)}
    return np.concatenate([rise, fall[probe.schedule]])


def _between(corners: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Straight lines between `corners` [C, 2] at `at` [n] in [0, 1); at a jump the later value holds."""
    left = np.searchsorted(corners[:, 0], at, side="right") - 1
    (x0, y0), (x1, y1) = corners[left].T, corners[left + 1].T
    return y0 + (y1 - y0) * (at - x0) / (x1 - x0)
