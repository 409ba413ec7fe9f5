"""``workbench laws``."""

from __future__ import annotations

import argparse
from typing import Any

from workbench.commands.options import (
    add_command,
    emit,
)

__all__ = ["add"]


def add(commands: Any) -> None:
    """Declare the parsers."""
    laws = add_command(commands, "laws", _laws, "list the laws")
    laws.add_argument("--json", action="store_true", help="one JSON object")


def _laws(arguments: argparse.Namespace) -> None:
    from workbench.laws import FAMILIES, get, names

    laws = [get(name) for name in names()]
    if arguments.json:
        emit({"laws": [law.to_dict() for law in laws]})
        return
    shown = None
    for law in sorted(laws, key=lambda law: FAMILIES.index(law.family) if law.family in FAMILIES else len(FAMILIES)):
        if law.family != shown:
            shown = law.family
            print(f"{shown.upper()}\n")
        takes = ", ".join(f"{i.symbol} = {i.quantity or 'any scale'}" for i in law.inputs)
        print(f"{law.name:24} {law.title}\n{'':24} L = {law.latex}\n{'':24} {takes}; {law.reference}\n")
