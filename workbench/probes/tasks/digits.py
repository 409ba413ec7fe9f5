"""Handwritten digits that every installation of scikit-learn carries: small, real images without a download."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from workbench.probes import late_torch as torch
from workbench.probes.component import choice
from workbench.probes.tasks.base import Inputs, Task
from workbench.probes.tasks.draws import permutation
from workbench.probes.tasks.examples import ExampleData, label_noise, task_seed, test_size, train_size
from workbench.probes.tasks.random import stream_key

if TYPE_CHECKING:
    from workbench.probes.spec import Probe

__all__ = ["CHECKSUM", "Digits", "DigitsData", "load"]

#: SHA-256 of the 1797 x 64 pixels and then the 1797 labels, all as one byte each.
CHECKSUM = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
_IMAGES, _HELD_OUT = 1797, 360
_SPLIT = 1


@dataclass(frozen=True)
class Digits(Task):
    """Which digit an 8 x 8 image shows; cross-entropy in nats.

    The 1797 images are those of scikit-learn's `load_digits`, the test part of the UCI set "Optical
    Recognition of Handwritten Digits" (Alpaydin & Kaynak 1998). Pixels 0 ... 16 become numbers from -1 to 1.
    360 images are held out, drawn by `task_seed`, the same for every `train_size`; the training set is the
    first `train_size` of the other 1437 in the order of that draw.
    """

    name: ClassVar[str] = "digits"

    form: str = choice("vectors", ("vectors", "signals"), "64 pixels as one vector, or as 8 rows of 8 numbers")
    label_noise: float = label_noise()
    train_size: int = train_size(_IMAGES - _HELD_OUT, _IMAGES - _HELD_OUT)
    test_size: int = test_size(_HELD_OUT, _HELD_OUT)
    task_seed: int = task_seed()

    @property
    def inputs(self) -> Inputs:
        return Inputs("vectors", 64) if self.form == "vectors" else Inputs("signals", 8, 8)

    @property
    def outputs(self) -> int:
        return 10

    def build(self, probes: Sequence[Probe], device: torch.device) -> DigitsData:
        return DigitsData(probes, device)


class DigitsData(ExampleData):
    """Stacked training sets of digits; see `ExampleData`. Inputs and labels are the same bits on every device.

    Raises:
        ValueError: scikit-learn's file holds other images than `CHECKSUM` says.
    """

    task: Digits

    def prepare(self) -> None:
        pixels, labels = load()
        shape = (-1, 64) if self.task.form == "vectors" else (-1, 8, 8)
        self.images = (torch.tensor(pixels, device=self.device).float() / 8 - 1).view(shape)
        self.labels = torch.tensor(labels, device=self.device).long()

    @property
    def width(self) -> int:
        return 1

    def raw(self, keys: torch.Tensor, numbers: torch.Tensor) -> tuple[torch.Tensor, ...]:
        raise NotImplementedError("images are not drawn; see `examples`")

    def make(self, raw: tuple[torch.Tensor, ...], members: slice) -> tuple[torch.Tensor, torch.Tensor]:
        (rows,) = raw
        return self.images[rows], self.labels[rows]

    def examples(self, purpose: int, n: int) -> tuple[torch.Tensor, torch.Tensor]:
        keys = torch.tensor([stream_key(t.task_seed, _SPLIT) for t in self.tasks[self.distinct]], device=self.device)
        order = permutation(keys, 0, _IMAGES)  # [G, 1797]
        held_out, rest = order[:, :_HELD_OUT], order[:, _HELD_OUT:]
        pool = held_out if purpose == _SPLIT else rest
        # a training set is asked for in whole chunks; what is beyond its images is never a row of it
        return self.make((pool[:, torch.arange(n, device=self.device) % pool.shape[1]],), self.distinct)

    def groups(self) -> tuple[Sequence[str], torch.Tensor]:
        """The digits: ``class_0`` to ``class_9``."""
        return [f"class_{k}" for k in range(10)], self.test_targets

    def facts(self, member: int) -> dict[str, Any]:
        """Beside those of any finite set, ``digits_sha256``: the checksum of the images on this machine."""
        return {**super().facts(member), "digits_sha256": CHECKSUM}


@lru_cache(maxsize=1)
def load() -> tuple[np.ndarray, np.ndarray]:
    """The images [1797, 64] and labels [1797], both uint8, checked against `CHECKSUM`."""
    from sklearn.datasets import load_digits

    found = load_digits()
    pixels, labels = found.data.astype(np.uint8), found.target.astype(np.uint8)
    checksum = hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()
    if checksum != CHECKSUM:
        raise ValueError(
            f"scikit-learn's digits have checksum {checksum[:16]}..., not {CHECKSUM[:16]}...; "
            "they are other images, so results could not be compared: install another scikit-learn."
        )
    return pixels, labels
