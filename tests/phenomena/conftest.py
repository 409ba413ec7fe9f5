"""Contracts of phenomena train for minutes: they belong to the long part."""

from __future__ import annotations

import pytest

from workbench.testing.phenomena import PhenomenonContract


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark every test that `PhenomenonContract` brings, before marks are looked at."""
    for item in items:
        if isinstance(getattr(item, "cls", None), type) and issubclass(item.cls, PhenomenonContract):
            item.add_marker(pytest.mark.long)
