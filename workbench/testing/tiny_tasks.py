"""The smallest tasks of every kind of input, for contract tests; not among the tasks of probes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from workbench.probes import late_torch as torch
from workbench.probes.tasks.base import Data, Inputs, Predict, Task
from workbench.probes.tasks.random import hash_counters, stream_key

if TYPE_CHECKING:
    from workbench.probes.spec import Probe

__all__ = ["TINY_TASKS"]


@dataclass(frozen=True)
class _Tiny(Task):
    """Inputs are uniform draws; subclasses say what is asked about them."""

    given: ClassVar[Inputs]
    answers: ClassVar[int] = 1
    asked: ClassVar[tuple[int, ...] | None] = None

    @property
    def inputs(self) -> Inputs:
        return self.given

    @property
    def outputs(self) -> int:
        return self.answers

    @property
    def scored(self) -> tuple[int, ...] | None:
        return self.asked

    def build(self, probes: Sequence[Probe], device: torch.device) -> _TinyData:
        return _TinyData(self, probes, device)

    def targets(self, x: torch.Tensor) -> torch.Tensor:
        """Right answers [..., n] or [..., n, K] for inputs [..., T, F] (tokens: [..., T])."""
        raise NotImplementedError


class TinyVectors(_Tiny):
    """Regression of a product plus a linear function of a vector."""

    name, loss, given = "tiny_vectors", "squared", Inputs("vectors", 5)

    def targets(self, x):
        return (x[..., 0, :1] + x[..., 0, 1:2] * x[..., 0, 2:3])[..., None, :]


class TinySignals(_Tiny):
    """Which of two ends of a signal is higher."""

    name, given, answers = "tiny_signals", Inputs("signals", 1, 9), 2

    def targets(self, x):
        return (x[..., :1, 0] > x[..., -1:, 0]).long()


class TinySequences(_Tiny):
    """Regression of the sum of this and the last position of a sequence."""

    name, loss, given = "tiny_sequences", "squared", Inputs("sequences", 3, 6)

    def targets(self, x):
        first = x[..., :1]
        return torch.cat([first[..., :1, :], first[..., 1:, :] + first[..., :-1, :]], -2)


class TinyLast(TinySequences):
    """The same, asked at the last position only."""

    name, asked = "tiny_last", (5,)

    def targets(self, x):
        return super().targets(x)[..., -1:, :]


class TinyRecall(_Tiny):
    """The first of three tokens, asked at the last."""

    name, given, answers, asked = "tiny_recall", Inputs("tokens", 7, 3), 7, (2,)

    def targets(self, x):
        return x[..., :1]


TINY_TASKS: dict[str, type[Task]] = {
    one.name: one for one in (TinyVectors, TinySignals, TinySequences, TinyLast, TinyRecall)
}


class _TinyData(Data):
    def __init__(self, task: _Tiny, probes: Sequence[Probe], device: torch.device) -> None:
        self.task, self.device, self.batch_size = task, device, probes[0].batch
        self.keys = torch.tensor([stream_key(probe.seed, 0) for probe in probes], device=device)
        self.heldout = self._draw(torch.tensor([[[stream_key(0, 1)]]], device=device), torch.arange(200, device=device))

    def block(self, first_step: int, count: int) -> tuple[torch.Tensor]:
        at = torch.arange(first_step * self.batch_size, (first_step + count) * self.batch_size, device=self.device)
        return (self._draw(self.keys[None, :, None], at.view(count, 1, -1)),)

    def batch(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        targets = self.task.targets(x)  # [E, B, n] or [E, B, n, K]
        return self._shaped(x), targets.flatten(1, 2)

    def evaluate(self, predict: Predict) -> dict[str, torch.Tensor]:
        x = self.heldout[0]  # [1, n, ...]
        y, targets = predict(self._shaped(x)), self.task.targets(x)
        if self.task.inputs.kind in ("vectors", "signals"):
            y = y[:, :, None]
        elif self.task.scored is not None:
            y = y[:, :, list(self.task.scored)]
        y = y.double()
        if self.task.loss == "squared":
            loss = (y - targets).square().sum(-1)
        else:
            loss = -torch.log_softmax(y, -1).gather(-1, targets.expand(y.shape[:-1])[..., None])
        return {"loss": loss.flatten(1).mean(1).cpu()}

    def _draw(self, keys: torch.Tensor, examples: torch.Tensor) -> torch.Tensor:
        given = self.task.inputs
        size = given.context * (1 if given.kind == "tokens" else given.size)
        bits = hash_counters(keys[..., None], examples[..., None], torch.arange(size, device=self.device))
        if given.kind == "tokens":
            return bits % given.size
        uniform = (bits >> 40).to(torch.float32) / 2**23  # [-1, 1)
        return uniform.view(*uniform.shape[:-1], given.context, given.size)

    def _shaped(self, x: torch.Tensor) -> torch.Tensor:
        return x[..., 0, :] if self.task.inputs.kind == "vectors" else x
