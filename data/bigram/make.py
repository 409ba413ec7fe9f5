"""Train the sweep of this folder: transformers of many widths and horizons on the power-law bigram language.

    PYTHONPATH=. python data/bigram/make.py --device cuda --out DIR [--minutes 9] [--resume]
    PYTHONPATH=. python data/bigram/make.py --device cuda --out DIR --pilot

Stage 1 tunes the learning rate of every (width, horizon up to a cap) on seeds of its own; stage 2 trains every
(width, horizon) with fresh seeds at the chosen rate, extrapolated in log tokens beyond the cap. Each finished
run is one line of tuning.jsonl or runs.jsonl, written at once: a killed process loses the bucket it was
in, and --resume continues after it. provenance.json records the setting, versions and cost of every session.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import time
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from workbench.probes import Probe
from workbench.probes.backend import Backend, choose_backend, numerics, select_device
from workbench.probes.ensemble import Ensemble
from workbench.probes.result import Result
from workbench.probes.tasks.bigram import BigramLanguage
from workbench.probes.trainer import train

TUNING_SEEDS = (1000, 1001)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder for the results")
    add("--device", default="auto")
    add("--resume", action="store_true", help="continue what is in --out")
    add("--pilot", action="store_true", help="measure throughput, then run 3 widths x 3 horizons x 3 rates")
    add("--minutes", type=float, default=math.inf, help="stop cleanly after this long")
    add("--compile", action="store_true", help="torch.compile each bucket")
    add("--precision", default="tf32")
    add("--vocab", type=int, default=512)
    add("--tau", type=float, default=1.5)
    add("--s", type=float, default=1.0)
    add("--depth", type=int, default=1)
    add("--context", type=int, default=64)
    add("--batch-tokens", type=int, default=1024)
    add("--widths", type=int, nargs="+", default=[4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128])
    add("--log2-tokens", type=int, nargs="+", default=list(range(16, 25)), help="horizons, as powers of 2")
    add("--tune-to", type=int, default=21, help="largest horizon tuned, as a power of 2")
    add("--lrs", type=float, nargs="+", default=[0.002 * 2**i for i in range(7)], help="rates tried in stage 1")
    add("--seeds", type=int, default=3, help="fresh seeds of stage 2")
    add("--schedule", default="linear")
    add("--warmup", type=float, default=0.05)
    add("--evals", type=int, default=20, help="points on the curves of stage 2")
    options = parser.parse_args()
    if options.pilot:
        options.widths, options.log2_tokens = options.widths[::4][:3], options.log2_tokens[:3]
        options.lrs = options.lrs[2::2][:3]
    if not options.resume and any(options.out.glob("*.jsonl")):
        parser.error(f"{options.out} holds results already; give --resume or another folder")
    return options


class Log:
    """Finished runs by probe id, one JSON line each; a line torn by a kill is dropped on reading."""

    def __init__(self, path: Path) -> None:
        self.path, self.runs = path, {}
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        whole = [line for line in lines if line.endswith("\n")]
        if len(whole) < len(lines):
            path.write_text("".join(whole))
        for line in whole:
            run = json.loads(line)
            self.runs[run["id"]] = run

    def add(self, result: Result, **extra) -> None:
        curve = {name: [record[name] for record in result.records] for name in result.records[0]}
        run = {**result.row(), **extra, "curve": curve, "how": result.provenance}
        self.runs[run["id"]] = run
        with self.path.open("a") as file:
            file.write(json.dumps(run, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())


class Session:
    """The sweep: what is asked for, what is done, and until when to work."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.start = time.monotonic()
        self.tuning = Log(options.out / "tuning.jsonl")
        self.final = Log(options.out / "runs.jsonl")
        self.edges: set[tuple[int, int]] = set()

    def out_of_time(self) -> bool:
        return time.monotonic() - self.start > 60 * self.options.minutes

    def probe(self, width: int, log2_tokens: int, lr: float, seed: int, evals: int) -> Probe:
        o = self.options
        return Probe(
            vocab=o.vocab, tau=o.tau, s=o.s, width=width, depth=o.depth, heads=max(1, width // 32),
            context=o.context, tokens=2**log2_tokens, batch_tokens=o.batch_tokens, lr=lr, warmup=o.warmup,
            schedule=o.schedule, seed=seed, precision=o.precision, evals=evals,
        )  # fmt: skip

    def train(self, probes: list[Probe], log: Log, stage: str) -> bool:
        """Train what is not in the log yet, as one stack; False if time ran out before its end."""
        todo = [probe for probe in probes if probe.id not in log.runs]
        if not todo:
            return True
        if self.out_of_time():
            return False
        begin = time.monotonic()
        results = train(todo, self.options.device, should_stop=self.out_of_time, compile=self.options.compile)
        if any(result.status == "stopped" for result in results):
            return False
        for result in results:
            log.add(result, stage=stage.strip(), horizon=result.probe.tokens)
        wall = time.monotonic() - begin
        rate = sum(probe.tokens for probe in todo) / wall
        best = min((r.loss for r in results if r.status == "finished"), default=math.nan)
        print(
            f"{time.monotonic() - self.start:7.1f} s  {stage}  width {todo[0].width:4d}  tokens {todo[0].tokens:9d}  "
            f"stack {len(todo):3d}  wall {wall:6.2f} s  {rate / 1e6:8.3f} Mtok/s  best loss {best:.4f}",
            flush=True,
        )
        return True

    def tune(self, width: int, log2_tokens: int) -> bool:
        """Stage 1 of one cell; a best rate at the edge of the grid widens the grid twice at most."""
        rates = sorted(self.options.lrs)
        for _ in range(3):
            probes = [self.probe(width, log2_tokens, lr, seed, 1) for lr in rates for seed in TUNING_SEEDS]
            if not self.train(probes, self.tuning, "tune "):
                return False
            losses = self.tuned(width, log2_tokens)
            best = min(losses, key=losses.get)
            if best not in (min(losses), max(losses)):
                self.edges.discard((width, log2_tokens))
                return True
            self.edges.add((width, log2_tokens))
            rates = [best / 4, best / 2] if best == min(losses) else [best * 2, best * 4]
        return True

    def tuned(self, width: int, log2_tokens: int) -> dict[float, float]:
        """Mean loss over the tuning seeds by learning rate; infinite where a seed diverged."""
        losses = defaultdict(list)
        for run in self.tuning.runs.values():
            if (run["width"], run["horizon"]) == (width, 2**log2_tokens):
                losses[run["lr"]].append(run["loss"] if run["status"] == "finished" else math.inf)
        return {lr: statistics.fmean(losses[lr]) for lr in sorted(losses)}

    def best_lr(self, width: int, log2_tokens: int) -> float:
        """Vertex of the parabola in log lr through the best rate and its neighbours, kept between them."""
        losses = self.tuned(width, log2_tokens)
        rates = list(losses)
        at = rates.index(min(losses, key=losses.get))
        if not 0 < at < len(rates) - 1:
            return rates[at]
        x = np.log(rates[at - 1 : at + 2])
        y = np.array([losses[lr] for lr in rates[at - 1 : at + 2]])
        if not np.isfinite(y).all():
            return rates[at]
        curvature, slope, _ = np.polyfit(x - x[1], y, 2)
        vertex = x[1] - slope / (2 * curvature) if curvature > 0 else x[1]
        return float(np.exp(np.clip(vertex, x[0], x[2])))

    def choose(self) -> dict[tuple[int, int], float]:
        """The learning rate of every cell: tuned up to the cap, beyond it from the trend in log tokens.

        The trend is a straight line through the (up to) four largest tuned horizons off the grid's edge; it
        may not rise.
        """
        o = self.options
        chosen = {}
        for width in o.widths:
            tuned = [k for k in o.log2_tokens if k <= o.tune_to]
            for k in tuned:
                chosen[width, k] = self.best_lr(width, k)
            used = ([k for k in tuned if (width, k) not in self.edges] or tuned)[-4:]
            logs = [math.log(chosen[width, k]) for k in used]
            slope = min(0.0, float(np.polyfit(used, logs, 1)[0])) if len(used) > 1 else 0.0
            for k in set(o.log2_tokens) - set(tuned):
                chosen[width, k] = math.exp(statistics.fmean(logs) + slope * (k - statistics.fmean(used)))
        table = [
            {"width": w, "tokens": 2**k, "lr": lr, "extrapolated": k > o.tune_to, "edge": (w, k) in self.edges}
            for (w, k), lr in sorted(chosen.items())
        ]
        (o.out / "chosen_lr.json").write_text(json.dumps(table, indent=1))
        return chosen

    def run(self) -> bool:
        o = self.options
        for k in sorted(o.log2_tokens):
            for width in o.widths:
                if k <= o.tune_to and not self.tune(width, k):
                    return False
        chosen = self.choose()
        for k in sorted(o.log2_tokens):
            for width in o.widths:
                probes = [self.probe(width, k, chosen[width, k], seed, o.evals) for seed in range(o.seeds)]
                if not self.train(probes, self.final, "final"):
                    return False
        return True

    def table(self) -> None:
        """Mean loss over seeds minus the entropy, width by horizon: for the eye, not for a fit."""
        o = self.options
        entropy = BigramLanguage(o.vocab, o.tau, o.s, 0).entropy
        cells = defaultdict(list)
        for run in self.final.runs.values():
            if run["status"] == "finished":
                cells[run["width"], run["tokens"]].append(run["loss"] - entropy)
        print(
            f"\nMean loss above the entropy {entropy:.5f}; columns: log2 of tokens, * learning rate at the grid's edge"
        )
        print("width " + "".join(f"{k:>10}" for k in o.log2_tokens))
        for width in o.widths:
            row = ""
            for k in o.log2_tokens:
                losses = cells.get((width, 2**k))
                mark = "*" if (width, k) in self.edges else " "
                row += f"{statistics.fmean(losses):9.5f}{mark}" if losses else f"{'-':>9} "
            print(f"{width:5d} {row}")


def throughput(session: Session) -> None:
    """Tokens per second of all members: precision, stack size, attention form, compiled or not."""
    o = session.options
    device = select_device(o.device)
    print("precision  width  stack  attention  compiled  setup s  Mtok/s  evaluation s")
    plain = [(p, d, e, None, False) for p in ("fp32", "tf32", "bf16") for d in (16, 64) for e in (8, 32, 64)]
    attention = [(p, d, 32, True, False) for p in ("fp32", "tf32", "bf16") for d in (16, 64)]
    attention += [(p, d, 32, False, False) for p in ("tf32", "bf16") for d in (16, 64)]
    compiled = [(p, d, 32, None, True) for p in ("fp32", "tf32", "bf16") for d in (16, 64)]
    for precision, width, stack, fused, compile in plain + attention + compiled:
        if session.out_of_time():
            return
        if device.type == "cpu" and (precision == "tf32" or compile or stack > 8):
            continue
        probes = [session.probe(width, 24, 0.01, seed, 1).replace(precision=precision) for seed in range(stack)]
        backend = choose_backend(probes[0], device)
        if fused is not None:
            backend = Backend(backend.device, backend.matmul, backend.threads, fused)
        steps = 8 if device.type == "cpu" else 256
        try:
            setup, training, evaluation = measure(probes, backend, compile, steps)
        except Exception as error:  # one form that fails must not cost the rest of the pilot
            print(f"{precision:9s}  {width:5d}  {stack:5d}  compiled {compile}: {type(error).__name__}: {error}"[:300])
            continue
        rate = stack * o.batch_tokens * steps / training / 1e6
        form = "fused" if backend.fused_attention else "plain"
        print(
            f"{precision:9s}  {width:5d}  {stack:5d}  {form:9s}  {compile!s:8s}  {setup:7.2f}  {rate:6.2f}"
            f"  {evaluation:6.3f}",
            flush=True,
        )


def measure(probes: list[Probe], backend: Backend, compile: bool, steps: int) -> tuple[float, float, float]:
    """Seconds of set-up with 16 steps, of `steps` further steps (their data included), of one evaluation."""
    with numerics(backend.matmul, backend.threads):
        clock = [time.perf_counter()]
        ensemble = Ensemble(probes, backend, compile)
        for until in (16, 16 + steps):
            ensemble.advance(until)
            ensemble.take_train_loss()  # reading the losses waits for the device
            clock.append(time.perf_counter())
        ensemble.evaluate()
        clock.append(time.perf_counter())
    return clock[1] - clock[0], clock[2] - clock[1], clock[3] - clock[2]


def provenance(session: Session, begin: datetime, complete: bool) -> None:
    """Append this session to provenance.json: what was asked, where it ran, what it cost."""
    device = select_device(session.options.device)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent)
    runs = [*session.tuning.runs.values(), *session.final.runs.values()]
    entry = {
        "options": {k: str(v) if isinstance(v, Path) else v for k, v in vars(session.options).items() if v != math.inf},
        "tuning_seeds": TUNING_SEEDS,
        "language": language_facts(session.options),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "cuda": torch.version.cuda,
        "commit": commit.stdout.strip() or None,
        "begin": begin.isoformat(),
        "end": datetime.now(UTC).isoformat(),
        "complete": complete,
        "runs": len(runs),
        "flops": sum(run["flops"] for run in runs),
    }
    path = session.options.out / "provenance.json"
    sessions = json.loads(path.read_text()) if path.exists() else []
    path.write_text(json.dumps([*sessions, entry], indent=1))
    print(f"{len(runs)} runs, {entry['flops']:.3g} FLOP in all, complete: {complete}")


def language_facts(options: argparse.Namespace) -> dict:
    """The language and its exactly known losses, nats per token."""
    language = BigramLanguage(options.vocab, options.tau, options.s, 0)
    return {
        "vocab": options.vocab, "tau": options.tau, "s": options.s, "seed": 0, "entropy": language.entropy,
        "unigram_entropy": language.unigram_entropy, "uniform_entropy": language.uniform_entropy,
    }  # fmt: skip


def main() -> None:
    options = arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    begin = datetime.now(UTC)
    session = Session(options)
    complete = False
    if options.pilot:
        throughput(session)
    try:
        complete = session.run()
        session.table()
    finally:
        provenance(session, begin, complete)


if __name__ == "__main__":
    main()
