"""``workbench probe`` and ``workbench runs`` with real workers, small probes and real signals."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import ROOT, sentence, strict
from workbench.probes import Probe, Sweep

BASE = Probe(vocab=32, width=4, context=16, batch_tokens=64, tokens=64 * 40, lr=1e-2, evals=5)
SWEEP = Sweep.grid(BASE, seed=range(2))
LONG = Sweep.grid(BASE.replace(tokens=64 * 2500, evals=50, eval_spacing="linear"), seed=range(2))
WILD = BASE.replace(lr=100.0, warmup=0.0, schedule="constant", weight_decay=100.0)
HERE = ("--device", "cpu", "--workers", 1)


@pytest.fixture(autouse=True)
def runtime(tmp_path_factory, monkeypatch):
    """Machine-wide locks of this test alone: no warm worker of the test before holds its core."""
    monkeypatch.setenv("WORKBENCH_RUNTIME", str(tmp_path_factory.mktemp("runtime")))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def command(*argv: object, **options) -> subprocess.Popen:
    words = [sys.executable, "-m", "workbench", *map(str, argv)]
    return subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, **options
    )


def written(folder: Path, what: Probe | Sweep) -> Path:
    file = folder / "spec.json"
    file.write_text(what.to_json())
    return file


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The sweep, trained by the command in a process of its own; its root and its standard output."""
    folder = tmp_path_factory.mktemp("trained")
    environment = {**os.environ, "WORKBENCH_RUNTIME": str(folder / "runtime"), "OMP_NUM_THREADS": "1"}
    words = ("probe", written(folder, SWEEP), "--root", folder / "runs", *HERE, "--json")
    with command(*words, env=environment) as child:
        out, err = child.communicate(timeout=120)
    assert child.returncode == 0, err
    return folder / "runs", out


@pytest.fixture
def runs(trained, tmp_path):
    """A copy to be damaged."""
    shutil.copytree(trained[0], tmp_path / "runs", ignore=shutil.ignore_patterns("*.lock"))
    return tmp_path / "runs"


@pytest.fixture(scope="module")
def truth():
    """Losses of probes trained here, without a queue."""
    from workbench.probes.trainer import train

    def losses(sweep: Sweep) -> dict[str, float]:
        return {result.probe.id: result.loss for result in train(list(sweep), "cpu")}

    return losses


def state(root: Path, probe: Probe) -> dict:
    return json.loads((root / probe.id / "status.json").read_text())


def until(condition, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)


def at_work(root: Path, sweep: Sweep):
    """Whether every run has measured something after its first step."""
    files = [root / probe.id / "metrics.jsonl" for probe in sweep]
    return lambda: all(file.exists() and file.read_text().count("\n") > 3 for file in files)


def test_a_sweep_is_trained_and_its_table_is_one_strict_object(trained, truth):
    result = strict(trained[1])
    assert result["sweep"] == SWEEP.id
    assert {one["id"]: one["loss"] for one in result["runs"]} == truth(SWEEP)
    assert [(one["state"], one["step"], one["eta_seconds"]) for one in result["runs"]] == [("finished", 40, None)] * 2


def test_again_it_returns_the_same_without_training(trained, run, tmp_path):
    root, out = trained
    before = {file: file.stat().st_mtime_ns for file in root.glob("*/*") if file.is_file()}
    status, again, _ = run("probe", written(tmp_path, SWEEP), "--root", root, *HERE, "--json")
    assert status == 0
    first, second = strict(out), strict(again)
    for one in (*first["runs"], *second["runs"]):
        del one["heartbeat_age"]
    assert first == second
    assert {file: file.stat().st_mtime_ns for file in root.glob("*/*") if file.is_file() and file in before} == before


def test_runs_are_listed_shown_and_verified(trained, run):
    root, _ = trained
    status, out, _ = run("runs", "ls", root)
    assert status == 0 and out.startswith("2 runs: 2 done") and all(probe.id in out for probe in SWEEP)
    status, out, _ = run("runs", "ls", root, "--json")
    assert {one["id"] for one in strict(out)["runs"]} == {probe.id for probe in SWEEP}
    status, out, _ = run("runs", "show", root, SWEEP[0].id[:6], "--json")
    (shown,) = strict(out)["runs"].values()
    lines = (root / SWEEP[0].id / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines[1:]]
    assert shown["records"] == [{k: v for k, v in one.items() if v is not None} for one in records]
    assert Probe.from_dict(shown["spec"]) == SWEEP[0] and shown["problems"] == []
    status, out, _ = run("runs", "show", root / SWEEP[1].id)  # one run folder instead of the root
    assert status == 0 and SWEEP[1].id in out and SWEEP[0].id not in out and "step 40" in out
    assert run("runs", "verify", root)[:2] == (0, "2 run folders checked, all sound\n")


def _append(name, text):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes() + text)


def _checkpoint(folder):
    (folder / "checkpoint").mkdir()
    (folder / "checkpoint" / "state.safetensors").write_bytes(b"\x10\x00")


def _spec(folder):
    (folder / "spec.json").write_text(json.dumps(BASE.replace(seed=9).to_dict()))


def _short(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(lines[:-1]))


def _double(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join([*lines, lines[-1]]))


DAMAGES = {
    "torn metrics": (_append("metrics.jsonl", b'{"step": 4'), "cut off"),
    "torn status": (lambda folder: (folder / "status.json").write_text('{"sta'), "status.json cannot be read"),
    "no status": (lambda folder: (folder / "status.json").unlink(), "status.json is missing"),
    "no spec": (lambda folder: (folder / "spec.json").unlink(), "spec.json is missing"),
    "another spec": (_spec, "spec.json is that of the probe"),
    "foreign state": (lambda f: (f / "status.json").write_text('{"schema": 1, "state": "asleep"}'), "'asleep'"),
    "newer schema": (lambda f: (f / "status.json").write_text('{"schema": 2, "state": "finished"}'), "schema 2"),
    "a last record lost": (_short, "its last record is of step"),
    "a record twice": (_double, "two records of one step"),
    "damaged checkpoint": (_checkpoint, "is damaged"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_verify_finds_every_damage_and_list_and_show_live_with_it(runs, run, damage):
    do, words = DAMAGES[damage]
    do(runs / SWEEP[0].id)
    status, out, _ = run("runs", "verify", runs, "--json")
    findings = strict(out)["findings"]
    assert status == 1 and list(findings) == [SWEEP[0].id] and any(words in said for said in findings[SWEEP[0].id])
    status, out, _ = run("runs", "verify", runs)
    assert status == 1 and f"! {SWEEP[0].id}: " in out
    for action in ("ls", "show"):
        status, out, _ = run("runs", action, runs, "--json")
        assert status == 0 and SWEEP[1].id in out
        status, out, _ = run("runs", action, runs)
        assert status == 0 and SWEEP[0].id in out and SWEEP[1].id in out


def test_a_damaged_board_is_found(runs, run):
    (runs / ".queue" / "board.json").write_text('{"wanted": ')
    status, out, _ = run("runs", "verify", runs)
    assert status == 1 and "delete it and submit again" in out
    status, out, err = run("runs", "ls", runs)
    assert status == 0 and "2 done" in out and "delete it" in err


def test_foreign_folders_are_marked(runs, run):
    (runs / "other").mkdir()
    (runs / "other" / "spec.json").write_text('{"schema": 1, "width": "\\u001b[31m"}')
    status, out, _ = run("runs", "ls", runs)
    assert status == 0 and "! other holds no probe" in out
    status, out, _ = run("runs", "ls", runs, "--json")
    assert list(strict(out)["broken"]) == ["other"]
    assert run("runs", "verify", runs)[0] == 1


def test_cost_trains_nothing(tmp_path, run):
    file, root = written(tmp_path, SWEEP), tmp_path / "runs"
    status, out, _ = run("probe", file, "--cost", "--device", "cpu", "--root", root, "--json")
    cost = strict(out)
    assert status == 0 and not root.exists()
    assert cost["flops"] == sum(6 * probe.params * probe.tokens for probe in SWEEP)
    assert cost["seconds"] > 0 and len(cost["buckets"]) == 1 and cost["buckets"][0]["runs"] == 2
    status, out, _ = run("probe", file, "--cost", "--device", "cpu")
    assert status == 0 and out.startswith("2 runs in 1 buckets")


def test_fields_are_those_a_probe_takes(run, tmp_path):
    status, out, _ = run("probe", "--fields", "--json")
    told = strict(out)
    names = {one["name"]: one for part in told["fields"].values() for one in part}
    assert status == 0 and set(Probe().to_dict()) - {"schema", "task", "model"} <= set(names)
    assert all(one["meaning"] for one in names.values()) and names["warmup"]["high"] == 0.9
    for name, one in names.items():
        assert getattr(Probe(), name) == (tuple(one["default"]) if isinstance(one["default"], list) else one["default"])
    assert {"bigram", "digits"} <= set(told["tasks"]) and "adamw" in told["optimizers"]
    file = written(tmp_path, Probe(task="digits", model="mlp", optimizer="sgd", batch_tokens=32, tokens=64))
    status, out, _ = run("probe", file, "--fields")
    assert status == 0 and "task digits" in out and "optimizer sgd" in out


def test_ctrl_c_leaves_a_state_that_resumes_to_the_same_bits(tmp_path, run, truth):
    root = tmp_path / "runs"
    with command("probe", written(tmp_path, LONG), "--root", root, *HERE) as child:
        try:
            until(at_work(root, LONG))
            child.send_signal(signal.SIGINT)
            out, err = child.communicate(timeout=60)
        finally:
            child.kill()
    assert child.returncode == 130 and out == "" and "Traceback" not in err
    assert "stopping" in err and f"workbench runs resume {root}" in err
    for probe in LONG:
        said = state(root, probe)
        assert said["state"] == "cancelled" and 0 < said["checkpoint"] < probe.steps
    seen = [(root / probe.id / "metrics.jsonl").read_text() for probe in LONG]
    status, out, _ = run("runs", "resume", root, *HERE)
    assert status == 0 and out.startswith("2 runs: 2 done")
    for probe, before in zip(LONG, seen, strict=True):
        assert (root / probe.id / "metrics.jsonl").read_text().startswith(before)
    _, out, _ = run("runs", "ls", root, "--json")
    assert {one["id"]: one["loss"] for one in strict(out)["runs"]} == truth(LONG)


def test_what_runs_in_the_background_is_listed_and_cancelled(tmp_path, run):
    root = tmp_path / "runs"
    longer = Sweep((BASE.replace(tokens=64 * 10**6),))
    status, _, err = run("probe", written(tmp_path, longer), "--root", root, *HERE, "--detach")
    assert status == 0 and f"workbench runs ls {root}" in err
    until(at_work(root, longer))
    status, out, _ = run("runs", "ls", root)
    assert status == 0 and out.startswith("1 run: 1 running")
    status, out, _ = run("runs", "cancel", root, longer[0].id[:8])
    assert status == 0 and out.startswith("1 run: 1 cancelled")
    assert state(root, longer[0])["checkpoint"] > 0


def test_a_diverged_probe_is_exit_status_1(tmp_path, run):
    root = tmp_path / "runs"
    status, out, _ = run("probe", written(tmp_path, WILD), "--root", root, *HERE)
    assert status == 1 and out.startswith("1 run: 1 diverged") and "try a lower lr" in out
    status, out, _ = run("runs", "resume", root, *HERE)
    assert status == 1 and "diverged" in out


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ("probe", "--fields"),
        ("probe nowhere.json", "no such file"),
        ("probe .", "is a directory"),
        ("probe text.json", "is not JSON"),
        ("probe junk.json", "is not JSON"),
        ("probe deep.json", "is not JSON"),
        ("probe list.json", "JSON object"),
        ("probe none.json", "at least one probe"),
        ("probe twice.json", "in the sweep twice"),
        ("probe field.json", "no field 'widht'"),
        ("probe range.json", "width=0"),
        ("probe schema.json", "schema 7"),
        ("probe good.json --queue moon", "moon"),
        ("probe good.json --device moon", "device"),
        ("probe good.json --device moon --cost", "device"),
        ("probe good.json --workers 0", "at least 1"),
        ("probe good.json --root text.json --device cpu", "text.json"),
        ("probe good.json --queue slurm --gpus -1", "gpus_per_task=-1"),
        ("probe good.json --queue slurm --gpus 0", "no sbatch"),
        ("runs", "action"),
        ("runs lst", "lst"),
        ("runs ls nowhere", "no folder"),
        ("runs show 0123abc", "the folder comes first"),
        ("runs ls text.json", "no folder"),
        ("runs show void 12", "no run in 'void'"),
        ("runs resume void", "no probe to resume"),
        ("runs cancel void 12", "no run in 'void'"),
        ("runs resume some --device moon", "device"),
        ("runs show two 1", "2 runs in 'two' begin with '1'"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, run, monkeypatch, arguments, fragment):
    spec = BASE.to_dict()
    for name, value in {
        "list": [spec], "none": {"schema": 1, "probes": []}, "twice": {"schema": 1, "probes": [spec, spec]},
        "field": {**spec, "widht": 3}, "range": {**spec, "width": 0}, "schema": {**spec, "schema": 7}, "good": spec,
    }.items():  # fmt: skip
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    (tmp_path / "text.json").write_text("width: 3")
    (tmp_path / "junk.json").write_bytes(bytes(range(256)))
    (tmp_path / "deep.json").write_text("[" * 10_000 + "]" * 10_000)
    (tmp_path / "void").mkdir()
    for name in ("some/" + BASE.id, "two/12", "two/13"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "spec.json").write_text(json.dumps(spec))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")  # where no Slurm is
    before = sorted(tmp_path.glob("*"))
    assert fragment in sentence(*run(*shlex.split(arguments)))
    assert [path for path in sorted(tmp_path.glob("*")) if path.name != "runs"] == before
    assert not list(tmp_path.glob("runs/*/metrics.jsonl"))


def test_a_spec_may_come_through_a_pipe():
    with command("probe", "-", "--fields", stdin=subprocess.PIPE) as child:
        out, err = child.communicate(
            Probe(task="digits", model="mlp", batch_tokens=32, tokens=64).to_json(), timeout=60
        )
    assert child.returncode == 0 and "task digits" in out and err == ""
