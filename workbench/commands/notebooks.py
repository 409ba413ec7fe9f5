"""``workbench notebooks``."""

from __future__ import annotations

import argparse
from typing import Any

from workbench.commands.options import (
    add_command,
)

__all__ = ["add"]


def add(commands: Any) -> None:
    """Declare the parsers."""
    notebooks = add_command(
        commands, "notebooks", _notebooks, "list, copy, run, refresh or verify notebooks; class scores"
    )
    notebooks.add_argument(
        "action", choices=("list", "copy", "run", "refresh", "verify", "scores"), nargs="?", default="list"
    )
    notebooks.add_argument(
        "paths",
        nargs="*",
        help="notebooks (default all); for copy: the folder to copy to; for scores: the folder of a class's copies",
    )


def _notebooks(arguments: argparse.Namespace) -> int:
    from workbench import notebooks

    return notebooks.command(arguments.action, arguments.paths)
