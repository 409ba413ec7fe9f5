"""From suggested sizes and horizons to probes that can be trained."""

from __future__ import annotations

import numpy as np
import pandas as pd

from workbench.probes.spec import SCHEMA, Probe
from workbench.probes.sweep import Sweep
from workbench.runs.table import RunTable

__all__ = ["base_of", "sweep_of"]


def base_of(runs: RunTable) -> Probe | None:
    """The probe that runs of this workbench were made with, as their sweep states it; None of foreign runs."""
    stated = runs.attributes.get("demo_probe")
    if not isinstance(stated, dict):
        return None
    try:
        return Probe.from_dict({"schema": SCHEMA, **stated})
    except (TypeError, ValueError):
        return None


def sweep_of(chosen: pd.DataFrame, runs: RunTable, base: Probe, size: str) -> tuple[Sweep, list[str]]:
    """The suggested runs as probes: the nearest width, whole batches, the learning rate of the nearest run.

    Args:
        chosen: of `NextRuns`: columns `size` and ``tokens``; a run suggested twice gets another seed.
        runs: the runs so far.
        base: what all probes share.
        size: column that stands for N.

    Returns:
        The sweep, and a sentence for each suggestion that no probe comes near.

    Raises:
        ValueError: no probe comes near any of them.
    """
    probes, notes, seen = [], [], {}
    for row in chosen.to_dict("records"):
        place = (row[size], row["tokens"])
        again = seen[place] = seen.get(place, -1) + 1
        try:
            found = Sweep.scale(base, [row[size]], tokens=[row["tokens"]], count=size)[0]
            rate = _rate(runs, size, row)
            changes = {"seed": base.seed + again} | ({} if rate is None else {"lr": rate})
            probes.append(found.replace(**changes))
        except (TypeError, ValueError) as error:
            notes.append(str(error))
    if not probes:
        raise ValueError(f"no probe of this kind comes near the suggestions: {'; '.join(dict.fromkeys(notes))}")
    return Sweep(tuple(dict.fromkeys(probes))), list(dict.fromkeys(notes))


def _rate(runs: RunTable, size: str, row: dict) -> float | None:
    """Learning rate of the run nearest in log N and log D; None where none is known."""
    if not {"lr", size, "tokens"} <= set(runs.frame.columns):
        return None
    frame = runs.good.frame[["lr", size, "tokens"]].to_numpy(float)
    frame = frame[(np.isfinite(frame) & (frame > 0)).all(axis=1)]
    if not len(frame):
        return None
    away = np.abs(np.log(frame[:, 1:] / np.array([row[size], row["tokens"]]))).sum(axis=1)
    return float(frame[away.argmin(), 0])
