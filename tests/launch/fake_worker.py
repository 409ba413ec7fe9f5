"""A worker whose trainer is a stand-in without torch: it starts at once, and fails on request.

Everything else is the real worker: processes, locks, board, run folders, signals. What is to go wrong stands
in the environment, ``FAKE = {"pause": seconds a step, "faults": {probe id: [fault, step]}, "fits": most
members, "trace": file}``, so that nothing in the package can be made to fail by accident.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from workbench.files import write_whole
from workbench.launch import stack
from workbench.launch.supervisor import main
from workbench.launch.trainer_loop import TrainerLoop

COMMAND = [sys.executable, str(Path(__file__).resolve())]


@dataclass
class FakeCheckpoint:
    step: int
    records: tuple
    x: float

    def write(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        write_whole(folder / "state.json", json.dumps({"step": self.step, "records": self.records, "x": self.x}))

    @classmethod
    def read(cls, folder: Path):
        try:
            data = json.loads((folder / "state.json").read_text())
        except FileNotFoundError:
            return None
        return cls(data["step"], tuple(data["records"]), data["x"])


@dataclass
class FakeResult:
    probe: object
    status: str
    records: tuple
    state: FakeCheckpoint
    provenance: dict

    def row(self) -> dict:
        return {"params": self.probe.params, "tokens": self.records[-1]["tokens"], "flops": self.records[-1]["flops"]}


class OutOfMemoryError(RuntimeError):
    """Named like torch's."""


def update(x: float, step: int, probe) -> float:
    """One step of a recurrence that remembers every step before it and every bit of it."""
    return math.fmod(3.7 * x + probe.lr * step + probe.seed + 0.1, 2.9) + 1.0


def train(
    probes, device=None, on_event=None, on_progress=None, should_stop=None, compile=False, *,
    states=None, on_checkpoint=None, checkpoint_seconds=60.0,
):  # fmt: skip
    settings = json.loads(os.environ.get("FAKE", "{}"))
    faults = settings.get("faults", {})
    size = settings.get("fits")
    if size is not None and len(probes) > size:
        raise OutOfMemoryError(f"CUDA out of memory. Tried to allocate {len(probes)} GiB")
    states = states or [FakeCheckpoint(0, (), 1.0) for _ in probes]
    step = states[0].step
    assert all(state.step == step for state in states) and len({p.shape for p in probes}) == 1
    xs, records = [s.x for s in states], [list(s.records) for s in states]
    diverged = [False] * len(probes)
    steps, saved = probes[0].steps, time.monotonic()
    print(f"stand-in: {len(probes)} members from step {step}", flush=True)
    trace("start", probes)

    def snapshot():
        return [FakeCheckpoint(step, tuple(r), x) for r, x in zip(records, xs, strict=True)]

    def results(status):
        trace("end", probes)
        return [
            FakeResult(
                p, "diverged" if d else status, s.records, s if status == "stopped" else None, {"device": "stand-in"}
            )
            for p, d, s in zip(probes, diverged, snapshot(), strict=True)
        ]

    while True:
        if step % max(1, steps // probes[0].evals) == 0 or step == steps:
            for i, probe in enumerate(probes):
                if not diverged[i] and not (records[i] and records[i][-1]["step"] == step):
                    tokens = step * probe.batch_tokens
                    record = {"step": step, "tokens": tokens, "flops": 6.0 * probe.params * tokens, "loss": xs[i]}
                    records[i].append(record)
                    if on_event:
                        on_event(i, dict(record))
        if on_checkpoint and time.monotonic() - saved >= checkpoint_seconds:
            on_checkpoint(snapshot())
            saved = time.monotonic()
        if step == steps:
            return results("finished")
        if should_stop and should_stop():
            return results("stopped")
        for i, probe in enumerate(probes):
            fault, at = faults.get(probe.id, (None, None))
            if fault and step == at:
                happen(fault, probe)
                diverged[i] = diverged[i] or fault == "diverge"
            xs[i] = update(xs[i], step + 1, probe)
        step += 1
        time.sleep(settings.get("pause", 0.0))
        if on_progress:
            on_progress(step / steps, 1000.0)


def trace(what: str, probes) -> None:
    """One line in a file that all workers share: who begins or ends where."""
    file = json.loads(os.environ.get("FAKE", "{}")).get("trace")
    if file:
        place = os.environ.get("CUDA_VISIBLE_DEVICES") or os.environ.get("WORKBENCH_PLACE")
        with Path(file).open("a") as handle:
            handle.write(json.dumps([what, os.getpid(), place, [p.id for p in probes]]) + "\n")


def happen(fault: str, probe) -> None:
    if fault.startswith("SIG"):
        os.kill(os.getpid(), getattr(signal, fault))
    elif fault == "raise":
        raise ZeroDivisionError("the stand-in divides by zero")
    elif fault == "out of memory":
        raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    elif fault == "exit":
        os._exit(3)
    elif fault == "hang":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("stand-in: hangs", flush=True)
        time.sleep(3600)
    elif fault == "fill memory":
        import resource

        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + 2**26, resource.RLIM_INFINITY))
        held = []
        while True:
            held.append(bytearray(2**23))


if __name__ == "__main__":
    stack.trainer = lambda: (train, FakeCheckpoint)
    TrainerLoop._confine = lambda self: None  # asks torch for a GPU
    sys.exit(main(sys.argv[1:], COMMAND))
