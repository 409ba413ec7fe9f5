"""The worker: run folders on disk, no work done twice, and nothing lost to Ctrl-C or a killed process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import workbench
from workbench.launch import worker
from workbench.launch.worker import run
from workbench.probes import Probe, Sweep

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
BASE = Probe(vocab=32, width=4, context=16, batch_tokens=64, tokens=64 * 40, lr=1e-2, evals=5)
#: Two buckets: a pair of one shape, and one of another.
SWEEP = Sweep((BASE, BASE.replace(seed=1), BASE.replace(width=8)))
#: What a clock or the state of the machine may change.
CLOCKS = ["seconds", "provenance.tokens_per_second", "fraction"]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    root = tmp_path_factory.mktemp("undisturbed") / "runs"
    return root, run(SWEEP, root, device="cpu")


def states(root: Path) -> dict[str, str]:
    return {p.parent.name: json.loads(p.read_text())["state"] for p in root.glob("*/status.json")}


def same(a, b) -> None:
    """Equal rows and curves bit for bit, but for clocks."""
    assert a.ids == b.ids
    pd.testing.assert_frame_equal(
        a.frame.drop(columns=CLOCKS, errors="ignore"), b.frame.drop(columns=CLOCKS, errors="ignore"), check_exact=True
    )
    for run_id in a.ids:
        one, other = (t.curves[run_id].drop(columns="seconds") for t in (a, b))
        pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_every_probe_becomes_a_finished_folder_that_loads(undisturbed):
    root, runs = undisturbed
    assert set(states(root)) == {p.id for p in SWEEP} and set(states(root).values()) == {"finished"}
    assert len(runs) == len(runs.good) == 3
    rows = runs.frame.set_index("run")
    for probe in SWEEP:
        row = rows.loc[probe.id]
        d = probe.width
        assert row["params"] == 12 * d * d + (2 * 32 + 16) * d and row["tokens"] == 2560
        assert row["flops"] == 6 * row["params"] * row["tokens"] and row["lr"] == 1e-2 and row["width"] == d
        assert 0 < row["loss"] < np.log(32) + 0.1
        curve = runs.curves[probe.id]
        assert curve["step"].iloc[[0, -1]].tolist() == [0, 40] and curve["loss"].iloc[-1] == row["loss"]
        spec = json.loads((root / probe.id / "spec.json").read_text())
        assert Probe.from_dict(spec) == probe


def test_it_is_the_trainers_result(undisturbed):
    from workbench.probes.trainer import train_sweep

    _, runs = undisturbed
    losses = {result.probe.id: result.loss for result in train_sweep(SWEEP, "cpu")}
    assert losses == dict(zip(runs["run"], runs["loss"], strict=True))


def test_again_it_returns_at_once(undisturbed, monkeypatch):
    root, first = undisturbed
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in root.rglob("*") if p.is_file()}

    def idle(*_):
        raise AssertionError("nothing is left to train")

    monkeypatch.setattr(worker, "_train", idle)
    ticks = []
    again = run(SWEEP, root, device="cpu", tick=lambda fraction, note: ticks.append(fraction))
    same(first, again)
    assert ticks == [1.0]
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in root.rglob("*") if p.is_file()} == before


def test_only_what_is_new_is_trained_and_only_what_was_asked_for_is_returned(tmp_path: Path):
    one = run(BASE, tmp_path, device="cpu")
    before = (tmp_path / BASE.id / "metrics.jsonl").stat().st_mtime_ns
    two = run(Sweep((BASE.replace(seed=1), BASE)), tmp_path, device="cpu")
    assert len(one) == 1 and set(two.ids) == {BASE.id, BASE.replace(seed=1).id}
    assert (tmp_path / BASE.id / "metrics.jsonl").stat().st_mtime_ns == before
    assert run(BASE, tmp_path, device="cpu").ids == [BASE.id]


def test_progress_rises_to_one(tmp_path: Path):
    seen = []
    run(BASE, tmp_path, device="cpu", tick=lambda fraction, note: seen.append((fraction, note)))
    fractions = [fraction for fraction, _ in seen]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0 and "tokens/s" in seen[0][1]


def test_ctrl_c_marks_the_runs_and_a_rerun_completes_them(tmp_path: Path, undisturbed):
    def interrupt(fraction: float, note: str) -> None:
        if fraction > 0.3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(SWEEP, tmp_path, device="cpu", tick=interrupt)
    pair, later = [p.id for p in SWEEP][:2], SWEEP[2].id
    assert states(tmp_path) == {**dict.fromkeys(pair, "cancelled"), later: "created"}
    half = workbench.load(tmp_path)
    assert len(half) == 3 and len(half.good) == 0
    assert half["problem"].str.contains("cancelled").sum() == 2
    assert any(len(half.curves[r]) for r in half.curves), "what was written is kept"
    same(undisturbed[1], run(SWEEP, tmp_path, device="cpu"))


def test_an_interrupted_run_goes_on_from_where_it_stopped(tmp_path: Path, undisturbed):
    def interrupt(fraction: float, note: str) -> None:
        if fraction > 0.1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(BASE, tmp_path, device="cpu", tick=interrupt)
    status = json.loads((tmp_path / BASE.id / "status.json").read_text())
    assert 0 < status["checkpoint"] < BASE.steps and f"at step {status['checkpoint']}" in status["verdict"]
    before = (tmp_path / BASE.id / "metrics.jsonl").read_text()
    again = run(BASE, tmp_path, device="cpu")
    after = (tmp_path / BASE.id / "metrics.jsonl").read_text()
    assert after.startswith(before) and len(after) > len(before), "what was written stays as it was written"
    assert f"from step {status['checkpoint']} " in (tmp_path / BASE.id / "log.txt").read_text()
    one = undisturbed[1].curves[BASE.id].drop(columns="seconds")
    pd.testing.assert_frame_equal(again.curves[BASE.id].drop(columns="seconds"), one, check_exact=True)
    assert not (tmp_path / BASE.id / "checkpoint").exists()


def test_a_damaged_checkpoint_costs_time_and_nothing_else(tmp_path: Path, undisturbed):
    def interrupt(fraction: float, note: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(BASE, tmp_path, device="cpu", tick=interrupt)
    (file,) = (tmp_path / BASE.id / "checkpoint").iterdir()
    file.write_bytes(file.read_bytes()[:-10])
    again = run(BASE, tmp_path, device="cpu")
    assert "damaged" in (tmp_path / BASE.id / "log.txt").read_text()
    one = undisturbed[1].curves[BASE.id].drop(columns="seconds")
    pd.testing.assert_frame_equal(again.curves[BASE.id].drop(columns="seconds"), one, check_exact=True)


def test_two_processes_with_one_sweep_train_each_probe_once(tmp_path: Path, undisturbed):
    code = "import sys; from workbench.launch.worker import run; from workbench.probes import Sweep\n"
    code += "run(Sweep.from_json(sys.argv[2]), sys.argv[1], device='cpu')"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, str(tmp_path), SWEEP.to_json()]
    for process in [subprocess.Popen(command, env=environment) for _ in range(2)]:
        assert process.wait(120) == 0
    for probe in SWEEP:
        log = (tmp_path / probe.id / "log.txt").read_text()
        assert sum(line.startswith("--- ") for line in log.splitlines()) == 1
        lines = (tmp_path / probe.id / "metrics.jsonl").read_text().splitlines()
        assert len(set(lines)) == len(lines)
    same(undisturbed[1], run(SWEEP, tmp_path, device="cpu"))


def test_a_finished_stack_survives_an_interruption_of_the_next(tmp_path: Path, undisturbed):
    def interrupt(fraction: float, note: str) -> None:
        if fraction > 0.7:  # the pair of the first stack is two thirds of the sweep
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(SWEEP, tmp_path, device="cpu", tick=interrupt)
    pair, later = [p.id for p in SWEEP][:2], SWEEP[2].id
    assert states(tmp_path) == {**dict.fromkeys(pair, "finished"), later: "cancelled"}
    before = {name: (tmp_path / name / "metrics.jsonl").stat().st_mtime_ns for name in pair}
    same(undisturbed[1], run(SWEEP, tmp_path, device="cpu"))
    assert {name: (tmp_path / name / "metrics.jsonl").stat().st_mtime_ns for name in pair} == before


def test_a_failure_is_recorded_with_its_reason(tmp_path: Path):
    def fail(fraction: float, note: str) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        run(BASE, tmp_path, device="cpu", tick=fail)
    status = json.loads((tmp_path / BASE.id / "status.json").read_text())
    assert status["state"] == "failed" and status["reason"] == "OSError: disk full"


def test_a_diverged_run_is_finished_business(tmp_path: Path):
    wild = BASE.replace(lr=100.0, warmup=0.0, schedule="constant", weight_decay=100.0)
    runs = run(wild, tmp_path, device="cpu")
    assert states(tmp_path) == {wild.id: "diverged"} and "diverged" in runs["problem"][0]
    before = (tmp_path / wild.id / "metrics.jsonl").stat().st_mtime_ns
    run(wild, tmp_path, device="cpu")
    assert (tmp_path / wild.id / "metrics.jsonl").stat().st_mtime_ns == before


#: A third stack, in the middle of which processes are stopped.
LAST = BASE.replace(width=12)
WHOLE = Sweep((*SWEEP, LAST))

#: Slow enough to be stopped between two ticks, and no slower than that.
CHILD = """
import sys, time
from workbench.launch.worker import run
from workbench.probes import Sweep

def tick(fraction, note):
    print(fraction, flush=True)
    time.sleep(0.3 if fraction > 0.8 else 0)

run(Sweep.from_json(sys.argv[2]), sys.argv[1], device="cpu", tick=tick)
"""


def stopped(root: Path, how: signal.Signals) -> int:
    """Train `WHOLE` in another process, stop it in the middle of its last stack; returns the exit status."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CHILD, str(root), WHOLE.to_json()]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as child:
        try:
            while float(child.stdout.readline() or "nan") < 0.85:
                pass
            child.send_signal(how)
            return child.wait(timeout=60)
        finally:
            child.kill()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run(WHOLE, tmp_path_factory.mktemp("whole"), device="cpu")


def test_a_killed_process_leaves_marked_rows_and_a_rerun_completes_them(tmp_path: Path, whole):
    assert stopped(tmp_path, signal.SIGKILL) == -signal.SIGKILL
    expected = {**{p.id: "finished" for p in SWEEP}, LAST.id: "running"}
    assert states(tmp_path) == expected, "nobody was left to say more"
    with (tmp_path / LAST.id / "metrics.jsonl").open("a") as file:
        file.write('{"step": 123, "lo')  # as if killed in the middle of a line
    runs = workbench.load(tmp_path)
    problems = dict(zip(runs["run"], runs["problem"], strict=True))
    assert len(runs) == 4 and "running" in problems.pop(LAST.id) and not any(problems.values())
    assert len(runs.curves[LAST.id]) >= 1 and any("metrics.jsonl skipped" in message for message in runs.messages)
    before = {p.id: (tmp_path / p.id / "metrics.jsonl").stat().st_mtime_ns for p in SWEEP}
    same(whole, run(WHOLE, tmp_path, device="cpu"))
    assert {p.id: (tmp_path / p.id / "metrics.jsonl").stat().st_mtime_ns for p in SWEEP} == before


def test_ctrl_c_in_a_real_process(tmp_path: Path, whole):
    assert stopped(tmp_path, signal.SIGINT) != 0
    assert states(tmp_path) == {**{p.id: "finished" for p in SWEEP}, LAST.id: "cancelled"}
    same(whole, run(WHOLE, tmp_path, device="cpu"))


def test_a_torn_run_starts_over(tmp_path: Path, undisturbed):
    folder = tmp_path / BASE.id
    run(BASE, tmp_path, device="cpu")
    status = json.loads((folder / "status.json").read_text())
    (folder / "status.json").write_text(json.dumps({**status, "state": "running"}))
    lines = (folder / "metrics.jsonl").read_bytes()
    (folder / "metrics.jsonl").write_bytes(lines[: len(lines) // 2])
    assert len(workbench.load(folder).good) == 0
    again = run(BASE, tmp_path, device="cpu")
    first = undisturbed[1].where(f"run == '{BASE.id}'")
    assert again["loss"][0] == first["loss"][0] and len(again.good) == 1
    pd.testing.assert_frame_equal(
        again.curves[BASE.id].drop(columns="seconds"), first.curves[BASE.id].drop(columns="seconds"), check_exact=True
    )
    assert not any("line" in message for message in again.messages)


def test_bad_input_is_one_sentence(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError):
        run(BASE, tmp_path / "file", device="cpu")
    for wrong in ([], [3]):
        with pytest.raises((TypeError, ValueError), match="probe"):
            run(wrong, tmp_path / "new", device="cpu")
    with pytest.raises(ValueError, match="device"):
        run(BASE, tmp_path / "other", device="abacus")
    assert not (tmp_path / "new").exists()


def test_a_folder_of_another_spec_is_not_overwritten(tmp_path: Path):
    folder = tmp_path / BASE.id
    folder.mkdir()
    foreign = json.dumps({"schema": 1, "width": 999})
    (folder / "spec.json").write_text(foreign)
    with pytest.raises(ValueError, match="another spec"):
        run(BASE, tmp_path, device="cpu")
    assert (folder / "spec.json").read_text() == foreign
