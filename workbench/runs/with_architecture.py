"""`with_architecture`: both counts of parameters, and exact FLOPs, for logs that do not say what was trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from workbench.runs import counted
from workbench.runs.calculator import Architecture
from workbench.runs.checks import derive_missing
from workbench.runs.columns import nearest
from workbench.runs.frameworks import counts
from workbench.runs.table import RunTable, arrange

__all__ = ["with_architecture"]


def with_architecture(
    runs: RunTable, architecture: Architecture | Mapping[str, Architecture], sequence_length: int | None = None
) -> RunTable:
    """`runs` with what `architecture` counts: params, params_non_embedding, params_active, flops, flops_exact, ...

    Only what was not logged is filled, and marked as derived; a logged number that differs by more than 3 % is a
    message. What follows from it is derived too: tokens, FLOPs, tokens per parameter.

    Args:
        runs: the runs.
        architecture: of all of them, or run id -> its architecture.
        sequence_length: length of training sequences for exact FLOPs; each run's `context` unless given.

    Raises:
        KeyError: a run does not exist; the nearest id is suggested.
        TypeError: something else than an `Architecture` was given.
    """
    given = dict(architecture) if isinstance(architecture, Mapping) else dict.fromkeys(runs.ids, architecture)
    known = set(runs.ids)
    for run, model in given.items():
        if run not in known:
            raise KeyError(f"no run {run!r}; {nearest(str(run), runs.ids, 'runs')}")
        if not isinstance(model, Architecture):
            raise TypeError(f"with_architecture takes a workbench.Architecture, got {type(model).__name__}")
    frame = runs.frame
    lengths = frame["context"].to_numpy(float) if "context" in frame else np.full(len(frame), np.nan)
    held = []
    for run, length in zip(runs.ids, lengths, strict=True):
        own = sequence_length or (int(length) if np.isfinite(length) and length >= 1 else None)
        held.append(counted.dump(counts(given[run], "the architecture given", own)) if run in given else None)
    frame = frame.assign(**{counted.HOLDER: pd.Series(held, index=frame.index, dtype=object)})
    notes = dict(runs.notes)
    messages = counted.disagreements(frame)
    frame = arrange(derive_missing(frame, notes))
    return replace(runs, frame=frame, notes=notes, messages=tuple(dict.fromkeys((*runs.messages, *messages))))
