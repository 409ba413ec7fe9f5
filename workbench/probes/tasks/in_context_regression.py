"""In-context linear regression: learn to learn a linear function from the examples in the input.

Garg et al. 2022 (arXiv 2208.01066): an input is x_0, y_0, x_1, y_1, ... with y = w x of a w drawn anew for
every input, and each y is to be predicted from what precedes it. The best predictor is ridge regression with
the right penalty (the Bayes posterior mean), so its error after every number of examples is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from workbench.probes import late_torch as torch
from workbench.probes.component import number, whole
from workbench.probes.tasks.base import Data, Inputs, Predict, Task
from workbench.probes.tasks.draws import normal_rows
from workbench.probes.tasks.random import stream_key

if TYPE_CHECKING:
    from workbench.probes.spec import Probe

__all__ = ["InContextRegression", "InContextRegressionData", "posterior", "shown_counts"]

_TRAINING, _EVALUATION = 0, 1
_PROMPTS = 512


@dataclass(frozen=True)
class InContextRegression(Task):
    """Predict y_k = w x_k + noise from k examples, for k = 0 ... `examples` - 1; squared error.

    x and noise are normal, w has variance 1 / `features` an entry, so that the loss without examples is
    1 + noise^2. Positions 2k hold (x_k, 0) and are scored, positions 2k + 1 hold (0, y_k). One input is one
    token of the horizon.
    """

    name: ClassVar[str] = "in_context_regression"
    loss: ClassVar[str] = "squared"

    features: int = whole(8, 1, 128, "dimension d of x")
    examples: int = whole(24, 1, 512, "numbers y that are predicted, from 0 to examples - 1 examples")
    noise: float = number(0.1, 0.0, 100.0, "standard deviation of the noise of y", member=True)

    @property
    def inputs(self) -> Inputs:
        return Inputs("sequences", self.features + 1, 2 * self.examples - 1)

    @property
    def outputs(self) -> int:
        return 1

    @property
    def scored(self) -> tuple[int, ...]:
        return tuple(range(0, 2 * self.examples - 1, 2))

    def build(self, probes: Sequence[Probe], device: torch.device) -> InContextRegressionData:
        return InContextRegressionData(probes, device)


def shown_counts(features: int, examples: int) -> list[int]:
    """Numbers of examples at which the loss is a metric of its own: 0, d/2, d, 2d and the largest."""
    return sorted({k for k in (0, features // 2, features, 2 * features, examples - 1) if k < examples})


def posterior(x: np.ndarray, y: np.ndarray, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of every y given x of it and the examples before, under the prior w ~ N(0, 1/d).

    Args:
        x: [n, K, d].
        y: [n, K].
        noise: standard deviation of y's noise.

    Returns:
        Both [n, K] (float64). The mean is ridge regression with penalty d noise^2 (for noise 0, the least
        squares solution of least norm), the variance the smallest expected squared error there is.
    """
    n, k, d = x.shape
    mean, covariance = np.zeros((n, d)), np.broadcast_to(np.eye(d) / d, (n, d, d)).copy()
    means, variances = np.empty((n, k)), np.empty((n, k))
    for i in range(k):  # recursive least squares, one example at a time
        point = x[:, i]
        spread = np.einsum("nab,nb->na", covariance, point)
        unknown = np.maximum((spread * point).sum(1), 0.0)
        means[:, i] = (mean * point).sum(1)
        variances[:, i] = unknown + noise**2
        # without noise nothing is left to learn after d examples but rounding errors
        gain = spread / np.where(variances[:, i] > 1e-12, variances[:, i], np.inf)[:, None]
        mean = mean + gain * (y[:, i] - means[:, i])[:, None]
        covariance -= gain[:, :, None] * spread[:, None]
    return means, variances


class InContextRegressionData(Data):
    """Stacked streams of prompts, and held-out prompts with their Bayes-optimal answers.

    Attributes:
        heldout: prompts [G, n, T, d + 1], G = 1 or E.
        mean, variance: of every y given what precedes it, [G, n, K] (float64).
    """

    def __init__(self, probes: Sequence[Probe], device: torch.device) -> None:
        self.probes, self.device = tuple(probes), device
        first = self.probes[0]
        self.sequences, self.features, self.examples = first.batch, first.features, first.examples
        noises = [p.noise for p in self.probes]
        self.noise = torch.tensor(noises, dtype=torch.float64, device=device)
        self.keys = torch.tensor([stream_key(p.seed, _TRAINING) for p in self.probes], device=device)
        self.counts = shown_counts(self.features, self.examples)
        self.held = [
            _heldout(self.features, self.examples, s) for s in (noises[:1] if len(set(noises)) == 1 else noises)
        ]
        self.heldout = _prompts(*(torch.stack([getattr(one, name) for one in self.held]).to(device) for name in "xy"))
        self.mean, self.variance = (
            torch.from_numpy(np.stack([getattr(one, name) for one in self.held])).to(device)
            for name in ("mean", "variance")
        )

    def block(self, first_step: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        shape = (count, len(self.probes), self.sequences)
        numbers = torch.arange(first_step * shape[2], (first_step + count) * shape[2], device=self.device)
        keys, numbers, noise = (
            part.expand(shape).reshape(-1)
            for part in (self.keys[:, None], numbers.view(count, 1, -1), self.noise[:, None])
        )
        x, y = _draw(keys, numbers, noise, self.features, self.examples)
        return x.view(*shape, self.examples, self.features), y.view(*shape, self.examples)

    def batch(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return _prompts(x, y), y.flatten(1)[..., None]

    def evaluate(self, predict: Predict) -> dict[str, torch.Tensor]:
        """``loss`` (mean over all numbers of examples), ``loss_excess`` and ``loss_after_<k>`` for a few k, [E].

        The expected squared error given each held-out prompt: the Bayes variance plus the squared distance
        from the Bayes mean. ``loss_excess`` is the second part alone.
        """
        e = len(self.probes)
        t = self.heldout.shape[2]
        # A chunk must not depend on E on a CPU, where the shape of a product decides the order of its sums.
        chunk = max(1, (2**20 // e if self.device.type == "cuda" else 2**12) // t)
        total = torch.zeros(e, self.examples, dtype=torch.float64, device=self.device)
        for part, mean in zip(self.heldout.split(chunk, 1), self.mean.split(chunk, 1), strict=True):
            guess = predict(part)[:, :, ::2, 0].double()  # [E, b, K]
            total += (guess - mean).square().sum(1)
        excess = total / self.heldout.shape[1]
        by_count = excess + self.variance.mean(1)
        metrics = {"loss": by_count.mean(1), "loss_excess": excess.mean(1)}
        metrics |= {f"loss_after_{k}": by_count[:, k] for k in self.counts}
        return {name: value.cpu() for name, value in metrics.items()}

    def facts(self, member: int) -> dict[str, Any]:
        """Losses of the best predictor and of least squares on the held-out prompts, named as the metrics."""
        one = self.held[member if len(self.held) > 1 else 0]
        found = {"optimal_loss": float(one.variance.mean())}
        for k in self.counts:
            found[f"optimal_loss_after_{k}"] = float(one.variance[:, k].mean())
            found[f"least_squares_loss_after_{k}"] = one.least_squares(k)
        return found


def _draw(
    keys: torch.Tensor, numbers: torch.Tensor, noise: torch.Tensor, d: int, k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """x [n, K, d] and y [n, K] (float32) of the prompts (keys[i], numbers[i])."""
    drawn = normal_rows(keys, numbers, d + k * d + k)
    w, x, new = drawn[:, :d].double(), drawn[:, d : d + k * d].view(-1, k, d), drawn[:, d + k * d :].double()
    y = noise[:, None] * new
    for feature in range(d):  # one after the other, so that the order of the sum is the same everywhere
        y = y + x[..., feature].double() * (w[:, feature, None] / d**0.5)
    return x, y.float()


def _prompts(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Inputs [..., 2 K - 1, d + 1] from x [..., K, d] and y [..., K]; the last y is not shown."""
    asked = torch.cat([x, torch.zeros_like(x[..., :1])], -1)
    told = torch.cat([torch.zeros_like(x), y[..., None]], -1)
    return torch.stack([asked, told], -2).flatten(-3, -2)[..., :-1, :]


@dataclass(frozen=True)
class _Heldout:
    x: torch.Tensor
    y: torch.Tensor
    mean: np.ndarray
    variance: np.ndarray

    def least_squares(self, k: int) -> float:
        """Expected squared error of the least squares solution (of least norm) after k examples."""
        x, y = self.x.double().numpy(), self.y.double().numpy()
        guess = np.zeros(len(x))
        if k:
            w = np.einsum("ndk,nk->nd", np.linalg.pinv(x[:, :k]), y[:, :k])
            guess = (w * x[:, k]).sum(1)
        return float((self.variance[:, k] + (guess - self.mean[:, k]) ** 2).mean())


@lru_cache(maxsize=16)
def _heldout(features: int, examples: int, noise: float) -> _Heldout:
    key = torch.tensor(stream_key(0, _EVALUATION)).expand(_PROMPTS)
    sd = torch.full((_PROMPTS,), noise, dtype=torch.float64)
    x, y = _draw(key, torch.arange(_PROMPTS), sd, features, examples)
    return _Heldout(x, y, *posterior(x.double().numpy(), y.double().numpy(), noise))
