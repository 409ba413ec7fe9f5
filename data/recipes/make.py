"""Train four recipes along one ladder of scale, with seed replicates: which is better, and at what scale?

    PYTHONPATH=. python data/recipes/make.py --device cuda [--out DIR] [--quick]

The ladder grows width and tokens together near the compute optimum. Recipes:

* ``decay``: the learning rate tuned per rung, linear decay to zero, batches of 1024 tokens;
* ``large batch``: the same with batches of 8192 tokens, its own learning rate tuned per rung;
* ``hot`` and ``cold``: one constant learning rate for every rung, high and low, chosen at the smallest rungs by
  nobody: they stand for a habit carried to a larger scale.

The rungs' tuned rates of ``decay`` come from data/bigram (seeds of their own); those of ``large batch`` are tuned
here on seeds 1000 and 1001, and all tuning runs are in tuning.csv.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from workbench.probes import Probe, Sweep
from workbench.probes.tasks.bigram import BigramLanguage
from workbench.probes.trainer import train_sweep

sys.path.insert(0, str(Path(__file__).parents[1]))
from pack import digits, pack, sha256

HERE = Path(__file__).parent
#: (width, log2 of tokens)
LADDER = ((4, 16), (6, 17), (8, 18), (12, 19), (16, 20), (24, 21), (32, 22), (48, 23), (64, 24))
HOT, COLD = 0.032, 0.004
RATES = tuple(0.004 * 2**i for i in range(6))
TUNING_SEEDS = (1000, 1001)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--quick", action="store_true", help="the four smallest rungs, two seeds")
    options = parser.parse_args()
    ladder, seeds = (LADDER[:4], 2) if options.quick else (LADDER, options.seeds)
    base = Probe(vocab=512, context=64, batch_tokens=1024, warmup=0.05, precision="tf32", evals=20)
    if options.device == "cpu":
        base = base.replace(precision="fp32")
    begin = time.monotonic()
    rate = tuned_decay()
    tried = tune(base, ladder, options.device)
    named: dict[Probe, str] = {}
    for width, log2 in ladder:
        rung = base.replace(width=width, heads=max(1, width // 32), tokens=2**log2)
        large = rung.replace(batch_tokens=8192)
        for seed in range(seeds):
            named[rung.replace(seed=seed, lr=rate[width, 2**log2])] = "decay"
            named[large.replace(seed=seed, lr=best(tried, width))] = "large batch"
            named[rung.replace(seed=seed, lr=HOT, schedule="constant")] = "hot"
            named[rung.replace(seed=seed, lr=COLD, schedule="constant")] = "cold"
    results = train_sweep(Sweep(tuple(named)), options.device, on_progress=_say)
    rows, curves = [], {}
    for result in results:
        row = result.row()
        wanted = ("params", "params_non_embedding", "tokens", "flops", "loss", "loss_sampled", "seed", "width")
        rows.append({
            "run": result.probe.id, "recipe": named[result.probe],
            "rung": f"width {row['width']}, tokens 2^{result.probe.tokens.bit_length() - 1}",
            **{k: row[k] for k in (*wanted, "batch_tokens", "lr", "seconds")},
        })  # fmt: skip
        curves[result.probe.id] = pd.DataFrame(list(result.records))
    attributes = {
        "entropy": BigramLanguage(base.vocab, base.tau, base.s, 0).entropy,
        "training_data": "power-law bigram language, drawn fresh for every seed, nothing repeated",
        "parameter_count": "all trainable parameters, embeddings and untied head included",
        "flop_count": "6ND with N = params",
        "architecture": "decoder-only transformer of one block; only the width changes along the ladder",
        "hyperparameters": "what differs between the recipes; see make.py",
        "schedule": "linear decay to zero (decay, large batch) or constant (hot, cold) after 5 % warm-up",
        "checkpoints": "final losses; curves are kept beside them",
        "metric": "cross-entropy against the exact next-token distribution, nats per token",
        "released": "code, runs, curves and tuning runs are in data/recipes",
    }
    about = {
        "attributes": attributes,
        "base": base.to_dict(),
        "seconds": round(time.monotonic() - begin, 1),
        "command": "PYTHONPATH=. python data/recipes/make.py --device cuda",
    }
    options.out.mkdir(parents=True, exist_ok=True)
    digits(tried).to_csv(options.out / "tuning.csv", index=False, lineterminator="\n")
    pack(options.out, pd.DataFrame(rows), curves, about)
    with (options.out / "SHA256SUMS").open("a") as file:
        file.write(f"{sha256(options.out / 'tuning.csv')}  tuning.csv\n")


def tuned_decay() -> dict[tuple[int, int], float]:
    """The learning rates data/bigram tuned for its cells."""
    runs = pd.read_csv(HERE.parent / "bigram" / "runs.csv")
    return {(w, t): float(lr) for (w, t), lr in runs.groupby(["width", "tokens"])["lr"].first().items()}


def tune(base: Probe, ladder: tuple, device: str) -> pd.DataFrame:
    """Losses of the large batch at every rung and rate, on seeds used for nothing else."""
    probes = [
        base.replace(width=w, heads=max(1, w // 32), tokens=2**k, batch_tokens=8192, lr=lr, seed=seed, evals=1)
        for w, k in ladder
        for lr in RATES
        for seed in TUNING_SEEDS
    ]
    rows = []
    for result in train_sweep(Sweep(tuple(probes)), device, on_progress=_say):
        p = result.probe
        rows.append({"run": p.id, "width": p.width, "tokens": p.tokens, "batch_tokens": p.batch_tokens, "lr": p.lr,
                     "seed": p.seed, "status": result.status, "loss": result.row()["loss"]})  # fmt: skip
    return pd.DataFrame(rows)


def best(tried: pd.DataFrame, width: int) -> float:
    """Vertex of the parabola in log lr through the best rate and its neighbours; the best rate at an edge."""
    mean = tried[(tried["width"] == width) & (tried["status"] == "finished")].groupby("lr")["loss"].mean()
    at = int(np.argmin(mean))
    if not 0 < at < len(mean) - 1:
        return float(mean.index[at])
    x = np.log(mean.index[at - 1 : at + 2].to_numpy())
    curvature, slope, _ = np.polyfit(x - x[1], mean.iloc[at - 1 : at + 2], 2)
    vertex = x[1] - slope / (2 * curvature) if curvature > 0 else x[1]
    return float(np.exp(np.clip(vertex, x[0], x[2])))


def _say(fraction: float, rate: float, shown: list[float] = [0.0]) -> None:  # noqa: B006 - one clock for the script
    """A line every ten seconds at most."""
    if time.monotonic() - shown[0] > 10 or fraction == 1:
        shown[0] = time.monotonic()
        print(f"{fraction:6.1%}  {rate / 1e6:7.2f} Mtok/s", flush=True)


if __name__ == "__main__":
    main()
