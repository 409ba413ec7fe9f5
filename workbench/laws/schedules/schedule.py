"""`Schedule`: the learning rate of every step of a training run, as a value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

__all__ = ["DECAYS", "Schedule"]

#: Shapes of a decay: share of it done (0 to 1), end over peak -> rate over peak.
DECAYS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "linear": lambda x, end: 1 - (1 - end) * x,
    "cosine": lambda x, end: end + (1 - end) * 0.5 * (1 + np.cos(np.pi * x)),
    "exponential": lambda x, end: end**x,
    "1-sqrt": lambda x, end: 1 - (1 - end) * np.sqrt(x),
    "power 1.5": lambda x, end: end + (1 - end) * (1 - x) ** 1.5,
    "power 2": lambda x, end: end + (1 - end) * (1 - x) ** 2,
}
#: A change between two logged rates is a jump if it exceeds this share of the peak and ten times its neighbours.
JUMP = 0.05


@dataclass(frozen=True, eq=False)
class Schedule:
    """The learning rate of every step.

    Step i (1 to T) is trained with ``rates[i - 1]``, so that the area up to step s, the S1 of the schedule
    laws, is ``rates[:s].sum()``. A run without warm-up has no change of the rate at its first step; one
    with warm-up rises from 0.

    Attributes:
        name: what people call it; unique among the schedules of one fit.
        rates: ``[T]`` learning rates, not negative, in the optimizer's own unit; read-only.
        warmup: how many of the first steps are warm-up.

    Raises:
        ValueError: rates that are not a list of finite numbers of at least 0, a first rate of 0, or a
            warm-up that does not fit in.
    """

    name: str
    rates: np.ndarray
    warmup: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"a schedule is called {self.name!r}; give it a name, such as 'cosine'")
        try:
            rates = np.array(self.rates, dtype=float)
        except (TypeError, ValueError):
            raise ValueError(f"the rates of schedule {self.name!r} must be numbers, one for each step") from None
        if rates.ndim != 1 or not rates.size:
            raise ValueError(f"schedule {self.name!r} has rates of shape {rates.shape}; give one rate for each step")
        if not np.isfinite(rates).all() or (rates < 0).any():
            bad = int(np.flatnonzero(~np.isfinite(rates) | (rates < 0))[0])
            raise ValueError(f"schedule {self.name!r} has the rate {rates[bad]:g} at step {bad + 1}; give 0 or more")
        if rates[0] == 0:
            raise ValueError(f"schedule {self.name!r} has the rate 0 at step 1, where nothing is learnt; begin above 0")
        _whole(self.warmup, "warmup", 0, rates.size)
        rates.flags.writeable = False
        object.__setattr__(self, "rates", rates)
        object.__setattr__(self, "warmup", int(self.warmup))

    @classmethod
    def constant(cls, steps: int, peak: float, *, warmup: int = 0, name: str = "constant") -> Schedule:
        """The same rate `peak` for `steps` steps, after a linear warm-up of the first `warmup` of them."""
        return cls._shaped(name, steps, peak, peak, warmup, warmup, "linear")

    @classmethod
    def cosine(
        cls, steps: int, peak: float, end: float | None = None, *, warmup: int = 0, name: str = "cosine"
    ) -> Schedule:
        """Half a cosine from `peak` after the warm-up to `end` (default a tenth of it) at the last step."""
        return cls._shaped(name, steps, peak, end, warmup, warmup, "cosine")

    @classmethod
    def linear(
        cls, steps: int, peak: float, end: float | None = None, *, warmup: int = 0, name: str = "linear"
    ) -> Schedule:
        """A straight line from `peak` after the warm-up to `end` (default a tenth of it) at the last step."""
        return cls._shaped(name, steps, peak, end, warmup, warmup, "linear")

    @classmethod
    def wsd(
        cls,
        steps: int,
        peak: float,
        decay: int | float = 0.2,
        end: float | None = None,
        *,
        shape: str = "linear",
        warmup: int = 0,
        name: str = "wsd",
    ) -> Schedule:
        """Warm-up, stable, decay (Hu et al. 2024, MiniCPM, arXiv 2404.06395).

        Args:
            steps: number of steps, warm-up and decay included.
            peak: rate of the stable phase.
            decay: length of the decay at the end, in steps or as a share of `steps` below 1.
            end: rate of the last step; default a tenth of the peak.
            shape: one of `DECAYS`.
            warmup: steps of the linear warm-up.
            name: name of the schedule.

        Raises:
            ValueError: an unknown shape, or phases that do not fit into `steps`.
        """
        steps = _whole(steps, "steps", 1)
        length = round(decay * steps) if 0 < decay < 1 else decay
        return cls._shaped(name, steps, peak, end, warmup, steps - _whole(length, "decay", 0, steps), shape)

    @classmethod
    def two_stage(
        cls, steps: int, peak: float, second: float, switch: int, *, warmup: int = 0, name: str = "two-stage"
    ) -> Schedule:
        """Constant at `peak`, and at `second` from step `switch` on."""
        switch = _whole(switch, "switch", 2, _whole(steps, "steps", 2))
        rates = cls.constant(steps, peak, warmup=warmup, name=name).rates.copy()
        rates[switch - 1 :] = _rate(second, "second")
        return cls(name, rates, warmup)

    @classmethod
    def piecewise(cls, pieces: Sequence[tuple[int, float]], *, warmup: int = 0, name: str = "piecewise") -> Schedule:
        """Constant pieces ``[(steps, rate), ...]`` after a linear warm-up of `warmup` further steps to the first."""
        if not len(pieces):
            raise ValueError("a piecewise schedule needs at least one (steps, rate)")
        parts = [np.full(_whole(n, "steps of a piece", 1), _rate(rate, "rate of a piece")) for n, rate in pieces]
        rise = parts[0][0] * np.arange(1, _whole(warmup, "warmup", 0) + 1) / max(warmup, 1)
        return cls(name, np.concatenate([rise, *parts]), warmup)

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        *,
        step: str = "step",
        lr: str = "lr",
        warmup: int = 0,
        steps: int | None = None,
        name: str = "logged",
    ) -> Schedule:
        """The schedule a log shows at some of its steps.

        Between two logged steps the rate is interpolated on a line; a lone jump (more than 5 % of the peak
        and ten times its neighbours) is placed at the row that first shows it. Before the first row the
        rate rises linearly from 0 to that of the first row over `warmup` steps and is constant after
        that; after the last row it stays.

        Args:
            frame: one row for each logged step.
            step, lr: names of its columns.
            warmup: steps of a linear warm-up that the log leaves out, or of one that it shows.
            steps: length of the schedule; default the last logged step.
            name: name of the schedule.

        Raises:
            ValueError: a column is missing, or no row has a step of at least 1 and a finite rate.
        """
        for column in (step, lr):
            if column not in frame:
                raise ValueError(f"the log has no column {column!r}; it has {', '.join(map(str, frame.columns))}")
        rows = frame[[step, lr]].apply(pd.to_numeric, errors="coerce").dropna()
        rows = rows[(rows[step] >= 1) & np.isfinite(rows[step])].drop_duplicates(step, keep="last").sort_values(step)
        if not len(rows):
            raise ValueError(f"no row of the log has a {step!r} of at least 1 and a number as {lr!r}")
        at, rates = rows[step].to_numpy(float), rows[lr].to_numpy(float)
        warmup = _whole(warmup, "warmup", 0)
        last = int(at[-1]) if steps is None else _whole(steps, "steps", 1)
        if warmup:
            before = [(0.0, 0.0), (float(warmup), rates[0])] if at[0] > warmup else [(0.0, 0.0)]
            at, rates = np.r_[[p[0] for p in before], at], np.r_[[p[1] for p in before], rates]
        change = np.abs(np.diff(rates))
        beside = np.maximum(np.r_[0.0, change[:-1]], np.r_[change[1:], 0.0])
        jump = (change > JUMP * rates.max()) & (change > 10 * beside) & (at[:-1] >= warmup)
        grid = np.arange(1, last + 1)
        out = np.interp(grid, at, rates)
        for k in np.flatnonzero(jump):
            out[(grid > at[k]) & (grid < at[k + 1])] = rates[k]
        return cls(name, out, min(warmup, last))

    @classmethod
    def _shaped(cls, name, steps, peak, end, warmup, stable, shape) -> Schedule:
        """Linear warm-up to step `warmup`, `peak` to step `stable`, a decay to `end` at the last step."""
        steps, peak = _whole(steps, "steps", 1), _rate(peak, "peak")
        warmup = _whole(warmup, "warmup", 0, steps)
        end = peak / 10 if end is None else _rate(end, "end", zero=True)
        if shape not in DECAYS:
            raise ValueError(f"no decay is called {shape!r}; choose one of {', '.join(DECAYS)}")
        if stable < warmup:
            raise ValueError(f"{warmup} steps of warm-up and a decay of {steps - stable} do not fit into {steps} steps")
        if shape == "exponential" and end == 0:
            raise ValueError("an exponential decay never reaches 0; give end= a positive rate")
        at = np.arange(1, steps + 1)
        done = np.clip((at - stable) / max(steps - stable, 1), 0.0, 1.0)
        rates = peak * DECAYS[shape](done, end / peak)
        rates[:warmup] = peak * at[:warmup] / max(warmup, 1)
        return cls(name, np.maximum(rates, 0.0), warmup)

    @property
    def steps(self) -> int:
        """Number of steps T."""
        return self.rates.size

    @property
    def peak(self) -> float:
        """Largest rate."""
        return float(self.rates.max())

    @cached_property
    def areas(self) -> np.ndarray:
        """``[T + 1]`` sum of the rates of the first 0, 1, ..., T steps."""
        return np.concatenate([[0.0], np.cumsum(self.rates)])

    @cached_property
    def drops(self) -> np.ndarray:
        """``[T]`` ``eta_(i-1) - eta_i`` of every step, negative where the rate rises."""
        drops = -np.diff(self.rates, prepend=0.0 if self.warmup else self.rates[0])
        # What rounding leaves of a constant rate is no change.
        return np.where(np.abs(drops) > 1e-12 * self.peak, drops, 0.0)

    def area(self, step: np.ndarray | float) -> np.ndarray:
        """Sum of the rates up to `step`; within a step in proportion."""
        return np.interp(step, np.arange(self.steps + 1), self.areas)

    def frame(self, step: Sequence[int] | None = None) -> pd.DataFrame:
        """Columns ``step`` and ``lr``, at every step or at those asked for."""
        step = np.arange(1, self.steps + 1) if step is None else np.asarray(step, dtype=int)
        if step.size and not (step.min() >= 1 and step.max() <= self.steps):
            raise ValueError(f"schedule {self.name!r} has the steps 1 to {self.steps}")
        return pd.DataFrame({"step": step, "lr": self.rates[step - 1]})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Schedule):
            return NotImplemented
        same = self.name == other.name and self.warmup == other.warmup
        return same and np.array_equal(self.rates, other.rates)

    def __hash__(self) -> int:
        return hash((self.name, self.warmup, self.rates.tobytes()))

    def __repr__(self) -> str:
        return f"<schedule {self.name!r}: {self.steps} steps, peak {self.peak:g}, end {self.rates[-1]:g}>"


def _whole(value, what: str, low: int, high: float = np.inf) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or value != np.floor(value):
        raise ValueError(f"{what} is {value!r}; it must be a whole number of steps")
    if not low <= value <= high:
        allowed = f"at least {low}" if high == np.inf else f"between {low} and {high:g}"
        raise ValueError(f"{what} is {value!r}; it must be {allowed}")
    return int(value)


def _rate(value, what: str, zero: bool = False) -> float:
    number = value if isinstance(value, int | float | np.number) and not isinstance(value, bool) else np.nan
    if not np.isfinite(number) or number < 0 or (number == 0 and not zero):
        raise ValueError(f"{what} is {value!r}; a learning rate is a positive number{' or 0' if zero else ''}")
    return float(number)
