"""``workbench lab``."""

from __future__ import annotations

import argparse
from typing import Any

from workbench.commands.options import (
    add_command,
)

__all__ = ["add"]


def add(commands: Any) -> None:
    """Declare the parsers."""
    lab = add_command(commands, "lab", _lab, "open JupyterLab on the first notebook")
    lab.add_argument("jupyter", nargs="*", help="further arguments for JupyterLab, after --")


def _lab(arguments: argparse.Namespace) -> None:
    from workbench.notebooks import lab

    lab(arguments.jupyter)
