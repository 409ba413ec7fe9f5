"""Do intervals of what follows from several parameters cover? ``python benchmarks/pair_coverage.py [--replicates 200]``

Two recipes with known curves are drawn again and again with noise of half a per cent, and the 95 % intervals of
three conclusions are scored by whether they hold the truth: where the recipes cross, how many times the compute one
of them needs, and the compute-optimal size at ten times the largest budget. Each twice: with the draws the
analyses use (`Fit.joint_draws`), and with runs drawn again (`Fit.draws`). Two objectives: squares of log loss, and
Huber's with delta 1e-3, which is nearly a median here. Writes ``pair_coverage.csv`` and ``pair_coverage.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np  # noqa: E402 (the variables above must be set first)
import pandas as pd  # noqa: E402
import scipy  # noqa: E402
from scipy.optimize import brentq  # noqa: E402
from scipy.stats import beta as beta_distribution  # noqa: E402

import workbench  # noqa: E402
from workbench.fits.result import Fit  # noqa: E402
from workbench.laws.base import get  # noqa: E402

HERE = Path(__file__).resolve().parent
NOISE, LEVEL, RESAMPLES, STARTS = 0.005, 0.95, 300, 8
OBJECTIVES, RUNS = ("log-mse", "log-huber"), (8, 30)
#: Loss of the two recipes at a compute of C FLOP.
RECIPES: dict[str, Callable] = {
    "a": lambda c: 1.8 + 2.0 * (c / 1e18) ** -0.10,
    "b": lambda c: 1.7 + 2.3 * (c / 1e18) ** -0.12,
}
CROSSING = float(np.exp(brentq(lambda t: RECIPES["a"](np.exp(t)) - RECIPES["b"](np.exp(t)), 41.0, 50.0)))
#: The law of size and data: Besiroglu et al. 2024, table 1.
LAW = {"E": 1.82, "A": 482.0, "B": 2085.0, "alpha": 0.348, "beta": 0.366}
joint, resampled = Fit.joint_draws, Fit.draws
METHODS = {"joint": joint, "bootstrap": lambda fit, n, tick=None: resampled(fit, n, tick)}


def crossing(n: int, objective: str, rng: np.random.Generator) -> bool:
    """Whether the interval of the crossing of two recipes with `n` runs each holds it."""
    flops = np.geomspace(1e17, 1e20, n)
    losses = np.concatenate([recipe(flops) for recipe in RECIPES.values()])
    runs = _recipes(flops, losses, rng)
    between = (1e15, 1e24)
    found = workbench.crossover(
        runs, by="recipe", law="power_constant", objective=objective, between=between, n=RESAMPLES, starts=STARTS
    )
    return found.low <= CROSSING <= found.high


def multiplier(n: int, objective: str, rng: np.random.Generator) -> bool:
    """Whether the interval of a multiplier of 2, at a third of the largest budget, holds it."""
    flops = np.geomspace(1e17, 1e20, n)
    runs = _recipes(flops, np.concatenate([RECIPES["a"](flops), RECIPES["a"](flops / 2)]), rng)
    found = workbench.multiplier(
        runs, by="recipe", law="power_constant", objective=objective, at_scale=[3e19], n=RESAMPLES, starts=STARTS
    ).frame
    return bool(found["low"][0] <= 2.0 <= found["high"][0])


def optimal_size(n: int, objective: str, rng: np.random.Generator) -> bool:
    """Whether the interval of the compute-optimal size, of a fit to `n` runs, holds it."""
    params = 10 ** rng.uniform(7, 9, n)
    tokens = params * 10 ** rng.uniform(0.5, 2.5, n)
    law = get("chinchilla")
    loss = law.predict(np.array([list(LAW.values())]), {"N": params, "D": tokens})[0]
    runs = pd.DataFrame({"params": params, "tokens": tokens, "loss": loss * np.exp(NOISE * rng.standard_normal(n))})
    budget = 10 * float((6 * params * tokens).max())
    a, b, alpha, beta = (LAW[name] for name in ("A", "B", "alpha", "beta"))
    # Hoffmann et al. 2022, equation 4
    best = (alpha * a / (beta * b)) ** (1 / (alpha + beta)) * (budget / 6) ** (beta / (alpha + beta))
    fitted = workbench.fit(runs, "chinchilla", objective=objective, starts=STARTS)
    found = workbench.frontier(fitted, [budget], n=RESAMPLES).frame
    return bool(found["params_low"][0] <= best <= found["params_high"][0])


CONCLUSIONS = {"crossing": crossing, "multiplier": multiplier, "optimal size": optimal_size}


def _recipes(flops: np.ndarray, losses: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    noisy = losses * np.exp(NOISE * rng.standard_normal(losses.size))
    return pd.DataFrame({"flops": np.tile(flops, 2), "loss": noisy, "recipe": np.repeat(["a", "b"], flops.size)})


def work(task: tuple[str, int, str, str, range, int]) -> tuple[tuple, int, int, int]:
    """Score some replicates of one cell: held, scored, and refused (too few runs for the law, no finite resample)."""
    conclusion, n, objective, method, replicates, seed = task
    Fit.joint_draws = METHODS[method]
    held = refused = 0
    for replicate in replicates:
        rng = np.random.default_rng([seed, n, replicate])  # the same data for all methods
        try:
            held += CONCLUSIONS[conclusion](n, objective, rng)
        except ValueError:
            refused += 1
    return task[:4], held, len(replicates) - refused, refused


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicates", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=HERE / "pair_coverage.csv")
    arguments = parser.parse_args()
    cells = [(c, n, o, m) for c in CONCLUSIONS for n in RUNS for o in OBJECTIVES for m in METHODS]
    chunks = [range(s, min(s + 25, arguments.replicates)) for s in range(0, arguments.replicates, 25)]
    tasks = [(*cell, chunk, arguments.seed) for chunk in chunks for cell in cells]
    begin, counts = time.perf_counter(), {cell: np.zeros(3, dtype=int) for cell in cells}
    with ProcessPoolExecutor(arguments.workers, mp_context=get_context("spawn")) as pool:
        for done, future in enumerate(as_completed([pool.submit(work, task) for task in tasks]), 1):
            cell, *found = future.result()
            counts[cell] += found
            spent = time.perf_counter() - begin
            left = spent / done * (len(tasks) - done)
            print(f"\r{done}/{len(tasks)} chunks, {spent:.0f} s, about {left:.0f} s left   ", end="", file=sys.stderr)
    print(file=sys.stderr)
    rows = []
    for cell, (held, scored, refused) in counts.items():
        # Clopper and Pearson's exact binomial interval of the coverage
        low = beta_distribution.ppf(0.025, held, scored - held + 1) if held else 0.0
        high = beta_distribution.ppf(0.975, held + 1, scored - held) if held < scored else 1.0
        rows.append((*cell, scored, refused, held / max(scored, 1), low, high))
    names = ["conclusion", "runs", "objective", "draws", "scored", "refused", "coverage", "coverage_low"]
    table = pd.DataFrame(rows, columns=[*names, "coverage_high"])
    table.to_csv(arguments.out, index=False, float_format="%.4g")
    about = {
        "command": " ".join(["python", "benchmarks/pair_coverage.py", *sys.argv[1:]]),
        "replicates": arguments.replicates, "resamples": RESAMPLES, "seed": arguments.seed, "level": LEVEL,
        "noise": NOISE, "seconds": round(time.perf_counter() - begin, 1), "workers": arguments.workers,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "workbench": workbench.__version__, "python": platform.python_version(), "numpy": np.__version__,
            "scipy": scipy.__version__, "pandas": pd.__version__,
        },
    }  # fmt: skip
    arguments.out.with_suffix(".json").write_text(json.dumps(about, indent=2) + "\n")
    told = table.pivot_table(index=["conclusion", "runs"], columns=["objective", "draws"], values="coverage")
    print(f"coverage of nominal {LEVEL:.0%} intervals, {arguments.replicates} replicates\n{told.round(3).to_string()}")


if __name__ == "__main__":
    main()
