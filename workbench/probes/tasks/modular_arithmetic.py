"""Modular arithmetic with corrupted labels: the task of grokking.

Power et al. 2022 (arXiv 2201.02177) trained transformers on "a o b =" for operations modulo a prime; Gromov 2023
(arXiv 2301.02679) a two-layer quadratic network on one-hot inputs with the whole training set in every batch and
the squared loss; Doshi et al. 2023 (arXiv 2310.13061) corrupted a share of the labels. All three are settings here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from workbench.probes import late_torch as torch
from workbench.probes.component import choice, number, whole
from workbench.probes.rows import row_sum
from workbench.probes.tasks.base import Data, Inputs, Predict, Task
from workbench.probes.tasks.draws import epoch_rows, permutation
from workbench.probes.tasks.random import hash_counters, stream_key

if TYPE_CHECKING:
    from workbench.probes.spec import Probe

__all__ = ["OPERATIONS", "ModularArithmetic", "ModularArithmeticData", "operation_table"]

_TRAINING, _SPLIT, _LABELS = 0, 1, 2
#: a o b modulo p; ``divide`` is a times the inverse of b and leaves out b = 0.
OPERATIONS = ("add", "subtract", "multiply", "divide", "square_add", "square_mixed", "cube_mixed")


@dataclass(frozen=True)
class ModularArithmetic(Task):
    """a o b modulo p, learned from a share of all pairs and tested on the rest.

    One pair is one token. Where `batch_tokens` equals `train_size`, every step sees the whole training set
    (full-batch training); else pairs are drawn without replacement, epoch after epoch.
    """

    name: ClassVar[str] = "modular_arithmetic"

    modulus: int = whole(31, 2, 1021, "p; there are p^2 pairs")
    operation: str = choice(
        "add", OPERATIONS,
        "a+b, a-b, ab, a/b (b not 0, p prime), a^2+b^2, a^2+ab+b^2 or a^3+ab, all modulo p", member=True,
    )  # fmt: skip
    form: str = choice("tokens", ("tokens", "one_hot"), "tokens 'a b =', the last one scored; or 2 p one-hot numbers")
    objective: str = choice(
        "cross_entropy", ("cross_entropy", "stablemax", "squared"),
        "loss; stablemax is cross-entropy with StableMax for softmax; squared is against one-hot labels, summed over "
        "classes",
    )  # fmt: skip
    train_fraction: float = number(0.5, 0.0, 1.0, "share of all pairs that is trained on", member=True)
    corruption: float = number(0.0, 0.0, 1.0, "share of the training pairs with a wrong label", member=True)
    split_seed: int = whole(0, 0, 2**31 - 1, "draws the training pairs and the wrong labels", member=True)

    def check(self) -> None:
        if self.operation == "divide" and any(self.modulus % q == 0 for q in range(2, int(self.modulus**0.5) + 1)):
            raise ValueError(f"operation='divide' needs a prime modulus, and {self.modulus} is none; take another.")
        if not 0 < self.train_size < self.pairs:
            raise ValueError(
                f"train_fraction={self.train_fraction} leaves {self.train_size} of {self.pairs} pairs for training; "
                "both training and test need at least one."
            )

    @property
    def pairs(self) -> int:
        """Number of pairs (a, b) that have a result."""
        return self.modulus * (self.modulus - (self.operation == "divide"))

    @property
    def train_size(self) -> int:
        """Number of training pairs; `batch_tokens` of a full batch."""
        return round(self.train_fraction * self.pairs)

    @property
    def corrupted(self) -> int:
        """Number of training pairs whose label is wrong."""
        return round(self.corruption * self.train_size)

    @property
    def loss(self) -> str:
        return self.objective

    @property
    def inputs(self) -> Inputs:
        if self.form == "tokens":
            return Inputs("tokens", self.modulus + 1, 3)
        return Inputs("vectors", 2 * self.modulus)

    @property
    def outputs(self) -> int:
        return self.modulus

    @property
    def scored(self) -> tuple[int, ...] | None:
        return (2,) if self.form == "tokens" else None

    def build(self, probes: Sequence[Probe], device: torch.device) -> ModularArithmeticData:
        return ModularArithmeticData(probes, device)


def operation_table(operation: str, p: int) -> np.ndarray:
    """Results [p^2] (int64), pair (a, b) at a p + b; -1 where there is none."""
    a, b = np.divmod(np.arange(p * p, dtype=np.int64), p)
    if operation == "divide":
        inverse = np.array([-1, *(pow(int(value), -1, p) for value in range(1, p))])
        return np.where(b == 0, -1, a * inverse[b] % p)
    return {
        "add": a + b, "subtract": a - b, "multiply": a * b, "square_add": a * a + b * b,
        "square_mixed": a * a + a * b + b * b, "cube_mixed": a**3 + a * b,
    }[operation] % p  # fmt: skip


class ModularArithmeticData(Data):
    """The pairs of E members, their labels and their split.

    Attributes:
        truth: correct results [E, p^2]; -1 where there is none.
        labels: what is trained on [E, p^2]: `truth`, but for the corrupted pairs.
        train, test, wrong: which pairs are trained on, tested on, and trained on with a wrong label, [E, p^2].
    """

    def __init__(self, probes: Sequence[Probe], device: torch.device) -> None:
        self.probes, self.device = tuple(probes), device
        task = self.probes[0].task_settings
        p = self.modulus = task.modulus
        self.form, self.objective, self.batch_size = task.form, task.loss, self.probes[0].batch
        split = [_split(q.task_settings) for q in self.probes]
        self.sizes = [q.task_settings.train_size for q in self.probes]
        self.truth, self.labels, self.train, self.wrong = (
            torch.from_numpy(np.stack(column)).to(device) for column in list(zip(*split, strict=True))[:4]
        )
        self.test = (self.truth >= 0) & ~self.train
        rows = np.zeros((len(split), max(self.sizes)), np.int64)
        for member, (*_, order) in zip(rows, split, strict=True):
            member[: len(order)] = order
        self.rows = torch.from_numpy(rows).to(device)  # [E, largest training set]: pairs of the training set
        self.keys = torch.tensor([stream_key(q.seed, _TRAINING) for q in self.probes], device=device)
        self.one_hot = torch.eye(p, device=device)

    def block(self, first_step: int, count: int) -> tuple[torch.Tensor]:
        places = epoch_rows(self.keys, self.sizes, first_step, count, self.batch_size)  # [count, E, B]
        return (self.rows.expand(count, -1, -1).gather(2, places),)

    def batch(self, pairs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        labels = self.labels.gather(1, pairs)
        return self.inputs(pairs), self.one_hot[labels] if self.objective == "squared" else labels

    def inputs(self, pairs: torch.Tensor) -> torch.Tensor:
        """What a model reads for the pairs a p + b, [...]: tokens [..., 3], or numbers [..., 2 p]."""
        a, b = pairs // self.modulus, pairs % self.modulus
        if self.form == "tokens":
            return torch.stack([a, b, torch.full_like(a, self.modulus)], -1)  # token p is "="
        return torch.cat([self.one_hot[a], self.one_hot[b]], -1)

    def evaluate(self, predict: Predict) -> dict[str, torch.Tensor]:
        """Mean losses and accuracies of three groups of pairs.

        ``loss`` and ``accuracy``: test pairs. ``loss_train`` and ``accuracy_train``: training pairs against
        the labels trained on, wrong ones included. ``loss_corrupted`` and ``accuracy_corrupted``: training
        pairs with a wrong label against that label (memorized); ``accuracy_corrected``: the same pairs
        against the truth (the corruption seen through). NaN where nothing is corrupted.
        """
        against_truth, against_label, right, fitted = self._scores(predict)
        metrics = {
            "loss": _mean(against_truth, self.test),
            "accuracy": _mean(right, self.test),
            "loss_train": _mean(against_label, self.train),
            "accuracy_train": _mean(fitted, self.train),
            "loss_corrupted": _mean(against_label, self.wrong),
            "accuracy_corrupted": _mean(fitted, self.wrong),
            "accuracy_corrected": _mean(right, self.wrong),
        }
        return {name: value.cpu() for name, value in metrics.items()}

    def group_losses(self, predict: Predict) -> dict[str, torch.Tensor]:
        """``train_clean``: training pairs with a right label; ``corrected``: the wrong ones against the truth."""
        against_truth, against_label, *_ = self._scores(predict)
        found = {
            "train_clean": _mean(against_label, self.train & ~self.wrong),
            "corrected": _mean(against_truth, self.wrong),
        }
        return {name: value.cpu() for name, value in found.items()}

    def _scores(self, predict: Predict) -> tuple[torch.Tensor, ...]:
        """Of all pairs, [E, p^2]: loss against the truth and against the label, and whether either was guessed."""
        e, device = len(self.probes), self.device
        # As many pairs at a time as fit a CPU's cache; the number must not depend on E.
        chunk = max(1, (2**27 // e if device.type == "cuda" else 2**18) // self.modulus)
        columns = []
        pairs = torch.arange(self.modulus**2, device=device)
        for part, truth, labels in zip(
            pairs.split(chunk), self.truth.split(chunk, 1), self.labels.split(chunk, 1), strict=True
        ):
            y = predict(self.inputs(part)[None])
            y = y[:, :, -1] if y.dim() == 4 else y  # [E, n, p]
            guess = y.argmax(-1)
            columns.append((self._loss(y, truth), self._loss(y, labels), guess == truth, guess == labels))
        return tuple(torch.cat(c, 1) for c in zip(*columns, strict=True))

    def _loss(self, y: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """Loss of every pair, [E, n] (float64)."""
        from workbench.probes.functional import log_stablemax  # describing a task needs no torch

        classes = classes.clamp_min(0)
        if self.objective == "squared":
            return (y - self.one_hot[classes]).double().square().sum(-1)
        log = log_stablemax if self.objective == "stablemax" else partial(torch.log_softmax, dim=-1)
        return log(y).gather(-1, classes[..., None])[..., 0].double().neg()

    def facts(self, member: int) -> dict[str, Any]:
        """Sizes of the groups, and the epochs that the run asks for."""
        task = self.probes[member].task_settings
        return {
            "train_pairs": task.train_size,
            "test_pairs": task.pairs - task.train_size,
            "corrupted_pairs": task.corrupted,
            "unique_tokens": task.train_size,
            "epochs": self.probes[member].tokens / task.train_size,
        }


def _mean(values: torch.Tensor, group: torch.Tensor) -> torch.Tensor:
    """Mean over a group of pairs, [E]; NaN for an empty one."""
    return row_sum(torch.where(group, values.double(), 0.0)) / group.sum(1)


@lru_cache(maxsize=1024)
def _split(task: ModularArithmetic) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Truth, labels, training mask and corrupted mask, each [p^2], and the training pairs in ascending order."""
    p = task.modulus
    truth = operation_table(task.operation, p)
    exists = np.flatnonzero(truth >= 0)
    # One order of the pairs decides both groups, so that of two fractions the smaller set lies in the larger.
    order = exists[permutation(torch.tensor(stream_key(task.split_seed, _SPLIT)), 0, len(exists)).numpy()]
    chosen, wrong = order[: task.train_size], order[: task.corrupted]
    bits = hash_counters(torch.tensor(stream_key(task.split_seed, _LABELS)), torch.tensor(0), torch.from_numpy(wrong))
    labels = truth.copy()
    labels[wrong] = (truth[wrong] + 1 + (bits.numpy() & 0x7FFFFFFF) % (p - 1)) % p  # any residue but the right one
    groups = np.zeros((2, p * p), bool)
    groups[0, chosen] = groups[1, wrong] = True
    return truth, labels, groups[0], groups[1], np.sort(chosen)
