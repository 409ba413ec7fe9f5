"""``workbench compare``."""

from __future__ import annotations

import argparse
from contextlib import suppress
from typing import Any

from workbench.commands.options import (
    add_command,
    emit,
    fitting_options,
    loaded,
    say_notes,
    source_options,
)
from workbench.progress import Progress

__all__ = ["add"]


def add(commands: Any) -> None:
    """Declare the parsers."""
    compare = add_command(commands, "compare", _compare, "fit several laws and judge them on held-out larger runs")
    source_options(compare)
    compare.add_argument("--laws", required=True, help="names, separated by commas")
    compare.add_argument(
        "--holdout", metavar="EXPR", help="runs to predict instead of fit: 'flops > 1e21', or a share such as 0.2"
    )
    fitting_options(compare)


def _compare(arguments: argparse.Namespace) -> None:
    import workbench

    holdout: Any = arguments.holdout
    if holdout is not None:
        with suppress(ValueError):  # not a share, so an expression
            holdout = float(holdout)
    runs = loaded(arguments)
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
    say_notes(runs)
    if arguments.json:
        emit(comparison.to_dict())
        return
    print(comparison)
    for law, reason in comparison.failed.items():
        print(f"! {law}: {reason}")
