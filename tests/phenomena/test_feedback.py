"""Phenomena of feedback and tasks."""

from workbench.phenomena import find
from workbench.testing.phenomena import PhenomenonContract


class TestModelCollapse(PhenomenonContract):
    phenomenon = find("model_collapse")
