"""`SlurmQueue` without a Slurm: dividing the work, bad input, verdicts, and reading where Slurm cannot be asked."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from workbench.launch import slurm_task
from workbench.launch.slurm import SlurmJob, SlurmQueue
from workbench.launch.slurm_batch import Batch, Claims, divide
from workbench.launch.stack import Run, create
from workbench.probes import Probe
from workbench.probes.sweep import Sweep
from workbench.runs.store import RunFolder

BASE = Probe(vocab=32, width=4, context=16, batch_tokens=64, tokens=64 * 10)


@pytest.mark.parametrize(
    ("tasks", "stack", "processes"), list(itertools.product((None, 1, 2, 9), (None, 1, 2), (1, 2)))
)
def test_every_probe_goes_to_one_task_in_a_stack_of_one_shape(tasks, stack, processes):
    probes = [BASE.replace(width=width, seed=seed) for width in (4, 8, 12) for seed in range(3)]
    shapes = {probe.id: probe.shape for probe in probes}
    shares = divide(probes, tasks, stack, processes)
    stacks = [ids for share in shares for ids in share]
    assert sorted(id for ids in stacks for id in ids) == sorted(shapes)
    assert all(len({shapes[id] for id in ids}) == 1 for ids in stacks)
    assert all(shares) and len(shares) <= (tasks or len(stacks))
    assert max(map(len, stacks)) <= (stack or 3)
    if tasks is None:
        assert len(shares) == -(-len(stacks) // processes)


def test_the_longest_task_is_at_most_four_thirds_of_the_best():
    probes = [BASE.replace(width=width) for width in (4, 8, 12, 16, 20, 24, 28)]
    costs = {probe.id: probe.flops for probe in probes}
    longest = max(sum(costs[id] for ids in share for id in ids) for share in divide(probes, 3))
    best = min(
        max(sum(probe.flops for probe, at in zip(probes, places, strict=True) if at == task) for task in range(3))
        for places in itertools.product(range(3), repeat=len(probes))
    )
    assert best <= longest <= 4 / 3 * best


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"minutes": 0}, ValueError, "minutes=0 must be at least 1"),
        ({"minutes": "1:00:00"}, TypeError, "minutes='1:00:00' is not a whole number"),
        ({"gpus_per_task": -1}, ValueError, "gpus_per_task=-1"),
        ({"tasks": 0}, ValueError, "tasks=0"),
        ({"setup": "module load cuda"}, TypeError, "write a list"),
        ({"options": {"time": 5}}, ValueError, "use minutes="),
        ({"options": {"--open_mode": "truncate"}}, ValueError, "the queue sets it itself"),
    ],
)
def test_bad_settings_are_one_sentence(tmp_path: Path, settings, error, said):
    with pytest.raises(error, match=said):
        SlurmQueue(tmp_path, **settings)


def test_where_slurm_or_submitit_is_missing_it_says_so_and_still_reads(tmp_path: Path, monkeypatch):
    queue = SlurmQueue(tmp_path / "runs")
    monkeypatch.setenv("PATH", str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "submitit", None)
        with pytest.raises(RuntimeError, match=r"needs Submitit.*pip install"):
            queue.submit(BASE)
    monkeypatch.setitem(sys.modules, "submitit", object())
    with pytest.raises(RuntimeError, match="no sbatch on this machine"):
        queue.submit(BASE)
    assert not (tmp_path / "runs").exists()

    job = SlurmJob(queue, Sweep((BASE,)))
    assert list(job.table()["state"]) == ["created"] and not job.wait(timeout=0)


def test_describing_and_reading_need_no_torch(tmp_path: Path):
    code = "import sys; from workbench.launch.slurm import SlurmQueue; SlurmQueue(sys.argv[1]).jobs()\n"
    code += "assert not {'torch', 'submitit'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    probes = [BASE, BASE.replace(seed=1), BASE.replace(width=8)]
    made = Batch(tmp_path, "one", [[[p.id for p in probes[:2]], [probes[2].id]]], {"minutes": 7, "processes": 1}, ["5"])
    made.folder.mkdir(parents=True)
    made.write()
    claims = Claims(tmp_path)
    claims.folder.mkdir()
    claims.give(made.ids(), "one", 0)
    for probe in probes:
        create(tmp_path, probe)
    return made


def status(batch: Batch, id: str) -> dict:
    return RunFolder(batch.root / id).status


def running(batch: Batch, id: str, step: int = 3) -> None:
    RunFolder(batch.root / id).set_status("running", checkpoint=step)


def test_a_claim_given_away_is_no_longer_the_tasks(batch: Batch):
    first, second, third = batch.ids()
    claims, before = Claims(batch.root), Claims(batch.root).stamp()
    claims.give([second], None)
    claims.give([third], "another", 4)
    assert claims.stamp() != before
    assert Batch.read(batch.folder).mine(0) == [first]
    assert claims.of(second) is None and claims.of(third) == ("another", 4)
    (claims.folder / f"{first}.json").write_text('{"batch": "o')  # torn: nobody's, so that nobody trains it twice
    assert batch.mine(0) == []


@pytest.mark.parametrize(
    ("code", "output", "said"),
    [
        (139, "", r"signal 11 \(SIGSEGV\)"),
        (134, "", r"signal 6 \(SIGABRT\)"),
        (137, "", r"signal 9 \(SIGKILL\)"),
        (137, "slurmstepd: error: Detected 1 oom_kill event in StepId=5.0.", "out of memory"),
        (3, "", "exit status 3"),
    ],
)
def test_settling_says_how_the_task_died(batch: Batch, monkeypatch, code, output, said):
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    monkeypatch.setenv("PATH", "")
    first, second, third = batch.ids()
    batch.output.mkdir()
    (batch.output / "5_0_log.err").write_text(output)
    running(batch, first)
    Claims(batch.root).give([second], None)
    running(batch, third)
    monkeypatch.setattr(slurm_task.subprocess, "run", lambda *a, **k: pytest.fail("nothing else waits"))
    assert slurm_task.settle(batch.folder, 0, code) == [first, third]
    assert re.search(said, status(batch, first)["verdict"]) and status(batch, first)["state"] == "failed"
    assert status(batch, first)["checkpoint"] == 3 and status(batch, second)["state"] == "created"
    if output:
        assert "oom_kill" in (batch.root / first / "log.txt").read_text()


def test_a_run_that_somebody_else_writes_is_not_settled(batch: Batch):
    first, *_ = batch.ids()
    running(batch, first)
    writer = Run.attempt(batch.root, BASE)
    assert slurm_task.settle(batch.folder, 0, slurm_task.STOPPED) == [] and status(batch, first)["state"] == "running"
    writer.close()


def test_a_task_that_gains_nothing_does_not_go_round_for_ever(batch: Batch, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    sent = []

    def scontrol(command, **_):
        sent.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(slurm_task.subprocess, "run", scontrol)
    before = slurm_task._steps(batch, 0)
    running(batch, batch.ids()[0], step=1)
    slurm_task._requeue(batch, 0, before)
    assert sent == [["scontrol", "requeue", "5"]], "one step is progress"
    slurm_task._requeue(batch, 0, slurm_task._steps(batch, 0))
    assert len(sent) == 1
    assert {status(batch, id)["state"] for id in batch.ids()} == {"failed"}
    assert "7 minutes passed without one new step" in status(batch, batch.ids()[0])["verdict"]
