"""Run folders: idempotent, strict JSON, nothing acknowledged is lost when the writer is killed."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.runs.load import LoadError, load
from workbench.runs.store import STATES, RunFolder
from workbench.runs.strict_json import dumps, flatten, loads

ROOT = Path(__file__).parents[2]

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**15), 10**15) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def same(a, b):
    """Equality in which NaN equals NaN."""
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (math.isnan(a) and math.isnan(b))
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@given(values)
@settings(max_examples=150, deadline=None)
def test_strict_json_round_trip(value):
    def refuse(constant):
        raise AssertionError(f"{constant} is not strict JSON")

    text = dumps(value)
    json.loads(text, parse_constant=refuse)
    assert "\n" not in text
    assert same(loads(text), value)


def test_flatten():
    assert flatten({"a": {"b": 1, "c": {"d": [2]}}, "e": {}}) == {"a.b": 1, "a.c.d": [2], "e": {}}


def test_create_is_idempotent_and_guards_its_spec(tmp_path):
    first = RunFolder.create(tmp_path, "r1", {"lr": 0.1, "width": 8})
    again = RunFolder.create(tmp_path, "r1", {"width": 8, "lr": 0.1})
    assert again.path == first.path and again.spec == {"schema": 1, "lr": 0.1, "width": 8}
    with pytest.raises(ValueError, match="another spec"):
        RunFolder.create(tmp_path, "r1", {"lr": 0.2, "width": 8})
    assert again.spec["lr"] == 0.1
    assert sorted(p.name for p in first.path.iterdir()) == ["spec.json", "status.json"]


@pytest.mark.parametrize("bad", ["", "../up", "a/b", ".hidden", "a\x00b", "x" * 300, None, 3])
def test_ids_that_cannot_name_a_folder(tmp_path, bad):
    with pytest.raises(ValueError, match="names a folder"):
        RunFolder.create(tmp_path, bad, {})
    assert not list(tmp_path.iterdir())


def test_records_come_back_as_written(tmp_path):
    folder = RunFolder.create(tmp_path, "r", {})
    with folder:
        folder.append({"step": 1, "loss": 0.1 + 0.2, "note": "a\nb\u2028c"})
        folder.append({"step": 2, "loss": float("nan"), "grad": {"norm": float("inf")}})
    text = (folder.path / "metrics.jsonl").read_text()
    assert json.loads(text.split("\n")[0]) == {"schema": 1, "kind": "metrics"}
    frame, skipped = RunFolder.open(folder.path).metrics()
    assert skipped == [] and folder.verify() == []
    assert frame["loss"][0] == 0.1 + 0.2 and math.isnan(frame["loss"][1])
    assert frame["note"].tolist() == ["a\nb\u2028c", None]
    assert frame["grad.norm"].tolist() == [None, math.inf]


def test_appending_repairs_a_torn_line_and_readers_report_it(tmp_path):
    folder = RunFolder.create(tmp_path, "r", {})
    with folder:
        folder.append({"step": 1, "loss": 3.0})
    file = folder.path / "metrics.jsonl"
    file.write_bytes(file.read_bytes() + b'{"step": 2, "lo')
    assert folder.metrics()[1] == [(3, "cut off")]
    with RunFolder.open(folder.path) as writer:
        writer.append({"step": 3, "loss": 2.0})
    frame, skipped = folder.metrics()
    assert frame["step"].tolist() == [1, 3] and skipped == [(3, "not JSON")]
    assert folder.verify() == ["metrics.jsonl line 3: not JSON"]


def test_status_is_replaced_whole_and_checked(tmp_path):
    folder = RunFolder.create(tmp_path, "r", {})
    assert folder.status["state"] == "created"
    before = time.time()
    folder.set_status("running", step=4, host="here")
    assert folder.status["step"] == 4 and before <= folder.status["heartbeat"] <= time.time()
    with pytest.raises(ValueError, match="did you mean 'finished'"):
        folder.set_status("finish")
    assert folder.status["state"] == "running"
    assert not [p for p in folder.path.iterdir() if p.name.endswith(".tmp")]


def test_bad_input_is_refused_in_a_sentence(tmp_path):
    folder = RunFolder.create(tmp_path, "r", {})
    with pytest.raises(TypeError, match="a record is a mapping"):
        folder.append([1, 2])
    with pytest.raises(TypeError, match="cannot write a set"):
        folder.append({"a": {1, 2}})
    with pytest.raises(TypeError, match="a spec is a mapping"):
        RunFolder.create(tmp_path, "s", ["width"])
    with pytest.raises(FileNotFoundError, match=r"no spec\.json"):
        RunFolder.open(tmp_path)
    (folder.path / "metrics.jsonl").write_text('{"schema": 2, "kind": "metrics"}\n')
    with pytest.raises(LoadError, match="schema 2"):
        folder.metrics()


@pytest.mark.parametrize("state", STATES)
def test_only_finished_runs_are_sound(tmp_path, state):
    with RunFolder.create(tmp_path, "r", {"params": 10, "tokens": 20}) as folder:
        folder.append({"step": 1, "loss": 3.0})
        folder.set_status(state)
    table = load(tmp_path)
    assert len(table.good) == (state == "finished")
    assert state == "finished" or state in table["problem"][0]


def test_spec_metrics_and_status_become_one_row(tmp_path):
    spec = {"params": 1000, "tokens": 9e9, "lr": 0.1, "model": {"d_model": 16}}
    with RunFolder.create(tmp_path, "probe", spec) as folder:
        for step in (1, 2, 3):
            folder.append({"step": step, "tokens": 100.0 * step, "lr": 0.1 / step, "loss": 4.0 - step / 4})
        folder.append({"step": 3, "val_acc": 0.5})
        folder.set_status("finished", hardware="H200")
    table = load(tmp_path / "probe")
    row = table.frame.iloc[0]
    # what was reached counts for tokens, what was asked for counts for the (peak) learning rate
    assert (row["run"], row["tokens"], row["lr"], row["loss"], row["width"]) == ("probe", 300, 0.1, 3.25, 16)
    assert (row["steps"], row["val_acc"], row["hardware"], row["status"]) == (3, 0.5, "H200", "finished")
    assert table.curves["probe"]["loss"].tolist() == [3.75, 3.5, 3.25]
    assert table.curves["probe"]["val_acc"].tolist()[-1] == 0.5


WRITER = """
import sys
from workbench.runs.store import RunFolder
folder = RunFolder.create(sys.argv[1], "r", {"width": 1})
step = int(sys.argv[2])
while True:
    folder.append({"step": step, "loss": 1.0 / step, "pad": "x" * 200})
    if step % 20 == 0:
        folder.sync()
        print(step, flush=True)
    step += 1
"""


def test_a_killed_writer_loses_no_acknowledged_record_and_invents_none(tmp_path):
    start = 1
    for attempt in range(4):
        command = [sys.executable, "-c", WRITER, str(tmp_path), str(start)]
        writer = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        acknowledged = 0
        for _ in range(3 + 5 * attempt):
            acknowledged = int(writer.stdout.readline())
        os.kill(writer.pid, signal.SIGKILL)
        rest = writer.communicate()[0].split()
        acknowledged = int(rest[-1]) if rest else acknowledged
        frame, skipped = RunFolder.open(tmp_path / "r").metrics()
        steps = [int(s) for s in frame["step"]]
        assert steps == list(range(1, len(steps) + 1))
        assert len(steps) >= acknowledged
        assert all(loss == 1.0 / step for step, loss in zip(steps, frame["loss"], strict=True))
        assert len(skipped) <= attempt + 1
        # tear the end as a crash of the machine would, behind the last record
        file = tmp_path / "r" / "metrics.jsonl"
        file.write_bytes(file.read_bytes() + b'{"step": 99')
        start = len(steps) + 1


def test_every_cut_of_the_metrics_keeps_the_whole_records_before_it(tmp_path):
    folder = RunFolder.create(tmp_path, "r", {})
    with folder:
        for step in range(1, 6):
            folder.append({"step": step, "loss": 1 / step})
    file = folder.path / "metrics.jsonl"
    whole = file.read_bytes()
    for cut in range(len(whole)):
        file.write_bytes(whole[:cut])
        frame, _ = folder.metrics()
        steps = frame["step"].tolist() if len(frame) else []
        complete = max(whole[:cut].count(b"\n") - 1, 0)
        assert steps[:complete] == list(range(1, complete + 1)) and len(steps) <= complete + 1
        with RunFolder.open(folder.path) as writer:
            writer.append({"step": 6, "loss": 0.0})
        after = folder.metrics()[0]["step"].tolist()
        assert after == [*steps, 6]
