"""Canonical quantities: one name, one unit and one symbol for every column the workbench understands.

A run log says `Model Size`, `n_params` or `N`; the workbench says ``params``. This table is the only
place where that is decided. Readers resolve headers against it (`workbench.runs.columns`), figures
take axis titles from it, laws name their inputs by it.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

__all__ = [
    "FLOPS_PER_PARAM_TOKEN",
    "QUANTITIES",
    "SCALES",
    "Quantity",
    "axis_title",
    "human",
    "parse_number",
    "quantity",
]

#: Training FLOPs per parameter and token, forward and backward: the "6" of C = 6ND
#: (Kaplan et al. 2020, arXiv 2001.08361, section 2.1).
FLOPS_PER_PARAM_TOKEN = 6.0


@dataclass(frozen=True)
class Quantity:
    """One canonical column.

    Attributes:
        name: the column's name everywhere in the workbench, e.g. ``params``.
        symbol: the letter of the literature, e.g. ``N``.
        unit: the unit every value is stored in, e.g. ``nats/token``; empty for a pure count.
        meaning: what is counted, in a few words; used as axis title.
        aliases: other headers people write, lower case, words separated by single spaces.
        positive: whether a value <= 0 marks the run as bad (log axes, logs of losses).
    """

    name: str
    symbol: str
    unit: str
    meaning: str
    aliases: tuple[str, ...] = ()
    positive: bool = True


_TABLE = (
    Quantity(
        "params",
        "N",
        "",
        "Parameters",
        (
            "model size",
            "n params",
            "num params",
            "nparams",
            "parameters",
            "parameter count",
            "num parameters",
            "n parameters",
            "total params",
            "total parameters",
            "model params",
            "trainable params",
            "size",
        ),
    ),
    Quantity(
        "params_non_embedding",
        "N_ne",
        "",
        "Non-embedding parameters",
        (
            "non embedding params",
            "params no embed",
            "non embedding parameters",
            "n params non embedding",
            "num non embedding params",
            "params non emb",
        ),
    ),
    Quantity("params_active", "N_act", "", "Active parameters", ("active params", "active parameters")),
    Quantity(
        "tokens",
        "D",
        "",
        "Training tokens",
        (
            "n tokens",
            "num tokens",
            "train tokens",
            "training tokens",
            "tokens seen",
            "total tokens",
            "dataset size",
            "token count",
            "num train tokens",
        ),
    ),
    Quantity("params_trainable", "N_t", "", "Trainable parameters", ("learnable params",)),
    Quantity("params_total", "N_tot", "", "Parameters, frozen ones included", ("all params", "params with frozen")),
    Quantity("unique_tokens", "U", "", "Unique tokens", ("unique tokens",)),
    Quantity("epochs", "", "", "Epochs", ("epoch", "num epochs", "n epochs")),
    Quantity(
        "flops",
        "C",
        "FLOP",
        "Training compute",
        (
            "flop",
            "training flop",
            "training flops",
            "train flops",
            "compute",
            "total flops",
            "training compute",
            "train compute",
            "total flop",
            "num flops",
        ),
    ),
    Quantity("flops_exact", "C_exact", "FLOP", "Training compute, products counted", ("exact flops",)),
    Quantity(
        "tokens_per_param",
        "M",
        "",
        "Tokens per parameter",
        ("tokens per parameter", "token multiplier", "d n", "tokens params"),
    ),
    Quantity(
        "steps", "S", "", "Training steps", ("n steps", "num steps", "train steps", "training steps", "max steps")
    ),
    Quantity(
        "step",
        "s",
        "",
        "Step",
        ("iteration", "iter", "iters", "global step", "trainer global step", "train step"),
        positive=False,
    ),
    Quantity("batch_tokens", "B", "tokens", "Batch size", ("batch size tokens", "tokens per batch", "tokens per step")),
    Quantity("lr", "eta", "", "Peak learning rate", ("learning rate", "peak lr", "max lr", "peak learning rate")),
    Quantity("width", "d", "", "Width", ("d model", "hidden size", "n embd", "dim", "embedding dim", "hidden dim")),
    Quantity("depth", "l", "", "Depth", ("n layer", "n layers", "num layers", "layers", "num hidden layers")),
    Quantity(
        "context", "T", "tokens", "Context length", ("context length", "seq len", "sequence length", "block size")
    ),
    Quantity("vocab", "V", "", "Vocabulary size", ("vocab size", "vocabulary size")),
    Quantity("experts", "E", "", "Experts", ("n experts", "num experts", "number of experts")),
    Quantity("exponent_bits", "e", "bits", "Exponent bits", ("e bits", "ebits"), positive=False),
    Quantity("mantissa_bits", "m", "bits", "Mantissa bits", ("m bits", "mbits"), positive=False),
    Quantity("scale_block", "b", "", "Numbers sharing one scaling factor", ("scale block",)),
    Quantity("critical_batch", "B_crit", "tokens", "Critical batch size", ("cbs", "critical batch size")),
    Quantity("batch", "B_ex", "examples", "Batch size in examples", ("batch size", "bs", "batch size sequences")),
    Quantity("samples", "K", "", "Samples per problem", ("k", "n samples", "num samples", "attempts")),
    Quantity("updates_per_data", "sigma", "", "Updates per environment step", ("utd", "utd ratio", "updates to data")),
    Quantity("generations", "n", "", "Synthetic generations", ("generation",), positive=False),
    Quantity("kept_fraction", "f", "", "Fraction of data kept", ("keep fraction", "kept")),
    Quantity("transport_distance", "W", "", "Transport distance to the target", ("ot distance",), positive=False),
    Quantity("weight_decay", "lambda", "", "Weight decay", ("wd",), positive=False),
    Quantity("precision", "", "", "Precision", ("dtype",), positive=False),
    Quantity("seed", "", "", "Seed", ("random seed", "rng seed"), positive=False),
    Quantity(
        "seconds",
        "t",
        "s",
        "Training time",
        ("train time", "training time", "wall time", "runtime", "elapsed", "time s", "wall clock"),
        positive=False,
    ),
    Quantity(
        "loss",
        "L",
        "nats/token",
        "Loss",
        (
            "val loss",
            "validation loss",
            "final loss",
            "test loss",
            "eval loss",
            "valid loss",
            "train loss",
            "final val loss",
            "cross entropy",
        ),
    ),
)

QUANTITIES: dict[str, Quantity] = {q.name: q for q in _TABLE}

#: Columns that stand for the scale of a run, in order of preference, where nobody says which.
SCALES = ("flops", "tokens", "params", "steps")


def quantity(name: str) -> Quantity:
    """The canonical quantity called `name`, or a plain one without unit for any other column."""
    return QUANTITIES.get(name) or Quantity(name, "", "", name.replace("_", " ").strip() or name, positive=False)


def axis_title(name: str) -> str:
    """Axis title with symbol and unit, e.g. ``Training compute C (FLOP)``."""
    q = quantity(name)
    return " ".join(part for part in (q.meaning, q.symbol, f"({q.unit})" if q.unit else "") if part)


#: Multipliers people append to numbers and units. Lower-case "m" is read as million: model sizes are
#: never given in thousandths.
SUFFIXES = {
    "": 1.0, "k": 1e3, "thousand": 1e3, "m": 1e6, "mn": 1e6, "mio": 1e6, "million": 1e6, "millions": 1e6,
    "g": 1e9, "b": 1e9, "bn": 1e9, "billion": 1e9, "billions": 1e9, "t": 1e12, "tn": 1e12, "trillion": 1e12,
    "trillions": 1e12, "p": 1e15, "e": 1e18,
}  # fmt: skip

_NUMBER = re.compile(r"^([+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*([a-z]*)$", re.IGNORECASE)
_THOUSANDS = re.compile(r"^[+-]?\d{1,3}(,\d{3})+(\.\d+)?\s*[a-z]*$", re.IGNORECASE)


def parse_number(text: object) -> float:
    """A number as people write it in logs: ``210M``, ``4.5E-05``, ``"1,234"``, ``1_000``, ``NaN``, ``-inf``.

    Returns:
        The value as a float, NaN for an empty cell.

    Raises:
        ValueError: `text` is not a number; the message repeats it.
    """
    if isinstance(text, bool):
        return float(text)
    if isinstance(text, int | float):
        return _to_float(text)
    if text is None:
        return math.nan
    stripped = str(text).strip().strip("\"'").strip()
    if stripped.lower() in {"", "nan", "na", "n/a", "none", "null", "-", "<na>"}:
        return math.nan
    if stripped.lower().lstrip("+-") in {"inf", "infinity"}:
        return -math.inf if stripped.startswith("-") else math.inf
    if _THOUSANDS.match(stripped):
        stripped = stripped.replace(",", "")
    match = _NUMBER.match(stripped)
    if match is None or match[2].lower() not in SUFFIXES:
        raise ValueError(f"{str(text)[:60]!r} is not a number; write it like 210M, 4.5E-05 or 1234.5")
    return float(match[1].replace("_", "")) * SUFFIXES[match[2].lower()]


def _to_float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer beyond 1.8e308 in a JSON file
        return math.inf if value > 0 else -math.inf


def human(value: float, digits: int = 3) -> str:
    """`value` as people say it, e.g. ``210M``, ``1.31T``, ``5.88e+23``, ``0.00012``; em dash for NaN."""
    if value is None or math.isnan(value):
        return "—"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    magnitude = abs(value)
    for size, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        # 999.7e9 would round to "1e+03B": hand it to the next suffix up
        if size * (1 - 0.5 * 10**-digits) <= magnitude < 1e15:
            return f"{_short(value / size, digits)}{suffix}"
    return _short(value, digits)


def _short(value: float, digits: int) -> str:
    """`value` to `digits` significant digits: 150, and not 1.5e+02, at two of them."""
    return f"{float(f'{value:.{digits}g}'):.{max(digits, 6)}g}"
