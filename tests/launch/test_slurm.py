"""`SlurmQueue` on a real Slurm of one node, started here: cancelled, preempted, crashed, and the same bits in the end.

One sweep is disturbed in every way; what it leaves behind is compared with the same probes trained in this process.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import signal
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.launch import slurm_node
from workbench.launch import slurm, slurm_cluster
from workbench.launch.slurm import SlurmJob, SlurmQueue
from workbench.probes import Probe
from workbench.probes.sweep import Sweep
from workbench.probes.trainer import train
from workbench.runs.store import RunFolder

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
BASE = Probe(vocab=32, width=4, context=16, batch_tokens=64, tokens=64 * 300, lr=1e-2, evals=25)
#: Long enough for every machine: nothing here waits longer unless something is wrong.
PATIENCE = 120.0


@pytest.fixture(scope="module")
def node():
    why = slurm_node.missing()
    if why is None and importlib.util.find_spec("submitit") is None:
        why = "Submitit is not installed: pip install -e '.[slurm]'"
    if why is not None:
        pytest.skip(why)
    with slurm_node.SlurmNode() as started, pytest.MonkeyPatch.context() as patch:
        for name, value in started.environment.items():
            patch.setenv(name, value)
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setattr(slurm_cluster, "ASK_EVERY", 0.2)
        patch.setattr(slurm, "SILENCE", 2.0)
        yield started


@pytest.fixture
def hold(tmp_path: Path) -> Path:
    file = tmp_path / "hold"
    file.touch()
    return file


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def queue(tmp_path: Path, hold: Path | None = None, **settings) -> SlurmQueue:
    held = Path(slurm_node.__file__).with_name("slurm_held.py")
    python = None if hold is None else " ".join(shlex.quote(str(part)) for part in (sys.executable, held, hold))
    settings = {"partition": "low", "gpus_per_task": 0, "cpus_per_task": 1, "checkpoint_seconds": 0.0, **settings}
    return SlurmQueue(tmp_path / "runs", python=python, **settings)


def row(job: SlurmJob, probe: Probe) -> dict:
    rows = job.table()
    return rows[rows["id"] == probe.id].iloc[0].to_dict()


def until(job: SlurmJob, probe: Probe, wish) -> dict:
    """The probe's row, as soon as `wish` holds for it."""
    end = time.monotonic() + PATIENCE
    while not wish(found := row(job, probe)):
        assert time.monotonic() < end, f"waited in vain, the row was {found}"
        time.sleep(0.2)
    return found


def held(job: SlurmJob, probe: Probe) -> dict:
    """The row of a probe that waits in its middle, with a checkpoint."""
    status = lambda: RunFolder(job.queue.root / probe.id).status  # noqa: E731
    return until(job, probe, lambda r: r["state"] == "running" and r["step"] >= 3 and status().get("pid"))


def same_bits(root: Path, probes: list[Probe]) -> None:
    """Every record of these runs equals that of the same probe trained here, alone and undisturbed."""
    for probe in probes:
        expected = [{k: v for k, v in r.items() if k != "seconds"} for r in train([probe], "cpu")[0].records]
        lines = (root / probe.id / "metrics.jsonl").read_text().splitlines()[1:]
        found = [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]
        assert found == expected and len(found) >= 20


def test_a_sweep_with_a_cancelled_a_preempted_and_a_crashing_probe(node, tmp_path: Path, hold: Path):
    pair = [BASE, BASE.replace(seed=1)]
    crashing, preempted = BASE.replace(width=8), BASE.replace(width=12)
    sweep = Sweep((*pair, crashing, preempted))
    mine = queue(tmp_path, hold)
    job = mine.submit(sweep)
    assert row(job, pair[0])["state"] == "created"

    # Two cores, three tasks: the costliest two start, the pair's waits and says why.
    for probe in (crashing, preempted):
        assert held(job, probe)["place"].startswith(os.uname().nodename.split(".")[0])
    waiting = until(job, pair[0], lambda r: "(" in (r["place"] or ""))
    assert waiting["state"] == "created" and "pending (Resources)" in waiting["place"]

    os.kill(RunFolder(mine.root / crashing.id).status["pid"], signal.SIGSEGV)
    crashed = until(job, crashing, lambda r: r["state"] == "failed")
    assert "signal 11 (SIGSEGV)" in crashed["verdict"]
    assert "Segmentation fault" in (mine.root / crashing.id / "log.txt").read_text()

    # The pair has its core now; one of the stack is cancelled, the other goes on.
    held(job, pair[0])
    held(job, pair[1])
    mine.cancel([pair[1].id])
    cancelled = until(job, pair[1], lambda r: r["state"] == "cancelled")
    assert cancelled["verdict"].startswith("cancelled at step") and cancelled["step"] >= 3
    held(job, pair[0])

    # A job of the higher partition wants both cores.
    node.command("sbatch", "--partition=high", "--cpus-per-task=2", "--output=/dev/null", "--wrap", "sleep 1")
    for probe in (preempted, pair[0]):
        thrown = until(job, probe, lambda r: r["state"] == "created" and r["verdict"])
        assert "Slurm took the node back" in thrown["verdict"] and 3 <= thrown["step"] < probe.steps
    assert not job.wait(timeout=0)
    hold.unlink()
    assert job.wait(PATIENCE)
    assert list(job.table()["state"]) == ["finished", "cancelled", "failed", "finished"]
    assert "from step 0" not in (mine.root / preempted.id / "log.txt").read_text().splitlines()[-1]
    same_bits(mine.root, [pair[0], preempted])

    # Another process finds the sweep again; what was cancelled and what crashed go on where they were.
    (found,) = SlurmQueue(mine.root).jobs()
    assert found.sweep == sweep
    again = queue(tmp_path).submit(sweep)
    assert again.wait(PATIENCE) and set(again.table()["state"]) == {"finished"}
    same_bits(mine.root, list(sweep))
    assert set(again.runs().ids) == {probe.id for probe in sweep} and len(again.runs().good) == 4
    before = sorted((mine.root / ".queue" / "slurm").iterdir())
    assert queue(tmp_path).submit(sweep).wait(0), "nothing is left to do"
    assert sorted((mine.root / ".queue" / "slurm").iterdir()) == before, "and nothing was sent"


def test_near_its_time_limit_a_task_goes_back_and_a_task_cancelled_by_hand_is_lost(node, tmp_path: Path, hold: Path):
    limited, by_hand = BASE.replace(seed=2), BASE.replace(width=8, seed=2)
    mine = queue(tmp_path, hold, setup=["export GREETING='hello there'"])
    job = mine.submit(Sweep((limited, by_hand)))
    held(job, limited)
    held(job, by_hand)
    assert mine.submit(limited).sweep[0] == limited, "what runs is not sent again"
    assert len(node.command("squeue", "--noheader").splitlines()) == 2
    node.command("scancel", "--signal=USR2", mine.task_of(limited.id))  # as Slurm does before the limit
    node.command("scancel", mine.task_of(by_hand.id))
    back = until(job, limited, lambda r: r["state"] == "created" and r["verdict"])
    assert "time limit" in back["verdict"]
    lost = until(job, by_hand, lambda r: r["state"] == "failed")
    assert "left no word" in lost["verdict"] and mine.task_of(by_hand.id) in lost["verdict"]
    # Slurm starts it again, and it is cancelled for good; then everything is submitted once more.
    held(job, limited)
    job.cancel()
    until(job, limited, lambda r: r["state"] == "cancelled")
    until(job, by_hand, lambda r: r["state"] == "cancelled")
    hold.unlink()
    assert mine.submit(Sweep((limited, by_hand))).wait(PATIENCE)
    same_bits(mine.root, [limited, by_hand])


def test_each_process_of_a_task_has_a_gpu_of_its_own_and_a_crash_costs_only_its_stack(node, tmp_path: Path, hold: Path):
    probes = [BASE.replace(width=width) for width in (4, 8)]
    job = queue(tmp_path, gpus_per_task=2, device="cpu").submit(Sweep(tuple(probes)))  # GPUs in name only
    mine = queue(tmp_path / "other", hold, tasks=1)
    later = mine.submit(Sweep(tuple(probes)))
    assert job.wait(PATIENCE) and set(job.table()["state"]) == {"finished"}
    places = ["".join((job.queue.root / probe.id / "log.txt").read_text()).split(" on ")[1] for probe in probes]
    assert sorted(place.split(":")[0].split(", ")[1] for place in places) == ["GPU 0", "GPU 1"]

    held(later, probes[1])  # the costlier one comes first in a task of both
    assert row(later, probes[0])["state"] == "created"
    os.kill(RunFolder(mine.root / probes[1].id).status["pid"], signal.SIGKILL)
    killed = until(later, probes[1], lambda r: r["state"] == "failed")
    assert "signal 9 (SIGKILL)" in killed["verdict"]
    hold.unlink()
    assert later.wait(PATIENCE) and list(later.table()["state"]) == ["finished", "failed"]
    same_bits(mine.root, probes[:1])


def test_what_slurm_refuses_is_said_and_can_be_sent_again(node, tmp_path: Path):
    with pytest.raises(RuntimeError, match=r"refuses.*partition"):
        queue(tmp_path, partition="nowhere").submit(BASE)
    mine = queue(tmp_path, options={"begin": "now+1hour"})
    job = mine.submit(BASE)
    assert "(BeginTime)" in until(job, BASE, lambda r: "(" in (r["place"] or ""))["place"]
    assert not job.wait(timeout=0.1)
    job.cancel()
    assert row(job, BASE)["state"] == "cancelled" and job.wait(timeout=0)
    assert node.command("squeue", "--noheader", "--partition=low") == ""
