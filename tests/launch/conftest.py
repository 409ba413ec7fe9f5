"""Queues whose workers start at once, on locks of their own, and none of which outlives its test."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.launch.fake_worker import COMMAND
from workbench.launch.board import Board
from workbench.launch.process import Identity, alive


@pytest.fixture(autouse=True)
def runtime(tmp_path_factory, monkeypatch) -> Path:
    """Machine-wide locks of this test alone: it neither waits for anybody nor keeps anybody waiting."""
    folder = tmp_path_factory.mktemp("runtime")
    monkeypatch.setenv("WORKBENCH_RUNTIME", str(folder))
    return folder


@pytest.fixture
def fake(monkeypatch) -> Callable[..., None]:
    """Settings of the stand-in trainer, for workers started from now on."""

    def settings(**values) -> None:
        monkeypatch.setenv("FAKE", json.dumps(values))

    settings()
    return settings


@pytest.fixture
def queue(tmp_path, fake):
    """Makes queues with the stand-in trainer; whatever they started is killed at the end."""
    from workbench.launch.local import LocalQueue

    roots = []

    def make(root: str = "runs", **options):
        made = LocalQueue(tmp_path / root, **{"device": "cpu", "workers": 2, "idle": 0.3, "grace": 1.0, **options})
        made._command = COMMAND
        roots.append(made.root)
        return made

    yield make
    for root in roots:
        kill_all(root)


def processes(root: Path) -> dict[str, list[Identity]]:
    """Living processes of the workers of a root, by role."""
    board = Board(root)
    found: dict[str, list[Identity]] = {"supervisor": [], "trainer": []}
    for file in (root / ".queue" / "workers").glob("*.json"):
        for role, list_ in found.items():
            leader = board.leader(file.stem, role)
            if leader is not None and alive(leader):
                list_.append(leader)
    return found


def kill(process: Identity) -> bool:
    """SIGKILL, for real; whether there was anyone to get it."""
    if not alive(process):
        return False
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
        return True
    return False


def kill_all(root: Path) -> None:
    for role in ("supervisor", "trainer"):
        for process in processes(root)[role]:
            kill(process)


def eventually(condition: Callable[[], object], seconds: float = 30.0):
    """The first true value of `condition`, within that time."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)
    return value
