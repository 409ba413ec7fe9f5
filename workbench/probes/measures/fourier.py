"""Fourier power of token embeddings: how many frequencies a model of modular arithmetic uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.probes import late_torch as torch
from workbench.probes.measures.base import Measure

if TYPE_CHECKING:
    from workbench.probes.ensemble import Ensemble

__all__ = ["fourier", "fourier_power"]


def fourier_power(table: torch.Tensor) -> torch.Tensor:
    """Share of each frequency 1 to p // 2 in the variance of a table [p, d] over its rows, [p // 2] (float64).

    The discrete Fourier transform runs over the p rows (numbers modulo p), its squared modulus is summed over
    the d columns (Nanda et al. 2023, arXiv 2301.05217). NaN where all rows are equal.
    """
    p = len(table)
    power = torch.fft.rfft(table.double(), dim=0).abs().square().sum(1)[1:]
    if p % 2 == 0:
        power[-1] /= 2  # the highest frequency stands for itself alone, the others for their conjugates too
    return power / power.sum()


def _fourier(ensemble: Ensemble) -> dict[str, torch.Tensor]:
    size = ensemble.task.inputs.size
    p = getattr(ensemble.task, "modulus", size)
    described = ensemble.model.weights(ensemble.task)
    tables = [name for name, w in described.items() if w.role in ("input", "frozen") and w.shape[:-1] == (size,)]
    if p < 3 or not tables:
        return {}
    table = ensemble.weights.master["embedding" if "embedding" in tables else tables[0]]
    shares = []
    for one in table.cpu():  # one by one: bits must not depend on how many members there are
        # one-hot pairs have one block of p rows for each number; a token table has one, and perhaps signs after it
        blocks = one[: len(one) // p * p].split(p)
        shares.append(torch.stack([fourier_power(block) for block in blocks]).mean(0))
    share = torch.stack(shares)  # [E, p // 2]
    top = share.sort(1, descending=True).values
    return {
        "fourier_top": top[:, 0],
        "fourier_top5": top[:, :5].sum(1),
        "fourier_count": 1 / share.square().sum(1),
    }


fourier = Measure(
    "fourier",
    "Fourier power of the input table over its p rows, frequency 0 left out: share of the strongest frequency, "
    "fourier_top, of the five strongest, fourier_top5, and the effective number of frequencies, fourier_count = "
    "1 / sum of squared shares. p is the task's modulus, or the number of inputs.",
    _fourier,
)
