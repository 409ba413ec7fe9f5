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
    from workbench.runs.display import clean

    runs = loaded(arguments)
    if arguments.json:
        emit(runs.to_dict())
        return
    print(runs)
    print()
    print(runs.summary().rename(index=clean).map(_clean).to_string())
    print()
    print(runs.report().text(notes=False))
    for message in runs.messages:
        print(f"note: {clean(message, 1000)}")


def _clean(cell: Any) -> Any:
    """Text of a log on one line: a terminal obeys what stands in it."""
    from workbench.runs.display import clean

    return clean(cell, 200) if isinstance(cell, str) else cell
