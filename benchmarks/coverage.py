"""Do nominal 95 % intervals cover? ``python benchmarks/coverage.py [--replicates 400] [--quick] [--draw]``

Data sets with known parameters are drawn again and again under five designs, fitted, and each interval is
scored by whether it holds the truth: every parameter, the loss at ten times the largest compute, a new
run there, and where there is one the exponent of the compute-optimal size. Two objectives: squares of
log loss, and Huber's with delta 1e-3, which under noise of one per cent is nearly a median.

* ``grid``: sizes times tokens (or 30 scales), normal noise; ``isoflop``: sizes along equal-compute lines
  (or six runs at each of six scales); ``few``: 12 runs;
* ``heavy``: as ``grid`` with Student-t noise of 3 degrees;
* ``clusters``: 12 runs of 10 checkpoints each, errors AR(1) with correlation 0.9 along a run.

A parameter that the fit calls unidentified is counted as such and not scored, and so is an interval
without an end, for every method alike. Every replicate scores the recommended method; the others run on
every ``--others``-th. Writes ``coverage.csv`` and ``coverage.json`` beside this file; ``--draw`` makes
``docs/pictures/coverage.png`` of them and needs altair, the study itself does not.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np  # noqa: E402 (the variables above must be set first)
import pandas as pd  # noqa: E402
import scipy  # noqa: E402
from scipy.stats import beta as beta_distribution  # noqa: E402

import workbench  # noqa: E402
from workbench.engine.diagnostics import diagnose  # noqa: E402
from workbench.engine.objective import Objective  # noqa: E402
from workbench.engine.solver import Problem, Solution  # noqa: E402
from workbench.fits.bootstrap import refit  # noqa: E402
from workbench.fits.intervals import OFFERED  # noqa: E402
from workbench.fits.points import Points  # noqa: E402
from workbench.fits.result import Fit  # noqa: E402
from workbench.laws.base import get  # noqa: E402

HERE = Path(__file__).resolve().parent
TABLE, PICTURE = HERE / "coverage.csv", HERE.parent / "docs/pictures/coverage.png"
NOISE, LEVEL, BAND = 0.01, 0.95, (0.93, 0.97)
#: law -> parameters of the truth; the sizes of Besiroglu et al. 2024 where the law has the form.
LAWS = {
    "power": {"A": 20.0, "alpha": 0.05},
    "power_constant": {"E": 1.7, "A": 700.0, "alpha": 0.15},
    "exponential": {"E": 1.7, "A": 2.0, "x_0": 2e20},
    "chinchilla": {"E": 1.82, "A": 482.0, "B": 2085.0, "alpha": 0.348, "beta": 0.366},
    "chinchilla_tied": {"E": 1.82, "A": 600.0, "B": 1800.0, "alpha": 0.355},
    "over_training": {"E": 1.82, "a": 824.0, "b": 2473.0, "eta": 0.1775},
    "kaplan": {"N_c": 8.8e13, "D_c": 5.4e13, "alpha_N": 0.076, "alpha_D": 0.095},
}
DESIGNS = ("grid", "isoflop", "few", "heavy", "clusters")
OBJECTIVES = ("log-mse", "log-huber")
CURVE, RUN, SIZE = "loss at 10x", "new run at 10x", "exponent of optimal size"
CHUNK = 20


def design(law: str, name: str) -> tuple[dict, dict, np.ndarray]:
    """Inputs of every run, those of the point at ten times the compute, and the cluster of each run."""
    inputs = [i.symbol for i in get(law).inputs]
    runs, checkpoints = 12, 10
    if len(inputs) == 1:
        linear = law == "exponential"  # decays along a plain axis, not a logarithmic one
        space = np.linspace if linear else np.geomspace
        low, high = (2e19, 1e21) if linear else (1e17, 1e21)
        if name == "isoflop":
            x = np.repeat(space(low, high, 6), 6)
        elif name == "clusters":
            ends = np.full(runs, high) if linear else np.geomspace(3e18, high, runs)
            x = np.concatenate([space(low if linear else end / 30, end, checkpoints) for end in ends])
        else:
            x = space(low, high, 12 if name == "few" else 30)
        columns, target = {inputs[0]: x}, {inputs[0]: np.array([10 * high])}
    else:
        if name == "isoflop":
            flops, ratio = (v.ravel() for v in np.meshgrid(np.geomspace(1e18, 1e21, 5), np.geomspace(1, 400, 7)))
            n = np.sqrt(flops / 6 / ratio)
            d = n * ratio
        elif name == "clusters":
            n, ends = (v.ravel() for v in np.meshgrid(np.geomspace(6e7, 1.6e10, 6), [1e10, 3e11]))
            d = np.concatenate([np.geomspace(end / 30, end, checkpoints) for end in ends])
            n = np.repeat(n, checkpoints)
        else:
            sides = (4, 3) if name == "few" else (6, 6)
            n, d = np.meshgrid(np.geomspace(6e7, 1.6e10, sides[0]), np.geomspace(1e9, 3e11, sides[1]))
            n, d = n.ravel(), d.ravel()
        far = {"N": np.array([n.max() * 10**0.5]), "D": np.array([d.max() * 10**0.5])}
        both = [{"N": n, "D": d}, far]
        if inputs == ["C", "M"]:
            both = [{"C": 6 * v["N"] * v["D"], "M": v["D"] / v["N"]} for v in both]
        columns, target = both
    size = next(iter(columns.values())).size
    return columns, target, np.repeat(np.arange(runs), checkpoints) if name == "clusters" else np.arange(size)


def errors(name: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """Errors ``[size]`` of log loss, and as the last one that of a new run."""
    if name == "heavy":
        return NOISE * rng.standard_t(3, size)
    if name != "clusters":
        return NOISE * rng.normal(size=size)
    out = rng.normal(size=(size // 10 + 1, 10))
    for step in range(1, 10):
        out[:, step] = 0.9 * out[:, step - 1] + np.sqrt(1 - 0.9**2) * out[:, step]
    return NOISE * out.ravel()[:size]


def work(task: tuple) -> tuple[list[tuple], int]:
    """Score one chunk of one cell: rows of (method, quantity, outcome, width) and how many replicates failed."""
    law_name, name, objective, replicates, others, n, seed = task
    law, truth = get(law_name), LAWS[law_name]
    x, target, cluster = design(law_name, name)
    theta = np.array([truth[s] for s in law.symbols])
    clean, far = law.predict(theta, x), law.predict(theta, target)[0]
    cell = [list(LAWS).index(law_name), DESIGNS.index(name), OBJECTIVES.index(objective)]
    drawn = np.stack([errors(name, clean.size + 1, np.random.default_rng([seed, *cell, r])) for r in replicates])
    base = Problem(law, x, clean, np.ones(clean.size), Objective(objective), {}, {})
    # All data sets of the chunk share the design, so that one batch of the solver fits them.
    estimates, values = refit(base, np.repeat(theta[None], len(drawn), axis=0), -drawn[:, :-1])
    rows, failed = [], 0
    for k, replicate in enumerate(replicates):
        y = clean * np.exp(drawn[k, :-1])
        problem = Problem(law, x, y, base.weights, base.objective, {}, {})
        one = np.zeros(1)
        solution = Solution(estimates[k, None], values[k, None], one, one == 0, one)
        fit = Fit(
            law=law,
            runs=None,
            points=Points(
                frame=pd.DataFrame({"run": np.arange(y.size)}),
                x=x,
                y=y,
                weights=base.weights,
                cluster=cluster,
                left_out={},
                columns={s: s for s in x},
                target="loss",
                grouped_by="run" if name == "clusters" else None,
            ),
            problem=problem,
            theta=estimates[k],
            diagnostics=diagnose(problem, solution, 0, 1),
            seed=replicate,
        )
        new_run = far * np.exp(drawn[k, -1])
        methods = OFFERED if replicate % others == others - 1 else ("recommended",)
        for method in methods:
            try:
                rows += score(fit, method, n, truth, target, far, new_run)
            except (ValueError, np.linalg.LinAlgError) as error:
                failed += 1
                print(f"{law_name} {name} {objective} {method} replicate {replicate}: {error}", file=sys.stderr)
    return rows, failed


def score(fit: Fit, method: str, n: int, truth: dict, target: dict, far: float, new_run: float) -> list[tuple]:
    """Rows of (method, quantity, outcome, width); the width is in logarithms where the quantity is positive."""
    rows = []
    table = fit.intervals(method, LEVEL, n)
    for symbol, row in table.iterrows():
        if symbol in fit.diagnostics.unidentified:
            rows.append((method, symbol, "unidentified", np.nan))
        elif not row.identified:
            rows.append((method, symbol, "open", np.nan))
        else:
            rows.append((method, symbol, _held(row.low, truth[symbol], row.high), np.log(row.high / row.low)))
    if method == "profile":  # a profile is of a parameter
        return rows
    for kind, quantity, value in (("curve", CURVE, far), ("run", RUN, new_run)):
        row = fit.predict(target, kind=kind, level=LEVEL, n=n, method=method).iloc[0]
        if np.isfinite(row["low"]) and np.isfinite(row["high"]):
            rows.append((method, quantity, _held(row["low"], value, row["high"]), np.log(row["high"] / row["low"])))
        else:
            rows.append((method, quantity, "open", np.nan))
    if "beta" in truth:
        end = fit.conclusion(lambda p: p["beta"] / (p["alpha"] + p["beta"]), level=LEVEL, n=n, method=method)
        value = truth["beta"] / (truth["alpha"] + truth["beta"])
        rows.append((method, SIZE, _held(end["low"], value, end["high"]), end["high"] - end["low"]))
    return rows


def _held(low: float, value: float, high: float) -> str:
    return "held" if low <= value <= high else "below" if value < low else "above"


def study(arguments: argparse.Namespace) -> pd.DataFrame:
    """Run every cell on all cores, with progress, and write the table."""
    begin = time.perf_counter()
    laws = arguments.laws or list(LAWS)
    cells = [(law, d, o) for law in laws for d in arguments.designs or DESIGNS for o in OBJECTIVES]
    starts = range(0, arguments.replicates, CHUNK)
    tasks = [
        (*cell, range(s, min(s + CHUNK, arguments.replicates)), arguments.others, arguments.resamples, arguments.seed)
        for s in starts
        for cell in cells
    ]
    outcomes: dict[tuple, Counter] = {}
    widths: dict[tuple, list] = {}
    failed = 0
    workers = arguments.workers or os.cpu_count() or 1
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(work, task): task for task in tasks}
        for done, future in enumerate(as_completed(waiting), 1):
            task = waiting[future]
            rows, lost = future.result()
            failed += lost
            for method, quantity, outcome, width in rows:
                key = (*task[:3], method, quantity)
                outcomes.setdefault(key, Counter())[outcome] += 1
                widths.setdefault(key, []).append(width)
            spent = time.perf_counter() - begin
            left = spent / done * (len(tasks) - done)
            print(f"\r{done}/{len(tasks)} chunks, {spent:.0f} s, about {left:.0f} s left   ", end="", file=sys.stderr)
    print(file=sys.stderr)
    table = pd.DataFrame([_summary(k, outcomes[k], widths[k]) for k in sorted(outcomes)])
    table.to_csv(arguments.out, index=False, float_format="%.5g")
    about = {
        "command": " ".join(["python", "benchmarks/coverage.py", *sys.argv[1:]]),
        "replicates": arguments.replicates,
        "other_methods_on_every": arguments.others,
        "resamples": arguments.resamples,
        "seed": arguments.seed,
        "level": LEVEL,
        "noise": NOISE,
        "failed": failed,
        "seconds": round(time.perf_counter() - begin, 1),
        "workers": workers,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "workbench": workbench.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "pandas": pd.__version__,
        },
    }
    arguments.out.with_suffix(".json").write_text(json.dumps(about, indent=2) + "\n")
    return table


def _summary(key: tuple, outcomes: Counter, widths: list[float]) -> dict:
    held, scored = outcomes["held"], outcomes["held"] + outcomes["below"] + outcomes["above"]
    # Clopper and Pearson's exact binomial interval of the coverage
    low = beta_distribution.ppf(0.025, held, scored - held + 1) if held else 0.0
    high = beta_distribution.ppf(0.975, held + 1, scored - held) if held < scored else 1.0
    return {
        **dict(zip(("law", "design", "objective", "method", "quantity"), key, strict=True)),
        "scored": scored,
        "coverage": held / scored if scored else np.nan,
        "coverage_low": low,
        "coverage_high": high,
        "truth_below": outcomes["below"] / scored if scored else np.nan,
        "truth_above": outcomes["above"] / scored if scored else np.nan,
        "unidentified": outcomes["unidentified"] / sum(outcomes.values()),
        "open": outcomes["open"] / sum(outcomes.values()),
        "median_width": float(np.nanmedian(widths)) if np.isfinite(widths).any() else np.nan,
    }


def report(table: pd.DataFrame) -> None:
    """Print, for each method and design, the range of coverage over laws and quantities."""
    kind = np.where(table["quantity"].isin([CURVE, RUN, SIZE]), table["quantity"], "parameters")
    scored = table.assign(kind=kind)[table["scored"] > 0]
    for (objective, name), cell in scored.groupby(["objective", "design"], sort=False):
        print(f"\n{objective}, {name}")
        for method in OFFERED:
            parts = []
            for what in ("parameters", CURVE, RUN, SIZE):
                c = cell[(cell["method"] == method) & (cell["kind"] == what)]["coverage"]
                if len(c):
                    parts.append(f"{what} {c.min():.1%} to {c.max():.1%}, mean {c.mean():.1%}")
            print(f"  {method:12} " + "; ".join(parts))
    good = scored[scored["method"] == "recommended"]
    inside = good["coverage"].between(*BAND)
    clear = (good["coverage_high"] < BAND[0]) | (good["coverage_low"] > BAND[1])
    print(f"\nrecommended: {inside.sum()} of {len(good)} rows within 93-97 %, {clear.sum()} beyond by more than chance")
    print(good[clear].drop(columns=["method", "kind"]).to_string(index=False))


def draw(table: pd.DataFrame, about: dict) -> None:
    """The picture: a panel a design and objective, a row a method, a mark a law and quantity."""
    import altair as alt

    from workbench.figures.render import save
    from workbench.figures.style import CATEGORIES, GREY, SHAPES, title

    floor = 0.5
    shown = table[table["scored"] > 0].copy()
    shown["kind"] = np.where(shown["quantity"].isin([CURVE, RUN, SIZE]), shown["quantity"], "parameter")
    kinds = ["parameter", CURVE, RUN, SIZE]
    shown["lane"] = shown["kind"].map({k: i for i, k in enumerate(kinds)})
    outside = (shown["coverage_high"] < BAND[0]) | (shown["coverage_low"] > BAND[1])
    shown["verdict"] = np.where(outside, "outside 93-97 % by more than chance", "within, or too few to say")
    below = int((shown["coverage"] < floor).sum())
    for column in ("coverage", "coverage_low", "coverage_high"):
        shown[column] = 100 * shown[column].clip(lower=floor)
    scale = alt.Scale(domain=[100 * floor, 100], nice=False)
    x = alt.X("coverage:Q", title=None, scale=scale)
    y = alt.Y("method:N", sort=list(OFFERED), title=None, axis=alt.Axis(grid=False, domain=False, ticks=False))
    offset = alt.YOffset("lane:O", scale=alt.Scale(paddingOuter=0.35))
    colour = alt.Color(
        "kind:N",
        sort=kinds,
        scale=alt.Scale(domain=kinds, range=list(CATEGORIES[:4])),
        legend=alt.Legend(title="Quantity", orient="top", labelLimit=300, columns=2),
    )
    filled = alt.Fill(
        "verdict:N",
        scale=alt.Scale(
            domain=["outside 93-97 % by more than chance", "within, or too few to say"], range=["#c00", "#fff"]
        ),
        legend=alt.Legend(
            title="Coverage", orient="top", labelLimit=300, columns=1, symbolType="circle", symbolStrokeColor=GREY
        ),
    )
    present = [law for law in LAWS if (shown["law"] == law).any()]
    shape = alt.Shape(
        "law:N",
        sort=present,
        scale=alt.Scale(domain=present, range=list(SHAPES[: len(present)])),
        legend=alt.Legend(title="Law", orient="top", labelLimit=300, columns=4),
    )
    rows = []
    for name in DESIGNS:
        panels = []
        for objective in OBJECTIVES:
            part = shown[(shown["design"] == name) & (shown["objective"] == objective)]
            if part.empty:
                continue
            band = alt.Chart(pd.DataFrame({"low": [100 * BAND[0]], "high": [100 * BAND[1]]}))
            layers = [
                band.mark_rect(color=GREY, opacity=0.28).encode(alt.X("low:Q", scale=scale), alt.X2("high:Q")),
                alt.Chart(part)
                .mark_rule(strokeWidth=1, opacity=0.35)
                .encode(alt.X("coverage_low:Q", title=None, scale=scale), alt.X2("coverage_high:Q"), y, offset, colour),
                alt.Chart(part)
                .mark_point(size=26, strokeWidth=1.2, opacity=0.9)
                .encode(x, y, offset, colour, shape, filled),
            ]
            panels.append(alt.layer(*layers).properties(width=360, height=230, title=f"{name}, {objective}"))
        if panels:
            rows.append(alt.hconcat(*panels, spacing=24))
    chart = alt.vconcat(*rows, spacing=14).properties(
        title=title(
            "Coverage of nominal 95 % intervals, %",
            f"{about['replicates']} data sets a cell",
            f"methods below the first row on 1 in {about['other_methods_on_every']}",
            f"{shown['law'].nunique()} laws; each mark one quantity of one law, with its binomial interval",
            "grey band: 93-97 %",
            f"{below} marks below {floor:.0%} drawn at the edge" if below else "",
        )
    )
    save(chart, PICTURE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicates", type=int, default=400, help="data sets per law, design and objective")
    parser.add_argument("--others", type=int, default=4, help="score the other methods on every this many-th data set")
    parser.add_argument("--resamples", type=int, default=400, help="bootstrap resamples and simulated data sets")
    parser.add_argument("--seed", type=int, default=1, help="seed 0 is the one the rule was chosen on")
    parser.add_argument("--workers", type=int, help="processes; default one per core")
    parser.add_argument("--laws", nargs="+", choices=LAWS, help="only these laws")
    parser.add_argument("--designs", nargs="+", choices=DESIGNS, help="only these designs")
    parser.add_argument("--quick", action="store_true", help="40 data sets, two laws, 200 resamples")
    parser.add_argument("--out", type=Path, default=TABLE, help="where the table goes")
    parser.add_argument("--draw", action="store_true", help="only draw the table that is there")
    arguments = parser.parse_args()
    if arguments.draw:
        draw(pd.read_csv(arguments.out), json.loads(arguments.out.with_suffix(".json").read_text()))
        return
    if arguments.quick:
        arguments.replicates, arguments.resamples = 40, 200
        arguments.laws = arguments.laws or ["power_constant", "chinchilla_tied"]
    report(study(arguments))


if __name__ == "__main__":
    main()
