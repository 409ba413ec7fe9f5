"""Time series of several families, one to learn and others to be tested on, with a known noise floor.

A series is a sum of periodic terms, a linear trend and autoregressive noise of order one. The families held
out have faster periods, another waveform, or steeper trends. Laws in and out of distribution of such
forecasts are the subject of Yao et al. 2025 (arXiv 2410.12360); the families are the workbench's own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from workbench.probes import late_torch as torch
from workbench.probes.component import number, whole
from workbench.probes.rows import row_sum
from workbench.probes.tasks.base import Data, Inputs, Predict, Task
from workbench.probes.tasks.draws import integers, normal_rows
from workbench.probes.tasks.random import stream_key

if TYPE_CHECKING:
    from workbench.probes.spec import Probe

__all__ = ["FAMILIES", "Family", "TimeSeries", "TimeSeriesData", "series"]

_TRAINING, _SHAPES, _EVALUATION = 0, 1, 2
_POSITIONS = 2**14
#: Phases are 32-bit integers, so that a waveform is one table lookup, the same on every device.
_TURN, _TABLE_BITS, _PERIODS = 2**32, 16, 1024


@dataclass(frozen=True)
class Family:
    """One kind of series.

    Attributes:
        periods: shortest and longest period, in positions; drawn uniformly in the logarithm.
        waveform: ``sine`` or ``sawtooth``, both of mean square 1/2.
        steeper: factor of the trend.
    """

    periods: tuple[float, float] = (8.0, 128.0)
    waveform: str = "sine"
    steeper: float = 1.0


#: The first is trained on; the others are held out.
FAMILIES = {
    "sines": Family(),
    "faster": Family(periods=(3.0, 8.0)),
    "sawtooth": Family(waveform="sawtooth"),
    "steeper": Family(steeper=4.0),
}


@dataclass(frozen=True)
class TimeSeries(Task):
    """Forecast of the next value at every position, squared error; `noise`^2 is the floor for every family."""

    name: ClassVar[str] = "time_series"
    loss: ClassVar[str] = "squared"

    context: int = whole(64, 1, 4096, "positions that are seen")
    terms: int = whole(2, 0, 16, "periodic terms of a series, amplitudes standard normal")
    trend: float = number(1.0, 0.0, 100.0, "standard deviation of the change of the trend over a context", member=True)
    noise: float = number(0.3, 0.0, 100.0, "standard deviation of the new noise at a position", member=True)
    autoregression: float = number(0.5, -0.99, 0.99, "share of the noise that is kept from the last one", member=True)

    @property
    def inputs(self) -> Inputs:
        return Inputs("sequences", 1, self.context)

    @property
    def outputs(self) -> int:
        return 1

    @property
    def floor(self) -> float:
        """noise^2: the loss of one who knows amplitudes, periods, phases and trend, and no model can beat that."""
        return self.noise**2

    def build(self, probes: Sequence[Probe], device: torch.device) -> TimeSeriesData:
        return TimeSeriesData(probes, device)


def series(
    keys: torch.Tensor, shapes: torch.Tensor, numbers: torch.Tensor, settings: torch.Tensor, length: int, terms: int,
    family: Family,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Series [n, length] (float32), and the expectation of each value given all before it [n, length] (float64).

    Args:
        keys, shapes: stream keys of the normal numbers, and of periods and phases, [n].
        numbers: of the series in their streams, [n].
        settings: trend, noise and autoregression of each, [n, 3] (float64).
        length: positions of a series; the trend runs over it.
        terms: periodic terms.
        family: which kind.

    The expectation is that of one who knows the series' amplitudes, periods, phases and trend.
    """
    device = keys.device
    steps, waveform = _tables(family, str(device))
    drawn = normal_rows(keys, numbers, terms + 1 + length).double()
    trend, noise, kept = settings.unbind(1)
    time = torch.arange(length, device=device)
    signal = family.steeper * (trend * drawn[:, terms])[:, None] * (time.double() / length - 0.5)
    for k in range(terms):
        step = steps.take(integers(shapes, numbers, torch.tensor(2 * k, device=device), _PERIODS))
        start = integers(shapes, numbers, torch.tensor(2 * k + 1, device=device), 2**31) * 2
        phase = (start[:, None] + step[:, None] * time) & (_TURN - 1)
        signal = signal + drawn[:, k, None] * waveform.take(phase >> (32 - _TABLE_BITS))
    # Time first: one position of all series is one row.
    new = drawn[:, terms + 1 :].t().contiguous()
    carried = torch.zeros_like(new)
    past = noise * new[0] / (1 - kept * kept).sqrt()  # stationary
    for t in range(1, length):
        carried[t] = kept * past
        past = carried[t] + noise * new[t]
    expected = signal + carried.t()
    values = expected + noise[:, None] * new.t()
    values[:, 0] = signal[:, 0] + noise * new[0] / (1 - kept * kept).sqrt()
    return values.float(), expected


class TimeSeriesData(Data):
    """Stacked streams of series, and held-out series of every family.

    Attributes:
        heldout: family -> (series [G, n, T + 1], expectation of the last T values [G, n, T] (float64)).
    """

    def __init__(self, probes: Sequence[Probe], device: torch.device) -> None:
        self.probes, self.device = tuple(probes), device
        first = self.probes[0]
        self.sequences, self.context, self.terms = first.batch, first.context, first.terms
        rows = [(p.trend, p.noise, p.autoregression) for p in self.probes]
        self.settings = torch.tensor(rows, dtype=torch.float64, device=device)  # [E, 3]
        self.keys, self.shapes = (
            torch.tensor([stream_key(p.seed, purpose) for p in self.probes], device=device)
            for purpose in (_TRAINING, _SHAPES)
        )
        groups = self.settings[:1] if len(set(rows)) == 1 else self.settings  # [G, 3], G = 1 or E
        self.floor = torch.tensor([noise**2 for _, noise, _ in rows], dtype=torch.float64, device=device)
        self.heldout = {name: self._heldout(family, groups) for name, family in FAMILIES.items()}

    def block(self, first_step: int, count: int) -> tuple[torch.Tensor]:
        shape = (count, len(self.probes), self.sequences)
        numbers = torch.arange(first_step * shape[2], (first_step + count) * shape[2], device=self.device)
        flat = [x.expand(shape).reshape(-1) for x in
                (self.keys[:, None], self.shapes[:, None], numbers.view(count, 1, -1))]  # fmt: skip
        settings = self.settings[:, None].expand(count, -1, self.sequences, 3).reshape(-1, 3)
        values, _ = series(*flat, settings, self.context + 1, self.terms, FAMILIES["sines"])
        return (values.view(*shape, -1),)

    def batch(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return values[..., :-1, None], values[..., 1:].flatten(1)[..., None]

    def _heldout(self, family: Family, groups: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        n, g = math.ceil(_POSITIONS / self.context), len(groups)
        keys = torch.tensor(stream_key(0, _EVALUATION), device=self.device).expand(g * n)
        shapes = torch.tensor(stream_key(1, _EVALUATION), device=self.device).expand(g * n)
        numbers = torch.arange(n, device=self.device).repeat(g)
        settings = groups.repeat_interleave(n, 0)
        values, expected = series(keys, shapes, numbers, settings, self.context + 1, self.terms, family)
        return values.view(g, n, -1), expected.view(g, n, -1)[..., 1:]

    def evaluate(self, predict: Predict) -> dict[str, torch.Tensor]:
        """``loss``, ``loss_out_of_distribution`` and the loss of each held-out family, [E].

        The expected squared error: noise^2 plus the squared distance of the prediction from the expectation
        of the next value, so that the noise of the values themselves adds none. All are means over positions
        1 ... T; ``loss_out_of_distribution`` is the mean over the families held out.
        """
        losses = {name: self._loss(predict, *held) for name, held in self.heldout.items()}
        (trained, loss), *others = losses.items()
        metrics = {"loss": loss, "loss_out_of_distribution": sum(value for _, value in others) / len(others)}
        return metrics | {f"loss_{name}": value for name, value in others if name != trained}

    def _loss(self, predict: Predict, values: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
        e = len(self.probes)
        # A chunk must not depend on E on a CPU, where the shape of a product decides the order of its sums.
        chunk = max(1, (2**22 // e if self.device.type == "cuda" else 2**12) // self.context)
        total = torch.zeros(e, dtype=torch.float64, device=self.device)
        for x, wanted in zip(values.split(chunk, 1), expected.split(chunk, 1), strict=True):
            guess = predict(x[..., :-1, None])[..., 0].double()  # [E, b, T]
            total += row_sum((guess - wanted).square())
        return (self.floor + total / (values.shape[1] * self.context)).cpu()

    def facts(self, member: int) -> dict[str, Any]:
        """The floor."""
        return {"optimal_loss_bound": float(self.floor[member])}


@lru_cache(maxsize=8)
def _tables(family: Family, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Phase steps of the periods [1024] (int64), and the waveform over one turn [2^16] (float64)."""
    low, high = family.periods
    periods = low * (high / low) ** ((np.arange(_PERIODS) + 0.5) / _PERIODS)
    turn = (np.arange(2**_TABLE_BITS) + 0.5) / 2**_TABLE_BITS
    wave = np.sin(2 * np.pi * turn) if family.waveform == "sine" else math.sqrt(1.5) * (2 * turn - 1)
    # mathematics libraries that differ in the last digit give one table
    steps, wave = np.rint(_TURN / periods).astype(np.int64), np.round(wave * 2**26) / 2**26
    return torch.tensor(steps, device=device), torch.tensor(wave, device=device)
