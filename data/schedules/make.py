"""Train one model under many learning-rate schedules, everything else equal, with evenly spaced evaluations.

    PYTHONPATH=. python data/schedules/make.py --device cuda [--out DIR] [--quick]

Twelve schedules of one peak rate, three seeds each; seeds share their text across schedules.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import pandas as pd

from workbench.probes import Probe, Sweep
from workbench.probes.tasks.bigram import BigramLanguage
from workbench.probes.trainer import train_sweep

sys.path.insert(0, str(Path(__file__).parents[1]))
from pack import pack

HERE = Path(__file__).parent
SHORT, LONG = 2**13, 2**14  # steps of 1024 tokens


def tables() -> dict[str, dict]:
    """Name -> the fields of the probe that make the schedule; multipliers of one peak rate, warm-up in all."""

    def table(*corners):
        return {"schedule": "table", "table": corners}

    def decay(share, end=0.0):
        return table((0, 1), (1 - share, 1), (1, end))

    def drop(to, at=0.5):
        return table((0, 1), (at, 1), (at, to), (1, to))

    return {
        "constant": {"schedule": "constant"},
        "cosine": {"schedule": "cosine"},
        "linear": {"schedule": "linear"},
        "linear to a tenth": table((0, 1), (1, 0.1)),
        "wsd 10 %": decay(0.1),
        "wsd 20 %": decay(0.2),
        "wsd 40 %": decay(0.4),
        "drop to 0.3": drop(0.3),
        "drop to 0.1": drop(0.1),
        "drop to 0.03": drop(0.03),
        "two drops": table((0, 1), (0.4, 1), (0.4, 0.3), (0.7, 0.3), (0.7, 0.1), (1, 0.1)),
        "re-warmed": table((0, 1), (0.5, 0.05), (0.5, 1), (1, 0.05)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--lr", type=float, default=0.016, help="peak learning rate")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a hundredth of the steps, to try the script")
    options = parser.parse_args()
    scale = 100 if options.quick else 1
    base = Probe(
        vocab=512, width=32, context=64, batch_tokens=1024, lr=options.lr, warmup=0.03, precision="tf32",
        evals=256, eval_spacing="linear",
    )  # fmt: skip
    if options.device == "cpu":
        base = base.replace(precision="fp32")
    named: dict[Probe, tuple[str, str]] = {}
    for horizon, steps in (("short", SHORT // scale), ("long", LONG // scale)):
        for name, fields in tables().items():
            if horizon == "short" and name not in ("constant", "cosine", "wsd 20 %"):
                continue
            for seed in range(options.seeds):
                named[base.replace(tokens=1024 * steps, seed=seed, **fields)] = (name, horizon)
    begin = time.monotonic()
    results = train_sweep(Sweep(tuple(named)), options.device, on_progress=_say)
    rows, curves = [], {}
    for result in results:
        name, horizon = named[result.probe]
        row = result.row()
        rows.append({
            "run": result.probe.id, "schedule": f"{name}, {horizon}", "shape": name, "horizon": horizon,
            **{k: row[k] for k in ("seed", "params", "tokens", "flops", "loss", "loss_sampled", "lr", "seconds")},
        })  # fmt: skip
        curves[result.probe.id] = pd.DataFrame(list(result.records))
    entropy = BigramLanguage(base.vocab, base.tau, base.s, 0).entropy
    attributes = {
        "entropy": entropy,
        "training_data": "power-law bigram language, drawn fresh for every seed, nothing repeated",
        "parameter_count": "all trainable parameters, embeddings and untied head included",
        "flop_count": "6ND with N = params",
        "architecture": "one decoder-only transformer of width 32 and one block",
        "hyperparameters": f"one peak learning rate, {base.lr}, for all; batch 1024 tokens",
        "schedule": "what differs between the runs; warm-up over 3 % of the steps in all",
        "checkpoints": "every curve has 256 evenly spaced evaluations",
        "metric": "cross-entropy against the exact next-token distribution, nats per token",
        "released": "code, runs and curves are in data/schedules",
    }
    about = {
        "attributes": attributes,
        "base": base.to_dict(),
        "schedules": {k: dict(v) for k, v in tables().items()},
        "seconds": round(time.monotonic() - begin, 1),
        "command": "PYTHONPATH=. python data/schedules/make.py --device cuda",
    }
    pack(options.out, pd.DataFrame(rows), curves, about)


def _say(fraction: float, rate: float, shown: list[float] = [0.0]) -> None:  # noqa: B006 - one clock for the script
    """A line every ten seconds at most."""
    if time.monotonic() - shown[0] > 10 or fraction == 1:
        shown[0] = time.monotonic()
        print(f"{fraction:6.1%}  {rate / 1e6:7.2f} Mtok/s", flush=True)


if __name__ == "__main__":
    main()
