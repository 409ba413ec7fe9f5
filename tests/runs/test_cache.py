"""The cache of slow loads: the same table as without it, never stale, never trusted when damaged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import workbench
from workbench.runs import cache
from workbench.runs.packed import Packer, Unpacker, Unsuitable
from workbench.runs.readers.json_lines import JsonLines
from workbench.runs.store import RunFolder

LONG_AGO = 1_600_000_000


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A cache of its own that keeps every load, however quick."""
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "SLOW", 0.0)
    return tmp_path / "cache"


def age(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (LONG_AGO, LONG_AGO))


def line_log(path: Path, stream: int, n: int = 30, **more) -> None:
    rng = np.random.default_rng(stream)
    lines = [{"step": s, "loss": 4 - s / n + float(rng.normal()) / 100, **more} for s in range(n)]
    lines[n // 2]["val_loss"] = float("nan")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def logs(tmp_path):
    """Logs of many kinds in one folder."""
    folder = tmp_path / "logs"
    for i in range(3):
        line_log(folder / f"lines{i}.jsonl", i, n_params=1e6 * (i + 1), name=f"é<{i}>", flag=bool(i))
    (folder / "table.csv").write_text(
        "run,Model Size (M),tokens,loss,kind\na,10,2e9,3.5,x\nb,,4e9,3.25,\nc,1,2,3,4,5\n"
    )
    run = {
        "config": {"n_params": 5e6, "betas": [0.9, 0.95]},
        "history": {"iter": [1, 2, 3], "val_loss": [5.0, 4.0, None]},
    }
    (folder / "run.json").write_text(json.dumps(run))
    for i in range(2):
        with RunFolder.create(folder / "probes", f"p{i}", {"params": 1e6 * (i + 1), "model": {"depth": 2}}) as probe:
            for step in range(4):
                probe.append({"step": step, "loss": 3.0 - step / 10, "note": None})
            probe.set_status("finished" if i else "running", heartbeat=0)
    (folder / "torn.json").write_text('{"loss": [1')
    (folder / "README").write_text("words\n")
    age(folder)
    return folder


def same(a, b) -> None:
    pd.testing.assert_frame_equal(a.frame, b.frame, check_exact=True)
    assert (a.units, a.notes, a.attributes, a.sources, a.origin) == (
        b.units,
        b.notes,
        b.attributes,
        b.sources,
        b.origin,
    )
    assert sorted(a.messages) == sorted(b.messages)
    assert list(a.curves) == list(b.curves)
    for run in a.curves:
        pd.testing.assert_frame_equal(a.curves[run], b.curves[run], check_exact=True)
    left, right = a.report(), b.report()
    pd.testing.assert_frame_equal(left.frame.drop(columns="cached"), right.frame.drop(columns="cached"))
    pd.testing.assert_frame_equal(left.names, right.names)
    assert left.derived == right.derived


def cached(runs) -> list[str]:
    frame = runs.report().frame
    return sorted(Path(p).name for p in frame["source"][frame["cached"]])


def test_the_second_load_is_the_first_from_the_cache(kept, logs):
    plain = workbench.load(logs, cache=False)
    assert not kept.exists()
    first, second = workbench.load(logs), workbench.load(logs)
    assert cached(first) == [] and len(list(kept.glob("*.arrow"))) == 1
    assert cached(second) == ["lines0.jsonl", "lines1.jsonl", "lines2.jsonl", "p0", "p1", "run.json", "table.csv"]
    same(plain, first)
    same(plain, second)
    assert "from the cache" in str(second.report()) and "from the cache" not in str(first.report())
    assert "torn" in second.ids  # what cannot be read is tried again each time


def test_event_files_are_kept_with_all_files_of_a_run(kept, tmp_path):
    writers = pytest.importorskip("torch.utils.tensorboard", reason="tensorboard is not installed")
    folder = tmp_path / "events"
    for run in ("a", "b", "a/nested"):
        with writers.SummaryWriter(str(folder / run)) as writer:
            for step in range(20):
                writer.add_scalar("loss", 3 - step / 7 + len(run), step)
                if step % 5 == 0:
                    writer.add_scalar("acc", step / 9, step)
    age(folder)
    plain = workbench.load(folder, cache=False)
    workbench.load(folder)
    again = workbench.load(folder)
    same(plain, again)
    assert len(cached(again)) == 3
    with writers.SummaryWriter(str(folder / "b")) as writer:  # a restart: another file in the folder of the run
        writer.add_scalar("loss", 0.5, 20)
    after = workbench.load(folder)
    assert len(after.curves["b"]) == 21 and after.curves["b"]["loss"].iloc[-1] == 0.5
    assert cached(after) == ["a", "nested"]


@pytest.mark.parametrize("keep_time", [False, True])
def test_a_changed_log_is_read_again_and_only_that(kept, logs, keep_time):
    workbench.load(logs)
    path = logs / "lines1.jsonl"
    before = path.stat()
    path.write_text(path.read_text().replace('"step": 29, "loss": ', '"step": 29, "loss": 7'))  # no more and no less
    text = path.read_text()
    path.write_text(text[: before.st_size - 1] + "\n" if len(text) != before.st_size else text)
    if keep_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    again = workbench.load(logs)
    same(workbench.load(logs, cache=False), again)
    assert "lines1.jsonl" not in cached(again) and "lines0.jsonl" in cached(again)


def test_logs_that_come_and_go(kept, logs):
    workbench.load(logs)
    line_log(logs / "new.jsonl", 9)
    (logs / "lines2.jsonl").unlink()
    runs = workbench.load(logs)
    assert "new" in runs.ids and "lines2" not in runs.ids
    same(workbench.load(logs, cache=False), runs)


def test_another_reader_version_schema_or_program_is_not_trusted(kept, logs, monkeypatch):
    workbench.load(logs)
    with monkeypatch.context() as patch:
        patch.setattr(JsonLines, "version", JsonLines.version + 1)
        assert not any("jsonl" in name for name in cached(workbench.load(logs)))
    with monkeypatch.context() as patch:
        patch.setattr(cache, "SCHEMA", 99)
        assert cached(workbench.load(logs)) == []
    with monkeypatch.context() as patch:
        patch.setattr(cache, "_program", lambda: "another")
        assert cached(workbench.load(logs)) == []


def test_decisions_of_the_user_are_not_passed_over(kept, logs):
    line_log(logs / "odd.jsonl", 5, D=7, size_of_it=3)
    age(logs)
    workbench.load(logs)
    for columns in ({"params": "size_of_it"}, {"x": ("D", 2.0)}):
        same(workbench.load(logs, columns, cache=False), workbench.load(logs, columns))
        workbench.load(logs, columns)
    same(workbench.load(logs, cache=False), workbench.load(logs))


def test_a_log_alone_and_in_a_list(kept, logs):
    for source in (logs / "lines0.jsonl", [logs / "lines0.jsonl", logs / "run.json"], str(logs / "lines*.jsonl")):
        plain = workbench.load(source, cache=False)
        workbench.load(source)
        again = workbench.load(source)
        same(plain, again)
        assert "lines0.jsonl" in cached(again)


def test_a_log_written_a_moment_ago_is_not_kept(kept, logs):
    line_log(logs / "now.jsonl", 3)
    workbench.load(logs)
    assert "now.jsonl" not in cached(workbench.load(logs))


def test_damage_anywhere_is_noticed_and_the_logs_are_read(kept, logs):
    plain = workbench.load(logs)
    (path,) = kept.glob("*.arrow")
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    places = [0, 1, len(whole) // 2, len(whole) - 1, *rng.integers(0, len(whole), 25).tolist()]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(damaged))
        again = workbench.load(logs)
        assert cached(again) == [] and any("is damaged and was not used" in m for m in again.messages), place
        pd.testing.assert_frame_equal(plain.frame, again.frame)
    for size in (0, 1, 20, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert cached(workbench.load(logs)) == []
    assert cached(workbench.load(logs)) != []  # written anew each time


def test_switched_off_small_and_unwritable(tmp_path, logs, monkeypatch):
    for value in ("off", "0", "no"):
        monkeypatch.setenv("WORKBENCH_CACHE", value)
        assert cache.folder() is None
    monkeypatch.delenv("WORKBENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.folder() == tmp_path / "xdg" / "scaling-workbench"
    monkeypatch.setattr(cache, "SLOW", 60.0)
    workbench.load(logs)
    assert not (tmp_path / "xdg").exists()  # a quick load leaves no trace
    monkeypatch.setattr(cache, "SLOW", 0.0)
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "file"))
    assert len(workbench.load(logs)) == len(workbench.load(logs, cache=False))


def test_the_folder_stays_below_its_limit_oldest_first(kept, tmp_path, monkeypatch):
    for i in range(4):
        line_log(tmp_path / f"set{i}" / "a.jsonl", i, n=200)
        age(tmp_path / f"set{i}")
        workbench.load(tmp_path / f"set{i}")
        newest = max(kept.glob("*.arrow"), key=lambda p: p.stat().st_mtime_ns)
        os.utime(newest, (LONG_AGO + i, LONG_AGO + i))
    one = newest.stat().st_size
    assert cached(workbench.load(tmp_path / "set0")) == ["a.jsonl"]  # used: it is the youngest now
    monkeypatch.setattr(cache, "LIMIT", 4 * one + one // 2)
    (kept / ".dead.tmp").write_bytes(b"x")
    os.utime(kept / ".dead.tmp", (LONG_AGO, LONG_AGO))
    line_log(tmp_path / "set9" / "a.jsonl", 9, n=200)
    age(tmp_path / "set9")
    workbench.load(tmp_path / "set9")
    assert len(list(kept.glob("*.arrow"))) == 4 and not (kept / ".dead.tmp").exists()
    assert [bool(cached(workbench.load(tmp_path / f"set{i}"))) for i in (0, 9, 1)] == [True, True, False]


def test_two_programs_at_once(kept, logs):
    code = (
        "import sys, workbench\nfrom workbench.runs import cache\ncache.SLOW = 0.0\n"
        "for _ in range(6):\n"
        "    runs = workbench.load(sys.argv[1])\n"
        "    assert len(runs) == 9 and not any('damaged' in m for m in runs.messages), runs.messages\n"
        "    for path in cache.folder().glob('*.arrow'): path.unlink(missing_ok=True)\n"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, str(logs)], stderr=subprocess.PIPE) for _ in range(2)]
    for one in both:
        assert one.wait(120) == 0, one.stderr.read()
    assert not list(kept.glob("*.tmp"))


def test_frames_survive_packing_to_the_type_of_each_cell():
    frames = [
        pd.DataFrame({"a": [1.5, np.nan, -0.0] * 4, "b": np.arange(12), "f": [True, False, True] * 4}),
        pd.DataFrame({"c": np.array([1.0, None, np.nan] * 4, dtype=object), "d": ["x"] * 12}),
        pd.DataFrame({"e": np.array([1, 2.5, "s", None, True, 2**60, np.inf] * 2, dtype=object)}),
        pd.DataFrame({"run": ["a"], "x": [None], "y": np.array([3], dtype=object), "z": [np.nan]}),
        pd.DataFrame({"s": pd.Series(["a", None] * 5, dtype="str"), "w": np.float32([0.1] * 10), "i": [2**61] * 10}),
        pd.DataFrame(),
    ]
    packer = Packer()
    where = [packer.add(frame) for frame in frames]
    unpacker = Unpacker(packer.table({"where": where}))
    for frame, place in zip(frames, unpacker.about["where"], strict=True):
        again = unpacker.frame(place)
        pd.testing.assert_frame_equal(frame, again, check_exact=True)
        for header in frame:
            assert [type(c) for c in frame[header].tolist()] == [type(c) for c in again[header].tolist()]
    for odd in ([pd.Timestamp("2024-01-01")], [[1]], [1j], [object()], ["a"] * 9 + [b"b"]):
        with pytest.raises(Unsuitable):
            packer.add(pd.DataFrame({"x": np.array([*odd, None], dtype=object)[:-1]}))
