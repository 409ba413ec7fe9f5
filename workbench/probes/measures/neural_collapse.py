"""Neural collapse: how close features and head of a classifier are to a simplex of class means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.probes import late_torch as torch
from workbench.probes.measures.base import Measure
from workbench.probes.measures.replica import Replica

if TYPE_CHECKING:
    from workbench.probes.ensemble import Ensemble

__all__ = ["collapse_statistics", "neural_collapse"]

_BATCHES = 8
#: More classes than this do not collapse in a probe, and a table of means would be large.
_MOST_CLASSES = 1024


def collapse_statistics(features: torch.Tensor, targets: torch.Tensor, head: torch.Tensor) -> dict[str, float]:
    """The four statistics of Papyan et al. 2020 (arXiv 2008.08186) for one classifier, over the classes present.

    With class means m_c, their mean m, M_c = m_c - m, within-class covariance S_W and between-class covariance
    S_B (classes weighted equally):

    - ``nc1``: tr(S_W S_B^+) / C, the variability inside classes; 0 when collapsed.
    - ``nc2_norm``: standard deviation over mean of |M_c|; ``nc2_angle``: mean over pairs of
      |cos(M_c, M_c') + 1 / (C - 1)|; 0 for a simplex.
    - ``nc3``: |W / |W| - M / |M||_F of head and means; 0 when they are proportional (self-duality).
    - ``nc4``: share of examples that the head and the nearest class mean classify differently.

    Args:
        features: [n, d].
        targets: class of each, [n].
        head: [d, K].

    Returns:
        NaN for all where fewer than two classes are present.
    """
    x, w = features.double(), head.double()
    classes, index = targets.unique(return_inverse=True)
    c = len(classes)
    if c < 2:
        return dict.fromkeys(("nc1", "nc2_norm", "nc2_angle", "nc3", "nc4"), float("nan"))
    member = torch.nn.functional.one_hot(index, c).to(x.dtype)  # [n, C]
    means = member.T @ x / member.sum(0)[:, None]  # [C, d]
    inside = x - means[index]
    scatter = [inside[index == k] for k in range(c)]
    within = sum(part.T @ part / len(part) for part in scatter) / c
    centered = means - means.mean(0)
    between = centered.T @ centered / c
    norms = centered.norm(dim=1)
    unit = centered / norms[:, None].clamp_min(1e-300)
    cosines = (unit @ unit.T)[~torch.eye(c, dtype=torch.bool, device=x.device)]
    rows = w.T[classes]
    nearest = torch.cdist(x, means, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
    chosen = (x @ w).argmax(1)
    return {
        "nc1": float((within * torch.linalg.pinv(between, hermitian=True)).sum() / c),
        "nc2_norm": float(norms.std(unbiased=False) / norms.mean()),
        "nc2_angle": float((cosines + 1 / (c - 1)).abs().mean()),
        "nc3": float((rows / rows.norm() - centered / centered.norm()).norm()),
        "nc4": float((chosen != classes[nearest]).double().mean()),
    }


def _neural_collapse(ensemble: Ensemble) -> dict[str, torch.Tensor]:
    if ensemble.task.loss != "cross_entropy" and not hasattr(ensemble.task, "objective"):
        return {}
    if ensemble.task.outputs > _MOST_CLASSES:
        return {}
    replica = Replica(ensemble)
    batches = [replica.batch(k) for k in range(_BATCHES)]
    features = torch.cat([replica.features(batch) for batch in batches], 1).cpu()  # [E, n, d]
    targets = torch.cat([batch[1] for batch in batches], 1).cpu()
    if targets.dim() == 3:  # one-hot targets of a squared loss
        targets = targets.argmax(-1)
    head = replica.head().cpu()
    # one by one: bits must not depend on how many members there are
    found = [collapse_statistics(*one) for one in zip(features, targets, head, strict=True)]
    return {name: torch.tensor([one[name] for one in found], dtype=torch.float64) for name in found[0]}


neural_collapse = Measure(
    "neural_collapse",
    "Neural collapse on 8 training batches, all 0 when collapsed: nc1 (variability inside classes), nc2_norm and "
    "nc2_angle (means form a simplex), nc3 (head proportional to the means), nc4 (share where head and nearest mean "
    "disagree). Nothing where targets are not classes.",
    _neural_collapse,
)
