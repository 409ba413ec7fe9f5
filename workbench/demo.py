"""``workbench demo``: real runs, four laws and more, held-out larger runs, a fresh probe, a report; under a minute."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from workbench.fits.compare import DEFAULT_LAWS, Comparison, compare
from workbench.fits.fit import fit
from workbench.fits.result import Fit
from workbench.progress import Progress
from workbench.runs.load import load
from workbench.runs.table import RunTable
from workbench.shipped import sweep as shipped_sweep
from workbench.units import human

__all__ = ["demo", "fresh_probe"]

#: The runs that enter. Below about a thousand steps, and in the narrowest models, the loss is not yet on
#: its power laws: this cut predicts the held-out runs ten times better than no cut (notebook 1 shows both).
WHERE = "steps >= 1000 and width >= 8"
#: Share of runs, by compute, that the laws must predict without having seen them.
HELD_OUT = 0.2


def demo(out: str | Path, *, seed: int = 0, say: Callable[[str], None] = print) -> Path:
    """Run the demonstration.

    Args:
        out: where the HTML report goes.
        seed: seed of the fresh probe and of the fits.
        say: receives each line of the account.

    Returns:
        Path of the report.

    Raises:
        OSError: the report cannot be written there; said before the work, not after it.
    """
    started = time.monotonic()
    _check_place(Path(out))
    runs = load(shipped_sweep("bigram"))
    entropy = float(runs.attributes["entropy"])
    say(f"Loaded {runs}")

    with Progress(f"Fitting and comparing {len(DEFAULT_LAWS)} laws") as progress:
        comparison = compare(runs, DEFAULT_LAWS, where=WHERE, holdout=HELD_OUT, n=200, seed=seed, tick=progress)
    say(str(comparison))
    chosen = comparison.best
    say("\nThe largest runs, predicted without having seen them:")
    held_out = _by_cell(comparison.predictions[chosen.law.name])
    say(held_out.to_string(index=False))

    # The three seeds of a cell share what the law gets wrong there, so they are resampled together.
    final = fit(runs, "chinchilla", where=WHERE, cluster="cell", seed=seed)
    with Progress("Bootstrap, 1000 resamples") as progress:
        final.joint_draws(1000, progress)
    known = _known_entropy(final, entropy)
    say(f"\n{final}\n{known}")
    plan = final.plan(10 * final.points.frame["flops"].max())
    say(str(plan))

    with Progress("Training one fresh probe on this machine") as progress:
        probe = fresh_probe(runs, seed, progress)
    verdict, point = _judge(final, probe)
    say(f"\n{verdict}")

    with Progress("Writing the report") as progress:
        path = _report(runs, comparison, held_out, final, known, entropy, plan, verdict, point, progress).write(out)
    say(f"\nReport: {path}\nIn all {time.monotonic() - started:.0f} s. Next: workbench lab")
    return path


def fresh_probe(runs: RunTable, seed: int, tick: Callable[[float, str], None] | None = None) -> RunTable:
    """Train one small probe of the shipped sweep's kind with a seed the sweep has not seen.

    It is one of the sweep's own cells (`demo_probe` of its attributes), so that only the seed, the
    machine and the precision of its matrix products differ. The run folder is temporary.
    """
    from workbench.launch.worker import run
    from workbench.probes.spec import Probe

    probe = Probe(**runs.attributes["demo_probe"], seed=10_000 + seed)
    with tempfile.TemporaryDirectory(prefix="workbench-demo-", ignore_cleanup_errors=True) as folder:
        return run(probe, folder, device="cpu", tick=tick)


def _check_place(out: Path) -> None:
    if out.is_dir():
        raise IsADirectoryError(f"{str(out)!r} is a folder; name the file to write the report to")
    above = next(p for p in out.absolute().parents if p.exists())
    if not above.is_dir():
        raise NotADirectoryError(f"{str(above)!r} is a file, so no report can be written below it; name a folder")
    if not os.access(above, os.W_OK):
        raise PermissionError(f"nothing can be written to {str(above)!r}; choose another place with --out")


def _by_cell(rows: pd.DataFrame) -> pd.DataFrame:
    """Predicted against measured, one row for each size and horizon, seeds averaged."""
    keys = [c for c in ("params", "tokens", "flops", "tokens_per_param") if c in rows]
    inside = (rows["measured"] >= rows["low"]) & (rows["measured"] <= rows["high"])
    grouped = rows.assign(inside=inside).groupby(keys, as_index=False)
    table = grouped.agg(
        runs=("measured", "size"), measured=("measured", "mean"), predicted=("prediction", "mean"),
        low=("low", "mean"), high=("high", "mean"), inside=("inside", "mean"),
    )  # fmt: skip
    out = pd.DataFrame({c: [human(v) for v in table[c]] for c in keys})
    out["runs"] = table["runs"]
    for column in ("measured", "predicted", "low", "high"):
        out[column] = [f"{v:.4f}" for v in table[column]]
    out["error"] = [f"{100 * (p / m - 1):+.2f} %" for p, m in zip(table["predicted"], table["measured"], strict=True)]
    return out


def _known_entropy(final: Fit, entropy: float) -> str:
    row = final.intervals("bootstrap").loc["E"]
    inside = row["low"] <= entropy <= row["high"]
    return (
        f"Irreducible loss E = {row['estimate']:.4f}, 95 % interval {row['low']:.4f} to {row['high']:.4f} nats/token; "
        f"the language's true entropy is {entropy:.4f}: {'inside' if inside else 'OUTSIDE'} the interval"
    )


def _judge(final: Fit, probe: RunTable) -> tuple[str, pd.DataFrame]:
    """Where the fresh run fell against the law's interval for one new run."""
    row = probe.frame.iloc[0]
    said = final.predict(probe.frame).iloc[0]
    inside = said["low"] <= row["loss"] <= said["high"]
    sentence = (
        f"The fresh probe ({human(row['params'])} parameters, {human(row['tokens'])} tokens) reached "
        f"{row['loss']:.4f} nats/token; the law said {said['prediction']:.4f}, 95 % interval for one run "
        f"{said['low']:.4f} to {said['high']:.4f}: {'inside' if inside else 'outside'}"
    )
    return sentence, probe.frame.assign(label="fresh probe")


def _report(runs, comparison: Comparison, held_out, final: Fit, known, entropy, plan, verdict, point, tick):
    from workbench.figures.comparison import comparison as comparison_figure
    from workbench.figures.curve import curve
    from workbench.figures.intervals import intervals
    from workbench.figures.plan import plan as plan_figure
    from workbench.report import Report

    report = Report(
        "A scaling law, from runs to a plan",
        f"{len(runs)} transformers on a language of known entropy, fitted, compared, judged and used.",
        f"Runs: {runs.attributes.get('training_data', 'shipped sweep')}. Points {np.int64(final.n_runs)}, "
        f"objective {final.problem.objective.name}, seed {final.seed}.",
    )
    report.say(known + ".", key=True)
    report.figure(curve(final, extra=point))
    tick(0.2)
    report.say(verdict + ".")
    report.heading("Which law?")
    report.say(
        f"Every law was fitted to the {comparison.n_runs} smaller runs and had to predict the rest "
        f"({comparison.holdout}). The table is ranked by that error."
    )
    report.figure(comparison_figure(comparison))
    tick(0.4)
    report.table(comparison.table())
    report.heading("Held-out runs, predicted and measured")
    report.table(held_out, f"{comparison.best.law.title}, nats/token; the interval is for one run")
    report.heading("How sure?")
    report.figure(intervals(final, truth={"E": entropy}))
    tick(0.6)
    report.table(final.table(digits=4), "95 % bootstrap over runs")
    report.heading("What to train next")
    report.figure(plan_figure(final, flops=np.geomspace(1e12, 1e15, 7)))
    tick(0.8)
    report.table(plan.table(), "Ten times the largest budget of the sweep")
    report.heading("The fit card")
    for section, rows in final.card().sections.items():
        report.table(pd.DataFrame(rows, columns=[section, ""]), words=True)
    return report
