"""What disks do to run folders, full ones and those that may only be read: nothing is lost, nothing is invented.

As in `test_durability`, the same sweep is asked for again, and its table is that of a sweep which nothing disturbed.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import workbench
from tests.runs.undisturbed import BASE, SWEEP, undisturbed
from workbench.cli import main
from workbench.launch import view
from workbench.launch.board import run_lock
from workbench.launch.local import LocalQueue
from workbench.launch.locks import held
from workbench.launch.stack import Run, create
from workbench.launch.worker import run
from workbench.probes.checkpoint import Checkpoint
from workbench.runs.store import RunFolder

pytestmark = pytest.mark.usefixtures("runtime")


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
