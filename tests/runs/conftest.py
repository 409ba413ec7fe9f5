"""The sweep of `tests.runs.undisturbed`, trained, and where its processes find each other."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.runs.undisturbed")


@pytest.fixture
def runtime(tmp_path_factory, monkeypatch):
    """A folder for locks and queues that no other test uses."""
    monkeypatch.setenv("WORKBENCH_RUNTIME", str(tmp_path_factory.mktemp("runtime")))


@pytest.fixture(scope="module")
def calm(tmp_path_factory) -> Path:
    """The sweep as it is trained where nothing disturbs it."""
    from tests.runs.undisturbed import SWEEP
    from workbench.launch.worker import run

    root = tmp_path_factory.mktemp("calm") / "runs"
    run(SWEEP, root, device="cpu")
    return root
