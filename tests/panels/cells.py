"""One cell for each panel: it opens the panel on shipped data, or on runs made for it.

The accessibility tests open every cell, and ``docs/pictures/make.py`` takes its picture.
"""

from __future__ import annotations

_RUNS = """\
import workbench
from workbench.shipped import sweep

runs = workbench.load(sweep("bigram"))
"""
_MADE = """\
from workbench.testing.panels import example_runs

runs = example_runs()
"""

CELLS = {
    "runs": _RUNS + "runs.explore()",
    "fit": _RUNS
    + """\
fit = workbench.fit(runs, "chinchilla", where="steps >= 1000 and width >= 8", cluster="cell")
fit.panel()""",
    "compare": _MADE + "runs.compare()",
    "multiverse": _MADE + "runs.multiverse()",
    "frontier": _MADE + "runs.frontier()",
    "planner": _MADE + "runs.planner()",
    "explorer": _MADE
    + """\
from workbench.panels.explorer import panel
panel(runs)""",
    "probes": """\
from workbench import LocalQueue, Probe, Sweep

base = Probe(vocab=16, context=8, width=4, batch_tokens=64, tokens=64 * 200, evals=8)
LocalQueue("probes", device="cpu", workers=1).panel()""",
    "job": """\
from pathlib import Path
from tests.panels.jobs import job

job(Path("job")).panel()""",
}
