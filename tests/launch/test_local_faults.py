"""What goes wrong in the workers of a `LocalQueue`: memory, crashes, divergence, and processes that are killed."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from tests.launch.conftest import eventually, kill, kill_all, processes
from tests.launch.test_local import (
    BASE,
    LONG,
    SWEEP,
    complete,
    overlap,
    records,
    records_so_far,
    running,
    started,
    status,
    truth,
)
from workbench.launch.board import ATTEMPTS
from workbench.probes import Sweep

pytestmark = pytest.mark.long


def test_a_worker_that_ignores_term_is_killed_after_its_grace(queue, fake):
    fake(faults={BASE.id: ["hang", 20]})
    q = queue(checkpoint_seconds=0.0)
    job = q.submit(BASE)
    eventually(lambda: any("hangs" in log.read_text() for log in (q.root / ".queue" / "logs").iterdir()))
    hung = processes(q.root)["trainer"]
    job.cancel()
    said = status(q.root, BASE)
    assert said["state"] == "cancelled" and 0 < said["checkpoint"] <= 20 and not kill(hung[0])
    eventually(lambda: not any(processes(q.root).values()))  # else it starts the next with the fault of before
    fake()
    assert q.submit(BASE).wait(60)
    complete(q.root, [BASE])


def test_a_stack_too_large_for_memory_is_halved_until_it_fits(queue, fake):
    fake(fits=2)
    q, probes = queue(workers=1), Sweep.grid(BASE, seed=range(7))
    assert q.submit(probes).wait(60)
    complete(q.root, probes)
    assert "in a stack of 7" in (q.root / BASE.id / "log.txt").read_text()


def test_a_probe_too_large_by_itself_says_so(queue, fake):
    fake(faults={BASE.id: ["out of memory", 10]})
    q = queue()
    q.submit(SWEEP).wait(60)
    said = status(q.root, BASE)
    assert (said["state"], said["ended"]) == ("failed", "out of memory") and "by itself" in said["verdict"]
    assert "OutOfMemoryError" in (q.root / BASE.id / "log.txt").read_text()
    complete(q.root, [p for p in SWEEP if p != BASE])


def test_a_host_that_refuses_memory_is_out_of_memory(queue, fake):
    fake(faults={BASE.id: ["fill memory", 10]})
    q = queue()
    q.submit(BASE).wait(60)
    assert (
        status(q.root, BASE)["ended"] == "out of memory" and "MemoryError" in (q.root / BASE.id / "log.txt").read_text()
    )


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("SIGSEGV", "crashed with signal 11 (SIGSEGV)"),
        ("SIGABRT", "crashed with signal 6 (SIGABRT)"),
        ("raise", "crashed: ZeroDivisionError: the stand-in divides by zero"),
        ("exit", "crashed: its process left with exit status 3"),
    ],
)
def test_a_crash_is_told_stays_in_its_stack_and_can_be_tried_again(queue, fake, fault, words):
    fake(faults={BASE.id: [fault, 20]})
    q = queue(checkpoint_seconds=0.0)
    job = q.submit(Sweep((BASE, BASE.replace(width=8), BASE.replace(width=12))))
    assert job.wait(60)
    said = status(q.root, BASE)
    assert (said["state"], said["ended"]) == ("failed", "crashed") and words in said["verdict"]
    assert job.table()["verdict"][0] == said["verdict"]
    complete(q.root, [BASE.replace(width=8), BASE.replace(width=12)])
    log = (q.root / BASE.id / "log.txt").read_text()
    assert {"raise": "Traceback", "SIGSEGV": "Segmentation fault"}.get(fault, "stand-in") in log
    eventually(lambda: not any(processes(q.root).values()))
    fake()
    assert q.submit(BASE).wait(60)
    complete(q.root, [BASE])
    assert "from step 20" in (q.root / BASE.id / "log.txt").read_text(), "from the checkpoint, not from the start"


def test_a_kill_from_outside_is_no_silent_end(queue, fake):
    fake(pause=0.01)
    q = queue()
    job = q.submit(LONG)
    eventually(running(q.root, LONG, step=1))
    assert kill(processes(q.root)["trainer"][0])
    assert job.wait(30)
    said = status(q.root, LONG)
    assert said["state"] == "failed" and "signal 9" in said["verdict"]
    assert said["ended"] in ("crashed", "out of memory")


def test_a_diverged_member_does_not_hurt_its_stack(queue, fake):
    fake(faults={SWEEP[1].id: ["diverge", 17]})
    q = queue(workers=1)
    assert q.submit(SWEEP).wait(60)
    said = status(q.root, SWEEP[1])
    assert (said["state"], said["ended"]) == ("diverged", "diverged") and "step 16" in said["verdict"]
    assert records(q.root, SWEEP[1]) == [(s, x) for s, x in truth(SWEEP[1]) if s <= 16]
    complete(q.root, [p for p in SWEEP if p != SWEEP[1]])
    assert q.submit(SWEEP).wait(5), "and there is nothing left to do"


def test_a_killed_supervisor_leaves_its_trainer_at_work_and_its_slot_taken(queue, fake, tmp_path):
    fake(pause=0.002, trace=str(tmp_path / "trace"))
    q, probe = queue(workers=1), LONG.replace(tokens=64 * 1000)
    job = q.submit(probe)
    eventually(running(q.root, probe, step=200))
    assert kill(processes(q.root)["supervisor"][0])
    other = queue("other", workers=1)
    second = other.submit(BASE)
    assert job.wait(60) and second.wait(60)
    assert started(q.root, probe) == 1 and overlap(tmp_path / "trace") == {"core 0": 1}
    complete(q.root, [probe])


def test_a_worker_that_vanishes_is_seen_and_replaced(queue, fake):
    fake(pause=0.005)
    q = queue(checkpoint_seconds=0.1)
    probe = LONG.replace(tokens=64 * 400, evals=40)
    job = q.submit(probe)
    eventually(lambda: (q.root / probe.id / "checkpoint").exists() and records_so_far(q.root, probe) > 50)
    seen = set(records(q.root, probe))
    kill_all(q.root)
    eventually(lambda: "lost" in (job.table()["verdict"][0] or ""))
    row = job.table().iloc[0]
    assert row["state"] == "created" and "as soon as a worker is free" in row["verdict"]
    assert queue().jobs()[0].wait(60)
    complete(q.root, [probe])
    assert seen <= set(records(q.root, probe)) and started(q.root, probe) == 2


def test_a_probe_that_loses_every_worker_is_given_up(queue, fake):
    fake(pause=0.01)
    q = queue(workers=1)
    job = q.submit(LONG)
    for attempt in range(ATTEMPTS):
        eventually(lambda attempt=attempt: q.tend() or started(q.root, LONG) == attempt + 1)
        kill_all(q.root)
    eventually(lambda: q.tend() or status(q.root, LONG)["state"] == "failed")
    said = status(q.root, LONG)
    assert (said["state"], said["ended"]) == ("failed", "lost") and "3 times" in said["verdict"]
    assert job.wait(5)


def test_workers_that_cannot_start_are_reported_not_retried_for_ever(queue, tmp_path):
    (tmp_path / "broken.py").write_text(
        "import sys\nfrom workbench.launch.supervisor import main\n"
        "if '--train' in sys.argv: sys.exit('no module named moon')\n"
        f"sys.exit(main(sys.argv[1:], [sys.executable, {str(tmp_path / 'broken.py')!r}]))\n"
    )
    q = queue()
    q._command = [sys.executable, str(tmp_path / "broken.py")]
    assert q.submit(BASE).wait(60)
    said = status(q.root, BASE)
    assert said["state"] == "failed" and "no module named moon" in said["verdict"]


def test_terminated_workers_checkpoint_and_the_work_still_waits(queue, fake):
    fake(pause=0.005)
    q = queue(workers=1)
    job = q.submit(LONG.replace(tokens=64 * 1000))
    probe = job.sweep[0]
    eventually(running(q.root, probe, step=200))
    for process in processes(q.root)["supervisor"]:
        os.kill(process.pid, signal.SIGTERM)  # as at shutdown of the machine
    eventually(lambda: not any(processes(q.root).values()))
    said = status(q.root, probe)
    assert said["state"] == "created" and said["checkpoint"] >= 200 and "waiting" in said["verdict"]
    fake()
    assert job.wait(60)
    complete(q.root, [probe])
