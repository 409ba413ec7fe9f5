"""Which law is chosen when the truth is known, and what the choice costs when it is extrapolated.

    python benchmarks/law_selection.py [--replicates 20] [--noise 0.005] [--quick]

Curves are drawn from every law in the list, with normal noise on the logarithm, and offered to every law. A law is
chosen by three rules: smallest AICc on all runs; smallest error on the held-out largest runs (then refitted to all);
and, as baselines, always one law. A choice is right if it is the true law or extrapolates like it: within the noise of
one run at ten times the largest scale. Judged is the error of the expected loss at ten and a hundred times the
largest scale. The table goes to benchmarks/law_selection.csv.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np  # noqa: E402 (the variables above must be set first)
import pandas as pd  # noqa: E402

import workbench  # noqa: E402
from workbench.laws import get  # noqa: E402
from workbench.progress import Progress  # noqa: E402

HERE = Path(__file__).resolve().parent
#: Laws of one scale and what they are drawn with: 24 scales over five decades, loss between 2 and 6.
ONE = {
    "power": {"A": 40.0, "alpha": 0.06},
    "power_constant": {"E": 1.7, "A": 2000.0, "alpha": 0.17},
    "shifted_power_constant": {"E": 1.7, "A": 1e5, "s": 3e18, "alpha": 0.25},
    "exponential": {"E": 2.0, "A": 2.0, "x_0": 3e20},
    "stretched_exponential": {"E": 2.0, "A": 3.0, "x_0": 1e19, "beta": 0.4},
    "logarithmic": {"a": 14.0, "b": 0.23},
    "broken": {"a": 1.5, "b": 200.0, "c_0": 0.11, "c_1": 0.15, "d_1": 1e20, "f_1": 0.2},
    "two_power": {"E": 1.7, "A": 2.0, "B": 0.5, "beta": 0.1, "delta": 0.3},
    "u_shape": {"E": 1.5, "A": 2000.0, "B": 1e-4, "alpha": 0.17, "beta": 0.15},
}
#: Laws of parameters and tokens: an 8 x 8 grid.
TWO = {
    "chinchilla": {"E": 1.82, "A": 482.0, "B": 2085.0, "alpha": 0.348, "beta": 0.366},
    "chinchilla_tied": {"E": 1.8, "A": 560.0, "B": 1750.0, "alpha": 0.357},
    "coupled": {"E": 1.7, "A": 900.0, "B": 6000.0, "alpha": 0.42, "beta": 0.45, "k": 0.75},
    "multiplicative": {"E": 1.7, "A": 3000.0, "alpha": 0.17, "beta": 0.18},
    "kaplan": {"N_c": 6.4e13, "D_c": 1.8e13, "alpha_N": 0.076, "alpha_D": 0.103},
}
BASELINES = {"one": ("power", "power_constant", "broken"), "two": ("chinchilla",)}


def design(kind: str, factor: float = 1.0) -> dict[str, np.ndarray]:
    if kind == "one":
        return {"flops": np.geomspace(1e17, 1e22, 24) if factor == 1 else np.array([1e22 * factor])}
    if factor == 1:
        n, d = (m.ravel() for m in np.meshgrid(np.geomspace(1e7, 3e9, 8), np.geomspace(3e8, 1e11, 8)))
        return {"params": n, "tokens": d}
    # Larger along the diagonal, so that compute grows by the factor
    return {"params": np.array([3e9 * factor**0.5]), "tokens": np.array([1e11 * factor**0.5])}


def value(law: str, theta, x: dict[str, np.ndarray]) -> np.ndarray:
    columns = dict(zip([i.symbol for i in get(law).inputs], x.values(), strict=True))
    return get(law).predict(theta, columns)


def replicate(job: tuple[str, str, int, float]) -> list[dict]:
    """All choices on one drawn data set."""
    kind, true, seed, noise = job
    laws = ONE if kind == "one" else TWO
    rng = np.random.default_rng([seed, sorted(laws).index(true)])
    x = design(kind)
    loss = value(true, laws[true], x) * np.exp(noise * rng.standard_normal(next(iter(x.values())).size))
    table = workbench.load(pd.DataFrame({**x, "loss": loss}))
    scale = np.prod(list(x.values()), axis=0)
    inner = scale < np.quantile(scale, 0.8)
    aicc, held, fits = {}, {}, {}
    for law in laws:
        # Squares are the likelihood of this noise; what is compared is the laws, not the objective
        options = {"objective": "log-mse", "starts": 256}
        fits[law] = workbench.fit(table, law, **options)
        n, k = len(loss), len(fits[law].problem.free) + 1
        aicc[law] = 2 * k - 2 * fits[law].log_likelihood + 2 * k * (k + 1) / (n - k - 1)
        small = workbench.fit(table.where(inner), law, **options)
        outer = {c: v[~inner] for c, v in x.items()}
        held[law] = float(np.abs(np.log(value(law, small.theta, outer) / loss[~inner])).mean())
    chosen = {"AICc": min(aicc, key=aicc.get), "held-out largest": min(held, key=held.get)}
    chosen |= {f"always {law}": law for law in BASELINES[kind]}
    rows = []
    for rule, law in chosen.items():
        errors = {}
        for factor in (10, 100):
            far = design(kind, factor)
            errors[factor] = float(value(law, fits[law].theta, far)[0] / value(true, laws[true], far)[0] - 1)
        rows.append({
            "inputs": kind, "truth": true, "seed": seed, "rule": rule, "chosen": law, "exact": law == true,
            "equivalent": law == true or abs(errors[10]) < noise, "error_10": errors[10], "error_100": errors[100],
        })  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=20)
    parser.add_argument("--noise", type=float, default=0.005, help="standard deviation of log loss")
    parser.add_argument("--quick", action="store_true", help="two replicates, nothing written")
    options = parser.parse_args()
    count = 2 if options.quick else options.replicates
    jobs = [(k, t, s, options.noise) for s in range(count) for k, laws in (("one", ONE), ("two", TWO)) for t in laws]
    rows, begin = [], time.monotonic()
    with Progress("Choosing laws") as progress, ProcessPoolExecutor() as pool:
        for i, found in enumerate(pool.map(replicate, jobs)):
            rows += found
            progress((i + 1) / len(jobs), f"{jobs[i][1]}")
    frame = pd.DataFrame(rows)
    print(f"{len(jobs)} data sets, noise {options.noise:.1%}, {time.monotonic() - begin:.0f} s\n")
    for kind, part in frame.groupby("inputs"):
        summary = part.groupby("rule", sort=False).agg(
            right=("exact", "mean"),
            equivalent=("equivalent", "mean"),
            median_10=("error_10", lambda e: e.abs().median()),
            worst_decile_10=("error_10", lambda e: e.abs().quantile(0.9)),
            median_100=("error_100", lambda e: e.abs().median()),
            worst_decile_100=("error_100", lambda e: e.abs().quantile(0.9)),
        )
        print(f"laws of {'one scale' if kind == 'one' else 'parameters and tokens'}")
        print(summary.map(lambda v: f"{v:.1%}").to_string(), "\n")
        by_truth = part[part["rule"] == "AICc"].groupby("truth", sort=False)
        often = by_truth["chosen"].agg(lambda c: ", ".join(f"{k} {v}" for k, v in c.value_counts().items()))
        print(often.to_string(), "\n")
    if not options.quick:
        for name in ("error_10", "error_100"):
            frame[name] = [float(f"{v:.4g}") for v in frame[name]]
        frame.to_csv(HERE / "law_selection.csv", index=False, lineterminator="\n")
        about = {"replicates": count, "noise": options.noise, "numpy": np.__version__}
        about |= {"python": platform.python_version(), "workbench": workbench.__version__}
        (HERE / "law_selection.json").write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
