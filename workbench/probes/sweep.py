"""`Sweep`: a set of probes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from workbench.probes.spec import SCHEMA, Probe, digest, parsed

__all__ = ["Sweep"]


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

    def to_json(self) -> str:
        data = {"schema": SCHEMA, "probes": [probe.to_dict() for probe in self.probes]}
        return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Sweep:
        """Inverse of `to_json`; raises ValueError or TypeError with one sentence on foreign text."""
        data = parsed(text, "sweep")
        if not isinstance(data, dict) or not isinstance(data.get("probes"), list):
            raise ValueError('A sweep is a JSON object with a list "probes"; write one with Sweep.to_json().')
        return cls(tuple(Probe.from_dict(entry) for entry in data["probes"]))
