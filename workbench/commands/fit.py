"""``workbench fit``."""

from __future__ import annotations

import argparse
from typing import Any

from workbench.commands.options import (
    add_command,
    emit,
    fitting_options,
    loaded,
    pairs,
    positive,
    say_notes,
    source_options,
)
from workbench.progress import Progress

#: `workbench.fits.intervals.OFFERED`, said here so that --help needs no scipy; a test compares them.
INTERVALS = ("recommended", "bootstrap", "profile", "jacobian", "sandwich", "jackknife", "wild", "simulated")


__all__ = ["add"]


def add(commands: Any) -> None:
    """Declare the parsers."""
    fit = add_command(commands, "fit", _fit, "fit one law to run logs")
    source_options(fit)
    fit.add_argument("--law", required=True, help="name of the law; `workbench laws` lists them")
    fitting_options(fit)
    fit.add_argument("--fix", action="append", default=[], metavar="NAME=VALUE", help="hold a parameter, e.g. E=1.69")
    fit.add_argument("--tie", action="append", default=[], metavar="A=B", help="keep a parameter equal to another")
    fit.add_argument("--weights", help="column with one weight per run")
    fit.add_argument("--cluster", help="column whose equal values are resampled together")
    fit.add_argument("--method", choices=INTERVALS, help="kind of interval; with --bootstrap N that, else recommended")
    fit.add_argument("--flops", type=positive, action="append", metavar="BUDGET", help="also plan for this many FLOP")


def _fit(arguments: argparse.Namespace) -> None:
    import workbench

    fixed = {}
    for symbol, value in pairs(arguments.fix, "--fix").items():
        try:
            fixed[symbol] = float(value)
        except ValueError:
            raise ValueError(f"--fix {symbol}={value}: give a number, e.g. {symbol}=1.69") from None
    runs = loaded(arguments)
    fitted = workbench.fit(
        runs,
        arguments.law,
        y=arguments.y,
        x=arguments.x,
        where=arguments.where,
        fixed=fixed,
        tied=pairs(arguments.tie, "--tie"),
        objective=arguments.objective,
        delta=arguments.delta,
        weights=arguments.weights,
        cluster=arguments.cluster,
        seed=arguments.seed,
    )
    say_notes(runs)
    n = 1000 if arguments.bootstrap is None else arguments.bootstrap
    method = arguments.method or ("recommended" if arguments.bootstrap is None else "bootstrap")
    taken = fitted.recommended.method if method == "recommended" else method
    if taken == "bootstrap" and fitted.degrees >= 1:
        with Progress(f"Bootstrap, {n} resamples of {fitted.n_runs} runs") as progress:
            fitted.draws(n, progress)
    if arguments.flops and fitted.degrees >= 1:
        with Progress(f"Bootstrap of the plan, {n} refits") as progress:
            fitted.joint_draws(n, progress)
    if taken in ("wild", "simulated") and fitted.degrees >= 1:
        with Progress(f"Refits to {n} data sets with {taken} noise") as progress:
            fitted.intervals(taken, n=n, tick=progress)
    plan = fitted.plan(arguments.flops, n=n) if arguments.flops else None
    if arguments.json:
        payload = fitted.to_dict(method, n=n)
        if plan is not None:
            payload["plan"] = plan.to_dict()
        emit(payload)
        return
    print(fitted)
    print()
    table = fitted.table(method, n=n, digits=5)
    print(table.to_string())
    print(f"95 % intervals: {table.attrs.get('method') or method}", end="")
    print(f" ({table.attrs['why']})" if table.attrs.get("why") else "")
    for warning in fitted.diagnostics.warnings:
        print(f"! {warning}")
    d = fitted.diagnostics
    print(f"\n{d.agreeing} of {d.walked} starts reached the best optimum; {len(fitted.points.left_out)} runs left out")
    if plan is not None:
        print(plan)
