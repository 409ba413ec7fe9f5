"""What disks, clocks and other processes do to run folders: nothing acknowledged is lost, nothing is invented.

Every test ends as a user's story does: the same sweep is asked for again, and its table is that of a sweep which
nothing ever disturbed.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import workbench
from workbench.cli import main
from workbench.launch import view
from workbench.launch.board import Board, run_lock
from workbench.launch.local import LocalQueue
from workbench.launch.locks import Lock, held
from workbench.launch.stack import Run, create
from workbench.launch.told import as_text
from workbench.launch.worker import run
from workbench.probes import Probe, Sweep
from workbench.probes.checkpoint import Checkpoint
from workbench.runs.readers.base import LoadError
from workbench.runs.store import RunFolder

ROOT = Path(__file__).parents[2]
BASE = Probe(vocab=32, width=4, context=16, batch_tokens=64, tokens=64 * 40, lr=1e-2, evals=5)
SWEEP = Sweep.grid(BASE, seed=range(2))


@pytest.fixture(autouse=True)
def runtime(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("WORKBENCH_RUNTIME", str(tmp_path_factory.mktemp("runtime")))


@pytest.fixture(scope="module")
def calm(tmp_path_factory) -> Path:
    """The sweep as it is trained where nothing disturbs it."""
    root = tmp_path_factory.mktemp("calm") / "runs"
    run(SWEEP, root, device="cpu")
    return root


def records(root: Path, probe: Probe) -> list[dict]:
    """The file's own lines but for clocks, not the library's reading of them; a torn one fails."""
    lines = (root / probe.id / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines[1:]]


def undisturbed(root: Path, calm: Path, sweep: Sweep = SWEEP) -> None:
    for probe in sweep:
        assert json.loads((root / probe.id / "status.json").read_text())["state"] == "finished"
        assert records(root, probe) == records(calm, probe)
        assert RunFolder(root / probe.id).verify() == []


def left_behind(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.name.endswith(".tmp")]


# A full disk


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """A file system of this size; only root may mount one."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k,nr_inodes=400", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no file system may be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def fill(disk: Path, leave: int = 0) -> Path:
    """A file that takes all room but `leave` pages."""
    ballast, page = disk / "ballast", os.sysconf("SC_PAGESIZE")
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(page))
        except OSError:
            pass
        file.truncate(max(0, file.tell() - leave * page))
    return ballast


def test_a_full_disk_loses_no_acknowledged_record(tmp_path):
    with small_disk(tmp_path / "disk", 256) as disk:
        ballast = fill(disk, leave=16)
        folder = RunFolder.create(disk, "r", {"width": 1})
        acknowledged = []
        with pytest.raises(OSError):
            for step in itertools.count():
                folder.append({"step": step, "loss": 1.0 / (step + 1), "pad": "x" * 333})
                acknowledged.append(step)
        for _ in range(3):  # the disk stays full for a while
            with pytest.raises(OSError):
                folder.append({"step": -1, "loss": 0.0, "pad": "x" * 4096})
        frame, skipped = RunFolder.open(folder.path).metrics()
        assert frame["step"].tolist() == acknowledged and len(acknowledged) > 20 and len(skipped) <= 1
        before = folder.status
        with pytest.raises(OSError):
            folder.set_status("running", note="x" * 4096)
        assert folder.status == before and not left_behind(disk)
        ballast.unlink()
        with folder:
            folder.append({"step": len(acknowledged), "loss": 0.5})
        frame, skipped = RunFolder.open(folder.path).metrics()
        assert frame["step"].tolist() == [*acknowledged, len(acknowledged)] and len(skipped) <= 1


def test_a_checkpoint_that_does_not_fit_leaves_the_one_before(tmp_path):
    import torch

    with small_disk(tmp_path / "disk", 256) as disk:
        old = Checkpoint(3, ({"step": 3, "loss": 1.5},), {"w": torch.arange(1000.0)}, {"id": "r"})
        old.write(disk / "checkpoint")
        with pytest.raises(OSError):
            Checkpoint(9, (), {"w": torch.zeros(100_000)}, {}).write(disk / "checkpoint")
        found = Checkpoint.read(disk / "checkpoint")
        assert found.step == 3 and torch.equal(found.tensors["w"], old.tensors["w"]) and not left_behind(disk)


@pytest.mark.parametrize("pages", range(0, 12, 2))
def test_a_sweep_on_a_full_disk_is_completed_when_there_is_room(tmp_path, calm, pages):
    """Room for the first files only, for all but the last: the end comes at another place each time."""
    with small_disk(tmp_path / "disk", 512) as disk:
        ballast = fill(disk, leave=pages)
        with pytest.raises(OSError):
            run(SWEEP, disk / "runs", device="cpu", checkpoint_seconds=0.0)
        rows = view.table(disk / "runs", SWEEP)
        assert set(rows["state"]) <= {"created", "failed", "finished"} and len(rows) == 2
        ballast.unlink()
        run(SWEEP, disk / "runs", device="cpu")
        undisturbed(disk / "runs", calm)
        assert not left_behind(disk / "runs")


def test_a_sweep_that_could_not_be_written_keeps_no_lock(tmp_path, monkeypatch):
    """A notebook holds the last exception: the same cell, run again, must not wait for itself for ever."""

    def full(self, *_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Run, "resume", full)
    with pytest.raises(OSError) as caught:
        run(SWEEP, tmp_path, device="cpu")
    assert caught.value.errno == 28 and not any(held(run_lock(tmp_path, probe.id)) for probe in SWEEP)


def test_a_queue_on_a_full_disk_says_so_and_works_when_there_is_room(tmp_path, calm):
    with small_disk(tmp_path / "disk", 512) as disk:
        queue = LocalQueue(disk / "runs", device="cpu", workers=1, idle=0.1)
        ballast = fill(disk, leave=1)
        with pytest.raises(OSError, match="No space left"):
            queue.submit(SWEEP)
        ballast.unlink()
        job = queue.submit(SWEEP)
        assert job.wait(90)
        undisturbed(disk / "runs", calm)
        end = time.monotonic() + 20
        while queue._board.workers() and time.monotonic() < end:  # else the disk is busy
            time.sleep(0.05)


# A folder that may only be read


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """The folder on a file system that is mounted for reading; permissions do not hold root back."""
    if os.geteuid() == 0:
        for options in (["--bind", str(folder), str(folder)], ["-o", "remount,bind,ro", str(folder)]):
            done = subprocess.run(["mount", *options], capture_output=True, text=True)
            if done.returncode:
                subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True)
                pytest.skip(f"no file system may be mounted here: {done.stderr.strip()}")
        try:
            yield
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=False)
        return
    modes = {path: path.stat().st_mode for path in (folder, *folder.rglob("*"))}
    for path in modes:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


def test_what_may_only_be_read_is_read_and_refused_for_writing_in_a_sentence(tmp_path, calm, capsys):
    root = tmp_path / "runs"
    shutil.copytree(calm, root)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    new = BASE.replace(seed=5)
    (tmp_path / "new.json").write_text(new.to_json())
    with read_only(root):
        assert workbench.load(root)["loss"].notna().all()
        assert view.table(root, SWEEP)["state"].tolist() == ["finished"] * 2
        assert len(run(SWEEP, root, device="cpu").good) == 2, "nothing is left to train, so nothing is written"
        for action in ("ls", "show", "verify"):
            assert main(["runs", action, str(root)]) == 0
        for refused in (
            lambda: run(new, root, device="cpu"),
            lambda: LocalQueue(root, device="cpu").submit(new),
            lambda: RunFolder.open(root / BASE.id).append({"step": 99}),
            lambda: RunFolder.open(root / BASE.id).set_status("running"),
        ):
            with pytest.raises(OSError):
                refused()
        capsys.readouterr()
        assert main(["probe", str(tmp_path / "new.json"), "--root", str(root), "--device", "cpu"]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("workbench: cannot use") and err.count("\n") == 1
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_a_run_in_a_read_only_folder_is_judged_by_its_heartbeat(tmp_path):
    folder = create(tmp_path / "runs", BASE)
    (folder.path / ".lock").touch()
    for age, state in ((1.0, "running"), (3600.0, "failed")):
        folder.set_status("running", host="elsewhere", heartbeat=time.time() - age)
        with read_only(tmp_path / "runs"):
            assert view.table(tmp_path / "runs", [BASE])["state"].tolist() == [state]


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
