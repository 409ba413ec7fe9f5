"""One JupyterLab and one browser for all tests of a process."""

from __future__ import annotations

import pytest

from tests.panels.lab import chromium_path, open_lab


@pytest.fixture(scope="session")
def opened_lab(tmp_path_factory, browser):
    """See `tests.panels.lab.Lab`; skips where there is no Chromium."""
    with open_lab(tmp_path_factory.mktemp("lab"), chromium_path(), browser=browser) as made:
        yield made


@pytest.fixture(scope="module")
def jupyter(opened_lab):
    """The lab as one test file finds it: light, wide, with no kernels and nothing said or asked."""
    opened_lab.fresh()
    yield opened_lab
    opened_lab.close()
