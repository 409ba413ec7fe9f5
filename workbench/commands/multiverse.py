"""``workbench multiverse``."""

from __future__ import annotations

import argparse
from typing import Any

from workbench.commands.options import (
    add_command,
    emit,
    fitting_options,
    loaded,
    pairs,
    say_notes,
    source_options,
)
from workbench.progress import Progress

__all__ = ["add"]


def add(commands: Any) -> None:
    """Declare the parsers."""
    multiverse = add_command(
        commands, "multiverse", _multiverse, "one law under every defensible analysis: would you decide the same?"
    )
    source_options(multiverse)
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
    fitting_options(multiverse)


def _multiverse(arguments: argparse.Namespace) -> None:
    from workbench.analysis.multiverse import multiverse
    from workbench.units import parse_number

    at = {name: parse_number(value) for name, value in pairs(arguments.at, "--at").items()}
    names = ("y", "x", "where", "objective", "delta")
    runs = loaded(arguments)
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
    say_notes(runs)
    if arguments.out:
        from workbench.figures.render import save

        save(found.plot(), arguments.out)
    if arguments.json:
        emit(found.to_dict())
        return
    print(found)
