"""Growing logs, against a fresh load of what is complete in them."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import workbench
from workbench.runs.follow import follow
from workbench.runs.store import RunFolder

SETTINGS = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def alike(a, b):
    """Two tables with the same rows, curves, notes and messages."""
    pd.testing.assert_frame_equal(a.frame, b.frame)
    assert (a.units, a.notes, a.messages, a.sources, a.origin) == (b.units, b.notes, b.messages, b.sources, b.origin)
    assert list(a.curves) == list(b.curves)
    for run in a.curves:
        pd.testing.assert_frame_equal(a.curves[run], b.curves[run])


def line(step, **more):
    record = {"step": step, "tokens": 512 * step, "loss": 9.0 / step, **more}
    return json.dumps(record, ensure_ascii=False) + "\n"


def csv_line(step):
    return f'{step},{512 * step},{9.0 / step},"a, ""quoted"" word"\n'


def lines_of(kind, n, odd=()):
    texts = [] if kind == "jsonl" else ["step,tokens,loss,remark\n"]
    for step in range(1, n + 1):
        text = line(step, remark="naïve — 4") if kind == "jsonl" else csv_line(step)
        texts.append(odd[step % len(odd)] if odd and step % 7 == 0 else text)
    return "".join(texts).encode()


@SETTINGS
@given(
    kind=st.sampled_from(["jsonl", "csv"]),
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(3, 60),
    looks=st.integers(1, 9),
)
def test_random_chunks_equal_a_fresh_load_at_every_look(tmp_path, kind, seed, n, looks):
    rng = np.random.default_rng(seed)
    path = tmp_path / f"log.{kind}"
    odd = ["not json\n", "[1]\n", "\n"] if kind == "jsonl" else ["# remark\n", "\n"]
    data = lines_of(kind, n, odd if seed % 2 else ())
    path.write_bytes(b"")
    follower = follow(path)
    assert follower.poll() is None
    cuts = np.sort(rng.integers(0, len(data) + 1, size=looks))
    complete = tmp_path / "complete" / path.name
    complete.parent.mkdir(exist_ok=True)
    seen = 0
    for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True):
        with path.open("ab") as file:
            file.write(data[start:stop])
        table = follower.poll()
        whole = data[:stop].rfind(b"\n") + 1
        if whole == seen:
            assert table is None
            continue
        seen = whole
        complete.write_bytes(data[:whole])
        fresh = workbench.load(complete)
        pd.testing.assert_frame_equal(table.frame, fresh.frame)
        assert table.messages == tuple(m.replace(str(complete), str(path)) for m in fresh.messages)
    alike(follower.table, workbench.load(path))
    assert follower.poll() is None


@SETTINGS
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(3, 40), looks=st.integers(1, 9))
def test_a_text_log_with_a_pattern_equals_a_fresh_load(tmp_path, seed, n, looks):
    pattern = "after {step} steps: {loss}"
    data = "".join(f"after {i} steps: {9 / i:.4f}\n" + "saved\n" * (i % 5 == 0) for i in range(1, n + 1)).encode()
    path, complete = tmp_path / "own.log", tmp_path / "complete" / "own.log"
    complete.parent.mkdir(exist_ok=True)
    path.write_bytes(b"")
    follower = follow(path, pattern=pattern)
    for stop in [*np.sort(np.random.default_rng(seed).integers(0, len(data) + 1, size=looks)), len(data)]:
        path.write_bytes(data[:stop])
        follower.poll()
        whole = data[:stop].rfind(b"\n") + 1
        if whole:
            complete.write_bytes(data[:whole])
            fresh = workbench.load(complete, pattern=pattern)
            pd.testing.assert_frame_equal(follower.table.frame, fresh.frame)
    alike(follower.table, workbench.load(path, pattern=pattern))


def test_thousands_of_appends_read_each_byte_about_once(tmp_path):
    rng = np.random.default_rng(0)
    paths = [tmp_path / name for name in ("a.jsonl", "b.csv", "c.jsonl")]
    logs = [lines_of(path.suffix[1:], 1500) for path in paths]
    places = [0, 0, 0]
    for path in paths:
        path.touch()
    follower = follow(tmp_path)
    appends = 0
    while any(place < len(data) for place, data in zip(places, logs, strict=True)):
        one = int(rng.integers(3))
        size = int(rng.integers(1, 150))
        with paths[one].open("ab") as file:
            file.write(logs[one][places[one] : places[one] + size])
        places[one] += size
        appends += 1
        if appends % 100 == 0:
            follower.poll()
    assert appends > 2000
    follower.poll()
    alike(follower.table, workbench.load(tmp_path))
    assert len(follower.table.curves["a"]) == 1500


def test_only_new_bytes_are_parsed(tmp_path, monkeypatch):
    path = tmp_path / "log.jsonl"
    path.write_bytes(lines_of("jsonl", 2000))  # beyond the first bytes, in which the format shows
    assert path.stat().st_size > 65536
    follower = follow(path)
    follower.poll()
    parsed = []
    from workbench.runs import follow as module

    monkeypatch.setattr(module, "parse_lines", lambda text, real=module.parse_lines: parsed.append(text) or real(text))
    with path.open("a") as file:
        file.write(line(2001))
    assert len(follower.poll().curves["log"]) == 2001
    assert parsed == [line(2001)]


WRITER = """\
import sys, time
from pathlib import Path
with Path(sys.argv[1]).open("ab", buffering=0) as file:
    file.write(b'{"step": 1, "loss": 3.0}\\n{"step": 2, "loss": 2.5}\\n{"step": 3, "loss": 2.4}\\n{"step": 4, "lo')
    print("torn", flush=True)
    time.sleep(60)
"""


def test_a_writer_killed_in_the_middle_of_a_line_and_its_successor(tmp_path):
    path = tmp_path / "log.jsonl"
    path.touch()
    follower = follow(path)
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "torn\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    table = follower.poll()
    assert table.curves["log"]["loss"].tolist() == [3.0, 2.5, 2.4]
    assert table.messages == (), "a line that is not finished is not yet skipped"
    with path.open("ab") as file:  # a successor ends the torn line and goes on
        file.write(b'\n{"step": 4, "loss": 2.25}\n')
    table = follower.poll()
    assert table.curves["log"]["loss"].tolist() == [3.0, 2.5, 2.4, 2.25]
    assert "line 4: not JSON" in table.messages[0]
    alike(table, workbench.load(path))


def test_a_torn_line_waits_for_its_rest(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("step,loss\n1,3\n2,2.5\n3,2.2")
    follower = follow(path)
    assert follower.poll()["loss"].tolist() == [3, 2.5], "two rows are not yet a curve"
    with path.open("a") as file:
        file.write("5")
    assert follower.poll() is None
    with path.open("a") as file:
        file.write("\n")
    table = follower.poll()
    assert table.curves["log"]["loss"].tolist() == [3, 2.5, 2.25]
    assert table["loss"].tolist() == [2.25]


def replaced(path, data):
    other = path.with_suffix(".new")
    other.write_bytes(data)
    other.replace(path)


def rewritten(path, data):
    path.write_bytes(data)  # the same file, another content


@pytest.mark.parametrize("how", [replaced, rewritten])
@pytest.mark.parametrize("new", ["shorter", "as long", "longer", "empty first"])
@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_another_content_is_read_anew(tmp_path, how, new, kind):
    path = tmp_path / f"log.{kind}"
    path.write_bytes(lines_of(kind, 20))
    follower = follow(path)
    follower.poll()
    if new == "empty first":
        how(path, b"")
        assert follower.poll() is None
    n = {"shorter": 5, "as long": 20, "longer": 33, "empty first": 20}[new]
    data = lines_of(kind, n).replace(b"9.0", b"8.0").replace(b"0.45", b"0.46")
    how(path, data)
    table = follower.poll()
    alike(table, workbench.load(path))
    assert len(table.curves["log"]) == n


def test_truncated_to_nothing_and_written_again_from_the_start(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(lines_of("jsonl", 20))
    follower = follow(path)
    assert len(follower.poll().curves["log"]) == 20
    os.truncate(path, 0)
    assert follower.poll() is None
    path.write_text(line(1) + line(2) + line(3))
    assert follower.poll().curves["log"]["step"].tolist() == [1, 2, 3]


def test_files_that_appear_and_go(tmp_path):
    (tmp_path / "a.jsonl").write_text(line(1) + line(2) + line(3))
    follower = follow(tmp_path)
    assert follower.poll().ids == ["a"]
    (tmp_path / "b.csv").write_text("step,loss\n")
    (tmp_path / "b.csv").write_text("step,loss\n1,4\n2,3\n3,2\n")
    alike(follower.poll(), workbench.load(tmp_path))
    assert follower.table.ids == ["a", "b"]
    (tmp_path / "a.jsonl").unlink()
    assert follower.poll().ids == ["b"]
    assert follower.poll() is None


def test_an_unreadable_file_among_others_is_a_marked_row_and_one_not_begun_is_waited_for(tmp_path):
    (tmp_path / "a.jsonl").write_text(line(1) + line(2) + line(3))
    (tmp_path / "bad.jsonl").write_text("no object\nanywhere\n")
    (tmp_path / "later.jsonl").write_text('{"st')
    table = follow(tmp_path).poll()
    assert table.ids == ["a", "bad"]
    assert table["problem"].tolist()[1].startswith("cannot be read")


def test_run_folders_are_followed_as_a_whole(tmp_path):
    with RunFolder.create(tmp_path, "one", {"params": 1000, "lr": 0.1}) as folder:
        RunFolder.create(tmp_path, "two", {"params": 2000, "lr": 0.1}).set_status("failed")
        folder.set_status("running")
        follower = follow(tmp_path)
        follower.poll()
        for step in (1, 2, 3):
            folder.append({"step": step, "loss": 3.0 / step})
        folder.sync()
        table = follower.poll()
        assert table.curves["one"]["loss"].tolist() == [3.0, 1.5, 1.0]
        folder.set_status("finished")
        assert follower.poll().good.ids == ["one"]
    alike(follower.table, workbench.load(tmp_path))


def test_a_document_without_a_last_newline_is_read(tmp_path):
    path = tmp_path / "runs.json"
    path.write_text('[\n{"params": 1, "loss": 2},\n{"params": 2, "loss": 1.5}')
    follower = follow(path)
    assert follower.poll() is None
    path.write_text('[\n{"params": 1, "loss": 2},\n{"params": 2, "loss": 1.5}]')
    alike(follower.poll(), workbench.load(path))


def test_a_table_is_followed_to_its_files_and_keeps_statements(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(line(1) + line(2) + line(3))
    runs = workbench.load(path)
    runs.state(data="web")
    follower = runs.follow()
    with path.open("a") as file:
        file.write(line(4))
    table = follower.poll()
    assert len(table.curves["log"]) == 4
    assert table.attributes["data"] == "web"
    alike(table, workbench.load(path))


def test_columns_are_taken_as_load_takes_them(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(line(1) + line(2) + line(3))
    follower = follow(path, {"quality": "accuracy"})
    assert "quality" not in follower.poll()
    with path.open("a") as file:
        file.write(line(4, accuracy=0.5))
    assert follower.poll()["quality"].tolist() == [0.5]


def test_what_cannot_be_followed_is_said(tmp_path):
    with pytest.raises(FileNotFoundError):
        follow(tmp_path / "none.jsonl")
    with pytest.raises(ValueError, match="not loaded from files"):
        follow(workbench.load(pd.DataFrame({"params": [1.0], "loss": [2.0]})))
