"""Speed of the multiverse against scipy one analysis at a time: ``python benchmarks/multiverse_speed.py [POINTS]``.

POINTS is a file with parameters, FLOP and loss, such as the 245 points digitised from Hoffmann et al. 2022, figure 4;
without it the points are drawn from the law Besiroglu et al. 2024 publish. scipy's ``least_squares`` fits the
same analyses one by one (Huber and squares; absolute values it does not have), each from ten starts near the
published parameters and with an analytic Jacobian, and one bootstrap resample of each from the estimate. Both
use one process. Times are also given as processor time, which a busy machine disturbs less.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np  # noqa: E402 (the variables above must be set first)
import pandas as pd  # noqa: E402
from scipy.optimize import least_squares  # noqa: E402

import workbench  # noqa: E402
from workbench.analysis.multiverse import multiverse  # noqa: E402

STARTS, RESAMPLES, SHARE = 10, 200, 20


def points(argument: str | None) -> pd.DataFrame:
    shared = Path(__file__).resolve().parents[2] / "shared/runs/chinchilla/digitised_points.csv"
    path = Path(argument) if argument else shared if shared.is_file() else None
    if path is not None:
        return workbench.load(path).frame[["params", "tokens", "loss"]]
    rng = np.random.default_rng(0)
    n, d = (np.exp(rng.uniform(np.log(a), np.log(b), 245)) for a, b in ((6e7, 1.6e10), (8e8, 3e11)))
    loss = (1.8172 + 482.01 * n**-0.3478 + 2085.43 * d**-0.3658) * np.exp(0.008 * rng.standard_t(3, 245))
    return pd.DataFrame({"params": n, "tokens": d, "loss": loss})


def timed(work):
    wall, processor = time.perf_counter(), time.process_time()
    result = work()
    return time.perf_counter() - wall, time.process_time() - processor, result


def scipy_fit(points, objective, tied: bool, starts) -> tuple[float, np.ndarray]:
    """The best of several walks of scipy's least_squares on one analysis."""
    log_n, log_d = np.log(points.x["N"]), np.log(points.x["D"])
    y = np.log(points.y) if objective.in_logs else points.y

    def terms(p):
        return np.exp(p[0]) + 0 * log_n, np.exp(p[1] - p[3] * log_n), np.exp(p[2] - p[3 if tied else 4] * log_d)

    def residuals(p):
        total = sum(terms(p))
        return (np.log(total) if objective.in_logs else total) - y

    def jacobian(p):
        e, a, b = terms(p)
        columns = [e, a, b, -log_n * a - log_d * b] if tied else [e, a, b, -log_n * a, -log_d * b]
        return np.stack(columns, axis=1) / ((e + a + b)[:, None] if objective.in_logs else 1.0)

    loss = {"loss": "huber", "f_scale": objective.delta} if objective.shape == "huber" else {}
    ends = [least_squares(residuals, s[:4] if tied else s, jacobian, x_scale="jac", **loss) for s in starts]
    best = min(ends, key=lambda end: end.cost)
    return best.cost, best.x


def main() -> None:
    frame = points(sys.argv[1] if len(sys.argv) > 1 else None)
    multiverse(frame, flops=5.88e23, drop=["subset"])  # imports and first-call costs stay out of every figure
    wall, processor, found = min(
        (timed(lambda: multiverse(frame, flops=5.88e23)) for _ in range(3)), key=lambda t: t[1]
    )
    count = len(found)
    print(f"{len(frame)} points, {count} analyses; one process\n")
    print(f"  workbench, {count} optima and one interval   {wall:7.2f} s ({processor:.2f} s processor): "
          f"200 in {200 * processor / count:.2f} s, goal 1 s")  # fmt: skip
    rng = np.random.default_rng(0)
    centre = np.array([np.log(1.8), np.log(480), np.log(2100), 0.35, 0.37])
    starts = centre * (1 + 0.1 * rng.standard_normal((STARTS, 5)))
    rows = [i for i in range(0, count, SHARE) if found.specs[i].one("objective", None).shape != "absolute"]
    again = {i: found.refit(i) for i in rows}
    theirs, worse, ours_worse = 0.0, 0, 0
    for i in rows:
        objective, tied = found.specs[i].one("objective", None), bool(found.specs[i].pairs("tied"))
        spent = timed(lambda i=i, o=objective, t=tied: scipy_fit(again[i].points, o, t, starts))
        theirs += spent[1]
        ratio = spent[2][0] / found.frame["objective_value"][i]
        worse, ours_worse = worse + (ratio > 1 + 1e-6), ours_worse + (ratio < 1 - 1e-6)
    each = theirs / len(rows)
    print(f"  scipy least_squares, {STARTS} starts, one by one   {each * count:7.2f} s processor "
          f"(from {len(rows)} of them); misses the optimum in {worse}, workbench in {ours_worse}")  # fmt: skip
    print(f"  → {each * count / processor:.1f} ×\n")

    wall, processor, found = timed(lambda: multiverse(frame, flops=5.88e23, n=RESAMPLES))
    print(f"  workbench, {count} x {RESAMPLES} resamples          {wall:7.2f} s ({processor:.2f} s processor): "
          f"200 x {RESAMPLES} in {200 * processor / count:.2f} s, goal 10 s")  # fmt: skip
    print(f"  scipy, one start each resample            {each / STARTS * count * RESAMPLES:7.1f} s processor, scaled")
    print(f"  → {each / STARTS * count * RESAMPLES / processor:.1f} ×")


if __name__ == "__main__":
    main()
