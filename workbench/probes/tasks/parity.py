"""Sparse parity, one or many at once: skills that are learned one after another, each in a sudden step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from workbench.probes import late_torch as torch
from workbench.probes.component import choice, number, whole
from workbench.probes.tasks.base import Inputs, Task
from workbench.probes.tasks.examples import (
    ExampleData,
    label_noise,
    parameters_of,
    row_means,
    stratum_means,
    task_seed,
    test_size,
    train_size,
)
from workbench.probes.tasks.random import hash_counters

if TYPE_CHECKING:
    from workbench.probes.spec import Probe

__all__ = ["Parity", "ParityData"]

_WORD = 63  # bits taken of a 64-bit hash: the sign bit stays out of the shifts
_LOW = 2**32 - 1
#: Subtasks that can have columns of their own.
_COLUMNS = 64


@dataclass(frozen=True)
class Parity(Task):
    """The parity of `relevant` of `bits` random bits; which of them, one of `subtasks` control bits says.

    With one subtask it is sparse parity (Barak et al. 2022, arXiv 2207.08799), without a control bit. With
    several it is multitask sparse parity (Michaud et al. 2023, arXiv 2303.13506, section 3): a one-hot
    control bit of 0s and 1s is followed by the bits, every subtask has its random subset, and subtask i
    occurs with probability p_i proportional to i^-(zipf + 1). If the n commonest subtasks are learned and
    the others not at all, the loss above the floor is log 2 times the probability of the rest, about n^-zipf.

    Two classes, cross-entropy in nats. The floor without label noise is 0.
    """

    name: ClassVar[str] = "parity"

    bits: int = whole(32, 1, 252, "random bits n of an input")
    relevant: int = whole(3, 1, 252, "bits k whose parity is asked for")
    subtasks: int = whole(1, 1, 65536, "subsets of relevant bits, one control bit each")
    zipf: float = number(0.4, 0.0, 10.0, "alpha: subtask i is drawn with probability ~ i^-(alpha + 1)", member=True)
    coding: str = choice("sign", ("sign", "binary"), "random bits as -1 and 1, or as 0 and 1")
    label_noise: float = label_noise()
    train_size: int = train_size()
    test_size: int = test_size()
    task_seed: int = task_seed()

    def check(self) -> None:
        if self.relevant > self.bits:
            raise ValueError(f"relevant={self.relevant} is more than bits={self.bits}; lower it.")

    @property
    def inputs(self) -> Inputs:
        return Inputs("vectors", self.bits + self.controls)

    @property
    def controls(self) -> int:
        """Control bits in front of an input: one a subtask, none where there is one subtask."""
        return self.subtasks if self.subtasks > 1 else 0

    @property
    def outputs(self) -> int:
        return 2

    @property
    def probabilities(self) -> np.ndarray:
        """How often each subtask occurs, [subtasks], falling."""
        p = np.arange(1.0, self.subtasks + 1) ** -(self.zipf + 1)
        return p / p.sum()

    @property
    def subsets(self) -> np.ndarray:
        """The relevant bits of each subtask, [subtasks, relevant] (int64), each a random subset of its own."""
        rng = np.random.default_rng(self.task_seed)
        return np.argsort(rng.random((self.subtasks, self.bits)), 1)[:, : self.relevant]

    @property
    def exact(self) -> bool:
        """Whether the evaluation goes over all inputs there are, so that ``loss`` is the population loss."""
        return self.subtasks * 2**self.bits <= self.test_size

    def build(self, probes: Sequence[Probe], device: torch.device) -> ParityData:
        return ParityData(probes, device)


class ParityData(ExampleData):
    """Stacked parity streams or sets; see `ExampleData`. Everything is the same bits on every device.

    Held-out examples: the same number of each subtask, its mean weighted with its exact probability; or all
    inputs there are, once each, where `test_size` allows it.

    Beside ``loss`` and ``accuracy``, where there are several subtasks: ``subtasks_learned`` (how many have a
    held-out loss below log(2) / 10), and ``loss_1``, ``loss_2``, ``loss_4``, ``loss_8``, ...: the mean over
    subtasks 1, 2-3, 4-7, 8-15, ... by rank, each counted alike.
    """

    task: Parity

    def prepare(self) -> None:
        self.subsets = parameters_of([t.subsets for t in self.tasks], self.device, torch.int64)  # [E, S, k]
        self.words = -(-self.task.bits // _WORD)
        self.shifts = torch.arange(self.task.bits, device=self.device) % _WORD
        self.word_of = torch.arange(self.task.bits, device=self.device) // _WORD
        limits = [np.round(np.cumsum(t.probabilities) * 2**32) for t in self.tasks]
        self.limits = parameters_of(limits, self.device, torch.int64)
        self.positions = torch.arange(self.words + 1, device=self.device)
        p = np.stack([t.probabilities for t in self.tasks])
        self.weights = torch.tensor(p, device=self.device)  # [E, S]

    @property
    def width(self) -> int:
        return 2 * (self.words + 1)

    def raw(self, keys: torch.Tensor, numbers: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (hash_counters(keys[:, None, None], numbers[:, None], self.positions),)

    def make(self, raw: tuple[torch.Tensor, ...], members: slice) -> tuple[torch.Tensor, torch.Tensor]:
        (words,) = raw
        draw = (words[..., -1] >> 32) & _LOW
        limits = self.limits[members]
        subtask = torch.searchsorted(limits, draw, right=True).clamp_max(limits.shape[1] - 1)
        return self._compose(words, subtask, members)

    def _compose(self, words: torch.Tensor, subtask: torch.Tensor, members: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and labels from the bits in `words` [M, n, W + 1] and subtasks [M, n]."""
        bits = (words.index_select(-1, self.word_of) >> self.shifts) & 1  # [M, n, bits]
        m, n = subtask.shape
        subsets = self.subsets[members]  # [M, S, k]
        chosen = subsets.gather(1, subtask[..., None].expand(m, n, subsets.shape[2]))  # [M, n, k]
        label = bits.gather(2, chosen).sum(-1) % 2
        x = bits.to(torch.float32)
        if self.task.coding == "sign":
            x = 2 * x - 1
        if self.task.controls:
            control = torch.zeros(m, n, self.task.subtasks, device=x.device).scatter_(2, subtask[..., None], 1.0)
            x = torch.cat([control, x], -1)
        return x, label

    def _test(self) -> tuple[torch.Tensor, torch.Tensor]:
        s = self.task.subtasks
        each = 2**self.task.bits if self.task.exact else max(1, self.task.test_size // s)
        numbers = torch.arange(each * s, device=self.device)
        keys = self._task_keys(1, self.distinct)
        made = []
        for part in numbers.split(self.chunk):
            if self.task.exact:  # all bit patterns, one after another
                words = (part // s)[None, :, None].expand(len(keys), -1, 2)
            else:
                (words,) = self.raw(keys, part)
            made.append(self._compose(words, (part % s).expand(len(keys), -1), self.distinct))
        return torch.cat([x for x, _ in made], 1), torch.cat([y for _, y in made], 1)

    def groups(self) -> tuple[Sequence[str], torch.Tensor]:
        """The commonest subtasks one by one, 64 at most: ``subtask_1``, ... by rank."""
        s = self.task.subtasks
        names = [f"subtask_{i}" for i in range(1, min(s, _COLUMNS) + 1)] if s > 1 else ()
        return names, (torch.arange(self.test_targets.shape[1], device=self.device) % s)[None]

    def summary(self, losses: torch.Tensor, hits: torch.Tensor | None) -> dict[str, torch.Tensor]:
        s = self.task.subtasks
        if s == 1:
            return super().summary(losses, hits)
        each = stratum_means(losses, s)  # [E, S]
        found = {
            "loss": row_means(each * self.weights * s),
            "accuracy": row_means(stratum_means(hits, s) * self.weights * s),
            "subtasks_learned": (each < math.log(2) / 10).sum(1).double().cpu(),
        }
        first = 1
        while first <= s:
            found[f"loss_{first}"] = row_means(each[:, first - 1 : 2 * first - 1])
            first *= 2
        return found
