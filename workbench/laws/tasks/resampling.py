"""Sampling again until an imperfect verifier accepts: accuracy has a ceiling, and more samples can hurt."""

from __future__ import annotations

from typing import Any

import numpy as np

from workbench.laws.base import Input, Law, Parameter

__all__ = ["Resampling", "ResamplingSpread", "best_samples", "outcomes"]

_K = (Input("K", "samples"),)
_F = Parameter("f", "share of wrong answers that the verifier accepts", high=1.0, start=(0.003, 0.9))


class Resampling(Law):
    """``acc(K) = q/(q + f (1-q)) (1 - ((1-q)(1-f))^K)``: one problem, at most K samples, the first accepted is kept.

    A sample is right with probability q and then always accepted; a wrong one is accepted with probability f. The
    ceiling at any number of samples is ``q/(q + f (1 - q))``. Follows from the setting of Stroebl et al. 2024,
    "Inference Scaling fLaws" (arXiv 2411.17501), who state it in words; the derivation is a geometric series.
    """

    name = "resampling"
    title = "Resampling, one problem"
    inputs = _K
    parameters = (Parameter("q", "accuracy of one sample", high=1.0, start=(0.003, 0.9)), _F)
    trend = "rises"
    latex = r"\frac{q}{q + f(1-q)}\left(1 - \left[(1-q)(1-f)\right]^{K}\right)"
    reference = "after Stroebl et al. 2024, arXiv 2411.17501"

    @staticmethod
    def formula(K, q, f):
        rejected = np.maximum((1 - q) * (1 - f), 1e-300)
        return q / (q + f * (1 - q)) * (1 - rejected**K)


class ResamplingSpread(Law):
    """The same over a data set whose problems have ``q ~ Beta(a, b)``.

    ``acc(K) = sum_{k<K} (1-f)^k E[q (1-q)^k]`` with the Beta moment
    ``E[q (1-q)^k] = a/(a+b) prod_{j<k} (b+j)/(a+b+1+j)``, exact and without an integral. Easy problems are won at
    once; on hard ones the verifier lets more and more wrong answers through. After Stroebl et al. 2024 (arXiv
    2411.17501). K is rounded to whole samples; each costs one step of the sum, so keep K below some thousands.
    """

    name = "resampling_spread"
    title = "Resampling, spread of problems"
    inputs = _K
    parameters = (
        Parameter("a", "Beta parameter of right answers", start=(0.1, 10.0)),
        Parameter("b", "Beta parameter of wrong answers", start=(0.1, 10.0)),
        _F,
    )
    trend = "rises"
    cost = 4
    latex = r"\sum_{k=0}^{K-1} (1-f)^k\,\frac{a}{a+b}\prod_{j=0}^{k-1}\frac{b+j}{a+b+1+j}"
    reference = "after Stroebl et al. 2024, arXiv 2411.17501"

    @staticmethod
    def formula(K, a, b, f):
        return _sum_to(K, a / (a + b), lambda k: (1 - f) * (b + k) / (a + b + 1 + k))


def _sum_to(K: np.ndarray, first: Any, ratio: Any) -> Any:
    """``sum_{k<K} t_k`` with ``t_0 = first``, ``t_{k+1} = ratio(k) t_k``, at every K ``[m]`` in one pass."""
    K = np.maximum(np.rint(np.asarray(K, dtype=float)), 1.0)
    stops = np.unique(K)
    total, term, part, done = 0.0, first, 0.0 * first, 0
    for stop in stops:
        for k in range(done, int(stop)):
            part = part + term
            term = term * ratio(float(k))
        # Everything between the last stop and this one counts for all K from here on.
        total = total + part * (stop <= K)
        part, done = 0.0 * first, int(stop)
    return total


def outcomes(K: Any, a: float, b: float, f: float) -> tuple[np.ndarray, np.ndarray]:
    """Shares of problems that end right and wrong after at most K samples; the rest get no answer.

    Args:
        K: numbers of samples, ``[m]``.
        a, b: Beta parameters of the problems' single-sample accuracy.
        f: share of wrong answers that the verifier accepts.

    Returns:
        ``(right, wrong)``, each ``[m]``.

    Raises:
        ValueError: a parameter outside its bounds, or K below 1.
    """
    K = np.atleast_1d(np.asarray(K, dtype=float))
    if not (a > 0 and b > 0 and 0 <= f <= 1 and (K >= 1).all()):
        raise ValueError(f"got K={K.min():g}, a={a:g}, b={b:g}, f={f:g}; K >= 1, a and b > 0, f between 0 and 1")
    right = _sum_to(K, np.array(a / (a + b)), lambda k: (1 - f) * (b + k) / (a + b + 1 + k))
    wrong = _sum_to(K, np.array(f * b / (a + b)), lambda k: (1 - f) * (b + 1 + k) / (a + b + 1 + k))
    return right, wrong


def best_samples(a: float, b: float, f: float, cost: float, most: int = 1000) -> tuple[int, float]:
    """Number of samples with the highest ``right - cost * wrong`` and that utility.

    Stroebl et al. 2024 (arXiv 2411.17501): where accepting a wrong answer costs something, the best number of
    samples is finite, and often below ten.

    Args:
        a, b, f: see `outcomes`.
        cost: what one wrong answer costs, in right answers.
        most: largest number of samples looked at.

    Returns:
        ``(K, utility)``; ``(0, 0.0)`` where it is best not to answer at all.
    """
    K = np.arange(1, most + 1)
    right, wrong = outcomes(K, a, b, f)
    utility = right - cost * wrong
    best = int(np.argmax(utility))
    return (int(K[best]), float(utility[best])) if utility[best] > 0 else (0, 0.0)
