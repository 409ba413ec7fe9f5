"""Options that several commands share, how they are read, and how results are printed."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

__all__ = [
    "add_command", "count", "emit", "fitting_options", "loaded", "pairs", "positive", "say_notes", "seed",
    "source_options",
]  # fmt: skip


def add_command(commands, name: str, run: Callable, text: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.set_defaults(run=run)
    return parser


def source_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", help="file, folder or quoted glob: CSV, JSON, JSON Lines, Parquet, run folders")
    parser.add_argument(
        "--columns", action="append", default=[], metavar="NAME=HEADER", help="which header is which, e.g. params=N"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def fitting_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--y", default="loss", help="column to fit (default %(default)s)")
    parser.add_argument("--x", help="column for laws of one input")
    parser.add_argument("--where", metavar="EXPR", help="only these runs, e.g. 'loss < 4'")
    parser.add_argument("--objective", default="log-huber", help="log-huber, huber, log-mse, mse, log-mae or mae")
    parser.add_argument(
        "--delta", type=positive, default=1e-3, help="where Huber's loss turns linear (default %(default)s)"
    )
    parser.add_argument("--bootstrap", type=count, metavar="N", help="bootstrap resamples over runs")
    parser.add_argument("--seed", type=seed, default=0, help="seed of starts and resamples")


def positive(text: str) -> float:
    with suppress(ValueError):
        if math.isfinite(value := float(text)) and value > 0:
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is not a positive number, such as 1e-3 or 1e21")


def count(text: str) -> int:
    with suppress(ValueError):
        if (value := int(text)) >= 1:
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1, such as 1000")


def seed(text: str) -> int:
    with suppress(ValueError):
        if 0 <= (value := int(text)) <= 10**9:
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 1000000000")


def pairs(items: Sequence[str], option: str) -> dict[str, str]:
    out = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise ValueError(f"{option} takes NAME=VALUE, got {item!r}")
        out[name.strip()] = value.strip()
    return out


def emit(payload: dict[str, Any]) -> None:
    print(json.dumps(payload, allow_nan=False, default=_plain))


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):  # numpy scalars
        return value.item()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def loaded(arguments: argparse.Namespace):
    import workbench

    return workbench.load(arguments.path, columns=pairs(arguments.columns, "--columns") or None)


def say_notes(runs) -> None:
    """What loading wants to tell, such as lines it skipped, beside the result rather than in it."""
    for message in runs.messages:
        print(f"note: {message}", file=sys.stderr)
