"""What clocks, other processes and torn files do to run folders: nothing acknowledged is lost, nothing is invented.

Every test ends as a user's story does: the same sweep is asked for again, and its table is that of a sweep which
nothing ever disturbed. What disks do is in `test_durability_disks`.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import workbench
from tests.runs.undisturbed import BASE, SWEEP, undisturbed
from workbench.cli import main
from workbench.launch import view
from workbench.launch.board import Board, run_lock
from workbench.launch.local import LocalQueue
from workbench.launch.locks import Lock
from workbench.launch.stack import Run, create
from workbench.launch.told import as_text
from workbench.launch.worker import run
from workbench.runs.readers.base import LoadError
from workbench.runs.store import RunFolder

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("runtime")

# Two writers

APPEND = """
import sys
from workbench.runs.store import RunFolder
folder = RunFolder.open(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for step in range(400):
    folder.append({"step": step, "writer": sys.argv[2], "pad": sys.argv[2] * (50 + 7 * step % 900)})
folder.close()
"""


def test_lines_of_two_writers_are_never_mixed(tmp_path):
    """The lock that keeps a second writer away may be missing, as with tools of other people."""
    folder = RunFolder.create(tmp_path, "r", {})
    words = [sys.executable, "-c", APPEND, str(folder.path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    writers = [subprocess.Popen([*words, name], **pipes) for name in "ab"]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=60)
    frame, skipped = folder.metrics()
    assert skipped == [] and len(frame) == 800
    for name in "ab":
        assert frame["step"][frame["writer"] == name].tolist() == list(range(400))
    assert all(set(pad) == {name} for pad, name in zip(frame["pad"], frame["writer"], strict=True))


def test_only_one_writer_holds_a_run(tmp_path):
    create(tmp_path, BASE)
    first = Run.attempt(tmp_path, BASE)
    assert first is not None and Run.attempt(tmp_path, BASE) is None
    first.close()
    second = Run.attempt(tmp_path, BASE)
    assert second is not None
    second.close()


TRAIN = """
import sys
from workbench.launch.worker import run
from workbench.probes import Sweep
run(Sweep.from_json(sys.argv[2]), sys.argv[1], device="cpu")
"""


def test_two_processes_on_one_sweep_leave_one_run_each(tmp_path, calm):
    root = tmp_path / "runs"
    words = [sys.executable, "-c", TRAIN, str(root), SWEEP.to_json()]
    others = [subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for other in others:
        _, err = other.communicate(timeout=120)
        assert other.returncode == 0, err
    undisturbed(root, calm)


# Clocks that jump


def test_on_this_machine_the_lock_is_the_truth_whatever_the_clocks_say(tmp_path):
    folder = create(tmp_path, BASE)
    for heartbeat in (0.0, -1e9, time.time() + 1e9, 1e300):
        folder.set_status("running", host=os.uname().nodename, heartbeat=heartbeat)
        with Lock.wait(run_lock(tmp_path, BASE.id)):
            row = view.table(tmp_path, [BASE]).iloc[0]
            assert row["state"] == "running" and row["heartbeat_age"] >= 0
        row = view.table(tmp_path, [BASE]).iloc[0]
        assert row["state"] == "failed" and "its process is gone" in row["verdict"]


def test_on_another_machine_an_old_heartbeat_is_a_lost_run_and_a_future_one_is_said(tmp_path):
    folder = create(tmp_path, BASE)
    told = {}
    for ahead in (-3600.0, -5.0, 5.0, 7200.0):
        folder.set_status("running", host="elsewhere", heartbeat=time.time() + ahead)
        row = view.table(tmp_path, [BASE]).iloc[0]
        told[ahead] = row["state"], row["verdict"]
    assert told[-3600.0][0] == "failed" and "lost" in told[-3600.0][1]
    assert told[-5.0] == told[5.0] == ("running", None)
    assert told[7200.0][0] == "running" and "ahead of the clock here" in told[7200.0][1]


def test_training_does_not_mind_a_clock_that_jumps(tmp_path, calm, monkeypatch):
    jumps = itertools.cycle([0.0, -3e8, 3e8, 10.0, -86400.0])
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + next(jumps))
    table = run(SWEEP, tmp_path / "runs", device="cpu", checkpoint_seconds=0.0)
    undisturbed(tmp_path / "runs", calm)
    for id in table.ids:
        seconds = table.curves[id]["seconds"].to_numpy()
        assert (seconds[1:] >= seconds[:-1]).all() and 0 <= seconds[-1] < 600
    assert set(view.table(tmp_path / "runs", SWEEP)["state"]) == {"finished"}


def test_a_run_stopped_before_the_clock_went_back_is_resumed(tmp_path, calm, monkeypatch):
    def stop(fraction: float, note: str) -> None:
        if fraction > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(SWEEP, tmp_path / "runs", device="cpu", tick=stop)
    monkeypatch.setattr(time, "time", lambda: 1e6)  # 1970, as on a machine without a battery
    assert view.table(tmp_path / "runs", SWEEP)["state"].tolist() == ["cancelled"] * 2
    run(SWEEP, tmp_path / "runs", device="cpu")
    undisturbed(tmp_path / "runs", calm)


# Files torn off


def stopped(root: Path) -> Path:
    """The sweep, stopped in the middle, with every kind of file that a run folder can hold."""

    def stop(fraction: float, note: str) -> None:
        if fraction > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(SWEEP, root, device="cpu", tick=stop)
    board = Board(root)
    board.make()
    with board.change():
        pass
    board.add_job(SWEEP)
    (root / BASE.id / "log.txt").write_text("--- from step 0\nlast words\n")
    return root


@pytest.fixture(scope="module")
def half(tmp_path_factory) -> Path:
    return stopped(tmp_path_factory.mktemp("half") / "runs")


TORN = ["metrics.jsonl", "status.json", "spec.json", "log.txt", "checkpoint/state.safetensors"]


@pytest.mark.parametrize("share", [0.0, 0.4, 0.97])
@pytest.mark.parametrize("name", TORN)
def test_a_torn_file_is_told_and_its_run_completes(tmp_path, half, calm, name, share, capsys):
    root = tmp_path / "runs"
    shutil.copytree(half, root)
    file = root / BASE.id / name
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    rows = view.table(root, SWEEP)
    assert rows["id"].tolist() == [probe.id for probe in SWEEP] and as_text(rows, SWEEP)
    assert len(workbench.load(root)) == 2
    said = main(["runs", "verify", str(root), "--json"])
    findings = json.loads(capsys.readouterr().out)["findings"]
    # a file that was cut between two lines, or to nothing, may be whole as far as anyone can tell
    assert said == (1 if findings else 0) and set(findings) <= {BASE.id}
    assert findings or name in ("log.txt", "metrics.jsonl")
    run(SWEEP, root, device="cpu")
    undisturbed(root, calm)


def test_every_cut_of_a_status_is_read_or_told(tmp_path):
    folder = create(tmp_path, BASE)
    folder.set_status("cancelled", checkpoint=7, verdict="cancelled at step 7")
    file = folder.path / "status.json"
    whole = file.read_bytes()
    for cut in range(len(whole) - 2):
        file.write_bytes(whole[:cut])
        with pytest.raises(LoadError):
            _ = folder.status
        (row,) = view.table(tmp_path, [BASE]).to_dict("records")
        assert row["state"] == "failed" and "status.json" in row["verdict"] and "repair" in row["verdict"]


def test_a_torn_board_and_torn_jobs_cost_a_submit_and_nothing_else(tmp_path, half, calm):
    root = tmp_path / "runs"
    shutil.copytree(half, root)
    queue = LocalQueue(root, device="cpu", workers=1, idle=0.1)
    (job,) = (root / ".queue" / "jobs").glob("*.json")
    job.write_bytes(job.read_bytes()[:-20])
    (root / ".queue" / "workers" / "0123456789ab.json").write_text('{"slots": {"dev')
    board = root / ".queue" / "board.json"
    board.write_text('{"schema": 1, "wanted": {"')
    assert queue.jobs() == []
    with pytest.raises(ValueError, match="delete it and submit again"):
        queue.submit(SWEEP)
    board.unlink()
    assert queue.submit(SWEEP).wait(90)
    undisturbed(root, calm)
    assert [found.sweep for found in queue.jobs()] == [SWEEP]
