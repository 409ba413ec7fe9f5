"""`fork`: continue one run as another that agrees with it so far, as horizons of a constant rate do.

With a schedule that is constant until its decay (``wsd``), runs of different horizons are one run until the
first of them begins to decay (Hu et al. 2024, arXiv 2404.06395; Hägele et al. 2024, arXiv 2405.18392). So
the horizons of a scaling sweep cost one long trunk and a short branch each, and every branch is exactly the
run that its own probe describes.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from workbench.probes.checkpoint import Checkpoint
from workbench.probes.optimizers.schedules import multipliers
from workbench.probes.spec import Probe

__all__ = ["branch_point", "fork"]

#: Fields in which a branch may differ from its trunk: they say how far to go and when to look.
_FREE = ("tokens", "schedule", "warmup", "decay", "table", "lr_end", "evals", "eval_spacing", "measure")


def branch_point(trunk: Probe, branch: Probe) -> int:
    """Steps after which `branch` first departs from `trunk`: up to there they are one run.

    Raises:
        ValueError: they differ in more than their horizon and schedule, so they never agree.
    """
    free = dict.fromkeys(_FREE)
    if {**trunk.to_dict(), **free} != {**branch.to_dict(), **free}:
        raise ValueError("a branch may differ from its trunk in horizon, schedule and evaluations only.")
    steps = min(trunk.steps, branch.steps)
    ours, theirs = multipliers(trunk)[:steps], multipliers(branch)[:steps]
    departs = np.flatnonzero(ours != theirs)
    return int(departs[0]) if len(departs) else steps


def fork(state: Checkpoint, trunk: Probe, branch: Probe) -> Checkpoint:
    """The trunk's checkpoint as one of the branch, from which training goes on as the branch's.

    Args:
        state: of the trunk, at or before the `branch_point`.
        trunk: the run that left it.
        branch: the run to continue as.

    Raises:
        ValueError: the checkpoint is another run's, or lies behind the point where the two depart.
    """
    if state.values.get("id") != trunk.id:
        raise ValueError(f"the checkpoint is of run {state.values.get('id')!r}, not of {trunk.id!r}.")
    last = branch_point(trunk, branch)
    if state.step > last:
        raise ValueError(f"the branch departs after {last} steps; a checkpoint at step {state.step} is too late.")
    return dataclasses.replace(state, values={**state.values, "id": branch.id})
