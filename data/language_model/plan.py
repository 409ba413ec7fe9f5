"""What the flagship sweep trains: sizes, horizons, learning rates, studies, and the jobs they fall into.

`make.py` trains it. Nothing here needs a GPU or the text; ``python data/language_model/plan.py`` prints the jobs.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

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
        kind: ``tune``, ``final``, ``branch``, ``batch`` or ``schedule``.
        language: ``text`` or ``known``.
        size: index in `SIZES`.
        work: predicted FLOPs; large jobs are claimed first.
        parametrization: of the tuning.
        level: of the horizon, for ``final`` and ``branch``.
    """

    name: str
    kind: str
    language: str
    size: int
    work: float
    parametrization: str = ""
    level: int = 0


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


def jobs() -> list[Job]:
    """All jobs of the sweep, in no order."""
    found = []
    for language in ("text", "known"):
        for size in range(len(SIZES)):
            probe = base(language, size)
            work = 6.0 * probe.params * horizon(probe, 1)
            for p in PARAMETRIZATIONS:
                flops = sum(run.flops for run in tuning(probe, size, p))
                found.append(Job(f"{language}-{size}-tune-{p}", "tune", language, size, flops, p))
            found.append(Job(f"{language}-{size}-final", "final", language, size, work * len(seeds(size))))
            for level in range(1, HORIZONS):
                flops = 0.2 * work * 0.5**level * len(seeds(size))
                found.append(Job(f"{language}-{size}-branch-{level}", "branch", language, size, flops, level=level))
            if size in BATCHES and language == "text":
                found.append(Job(f"{language}-{size}-batch", "batch", language, size, work))
            if size in SCHEDULES and language == "text":
                found.append(Job(f"{language}-{size}-schedule", "schedule", language, size, work))
    return found


def seeds(size: int) -> range:
    """Seeds of a size's horizons."""
    return range(3 if size in SEVERAL_SEEDS else 1)


def rate(language: str, size: int, known: dict[str, dict]) -> float | None:
    """The learning rate for the horizons of a size; None while the runs that decide it are missing."""
    if size < len(SIZES) - 1:
        return best_rate(language, size, known)
    others = [best_rate(language, smaller, known) for smaller in range(size)]
    if None in others:
        return None
    params = np.log([base(language, s).params_non_embedding for s in range(size + 1)])
    return float(f"{np.exp(np.polyval(np.polyfit(params[:-1], np.log(others), 1), params[-1])):.4g}")


def best_rate(language: str, size: int, known: dict[str, dict]) -> float | None:
    """Vertex of the parabola in log lr through the best tuned rate and its neighbours; None if not tuned yet."""
    runs = [known.get(p.id) for p in tuning(base(language, size), size, "standard")]
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


def stacks(job: Job, known: dict[str, dict]) -> list[list[Probe]] | None:
    """The runs of a job, stack by stack; None while its learning rate is not known."""
    probe = base(job.language, job.size)
    if job.kind == "tune":
        return [tuning(probe, job.size, job.parametrization)]
    lr = rate(job.language, job.size, known)
    if lr is None:
        return None
    if job.kind in ("final", "branch"):
        return [[final(probe, lr, job.level, seed) for seed in seeds(job.size)]]
    if job.kind == "schedule":
        named = final(probe, lr, 1, 3000).replace(evals=100, eval_spacing="linear")
        return [[named.replace(schedule=s) for s in ("constant", "cosine", "wsd")]]
    tokens, found = horizon(probe, 0.25), []
    for factor in (0.25, 0.5, 2, 4):
        batch = int(probe.batch_tokens * factor)
        other = final(probe, lr, 2, 2000).replace(batch_tokens=batch, tokens=tokens // batch * batch)
        found.append([other.replace(lr=float(f"{lr * factor**power:.4g}")) for power in (0.0, 0.5)])
    return found


def main() -> None:
    by_kind: dict[tuple, float] = defaultdict(float)
    for job in sorted(jobs(), key=lambda job: -job.work):
        by_kind[job.language, job.kind] += job.work
        print(f"{job.name:28s} {job.work:9.3g} FLOP")
    for (language, kind), value in by_kind.items():
        print(f"{language} {kind}: {value:.3g} FLOP")
    print(f"total {sum(by_kind.values()):.3g} FLOP")


if __name__ == "__main__":
    main()
