"""The flagship sweep: language models of ten sizes on real text and on a language of known entropy.

    PYTHONPATH=. python data/language_model/make.py --text corpus --out OUT                # all, on every GPU
    PYTHONPATH=. python data/language_model/make.py --text corpus --out OUT --minutes 25   # a piece; again to go on

`corpus` is what `corpus.py` wrote (``train.bin`` and ``heldout.bin``, plain or .xz). For each size the learning
rate is swept, in the standard parametrization and in muP; the best one of the standard parametrization then
trains the size to all horizons: the longest as one run with a constant rate and a final decay (wsd), the
shorter ones as branches that leave it where their own decay begins, which makes each exactly the run that
its probe describes (`workbench.probes.fork`). The largest size takes its rate from the trend of the smaller
ones, so that it can start first. Beside that: batch sizes at three sizes, and constant, cosine and wsd
schedules with full curves at three sizes.

Runs that are shipped beside this script count as done, unless --anew is given.
One process a GPU claims one job after the other; a job is a stack of runs, and every finished run is one
line in ``OUT/runs-<process>.jsonl``, on disk before the next begins. Where branches leave, the long run's
state is kept, and any process trains them. A killed or stopped sweep goes on where it was, job by job.
"""

from __future__ import annotations

import argparse
import json
import lzma
import math
import multiprocessing
import os
import platform
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pandas as pd

from workbench.probes import Probe

sys.path.insert(0, str(Path(__file__).parent))
from plan import HORIZONS, SIZES, TEXT, Job, base, final, jobs, stacks


def shipped() -> dict[str, dict]:
    """The runs beside this script, by id: their learning rate, loss and status."""
    tuning, runs = (pd.read_csv(Path(__file__).parent / name) for name in ("tuning.csv", "runs.csv"))
    rows = pd.concat([tuning, runs.assign(status="finished")])
    return {row["run"]: row for row in rows[["run", "lr", "loss", "status"]].to_dict("records")}


def finished(out: Path, files: set[str] | None = None) -> dict[str, dict]:
    """Finished runs of all processes, or of those that wrote `files`, by id."""
    found = {}
    for path in sorted(out.glob("runs-*.jsonl")):
        if files is not None and path.name not in files:
            continue
        for line in path.read_text().splitlines(keepends=True):
            if line.endswith("\n"):  # a kill may have torn the last one
                run = json.loads(line)
                found[run["id"]] = run
    return found


class Worker:
    """One process: claims jobs whose needs are met, until none is left or the time is over."""

    def __init__(self, options: argparse.Namespace, rank: int, end: float) -> None:
        self.options, self.rank, self.end = options, rank, end
        self.shipped = {} if options.anew else shipped()
        self.file = options.out / f"runs-{rank}.jsonl"
        if self.file.exists() and not self.file.read_bytes().endswith(b"\n"):
            whole = self.file.read_bytes().rpartition(b"\n")[0]
            self.file.write_bytes(whole + b"\n" if whole else b"")

    def out_of_time(self) -> bool:
        return time.time() > self.end

    def run(self) -> None:
        from workbench.probes.backend import select_device

        self.device = str(select_device(self.options.device))
        last = len(SIZES) - 1  # the longest run of all begins first; its tuning decides nothing and can wait
        order = sorted(
            [j for j in jobs() if any(fnmatch(j.name, only) for only in self.options.only)],
            key=lambda job: (job.kind not in ("final", "branch") and job.size == last, -job.work),
        )
        while not self.out_of_time():
            known = self.known()
            todo = [(job, stacks(job, known)) for job in order]
            todo = [(j, s) for j, s in todo if s is None or any(p.id not in known for stack in s for p in stack)]
            if not todo:
                return
            for job, planned in todo:
                if planned is not None and self.ready(job, planned, known) and self.claim(job):
                    break
            else:
                time.sleep(1.0)  # all that is left is claimed, or waits for a learning rate or its trunk
                continue
            try:
                known = self.known()  # another process may have just done it
                for probes in planned:
                    self.stack(probes, job, known)
            finally:
                (self.options.out / f"{job.name}.claim").unlink(missing_ok=True)

    def known(self) -> dict[str, dict]:
        """What need not be trained, by id."""
        return self.shipped | finished(self.options.out)

    def claim(self, job: Job) -> bool:
        try:
            with (self.options.out / f"{job.name}.claim").open("x") as file:
                file.write(str(os.getpid()))
        except FileExistsError:
            return False
        return True

    def ready(self, job: Job, planned: list[list[Probe]], known: dict[str, dict]) -> bool:
        return job.kind != "branch" or all(self.state(p).exists() for p in planned[0] if p.id not in known)

    def state(self, branch: Probe) -> Path:
        """Where the trunk's state waits for this branch."""
        return self.options.out / "states" / branch.id

    def stack(self, probes: list[Probe], job: Job, known: dict[str, dict]) -> None:
        """Train the runs that are not done, and note them; what time cuts short is not noted."""
        from workbench.probes.checkpoint import Checkpoint
        from workbench.probes.fork import fork
        from workbench.probes.trainer import train

        todo = [probe for probe in probes if probe.id not in known]
        if not todo or self.out_of_time():
            return
        begin, options = time.monotonic(), {}
        base_, lr = base(job.language, job.size), todo[0].lr
        if job.kind == "branch":
            trunks = [final(base_, lr, 0, probe.seed) for probe in todo]
            options["states"] = [
                fork(Checkpoint.read(self.state(b)), t, b) for t, b in zip(trunks, todo, strict=True)
            ]  # fmt: skip
        if job.kind == "final":
            options |= self.leaving(todo, base_, lr)
        results = train(todo, self.device, should_stop=self.out_of_time, **options)
        if not any(result.status == "stopped" for result in results):
            level = {"level": job.level} if job.kind in ("final", "branch") else {}
            self.keep(results, job, time.monotonic() - begin, **level)

    def leaving(self, trunks: list[Probe], base_: Probe, lr: float) -> dict:
        """Options of `train` that keep the trunks' states where their branches leave, and go on from the last kept."""
        from workbench.probes.checkpoint import Checkpoint
        from workbench.probes.fork import branch_point

        branches = {level: [final(base_, lr, level, t.seed) for t in trunks] for level in range(1, HORIZONS)}
        points = {branch_point(trunks[0], found[0]): found for found in branches.values()}

        def keep(states: list) -> None:
            for branch, state in zip(points.get(states[0].step, ()), states, strict=False):
                state.write(self.state(branch))

        kept = [step for step, found in points.items() if all(self.state(b).exists() for b in found)]
        start = {"states": [Checkpoint.read(self.state(b)) for b in points[max(kept)]]} if kept else {}
        wanted = tuple(step for step in points if step not in kept)
        return {**start, "on_checkpoint": keep, "checkpoint_seconds": math.inf, "checkpoint_steps": wanted}

    def keep(self, results: list, job: Job, wall: float, **extra) -> None:
        stage = "final" if job.kind == "branch" else job.kind
        with self.file.open("a") as file:
            for result in results:
                curve = {name: [r.get(name) for r in result.records] for name in result.records[-1]}
                run = {**result.row(), **extra, "probe": result.probe.to_dict(), "stage": stage, "wall": wall,
                       "language": job.language, "curve": curve, "how": result.provenance}  # fmt: skip
                file.write(json.dumps(run) + "\n")
            file.flush()
            os.fsync(file.fileno())
        tokens = sum(r.probe.tokens for r in results)
        best = min(r.loss for r in results)
        print(
            f"{datetime.now(UTC):%H:%M:%S} [{self.rank}] {job.name:28s} {len(results)} x {results[0].probe.tokens:11d} "
            f"tokens  {wall:7.1f} s  {tokens / wall / 1e6:7.2f} Mtok/s  "
            f"{sum(r.probe.flops for r in results) / wall / 1e12:6.1f} TFLOP/s  loss {best:.4f}",
            flush=True,
        )


def unpack(folder: Path) -> str:
    """Register the text on this machine; returns the checksum of its tokens."""
    from workbench.probes.tasks.corpus import register, write_corpus

    parts = []
    for name in ("train", "heldout"):
        plain, packed = folder / f"{name}.bin", folder / f"{name}.bin.xz"
        data = plain.read_bytes() if plain.exists() else lzma.decompress(packed.read_bytes())
        parts.append(np.frombuffer(data, np.uint8))
    target = Path(os.environ.get("TMPDIR", "/tmp")) / "workbench-language-model"
    made = write_corpus(
        target, *parts, 256, name="linux-source-6.1: C and documentation, bytes", heldout_bytes=len(parts[1])
    )
    return register(made)


def one_process(options: argparse.Namespace, gpu: int | None, end: float) -> None:
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(gpu)
    Worker(options, gpu or 0, end).run()


class Piece:
    """What one call of this script did and cost, kept in ``provenance-<begin>.json`` while it runs."""

    def __init__(self, options: argparse.Namespace, names: list[str]) -> None:
        self.options, self.names = options, names
        self.begin, self.before = datetime.now(UTC), set(finished(options.out))
        name = f"{self.begin:%Y%m%dT%H%M%S}-{os.getpid()}"
        self.file, self.power = options.out / f"provenance-{name}.json", options.out / f"power-{name}.csv"

    def write(self) -> None:
        import torch

        files = {f"runs-{gpu or 0}.jsonl" for gpu in self.options.gpus}
        new = [run for key, run in finished(self.options.out, files).items() if key not in self.before]
        end = datetime.now(UTC)
        facts = {
            "gpus": self.names, "python": platform.python_version(), "torch": torch.__version__,
            "cuda": torch.version.cuda, "commit": self.options.commit or head(), "begin": self.begin.isoformat(),
            "end": end.isoformat(), "seconds": (end - self.begin).total_seconds(), "runs": len(new),
            "energy": self.energy((end - self.begin).total_seconds()),
        }  # fmt: skip
        temporary = self.file.with_suffix(".tmp")
        temporary.write_text(json.dumps(facts, indent=1))
        temporary.replace(self.file)

    def energy(self, seconds: float) -> dict | None:
        """Joules drawn by this piece's GPUs, from power samples; None without any."""
        lines = self.power.read_text().splitlines() if self.power.exists() else []
        watts = [float(line.split()[0]) for line in lines if line.endswith("W")]
        if not watts:
            return None
        mean = float(np.mean(watts))
        return {
            "joules": round(mean * len(self.names) * seconds, -3), "mean_watts_a_gpu": round(mean, 1),
            "max_watts": max(watts), "how": f"nvidia-smi's power draw, {len(watts)} samples, one every 2 s a GPU",
        }  # fmt: skip


def head() -> str | None:
    """Commit of this checkout, if it is one."""
    if not shutil.which("git"):
        return None
    told = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent)
    return told.stdout.strip() or None


def list_gpus() -> list[str]:
    """Names of this machine's GPUs."""
    listed = (
        subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True) if shutil.which("nvidia-smi") else None
    )
    return [line.split(" (")[0] for line in listed.stdout.splitlines()] if listed and listed.returncode == 0 else []


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder for the results; several calls may share it")
    add("--text", type=Path, help="folder of the text, as corpus.py writes it")
    add("--device", default="auto")
    add("--gpus", type=int, nargs="+", help="numbers of the GPUs to use (default: all)")
    add("--minutes", type=float, default=math.inf, help="stop cleanly after this long")
    add("--only", nargs="+", default=["*"], help="patterns of job names, such as 'known-[0-5]-*'")
    add("--anew", action="store_true", help="train what is shipped beside this script, too")
    add("--commit", help="of the code, where it runs outside its repository")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    for claim in options.out.glob("*.claim"):
        if not Path(f"/proc/{claim.read_text() or 0}").exists():
            claim.unlink(missing_ok=True)
    if options.text is not None:
        checksum = unpack(options.text)
        if not checksum.startswith(TEXT):
            raise SystemExit(f"the text in {options.text} has checksum {checksum[:16]}, not {TEXT}.")
    names = list_gpus() if options.device != "cpu" else []
    options.gpus = (options.gpus or list(range(len(names)))) if names else [None]
    end, power = time.time() + 60 * options.minutes, None
    piece = Piece(options, [names[gpu] for gpu in options.gpus] if names else [])
    if names:
        query = ["nvidia-smi", "--query-gpu=power.draw", "--format=csv,noheader", "-l", "2"]
        power = subprocess.Popen([*query, "-i", ",".join(map(str, options.gpus))], stdout=piece.power.open("w"))
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=one_process, args=(options, gpu, end)) for gpu in options.gpus]
    try:
        for worker in workers:
            worker.start()
        while any(worker.is_alive() for worker in workers):
            workers[0].join(10.0)
            piece.write()
    finally:
        if power is not None:
            power.terminate()
        piece.write()


if __name__ == "__main__":
    main()
