"""What is no log: told apart in a sentence, quickly, and without harm to the logs beside it."""

from __future__ import annotations

import gzip
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import workbench
from workbench.runs.readers import base
from workbench.runs.readers.base import LoadError, find, peek, readers

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
GB = 2**30


@pytest.fixture(autouse=True)
def within_seconds():
    """Nothing here may wait for a pipe or read gigabytes."""
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it hangs"))
    signal.alarm(60)
    yield
    signal.alarm(0)


@pytest.fixture
def sound(tmp_path):
    (tmp_path / "sound.csv").write_text("run,params,loss\na,1e6,3.5\nb,2e6,3.25\n")
    return tmp_path


def told(runs, fragment):
    """Where a sentence with `fragment` stands: a row's problem, or a message."""
    return [p for p in runs["problem"] if fragment in p] + [m for m in runs.messages if fragment in m]


def sparse(path, size, head=b"", tail=b""):
    with Path(path).open("wb") as file:
        file.write(head)
        file.seek(size - len(tail) - 1)
        file.write(b"\0" + tail)


@pytest.mark.parametrize("name", ["p.csv", "p.jsonl", "p.tfevents.1", "p.safetensors", "p"])
def test_pointers_are_told_and_leave_the_rest(sound, name):
    (sound / name).write_bytes(POINTER)
    runs = workbench.load(sound)
    assert runs.good.ids == ["a", "b"]
    assert len(told(runs, "git lfs pull")) == 1
    with pytest.raises(LoadError, match="git lfs pull"):
        workbench.load(sound / name)


def test_noise_and_empty_files(sound):
    for name in ("x.csv", "x.jsonl", "x.parquet", "x.db", "x.wandb", "checkpoint.pt", "events.out.tfevents.9"):
        (sound / f"noise-{name}").write_bytes(os.urandom(5000))
        (sound / f"empty-{name}").write_bytes(b"")
    runs = workbench.load(sound)
    assert runs.good.ids == ["a", "b"]
    assert all(
        row["problem"].startswith("cannot be read") for row in runs.where("problem != ''").frame.to_dict("records")
    )


def test_links_in_circles_to_nowhere_and_to_folders(sound, tmp_path_factory):
    (sound / "self.csv").symlink_to(sound / "self.csv")
    (sound / "up").symlink_to(sound)
    (sound / "gone.jsonl").symlink_to(sound / "nothing")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "far.csv").write_text("run,loss\nfar,2\n")
    (sound / "elsewhere").symlink_to(elsewhere)
    (sound / "near.csv").symlink_to(elsewhere / "far.csv")
    runs = workbench.load(sound)
    assert sorted(runs.good.where("params == params").ids) == ["a", "b"] and "far" in runs.ids
    (said,) = told(runs, "nowhere or in a circle")
    assert "self.csv" in said and "gone.jsonl" in said
    (said,) = told(runs, "links to folders were not followed")
    assert "elsewhere" in said and "up" in said
    with pytest.raises(FileNotFoundError, match="in a circle"):
        workbench.load(sound / "self.csv")


def test_pipes_are_never_opened(sound):
    names = ["pipe.csv", "pipe", "events.out.tfevents.1", "spec.json", "sweep.json", "run-1.wandb", "mlflow.db",
             "meta.yaml", "trainer_state.json", "metrics.csv", "hparams.yaml", "config.json", "log.txt"]  # fmt: skip
    for name in names:
        os.mkfifo(sound / name)
    runs = workbench.load(sound)
    assert runs.good.ids == ["a", "b"]
    (said,) = told(runs, "were not opened")
    assert said.startswith(f"{len(names)} entries")
    with pytest.raises(LoadError, match="neither a file nor a folder"):
        workbench.load(sound / "pipe.csv")
    assert workbench.load([sound / "sound.csv", sound / "pipe.csv"]).good.ids == ["a", "b"]
    with pytest.raises(LoadError):
        workbench.load("/dev/zero")


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_closed_files_and_folders(sound):
    (sound / "shut.csv").write_text("run,loss\nc,2\n")
    (sound / "shut.data").write_text("run,loss\nc,2\n")
    (sound / "closed").mkdir()
    (sound / "closed" / "d.csv").write_text("run,loss\nd,2\n")
    for name in ("shut.csv", "shut.data", "closed"):
        (sound / name).chmod(0)
    code = (
        "import os, sys\n"
        "import workbench, workbench.runs.load\n"
        "import pandas\n"
        "workbench.load(sys.argv[1] + '/sound.csv')\n"  # whoever this becomes may not import any more
        "if os.getuid() == 0: os.setgid(65534); os.setuid(65534)\n"
        "runs = workbench.load(sys.argv[1], cache=False)\n"
        "print(runs.good.ids); print(list(runs['problem'])); print(runs.messages)\n"
        "for name in ('closed', 'closed/d.csv', 'shut.csv'):\n"
        "    try: workbench.load(sys.argv[1] + '/' + name)\n"
        "    except (ValueError, FileNotFoundError) as error: print(type(error).__name__, error)\n"
    )
    parents = [p for p in sound.parents if p.name.startswith(("pytest-", "popen-"))]  # the latter of pytest-xdist
    modes = {p: p.stat().st_mode for p in parents if p.stat().st_uid == os.getuid()}
    try:
        for p in modes:
            p.chmod(0o755)
        sound.chmod(0o755)
        done = subprocess.run([sys.executable, "-c", code, str(sound)], capture_output=True, text=True, timeout=60)
    finally:
        for p, mode in modes.items():
            p.chmod(mode)
        (sound / "closed").chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("['a', 'b']\n"), done.stdout
    assert done.stdout.count("ermission denied") >= 6, done.stdout


@pytest.mark.parametrize(
    ("name", "head", "tail"),
    [
        ("big.csv", b"run,params,loss\n" + b"a,1e6,3.5\n" * 20_000, b"\n"),
        ("big.jsonl", b'{"step": 1, "loss": 2.5}\n' * 10_000, b"\n"),
        ("big.json", b'[{"run": "a", "loss": 2.5},\n' * 5_000, b"]"),
        ("big.log", b"step 1 loss 2.5\n" * 10_000, b"\n"),
        ("big.bin", b"", b""),
        ("big.parquet", b"PAR1", b"PAR1"),
        ("events.out.tfevents.7", None, b""),
    ],
)
def test_ten_gigabytes_are_refused_quickly_and_in_little_memory(sound, name, head, tail):
    if head is None:
        head = event_file_head()
    sparse(sound / name, 10 * GB, head, tail)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    runs = workbench.load(sound)
    assert [run for run in runs.good.ids if run in ("a", "b")] == ["a", "b"]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024, "KiB"
    if name in ("big.csv", "big.jsonl", "big.json"):
        (said,) = told(runs, "10.7 GB")
        assert "split it" in said and "Parquet" in said


def event_file_head() -> bytes:
    """One sound record without content, as every event file begins."""
    import struct

    import numpy as np

    from workbench.runs.event_file import _masked

    def crc(data: bytes) -> int:
        return int(_masked(np.frombuffer(data, np.uint8)[None])[0])

    data = b"\x09" + struct.pack("<d", 1.7e9) + b"\x1a\x0dbrain.Event:2"
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", crc(length)) + data + struct.pack("<I", crc(data))


def test_what_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "LARGEST", 10**6)
    path = tmp_path / "bomb.csv.gz"
    path.write_bytes(gzip.compress(b"run,loss\n" + b"a,1\n" * 10**6))
    with pytest.raises(LoadError, match="unpacked it is more than"):
        workbench.load(path)


def test_an_aim_repository_says_how_to_export_from_it(sound):
    for part in ("meta/chunks/ab12", "seqs/chunks/ab12", "meta/index"):
        (sound / ".aim" / part).mkdir(parents=True)
    (sound / ".aim" / "run_metadata.sqlite").write_bytes(b"SQLite format 3\0" + bytes(100))
    (sound / ".aim" / "meta" / "chunks" / "ab12" / "CURRENT").write_text("MANIFEST-000001\n")
    runs = workbench.load(sound)
    assert runs.good.ids == ["a", "b"] and len(runs) == 3
    (said,) = told(runs, "Aim repository")
    assert "query_metrics" in said and "JSON Lines" in said
    (bad,) = runs.report().unreadable
    assert bad["path"] == str(sound)
    for path in (sound / ".aim",):
        with pytest.raises(LoadError, match="Aim repository"):
            workbench.load(path)
    (sound / "sound.csv").unlink()
    with pytest.raises(LoadError, match="Aim repository"):
        workbench.load(sound)


def test_what_the_aim_script_writes_is_read(tmp_path):
    lines = []
    for run in ("4ab1", "77fe"):
        for name in ("loss", "accuracy"):
            lines += [{"run": run, "step": s, name: s / 10 + (name == "loss")} for s in range(5)]
    (tmp_path / "aim.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    runs = workbench.load(tmp_path)
    assert runs.ids == ["4ab1", "77fe"] and runs["loss"].tolist() == [1.4, 1.4]
    assert runs.curves["4ab1"]["accuracy"].tolist() == [0.0, 0.1, 0.2, 0.3, 0.4]


def test_no_reader_claims_what_it_cannot_see(tmp_path):
    for content in (b"", POINTER, bytes(1000), b"\xff" * 1000, b"{", b"[", b"\n", b"run"):
        path = tmp_path / "thing"
        path.write_bytes(content)
        for reader in readers():
            if not reader.folders:
                assert isinstance(reader.sniff(path, peek(path)), bool)
    (tmp_path / "empty").mkdir()
    assert find(tmp_path / "empty") is None
