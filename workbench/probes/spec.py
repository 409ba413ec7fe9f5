"""`Probe`: a frozen description of one small training run. No torch here.

A probe names a task, a model and an optimizer, and holds the settings of the three beside those of the run
itself, all as plain fields: ``Probe(task="bigram", model="transformer", width=64, lr=0.01)``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import Field, fields
from functools import cached_property
from typing import Any

from workbench.probes.component import Component
from workbench.probes.models.base import Model, find_model
from workbench.probes.optimizers.base import Optimizer, find_optimizer
from workbench.probes.run import Run
from workbench.probes.tasks.base import Task, find_task

__all__ = ["SCHEMA", "Probe", "Run"]

#: Version of the JSON form. It enters the id, so a change of meaning can never reuse an old result.
SCHEMA = 1


class Probe:
    """One small training run: task, model, optimizer, and how to train; validated at construction, frozen.

    Args:
        task: what is learned; `workbench.probes.tasks.base.tasks` lists them. Languages of known entropy
            (``bigram``, ``hidden_markov``, ``context_free``) and real ``text``; ``modular_arithmetic``,
            ``parity``, ``in_context_regression``, ``time_series``; regression (``teacher_student``,
            ``single_index``, ``random_feature_law``) and classification (``gaussian_mixture``,
            ``xor_clusters``, ``signals``, ``digits``).
        model: what is trained; `workbench.probes.models.base.models` lists them: ``transformer``, ``encoder``,
            ``mixture`` (of experts), ``lstm``, ``mlp``, ``residual_mlp``, ``convolution``, ``random_features``.
            Not every model reads every task; one that does not is refused, and the sentence names those that do.
        optimizer: `workbench.probes.optimizers.base.optimizers` lists them: ``adamw``, ``sgd``, ``muon``, ...
        **settings: fields of the run (`Run`) and of the three parts. `Probe.describe` lists them with
            defaults, limits and meaning. ``measure=[...]`` asks for measurements at the evaluation points
            (`workbench.probes.measures.base.measures`).

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
