"""Panels: ipywidgets views on runs and fits. They hold no mathematics; every panel ends as code.

``fit.panel()`` and ``panel(runs)`` open the fit panel.
"""

from workbench.panels.base import Panel
from workbench.panels.fit import FitPanel, FitState, panel
from workbench.panels.state import State

__all__ = ["FitPanel", "FitState", "Panel", "State", "panel"]
