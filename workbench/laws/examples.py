"""Where a law is looked at before anybody has data: ordinary inputs, ordinary parameters, ranges to try.

Published constants where a law has them in `PUBLISHED` of its module or here; else parameters that make an
ordinary curve over ordinary inputs, which stand for no paper's.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from workbench.laws.base import Law, Parameter

__all__ = ["Range", "example", "ranges", "spans", "typical"]

#: Constants as printed in the papers.
PUBLISHED = {
    # Hoffmann et al. 2022, arXiv 2203.15556, eq. 10
    "chinchilla": {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28},
    # Kaplan et al. 2020, arXiv 2001.08361, table 2, as commonly quoted; not checked against the paper
    "kaplan": {"N_c": 6.4e13, "D_c": 1.8e13, "alpha_N": 0.076, "alpha_D": 0.103},
}

#: Quantity -> smallest and largest value that people train with.
_SPANS = {
    "params": (1e6, 1e10), "params_trainable": (1e5, 1e10), "params_total": (1e7, 1e10), "tokens": (1e8, 1e12),
    "unique_tokens": (1e8, 1e11), "flops": (1e17, 1e24), "tokens_per_param": (1.0, 1000.0), "steps": (1e3, 1e6),
    "batch_tokens": (1e4, 1e8), "loss": (2.0, 4.0), "depth": (2.0, 100.0), "width": (64.0, 16384.0),
    "experts": (1.0, 512.0), "exponent_bits": (1.0, 8.0), "mantissa_bits": (1.0, 10.0), "scale_block": (16.0, 512.0),
    "samples": (1.0, 300.0), "generations": (1.0, 20.0), "vocab": (1e3, 3e5), "transport_distance": (0.05, 2.0),
    "updates_per_data": (0.5, 32.0),
}  # fmt: skip
_ANY = (1e6, 1e10)
#: Decades a prefactor may be moved to either side.
_DECADES = 2.0


@dataclass(frozen=True)
class Range:
    """What a slider of one number runs over.

    Attributes:
        low, high: its ends.
        log: whether its positions are spaced by factors.
    """

    low: float
    high: float
    log: bool

    def holding(self, value: float) -> Range:
        """The same range, widened where it must be to hold `value`."""
        if self.log and value <= 0:
            return Range(min(value, 0.0), self.high, False)
        return Range(min(self.low, value), max(self.high, value), self.log)


def spans(law: Law) -> dict[str, tuple[float, float]]:
    """Input symbol -> ordinary smallest and largest value; 1e6 to 1e10 for an input that may be any scale."""
    return {i.symbol: _SPANS.get(i.quantity, _ANY) for i in law.inputs}


def typical(span: tuple[float, float]) -> float:
    """The middle of a span on a logarithmic scale, to two digits."""
    return float(f"{math.sqrt(span[0] * span[1]):.2g}")


def example(
    law: Law,
    between: Mapping[str, tuple[float, float]] | None = None,
    height: tuple[float, float] | None = None,
) -> dict[str, float]:
    """Parameter values at which `law` is an ordinary curve.

    Args:
        law: the law.
        between: input symbol -> smallest and largest value, where they are not the ordinary ones.
        height: lowest and highest value of the curve; default 1.8 to 4, or 0.1 to 0.8 for a law that rises.

    Raises:
        ValueError: the law has no finite value on such inputs, as one that is not bound to schedules.
    """
    published = PUBLISHED.get(law.name) or _of_module(law)
    if published is not None and between is None and height is None:
        return {s: float(published[s]) for s in law.symbols}
    between = dict(between or spans(law))
    rng = np.random.default_rng(0)
    n = 60
    place = rng.uniform(0.0, 1.0, (len(between), n))
    place[:, 0], place[:, 1] = 0.0, 1.0
    x = {s: low * (high / low) ** p for (s, (low, high)), p in zip(between.items(), place, strict=True)}
    along = place.mean(axis=0)
    bottom, top = height or ((0.1, 0.8) if law.trend == "rises" else (1.8, 4.0))
    y = bottom + (top - bottom) * (along if law.trend == "rises" else 10 ** (-1.5 * along))
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tried = law.guess(x, y, 400, rng)
        made = np.stack([law.predict(theta, x) for theta in tried])
        error = np.where(made > 0, np.abs(np.log(np.where(made > 0, made, 1.0) / y)), np.inf).mean(axis=1)
    best = int(np.argmin(np.nan_to_num(error, nan=np.inf)))
    if not np.isfinite(error[best]):
        raise ValueError(f"{law.name} has no positive value on ordinary inputs; give params= of your own")
    return {s: float(f"{v:.3g}") for s, v in zip(law.symbols, tried[best], strict=True)}


def _of_module(law: Law) -> Mapping[str, float] | None:
    held = getattr(sys.modules[type(law).__module__], "PUBLISHED", {})
    held = held.get(law.name, held)
    return held if isinstance(held, Mapping) and set(law.symbols) <= set(held) else None


def ranges(law: Law, around: Mapping[str, float]) -> dict[str, Range]:
    """Parameter symbol -> what its slider runs over, within the law's bounds.

    Exponents run evenly from their lower bound; prefactors and scales run by factors, two decades to either side
    of `around`; the floor runs evenly from 0 to twice its value.

    Args:
        law: the law.
        around: parameter symbol -> an ordinary value.
    """
    return {p.symbol: _range(law, p, float(around[p.symbol])) for p in law.parameters}


def _range(law: Law, p: Parameter, value: float) -> Range:
    if p.low < 0:
        width = max(abs(value), *(abs(s) for s in p.start if p.of is None), 1e-3)
        return Range(max(p.low, _round(-2 * width)), min(p.high, _round(2 * width)), False)
    if p.symbol == law.floor and value > 0:
        return Range(p.low, min(p.high, _round(2 * value)), False)
    exponent = p.of is None and p.symbol not in law.linear and p.unit == "" and p.start[1] / max(p.start[0], 1e-9) < 99
    if exponent and 0 < value <= 2 * p.start[1]:
        return Range(p.low, min(p.high, _round(max(p.start[1], 1.5 * value))), False)
    middle = value if value > 0 else 1.0
    low = max(p.low, _round(middle / 10**_DECADES))
    return Range(low, min(p.high, _round(middle * 10**_DECADES)), True) if low > 0 else Range(0.0, 1.0, False)


def _round(value: float) -> float:
    return float(f"{value:.2g}")
