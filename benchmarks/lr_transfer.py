"""Does the best learning rate move with width? Standard parametrization against muP on the bigram language.

    python benchmarks/lr_transfer.py [--widths 16 32 64 128] [--steps 60] [--seeds 2] [--device cpu] [--quick]

A one-block transformer is trained at every width and learning rate (powers of two, constant, no warm-up), all
learning rates and seeds of a width as one stack. The best learning rate is where a parabola through the lowest grid
point and its neighbours, in log2 lr, is lowest; its exponent p in ``lr ~ width^-p`` is a least-squares line through
the widths. Theory (`workbench.laws.hyperparameters.width_transfer.width_exponent`): 1 for Adam under the
standard parametrization, limited by the hidden matrices; 0 for muP. The table goes to benchmarks/lr_transfer.csv,
settings and versions to benchmarks/lr_transfer.json.

Found with the defaults on a CPU: width^-1.15 for standard, width^-0.18 for muP. Of muP's drift all is between 16 and
32; from 32 to 128 its best rate stays within 15 %, while the standard one falls by a factor of 4.4.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from workbench.laws.hyperparameters.width_transfer import width_exponent
from workbench.probes import Probe
from workbench.probes.trainer import train

HERE = Path(__file__).resolve().parent
RATES = 2.0 ** np.arange(-11, 0)


def best(rates: np.ndarray, losses: np.ndarray) -> float:
    """The learning rate at the bottom of a parabola in log2 lr; the grid's own where the lowest loss is at its end."""
    at = int(np.nanargmin(losses))
    near = losses[at - 1 : at + 2] if 0 < at < len(losses) - 1 else np.array([])
    if len(near) < 3 or not np.isfinite(near).all():
        return float(rates[at])
    left, middle, right = near
    return float(rates[at] * 2 ** (0.5 * (left - right) / (left - 2 * middle + right)))


def sweep(base: Probe, widths: list[int], seeds: int, device: str) -> pd.DataFrame:
    """One row a parametrization, width, learning rate: mean final loss over seeds; NaN where one diverged."""
    rows = []
    for kind in ("standard", "mup"):
        for width in widths:
            start = time.perf_counter()
            shape = base.replace(parametrization=kind, width=width, base_width=widths[0])
            results = train([shape.replace(lr=float(lr), seed=s) for lr in RATES for s in range(seeds)], device)
            losses = [r.records[-1]["loss"] if r.status == "finished" else np.nan for r in results]
            means = np.reshape(losses, (-1, seeds)).mean(1)
            rows += [
                {"parametrization": kind, "width": width, "lr": lr, "loss": loss}
                for lr, loss in zip(RATES, means, strict=True)
            ]
            found, seconds = best(RATES, means), time.perf_counter() - start
            print(f"{kind:9s} width {width:4d}: best lr {found:.5f}, loss {np.nanmin(means):.4f} ({seconds:.0f} s)")
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 32, 64, 128])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="two widths, 40 steps, one seed; writes nothing")
    args = parser.parse_args()
    if args.quick:
        args.widths, args.steps, args.seeds = [16, 64], 40, 1
    torch.set_num_threads(1)
    base = Probe(
        vocab=64, context=16, batch_tokens=512, tokens=512 * args.steps, evals=1, schedule="constant", warmup=0.0
    )
    table = sweep(base, sorted(args.widths), args.seeds, args.device)
    for kind, part in table.groupby("parametrization", sort=False):
        found = part.groupby("width")["loss"].agg(lambda losses: best(RATES, losses.to_numpy()))
        slope = np.polyfit(np.log(found.index.to_numpy(float)), np.log(found.to_numpy()), 1)[0]
        print(f"{kind}: lr ~ width^{slope:.2f}; theory {-width_exponent() if kind == 'standard' else 0:.2f}")
    if not args.quick:
        table.to_csv(HERE / "lr_transfer.csv", index=False, float_format="%.6g")
        about = {**vars(args), "probe": base.to_dict(), "torch": torch.__version__, "machine": platform.machine()}
        (HERE / "lr_transfer.json").write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
