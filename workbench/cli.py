"""The command line: ``workbench demo | load | fit | compare | multiverse | laws | lab | notebooks``.

Results go to standard output (``--json``: one strict JSON object), progress and errors to standard
error. Exit status 0 is success, 2 bad input (one sentence says what to change), 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NoReturn

from workbench import __version__
from workbench.progress import Progress

__all__ = ["main"]

BAD_INPUT, INTERRUPTED = 2, 130


#: `workbench.fits.intervals.OFFERED`, said here so that --help needs no scipy; a test compares them.
INTERVALS = ("recommended", "bootstrap", "profile", "jacobian", "sandwich", "jackknife", "wild", "simulated")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the console script."""
    # The arrays of a fit are small: a second BLAS thread costs more than it gives, and a variable set
    # by the user wins.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    if hasattr(sys.stdout, "reconfigure"):  # a run's name may hold what the terminal's encoding lacks
        sys.stdout.reconfigure(errors="backslashreplace")
    parser = _parser()
    arguments = parser.parse_args(argv)
    if not hasattr(arguments, "run"):
        parser.print_help()
        return 0
    try:
        status = arguments.run(arguments) or 0
        sys.stdout.flush()  # here, where a closed pipe is expected, and not as the interpreter ends
        return status
    except KeyboardInterrupt:
        print("\nworkbench: stopped by Ctrl-C", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe has gone, as in `workbench laws | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, TypeError, KeyError, OSError, MemoryError, RuntimeError) as error:
        print(f"workbench: {_sentence(error)}", file=sys.stderr)
        return BAD_INPUT


def _sentence(error: Exception) -> str:
    """What went wrong, on one line; a failing notebook keeps the lines of its traceback."""
    if isinstance(error, RuntimeError):
        return str(error)
    message: Any = error
    if isinstance(error, KeyError) and error.args:  # str() of it would be a repr, quotes and all
        message = error.args[0]
    elif isinstance(error, OSError) and error.strerror and error.filename is not None:
        message = f"cannot use {os.fspath(error.filename)!r}: {error.strerror[0].lower()}{error.strerror[1:]}"
    return " ".join(str(message).split()) or type(error).__name__


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line, like every other one of this program."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"workbench: {' '.join(message.split())}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="workbench", description="Load run logs, fit and compare scaling laws, plan, and teach with them."
    )
    parser.add_argument("--version", action="version", version=f"workbench {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND")

    demo = _command(commands, "demo", _demo, "a scaling law fitted, compared, tested and used, in under a minute")
    demo.add_argument("--out", default="workbench-report.html", help="where to write the report (default %(default)s)")
    demo.add_argument("--seed", type=_seed, default=0, help="seed of the fresh probe and of the fits")

    load = _command(commands, "load", _load, "read run logs and show what was understood")
    _source(load)

    fit = _command(commands, "fit", _fit, "fit one law to run logs")
    _source(fit)
    fit.add_argument("--law", required=True, help="name of the law; `workbench laws` lists them")
    _fitting(fit)
    fit.add_argument("--fix", action="append", default=[], metavar="NAME=VALUE", help="hold a parameter, e.g. E=1.69")
    fit.add_argument("--tie", action="append", default=[], metavar="A=B", help="keep a parameter equal to another")
    fit.add_argument("--weights", help="column with one weight per run")
    fit.add_argument("--cluster", help="column whose equal values are resampled together")
    fit.add_argument("--method", choices=INTERVALS, help="kind of interval; with --bootstrap N that, else recommended")
    fit.add_argument("--flops", type=_positive, action="append", metavar="BUDGET", help="also plan for this many FLOP")

    compare = _command(commands, "compare", _compare, "fit several laws and judge them on held-out larger runs")
    _source(compare)
    compare.add_argument("--laws", required=True, help="names, separated by commas")
    compare.add_argument(
        "--holdout", metavar="EXPR", help="runs to predict instead of fit: 'flops > 1e21', or a share such as 0.2"
    )
    _fitting(compare)

    multiverse = _command(
        commands, "multiverse", _multiverse, "one law under every defensible analysis: would you decide the same?"
    )
    _source(multiverse)
    multiverse.add_argument("--law", default="chinchilla", help="name of the law (default %(default)s)")
    multiverse.add_argument(
        "--question",
        help="tokens_per_param, optimal_params, exponent, loss, or a parameter (default tokens_per_param or loss)",
    )
    multiverse.add_argument(
        "--at", action="append", default=[], metavar="COLUMN=VALUE", help="where it is asked, e.g. flops=5.88e23"
    )
    multiverse.add_argument(
        "--drop", action="append", default=[], metavar="DIMENSION", help="choice not to vary, e.g. subset"
    )
    multiverse.add_argument("--out", metavar="FILE", help="draw the specification curve: PNG, SVG, HTML or JSON")
    _fitting(multiverse)

    laws = _command(commands, "laws", _laws, "list the laws")
    laws.add_argument("--json", action="store_true", help="one JSON object")

    lab = _command(commands, "lab", _lab, "open JupyterLab on the first notebook")
    lab.add_argument("jupyter", nargs="*", help="further arguments for JupyterLab, after --")

    notebooks = _command(commands, "notebooks", _notebooks, "list, copy, refresh or verify the notebooks")
    notebooks.add_argument("action", choices=("list", "copy", "refresh", "verify"), nargs="?", default="list")
    notebooks.add_argument("paths", nargs="*", help="notebooks (default all); for copy: the folder to copy to")
    return parser


def _command(commands, name: str, run: Callable, text: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.set_defaults(run=run)
    return parser


def _source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", help="file, folder or quoted glob: CSV, JSON, JSON Lines, Parquet, run folders")
    parser.add_argument(
        "--columns", action="append", default=[], metavar="NAME=HEADER", help="which header is which, e.g. params=N"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def _fitting(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--y", default="loss", help="column to fit (default %(default)s)")
    parser.add_argument("--x", help="column for laws of one input")
    parser.add_argument("--where", metavar="EXPR", help="only these runs, e.g. 'loss < 4'")
    parser.add_argument("--objective", default="log-huber", help="log-huber, huber, log-mse, mse, log-mae or mae")
    parser.add_argument(
        "--delta", type=_positive, default=1e-3, help="where Huber's loss turns linear (default %(default)s)"
    )
    parser.add_argument("--bootstrap", type=_count, metavar="N", help="bootstrap resamples over runs")
    parser.add_argument("--seed", type=_seed, default=0, help="seed of starts and resamples")


def _positive(text: str) -> float:
    with suppress(ValueError):
        if math.isfinite(value := float(text)) and value > 0:
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is not a positive number, such as 1e-3 or 1e21")


def _count(text: str) -> int:
    with suppress(ValueError):
        if (value := int(text)) >= 1:
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1, such as 1000")


def _seed(text: str) -> int:
    with suppress(ValueError):
        if 0 <= (value := int(text)) <= 10**9:
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 1000000000")


def _pairs(items: Sequence[str], option: str) -> dict[str, str]:
    out = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise ValueError(f"{option} takes NAME=VALUE, got {item!r}")
        out[name.strip()] = value.strip()
    return out


def _emit(payload: dict[str, Any]) -> None:
    print(json.dumps(payload, allow_nan=False, default=_plain))


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):  # numpy scalars
        return value.item()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _runs(arguments: argparse.Namespace):
    import workbench

    return workbench.load(arguments.path, columns=_pairs(arguments.columns, "--columns") or None)


def _notes(runs) -> None:
    """What loading wants to tell, such as lines it skipped, beside the result rather than in it."""
    for message in runs.messages:
        print(f"note: {message}", file=sys.stderr)


def _load(arguments: argparse.Namespace) -> None:
    runs = _runs(arguments)
    if arguments.json:
        _emit(runs.to_dict())
        return
    print(runs)
    print()
    print(runs.summary().to_string())
    for message in runs.messages:
        print(f"note: {message}")


def _fit(arguments: argparse.Namespace) -> None:
    import workbench

    fixed = {}
    for symbol, value in _pairs(arguments.fix, "--fix").items():
        try:
            fixed[symbol] = float(value)
        except ValueError:
            raise ValueError(f"--fix {symbol}={value}: give a number, e.g. {symbol}=1.69") from None
    runs = _runs(arguments)
    fitted = workbench.fit(
        runs,
        arguments.law,
        y=arguments.y,
        x=arguments.x,
        where=arguments.where,
        fixed=fixed,
        tied=_pairs(arguments.tie, "--tie"),
        objective=arguments.objective,
        delta=arguments.delta,
        weights=arguments.weights,
        cluster=arguments.cluster,
        seed=arguments.seed,
    )
    _notes(runs)
    n = 1000 if arguments.bootstrap is None else arguments.bootstrap
    method = arguments.method or ("recommended" if arguments.bootstrap is None else "bootstrap")
    taken = fitted.recommended.method if method == "recommended" else method
    if (taken == "bootstrap" or arguments.flops) and fitted.degrees >= 1:
        with Progress(f"Bootstrap, {n} resamples of {fitted.n_runs} runs") as progress:
            fitted.draws(n, progress)
    if taken in ("wild", "simulated") and fitted.degrees >= 1:
        with Progress(f"Refits to {n} data sets with {taken} noise") as progress:
            fitted.intervals(taken, n=n, tick=progress)
    plan = fitted.plan(arguments.flops, n=n) if arguments.flops else None
    if arguments.json:
        payload = fitted.to_dict(method, n=n)
        if plan is not None:
            payload["plan"] = plan.to_dict()
        _emit(payload)
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


def _compare(arguments: argparse.Namespace) -> None:
    import workbench

    holdout: Any = arguments.holdout
    if holdout is not None:
        with suppress(ValueError):  # not a share, so an expression
            holdout = float(holdout)
    runs = _runs(arguments)
    with Progress("Comparing laws") as progress:
        comparison = workbench.compare(
            runs,
            [name.strip() for name in arguments.laws.split(",") if name.strip()],
            holdout=holdout,
            y=arguments.y,
            x=arguments.x,
            where=arguments.where,
            objective=arguments.objective,
            delta=arguments.delta,
            n=400 if arguments.bootstrap is None else arguments.bootstrap,
            seed=arguments.seed,
            tick=progress,
        )
    _notes(runs)
    if arguments.json:
        _emit(comparison.to_dict())
        return
    print(comparison)
    for law, reason in comparison.failed.items():
        print(f"! {law}: {reason}")


def _multiverse(arguments: argparse.Namespace) -> None:
    from workbench.analysis.multiverse import multiverse
    from workbench.units import parse_number

    at = {name: parse_number(value) for name, value in _pairs(arguments.at, "--at").items()}
    names = ("y", "x", "where", "objective", "delta")
    runs = _runs(arguments)
    with Progress("Fitting every analysis") as progress:
        found = multiverse(
            runs,
            arguments.law,
            question=arguments.question,
            drop=arguments.drop,
            n=arguments.bootstrap or 0,
            seed=arguments.seed,
            tick=progress,
            options={name: getattr(arguments, name) for name in names},
            **at,
        )
    _notes(runs)
    if arguments.out:
        from workbench.figures.render import save

        save(found.plot(), arguments.out)
    if arguments.json:
        _emit(found.to_dict())
        return
    print(found)


def _laws(arguments: argparse.Namespace) -> None:
    from workbench.laws import FAMILIES, get, names

    laws = [get(name) for name in names()]
    if arguments.json:
        _emit({"laws": [law.to_dict() for law in laws]})
        return
    shown = None
    for law in sorted(laws, key=lambda law: FAMILIES.index(law.family) if law.family in FAMILIES else len(FAMILIES)):
        if law.family != shown:
            shown = law.family
            print(f"{shown.upper()}\n")
        takes = ", ".join(f"{i.symbol} = {i.quantity or 'any scale'}" for i in law.inputs)
        print(f"{law.name:24} {law.title}\n{'':24} L = {law.latex}\n{'':24} {takes}; {law.reference}\n")


def _demo(arguments: argparse.Namespace) -> None:
    from workbench.demo import demo

    demo(arguments.out, seed=arguments.seed)


def _lab(arguments: argparse.Namespace) -> None:
    from workbench.notebooks import lab

    lab(arguments.jupyter)


def _notebooks(arguments: argparse.Namespace) -> int:
    from workbench import notebooks

    return notebooks.command(arguments.action, arguments.paths)


if __name__ == "__main__":
    sys.exit(main())
