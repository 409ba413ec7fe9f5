"""The rules of the parametrizations: what initial size, multiplier and learning rate of a weight follow from.

A weight matrix enters the model as ``multiplier * w``, ``w`` starts with standard deviation `std`, and an
update moves ``w`` by ``lr`` times the optimizer's direction: the abc-parametrizations of Yang & Hu (2020,
arXiv 2011.14522). With n inputs of a matrix, s the model's own std (s_0 at the base width), m = width / base_width:

==============  ==========  ==================  ================  ==========  ===========
name            role        std                 multiplier        lr, Adam    lr, SGD
==============  ==========  ==================  ================  ==========  ===========
``standard``    all         s                   1                 1           1
``ntk``         matrices    s sqrt(n)           1 / sqrt(n)       1           1
``mup``         input       s_0                 1                 1           m
..              hidden      s                   1                 1 / m       1
..              output      s_0                 1 / m             1           m
``mean_field``  input       s_0                 1                 1           width
..              hidden      s sqrt(n)           1 / sqrt(n)       1 / sqrt(n) width
..              output      s sqrt(n)           1 / n             1           width
==============  ==========  ==================  ================  ==========  ===========

Gains and biases have the rates of ``input``. Weights whose size does not grow with the width, as biases of the
head, keep rate 1. ``depth_mup`` and ``umup`` are described at their functions. ``mup`` and ``depth_mup`` equal
``standard`` bit for bit at the base shape; the others differ from it by the factors above.

Attention is the model's: muP divides scores by the width of a head instead of by its root where heads grow with
the model, which is the transformer's ``attention_scale="linear"``.

Weight decay is the run's and not the weight's: decoupled decay shrinks all weights by the same
``lr * weight_decay``, which is how muP keeps it independent of width; decay that is coupled to the gradient (SGD)
goes through the rate of the weight instead. Adam's epsilon is not scaled either: a
parametrization that makes gradients small (a multiplier 1 / n) meets it earlier; lower `eps` where the
measured gradients come near it (Everett et al. 2024, arXiv 2407.05872, discuss this).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from workbench.probes.models.base import Weight

__all__ = ["RULES", "At", "Scale"]

_MATRICES = ("input", "hidden", "output")


@dataclass(frozen=True)
class Scale:
    """What a parametrization makes of one weight.

    Attributes:
        std: initial standard deviation.
        multiplier: of the weight in the forward pass.
        lr: multiplier of the run's learning rate; 0 keeps the weight as drawn.
    """

    std: float
    multiplier: float = 1.0
    lr: float = 1.0


@dataclass(frozen=True)
class At:
    """Where a weight stands: what rules know beside the weight itself.

    Attributes:
        family: how the size of an update of a hidden matrix behaves: the optimizer's `family`, ``relative`` where it
            is proportional to the matrix (Adafactor), ``matched`` for an orthogonal one of Adam's size (Muon).
        width: of the model.
        wider, deeper: width and depth over those of the base shape.
        branches: number of matrices that write to a residual stream; 0 without one.
        branch: the weight writes to a residual stream, as matrix or as the bias of one.
        inside: the weight belongs to a numbered block of a model with branches.
        base_width_std, base_depth_std: the model's own initial size at the base width, and at the base depth.
        grows: the weight has more entries in a wider model.
    """

    family: str
    width: float
    wider: float
    deeper: float
    branches: int
    branch: bool
    inside: bool
    base_width_std: float
    base_depth_std: float
    grows: bool

    def hidden(self, **rates: float) -> float:
        """The rate of a hidden matrix for the optimizer's family."""
        return rates[self.family]


def _standard(weight: Weight, at: At) -> Scale:
    return Scale(weight.std)


def _ntk(weight: Weight, at: At) -> Scale:
    """Jacot et al. 2018 (arXiv 1806.07572): the same function at the start, other sizes of updates.

    Biases keep the model's own size; the paper's small factor beta on them is not there.
    """
    if weight.role not in _MATRICES:
        return Scale(weight.std)
    root = math.sqrt(weight.inputs)
    return Scale((at.base_width_std if weight.role == "input" else weight.std) * root, 1 / root)


def _mup(weight: Weight, at: At) -> Scale:
    """Yang et al. 2022 (arXiv 2203.03466, table 8), with the standard model at the base width.

    Optimizers that orthogonalize the update of a hidden matrix need no factor for it: its spectral norm is
    right at every width (Yang, Simon & Bernstein 2023, arXiv 2310.17813). Other weights they train as Adam.
    """
    m = at.wider
    if weight.role == "hidden":
        root = math.sqrt(m)
        return Scale(weight.std, 1.0, at.hidden(sgd=1.0, adam=1 / m, relative=1 / root, matrix=1.0, matched=1 / root))
    lr = m if at.family == "sgd" and at.grows else 1.0
    if weight.role == "output":
        return Scale(at.base_width_std, 1 / m, lr)
    return Scale(at.base_width_std, 1.0, lr)


def _mean_field(weight: Weight, at: At) -> Scale:
    """f = (1/n) sum_i a_i phi(w_i x), and time counted so that a unit moves by its own gradient.

    Mei, Montanari & Nguyen (2018, arXiv 1804.06561) and Chizat & Bach (2018, arXiv 1805.09545) for one
    hidden layer: SGD's rate is multiplied by the width. Further hidden layers follow Everett et al. 2024 (arXiv
    2407.05872, as commonly quoted); the whole is muP with a factor moved from sizes to multipliers.
    """
    lr = at.width if at.family == "sgd" and at.grows else 1.0
    if weight.role not in ("hidden", "output"):
        return Scale(at.base_width_std, 1.0, lr)
    root = math.sqrt(weight.inputs)
    if weight.role == "output":
        return Scale(weight.std * root, 1 / weight.inputs, lr)
    rate = at.hidden(sgd=at.width, adam=1 / root, relative=1 / root, matrix=root, matched=1.0)
    return Scale(weight.std * root, 1 / root, rate)


def _umup(weight: Weight, at: At) -> Scale:
    """Blake et al. 2024 (arXiv 2407.17465, table 2): unit-scaled muP. Implemented: its weights and rates.

    Every matrix starts with entries of size 1 (hidden matrices that the model starts at zero stay there, a
    head at zero does not). Multipliers are 1 / sqrt(inputs), and 1 / inputs for the head; branches of a residual
    stream have another 1 / sqrt(their number). Adam's rates: input 1 / sqrt(outputs), hidden 1 / sqrt(inputs) and
    inside of blocks another 1 / sqrt(branches), head 1. The rate of the input is the paper's empirical finding: with
    it the embedding moves less in wider models. SGD, which the paper leaves out, has the rates of ``mean_field``,
    the same parametrization in width.

    Not implemented: scale factors of activation functions and of attention's output, scaled gradients of the head
    and of the loss, and the paper's ratio of branch to stream, which under pre-normalization changes
    only the share of the embedding.
    """
    lr = at.width if at.family == "sgd" and at.grows else 1.0
    root, deep = math.sqrt(weight.inputs), math.sqrt(max(1, at.branches))
    branch, block = (deep if at.branch else 1.0), (deep if at.inside else 1.0)
    match weight.role:
        case "input":
            return Scale(1.0, 1 / root, lr if at.family == "sgd" else 1 / math.sqrt(weight.shape[-1]))
        case "hidden":
            adam = 1 / (root * block)
            rate = at.hidden(sgd=at.width, adam=adam, relative=adam, matrix=root / block, matched=1 / block)
            return Scale(1.0 if weight.std else 0.0, 1 / (root * branch), rate)
        case "output":
            return Scale(1.0, 1 / weight.inputs, lr)
        case _:
            return Scale(weight.std, 1 / branch, lr if at.family == "sgd" else lr / block)


def _depth_mup(weight: Weight, at: At) -> Scale:
    """Yang et al. 2023 (arXiv 2310.02244): muP, and branches multiplied by 1 / sqrt(l), l = depth / base_depth.

    Adam's rate inside of blocks (matrices, gains and biases) has another 1 / sqrt(l); SGD's gradient carries
    that factor already. The factor belongs to the last matrix of a branch and to its bias. Branches start with the
    size they have at the base depth, so that it is not there twice in models that start deep branches smaller; a
    factor of the model's own (``residual="inverse_sqrt"``) comes in addition, so use plain branches. A model
    without branches is left to ``mup``.
    """
    scale = _mup(replace(weight, std=at.base_depth_std) if weight.branch else weight, at)
    root = math.sqrt(at.deeper)
    return Scale(
        scale.std,
        scale.multiplier / root if at.branch else scale.multiplier,
        scale.lr / root if at.inside and at.family != "sgd" else scale.lr,
    )


#: Rule by the name a probe gives it: the scale of a weight that stands somewhere.
RULES: dict[str, Callable[[Weight, At], Scale]] = {
    "standard": _standard,
    "ntk": _ntk,
    "mup": _mup,
    "mean_field": _mean_field,
    "umup": _umup,
    "depth_mup": _depth_mup,
}
