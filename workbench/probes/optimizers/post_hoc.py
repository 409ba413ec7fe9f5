"""Post-hoc averages of weights: keep two while training, have any other afterwards (Karras et al. 2024).

A power-function average of gamma weighs the weights after step s, at step t, by s^gamma (arXiv 2312.02696,
section 3). Its width sigma_rel is the standard deviation of that profile as a share of t. Sums of stored
averages, taken at several steps, come close to the profile of an average that nobody kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from workbench.probes import late_torch as torch

if TYPE_CHECKING:
    from workbench.probes.optimizers.stack import Context

__all__ = ["WIDEST", "PostHoc", "gamma_of", "profile", "reconstruct", "reconstruction", "width_of"]

#: sigma_rel of the plain mean of all steps, gamma = 0.
WIDEST = math.sqrt(1 / 12)


def width_of(gamma: float) -> float:
    """sigma_rel of the profile s^gamma on (0, t], as a share of t: the standard deviation of a Beta(gamma + 1, 1)."""
    return math.sqrt((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3)))


def gamma_of(sigma_rel: float) -> float:
    """The exponent gamma >= 0 whose profile has that width; the inverse of `width_of`.

    Raises:
        ValueError: the width is not between 0 (excluded) and `WIDEST`.
    """
    if not 0 < sigma_rel <= WIDEST + 1e-12:
        raise ValueError(f"sigma_rel={sigma_rel} is not a width; it must lie between 0 (excluded) and {WIDEST:.4f}.")
    # (gamma + 2)^2 (gamma + 3) = (gamma + 1) / sigma^2
    inverse = sigma_rel**-2
    roots = np.roots([1, 7, 16 - inverse, 12 - inverse])
    return max(0.0, float(roots.real[np.abs(roots.imag) < 1e-6 * np.abs(roots)].max()))


def profile(gamma: float, step: int, steps: int) -> np.ndarray:
    """Weights of steps 1 to `steps` in the average at `step`, [steps] (float64), summing to 1.

    With a(t) = b(t) a(t - 1) + (1 - b(t)) w(t) and b(t) = (1 - 1/t)^(gamma + 1), the products of b telescope:
    the weight of s is (s^(gamma + 1) - (s - 1)^(gamma + 1)) / step^(gamma + 1), and 0 after `step`.
    """
    share = np.minimum(np.arange(steps + 1) / step, 1.0) ** (gamma + 1)
    return np.diff(share)


class PostHoc:
    """The power-function averages of a stack in training.

    Attributes:
        gammas: exponent of each of the K averages.
        points: the S evaluation steps after step 0, at which they are stored.
        slots: ``averages`` [E, K, P], and ``snapshots`` [E, S, K, P]: what was stored at each of `points`.
    """

    def __init__(self, context: Context, widths: Sequence[float]) -> None:
        from workbench.probes.trainer import eval_steps

        self.context, self.gammas = context, [gamma_of(width) for width in widths]
        self.points = [step for step in eval_steps(context.probes[0]) if step]
        e, p = context.weights.data.shape
        shape = (e, len(self.points), len(self.gammas), p)
        self.slots = {
            "averages": context.weights.data.new_zeros(e, len(self.gammas), p),
            "snapshots": context.weights.data.new_zeros(shape),
        }
        count = np.arange(1, context.steps + 1)[:, None]
        gain = 1 - (1 - 1 / count) ** (np.array(self.gammas) + 1)  # [steps, K]
        self._gain = context.by_step(gain)
        # The average is written to the place of the next evaluation at every step, so that a CUDA graph
        # need not know which step it is; what stays there is what the evaluation step wrote.
        upcoming = np.searchsorted(self.points, np.arange(1, context.steps + 1))
        self._upcoming = torch.tensor(upcoming, device=context.device)

    def update(self, data: torch.Tensor) -> None:
        """Take in the weights [E, P] after a step, whose number is still that of the step before."""
        averages = self.slots["averages"]
        averages.lerp_(data[:, None], self._gain())
        place = self._upcoming.index_select(0, self.context.step)
        self.slots["snapshots"].index_copy_(1, place, averages[:, None])


def reconstruction(gammas: Sequence[float], points: Sequence[int], gamma: float, step: int) -> tuple[np.ndarray, float]:
    """How to mix stored averages into the average of `gamma` at `step`.

    Args:
        gammas: exponents of the K averages.
        points: steps at which they were stored; those after `step` are not used.
        gamma, step: of the average that is wanted.

    Returns:
        Coefficients [S, K] (0 where not used, summing to 1) that make the mixture's profile closest to the wanted
        one in least squares over steps, and the norm of what is left, as a share of the wanted profile's norm.

    Raises:
        ValueError: nothing was stored up to `step`.
    """
    used = [at for at in points if at <= step]
    if not used:
        raise ValueError(f"no average was stored up to step {step}; the first was at {min(points)}.")
    stored = np.stack([profile(g, at, step) for at in used for g in gammas], axis=1)  # [step, S K]
    wanted = profile(gamma, step, step)
    # The coefficients sum to 1 exactly (the last is what the others leave): weights that stand still must
    # come out unchanged. The paper's least squares does not ask for that.
    last = stored[:, -1]
    others = np.linalg.lstsq(stored[:, :-1] - last[:, None], wanted - last, rcond=1e-10)[0]
    mixture = np.append(others, 1 - others.sum())
    left = float(np.linalg.norm(stored @ mixture - wanted) / np.linalg.norm(wanted))
    coefficients = np.zeros((len(points), len(gammas)))
    coefficients[: len(used)] = mixture.reshape(len(used), -1)
    return coefficients, left


def reconstruct(
    snapshots: torch.Tensor, widths: Sequence[float], points: Sequence[int], sigma_rel: float, step: int
) -> tuple[torch.Tensor, float]:
    """The weights averaged with another width, from stored averages.

    Args:
        snapshots: [..., S, K, P]: of a stack (`PostHoc.slots`) or of one member (`Result.snapshots`, or a
            checkpoint's ``post_hoc.snapshots``).
        widths: sigma_rel of the K averages.
        points: the S steps at which they were stored, rising.
        sigma_rel: the wanted width, between 0 and `WIDEST`.
        step: the step whose average is wanted, at most the last of `points`.

    Returns:
        The average [..., P] (float32), and the relative error of its profile (see `reconstruction`).
    """
    coefficients, left = reconstruction([gamma_of(w) for w in widths], points, gamma_of(sigma_rel), step)
    # coefficients of both signs cancel, so they meet in float64
    mix = torch.tensor(coefficients, device=snapshots.device)[..., None]
    return (snapshots.double() * mix).sum((-3, -2)).float(), left
