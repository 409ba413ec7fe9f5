"""Intervals of the Chinchilla law against other packages, on the same points in one run.

    pip install lmfit chinchilla simple-scaling-laws     # those that are missing are reported as not run
    python benchmarks/peers.py [POINTS] [--replicates 100]

POINTS as in fit_speed.py. Each package computes the interval of alpha its own way; where that is a bootstrap it is one
of 4000 draws, where it offers none it is driven through the same 4000 resamples of the runs, a share of them timed and
scaled. Then the coverage of nominal 95 % intervals of alpha on drawn designs of known truth, for those that are fast
enough to be asked often. All on one thread.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np  # noqa: E402 (the variables above must be set first)
import pandas as pd  # noqa: E402
from fit_speed import points, timed  # noqa: E402

import workbench  # noqa: E402

DRAWS, TRUTH = 4000, {"E": 1.8172, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658}
Z = 1.959964


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("points", nargs="?")
    parser.add_argument("--replicates", type=int, default=100, help="drawn data sets of the coverage")
    options = parser.parse_args()
    frame, source = points(options.points)
    print(f"{len(frame)} points: {source}; one thread\n\n95 % interval of alpha from {DRAWS} draws")
    workbench.fit(frame, "chinchilla")
    # As asked of each: the same objective on both sides, a fresh fit included.
    squares, _ = say("workbench, log-MSE", *ours(frame, "log-mse"))
    robust, _ = say("workbench, log-Huber 1e-3", *ours(frame, "log-huber"))
    compare("lmfit, log-MSE, resampled", with_lmfit, frame, squares)
    compare("chinchilla, log-Huber 1e-3, resampled", with_chinchilla, frame, robust)
    linear, _ = say("workbench, MSE", *ours(frame, "mse"))
    compare("simple-scaling-laws, MSE, its wild bootstrap", with_simple, frame, linear)
    coverage(options.replicates)


def ours(frame: pd.DataFrame, objective: str) -> tuple[float, tuple[float, float]]:
    seconds, draws = timed(lambda: workbench.fit(frame, "chinchilla", objective=objective).draws(DRAWS))
    return seconds, tuple(np.percentile(draws[:, 3], [2.5, 97.5]))


def say(name: str, seconds: float, interval: tuple[float, float]) -> tuple[float, None]:
    print(f"  {name:46} {seconds:9.2f} s   {interval[0]:.4f} to {interval[1]:.4f}")
    return seconds, None


def compare(name: str, work, frame: pd.DataFrame, ours_seconds: float) -> None:
    try:
        seconds, interval = work(frame)
    except ImportError as missing:
        print(f"  {name:46}   not run: {missing}")
        return
    say(name, seconds, interval)
    print(f"  {'→':46} {seconds / ours_seconds:9.1f} ×  goal: at least 5 for the fastest of them")


def resamples(frame: pd.DataFrame, n: int) -> list[pd.DataFrame]:
    rng = np.random.default_rng(0)
    return [frame.iloc[rng.integers(len(frame), size=len(frame))] for _ in range(n)]


def lmfit_result(frame: pd.DataFrame, start: dict[str, float]):
    """lmfit's usual way: a residual function, its default Levenberg-Marquardt with numeric derivatives."""
    import lmfit

    log_n, log_d = np.log(frame["params"].to_numpy()), np.log(frame["tokens"].to_numpy())
    target = np.log(frame["loss"].to_numpy())

    def residual(p):
        return np.log(p["E"] + np.exp(p["a"] - p["alpha"] * log_n) + np.exp(p["b"] - p["beta"] * log_d)) - target

    parameters = lmfit.Parameters()
    values = {"E": start["E"], "a": np.log(start["A"]), "b": np.log(start["B"])}
    for symbol, value in {**values, "alpha": start["alpha"], "beta": start["beta"]}.items():
        parameters.add(symbol, value=value, min=0)
    problem = lmfit.Minimizer(residual, parameters)
    return problem, problem.minimize()


def with_lmfit(frame: pd.DataFrame, share: int = 20) -> tuple[float, tuple[float, float]]:
    import lmfit  # noqa: F401 (absent, it is reported)

    start = workbench.fit(frame, "chinchilla", objective="log-mse").params
    few = resamples(frame, DRAWS // share)
    seconds, ends = timed(lambda: [lmfit_result(sample, start)[1].params["alpha"].value for sample in few])
    return seconds * share, tuple(np.percentile(ends, [2.5, 97.5]))


def with_chinchilla(frame: pd.DataFrame, share: int = 100) -> tuple[float, tuple[float, float]]:
    """The package has no interval; its fit, started at the optimum, is driven through resamples."""
    import chinchilla
    from chinchilla._metrics import log_huber

    logging.disable(logging.CRITICAL)
    start = workbench.fit(frame, "chinchilla").params
    grid = {"E": [start["E"]], "a": [np.log(start["A"])], "b": [np.log(start["B"])]}
    grid |= {"alpha": [start["alpha"]], "beta": [start["beta"]]}
    ends, begin = [], time.perf_counter()
    for sample in resamples(frame, DRAWS // share):
        with tempfile.TemporaryDirectory() as folder:
            table = pd.DataFrame({"N": sample["params"], "D": sample["tokens"], "loss": sample["loss"]})
            table.assign(C=6 * table["N"] * table["D"])[["C", "N", "D", "loss"]].to_csv(
                Path(folder) / "df.csv", index=False
            )
            peer = chinchilla.Chinchilla(
                folder, param_grid=grid, loss_fn=lambda y, p: len(y) * log_huber(y, p, 1e-3), log_level=50
            )
            peer.fit(parallel=False)
            ends.append(peer.params["alpha"])
    return (time.perf_counter() - begin) * share, tuple(np.percentile(ends, [2.5, 97.5]))


def with_simple(frame: pd.DataFrame) -> tuple[float, tuple[float, float]]:
    import simple_scaling_laws as peer

    table = pd.DataFrame({
        "training_run_id": np.arange(len(frame)), "model_size__params": frame["params"],
        "dataset_size__tokens": frame["tokens"], "test_loss__loss": frame["loss"],
    })  # fmt: skip
    seconds, model = timed(lambda: peer.fit(table, law="separable-power", n_draws=DRAWS, seed=0))
    print(model)
    return seconds, (np.nan, np.nan)


def coverage(replicates: int) -> None:
    """Share of drawn data sets whose interval of alpha holds the truth."""
    print(f"\ncoverage of nominal 95 % intervals of alpha, {replicates} drawn data sets each")
    for name, n, noise in (("240 runs, normal noise 1 %", 240, "normal"), ("30 runs, t3 noise 1 %", 30, "t3")):
        held: dict[str, list[bool]] = {}
        for replicate in range(replicates):
            frame = drawn(replicate, n, noise)
            fitted = workbench.fit(frame, "chinchilla", objective="log-mse")
            table = fitted.intervals("recommended")
            held.setdefault("workbench, recommended", []).append(_within(table.low["alpha"], table.high["alpha"]))
            low, high = np.percentile(fitted.draws(400)[:, 3], [2.5, 97.5])
            held.setdefault("pairs bootstrap, percentiles", []).append(_within(low, high))
            try:
                _, result = lmfit_result(frame, TRUTH)
            except ImportError:
                continue
            alpha = result.params["alpha"]
            error = alpha.stderr if alpha.stderr is not None else np.nan
            held.setdefault("lmfit, covariance", []).append(_within(alpha.value - Z * error, alpha.value + Z * error))
        print(f"  {name}: " + "; ".join(f"{k} {np.mean(v):.0%}" for k, v in held.items()))


def drawn(seed: int, n: int, noise: str) -> pd.DataFrame:
    rng = np.random.default_rng([seed, n])
    params, tokens = (np.exp(rng.uniform(np.log(a), np.log(b), n)) for a, b in ((6e7, 1.6e10), (8e8, 3e11)))
    clean = TRUTH["E"] + TRUTH["A"] * params ** -TRUTH["alpha"] + TRUTH["B"] * tokens ** -TRUTH["beta"]
    error = rng.standard_normal(n) if noise == "normal" else rng.standard_t(3, n)
    return pd.DataFrame({"params": params, "tokens": tokens, "loss": clean * np.exp(0.01 * error)})


def _within(low: float, high: float) -> bool:
    return bool(low <= TRUTH["alpha"] <= high)


if __name__ == "__main__":
    main()
