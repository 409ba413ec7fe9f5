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
    notebooks = add_command(commands, "notebooks", _notebooks, "list, copy, refresh or verify the notebooks")
    notebooks.add_argument("action", choices=("list", "copy", "refresh", "verify"), nargs="?", default="list")
    notebooks.add_argument("paths", nargs="*", help="notebooks (default all); for copy: the folder to copy to")


def _notebooks(arguments: argparse.Namespace) -> int:
    from workbench import notebooks

    return notebooks.command(arguments.action, arguments.paths)
