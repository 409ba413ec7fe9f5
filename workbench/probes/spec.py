"""`Probe`: a frozen description of one small training run. No torch here.

A probe names a task, a model and an optimizer, and holds the settings of the three beside those of the run
itself, all as plain fields: ``Probe(task="bigram", model="transformer", width=64, lr=0.01)``.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import Field, dataclass, fields
from functools import cached_property
from typing import Any

from workbench.probes.component import Component, choice, number, own, whole
from workbench.probes.models.base import Model, find_model
from workbench.probes.optimizers.base import Optimizer, find_optimizer
from workbench.probes.tasks.base import Task, find_task

__all__ = ["SCHEMA", "Probe", "Run"]

#: Version of the JSON form. It enters the id, so a change of meaning can never reuse an old result.
SCHEMA = 1


def _corners(name: str, value: object) -> tuple[tuple[float, float], ...] | None:
    """The corners of a schedule as plain floats, or one sentence about what is wrong with them."""
    if value is None:
        return None
    try:
        corners = tuple((float(share), float(multiplier)) for share, multiplier in value)
    except (TypeError, ValueError):
        raise TypeError(f"{name}={value!r} is not a list of (share of steps, multiplier) pairs.") from None
    shares, multipliers = [c[0] for c in corners], [c[1] for c in corners]
    if len(corners) < 2 or shares != sorted(shares) or (shares[0], shares[-1]) != (0.0, 1.0):
        raise ValueError(f"{name}={value!r} must rise from share 0 to share 1 in at least two corners.")
    if not all(math.isfinite(m) and 0 <= m <= 100 for m in multipliers):
        raise ValueError(f"{name}={value!r} has a multiplier outside 0 to 100.")
    return corners


def _layer_rates(name: str, value: object) -> tuple[tuple[str, float], ...]:
    """Pairs (start of a weight's name, multiplier of lr), in canonical form."""
    try:
        pairs = tuple(
            (str(prefix), float(rate)) for prefix, rate in (value.items() if isinstance(value, Mapping) else value)
        )
    except (TypeError, ValueError, AttributeError):
        raise TypeError(f"{name}={value!r} is not a list of (start of a weight's name, multiplier) pairs.") from None
    if not all(math.isfinite(rate) and 0 <= rate <= 1e6 for _, rate in pairs):
        raise ValueError(f"{name}={value!r} has a multiplier outside 0 to 1000000.")
    return pairs


def _widths(name: str, value: object) -> tuple[float, ...]:
    """Widths of averages, in canonical form: rising, each once."""
    try:
        widths = tuple(sorted({float(width) for width in value}))
    except (TypeError, ValueError):
        raise TypeError(f"{name}={value!r} is not a list of widths; the usual ones are (0.05, 0.1).") from None
    if not all(0.001 <= width <= 0.2886 for width in widths):
        raise ValueError(f"{name}={value!r} has a width outside 0.001 to 0.2886 (the mean of all steps).")
    return widths


def _names(name: str, value: object) -> tuple[str, ...]:
    """Names of measurements, sorted; which exist is checked where they are found."""
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        raise TypeError(f"{name}={value!r} is not a list of names; write {name}=[{value!r}].")
    names = tuple(sorted(set(value)))
    if names:
        from workbench.probes.measures.base import find_measure

        for one in names:
            find_measure(one)
    return names


_LIMIT = 2**31 - 1


@dataclass(frozen=True)
class Run(Component):
    """The settings of a run that belong to no part: how long, how fast, how exact, how often looked at."""

    kind = "run"

    tokens: int = whole(2**19, 1, 10**12, "training horizon D, tokens (examples where an input has one target)")
    batch_tokens: int = whole(1024, 1, 2**24, "tokens (examples) per optimizer step")
    lr: float = number(1e-2, 0.0, 1e4, "peak learning rate", member=True)
    warmup: float = number(0.05, 0.0, 0.9, "share of all steps in which lr rises linearly from 0", member=True)
    schedule: str = choice(
        "linear", ("linear", "cosine", "constant", "table", "wsd", "one_cycle", "inverse_sqrt"),
        "lr after the warm-up", member=True,
    )  # fmt: skip
    weight_decay: float = number(0.0, 0.0, 100.0, "decoupled decay per unit of learning rate", member=True)
    clip: float | None = number(None, 1e-12, 1e12, "largest L2 norm of the gradient", member=True, optional=True)
    seed: int = whole(0, 0, _LIMIT, "draws the initial weights and the training stream", member=True)
    precision: str = choice(
        "fp32", ("fp32", "tf32", "bf16", "e5m2", "e4m3", "e3m2", "e2m3", "e2m1", "e1m2", "int8", "int4", "int2"),
        "matrix products: fp32 exact, tf32, bf16 inputs, or inputs rounded to a simulated format",
    )  # fmt: skip
    evals: int = whole(12, 1, 1000, "evaluation points, ending with the last step; step 0 comes in addition")
    table: tuple | None = own(
        None, _corners, "corners (share of the steps after warm-up, multiplier of lr) for schedule='table'",
        member=True, later=True,
    )  # fmt: skip
    eval_spacing: str = choice("log", ("log", "linear"), "spacing of the evaluation points in steps", later=True)
    decay: float = number(0.2, 0.0, 1.0, "share of all steps that decay lr (wsd)", member=True, later=True)
    lr_end: float = number(
        0.0, 0.0, 1.0, "last lr as a share of the peak (linear, cosine, wsd, one_cycle)", member=True, later=True
    )
    parametrization: str = choice(
        "standard", ("standard", "ntk", "mup", "mean_field", "umup", "depth_mup"),
        "how initial sizes, multipliers and learning rates scale with width and depth", later=True,
    )  # fmt: skip
    base_width: int = whole(64, 1, 2**20, "width at which a parametrization equals the standard one", later=True)
    base_depth: int = whole(2, 1, 2**10, "depth at which a parametrization equals the standard one", later=True)
    layer_rates: tuple = own((), _layer_rates, "pairs (start of a weight's name, multiplier of lr)", later=True)
    output_scale: float = number(
        1.0, 0.0, 1e6, "multiplier of the model's output (lazy training when large)", member=True, later=True
    )
    init_scale: float = number(1.0, 0.0, 1e6, "multiplier of all drawn initial weights", member=True, later=True)
    z_loss: float = number(0.0, 0.0, 1e3, "weight of the penalty (log Z)^2 of the softmax", later=True)
    transform: str = choice(
        "none", ("none", "grokfast", "perpgrad"), "what is done to the gradient before the optimizer", later=True
    )
    ema: float = number(
        0.0,
        0.0,
        0.9999999,
        "decay of an average of the weights that is evaluated too; 0: none",
        member=True,
        later=True,
    )
    transform_decay: float = number(
        0.98, 0.0, 0.9999999, "decay of the average of gradients (grokfast)", member=True, later=True
    )
    transform_gain: float = number(
        2.0, 0.0, 1e4, "weight of that average beside the gradient (grokfast)", member=True, later=True
    )
    ema_profiles: tuple = own(
        (), _widths, "widths sigma_rel of power-function averages of the weights kept at the evaluation points",
        later=True,
    )  # fmt: skip
    stream: str = choice(
        "fp32", ("fp32", "bf16"), "residual stream of a transformer in training; bf16 needs precision='bf16'",
        later=True,
    )  # fmt: skip
    block: int = whole(32, 0, 2**16, "entries that share a scale in simulated formats; 0: a whole matrix", later=True)
    quantized: str = choice(
        "weights_activations", ("weights", "activations", "weights_activations", "all"),
        "what a simulated format rounds; 'all' adds the gradients", later=True,
    )  # fmt: skip
    measure: tuple = own((), _names, "measurements taken at the evaluation points", later=True)

    def check(self) -> None:
        if (self.table is not None) != (self.schedule == "table"):
            raise ValueError(
                f"schedule={self.schedule!r} and table={self.table!r} do not fit together; "
                'give table= its corners together with schedule="table", and neither alone.'
            )
        if self.stream == "bf16" and self.precision != "bf16":
            raise ValueError(f"stream='bf16' needs precision='bf16', not {self.precision!r}; change one of them.")
        if self.schedule == "wsd" and self.warmup + self.decay > 1:
            raise ValueError(f"warmup={self.warmup} and decay={self.decay} take more than all steps; lower one.")


class Probe:
    """One small training run: task, model, optimizer, and how to train; validated at construction, frozen.

    Args:
        task: what is learned; ``bigram`` unless given. `workbench.probes.tasks.base.tasks` lists them.
        model: what is trained; ``transformer`` unless given.
        optimizer: ``adamw`` unless given.
        **settings: fields of the run (`Run`) and of the three parts. `Probe.describe` lists them with
            defaults, limits and meaning.

    Every field is an attribute of the probe: ``probe.width``, ``probe.lr``. Two probes are equal if all
    fields are, and then have the same `id`.

    Raises:
        TypeError: an unknown field, or a field of the wrong type.
        ValueError: a field is out of range, or fields do not fit together.
    """

    __slots__ = ("__dict__",)

    run: Run
    task_settings: Task
    model_settings: Model
    optimizer_settings: Optimizer

    def __init__(
        self, task: str = "bigram", model: str = "transformer", optimizer: str = "adamw", **settings: Any
    ) -> None:
        parts = _parts(task, model, optimizer)
        owners = {one.name: part for part in parts for one in fields(part)}
        for name in settings:
            if name not in owners:
                raise TypeError(_unknown(name, (task, model, optimizer), owners))
        built = [part(**{k: v for k, v in settings.items() if owners[k] is part}) for part in parts]
        values: dict[str, Any] = dict(zip(("run", *_SETTINGS), built, strict=True))
        values |= {"task": task, "model": model, "optimizer": optimizer}
        values |= {one.name: getattr(part, one.name) for part in built for one in fields(part)}
        self.__dict__.update(values)
        self.model_settings.check_task(self.task_settings)
        unit = self.task_settings.positions
        if self.batch_tokens % unit:
            raise ValueError(
                f"batch_tokens={self.batch_tokens} is not a whole number of contexts of {unit} tokens; "
                f"the nearest is {_nearest(self.batch_tokens, unit)}."
            )
        if self.tokens % self.batch_tokens:
            raise ValueError(
                f"tokens={self.tokens} is not a whole number of batches of {self.batch_tokens} tokens; "
                f"the nearest is {_nearest(self.tokens, self.batch_tokens)}."
            )
        self.model_settings.weights(self.task_settings)  # a shape that cannot be built is refused here

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a probe is frozen; write probe.replace({name}={value!r})")

    __delattr__ = None

    @cached_property
    def id(self) -> str:
        """16 hexadecimal digits of the SHA-256 of the canonical JSON form."""
        return digest(self.to_json())

    @cached_property
    def _counts(self) -> tuple[int, int, int]:
        weights = [w for w in self.model_settings.weights(self.task_settings).values() if w.role != "frozen"]
        active = self.model_settings.active_params(self.task_settings)
        return sum(w.size for w in weights), sum(w.size for w in weights if not w.embedding), active

    @property
    def params(self) -> int:
        """All trained weights, embeddings and head included."""
        return self._counts[0]

    @property
    def params_non_embedding(self) -> int:
        """Trained weights without token and position embeddings and without the vocabulary head.

        For a transformer without gains that is (4 + 2 mlp_ratio) d^2 a layer, 12 L d^2 at ratio 4, as in
        Kaplan et al. 2020 (arXiv 2001.08361, section 2.1), whose head shares the embedding's weights.
        """
        return self._counts[1]

    @property
    def params_active(self) -> int:
        """Trained weights that one token meets; fewer than `params` for mixtures of experts."""
        return self._counts[2]

    @property
    def flops(self) -> float:
        """Training compute: `Model.flops_per_token` times tokens, which is 6 N D for a transformer."""
        return self.model_settings.flops_per_token(self.task_settings) * self.tokens

    @property
    def steps(self) -> int:
        """Optimizer steps."""
        return self.tokens // self.batch_tokens

    @property
    def batch(self) -> int:
        """Inputs (sequences, examples) per optimizer step."""
        return self.batch_tokens // self.task_settings.positions

    @cached_property
    def shape(self) -> tuple:
        """Everything that fixes tensor shapes, steps and kernels; probes of equal shape can be stacked."""
        parts = (self.run, *(getattr(self, name) for name in _SETTINGS))
        shared = tuple(
            (one.name, getattr(part, one.name)) for part in parts for one in fields(part) if not one.metadata["member"]
        )
        return (self.task, self.model, self.optimizer, *shared)

    def replace(self, **changes: Any) -> Probe:
        """This probe with some fields changed.

        A new task, model or optimizer takes along those settings that it knows.

        Raises:
            TypeError: an unknown field; the sentence names the fields.
        """
        names = {name: changes.pop(name, getattr(self, name)) for name in ("task", "model", "optimizer")}
        kept = {one.name for part in _parts(**names) for one in fields(part)}
        settings = {name: value for name, value in self._settings().items() if name in kept}
        return Probe(**names, **{**settings, **changes})

    def to_dict(self) -> dict[str, Any]:
        """The JSON object, ``schema`` first; younger fields only where they differ from their default."""
        named = {"schema": SCHEMA, "task": self.task, "model": self.model}
        if self.optimizer != "adamw":  # younger than schema 1
            named["optimizer"] = self.optimizer
        return {**named, **self._settings()}

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces, schema version included."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Probe:
        """Inverse of `to_dict`; raises ValueError or TypeError with one sentence on foreign objects."""
        if not isinstance(data, Mapping):
            raise TypeError(f"A probe is read from a JSON object; got {type(data).__name__}.")
        data = dict(data)
        schema = data.pop("schema", None)
        if schema != SCHEMA:
            raise ValueError(f"This probe has schema {schema!r}; this version of the workbench reads schema {SCHEMA}.")
        return cls(**data)

    @classmethod
    def from_json(cls, text: str) -> Probe:
        """Inverse of `to_json`; raises ValueError or TypeError with one sentence on foreign text."""
        return cls.from_dict(parsed(text, "probe"))

    @staticmethod
    def describe(task: str = "bigram", model: str = "transformer", optimizer: str = "adamw") -> str:
        """The fields of such probes as text, one a line: name, default, what is allowed, meaning."""
        lines = []
        for title, part in zip(
            ("run", f"task {task}", f"model {model}", f"optimizer {optimizer}"),
            _parts(task, model, optimizer),
            strict=True,
        ):
            lines.append(title)
            lines += [
                f"  {one.name:18s} {one.default!s:12s} {_allowed(one):32s} {one.metadata['doc']}"
                for one in fields(part)
            ]
        return "\n".join(lines)

    def _settings(self) -> dict[str, Any]:
        parts = (self.run, *(getattr(self, name) for name in _SETTINGS))
        return {
            one.name: getattr(part, one.name)
            for part in parts
            for one in fields(part)
            if not (one.metadata["later"] and getattr(part, one.name) == one.default)
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Probe) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.id)

    def __reduce__(self) -> tuple:
        return Probe.from_json, (self.to_json(),)

    def __repr__(self) -> str:
        changed = {k: v for k, v in self._settings().items() if v != _default(self, k)}
        named = {"task": self.task, "model": self.model, "optimizer": self.optimizer}
        return f"Probe({', '.join(f'{k}={v!r}' for k, v in {**named, **changed}.items())})"


_SETTINGS = ("task_settings", "model_settings", "optimizer_settings")


def _parts(task: str, model: str, optimizer: str) -> tuple[type[Component], ...]:
    return Run, find_task(task), find_model(model), find_optimizer(optimizer)


def _default(probe: Probe, name: str) -> Any:
    parts = _parts(probe.task, probe.model, probe.optimizer)
    return next(one.default for part in parts for one in fields(part) if one.name == name)


def _unknown(name: str, parts: tuple[str, str, str], owners: Mapping[str, Any]) -> str:
    task, model, optimizer = parts
    return (
        f"A probe of task={task!r}, model={model!r}, optimizer={optimizer!r} has no field {name!r}; "
        f"its fields are task, model, optimizer, {', '.join(owners)}."
    )


def _allowed(one: Field) -> str:
    meta = one.metadata
    if meta["kind"] == "choice":
        return ", ".join(meta["values"])
    return f"{meta['low']:g} to {meta['high']:g}" if "low" in meta else {"flag": "True, False"}.get(meta["kind"], "")


def _nearest(value: int, unit: int) -> int:
    return max(1, round(value / unit)) * unit


def digest(text: str) -> str:
    """The id of a canonical text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def parsed(text: str, what: str) -> Any:
    """The JSON value of `text`, or one sentence."""
    try:
        return json.loads(text)
    except (TypeError, ValueError) as error:
        raise ValueError(f"This is not the JSON of a {what}: {error}.") from None
