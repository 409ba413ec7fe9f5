"""XOR clusters with flipped labels: a network first fits every label and knows nothing, then knows nearly all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from scipy.special import ndtr

from workbench.probes import late_torch as torch
from workbench.probes.component import number, whole
from workbench.probes.tasks.base import Inputs, Task
from workbench.probes.tasks.draws import integers, normal_rows
from workbench.probes.tasks.examples import (
    ExampleData,
    label_noise,
    orthonormal,
    parameters_of,
    task_seed,
    test_size,
    train_size,
)

if TYPE_CHECKING:
    from workbench.probes.spec import Probe

__all__ = ["XorClusters", "XorData"]

#: Position of the draw of the cluster, among those of `normals` none.
_CLUSTER = 2**41


@dataclass(frozen=True)
class XorClusters(Task):
    """x = mean + standard normal noise, with means +-mu_1 (class 0) and +-mu_2 (class 1), orthogonal, of one length.

    No linear classifier is better than chance. In high dimension a two-layer relu network fits all labels,
    flipped ones included, after one large step of full-batch gradient descent, with chance accuracy on new
    examples; later it is nearly optimal there and still fits the flipped labels: grokking and benign
    overfitting (Xu, Wang, Frei, Vardi & Hu 2023, arXiv 2310.02541). Cross-entropy of two classes in nats;
    the paper's logistic loss of one output is the same function of the difference of two outputs.
    """

    name: ClassVar[str] = "xor_clusters"

    dimension: int = whole(2000, 2, 2**17, "dimension p of the inputs")
    signal: float = number(18.0, 0.0, 1e4, "length of the four means, in standard deviations of the noise", member=True)
    label_noise: float = label_noise()
    train_size: int = train_size(256)
    test_size: int = test_size(1024)
    task_seed: int = task_seed()

    @property
    def inputs(self) -> Inputs:
        return Inputs("vectors", self.dimension)

    @property
    def outputs(self) -> int:
        return 2

    @property
    def bayes_error(self) -> float:
        """Share of clean labels that the best classifier errs on: 2 q (1 - q), q = Phi(-signal / sqrt 2).

        It asks which of |<mu_1, x>| and |<mu_2, x>| is larger, that is for the sign of a product of two
        independent normal numbers, each of them on the wrong side with probability q.
        """
        q = float(ndtr(-self.signal / math.sqrt(2)))
        return 2 * q * (1 - q)

    def build(self, probes: Sequence[Probe], device: torch.device) -> XorData:
        return XorData(probes, device)


class XorData(ExampleData):
    """Stacked XOR training sets; see `ExampleData`. Inputs and labels are the same bits on every device."""

    task: XorClusters

    def prepare(self) -> None:
        means = [t.signal * orthonormal(t.task_seed, 2, t.dimension) for t in self.tasks]
        self.means = parameters_of(means, self.device, torch.float32)  # [E, 2, p]
        self.cluster_at = torch.tensor(_CLUSTER, device=self.device)

    @property
    def width(self) -> int:
        return self.task.dimension + 1

    def raw(self, keys: torch.Tensor, numbers: torch.Tensor) -> tuple[torch.Tensor, ...]:
        cluster = integers(keys[:, None], numbers, self.cluster_at, 4)
        return cluster, normal_rows(keys[:, None], numbers, self.task.dimension)

    def groups(self) -> tuple[Sequence[str], torch.Tensor]:
        """The clusters, in the order of the means mu_1, -mu_1, mu_2, -mu_2: ``cluster_0`` to ``cluster_3``."""
        numbers = torch.arange(self.task.test_size, device=self.device)
        cluster = integers(self._task_keys(1, self.distinct)[:, None], numbers, self.cluster_at, 4)
        return [f"cluster_{k}" for k in range(4)], cluster

    def make(self, raw: tuple[torch.Tensor, ...], members: slice) -> tuple[torch.Tensor, torch.Tensor]:
        cluster, noise = raw
        label, sign = cluster >> 1, 1.0 - 2.0 * (cluster & 1)
        means = self.means[members]
        mean = means.gather(1, label[..., None].expand(-1, -1, means.shape[2]))
        return noise + sign[..., None] * mean, label
