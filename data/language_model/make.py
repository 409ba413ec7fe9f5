"""The flagship sweep: language models of ten sizes on real text and on a language of known entropy.

    python data/language_model/make.py --text corpus --out OUT                # everything, on all GPUs
    python data/language_model/make.py --text corpus --out OUT --minutes 25   # a piece; run again to go on

`corpus` is what `corpus.py` wrote (``train.bin`` and ``heldout.bin``, plain or .xz). For each size the learning
rate is swept, in the standard parametrization and in muP; the best one of the standard parametrization then
trains the size to all horizons: the longest as one run with a constant rate and a final decay (wsd), the
shorter ones as branches that leave it where their own decay begins, which makes each exactly the run that
its probe describes (`workbench.probes.fork`). Beside that: batch sizes at three sizes, and constant, cosine
and wsd schedules with full curves at three sizes.

One process a GPU claims one job after the other; a job is a stack of runs, and every finished run is one
line in ``OUT/runs-<process>.jsonl``, on disk before the next begins. A killed or stopped sweep goes on where
it was, job by job.
"""

from __future__ import annotations

import argparse
import json
import lzma
import math
import multiprocessing
import os
import platform
import subprocess
import time
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from workbench.probes import Probe

#: Checksum of the text's tokens (`workbench.probes.tasks.corpus`), part of every probe's id.
TEXT = "97978a41f6cb2591"

#: width, depth, tokens a batch. Non-embedding parameters are 12 depth width^2: 49 thousand to 29.5 million.
SIZES = (
    (64, 1, 2048), (64, 2, 4096), (128, 1, 4096), (128, 2, 8192), (192, 2, 16384), (256, 2, 16384),
    (256, 4, 32768), (384, 4, 32768), (512, 4, 65536), (640, 6, 131072),
)  # fmt: skip
#: Longest horizon in tokens per non-embedding parameter; the others are halves of it.
LONGEST, HORIZONS = 104, 6
#: Learning rates tried: all for small models, the middle of them for large ones.
RATES = tuple(2.0**k for k in range(-12, -4))
SEVERAL_SEEDS = (1, 3, 5, 6)  # sizes whose cells are trained with three seeds: 24 of 60
BATCHES, SCHEDULES = (2, 4, 6), (2, 4, 6)  # sizes of the batch and of the schedule studies
WARMUP_SHARE = 0.008  # of the longest horizon; the same number of steps for all horizons of a size
PARAMETRIZATIONS = ("standard", "mup")


@dataclass(frozen=True)
class Job:
    """Runs that one process trains before it looks for more work.

    Attributes:
        name: unique; what is claimed.
        kind: ``tune``, ``final``, ``batch`` or ``schedule``.
        language: ``text`` or ``known``.
        size: index in `SIZES`.
        parametrization: of the tuning.
        work: predicted FLOPs; large jobs are claimed first.
    """

    name: str
    kind: str
    language: str
    size: int
    parametrization: str
    work: float


def base(language: str, size: int) -> Probe:
    """What all probes of a size share."""
    width, depth, batch = SIZES[size]
    task = {
        "text": {"task": "text", "corpus": "prepared", "checksum": TEXT, "vocab": 256, "heldout_tokens": 2**20},
        "known": {"task": "bigram", "vocab": 1024, "tau": 1.5, "s": 1.0},
    }[language]
    return Probe(
        **task, model="transformer", width=width, depth=depth, heads=width // 64, context=256, batch_tokens=batch,
        tokens=batch, precision="bf16", beta2=0.95, weight_decay=0.1, clip=1.0, evals=1,
    )  # fmt: skip


def horizon(probe: Probe, share: float) -> int:
    """Tokens of `share` of the longest horizon, in whole batches."""
    return max(1, round(probe.params_non_embedding * LONGEST * share / probe.batch_tokens)) * probe.batch_tokens


def final(probe: Probe, lr: float, level: int, seed: int) -> Probe:
    """The run at horizon `level` (0 the longest, each next one half as long)."""
    warm = max(5, round(WARMUP_SHARE * horizon(probe, 1) / probe.batch_tokens))
    tokens = horizon(probe, 0.5**level)
    return probe.replace(
        tokens=tokens, lr=lr, seed=seed, schedule="wsd", warmup=warm * probe.batch_tokens / tokens, decay=0.2,
        evals=40 if level == 0 else 1,
    )  # fmt: skip


def tuning(probe: Probe, size: int, parametrization: str) -> list[Probe]:
    """The learning-rate sweep of a size: a short horizon, all rates."""
    level = 2 if size < 7 else 3 if size < 9 else 5
    rates = RATES if size < 7 else RATES[1:6] if size < 9 else RATES[1:5]
    if parametrization == "mup" and size >= 7:  # the best rate does not fall with width, so the window may not either
        rates = RATES[1:7] if size < 9 else RATES[3:7]
    short = final(probe, 1.0, level, seed=1000).replace(parametrization=parametrization, base_width=64)
    return [short.replace(lr=lr) for lr in rates]


def jobs(languages: list[str], sizes: list[int]) -> list[Job]:
    """All jobs of the sweep, in no order."""
    found = []
    for language in languages:
        for size in sizes:
            probe = base(language, size)
            work = 6.0 * probe.params * horizon(probe, 1)
            seeds = 3 if size in SEVERAL_SEEDS else 1
            for p in PARAMETRIZATIONS:
                runs = tuning(probe, size, p)
                found.append(Job(f"{language}-{size}-tune-{p}", "tune", language, size, p, sum(r.flops for r in runs)))
            found.append(Job(f"{language}-{size}-final", "final", language, size, "", 1.2 * work * seeds))
            if size in BATCHES and language == "text":
                found.append(Job(f"{language}-{size}-batch", "batch", language, size, "", work))
            if size in SCHEDULES and language == "text":
                found.append(Job(f"{language}-{size}-schedule", "schedule", language, size, "", work))
    return found


class Done:
    """Finished runs of all processes, by id."""

    def __init__(self, out: Path) -> None:
        self.out = out

    def runs(self) -> dict[str, dict]:
        found = {}
        for path in sorted(self.out.glob("runs-*.jsonl")):
            for line in path.read_text().splitlines(keepends=True):
                if line.endswith("\n"):  # a kill may have torn the last one
                    run = json.loads(line)
                    found[run["id"]] = run
        return found


class Worker:
    """One process: claims jobs whose needs are met, until none is left or the time is over."""

    def __init__(self, options: argparse.Namespace, rank: int, end: float) -> None:
        self.options, self.rank, self.end = options, rank, end
        self.done = Done(options.out)
        self.file = options.out / f"runs-{rank}.jsonl"
        if self.file.exists() and not self.file.read_bytes().endswith(b"\n"):
            whole = self.file.read_bytes().rpartition(b"\n")[0]
            self.file.write_bytes(whole + b"\n" if whole else b"")

    def out_of_time(self) -> bool:
        return time.time() > self.end

    def run(self) -> None:
        from workbench.probes.backend import select_device

        self.device = str(select_device(self.options.device))
        todo = sorted(jobs(self.options.languages, self.options.sizes), key=lambda job: (job.size == 9, -job.work))
        while not self.out_of_time():
            known = self.done.runs()
            open_jobs = [job for job in todo if not (self.options.out / f"{job.name}.done").exists()]
            if not open_jobs:
                return
            for job in open_jobs:
                if self.ready(job, known) and self.claim(job):
                    break
            else:
                time.sleep(1.0)  # all that is left is claimed, or waits for a learning rate
                continue
            try:
                if self.work(job, known):
                    (self.options.out / f"{job.name}.done").touch()
            finally:
                (self.options.out / f"{job.name}.claim").unlink(missing_ok=True)

    def claim(self, job: Job) -> bool:
        try:
            (self.options.out / f"{job.name}.claim").touch(exist_ok=False)
        except FileExistsError:
            return False
        return not (self.options.out / f"{job.name}.done").exists()

    def ready(self, job: Job, known: dict[str, dict]) -> bool:
        return job.kind == "tune" or self.best_rate(job, known) is not None

    def best_rate(self, job: Job, known: dict[str, dict]) -> float | None:
        """Vertex of the parabola in log lr through the best tuned rate and its neighbours; None if not tuned yet."""
        runs = [known.get(p.id) for p in tuning(base(job.language, job.size), job.size, "standard")]
        if None in runs:
            return None
        losses = [run["loss"] if run["status"] == "finished" else math.inf for run in runs]
        rates = [run["lr"] for run in runs]
        at = int(np.argmin(losses))
        x, y = np.log(rates[max(0, at - 1) : at + 2]), np.array(losses[max(0, at - 1) : at + 2])
        if len(x) < 3 or not np.isfinite(y).all():
            return rates[at]
        curvature, slope, _ = np.polyfit(x - x[1], y, 2)
        return float(f"{np.exp(np.clip(x[1] - slope / (2 * curvature), x[0], x[2])):.4g}")

    def work(self, job: Job, known: dict[str, dict]) -> bool:
        """Train the job's runs that are not done; False if time ran out."""
        probe = base(job.language, job.size)
        if job.kind == "tune":
            return self.stack(tuning(probe, job.size, job.parametrization), job, known)
        lr = self.best_rate(job, known)
        if job.kind == "final":
            return self.trunk(probe, lr, range(3 if job.size in SEVERAL_SEEDS else 1), job, known)
        tokens = horizon(probe, 0.25)
        if job.kind == "batch":
            for factor in (0.25, 0.5, 2, 4):
                batch = int(probe.batch_tokens * factor)
                other = final(probe, lr, 2, 2000).replace(batch_tokens=batch, tokens=tokens // batch * batch)
                scaled = [other.replace(lr=float(f"{lr * factor**power:.4g}")) for power in (0.0, 0.5)]
                if not self.stack(scaled, job, known):
                    return False
            return True
        named = final(probe, lr, 1, 3000).replace(evals=100, eval_spacing="linear")
        return self.stack([named.replace(schedule=s) for s in ("constant", "cosine", "wsd")], job, known)

    def stack(self, probes: list[Probe], job: Job, known: dict[str, dict]) -> bool:
        from workbench.probes.trainer import train

        todo = [probe for probe in probes if probe.id not in known]
        if not todo:
            return True
        begin = time.monotonic()
        results = train(todo, self.device, should_stop=self.out_of_time)
        if any(result.status == "stopped" for result in results):
            return False
        self.keep(results, job, time.monotonic() - begin)
        return True

    def trunk(self, probe: Probe, lr: float, seeds: range, job: Job, known: dict[str, dict]) -> bool:
        """The longest horizon, and every shorter one as a branch from it."""
        from workbench.probes.fork import branch_point, fork
        from workbench.probes.trainer import train

        trunks = [final(probe, lr, 0, seed) for seed in seeds]
        branches = {level: [final(probe, lr, level, seed) for seed in seeds] for level in range(1, HORIZONS)}
        wanted = {branch_point(trunks[0], b[0]): level for level, b in branches.items() if b[0].id not in known}
        if not wanted and trunks[0].id in known:
            return True
        kept: dict[int, list] = {}
        begin = time.monotonic()

        def keep(states: list) -> None:
            if states[0].step in wanted:
                kept[wanted[states[0].step]] = states

        results = train(
            trunks, self.device, should_stop=self.out_of_time, on_checkpoint=keep, checkpoint_seconds=math.inf,
            checkpoint_steps=tuple(wanted),
        )  # fmt: skip
        if results[0].status == "stopped":
            return False
        self.keep(results, job, time.monotonic() - begin, level=0)
        for level, states in sorted(kept.items()):
            begin = time.monotonic()
            forked = [fork(s, t, b) for s, t, b in zip(states, trunks, branches[level], strict=True)]
            results = train(branches[level], self.device, states=forked, should_stop=self.out_of_time)
            if results[0].status == "stopped":
                return False
            self.keep(results, job, time.monotonic() - begin, level=level)
        return True

    def keep(self, results: list, job: Job, wall: float, **extra) -> None:
        with self.file.open("a") as file:
            for result in results:
                curve = {name: [r.get(name) for r in result.records] for name in result.records[-1]}
                run = {**result.row(), **extra, "probe": result.probe.to_dict(), "stage": job.kind, "wall": wall,
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


def one_process(options: argparse.Namespace, rank: int, gpus: int, end: float) -> None:
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(rank % gpus)
    Worker(options, rank, end).run()


def provenance(options: argparse.Namespace, begin: datetime, before: dict, gpus: list[str], sampled: int) -> None:
    """Append this piece to provenance.json: where it ran, what it cost."""
    import torch

    runs = Done(options.out).runs()
    new = [run for key, run in runs.items() if key not in before]
    path = options.out / "provenance.json"
    pieces = json.loads(path.read_text()) if path.exists() else []
    end = datetime.now(UTC)
    pieces.append(
        {
            "gpus": gpus, "python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__,
            "cuda": torch.version.cuda, "commit": options.commit or head(), "begin": begin.isoformat(),
            "end": end.isoformat(), "seconds": (end - begin).total_seconds(), "runs": len(new),
            "flops": sum(run["flops"] for run in new), "joules": energy(begin, end, options.out, sampled),
        }
    )  # fmt: skip
    path.write_text(json.dumps(pieces, indent=1))
    print(f"{len(new)} new runs, {len(runs)} in all, {sum(r['flops'] for r in runs.values()):.3g} FLOP in all")


def head() -> str | None:
    """Commit of this checkout, if it is one."""
    if not which("git"):
        return None
    told = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent)
    return told.stdout.strip() or None


def energy(begin: datetime, end: datetime, out: Path, skip: int) -> float | None:
    """Joules drawn by all GPUs, from the power samples behind the `skip` bytes of earlier pieces; None without any."""
    path = out / "power.csv"
    if not path.exists():
        return None
    lines = path.read_bytes()[skip:].decode().splitlines()
    samples = [float(line.split(",")[-1].split()[0]) for line in lines if line[-1:] == "W"]
    return float(np.mean(samples)) * (end - begin).total_seconds() * count_gpus() if samples else None


def count_gpus() -> int:
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True) if which("nvidia-smi") else None
    return len(listed.stdout.splitlines()) if listed and listed.returncode == 0 else 0


def which(name: str) -> str | None:
    import shutil

    return shutil.which(name)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder for the results")
    add("--text", type=Path, help="folder of the text, as corpus.py writes it")
    add("--device", default="auto")
    add("--minutes", type=float, default=math.inf, help="stop cleanly after this long")
    add("--languages", nargs="+", default=["text", "known"], choices=["text", "known"])
    add("--sizes", type=int, nargs="+", default=list(range(len(SIZES))), help="positions in SIZES")
    add("--a-gpu", type=int, default=1, help="processes a GPU")
    add("--commit", help="of the code, where it runs outside its repository")
    add("--plan", action="store_true", help="print what would be trained, and stop")
    return parser.parse_args()


def show(options: argparse.Namespace) -> None:
    total = 0.0
    by_kind: dict[tuple, float] = defaultdict(float)
    for job in sorted(jobs(options.languages, options.sizes), key=lambda job: -job.work):
        total += job.work
        by_kind[job.language, job.kind] += job.work
        print(f"{job.name:28s} {job.work:9.3g} FLOP")
    print("\n".join(f"{key}: {value:.3g} FLOP" for key, value in by_kind.items()), f"total {total:.3g} FLOP", sep="\n")


def main() -> None:
    options = arguments()
    if options.plan:
        show(options)
        return
    options.out.mkdir(parents=True, exist_ok=True)
    for claim in options.out.glob("*.claim"):
        claim.unlink()
    begin, before = datetime.now(UTC), Done(options.out).runs()
    if "text" in options.languages:
        checksum = unpack(options.text)
        if not checksum.startswith(TEXT):
            raise SystemExit(f"the text in {options.text} has checksum {checksum[:16]}, not {TEXT}.")
    gpus = count_gpus() if options.device != "cpu" else 0
    end = time.time() + 60 * options.minutes
    power, path = None, options.out / "power.csv"
    sampled = path.stat().st_size if path.exists() else 0
    if gpus:
        power = subprocess.Popen(
            ["nvidia-smi", "--query-gpu=power.draw", "--format=csv,noheader", "-l", "2"],
            stdout=path.open("a"),
        )  # fmt: skip
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=one_process, args=(options, rank, gpus, end))
        for rank in range(max(1, gpus) * options.a_gpu)
    ]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        if power is not None:
            power.terminate()
        names = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout if gpus else ""
        provenance(options, begin, before, [line.split(" (")[0] for line in names.splitlines()], sampled)


if __name__ == "__main__":
    main()
