"""Frameworks: which keys each training framework writes, and what they say about parameters, batch and tokens.

A file for each, with one `Framework` subclass. `quantities` is what `workbench.load` fills columns from;
`describe` is `Architecture.from_config`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from workbench.runs.calculator import Architecture
from workbench.runs.frameworks.base import Config, Counted, frameworks
from workbench.runs.strict_json import flatten

__all__ = ["Counted", "counts", "describe", "keys", "quantities"]


def describe(config: Mapping[str, Any]) -> Architecture:
    """The architecture that `config` describes; see `Architecture.from_config`.

    Raises:
        ValueError: no known framework writes such keys, or they do not fix the architecture.
    """
    settings = Config(flatten(config))
    named = [framework for framework in frameworks() if settings.names(framework.of_model)]
    for framework in named:
        found = framework.architecture(settings)
        if found is not None:
            return found
    if named:
        raise ValueError(
            f"the keys are {' or '.join(f.name for f in named)}'s, but do not say what the model is made of; "
            "give workbench.Architecture(...) its numbers."
        )
    raise ValueError(
        f"no known framework writes these keys; known are {', '.join(f.name for f in frameworks() if f.of_model)}. "
        "Give workbench.Architecture(...) its numbers."
    )


@cache
def keys() -> frozenset[str]:
    """The last part of every key by which a configuration is recognised."""
    return frozenset(key.rpartition(".")[2] for f in frameworks() for key in (*f.of_model[:1], *f.of_training))


def quantities(cells: Mapping[str, Any]) -> tuple[dict[str, Counted], tuple[str, ...]]:
    """Canonical quantities that follow from one run's settings.

    Args:
        cells: dotted key -> cell as logged; keys of any number of programs.

    Returns:
        Canonical name -> `Counted`; ``flops_per_token`` too, by which tokens become exact FLOPs. Empty if no
        framework is recognised. And the keys that were looked at.
    """
    config = Config(cells)
    found: dict[str, Counted] = {}
    for framework in frameworks():
        if any(key in config for key in framework.of_training):
            found |= {name: value for name, value in framework.training(config).items() if name not in found}
    context = found.get("context")
    for framework in frameworks():
        if not framework.of_model or not config.names(framework.of_model):
            continue
        try:
            model = framework.architecture(config)
        except ValueError:  # numbers of a run that cannot be are its own affair; there is nothing to count
            continue
        if model is not None:
            found |= counts(model, f"{framework.name}'s keys", None if context is None else int(context.value))
            break
    return found, tuple(config.asked)


def counts(model: Architecture, name: str, context: int | None) -> dict[str, Counted]:
    """What `model` counts; `name` tells the notes where it was taken from, `context` is the length of sequences."""
    how = f"counted from {name}"
    known = model.vocab is not None and model.positions is not None
    found = {
        "params_non_embedding": Counted(model.params(embeddings=False), f"{how}, without embeddings and head"),
        "width": Counted(model.width, how),
        "depth": Counted(model.layers, how),
    }
    if model.vocab is not None:
        found["vocab"] = Counted(model.vocab, how)
    if known:
        found["params"] = Counted(model.params(), f"{how}, embeddings included")
    if model.experts:
        found["experts"] = Counted(model.experts, how)
        if known:
            found["params_active"] = Counted(model.params(active=True), f"{how}, experts that a token meets")
    if context is not None and (model.vocab is not None or not model.head):
        found["flops_per_token"] = Counted(model.flops_per_token(context), f"matrix products {how}")
    return found
