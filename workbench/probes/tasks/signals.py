"""One-dimensional signals of ten shapes, moved, stretched, tilted and buried in noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from workbench.probes import late_torch as torch
from workbench.probes.component import choice, number, whole
from workbench.probes.tasks.base import Inputs, Task
from workbench.probes.tasks.draws import normal_rows, uniforms
from workbench.probes.tasks.examples import (
    ExampleData,
    label_noise,
    parameters_of,
    task_seed,
    test_size,
    train_size,
)

if TYPE_CHECKING:
    from workbench.probes.spec import Probe

__all__ = ["SignalData", "Signals", "templates"]

#: Position of the first of the five uniform numbers of a signal, far from those of its noise.
_SHAPE = 2**41
_KNOTS = 12
#: Binomial weights of the moving average that makes neighbouring noise alike; their squares sum to 1.
_SMOOTH = tuple(w / 70**0.5 for w in (1, 4, 6, 4, 1))


@dataclass(frozen=True)
class Signals(Task):
    """Which of ten shapes is hidden in a signal; cross-entropy in nats.

    Like MNIST-1D (Greydanus & Kobak, arXiv 2011.14439), not equal to it: the recipe is of that kind (ten
    templates of 12 knots, padding, scaling, translation, correlated and independent noise, shear; 4000
    training and 1000 held-out examples, 40 points), but templates, order of the steps and sizes are this
    workbench's own, so numbers do not carry over.

    A template covers a share of 0.2 to 0.4 of the signal, at a place and with a height (0.8 to 1.2) drawn
    alike from all; around it there is noise of standard deviation `background`, smoothed over five points;
    then a slope within +-`shear` / 2 over the signal and independent noise `jitter` are added everywhere.
    """

    name: ClassVar[str] = "signals"

    points: int = whole(40, 8, 4096, "points L of a signal")
    background: float = number(0.1, 0.0, 100.0, "size of the smooth noise around the template", member=True)
    jitter: float = number(0.02, 0.0, 100.0, "size of the independent noise everywhere", member=True)
    shear: float = number(0.75, 0.0, 100.0, "slopes are drawn from a range of this width", member=True)
    form: str = choice("signals", ("signals", "vectors"), "inputs as [L, 1], or as vectors of L numbers")
    label_noise: float = label_noise()
    train_size: int = train_size(4000)
    test_size: int = test_size(1000)
    task_seed: int = task_seed()

    @property
    def inputs(self) -> Inputs:
        return Inputs("signals", 1, self.points) if self.form == "signals" else Inputs("vectors", self.points)

    @property
    def outputs(self) -> int:
        return 10

    def build(self, probes: Sequence[Probe], device: torch.device) -> SignalData:
        return SignalData(probes, device)


class SignalData(ExampleData):
    """Stacked training sets of signals; see `ExampleData`. Inputs and labels are the same bits on every device."""

    task: Signals

    def prepare(self) -> None:
        self.knots = torch.tensor(templates(), dtype=torch.float32, device=self.device).flatten()
        self.time = torch.arange(self.task.points, device=self.device) / (self.task.points - 1)
        sizes = [(t.background, t.jitter, t.shear) for t in self.tasks]
        self.levels = parameters_of(sizes, self.device, torch.float32)  # [E, 3]
        self.shape_at = torch.arange(_SHAPE, _SHAPE + 5, device=self.device)

    @property
    def width(self) -> int:
        return 2 * self.task.points + 9

    def raw(self, keys: torch.Tensor, numbers: torch.Tensor) -> tuple[torch.Tensor, ...]:
        shape = uniforms(keys[:, None, None], numbers[:, None], self.shape_at)
        return shape, normal_rows(keys[:, None], numbers, 2 * self.task.points + 4)

    def make(self, raw: tuple[torch.Tensor, ...], members: slice) -> tuple[torch.Tensor, torch.Tensor]:
        shape, noise = raw
        kind, share, place, height, slope = shape[..., None].unbind(2)  # each [M, n, 1]
        background, jitter, shear = self.levels[members][:, None, None].unbind(-1)  # each [M, 1, 1]
        label = (kind * 10).long()
        length = 0.2 + 0.2 * share
        at = (self.time - place * (1 - length)) / length  # [M, n, L]: 0 where the template begins, 1 where it ends
        within = at.clamp(0, 1) * (_KNOTS - 1)
        knot = within.long().clamp_max(_KNOTS - 2)
        left = self.knots.take(knot + label * _KNOTS)
        right = self.knots.take(knot + label * _KNOTS + 1)
        template = (0.8 + 0.4 * height) * (left + (within - knot) * (right - left))
        n = self.task.points
        smooth = _SMOOTH[0] * noise[..., :n]
        for k in range(1, 5):
            smooth = smooth + _SMOOTH[k] * noise[..., k : k + n]
        x = torch.where((at >= 0) & (at <= 1), template, background * smooth)
        x = x + shear * (slope - 0.5) * (self.time - 0.5) + jitter * noise[..., n + 4 :]
        return (x[..., None] if self.task.form == "signals" else x), label[..., 0]


@lru_cache(maxsize=1)
def templates() -> np.ndarray:
    """The ten shapes at their 12 knots, [10, 12], each of mean 0 and mean square 1, rounded to 10^-6."""
    u = np.linspace(0, 1, _KNOTS)
    shapes = np.stack([
        np.sin(np.pi * u),  # hill
        -np.abs(2 * u - 1) ** 0.5,  # a pointed peak
        np.sin(2 * np.pi * u),  # hill, then valley
        np.sin(3 * np.pi * u),  # hill, valley, hill
        np.cos(2 * np.pi * u),  # valley
        u,  # ramp
        np.where(u < 0.5, 1.0, -1.0),  # step down
        np.exp(-6 * u),  # jump and decay
        np.exp(-6 * (1 - u)),  # slow rise, sudden end
        np.where(np.arange(_KNOTS) % 4 < 2, 1.0, -1.0),  # three square teeth
    ])  # fmt: skip
    shapes = shapes - shapes.mean(1, keepdims=True)
    return np.round(shapes / np.sqrt((shapes**2).mean(1, keepdims=True)), 6)
