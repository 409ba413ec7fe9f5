"""`Probe`: a frozen description of one small training run; `Sweep`: a set of them. No torch here."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property

from workbench.units import FLOPS_PER_PARAM_TOKEN

__all__ = ["SCHEMA", "Probe", "Sweep"]

#: Version of the JSON form. It enters the id, so a change of meaning can never reuse an old result.
SCHEMA = 1

_CHOICES = {
    "task": ("bigram",),
    "model": ("transformer",),
    "schedule": ("linear", "cosine", "constant", "table"),
    "eval_spacing": ("log", "linear"),
    "precision": ("fp32", "tf32", "bf16"),
}

#: Lowest and highest value of every number; the highest ones keep a probe a probe.
_RANGES = {
    "vocab": (2, 4096),
    "tau": (0.0, 4.0),
    "s": (0.0, 10.0),
    "language_seed": (0, 2**31 - 1),
    "width": (1, 4096),
    "depth": (0, 64),
    "heads": (1, 4096),
    "context": (1, 4096),
    "mlp_ratio": (1, 16),
    "tokens": (1, 10**12),
    "batch_tokens": (1, 2**22),
    "lr": (0.0, 100.0),
    "warmup": (0.0, 0.9),
    "weight_decay": (0.0, 100.0),
    "beta1": (0.0, 0.999999),
    "beta2": (0.0, 0.999999),
    "eps": (1e-30, 1.0),
    "clip": (1e-12, 1e12),
    "seed": (0, 2**31 - 1),
    "evals": (1, 1000),
}


#: Fields younger than schema 1. They enter the JSON, and so the id, only where they differ from the default:
#: the id of a probe that does not use them is what it always was.
_LATER = ("table", "eval_spacing")


@dataclass(frozen=True)
class Probe:
    """One small training run: task, model, training and seed, validated at construction.

    Attributes:
        task: what is learned; ``bigram`` is the power-law bigram language (`tasks.bigram`).
        vocab: vocabulary size V.
        tau: sharpness of the language's logits; 0 is uniform noise.
        s: exponent of the power law of the language's singular values.
        language_seed: draws the language itself; equal seeds are the same language.
        model: ``transformer``, the stacked decoder-only transformer (`models.transformer`).
        width, depth, heads, context, mlp_ratio: its shape; `context` is in tokens.
        tokens: training horizon D, in tokens; a whole number of batches.
        batch_tokens: tokens per optimizer step; a whole number of contexts.
        lr: peak learning rate of AdamW.
        warmup: fraction of all steps in which the learning rate rises linearly from 0.
        schedule: after the warm-up ``linear`` or ``cosine`` decay to 0, ``constant``, or the ``table``.
        table: for ``schedule="table"``, corners ``(share of the steps after the warm-up, multiplier of lr)``
            joined by straight lines, from share 0 to share 1; a share given twice is a jump.
        weight_decay: decoupled decay per unit of learning rate (Loshchilov & Hutter, arXiv 1711.05101).
        beta1, beta2, eps: AdamW's.
        clip: largest L2 norm of the gradient, or None.
        seed: draws the initial weights and the training stream, whatever the shape of the model, so
            probes that share a seed read the same text in the same order.
        precision: of matrix products: ``fp32`` exact, ``tf32``, or ``bf16`` inputs from fp32 master weights.
        evals: evaluation points, ending with the last step; step 0 comes in addition.
        eval_spacing: whether they are ``log`` or ``linear`` in steps.

    Raises:
        TypeError: a field has the wrong type.
        ValueError: a field is out of range, or fields do not fit together.
    """

    task: str = "bigram"
    vocab: int = 256
    tau: float = 1.5
    s: float = 1.0
    language_seed: int = 0
    model: str = "transformer"
    width: int = 16
    depth: int = 1
    heads: int = 1
    context: int = 32
    mlp_ratio: int = 4
    tokens: int = 2**19
    batch_tokens: int = 1024
    lr: float = 1e-2
    warmup: float = 0.05
    schedule: str = "linear"
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.98
    eps: float = 1e-8
    clip: float | None = None
    seed: int = 0
    precision: str = "fp32"
    evals: int = 12
    table: tuple[tuple[float, float], ...] | None = None
    eval_spacing: str = "log"

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, _checked(field.name, field.type, getattr(self, field.name)))
        if (self.table is not None) != (self.schedule == "table"):
            raise ValueError(
                f"schedule={self.schedule!r} and table={self.table!r} do not fit together; "
                'give table= its corners together with schedule="table", and neither alone.'
            )
        if self.width % self.heads:
            raise ValueError(
                f"width={self.width} is not a multiple of heads={self.heads}; choose heads that divide it."
            )
        if self.batch_tokens % self.context:
            raise ValueError(
                f"batch_tokens={self.batch_tokens} is not a whole number of contexts of {self.context} tokens; "
                f"the nearest is {_nearest(self.batch_tokens, self.context)}."
            )
        if self.tokens % self.batch_tokens:
            raise ValueError(
                f"tokens={self.tokens} is not a whole number of batches of {self.batch_tokens} tokens; "
                f"the nearest is {_nearest(self.tokens, self.batch_tokens)}."
            )

    @cached_property
    def id(self) -> str:
        """16 hexadecimal digits of the SHA-256 of the canonical JSON form."""
        return _digest(self.to_json())

    @property
    def params_non_embedding(self) -> int:
        """Weights of the blocks alone: (4 + 2 mlp_ratio) d^2 a layer, which is 12 L d^2 at ratio 4.

        Token and position embeddings and the output head are left out, as in Kaplan et al. 2020
        (arXiv 2001.08361, section 2.1), whose head shares the embedding's weights.
        """
        return self.depth * (4 + 2 * self.mlp_ratio) * self.width**2

    @property
    def params(self) -> int:
        """All trainable weights: the blocks, both vocabulary matrices (untied) and the positions."""
        return self.params_non_embedding + (2 * self.vocab + self.context) * self.width

    @property
    def flops(self) -> float:
        """Training compute 6 N D with all parameters counted."""
        return FLOPS_PER_PARAM_TOKEN * self.params * self.tokens

    @property
    def steps(self) -> int:
        """Optimizer steps."""
        return self.tokens // self.batch_tokens

    @property
    def shape(self) -> tuple:
        """Everything that fixes tensor shapes and the number of steps; probes of equal shape can be stacked."""
        return tuple(getattr(self, name) for name in _SHAPE)

    def replace(self, **changes) -> Probe:
        """This probe with some fields changed; an unknown field is a TypeError that names the fields."""
        _known_fields(changes)
        return replace(self, **changes)

    def to_dict(self) -> dict:
        later = {f.name for f in fields(self) if f.name in _LATER and getattr(self, f.name) == f.default}
        return {"schema": SCHEMA, **{k: v for k, v in asdict(self).items() if k not in later}}

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces, schema version included."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_dict(cls, data: Mapping) -> Probe:
        if not isinstance(data, Mapping):
            raise TypeError(f"A probe is read from a JSON object; got {type(data).__name__}.")
        data = dict(data)
        schema = data.pop("schema", None)
        if schema != SCHEMA:
            raise ValueError(f"This probe has schema {schema!r}; this version of the workbench reads schema {SCHEMA}.")
        _known_fields(data)
        return cls(**data)

    @classmethod
    def from_json(cls, text: str) -> Probe:
        """Inverse of `to_json`; raises ValueError or TypeError with one sentence on foreign text."""
        return cls.from_dict(_parsed(text, "probe"))


_FIELDS = tuple(field.name for field in fields(Probe))
_SHAPE = ("task", "vocab", "model", "width", "depth", "heads", "context", "mlp_ratio", "tokens", "batch_tokens")
_SHAPE += ("precision", "evals", "eval_spacing")


@dataclass(frozen=True)
class Sweep:
    """An ordered set of probes.

    Raises:
        TypeError: an entry is not a `Probe`.
        ValueError: the sweep is empty or names a probe twice.
    """

    probes: tuple[Probe, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "probes", tuple(self.probes))
        for probe in self.probes:
            if not isinstance(probe, Probe):
                raise TypeError(f"A sweep holds probes; got {type(probe).__name__}. Build each with Probe(...).")
        if not self.probes:
            raise ValueError("A sweep needs at least one probe; got none.")
        if len(set(self.probes)) < len(self.probes):
            twice = next(p for i, p in enumerate(self.probes) if p in self.probes[:i])
            raise ValueError(f"Probe {twice.id} is in the sweep twice; give repeats different seeds.")

    @classmethod
    def grid(cls, base: Probe, **axes: Sequence) -> Sweep:
        """Every combination of the given values, the last axis fastest.

        ``Sweep.grid(base, width=[8, 16], seed=range(3))`` is six probes.
        """
        _known_fields(axes)
        for name, values in axes.items():
            if isinstance(values, str) or not hasattr(values, "__iter__"):
                raise TypeError(f"{name}={values!r} is not a list; write {name}=[{values!r}].")
        return cls(
            tuple(base.replace(**dict(zip(axes, row, strict=True))) for row in itertools.product(*axes.values()))
        )

    @cached_property
    def id(self) -> str:
        """16 hexadecimal digits of the SHA-256 of the canonical JSON form."""
        return _digest(self.to_json())

    def __len__(self) -> int:
        return len(self.probes)

    def __iter__(self) -> Iterator[Probe]:
        return iter(self.probes)

    def __getitem__(self, index: int) -> Probe:
        return self.probes[index]

    def buckets(self) -> list[tuple[int, ...]]:
        """Positions in this sweep of probes that can be trained as one stack, in order of first appearance."""
        groups: dict[tuple, list[int]] = {}
        for index, probe in enumerate(self.probes):
            groups.setdefault(probe.shape, []).append(index)
        return [tuple(group) for group in groups.values()]

    def to_json(self) -> str:
        data = {"schema": SCHEMA, "probes": [probe.to_dict() for probe in self.probes]}
        return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Sweep:
        """Inverse of `to_json`; raises ValueError or TypeError with one sentence on foreign text."""
        data = _parsed(text, "sweep")
        if not isinstance(data, dict) or not isinstance(data.get("probes"), list):
            raise ValueError('A sweep is a JSON object with a list "probes"; write one with Sweep.to_json().')
        return cls(tuple(Probe.from_dict(entry) for entry in data["probes"]))


def _checked(name: str, annotation: str, value: object) -> object:
    """`value` of field `name` as a plain int, float or str, or one sentence about what is wrong with it."""
    if name in _CHOICES:
        if value not in _CHOICES[name]:
            raise ValueError(f"{name}={value!r} is not known; choose one of {', '.join(_CHOICES[name])}.")
        return value
    if value is None and "None" in annotation:
        return None
    if name == "table":
        return _corners(value)
    kind = "a whole number" if annotation == "int" else "a number"
    if isinstance(value, bool | str) or not hasattr(value, "__float__"):
        raise TypeError(f"{name}={value!r} is not {kind}.")
    number = float(value)
    if annotation == "int" and not (math.isfinite(number) and number == int(value)):
        raise TypeError(f"{name}={value!r} is not {kind}.")
    low, high = _RANGES[name]
    if not low <= number <= high:
        raise ValueError(f"{name}={value!r} is out of range; it must lie between {low} and {high}.")
    # numpy scalars and 2e5 become plain numbers here, so equal probes have equal JSON and equal ids
    return int(value) if annotation == "int" else number


def _corners(value: object) -> tuple[tuple[float, float], ...]:
    """The corners of a schedule as plain floats, or one sentence about what is wrong with them."""
    try:
        corners = tuple((float(share), float(multiplier)) for share, multiplier in value)
    except (TypeError, ValueError):
        raise TypeError(f"table={value!r} is not a list of (share of steps, multiplier) pairs.") from None
    shares, multipliers = [c[0] for c in corners], [c[1] for c in corners]
    if len(corners) < 2 or shares != sorted(shares) or (shares[0], shares[-1]) != (0.0, 1.0):
        raise ValueError(f"table={value!r} must rise from share 0 to share 1 in at least two corners.")
    if not all(math.isfinite(m) and 0 <= m <= 100 for m in multipliers):
        raise ValueError(f"table={value!r} has a multiplier outside 0 to 100.")
    return corners


def _nearest(value: int, unit: int) -> int:
    return max(1, round(value / unit)) * unit


def _known_fields(names: Mapping) -> None:
    unknown = [name for name in names if name not in _FIELDS]
    if unknown:
        raise TypeError(f"A probe has no field {unknown[0]!r}; its fields are {', '.join(_FIELDS)}.")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _parsed(text: str, what: str) -> object:
    try:
        return json.loads(text)
    except (TypeError, ValueError) as error:
        raise ValueError(f"This is not the JSON of a {what}: {error}.") from None
