"""The probes of a sweep as a table: how large each is, how long it trains, and in what they differ. No torch here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from workbench.probes.sweep import Sweep

__all__ = ["listing", "varied"]


def listing(sweep: Sweep) -> pd.DataFrame:
    """One row a probe, in the sweep's order.

    Columns: ``run`` (the probe's id), ``bucket`` (from 0; probes of one bucket can be trained as one stack), ``params``
    (all trained weights), ``params_non_embedding``, ``tokens``, ``flops`` (of training), and the settings in which
    the probes differ, as `varied` gives them.
    """
    bucket = np.empty(len(sweep), dtype=int)
    for number, places in enumerate(sweep.buckets()):
        bucket[list(places)] = number
    sizes: dict[tuple, tuple[int, int]] = {}  # counting weights takes longer than all else, and few shapes differ
    for probe in sweep:
        if probe.shape not in sizes:
            sizes[probe.shape] = (probe.params, probe.params_non_embedding)
    columns: dict[str, Any] = {
        "run": [probe.id for probe in sweep],
        "bucket": bucket,
        "params": np.array([sizes[probe.shape][0] for probe in sweep], dtype=float),
        "params_non_embedding": np.array([sizes[probe.shape][1] for probe in sweep], dtype=float),
        "tokens": np.array([probe.tokens for probe in sweep], dtype=float),
        "flops": np.array([probe.flops for probe in sweep], dtype=float),
    }
    for name, values in varied(sweep).items():
        columns.setdefault(name, values)
    return pd.DataFrame(columns)


def varied(sweep: Sweep) -> dict[str, np.ndarray]:
    """The settings in which the probes of a sweep differ: one value a probe, numbers or words.

    A setting that some probes lack is a column of words, with a dash where it is lacking.
    """
    fields = [{k: v for k, v in probe.to_dict().items() if k != "schema"} for probe in sweep]
    found = {}
    names = dict.fromkeys(name for one in fields for name in one)
    for name in sorted(names, key=lambda name: name == "seed"):  # repeats come last
        values = [getattr(probe, name, None) for probe in sweep]  # a field may stand at its default, unwritten
        if len({repr(value) for value in values}) < 2:
            continue
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            found[name] = np.array(values, dtype=float)
        else:
            found[name] = np.array(["–" if value is None else str(value) for value in values], dtype=object)
    return found
