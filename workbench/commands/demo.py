"""``workbench demo``."""

from __future__ import annotations

import argparse
from typing import Any

from workbench.commands.options import (
    add_command,
    seed,
)

__all__ = ["add"]


def add(commands: Any) -> None:
    """Declare the parsers."""
    demo = add_command(commands, "demo", _demo, "a scaling law fitted, compared, tested and used, in under a minute")
    demo.add_argument("--out", default="workbench-report.html", help="where to write the report (default %(default)s)")
    demo.add_argument("--seed", type=seed, default=0, help="seed of the fresh probe and of the fits")


def _demo(arguments: argparse.Namespace) -> None:
    from workbench.demo import demo

    demo(arguments.out, seed=arguments.seed)
