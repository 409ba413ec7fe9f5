"""Evaluation of next-token predictions against the exact conditional distribution of a known language."""

from __future__ import annotations

from collections.abc import Callable

from workbench.probes import late_torch as torch
from workbench.probes.rows import row_mean, row_sum
from workbench.probes.tasks.base import Predict

__all__ = ["evaluate_exact", "mean_entropy"]

#: Exact distributions [G, b, T, V] (float32) of held-out sequences number start ... stop.
Truth = Callable[[int, int], "torch.Tensor"]


def evaluate_exact(
    predict: Predict, members: int, inputs: torch.Tensor, targets: torch.Tensor, truth: Truth, outputs: int,
    weights: torch.Tensor | None = None,
) -> dict[str, torch.Tensor]:  # fmt: skip
    """``loss`` and ``loss_sampled`` [E] (float64, CPU), nats per token.

    ``loss`` scores the prediction at every held-out prefix against the distribution of what may follow it,
    so that the sampled targets add no noise. ``loss_sampled`` is the ordinary mean cross-entropy of them.

    Args:
        predict: the model.
        members: E.
        inputs, targets: held-out tokens [G, n, T], G = 1 or E.
        truth: the exact distributions.
        outputs: V.
        weights: of the prefixes in ``loss``, [G, n, T], sum 1; left out, all are equal.
    """
    _, n, t = inputs.shape
    # A chunk must not depend on E on a CPU, where the shape of a product decides the order of its sums.
    budget = 2**27 // members if inputs.device.type == "cuda" else 2**17
    chunk = max(1, budget // (t * outputs))
    total = torch.zeros(2, members, dtype=torch.float64, device=inputs.device)
    for start in range(0, n, chunk):
        part = slice(start, min(n, start + chunk))
        logp = torch.log_softmax(predict(inputs[:, part]), -1)  # [E, b, T, V]
        score = (logp * truth(part.start, part.stop)).sum(-1).double()  # [E, b, T]
        total[0] += row_sum(score / (n * t) if weights is None else score * weights[:, part])
        wanted = targets[:, part, :, None].expand(members, -1, -1, -1)
        total[1] += row_sum(logp.gather(-1, wanted).double()) / (n * t)
    loss, sampled = -total.cpu()
    return {"loss": loss, "loss_sampled": sampled}


def mean_entropy(count: int, truth: Truth, chunk: int, weights: torch.Tensor | None = None) -> torch.Tensor:
    """Mean entropy of the exact distributions of `count` sequences, [G] (float64, CPU), nats per token.

    The loss of the best possible predictor on these very prefixes: what `evaluate_exact` gives for it.
    """
    from workbench.probes.functional import pointwise

    entropies = []
    for start in range(0, count, chunk):
        p = truth(start, min(count, start + chunk)).double()
        entropies.append(-pointwise(lambda p: torch.xlogy(p, p), p).sum(-1))
    each = torch.cat(entropies, 1)  # [G, n, T]
    return (row_mean(each) if weights is None else row_sum(each * weights)).cpu()
