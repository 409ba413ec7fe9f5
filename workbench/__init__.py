"""Scaling workbench: load run logs, fit and compare scaling laws, plan, and launch small probes.

The nouns and the handful of verbs people need; everything is imported at first use, so that
``import workbench`` costs milliseconds and never imports torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workbench.fits.compare import Comparison, compare
    from workbench.fits.fit import fit
    from workbench.fits.plan import Plan
    from workbench.fits.result import Fit
    from workbench.laws.base import Law
    from workbench.probes.spec import Probe, Sweep
    from workbench.runs.load import load
    from workbench.runs.table import RunTable

__version__ = "0.1.0"

_CONTENTS = {
    "load": "workbench.runs.load",
    "RunTable": "workbench.runs.table",
    "Law": "workbench.laws.base",
    "fit": "workbench.fits.fit",
    "Fit": "workbench.fits.result",
    "compare": "workbench.fits.compare",
    "Comparison": "workbench.fits.compare",
    "Plan": "workbench.fits.plan",
    "Probe": "workbench.probes.spec",
    "Sweep": "workbench.probes.spec",
}

__all__ = ["Comparison", "Fit", "Law", "Plan", "Probe", "RunTable", "Sweep", "compare", "fit", "load"]


def __getattr__(name: str):
    if name in _CONTENTS:
        value = getattr(importlib.import_module(_CONTENTS[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'workbench' has no attribute {name!r}; it offers {', '.join(sorted(__all__))}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
