"""Panels: ipywidgets views on runs, fits, comparisons, plans and probes.

They hold no mathematics, and every panel ends as code.

Each opens from the noun it shows: ``runs.explore()``, ``fit.panel()``, ``runs.frontier()``, ``runs.planner()``,
``law.explore()``.
"""

from workbench.panels.base import Panel
from workbench.panels.compare import ComparePanel
from workbench.panels.explorer import ExplorerPanel
from workbench.panels.fit import FitPanel, FitState, panel
from workbench.panels.frontier import FrontierPanel
from workbench.panels.multiverse import MultiversePanel
from workbench.panels.planner import PlannerPanel
from workbench.panels.probes import ProbePanel
from workbench.panels.runs import RunsPanel
from workbench.panels.state import State

__all__ = [
    "ComparePanel",
    "ExplorerPanel",
    "FitPanel",
    "FitState",
    "FrontierPanel",
    "MultiversePanel",
    "Panel",
    "PlannerPanel",
    "ProbePanel",
    "RunsPanel",
    "State",
    "panel",
]
