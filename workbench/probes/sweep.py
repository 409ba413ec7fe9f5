"""`Sweep`: a set of probes."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.late import late
from workbench.probes.spec import SCHEMA, Probe, digest, parsed

if TYPE_CHECKING:
    from workbench.probes.cost import Cost

__all__ = ["Span", "Sweep"]


@dataclass(frozen=True)
class Span:
    """A range to draw from: even in the logarithm unless ``log=False``; whole numbers if both ends are.

    Raises:
        ValueError: the ends are not in order, or not positive where the logarithm is taken.
    """

    low: float
    high: float
    log: bool = True

    def __post_init__(self) -> None:
        if not (self.low < self.high and (self.low > 0 or not self.log)):
            raise ValueError(f"Span({self.low!r}, {self.high!r}) needs 0 < low < high; with log=False, low < high.")

    def at(self, share: float) -> float:
        """The value at `share` of the way, 0 to 1."""
        whole = isinstance(self.low, int) and isinstance(self.high, int)
        if self.log:
            value = math.exp(math.log(self.low) + share * math.log(self.high / self.low))
        else:
            value = self.low + share * (self.high - self.low)
        return round(value) if whole else value


@dataclass(frozen=True)
class Sweep:
    """An ordered set of probes.

    Raises:
        TypeError: an entry is not a `Probe`.
        ValueError: the sweep is empty or names a probe twice.
    """

    probes: tuple[Probe, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "probes", tuple(self.probes))
        for probe in self.probes:
            if not isinstance(probe, Probe):
                raise TypeError(f"A sweep holds probes; got {type(probe).__name__}. Build each with Probe(...).")
        if not self.probes:
            raise ValueError("A sweep needs at least one probe; got none.")
        if len(set(self.probes)) < len(self.probes):
            twice = next(p for i, p in enumerate(self.probes) if p in self.probes[:i])
            raise ValueError(f"Probe {twice.id} is in the sweep twice; give repeats different seeds.")

    @classmethod
    def grid(cls, base: Probe, **axes: Sequence) -> Sweep:
        """Every combination of the given values, the last axis fastest.

        ``Sweep.grid(base, width=[8, 16], seed=range(3))`` is six probes.
        """
        for name, values in axes.items():
            if isinstance(values, str) or not hasattr(values, "__iter__"):
                raise TypeError(f"{name}={values!r} is not a list; write {name}=[{values!r}].")
        return cls(
            tuple(base.replace(**dict(zip(axes, row, strict=True))) for row in itertools.product(*axes.values()))
        )

    @classmethod
    def random(cls, base: Probe, count: int, draw_seed: int = 0, **axes: Span | Sequence) -> Sweep:
        """`count` probes whose fields are drawn at random, each axis by itself.

        Args:
            base: what all share.
            count: number of probes.
            draw_seed: of the draw; `seed` is a field of the probe.
            **axes: by field, a `Span` to draw from evenly, or a list of values to choose from.

        Raises:
            TypeError, ValueError: an unknown field, or a value that the field does not allow.
        """
        return cls._drawn(base, np.random.default_rng(draw_seed).random((count, len(axes))), axes)

    @classmethod
    def sobol(cls, base: Probe, count: int, draw_seed: int = 0, **axes: Span | Sequence) -> Sweep:
        """`count` probes that fill the box of the axes evenly: a scrambled Sobol sequence.

        Arguments as in `random`. A power of two as `count` keeps the sequence's balance
        (Owen 2020, arXiv 2008.08051).
        """
        from scipy.stats import qmc

        drawn = qmc.Sobol(len(axes), rng=np.random.default_rng(draw_seed)).random(1 << max(0, count - 1).bit_length())
        return cls._drawn(base, drawn[:count], axes)

    @classmethod
    def scale(
        cls,
        base: Probe,
        params: Sequence[float],
        *,
        tokens: Sequence[float] | None = None,
        tokens_per_param: Sequence[float] | None = None,
        count: str = "params_non_embedding",
        aspect: float | None = None,
        head_width: int | None = None,
        **axes: Sequence,
    ) -> Sweep:
        """Sizes by horizons: models near target parameter counts, trained for given tokens.

        Args:
            base: what all share; its depth is kept unless `aspect` is given.
            params: target parameter counts; the width is chosen whose count comes nearest in ratio.
            tokens: horizons in tokens, or
            tokens_per_param: horizons in tokens per parameter of the model found. Both are rounded to whole batches.
            count: which parameters are meant: ``params_non_embedding``, ``params`` or ``params_active``.
            aspect: width over depth; the depth follows the width.
            head_width: width of an attention head; widths are multiples of it and `heads` follows. Left out,
                the base's heads stay and widths are multiples of them.
            **axes: further axes of the grid, the last one fastest.

        Raises:
            ValueError: no horizon or two kinds of them, or a target that no width comes within a factor of 1.5 of.
        """
        if (tokens is None) == (tokens_per_param is None):
            raise ValueError("give either tokens= or tokens_per_param= as the horizons of a scaling sweep.")
        probes = []
        for target in params:
            model = _sized(base, float(target), count, aspect, head_width)
            size = getattr(model, count)
            horizons = tokens if tokens is not None else [size * ratio for ratio in tokens_per_param]
            for horizon in horizons:
                whole = max(1, round(horizon / base.batch_tokens)) * base.batch_tokens
                probes += cls.grid(model.replace(tokens=whole), **axes) if axes else [model.replace(tokens=whole)]
        return cls(tuple(dict.fromkeys(probes)))

    @classmethod
    def _drawn(cls, base: Probe, unit: np.ndarray, axes: Mapping[str, Span | Sequence]) -> Sweep:
        for name, values in axes.items():
            if isinstance(values, str) or not (isinstance(values, Span) or hasattr(values, "__iter__")):
                raise TypeError(f"{name}={values!r} is neither a Span(low, high) nor a list of values.")
        ranges = {n: v if isinstance(v, Span) else tuple(v) for n, v in axes.items()}
        probes = [
            base.replace(**{n: _at(v, float(u)) for (n, v), u in zip(ranges.items(), row, strict=True)}) for row in unit
        ]
        return cls(tuple(dict.fromkeys(probes)))

    def cost(self, device: str | None = None, **options: Any) -> Cost:
        """Predict seconds, memory, FLOPs and what binds, bucket by bucket; see `workbench.probes.cost.price`."""
        from workbench.probes.cost import price  # imports torch

        return price(self, device, **options)

    @cached_property
    def id(self) -> str:
        """16 hexadecimal digits of the SHA-256 of the canonical JSON form."""
        return digest(self.to_json())

    def __len__(self) -> int:
        return len(self.probes)

    def __iter__(self) -> Iterator[Probe]:
        return iter(self.probes)

    def __getitem__(self, index: int) -> Probe:
        return self.probes[index]

    def buckets(self) -> list[tuple[int, ...]]:
        """Positions in this sweep of probes that can be trained as one stack, in order of first appearance."""
        groups: dict[tuple, list[int]] = {}
        for index, probe in enumerate(self.probes):
            groups.setdefault(probe.shape, []).append(index)
        return [tuple(group) for group in groups.values()]

    plot = late("workbench.figures.sweep:sweep_map", "What the sweep varies, as an Altair chart.")
    panel = late("workbench.panels.probes:panel", "A form that starts from this sweep: change it, price it, launch it.")

    def to_json(self) -> str:
        """Canonical JSON: a schema version and the list of probes."""
        data = {"schema": SCHEMA, "probes": [probe.to_dict() for probe in self.probes]}
        return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Sweep:
        """Inverse of `to_json`; raises ValueError or TypeError with one sentence on foreign text."""
        data = parsed(text, "sweep")
        if not isinstance(data, dict) or not isinstance(data.get("probes"), list):
            raise ValueError('A sweep is a JSON object with a list "probes"; write one with Sweep.to_json().')
        return cls(tuple(Probe.from_dict(entry) for entry in data["probes"]))


def _at(values: Span | tuple, share: float) -> Any:
    return values.at(share) if isinstance(values, Span) else values[min(int(share * len(values)), len(values) - 1)]


def _sized(base: Probe, target: float, count: str, aspect: float | None, head_width: int | None) -> Probe:
    """The base at the width (and depth, heads) whose parameter count comes nearest to the target."""

    def model(width: int) -> Probe:
        changes: dict[str, Any] = {"width": width}
        if aspect is not None:
            changes["depth"] = max(1, round(width / aspect))
        if head_width is not None:
            changes["heads"] = width // head_width
        return base.replace(**changes)

    if "width" not in base.to_dict():
        raise ValueError(
            f"model={base.model!r} has no width to fit to a parameter count; give a list of probes instead."
        )

    def reaches(width: int) -> bool:
        try:
            return getattr(model(width), count) >= target
        except ValueError:  # so wide that its depth is out of range: too large in any case
            return True

    unit = head_width or getattr(base, "heads", 1)
    low, high = 1, max(1, 8192 // unit)
    while low < high:  # the count rises with the width, so the first width at or above the target is found by halving
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle * unit) else (middle + 1, high)
    best = min(
        (model(k * unit) for k in (low - 1, low) if k >= 1),
        key=lambda p: abs(math.log(max(1, getattr(p, count)) / target)),
    )
    if not 1 / 1.5 < getattr(best, count) / target < 1.5:
        raise ValueError(
            f"no width comes within a factor 1.5 of {target:.3g} {count}; the nearest, width={best.width}, has "
            f"{getattr(best, count):.3g}: change depth, aspect or head_width."
        )
    return best
