"""Fitting speed against scipy on the same points, in one run: ``python benchmarks/fit_speed.py [POINTS]``.

POINTS is a file with parameters, FLOP and loss, such as the 245 points digitised from Hoffmann et al. 2022,
figure 4; of it the five highest losses are dropped, as in Besiroglu et al. 2024. Without it the points
are drawn from their published fit. Every peer does the work in its own usual way on one thread:

1. the published grid: 4500 starts, each walked by scipy's L-BFGS-B with numeric gradients; a tenth
   (every tenth start) stands for the whole;
2. the 4000-resample bootstrap by scipy ``minimize`` (BFGS with a gradient written by hand, faster than
   the numeric or automatic gradients people use), a tenth for the whole;
3. the same by scipy ``least_squares(loss="huber")`` with an analytic Jacobian, all 4000;
4. time to import, and a refit after dropping one point.

The optimum of every approach is printed beside its time: a fast answer to another question is no answer.
"""

from __future__ import annotations

import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np  # noqa: E402 (the variables above must be set first)
import pandas as pd  # noqa: E402
from scipy.optimize import least_squares, minimize  # noqa: E402

import workbench  # noqa: E402
from workbench.fits.intervals import resample  # noqa: E402

DELTA, GRID_SHARE, BOOT, BOOT_SHARE = 1e-3, 10, 4000, 10


def points(argument: str | None) -> tuple[pd.DataFrame, str]:
    """The 240 points and where they come from."""
    shared = Path(__file__).resolve().parents[2] / "shared/runs/chinchilla/digitised_points.csv"
    path = Path(argument) if argument else shared if shared.is_file() else None
    if path is not None:
        frame = workbench.load(path).frame[["params", "tokens", "loss"]]
        return frame[frame["loss"] < frame["loss"].nlargest(5).iloc[-1]].reset_index(drop=True), path.name
    rng = np.random.default_rng(0)
    n, d = (np.exp(rng.uniform(np.log(a), np.log(b), 240)) for a, b in ((6e7, 1.6e10), (8e8, 3e11)))
    loss = (1.8172 + 482.01 * n**-0.3478 + 2085.43 * d**-0.3658) * np.exp(0.008 * rng.standard_t(3, 240))
    return pd.DataFrame(
        {"params": n, "tokens": d, "loss": loss}
    ), "240 points drawn from Besiroglu et al. 2024, table 1"


class Scipy:
    """The objective as a careful scipy user writes it."""

    def __init__(self, frame: pd.DataFrame):
        self.log_n, self.log_d = np.log(frame["params"].to_numpy()), np.log(frame["tokens"].to_numpy())
        self.target = np.log(frame["loss"].to_numpy())

    def residuals(self, p, rows=slice(None)):
        log_n, log_d = self.log_n[rows], self.log_d[rows]
        terms = np.stack([np.full(log_n.size, p[0]), p[1] - p[3] * log_n, p[2] - p[4] * log_d])
        top = terms.max(0)
        return top + np.log(np.exp(terms - top).sum(0)) - self.target[rows]

    def jacobian(self, p, rows=slice(None)):
        log_n, log_d = self.log_n[rows], self.log_d[rows]
        e, a, b = np.exp(p[0]) + 0 * log_n, np.exp(p[1] - p[3] * log_n), np.exp(p[2] - p[4] * log_d)
        return np.stack([e, a, b, -log_n * a, -log_d * b], axis=1) / (e + a + b)[:, None]

    def value(self, p, rows=slice(None)):
        size = np.abs(self.residuals(p, rows))
        return np.where(size <= DELTA, 0.5 * size**2, DELTA * (size - 0.5 * DELTA)).sum()

    def gradient(self, p, rows=slice(None)):
        return self.jacobian(p, rows).T @ np.clip(self.residuals(p, rows), -DELTA, DELTA)


def timed(work):
    begin = time.perf_counter()
    result = work()
    return time.perf_counter() - begin, result


def main() -> None:
    frame, source = points(sys.argv[1] if len(sys.argv) > 1 else None)
    print(f"{len(frame)} points: {source}; Huber on log loss, delta {DELTA:g}, summed; one thread\n")
    peer = Scipy(frame)

    workbench.fit(frame, "chinchilla")  # imports and first-call costs stay out of every figure
    ours, fitted = min((timed(lambda: workbench.fit(frame, "chinchilla")) for _ in range(5)), key=lambda r: r[0])
    axes = (
        [-1, -0.5, 0, 0.5, 1],
        [0, 5, 10, 15, 20, 25],
        [0, 5, 10, 15, 20, 25],
        [0, 0.5, 1, 1.5, 2],
        [0, 0.5, 1, 1.5, 2],
    )
    grid = list(itertools.product(*axes))[::GRID_SHARE]
    seconds, ends = timed(lambda: [minimize(peer.value, start, method="L-BFGS-B") for start in grid])
    best = min(end.fun for end in ends)
    near = sum(end.fun < best * 1.001 for end in ends)
    row(
        "point fit, workbench", ours, f"objective {fitted.value:.10g}, {fitted.diagnostics.agreeing} of 32 starts agree"
    )
    row(f"grid of {len(grid)} L-BFGS-B starts", seconds, f"objective {best:.10g}, {near} of {len(grid)} within 0.1 %")
    ratio("grid of 4500, scaled", seconds * GRID_SHARE / ours, 200)

    ours, draws = timed(lambda: workbench.fit(frame, "chinchilla").draws(BOOT))
    weights = resample(fitted.points.cluster, np.ones(len(frame)), BOOT, np.random.default_rng(fitted.seed))
    samples = [np.repeat(np.arange(len(frame)), w.astype(int)) for w in weights]
    start = np.concatenate([np.log(fitted.theta[:3]), fitted.theta[3:]])
    few = samples[: BOOT // BOOT_SHARE]
    seconds, _ = timed(lambda: [minimize(peer.value, start, (s,), "BFGS", peer.gradient) for s in few])
    options = {"loss": "huber", "f_scale": DELTA, "x_scale": "jac"}
    careful, ends = timed(
        lambda: [least_squares(peer.residuals, start, peer.jacobian, args=(s,), **options) for s in samples]
    )
    theirs = np.array([end.x for end in ends])
    costs = np.array([fitted.problem.values(t[None], w[None])[0] for t, w in zip(draws, weights, strict=True)])
    worse = int((costs > np.array([end.cost for end in ends]) * 1.001).sum())
    print()
    row(f"{BOOT} resamples, workbench", ours, f"SE of alpha {draws[:, 3].std():.4f}, beta {draws[:, 4].std():.4f}")
    row(f"{len(few)} scipy minimize (BFGS)", seconds, "")
    ratio(f"{BOOT} minimize, scaled", seconds * BOOT_SHARE / ours, 30)
    row(f"{BOOT} scipy least_squares", careful, f"SE of alpha {theirs[:, 3].std():.4f}, beta {theirs[:, 4].std():.4f}")
    ratio(f"{BOOT} least_squares", careful / ours, 1)
    print(f"  resamples on which scipy's objective is more than 0.1 % lower: {worse} of {BOOT}\n")

    run = fitted.points.frame["run"].iloc[17]
    refit = statistics.median(timed(lambda: fitted.without(run))[0] for _ in range(15))
    row("refit after dropping a point", refit, "goal: under 0.050 s")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "runs.csv"
        wide = {
            name: 10 ** np.random.default_rng(0).uniform(6, 9, 1000) for name in ("params", "tokens", "loss", *"ab")
        }
        pd.DataFrame(wide).to_csv(path, index=False)
        seconds = min(timed(lambda: workbench.load(path))[0] for _ in range(5))
        plain = min(timed(lambda: pd.read_csv(path))[0] for _ in range(5))
    row("load 1000 runs from CSV", seconds, f"pandas.read_csv alone: {plain:.4f} s")
    code = "import sys, time; t = time.perf_counter(); import workbench; t = time.perf_counter() - t"
    code += "; print(t, 'torch' in sys.modules)"
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split() for _ in range(5)
    ]
    seconds = statistics.median(float(printed[0]) for printed in runs)
    row("import workbench", seconds, f"goal: under 0.5 s; torch imported: {runs[0][1]}")


def row(name: str, seconds: float, note: str) -> None:
    print(f"  {name:34} {seconds:9.4f} s   {note}")


def ratio(name: str, value: float, goal: float) -> None:
    print(f"  {'→ ' + name:34} {value:9.1f} ×   goal: at least {goal}")


if __name__ == "__main__":
    main()
