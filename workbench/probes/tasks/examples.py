"""`ExampleData`: the data of tasks whose examples are independent: fresh ones without end, or a finite set.

A task's file says how one example comes from counters; everything else is here: which examples a step
sees, noise on labels, what stays in memory, and the scores on held-out and on training examples.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.probes import late_torch as torch
from workbench.probes.component import number, whole
from workbench.probes.tasks.base import Data, Predict
from workbench.probes.tasks.draws import epoch_rows, normals, uniforms
from workbench.probes.tasks.random import stream_key

if TYPE_CHECKING:
    from workbench.probes.spec import Probe

__all__ = [
    "ExampleData", "label_noise", "orthonormal", "parameters_of", "products", "row_means", "stratum_means",
    "target_noise", "task_seed", "test_size",
    "train_size",
]  # fmt: skip

#: Purposes of `stream_key`: fresh examples (of a probe's `seed`), then held-out examples, a finite training set
#: (both of a task's `task_seed`), and the order in which a finite set is seen (`seed`).
_FRESH, _TEST, _SET, _ORDER = 0, 1, 2, 3
#: Counter of the noise of an example, far from the counters of its other numbers.
_NOISE = 2**40
#: Examples of a finite training set that are scored at an evaluation point, at most.
_SCORED = 8192
#: Numbers an example may need to be drawn ahead of its step; longer ones are drawn within it, to save memory.
_AHEAD = {"cpu": 64, "cuda": 16}
#: Settings that do not change what the held-out examples are.
_NOT_OF_THE_PROBLEM = ("train_size", "label_noise", "target_noise")


def task_seed() -> int:
    """The field `task_seed`."""
    return whole(0, 0, 2**31 - 1, "draws the problem itself, its held-out examples and a finite set", member=True)


def train_size(default: int = 0, most: int = 2**24) -> int:
    """The field `train_size`; with 0 allowed (fresh examples) unless the default is a finite set."""
    if default == 0:
        return whole(0, 0, most, "examples of a finite training set, without replacement; 0: always fresh ones")
    return whole(default, 1, most, "examples of the training set, seen without replacement", member=True)


def test_size(default: int = 4096, most: int = 2**22) -> int:
    """The field `test_size`."""
    return whole(default, 1, most, "held-out examples of an evaluation")


def label_noise() -> float:
    """The field `label_noise`."""
    return number(0.0, 0.0, 1.0, "share of training labels replaced by a wrong one, drawn alike", member=True)


def target_noise() -> float:
    """The field `target_noise`."""
    return number(0.0, 0.0, 1e6, "standard deviation of normal noise on training targets", member=True)


class ExampleData(Data):
    """Stacked training examples and held-out examples of a task of independent examples.

    A subclass declares `prepare`, `width`, `raw` and `make`. An example is a pure function of (key, number):
    fresh examples are numbered through all steps under a key of the probe's `seed`; a finite training set is
    numbers 0 ... train_size - 1 under a key of `task_seed`, so smaller sets are the beginnings of larger
    ones. Held-out examples have a key of their own. Inputs and noise are the same bits on every device;
    targets are wherever no matrix product makes them, else they agree to rounding.

    Noise is on training targets only. Held-out targets are clean.
    """

    def __init__(self, probes: Sequence[Probe], device: torch.device) -> None:
        self.probes, self.device = tuple(probes), device
        self.tasks = [probe.task_settings for probe in probes]
        self.task = self.tasks[0]
        self.members = len(self.probes)
        self.prepare()
        one = len({_problem(task) for task in self.tasks}) == 1
        #: Members whose examples differ: one stands for all where the problem is the same.
        self.distinct = slice(0, 1) if one else slice(None)
        levels = [getattr(task, "label_noise", getattr(task, "target_noise", 0.0)) for task in self.tasks]
        self.noise = torch.tensor(levels, device=device) if any(levels) else None
        self.noise_at = torch.tensor(_NOISE, device=device)
        self.batch_size = self.probes[0].batch_tokens
        self.sizes = [task.train_size for task in self.tasks]
        self.finite = self.sizes[0] > 0
        entries = self.task.inputs.size * self.task.inputs.context
        low, high, budget = (16, 256, 2**15) if device.type == "cpu" else (256, 4096, 2**20)
        # A function of the task alone: the shape of a matrix product decides the order of its sums.
        self.chunk = max(low, min(high, budget // entries))
        if self.finite:
            self._keep()
        else:
            keys = [stream_key(probe.seed, _FRESH) for probe in probes]
            unique = list(dict.fromkeys(keys))  # members of one seed see the same examples: drawn once
            self.keys = torch.tensor(unique, device=device)
            self.stream = torch.tensor([unique.index(key) for key in keys], device=device)
            self.ahead = self.width <= _AHEAD[device.type]
        self.test_inputs, self.test_targets = self._test()

    # What a task says -------------------------------------------------------------------------------------------

    @abstractmethod
    def prepare(self) -> None:
        """Make the parameters of the members' problems, tensors [E, ...] on the device, from `tasks`."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Numbers of `raw` an example needs."""

    @abstractmethod
    def raw(self, keys: torch.Tensor, numbers: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What is random in examples, straight from counters: tensors [K, n, ...] for keys [K], numbers [n]."""

    @abstractmethod
    def make(self, raw: tuple[torch.Tensor, ...], members: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs [M, n, ...] (float32) and clean targets [M, n] (int64) or [M, n, K] (float32) of these members.

        Args:
            raw: tensors [M, n, ...] as `raw` makes them.
            members: which members' parameters hold.
        """

    def _test(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Held-out inputs and clean targets [G, test_size, ...], G = 1 or E."""
        return self.examples(_TEST, self.task.test_size)

    # Training ---------------------------------------------------------------------------------------------------

    def block(self, first_step: int, count: int) -> tuple[torch.Tensor, ...]:
        b = self.batch_size
        if self.finite:
            return (epoch_rows(self.order, self.sizes, first_step, count, b).to(torch.int32),)
        numbers = torch.arange(first_step * b, (first_step + count) * b, device=self.device)
        if not self.ahead:
            return (numbers.view(count, 1, b).expand(count, self.members, b),)
        drawn = self._drawn(self.keys, numbers)
        return tuple(
            one.unflatten(1, (count, b)).index_select(0, self.stream).transpose(0, 1).contiguous() for one in drawn
        )

    def batch(self, *one: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.finite:
            return self._pick(one[0])
        if not self.ahead:
            one = tuple(part.index_select(0, self.stream) for part in self._drawn(self.keys, one[0][0]))
        return self._made(one, slice(None))

    def _drawn(self, keys: torch.Tensor, numbers: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """`raw`, and behind it one number [K, n] for the noise where there is any."""
        raw = self.raw(keys, numbers)
        if self.noise is None:
            return raw
        draw = uniforms if self.task.loss == "cross_entropy" else normals
        return (*raw, draw(keys[:, None], numbers, self.noise_at))

    def _made(self, drawn: tuple[torch.Tensor, ...], members: slice) -> tuple[torch.Tensor, torch.Tensor]:
        if self.noise is None:
            return self.make(drawn, members)
        x, y = self.make(drawn[:-1], members)
        return x, self._noisy(y, drawn[-1], self.noise[members])

    def _noisy(self, y: torch.Tensor, draw: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        """Targets with noise: classes are shifted to one of the others, real targets moved by `level` * draw."""
        if self.task.loss == "squared":
            return y + level[:, None, None] * draw[..., None]
        level, k = level[:, None], self.task.outputs
        # A draw below the level says by where below it which of the k - 1 wrong labels it is.
        shift = 1 + (draw / level.clamp_min(1e-9) * (k - 1)).clamp_max(k - 2).floor().long()
        return torch.where(draw < level, (y + shift) % k, y)

    # A finite training set --------------------------------------------------------------------------------------

    def _keep(self) -> None:
        """Draw the training sets: inputs [G, N, ...], targets [E, N, ...], N the largest size in whole chunks."""
        self.order = torch.tensor([stream_key(probe.seed, _ORDER) for probe in self.probes], device=self.device)
        n = -(-max(self.sizes) // self.chunk) * self.chunk
        self.inputs, self.clean = self.examples(_SET, n)
        self.targets = self.clean.expand(self.members, *self.clean.shape[1:]).contiguous()
        if self.noise is not None:
            keys = self._task_keys(_SET, slice(None))
            draw = uniforms if self.task.loss == "cross_entropy" else normals
            draws = draw(keys[:, None], torch.arange(n, device=self.device), self.noise_at)
            self.targets = self._noisy(self.targets, draws, self.noise)
        self.offsets = torch.arange(self.members, device=self.device)[:, None] * n
        self.whole = all(size == self.batch_size for size in self.sizes)

    def _pick(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The rows [E, B] of every member's training set."""
        b = rows.shape[1]
        if self.whole:
            x = self.inputs[:, :b]
            return x.expand(self.members, *x.shape[1:]), self.targets[:, :b].contiguous()
        rows = rows.long()
        where = rows if len(self.inputs) == 1 else rows + self.offsets
        x = self.inputs.flatten(0, 1).index_select(0, where.flatten())
        y = self.targets.flatten(0, 1).index_select(0, (rows + self.offsets).flatten())
        return x.unflatten(0, rows.shape), y.unflatten(0, rows.shape)

    def examples(self, purpose: int, n: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and clean targets of examples 0 ... n - 1 of the members that differ, [G, n, ...]."""
        keys = self._task_keys(purpose, self.distinct)
        numbers = torch.arange(n, device=self.device)
        made = [self.make(self.raw(keys, part), self.distinct) for part in numbers.split(self.chunk)]
        return torch.cat([x for x, _ in made], 1), torch.cat([y for _, y in made], 1)

    def _task_keys(self, purpose: int, members: slice) -> torch.Tensor:
        return torch.tensor([stream_key(t.task_seed, purpose) for t in self.tasks[members]], device=self.device)

    # Evaluation -------------------------------------------------------------------------------------------------

    def evaluate(self, predict: Predict) -> dict[str, torch.Tensor]:
        """``loss`` on held-out examples with clean targets, in the task's loss; ``accuracy`` where there are classes.

        With a finite training set also ``loss_train`` and ``accuracy_train``: on its examples (the first 8192
        at most), with the targets that training sees.
        """
        found = self.summary(*self.score(predict, self.test_inputs, self.test_targets))
        if self.finite:
            sizes, n = self._scored_sizes()
            scores = self.score(predict, self.inputs[:, :n], self.targets[:, :n])
            names = ("loss", "accuracy")
            found |= {f"{k}_train": row_means(s, sizes) for k, s in zip(names, scores, strict=True) if s is not None}
        return found

    def groups(self) -> tuple[Sequence[str], torch.Tensor]:
        """Names of groups of held-out examples, and the group of each, [G, test_size] (int64); others count nowhere."""
        return (), torch.empty(0)

    def group_losses(self, predict: Predict) -> dict[str, torch.Tensor]:
        """Held-out losses of the task's `groups`; with noise on the labels of a finite set those of its examples too.

        ``train_clean`` and ``train_noisy``: training examples (the first 8192 at most) with a right and with a
        wrong label, against the labels that training sees.
        """
        found = {}
        names, group = self.groups()
        if names:
            losses, _ = self.score(predict, self.test_inputs, self.test_targets)
            group = group.expand(len(losses), -1)
            found = {name: _group_means(losses, group == place) for place, name in enumerate(names)}
        if self.finite and self.noise is not None and self.task.loss == "cross_entropy":
            losses, wrong, seen = self._training_losses(predict)
            found |= {
                "train_clean": _group_means(losses, seen & ~wrong),
                "train_noisy": _group_means(losses, seen & wrong),
            }
        return found

    def _training_losses(self, predict: Predict) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Loss of scored training examples, whether the label is wrong, and whether the member has the example."""
        sizes, n = self._scored_sizes()
        losses, _ = self.score(predict, self.inputs[:, :n], self.targets[:, :n])
        seen = torch.arange(n, device=self.device) < torch.tensor(sizes, device=self.device)[:, None]
        return losses, self.targets[:, :n] != self.clean[:, :n], seen

    def _scored_sizes(self) -> tuple[list[int], int]:
        """Training examples scored of each member, and the number in whole chunks that covers them all."""
        sizes = [min(size, _SCORED) for size in self.sizes]
        # whole chunks: what a member's rows are computed with must not depend on the sizes of others
        return sizes, -(-max(sizes) // self.chunk) * self.chunk

    def facts(self, member: int) -> dict[str, Any]:
        """``unique_tokens`` of a finite training set, and the ``epochs`` that the run asks for."""
        if not self.finite:
            return {}
        return {"unique_tokens": self.sizes[member], "epochs": self.probes[member].tokens / self.sizes[member]}

    def summary(self, losses: torch.Tensor, hits: torch.Tensor | None) -> dict[str, torch.Tensor]:
        """Metrics from the losses and hits [E, test_size] of the held-out examples."""
        found = {"loss": row_means(losses)}
        return found if hits is None else {**found, "accuracy": row_means(hits)}

    def score(
        self, predict: Predict, inputs: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Loss [E, n] (float64) of every example and whether its class was found (None for real targets)."""
        losses, hits = [], []
        for x, y in zip(inputs.split(self.chunk, 1), targets.split(self.chunk, 1), strict=True):
            out = predict(x)
            if self.task.loss == "squared":
                losses.append((out - y).double().square().sum(-1))
                continue
            y = y.expand(len(out), -1)
            losses.append(torch.log_softmax(out, -1).gather(-1, y[..., None])[..., 0].double().neg())
            hits.append((out.argmax(-1) == y).double())
        return torch.cat(losses, 1), torch.cat(hits, 1) if hits else None


def row_means(values: torch.Tensor, sizes: Sequence[int] | None = None) -> torch.Tensor:
    """Means [E] (float64, CPU) of the first `sizes` values of each row of [E, n]; of all where left out.

    Row by row on a CPU: how a sum over rows of a matrix is ordered depends on how many rows there are.
    """
    sizes = [values.shape[1]] * len(values) if sizes is None else sizes
    return torch.stack([row[:size].mean() for row, size in zip(values, sizes, strict=True)]).double().cpu()


def _group_means(values: torch.Tensor, group: torch.Tensor) -> torch.Tensor:
    """Means [E] (float64, CPU) of values [E, n] where `group` [E, n]; NaN where that is nowhere. Row by row."""
    return torch.stack([row[chosen].mean() for row, chosen in zip(values, group, strict=True)]).double().cpu()


def stratum_means(values: torch.Tensor, strata: int) -> torch.Tensor:
    """Means [E, strata] of values [E, n], where example i belongs to stratum i % strata; row by row as `row_means`."""
    return torch.stack([row.view(-1, strata).mean(0) for row in values])


def products(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """x w for x [M, n, d] and w [M, d, K] in float64, untouched by settings that round products: [M, n, K]."""
    from workbench.probes.functional import product

    return product(x.double(), w.double())


def parameters_of(arrays: Sequence[np.ndarray], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Arrays of the members as one tensor [E, ...]."""
    return torch.tensor(np.stack(arrays), dtype=dtype, device=device)


def orthonormal(seed: int, count: int, dimension: int) -> np.ndarray:
    """`count` random orthonormal vectors [count, dimension] (float64), uniform over all such sets.

    Rounded to multiples of 2^-30, so that LAPACKs that differ in the last bits give one problem.
    """
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((dimension, count)))
    # Signs of R's diagonal are LAPACK's choice; fixing them makes Q unique and Haar-distributed (Mezzadri 2007).
    return np.round((q * np.sign(np.diag(r))).T * 2**30) / 2**30


def _problem(task: object) -> tuple:
    """What fixes the held-out examples, of the fields in which members may differ."""
    return tuple(
        getattr(task, one.name)
        for one in fields(task)
        if one.metadata["member"] and one.name not in _NOT_OF_THE_PROBLEM
    )
