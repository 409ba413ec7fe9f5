"""A small sweep, and whether a folder holds it as if nothing had ever disturbed its training."""

from __future__ import annotations

import json
from pathlib import Path

from workbench.probes import Probe, Sweep
from workbench.runs.store import RunFolder

__all__ = ["BASE", "SWEEP", "undisturbed"]

BASE = Probe(vocab=32, width=4, context=16, batch_tokens=64, tokens=64 * 40, lr=1e-2, evals=5)
SWEEP = Sweep.grid(BASE, seed=range(2))


def records(root: Path, probe: Probe) -> list[dict]:
    """The file's own lines but for clocks, not the library's reading of them; a torn one fails."""
    lines = (root / probe.id / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines[1:]]


def undisturbed(root: Path, calm: Path, sweep: Sweep = SWEEP) -> None:
    """Every run under `root` is finished, whole, and holds the records of the same run under `calm`."""
    for probe in sweep:
        assert json.loads((root / probe.id / "status.json").read_text())["state"] == "finished"
        assert records(root, probe) == records(calm, probe)
        assert RunFolder(root / probe.id).verify() == []
