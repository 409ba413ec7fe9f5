"""Phenomena: what papers say happens when models, data or training grow, each with an experiment that shows it.

A file a phenomenon, in the folder of its theme. ``find("model_collapse")`` returns one, ``phenomena()`` all by name,
``listing()`` a table of them with what the shipped experiments gave.
"""

from workbench.phenomena.base import BUDGETS, THEMES, Claim, Paper, Phenomenon, Report, Trained
from workbench.phenomena.registry import find, listing, phenomena

__all__ = [
    "BUDGETS",
    "THEMES",
    "Claim",
    "Paper",
    "Phenomenon",
    "Report",
    "Trained",
    "find",
    "listing",
    "phenomena",
]
