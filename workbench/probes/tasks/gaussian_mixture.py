"""Gaussian mixtures with rare classes: classification whose best possible error is computed, not guessed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from scipy.special import log_ndtr, logsumexp

from workbench.probes import late_torch as torch
from workbench.probes.component import number, whole
from workbench.probes.tasks.base import Inputs, Task
from workbench.probes.tasks.draws import normal_rows, uniforms
from workbench.probes.tasks.examples import (
    ExampleData,
    label_noise,
    orthonormal,
    parameters_of,
    row_means,
    stratum_means,
    task_seed,
    test_size,
    train_size,
)

if TYPE_CHECKING:
    from workbench.probes.spec import Probe

__all__ = ["GaussianMixture", "MixtureData"]

_CLASS = 2**41
#: Up to so many classes get columns of their own.
_COLUMNS = 20


@dataclass(frozen=True)
class GaussianMixture(Task):
    """K classes with orthonormal means times `separation` and standard normal noise in `dimension` dimensions.

    Class k = 0 ... K - 1 has probability ~ imbalance^(-k / (K - 1)), the exponential profile of long-tailed
    benchmarks: the commonest is `imbalance` times as frequent as the rarest. Cross-entropy in nats.
    """

    name: ClassVar[str] = "gaussian_mixture"

    classes: int = whole(4, 2, 1024, "classes K")
    dimension: int = whole(32, 2, 2**16, "dimension of the inputs, at least K")
    separation: float = number(2.0, 0.0, 1e4, "length of the means, in standard deviations of the noise", member=True)
    imbalance: float = number(1.0, 1.0, 1e6, "probability of the commonest class over the rarest", member=True)
    label_noise: float = label_noise()
    train_size: int = train_size(1024)
    test_size: int = test_size(4096)
    task_seed: int = task_seed()

    def check(self) -> None:
        if self.dimension < self.classes:
            raise ValueError(f"dimension={self.dimension} is less than classes={self.classes}; raise it.")
        if self.test_size < self.classes:
            raise ValueError(f"test_size={self.test_size} is less than classes={self.classes}; raise it.")

    @property
    def inputs(self) -> Inputs:
        return Inputs("vectors", self.dimension)

    @property
    def outputs(self) -> int:
        return self.classes

    @property
    def priors(self) -> np.ndarray:
        """Probability of each class, [K], falling."""
        p = self.imbalance ** (-np.arange(self.classes) / (self.classes - 1))
        return p / p.sum()

    @property
    def means(self) -> np.ndarray:
        """Means of the classes, [K, dimension]."""
        return self.separation * orthonormal(self.task_seed, self.classes, self.dimension)

    @property
    def bayes_errors(self) -> np.ndarray:
        """Error of the best classifier within each class, [K], by quadrature (to about 1e-9).

        The log posterior of class j is separation * z_j + log prior_j up to a common term, with z_j the
        coordinate of x along mean j, and these coordinates are independent normal numbers. So class k is
        told right with probability E_t prod_(j != k) Phi(t + s + log(prior_k / prior_j) / s).
        """
        return _bayes_errors(self.separation, tuple(self.priors))

    @property
    def bayes_error(self) -> float:
        """Error of the best classifier on clean labels."""
        return float(self.priors @ self.bayes_errors)

    @property
    def floor(self) -> float:
        """Smallest possible cross-entropy on clean labels, the entropy of the class given x, nats.

        By quadrature for two classes; for more by the mean over 2^16 quasi-random points a class (Sobol,
        fixed), good to about 1e-3 of log K.
        """
        return _floor(self.separation, tuple(self.priors))

    def build(self, probes: Sequence[Probe], device: torch.device) -> MixtureData:
        return MixtureData(probes, device)


class MixtureData(ExampleData):
    """Stacked training sets of mixtures; see `ExampleData`. Inputs and labels are the same bits on every device.

    Held-out examples: the same number of each class, its mean weighted with its exact probability.

    Beside ``loss`` and ``accuracy``: ``loss_balanced`` and ``accuracy_balanced`` (all classes count alike)
    and, for up to 20 classes, ``loss_class_0``, ``accuracy_class_0``, ... from the commonest on.
    """

    task: GaussianMixture

    def prepare(self) -> None:
        self.means = parameters_of([t.means for t in self.tasks], self.device, torch.float32)  # [E, K, F]
        limits = [np.cumsum(t.priors) for t in self.tasks]
        self.limits = parameters_of(limits, self.device, torch.float32)
        self.priors = parameters_of([t.priors for t in self.tasks], self.device, torch.float64)
        self.class_at = torch.tensor(_CLASS, device=self.device)

    @property
    def width(self) -> int:
        return self.task.dimension + 1

    def raw(self, keys: torch.Tensor, numbers: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return uniforms(keys[:, None], numbers, self.class_at), normal_rows(keys[:, None], numbers, self.task.dimension)

    def make(self, raw: tuple[torch.Tensor, ...], members: slice) -> tuple[torch.Tensor, torch.Tensor]:
        draw, noise = raw
        label = torch.searchsorted(self.limits[members], draw).clamp_max(self.task.classes - 1)
        return self._placed(label, noise, members), label

    def _placed(self, label: torch.Tensor, noise: torch.Tensor, members: slice) -> torch.Tensor:
        means = self.means[members]
        return noise + means.gather(1, label[..., None].expand(-1, -1, means.shape[2]))

    def _test(self) -> tuple[torch.Tensor, torch.Tensor]:
        k = self.task.classes
        keys = self._task_keys(1, self.distinct)
        numbers = torch.arange(self.task.test_size // k * k, device=self.device)
        label = (numbers % k).expand(len(keys), -1)
        return self._placed(label, self.raw(keys, numbers)[1], self.distinct), label

    def summary(self, losses: torch.Tensor, hits: torch.Tensor | None) -> dict[str, torch.Tensor]:
        k, found = self.task.classes, {}
        for name, values in (("loss", losses), ("accuracy", hits)):
            each = stratum_means(values, k)  # [E, K]
            found[name] = row_means(each * self.priors * k)
            found[f"{name}_balanced"] = row_means(each)
            if k <= _COLUMNS:
                found |= {f"{name}_class_{i}": each[:, i].cpu() for i in range(k)}
        return found

    def groups(self) -> tuple[Sequence[str], torch.Tensor]:
        """The classes, where they are too many for columns of their own."""
        k = self.task.classes
        return [f"class_{i}" for i in range(k)] if k > _COLUMNS else (), self.test_targets

    def facts(self, member: int) -> dict[str, Any]:
        """Beside those of any finite set, ``bayes_error`` of the member's mixture, on clean labels."""
        return {**super().facts(member), "bayes_error": self.tasks[member].bayes_error}


@lru_cache(maxsize=64)
def _bayes_errors(s: float, priors: tuple[float, ...]) -> np.ndarray:
    prior = np.log(priors)
    if s == 0:  # only the priors speak: the commonest class is always told; ties go to the first
        return (np.arange(len(prior)) != np.argmax(prior)).astype(float)
    t = np.linspace(-12, 12, 4801)
    density = np.exp(-(t**2) / 2) / math.sqrt(2 * math.pi)
    errors = []
    for k in range(len(prior)):
        others = np.delete(prior, k)
        right = np.exp(log_ndtr(t[:, None] + s + (prior[k] - others) / s).sum(1))
        # the trapezoidal rule is exact to rounding for such functions; 1 - right keeps small errors exact
        errors.append(float(density @ (1 - right)) * (t[1] - t[0]))
    return np.array(errors)


@lru_cache(maxsize=64)
def _floor(s: float, priors: tuple[float, ...]) -> float:
    prior, k = np.log(priors), len(priors)
    if k == 2:
        t = np.linspace(-12, 12, 4801)
        density = np.exp(-(t**2) / 2) / math.sqrt(2 * math.pi) * (t[1] - t[0])
        # the difference of the two scores is normal: mean +-s^2 plus that of the priors, variance 2 s^2
        margins = (s * s + sign * (prior[0] - prior[1]) + math.sqrt(2) * s * t for sign in (1, -1))
        return float(sum(p * (density @ np.logaddexp(0, -m)) for p, m in zip(priors, margins, strict=True)))
    from scipy.stats import norm, qmc

    z = norm.ppf(qmc.Sobol(k, scramble=True, rng=np.random.default_rng(0)).random_base2(16 if k <= 64 else 12))
    total = 0.0
    for i in range(k):
        scores = s * z + prior
        scores[:, i] += s * s
        total += priors[i] * float(np.mean(logsumexp(scores, axis=1) - scores[:, i]))
    return total
