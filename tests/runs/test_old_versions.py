"""Run folders of every earlier release load, list, verify and resume."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import workbench
from workbench.cli import main
from workbench.launch import view
from workbench.launch.board import Board
from workbench.launch.worker import run
from workbench.probes import Probe, Sweep
from workbench.runs.store import RunFolder

OLD = Path(__file__).parent / "old"
#: State of each run folder of the release, as its own status.json says it.
V1 = {
    "d1d399835ec5dc27": "finished", "afd8930a43a0dab6": "finished", "796484d1a1f12ca9": "diverged",
    "4de8ec6ef13d00fc": "cancelled", "1d23a9ccc54ce7c7": "failed", "30091a4890aeb59f": "running",
    "34812d9250df9617": "created",
}  # fmt: skip


@pytest.fixture(params=["v1", "v1-queue"])
def release(request, tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("WORKBENCH_RUNTIME", str(tmp_path / "runtime"))
    shutil.copytree(OLD / request.param, tmp_path / "runs")
    return tmp_path / "runs"


@pytest.fixture
def v1(tmp_path) -> Path:
    shutil.copytree(OLD / "v1", tmp_path / "runs")
    return tmp_path / "runs"


def probes(root: Path) -> list[Probe]:
    return [Probe.from_dict(RunFolder.open(file.parent).spec) for file in sorted(root.glob("*/spec.json"))]


def raw(root: Path, probe: Probe) -> list[dict]:
    """The file's own lines, not the library's reading of them."""
    file = root / probe.id / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()[1:]] if file.exists() else []


def test_an_old_spec_is_the_same_probe_under_the_same_id(release):
    """Else a sweep of an earlier release would be trained again in folders of other names."""
    found = probes(release)
    assert found and [probe.id for probe in found] == sorted(path.parent.name for path in release.glob("*/spec.json"))


def test_old_folders_load_with_their_numbers(v1):
    table = workbench.load(v1)
    rows = table.frame.set_index("run")
    for probe in probes(v1):
        records = raw(v1, probe)
        assert (rows.loc[probe.id, "problem"] == "") == (V1[probe.id] == "finished")
        if records:
            assert rows.loc[probe.id, "loss"] == records[-1]["loss"]
            assert table.curves[probe.id]["loss"].tolist() == [r["loss"] for r in records]
    finished = rows.loc["d1d399835ec5dc27"]
    assert (finished["params"], finished["tokens"], finished["flops"]) == (512, 2560, 6 * 512 * 2560)


def test_old_folders_are_listed_with_what_became_of_them(v1):
    rows = view.table(v1, probes(v1)).set_index("id")
    assert {id: state for id, state in rows["state"].items() if V1[id] != "running"} == {
        id: state for id, state in V1.items() if state != "running"
    }
    killed = rows.loc["30091a4890aeb59f"]
    assert killed["state"] == "failed" and "its process is gone" in killed["verdict"] and killed["step"] == 16
    assert rows["fraction"].loc[["d1d399835ec5dc27", "34812d9250df9617"]].tolist() == [1.0, 0.0]


def test_old_folders_are_sound(release, capsys):
    assert main(["runs", "verify", str(release)]) == 0
    assert "all sound" in capsys.readouterr().out
    assert main(["runs", "ls", str(release)]) == 0
    assert main(["runs", "show", str(release)]) == 0


def test_old_folders_resume_and_keep_what_was_written(release):
    found = probes(release)
    before = {probe.id: raw(release, probe) for probe in found}
    over = [probe for probe in found if RunFolder(release / probe.id).status["state"] in ("finished", "diverged")]
    stamps = {probe.id: (release / probe.id / "metrics.jsonl").stat().st_mtime_ns for probe in over}
    table = run(Sweep(tuple(found)), release, device="cpu")
    assert {p.id: (release / p.id / "metrics.jsonl").stat().st_mtime_ns for p in over} == stamps, "nothing left to do"
    assert len(table.good) == len([p for p in found if p.lr < 100])
    fresh = run(Sweep(tuple(p for p in found if p not in over)), release.parent / "fresh", device="cpu")
    losses = dict(zip(fresh["run"], fresh["loss"], strict=True))
    for probe in found:
        records = raw(release, probe)
        assert records[: len(before[probe.id])] == before[probe.id]
        assert [r["step"] for r in records] == sorted({r["step"] for r in records})
        if probe not in over:
            # the kernels of the releases add in other orders, so the last digits may differ
            assert records[-1]["step"] == probe.steps
            assert records[-1]["loss"] == pytest.approx(losses[probe.id], rel=1e-6)
    assert main(["runs", "verify", str(release)]) == 0


def test_a_checkpoint_of_the_first_queue_is_gone_on_from(tmp_path):
    shutil.copytree(OLD / "v1-queue", tmp_path / "runs")
    found = [p for p in probes(tmp_path / "runs") if (tmp_path / "runs" / p.id / "checkpoint").exists()]
    steps = {p: RunFolder(tmp_path / "runs" / p.id).status["checkpoint"] for p in found}
    probe = max(steps, key=steps.get)
    ticks = []
    run(probe, tmp_path / "runs", device="cpu", tick=lambda fraction, note: ticks.append(fraction))
    assert steps[probe] > 0 and ticks[0] >= steps[probe] / probe.steps


def test_the_board_of_the_first_queue_still_wants_its_probe(tmp_path):
    shutil.copytree(OLD / "v1-queue", tmp_path / "runs")
    board = Board(tmp_path / "runs")
    (id,) = board.read().wanted
    assert board.probe(id).steps == 40
    assert len(board.jobs()) == 4 and {probe.id for sweep in board.jobs() for probe in sweep} == {
        path.parent.name for path in (tmp_path / "runs").glob("*/spec.json")
    }


def test_a_newer_schema_is_refused_in_a_sentence_and_left_alone(v1):
    """What a later release has written must not be repaired away."""
    id = "4de8ec6ef13d00fc"
    probe = next(p for p in probes(v1) if p.id == id)
    file = v1 / id / "metrics.jsonl"
    newer = file.read_text().replace('"schema": 1', '"schema": 2', 1)
    file.write_text(newer)
    assert "schema 2" in workbench.load(v1).frame.set_index("run").loc[id, "problem"]
    with pytest.raises(ValueError, match="update the workbench"):
        run(probe, v1, device="cpu")
    assert file.read_text() == newer
