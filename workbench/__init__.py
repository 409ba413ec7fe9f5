"""Scaling workbench: load run logs, fit and compare scaling laws, plan, and launch small probes.

The nouns and the handful of verbs people need; everything is imported at first use, so that
``import workbench`` costs milliseconds and never imports torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workbench.analysis.approaches import approaches
    from workbench.analysis.chain import chain
    from workbench.analysis.costs import InferenceCost, MeasuredCost, PowerCost
    from workbench.analysis.critical_batch import critical_batch
    from workbench.analysis.crossover import crossover
    from workbench.analysis.envelope import envelope
    from workbench.analysis.exponents import equal_exponents
    from workbench.analysis.frontier import Frontier, Plan, frontier
    from workbench.analysis.influence import influence
    from workbench.analysis.isoflop import isoflop
    from workbench.analysis.multiplier import multiplier
    from workbench.analysis.multiverse import Multiverse, multiverse
    from workbench.analysis.next_runs import next_runs
    from workbench.analysis.optimum import optimum
    from workbench.analysis.replicates import replicates
    from workbench.analysis.rolling import rolling_origin
    from workbench.analysis.schedule_curves import fit_curves
    from workbench.fits.compare import Comparison, compare
    from workbench.fits.fit import fit
    from workbench.fits.result import Fit
    from workbench.launch.local import LocalQueue
    from workbench.launch.slurm import SlurmQueue
    from workbench.laws.base import Law
    from workbench.laws.schedules.schedule import Schedule
    from workbench.probes.spec import Probe
    from workbench.probes.sweep import Span, Sweep
    from workbench.runs.calculator import Architecture
    from workbench.runs.load import load
    from workbench.runs.table import RunTable

__version__ = "0.1.0"

_CONTENTS = {
    "load": "workbench.runs.load",
    "Architecture": "workbench.runs.calculator",
    "RunTable": "workbench.runs.table",
    "Law": "workbench.laws.base",
    "fit": "workbench.fits.fit",
    "Fit": "workbench.fits.result",
    "compare": "workbench.fits.compare",
    "Comparison": "workbench.fits.compare",
    "multiverse": "workbench.analysis.multiverse",
    "Multiverse": "workbench.analysis.multiverse",
    "influence": "workbench.analysis.influence",
    "crossover": "workbench.analysis.crossover",
    "equal_exponents": "workbench.analysis.exponents",
    "multiplier": "workbench.analysis.multiplier",
    "replicates": "workbench.analysis.replicates",
    "rolling_origin": "workbench.analysis.rolling",
    "approaches": "workbench.analysis.approaches",
    "envelope": "workbench.analysis.envelope",
    "isoflop": "workbench.analysis.isoflop",
    "frontier": "workbench.analysis.frontier",
    "Frontier": "workbench.analysis.frontier",
    "Plan": "workbench.analysis.frontier",
    "InferenceCost": "workbench.analysis.costs",
    "MeasuredCost": "workbench.analysis.costs",
    "PowerCost": "workbench.analysis.costs",
    "next_runs": "workbench.analysis.next_runs",
    "optimum": "workbench.analysis.optimum",
    "critical_batch": "workbench.analysis.critical_batch",
    "chain": "workbench.analysis.chain",
    "fit_curves": "workbench.analysis.schedule_curves",
    "Schedule": "workbench.laws.schedules.schedule",
    "Probe": "workbench.probes.spec",
    "Sweep": "workbench.probes.sweep",
    "Span": "workbench.probes.sweep",
    "LocalQueue": "workbench.launch.local",
    "SlurmQueue": "workbench.launch.slurm",
}

__all__ = [
    "Architecture", "Comparison", "Fit", "Frontier", "InferenceCost", "Law", "LocalQueue", "MeasuredCost",
    "Multiverse", "Plan", "PowerCost", "Probe", "RunTable", "Schedule", "SlurmQueue", "Span", "Sweep", "approaches",
    "chain", "compare", "critical_batch", "crossover", "envelope", "equal_exponents", "fit", "fit_curves", "frontier",
    "influence", "isoflop", "load", "multiplier", "multiverse", "next_runs", "optimum", "replicates",
    "rolling_origin",
]  # fmt: skip


def __getattr__(name: str):
    if name in _CONTENTS:
        value = getattr(importlib.import_module(_CONTENTS[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'workbench' has no attribute {name!r}; it offers {', '.join(sorted(__all__))}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
