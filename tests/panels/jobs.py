"""Jobs of a stand-in queue, whose run folders the tests write by hand."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from workbench.launch import view
from workbench.launch.queue import Job, Queue
from workbench.launch.stack import create
from workbench.probes import Probe, Sweep
from workbench.runs.load import load
from workbench.runs.store import RunFolder

BASE = Probe(vocab=32, width=4, context=16, batch_tokens=64, tokens=64 * 400, lr=1e-2, evals=5)
#: Six runs of three sizes.
SWEEP = Sweep.grid(BASE, width=[4, 8, 16], seed=range(2))


class Standin(Queue):
    """Remembers what it was asked to do, and lets every folder say that it was done."""

    def __init__(self, root: Path) -> None:
        self.root, self.asked = root, []

    def submit(self, sweep):
        self.asked.append(("submit", len(sweep)))
        job = StandinJob(self, sweep)
        for probe in sweep:
            folder = create(self.root, probe)
            if folder.status["state"] != "finished":
                folder.set_status("created", checkpoint=0)
        return job

    def cancel(self, ids):
        self.asked.append(("cancel", len(ids)))
        for id in ids:
            folder = RunFolder.open(self.root / id)
            if folder.status["state"] != "finished":
                folder.set_status("cancelled", verdict="cancelled at step 5; submit it again to go on from there")

    def jobs(self):
        return []


class StandinJob(Job):
    def __init__(self, queue, sweep):
        self.queue, self.sweep = queue, sweep

    def table(self):
        return view.table(self.queue.root, self.sweep)

    def wait(self, timeout=None):
        return True

    def cancel(self):
        self.queue.cancel([probe.id for probe in self.sweep])

    def runs(self):
        return load([self.queue.root / probe.id for probe in self.sweep])


def loss(probe: Probe, step: int) -> float:
    """A power law in tokens with a floor that falls with the width."""
    return 1.0 + 2.0 / probe.width**0.5 + 2.0 * (1.0 + step) ** -0.4


def write(root: Path, probe: Probe, state: str, part: float = 1.0, **status) -> RunFolder:
    """A run that got this far; one that runs says that another machine trains it, which no lock here disproves."""
    folder = create(root, probe)
    last = round(part * probe.steps)
    done = folder.metrics()[0]
    done = -1 if done.empty else int(done["step"].max())
    with folder:
        for step in sorted({0, last, *np.geomspace(1, probe.steps, 12).round().astype(int).tolist()}):
            if done < step <= last:
                tokens = step * probe.batch_tokens
                record = {"step": step, "tokens": tokens, "flops": 6.0 * probe.params * tokens}
                folder.append({**record, "loss": loss(probe, step)})
    if state == "running":
        status = {"host": "elsewhere", "fraction": part, "tokens_per_second": 1e5, "every": 5.0, **status}
    folder.set_status(state, **{"heartbeat": time.time(), **status})
    return folder


def job(root: Path, sweep: Sweep = SWEEP, states: tuple[str, ...] = (), part: float = 0.5) -> StandinJob:
    """A job whose runs stand as `states` says, repeated over the sweep."""
    states = states or ("finished", "running", "failed", "created", "running", "cancelled")
    for i, probe in enumerate(sweep):
        state = states[i % len(states)]
        if state == "created":
            create(root, probe)
        else:
            write(root, probe, state, 1.0 if state == "finished" else part)
    return StandinJob(Standin(root), sweep)
