"""One header of a log: which quantity it names, in which unit.

``Model Size``, ``tokens (B)``, ``nParams [M]`` and ``compute, PF-days`` each become a canonical name and
the factor that turns the logged number into the canonical unit.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cache, lru_cache

from workbench.units import QUANTITIES, SUFFIXES

__all__ = ["Reading", "loss_rank", "normalise", "read_header"]


@dataclass(frozen=True)
class Reading:
    """What a header says.

    Attributes:
        name: canonical quantity.
        factor: logged value x factor = value in the canonical unit; None if the stated unit is unknown.
        unit: the unit as written, empty if none was.
        exact: whether the header is the canonical name itself.
    """

    name: str
    factor: float | None = 1.0
    unit: str = ""
    exact: bool = False


#: Capital letters of the literature that name a column on their own; lower case means something else
#: too often (n for a sample count, d for a width).
_SYMBOLS = {"N": "params", "D": "tokens", "C": "flops", "L": "loss"}

_BRACKET = re.compile(r"^(.*\S)\s*[(\[]([^()\[\]]+)[)\]]$")
_COMMA = re.compile(r"^(.*\S)\s*,\s*(.+)$")
# a bare letter is a unit only as a capital: tokens_B, but not layer_m
_TRAILING = re.compile(r"^(.*\w)[\s_-]+(?:in[\s_])?([KMBT]|[a-z]*illions?|h|hours?|min|minutes?|ms|pf-?days?)$")

_LOSS_ORDER = ({"val", "valid", "validation"}, {"test", "eval", "evaluation"}, {"train", "training"})

_PER_SECOND = re.compile(r"/\s*s(ec(ond)?)?$|per\s*s(ec(ond)?)?$", re.IGNORECASE)
_POWER_OF_TEN = re.compile(r"^[x×*·]?\s*(?:1e([+-]?\d+)|10\s*(?:\^|\*\*)\s*([+-]?\d+))\s*(.*)$", re.IGNORECASE)
_TIMES = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
}
_PREFIXES = {
    "": 1.0, "k": 1e3, "kilo": 1e3, "m": 1e6, "mega": 1e6, "g": 1e9, "giga": 1e9, "t": 1e12, "tera": 1e12,
    "p": 1e15, "peta": 1e15, "e": 1e18, "exa": 1e18, "z": 1e21, "zetta": 1e21, "y": 1e24, "yotta": 1e24,
}  # fmt: skip
#: One petaflop/s for one day, the unit of Kaplan et al. 2020 and Brown et al. 2020.
_PF_DAY = 1e15 * 86400


def normalise(header: str) -> str:
    """`header` in lower case with single spaces between its words: ``trainLoss``, ``train/loss`` -> ``train loss``."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", header.strip("\ufeff \t\r\n\"'"))
    return re.sub(r"[\s_\-./:]+", " ", words).strip().lower()


@lru_cache(maxsize=100_000)
def read_header(header: str) -> Reading | None:
    """The quantity and unit that `header` names, or None if it names no canonical quantity."""
    if header in QUANTITIES:
        return Reading(header, exact=True)
    plain = header.strip("\ufeff \t\r\n\"'")
    name = _lookup(plain)
    if name is not None:
        return Reading(name)
    if _flop_unit(plain) == _PF_DAY:
        return Reading("flops", _PF_DAY, plain)
    for pattern in (_BRACKET, _COMMA, _TRAILING):
        match = pattern.match(plain)
        if match is None:
            continue
        base, unit = match[1], match[2].strip()
        # a bare "time" may be a date; with a unit of time it is a duration
        name = "seconds" if normalise(base) == "time" and unit.lower() in _TIMES else _lookup(base)
        if name is None:
            continue
        factor = _factor(name, unit)
        if factor is not None or pattern is _BRACKET:
            return Reading(name, factor, unit)
    return None


def loss_rank(header: str) -> int:
    """Which loss is *the* loss when several are logged: 0 plain, 1 validation, 2 test, 3 training."""
    words = set(normalise(header).split())
    return next((rank for rank, names in enumerate(_LOSS_ORDER, 1) if words & names), 0)


def _lookup(base: str) -> str | None:
    if base in _SYMBOLS:
        return _SYMBOLS[base]
    words = normalise(base)
    # "loss/val" and "val_loss" are the same; for other quantities the order of words carries meaning
    return _aliases().get(words) or _aliases().get(" ".join(sorted(words.split())) if "loss" in words else "")


@cache
def _aliases() -> dict[str, str]:
    table = {}
    for q in QUANTITIES.values():
        for alias in (q.name.replace("_", " "), *q.aliases):
            table[alias] = q.name
    for kind in set().union(*_LOSS_ORDER):
        table[" ".join(sorted((kind, "loss")))] = "loss"
        table[" ".join(sorted(("final", kind, "loss")))] = "loss"
    return table


def _factor(name: str, unit: str) -> float | None:
    """What a value of quantity `name` in `unit` is multiplied by; None if the unit is unknown."""
    power = _POWER_OF_TEN.match(unit)
    if power is not None:
        rest = 1.0 if not power[3] else _factor(name, power[3])
        # float("1e18") is the nearest double; 10.0**18 need not be for every exponent
        return None if rest is None else float(f"1e{power[1] or power[2]}") * rest
    word = unit.lower()
    if name == "flops":
        flop = _flop_unit(unit)
        return SUFFIXES.get(word) if flop is None else flop
    if name == "seconds":
        return _TIMES.get(word)
    if name == "loss":
        nats = {"nat": 1.0, "nats": 1.0, "bit": math.log(2), "bits": math.log(2)}
        return nats.get(re.sub(r"\s*(/|per)\s*tok(en)?$", "", word))
    if name == "lr":
        return None
    counted = re.sub(r"\s*(tokens?|params?|parameters|steps?)$", "", word)
    return 1.0 if not counted else SUFFIXES.get(counted)


def _flop_unit(unit: str) -> float | None:
    word = re.sub(r"[\s_]+", "", unit.lower())
    if re.fullmatch(r"(pf|pflops?|petaflops?|pfs|petaflop/s|pflop/s|pf/s)-?days?", word):
        return _PF_DAY
    if _PER_SECOND.search(unit):  # a rate is not a total
        return None
    match = re.fullmatch(r"([a-z]*?)flops?", word)
    return _PREFIXES.get(match[1]) if match else None
