"""Speed of loading logs beside other readers, in one run: ``python benchmarks/load_speed.py [--quick] [FOLDER]``.

1,000 runs of 10,000 points each (``--quick``: 100 of 1,000) are written to FOLDER, or to a temporary folder, as
TensorBoard event files (a tenth of the size with ``--quick``) and as JSON Lines. Then, each in a process of its own
that reports its time and its peak memory:

1. `workbench.load` of all runs, with every curve looked at, without the cache; then twice with it;
2. TensorBoard's ``EventAccumulator``, which `tbparse` and others rest on, and `tbparse` itself, on some of the runs;
3. pandas fed line by line, and ``pandas.read_json(lines=True)``, on some of the runs.

Peers read fewer runs because they would take many minutes. Beside the seconds stand those of the processor, which a
busy machine disturbs less; ratios are of the latter, per point. Every reader returns the sum of what it read, and the
sums of the same runs must agree: a fast answer to another question is no answer.

The event files are those of torch's SummaryWriter with other values put in and checksums computed anew, which is much
faster than writing ten million events; TensorBoard checks them as it reads.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np  # noqa: E402 (the variables above must be set first)

ROOT = Path(__file__).resolve().parents[1]

OURS = """
import workbench, pandas
workbench.load
begin, idle = time.perf_counter(), time.process_time()
runs = workbench.load(folder, cache=cached)
loaded = time.perf_counter() - begin
total = sum(float(runs.curves[run]["loss"].sum()) for run in runs.ids) if look else 0.0
points = sum(len(runs.curves[run]) for run in runs.ids) if look else 0
assert len(runs) == len(names) and (runs["problem"] == "").all() and len(runs.curves) == len(names)
"""
ACCUMULATOR = """
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
begin, idle = time.perf_counter(), time.process_time()
total = points = 0
for name in names:
    read = EventAccumulator(f"{folder}/{name}", size_guidance={"scalars": 0})
    read.Reload()
    values = [event.value for event in read.Scalars("loss")]
    total, points = total + sum(values), points + len(values)
loaded = time.perf_counter() - begin
"""
TBPARSE = """
from tbparse import SummaryReader
begin, idle = time.perf_counter(), time.process_time()
total = points = 0
for name in names:
    values = SummaryReader(f"{folder}/{name}").scalars["value"]
    total, points = total + float(values.sum()), points + len(values)
loaded = time.perf_counter() - begin
"""
LINES = """
import pandas as pd
begin, idle = time.perf_counter(), time.process_time()
total = points = 0
for name in names:
    with open(f"{folder}/{name}.jsonl") as file:
        frame = pd.DataFrame([json.loads(line) for line in file])
    total, points = total + float(frame["loss"].sum()), points + len(frame)
loaded = time.perf_counter() - begin
"""
READ_JSON = """
import pandas as pd
begin, idle = time.perf_counter(), time.process_time()
total = points = 0
for name in names:
    frame = pd.read_json(f"{folder}/{name}.jsonl", lines=True)
    total, points = total + float(frame["loss"].sum()), points + len(frame)
loaded = time.perf_counter() - begin
"""
FRAME = """
import json, resource, sys, time
folder, names, cached, look = json.loads(sys.argv[1])
begin, idle = time.perf_counter(), time.process_time()
{code}
seconds, busy = time.perf_counter() - begin, time.process_time()
try:  # of this program alone; the other one remembers the parent's
    status = open("/proc/self/status").read()
    peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
except (OSError, ValueError, IndexError):
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([loaded, seconds, busy - idle, peak, points, total]))
"""


def measured(code: str, folder: Path, names: list[str], cached: bool = False, look: bool = True) -> dict:
    """One reader in a process of its own: seconds until loaded, in all, of the processor; peak MiB, points, sum."""
    argument = json.dumps([str(folder), names, cached, look])
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FRAME.format(code=code), argument],
        capture_output=True, text=True, env=environment,
    )  # fmt: skip
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["no output"])[-1][:120]}
    names = ("loaded", "seconds", "processor", "peak", "points", "total")
    return dict(zip(names, json.loads(done.stdout.splitlines()[-1]), strict=True))


def write_events(folder: Path, runs: int, points: int) -> None:
    """Event files of one tag `loss`, as torch's SummaryWriter leaves them."""
    from torch.utils.tensorboard import SummaryWriter

    from workbench.runs.event_file import _masked

    with SummaryWriter(str(folder / "template")) as writer:
        for step in range(points):
            writer.add_scalar("loss", 1.0, step)
    (template,) = (folder / "template").glob("*")
    data = np.frombuffer(template.read_bytes(), np.uint8)
    starts, at = [], 0
    while at < len(data):
        starts.append(at)
        at += 16 + int(data[at : at + 8].view("<u8")[0])
    one = np.frombuffer(np.float32(1.0).tobytes(), np.uint8)
    lengths = np.diff([*starts, len(data)])
    starts = np.array(starts)
    rng = np.random.default_rng(0)
    for run in range(runs):
        bytes_ = data.copy()
        values = loss_curve(rng, points).astype("<f4")
        for length in np.unique(lengths[1:]):  # the first record is the version
            rows = np.flatnonzero(lengths == length)
            rows = rows[rows > 0]
            matrix = bytes_[starts[rows][:, None] + np.arange(length)]
            (place,) = [p for p in range(12, length - 7) if (matrix[:, p : p + 4] == one).all()][-1:]
            matrix[:, place : place + 4] = values[rows - 1].copy().view(np.uint8).reshape(-1, 4)
            matrix[:, -4:] = _masked(matrix[:, 12:-4]).astype("<u4").view(np.uint8).reshape(-1, 4)
            bytes_[starts[rows][:, None] + np.arange(length)] = matrix
        (folder / f"run{run:04d}").mkdir()
        (folder / f"run{run:04d}" / template.name).write_bytes(bytes_.tobytes())
    template.unlink()
    template.parent.rmdir()


def write_lines(folder: Path, runs: int, points: int) -> None:
    """One JSON Lines file a run: step, loss, and a learning rate."""
    rng = np.random.default_rng(0)
    for run in range(runs):
        values = loss_curve(rng, points)
        lines = [
            f'{{"step": {step}, "loss": {value!r}, "lr": {3e-4 * (1 - step / points)!r}}}\n'
            for step, value in enumerate(values.tolist())
        ]
        (folder / f"run{run:04d}.jsonl").write_text("".join(lines))


def loss_curve(rng: np.random.Generator, points: int) -> np.ndarray:
    return 2 + 8 * (1 + np.arange(points)) ** -0.3 + 0.05 * rng.standard_normal(points)


def row(name: str, found: dict, per_point: float | None = None, goal: str = "") -> float:
    """Print one reader; returns its seconds per point."""
    if "error" in found:
        print(f"  {name:44} failed: {found['error']}")
        return float("nan")
    own = found["processor"] / max(found["points"], 1)
    ratio = f"{own / per_point:8.1f} x" if per_point else " " * 10
    spent = f"{found['seconds']:7.2f} s {found['processor']:7.2f} s"
    points = f"{found['points']:>11,} points {own * 1e6:8.3f} us/point"
    print(f"  {name:44} {spent} {points} {ratio} {found['peak']:7.0f} MiB  {goal}")
    return own


def compare(title: str, folder: Path, names: list[str], points: int, peers: dict[str, tuple[str, int]]) -> None:
    print(f"{title}: {len(names):,} runs x {points:,} points, {size(folder) / 1e6:,.0f} MB")
    ours = measured(OURS, folder, names)
    per_point = row("workbench, no cache, every curve looked at", ours, goal="goal: below 2048 MiB")
    for peer, (code, runs) in peers.items():
        some = names[:: max(1, len(names) // runs)]
        found = measured(code, folder, some)
        row(peer, found, per_point)
        if "error" not in found:
            part = measured(
                "import workbench\nruns = workbench.load([f'{folder}/{n}' for n in names], cache=False)\n"
                "loaded = points = 0\ntotal = sum(float(runs.curves[r]['loss'].sum()) for r in runs.ids)",
                folder, [f"{n}.jsonl" if (folder / f"{n}.jsonl").exists() else n for n in some],
            )  # fmt: skip
            agree = abs(part["total"] - found["total"]) <= 1e-6 * abs(found["total"])
            print(f"  {'':44} {'the same sum' if agree else 'ANOTHER SUM'} as workbench on these {len(some)} runs")
    first = measured(OURS, folder, names, cached=True)
    row("workbench, first load that fills the cache", first, per_point)
    second = measured(OURS, folder, names, cached=True, look=False)
    print(f"  {'workbench, second load from the cache':44} {second.get('loaded', float('nan')):8.2f} s{'':>53} "
          f"{second.get('peak', 0):7.0f} MiB  goal: below 1 s")  # fmt: skip
    third = measured(OURS, folder, names, cached=True)
    row("workbench, the same with every curve looked at", third, per_point)
    same = third.get("total") == ours.get("total") == first.get("total")
    print(f"  {'':44} {'the same sum' if same else 'ANOTHER SUM'} with and without the cache\n")


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="100 runs of 1,000 points")
    parser.add_argument("--peers", type=int, help="runs that the peers read (default 20)", default=20)
    parser.add_argument("folder", nargs="?", help="where to write the logs; kept, and used again if they are there")
    arguments = parser.parse_args()
    runs, points = (100, 1000) if arguments.quick else (1000, 10_000)
    with tempfile.TemporaryDirectory() as temporary:
        top = Path(arguments.folder or temporary)
        os.environ["WORKBENCH_CACHE"] = str(Path(temporary) / "cache")
        events, lines = top / f"events-{runs}-{points}", top / f"lines-{runs}-{points}"
        for folder, write in ((events, write_events), (lines, write_lines)):
            if not folder.exists():
                folder.mkdir(parents=True)
                begin = time.perf_counter()
                write(folder, runs, points)
                print(f"wrote {folder.name} in {time.perf_counter() - begin:.0f} s")
        time.sleep(2.1)  # files written a moment ago are not kept
        names = [f"run{run:04d}" for run in range(runs)]
        few = arguments.peers
        peers = {"TensorBoard's EventAccumulator": (ACCUMULATOR, few), "tbparse": (TBPARSE, max(1, few // 4))}
        compare("TensorBoard event files", events, names, points, peers)
        peers = {"pandas, line by line": (LINES, few), "pandas.read_json(lines=True)": (READ_JSON, few)}
        compare("JSON Lines", lines, names, points, peers)


if __name__ == "__main__":
    main()
