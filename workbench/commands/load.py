"""``workbench load``."""

from __future__ import annotations

import argparse
from typing import Any

from workbench.commands.options import (
    add_command,
    emit,
    loaded,
    source_options,
)

__all__ = ["add"]


def add(commands: Any) -> None:
    """Declare the parsers."""
    load = add_command(commands, "load", _load, "read run logs and show what was understood")
    source_options(load)


def _load(arguments: argparse.Namespace) -> None:
    runs = loaded(arguments)
    if arguments.json:
        emit(runs.to_dict())
        return
    print(runs)
    print()
    print(runs.summary().to_string())
    for message in runs.messages:
        print(f"note: {message}")
