"""`LocalQueue` with real processes and real signals; only the trainer inside the workers is a stand-in.

What goes wrong in the workers is in `test_local_faults.py`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.launch.conftest import eventually, processes
from tests.launch.fake_worker import COMMAND, update
from workbench.launch import local
from workbench.launch.slots import GPU
from workbench.probes import Probe, Sweep

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
BASE = Probe(vocab=32, width=4, context=16, batch_tokens=64, tokens=64 * 40, lr=1e-2, evals=5)
SWEEP = Sweep.grid(BASE, width=[4, 8], seed=range(3))
LONG = BASE.replace(tokens=64 * 4000)


def truth(probe: Probe) -> list[tuple[int, float]]:
    """Every (step, loss) that the run must have, without any of the machinery."""
    x, found = 1.0, []
    for step in range(probe.steps + 1):
        x = update(x, step, probe) if step else x
        if step % max(1, probe.steps // probe.evals) == 0 or step == probe.steps:
            found.append((step, x))
    return found


def records(root: Path, probe: Probe) -> list[tuple[int, float]]:
    """The file's own lines, not the library's reading of them; a torn one fails."""
    lines = (root / probe.id / "metrics.jsonl").read_text().splitlines()
    return [(r["step"], r["loss"]) for r in map(json.loads, lines[1:])]


def status(root: Path, probe: Probe) -> dict:
    return json.loads((root / probe.id / "status.json").read_text())


def started(root: Path, probe: Probe) -> int:
    """How often a worker began to train the probe."""
    log = root / probe.id / "log.txt"
    return sum(line.startswith("--- ") for line in log.read_text().splitlines()) if log.exists() else 0


def running(root: Path, probe: Probe, step: int = 1):
    return lambda: status(root, probe)["state"] == "running" and records_so_far(root, probe) >= step


def records_so_far(root: Path, probe: Probe) -> int:
    file = root / probe.id / "metrics.jsonl"
    return max((json.loads(line).get("step", 0) for line in whole_lines(file)), default=0)


def whole_lines(file: Path) -> list[str]:
    return file.read_text().split("\n")[:-1] if file.exists() else []


def complete(root: Path, sweep) -> None:
    for probe in sweep:
        assert status(root, probe)["state"] == "finished" and records(root, probe) == truth(probe)
        assert not (root / probe.id / "checkpoint").exists()


def test_a_sweep_is_trained_by_workers_that_then_leave(queue):
    q = queue()
    job = q.submit(SWEEP)
    assert job.wait(60)
    complete(q.root, SWEEP)
    table = job.table()
    assert table["id"].tolist() == [p.id for p in SWEEP] and set(table["state"]) == {"finished"}
    assert (table["step"] == 40).all() and (table["fraction"] == 1).all()
    assert table["loss"].tolist() == [truth(p)[-1][1] for p in SWEEP]
    runs = job.runs()
    assert runs.ids == [p.id for p in SWEEP] and len(runs.good) == 6
    assert "members from step 0" in (q.root / BASE.id / "log.txt").read_text()
    eventually(lambda: not any(processes(q.root).values()))
    assert list((q.root / ".queue" / "workers").iterdir()) == []


def test_submitting_again_changes_nothing_and_a_new_queue_finds_the_jobs(queue):
    q = queue()
    q.submit(BASE).wait(60)
    q.submit(SWEEP).wait(60)
    eventually(lambda: not any(processes(q.root).values()))
    files = [p for p in q.root.rglob("*") if p.is_file() and ".queue" not in p.parts]
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in files}
    again = queue().submit(SWEEP)
    assert again.wait(5) and not any(processes(q.root).values())
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in files} == before
    assert [job.sweep for job in queue().jobs()] == [SWEEP, Sweep((BASE,))]


def test_a_warm_worker_takes_one_stack_after_the_other(queue, fake, tmp_path):
    fake(trace=str(tmp_path / "trace"))
    q = queue(workers=1, idle=30.0)
    assert q.submit(SWEEP).wait(60)
    first = processes(q.root)["trainer"]
    assert q.submit(BASE.replace(width=12)).wait(60)
    assert processes(q.root)["trainer"] == first and len(first) == 1
    lines = [json.loads(line) for line in (tmp_path / "trace").read_text().splitlines()]
    assert {pid for _, pid, _, _ in lines} == {first[0].pid} and len(lines) == 6


def test_cancelled_runs_resume_to_the_same_records(queue, fake):
    fake(pause=0.002)
    q, probes = queue(), Sweep.grid(LONG, seed=range(4))
    job = q.submit(probes)
    for probe in probes:
        eventually(running(q.root, probe, step=800))
    seen = {p.id: set(records(q.root, p)) for p in probes}
    job.cancel()
    for probe in probes:
        said = status(q.root, probe)
        assert (said["state"], said["ended"]) == ("cancelled", "cancelled") and 800 <= said["checkpoint"] < 4000
        assert f"at step {said['checkpoint']}" in said["verdict"]
    fake()
    assert job.wait(1), "a cancelled job has ended"
    eventually(lambda: not any(processes(q.root).values()))
    q.submit(probes).wait(60)
    complete(q.root, probes)
    for probe in probes:
        assert seen[probe.id] <= set(records(q.root, probe)) and started(q.root, probe) == 2


def test_cancelling_one_member_lets_its_neighbours_go_on(queue, fake):
    fake(pause=0.0005)
    q, probes = queue(workers=1), Sweep.grid(LONG, seed=range(3))
    job = q.submit(probes)
    eventually(running(q.root, probes[1]))
    q.cancel([probes[1].id])
    assert status(q.root, probes[1])["state"] == "cancelled"
    assert job.wait(60)
    complete(q.root, [probes[0], probes[2]])
    assert status(q.root, probes[1])["state"] == "cancelled"
    assert set(job.table()["state"]) == {"finished", "cancelled"}


def test_what_only_waits_is_cancelled_without_a_worker(queue, fake):
    fake(pause=0.01)
    q, other = queue(workers=1), BASE.replace(width=64)
    q.submit(LONG)
    eventually(running(q.root, LONG, step=0))
    q.submit(other)
    q.cancel([other.id])
    assert status(q.root, other)["state"] == "cancelled" and status(q.root, LONG)["state"] == "running"
    assert not (q.root / other.id / "metrics.jsonl").exists()
    q.cancel([LONG.id])


KERNEL = """
import sys, time
from workbench.launch.local import LocalQueue
from workbench.probes import Sweep

queue = LocalQueue(sys.argv[1], device="cpu", workers=2, idle=0.5)
queue._command = sys.argv[3].split("|")
job = queue.submit(Sweep.from_json(sys.argv[2]))
print("submitted", flush=True)
if sys.argv[4] == "wait":
    job.wait()
elif sys.argv[4] == "stay":
    time.sleep(600)
"""


def kernel(root: Path, sweep: Sweep, then: str) -> subprocess.Popen:
    """Another process that submits, as a notebook's kernel does."""
    command = [sys.executable, "-c", KERNEL, str(root), sweep.to_json(), "|".join(COMMAND), then]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_workers_outlive_a_killed_kernel_and_another_process_attaches(queue, fake):
    fake(pause=0.002)
    q, sweep = queue(), Sweep.grid(LONG.replace(tokens=64 * 1000), seed=range(2))
    with kernel(q.root, sweep, "stay") as process:
        assert process.stdout.readline() == "submitted\n"
        eventually(running(q.root, sweep[0], step=200))
        workers = processes(q.root)["trainer"]
        assert all(os.getsid(worker.pid) != os.getsid(process.pid) for worker in workers)
        process.kill()
    (job,) = queue().jobs()
    assert job.sweep == sweep and job.wait(60)
    complete(q.root, sweep)
    assert all(started(q.root, p) == 1 for p in sweep), "nobody began again"


def test_ctrl_c_while_watching_leaves_the_workers_alone(queue, fake):
    fake(pause=0.002)
    q, sweep = queue(), Sweep((LONG.replace(tokens=64 * 1000),))
    with kernel(q.root, sweep, "wait") as process:
        assert process.stdout.readline() == "submitted\n"
        eventually(running(q.root, sweep[0], step=200))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode != 0 and "KeyboardInterrupt" in err
    assert status(q.root, sweep[0])["state"] == "running"
    assert queue().jobs()[0].wait(60) and started(q.root, sweep[0]) == 1
    complete(q.root, sweep)


def test_two_processes_that_submit_overlapping_sweeps_train_each_probe_once(queue, fake):
    fake(pause=0.002)
    q = queue()
    everything = Sweep.grid(BASE, width=[4, 8, 12], seed=range(4))
    parts = [Sweep(everything.probes[:8]), Sweep(everything.probes[4:])]
    kernels = [kernel(q.root, part, "wait") for part in parts]
    for process in kernels:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    complete(q.root, everything)
    assert [started(q.root, p) for p in everything] == [1] * 12
    assert {job.sweep for job in q.jobs()} == set(parts)


def overlap(trace: Path) -> dict[str, int]:
    """The most stacks that were in training at once, at each place."""
    now, most = {}, {}
    for line in trace.read_text().splitlines():
        what, _, place, _ = json.loads(line)
        now[place] = now.get(place, 0) + (1 if what == "start" else -1)
        most[place] = max(most.get(place, 0), now[place])
    return most


def test_two_roots_share_the_machine_without_double_booking(queue, fake, tmp_path):
    fake(pause=0.005, trace=str(tmp_path / "trace"))
    queues = [queue("one", idle=0.1), queue("two", idle=0.1)]
    jobs = [q.submit(Sweep.grid(BASE, width=[4, 8, 12, 16])) for q in queues]
    assert all(job.wait(60) for job in jobs)
    assert overlap(tmp_path / "trace") == {"core 0": 1, "core 1": 1}, "two slots, both used, never twice at a time"


def test_every_gpu_works_and_each_holds_as_many_stacks_as_it_may(queue, fake, tmp_path, monkeypatch):
    fake(pause=0.05, trace=str(tmp_path / "trace"))
    gpus = tuple(GPU(f"GPU-{i}{i}{i}{i}aaaa-bbbb", 80 * 2**30) for i in range(3))
    monkeypatch.setattr(local, "find_gpus", lambda chosen: gpus)
    q = queue(device="cuda", per_gpu=2, workers=None)
    sweep = Sweep.grid(BASE, seed=range(12))  # one bucket: it must be split for six slots
    assert q.submit(sweep).wait(60)
    complete(q.root, sweep)
    assert overlap(tmp_path / "trace") == {gpu.uuid: 2 for gpu in gpus}


def test_a_bucket_too_large_for_a_gpu_is_split_beforehand(queue, fake, tmp_path, monkeypatch):
    fake(trace=str(tmp_path / "trace"))
    monkeypatch.setattr(local, "find_gpus", lambda chosen: (GPU("GPU-1", 8 * 2**30),))
    q = queue(device="cuda", workers=None, memory=lambda probes: len(probes) * 2.0 * 2**30)
    assert q.submit(Sweep.grid(BASE, seed=range(10))).wait(60)
    stacks = [json.loads(line)[3] for line in (tmp_path / "trace").read_text().splitlines()]
    assert max(map(len, stacks)) == 3, "6 GiB of 8 fit, with room to spare; 8 of 8 do not"


def test_bad_input_is_one_sentence(queue, tmp_path):
    with pytest.raises(ValueError, match="device='tpu'"):
        queue(device="tpu")
    with pytest.raises(ValueError, match="workers=0"):
        queue(workers=0)
    with pytest.raises((TypeError, ValueError), match="probe"):
        queue().submit([3])
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError):
        queue("file")
    (tmp_path / "runs" / ".queue" / "board.json").write_text("{")
    with pytest.raises(ValueError, match="delete it and submit again"):
        queue().submit(BASE)


def test_a_job_waits_no_longer_than_asked(queue, fake):
    fake(pause=0.01)
    q = queue()
    job = q.submit(LONG)
    before = time.monotonic()
    assert not job.wait(0.5) and time.monotonic() - before >= 0.5
    job.cancel()
