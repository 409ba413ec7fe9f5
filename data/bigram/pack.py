"""Turn what make.py wrote into the files of this folder: runs, curves, tuning, provenance, checksums.

PYTHONPATH=. python data/bigram/pack.py DIR
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pandas as pd

HERE = Path(__file__).parent
#: One column per fact that varies; what all runs share goes to sweep.json.
COLUMNS = ["run", "params", "params_non_embedding", "tokens", "flops", "loss", "loss_sampled", "train_loss"]
COLUMNS += ["width", "heads", "lr", "seed", "steps", "seconds", "lr_tuned", "cell"]
SHARED = ["task", "model", "depth", "context", "vocab", "tau", "s", "language_seed", "batch_tokens", "schedule"]
SHARED += ["warmup", "weight_decay", "precision"]
SIGNIFICANT = 9  # digits kept of measured numbers: fp32 evaluation has fewer
MEASURED = ("loss", "loss_sampled", "train_loss", "seconds")


def main(source: Path) -> None:
    provenance = json.loads((source / "provenance.json").read_text())
    chosen = {(c["width"], c["tokens"]): c for c in json.loads((source / "chosen_lr.json").read_text())}
    lines = [json.loads(line) for line in (source / "runs.jsonl").read_text().splitlines()]
    tuning = [json.loads(line) for line in (source / "tuning.jsonl").read_text().splitlines()]
    if any(run["status"] != "finished" for run in lines):
        raise SystemExit("some runs did not finish; look at them before packing")

    for run in lines:
        run["run"] = run["id"]
        run["cell"] = f"width {run['width']}, tokens 2^{run['horizon'].bit_length() - 1}"
        run["lr_tuned"] = not chosen[run["width"], run["horizon"]]["extrapolated"]
    frame = pd.DataFrame(lines).sort_values(["width", "tokens", "seed"], ignore_index=True)
    _digits(frame[COLUMNS]).to_csv(HERE / "runs.csv", index=False, lineterminator="\n")

    curves = pd.concat([pd.DataFrame(run["curve"]).assign(run=run["id"]) for run in lines], ignore_index=True)
    order = {run: i for i, run in enumerate(frame["run"])}
    curves = curves.sort_values(["run", "step"], key=lambda c: c.map(order) if c.name == "run" else c)
    curves = curves[["run", "step", "tokens", "flops", "loss", "loss_sampled", "train_loss", "lr", "seconds"]]
    _digits(curves).to_parquet(HERE / "curves.parquet", index=False, compression="zstd")

    tried = pd.DataFrame(tuning)[["id", "width", "horizon", "lr", "seed", "status", "loss", "seconds"]]
    tried = tried.rename(columns={"id": "run", "horizon": "tokens"}).sort_values(["width", "tokens", "lr", "seed"])
    _digits(tried).to_csv(HERE / "tuning.csv", index=False, lineterminator="\n")

    first = lines[0]
    shared = {key: first[key] for key in SHARED if key in first}
    demo = frame[(frame["width"] == 32) & (frame["steps"] == 1024)].iloc[0]
    about = {
        "schema": 1,
        "runs": "runs.csv",
        "curves": "curves.parquet",
        "attributes": {
            "entropy": provenance[-1]["language"]["entropy"],
            "language": provenance[-1]["language"],
            "demo_probe": shared
            | {"task": "bigram", "model": "transformer", "width": 32, "heads": int(demo["heads"])}
            | {"tokens": int(demo["tokens"]), "lr": float(demo["lr"]), "precision": "fp32", "evals": 12},
            "training_data": "power-law bigram language, drawn fresh for every run, nothing repeated",
            "parameter_count": "all trainable parameters, embeddings and untied head included; "
            "params_non_embedding holds the blocks alone",
            "flop_count": "6ND with N = params",
            "architecture": "decoder-only transformer of one block; only the width changes (heads of 32)",
            "hyperparameters": "learning rate tuned per width and horizon on seeds of its own (tuning.csv) up to 2^22 "
            "tokens, extrapolated in log tokens beyond; batch 1024 tokens throughout",
            "schedule": "linear warm-up over 5 % of the steps, then linear decay to zero, which ends with each run",
            "checkpoints": "final losses only; curves are kept beside them",
            "metric": "cross-entropy against the exact next-token distribution on held-out contexts, weighted by the "
            "exact stationary distribution; loss_sampled is the ordinary held-out cross-entropy",
            "hardware": f"one {provenance[-1]['device']}, tf32 matrix products, evaluation in fp32",
            "released": "code, settings, runs, curves and tuning runs are in data/bigram",
        },
        "shared": shared,
        "sessions": provenance,
        "command": "PYTHONPATH=. python data/bigram/make.py --device cuda --tune-to 22 "
        "--log2-tokens 16 17 18 19 20 21 22 23 24 25 --out DIR && PYTHONPATH=. python data/bigram/pack.py DIR",
    }
    (HERE / "sweep.json").write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n")
    sums = [f"{_sha256(HERE / name)}  {name}\n" for name in ("curves.parquet", "runs.csv", "sweep.json", "tuning.csv")]
    (HERE / "SHA256SUMS").write_text("".join(sums))
    print(f"{len(frame)} runs, {len(curves)} curve points, {len(tried)} tuning runs")


def _digits(frame: pd.DataFrame) -> pd.DataFrame:
    out = frame.copy()
    for name in out.columns.intersection(MEASURED):
        out[name] = [float(f"{v:.{SIGNIFICANT}g}") for v in out[name]]
    return out


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
