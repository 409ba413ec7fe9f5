"""Two hundred SIGKILLs at random moments: no record that anyone has seen is lost, none is invented.

Part of them hit workers with the real trainer, which spend much of their short lives importing torch; the
others hit workers with a stand-in that is at work within a second, so that most of those strike in the middle
of training, of writing a checkpoint, of taking a stack. Supervisors, trainers and submitting processes are
killed, one at a time or all at once.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.launch.conftest import eventually, kill, processes
from tests.launch.test_local import complete, kernel
from workbench.launch.local import LocalQueue
from workbench.launch.process import Identity, birth, boot
from workbench.launch.worker import run
from workbench.probes import Probe, Sweep
from workbench.runs.store import RunFolder

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
STAND_IN_KILLS, REAL_KILLS = 160, 40
BASE = Probe(vocab=32, width=4, context=16, batch_tokens=64, tokens=64 * 600, lr=1e-2, evals=40, eval_spacing="linear")

LONGER = BASE.replace(tokens=64 * 3000)


class Witness(threading.Thread):
    """Reads the files over and over while they are written, and remembers every whole line it has seen."""

    def __init__(self, root: Path) -> None:
        super().__init__(daemon=True)
        self.root, self.over = root, threading.Event()
        self.seen: dict[str, dict[str, None]] = {}
        self.sizes: dict[Path, tuple] = {}
        self.missing: list[str] = []

    def look(self) -> None:
        for file in self.root.glob("*/metrics.jsonl"):
            found = file.stat()
            stamp = (found.st_size, found.st_mtime_ns, found.st_ino)
            if self.sizes.get(file) == stamp:
                continue
            self.sizes[file] = stamp
            lines = file.read_bytes().split(b"\n")[:-1]
            known = self.seen.setdefault(file.parent.name, {})
            now = dict.fromkeys(line.decode() for line in lines)
            self.missing += [line for line in known if line not in now]
            known.update(now)

    def run(self) -> None:
        while not self.over.is_set():
            self.look()
            time.sleep(0.02)

    def stop(self) -> None:
        self.over.set()
        self.join()
        self.look()


def killed(queue: LocalQueue, seed: int, kills: int, more, mean: float, patience: float) -> tuple[Sweep, Counter]:
    """Kill that many processes at random moments while the queue works; the sweep and who was hit.

    `more(n)` is the n-th part of the work; the next is submitted when one is finished before its time. Kills
    come `mean` seconds after a submission, or, with probability `patience`, once something is in training.
    """
    rng = np.random.default_rng(seed)
    hit: Counter = Counter()
    parts, probes = 1, list(more(0))
    submitters: list[subprocess.Popen] = []
    while hit.total() < kills:
        if over(queue, more, probes):
            probes += more(parts)
            parts += 1
        sweep = Sweep(tuple(probes))
        if rng.random() < 0.15:
            submitters.append(kernel(queue.root, sweep, "wait"))
        else:
            queue.submit(sweep)
        if rng.random() < patience:  # else nearly all would strike while processes start
            end = time.monotonic() + 60
            while not training(queue, probes) and time.monotonic() < end and not over(queue, more, probes):
                time.sleep(0.02)
            time.sleep(rng.exponential(mean / 4))
        else:
            time.sleep(rng.exponential(mean))
        living = [(role, p) for role, list_ in processes(queue.root).items() for p in list_]
        for child in submitters:
            if child.poll() is None:
                living.append(("submitter", Identity(child.pid, birth(child.pid) or "", boot())))
        chosen = living if rng.random() < 0.8 else [living[i] for i in rng.permutation(len(living))[:1]]
        at_work = training(queue, probes)
        for role, process in chosen[: kills - hit.total()]:
            busy = role == "trainer" and process.pid in at_work
            hit["trainer in training" if busy else role] += kill(process)
    for child in submitters:
        child.kill()
        child.communicate()
    return Sweep(tuple(probes)), hit


def over(queue: LocalQueue, more, probes) -> bool:
    """Whether the latest part is finished."""
    return all(RunFolder(queue.root / p.id).status.get("state") == "finished" for p in probes[-len(more(0)) :])


def training(queue: LocalQueue, probes) -> set[int]:
    """Processes that train some of these probes right now."""
    found = set()
    for probe in probes:
        status = RunFolder(queue.root / probe.id).status
        if status.get("state") == "running" and birth(status["pid"]) is not None:  # else who said so is dead
            found.add(status["pid"])
    return found


def finish(queue: LocalQueue, sweep: Sweep, witness: Witness) -> None:
    """Let the rest be trained in peace, and look at everything that must hold whatever happened before."""
    assert queue.submit(sweep).wait(120)
    witness.stop()
    assert witness.missing == [] and set(witness.seen) == {p.id for p in sweep}
    for probe in sweep:
        folder = RunFolder.open(queue.root / probe.id)
        assert folder.status["state"] == "finished", folder.status
        lines = (folder.path / "metrics.jsonl").read_text().splitlines()
        assert set(witness.seen[probe.id]) == set(lines), "every line that was ever seen, and no other"
        steps = [json.loads(line)["step"] for line in lines[1:]]
        assert steps == sorted(set(steps)) and steps[-1] == probe.steps
        assert folder.verify() == []
        left = {p.name for p in folder.path.iterdir()}
        assert left == {"spec.json", "status.json", "metrics.jsonl", "log.txt", ".lock"}
    assert json.loads((queue.root / ".queue" / "board.json").read_text())["wanted"] == {}
    eventually(lambda: not any(processes(queue.root).values()))


def test_kills_of_workers_with_a_stand_in_trainer(queue, fake):
    fake(pause=0.002)
    q = queue(workers=4, checkpoint_seconds=0.15)
    witness = Witness(q.root)
    witness.start()
    sweep, hit = killed(
        q,
        1,
        STAND_IN_KILLS,
        lambda n: Sweep.grid(BASE, width=[4, 8], seed=range(3 * n, 3 * n + 3)),
        mean=0.6,
        patience=0.3,
    )
    finish(q, sweep, witness)
    complete(q.root, sweep)  # against the recurrence itself
    assert hit.total() == STAND_IN_KILLS
    assert hit["supervisor"] >= 10 and hit["submitter"] >= 1, hit
    assert hit["trainer in training"] >= 10, hit
    print(dict(hit), f"{len(sweep)} probes")


#: What a clock, or the neighbours in the stack, may change.
OTHER = ["seconds", "provenance.tokens_per_second", "provenance.stacked"]


def test_kills_of_real_workers_leave_the_table_of_an_undisturbed_sweep(tmp_path, queue, monkeypatch):
    q = queue(workers=3, checkpoint_seconds=0.1)
    q._command = [sys.executable, "-m", "workbench.launch.worker"]
    monkeypatch.setattr("tests.launch.test_local.COMMAND", q._command)
    witness = Witness(q.root)
    witness.start()
    sweep, hit = killed(
        q,
        2,
        REAL_KILLS,
        lambda n: Sweep.grid(LONGER, width=[4, 8], seed=range(3 * n, 3 * n + 3)),
        mean=2.0,
        patience=0.6,
    )
    finish(q, sweep, witness)
    assert hit.total() == REAL_KILLS
    assert hit["supervisor"] >= 5 and hit["trainer in training"] >= 1, hit
    resumed = sum("from step" in line and "from step 0 " not in line for line in logs(q.root))
    assert resumed > 0, "some went on from a checkpoint"
    calm = run(sweep, tmp_path / "calm", device="cpu")
    got = q.submit(sweep).runs()
    assert got.ids == calm.ids
    columns = [c for c in OTHER if c in calm.frame]
    pd.testing.assert_frame_equal(got.frame.drop(columns=columns), calm.frame.drop(columns=columns), check_exact=True)
    for id in calm.ids:
        one, other = (t.curves[id].drop(columns="seconds") for t in (got, calm))
        pd.testing.assert_frame_equal(one, other, check_exact=True)
    print(dict(hit), f"{len(sweep)} probes, {resumed} resumptions")


def logs(root: Path) -> list[str]:
    return [line for file in root.glob("*/log.txt") for line in file.read_text().splitlines() if line[:4] == "--- "]
