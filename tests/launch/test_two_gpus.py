"""Two GPUs of one machine at work at the same time; runs only where there are two."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from tests.launch.conftest import kill_all
from workbench.launch.board import Board
from workbench.launch.local import LocalQueue
from workbench.launch.process import alive
from workbench.launch.slots import find_gpus
from workbench.probes import Probe, Sweep

pytestmark = pytest.mark.skipif(len(find_gpus()) < 2, reason="this machine has fewer than two GPUs")


def gpus_in_use(queue: LocalQueue) -> set[str]:
    """UUIDs of the GPUs to which living trainers of runs with the status `running` are confined."""
    board, used = Board(queue.root), set()
    pids = set()
    for file in queue.root.glob("*/status.json"):
        status = json.loads(file.read_text())
        if status["state"] == "running" and status.get("fraction", 0) > 0:
            pids.add(status["pid"])
    for name in board.workers():
        trainer = board.leader(name, "trainer")
        if trainer is not None and alive(trainer) and trainer.pid in pids:
            variables = open(f"/proc/{trainer.pid}/environ").read().split("\0")  # noqa: SIM115, PTH123
            used |= {v.partition("=")[2] for v in variables if v.startswith("CUDA_VISIBLE_DEVICES=")}
    return used


def memory_used() -> dict[str, int]:
    """MiB in use on each GPU, as the driver counts."""
    query = ["nvidia-smi", "--query-gpu=uuid,memory.used", "--format=csv,noheader,nounits"]
    lines = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()
    return {uuid.strip(): int(used) for uuid, used in (line.split(",") for line in lines)}


def test_two_gpus_train_at_once_and_a_bucket_is_split_between_them(tmp_path):
    before = memory_used()
    queue = LocalQueue(tmp_path, device="cuda", idle=1.0)
    assert queue._command == [sys.executable, "-m", "workbench.launch.worker"]
    base = Probe(width=64, depth=2, heads=4, context=128, batch_tokens=8192, tokens=8192 * 1500, precision="bf16")
    sweep = Sweep.grid(base, seed=range(8 * len(queue.slots)))  # one bucket
    try:
        job, most, grown = queue.submit(sweep), set(), set()
        end = time.monotonic() + 240
        while not (over := job.wait(0.1)) and time.monotonic() < end:
            most = max(most, gpus_in_use(queue), key=len)
            grown |= {uuid for uuid, used in memory_used().items() if used > before[uuid] + 200}
        print(job.table()[["state", "verdict", "place"]].value_counts(dropna=False))
        assert over and set(job.table()["state"]) == {"finished"}
        assert len(most) == len(queue.slots), "every GPU had a stack in training at one and the same moment"
        assert grown >= most, "and the driver saw memory taken on each of them"
    finally:
        kill_all(queue.root)
