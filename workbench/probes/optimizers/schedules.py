"""Learning-rate schedules as tables: one multiplier of the peak learning rate for every step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from workbench.probes.spec import Probe

__all__ = ["multipliers"]

#: Where one_cycle starts, as a share of the peak (the usual default of its implementations).
_CYCLE_START = 1 / 25


def multipliers(probe: Probe) -> np.ndarray:
    """Multipliers [steps] (float64) of the probe's peak learning rate.

    The warm-up takes round(warmup * steps) steps and rises linearly to 1 at its last one. A decay starts at
    1 and would reach `lr_end` one step after the end, so that no step is wasted.

    - ``linear``, ``cosine``: decay over all steps after the warm-up; ``constant``: none.
    - ``wsd``: constant, then linear over the last round(decay * steps) steps (warm-up, stable, decay: Hu et
      al. 2024, arXiv 2404.06395).
    - ``one_cycle``: half a cosine up from 1/25 during the warm-up, half a cosine down (Smith & Topin 2017,
      arXiv 1708.07120, with cosines in place of straight lines).
    - ``inverse_sqrt``: sqrt(w / t) after w >= 1 steps of warm-up (Vaswani et al. 2017, arXiv 1706.03762, eq. 3).
    - ``table``: straight lines between the corners from the end of the warm-up on, which rises to the first.
    """
    steps = probe.steps
    warm = round(probe.warmup * steps)
    rise = np.arange(1, warm + 1) / max(warm, 1)
    done = np.arange(steps - warm) / max(1, steps - warm)
    if probe.schedule == "table":
        return np.concatenate([rise * probe.table[0][1], _between(np.array(probe.table), done)])
    if probe.schedule == "one_cycle":
        rise = _CYCLE_START + (1 - _CYCLE_START) * 0.5 * (1 - np.cos(np.pi * rise))
    return np.concatenate([rise, _fall(probe, warm, done)])


def _fall(probe: Probe, warm: int, done: np.ndarray) -> np.ndarray:
    """Multipliers after the warm-up, at shares `done` of the steps that are left."""
    end = probe.lr_end
    match probe.schedule:
        case "linear":
            return 1 - (1 - end) * done
        case "cosine" | "one_cycle":
            return end + (1 - end) * 0.5 * (1 + np.cos(np.pi * done))
        case "wsd":
            decay = round(probe.decay * probe.steps)
            left = np.arange(len(done), 0, -1)  # steps to go, this one included
            return end + (1 - end) * np.minimum(1.0, left / max(1, decay))
        case "inverse_sqrt":
            return np.sqrt(max(1, warm) / (max(1, warm) + np.arange(len(done))))
        case _:
            return np.ones_like(done)


def _between(corners: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Straight lines between `corners` [C, 2] at `at` [n] in [0, 1); at a jump the later value holds."""
    left = np.searchsorted(corners[:, 0], at, side="right") - 1
    (x0, y0), (x1, y1) = corners[left].T, corners[left + 1].T
    return y0 + (y1 - y0) * (at - x0) / (x1 - x0)
