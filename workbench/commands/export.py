"""``workbench export``."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from workbench.commands.options import add_command

__all__ = ["add"]


def add(commands: Any) -> None:
    """Declare the parser."""
    parser = add_command(commands, "export", _export, "write a notebook as one HTML file whose panels still answer")
    parser.add_argument("notebook", help="a notebook file, or the number of a shipped one")
    parser.add_argument("--html", action="store_true", help="the format; the only one, and the default")
    parser.add_argument("-o", "--output", metavar="FILE", help="the file (default: the notebook's name, .html)")
    parser.add_argument(
        "--code", choices=("folded", "shown", "hidden"), default="folded", help="cells' code (default %(default)s)"
    )
    parser.add_argument(
        "--run", dest="fresh", action="store_true", help="run the notebook first, in a fresh kernel; it stays as it is"
    )


def _export(arguments: argparse.Namespace) -> None:
    from pathlib import Path

    from workbench.export import LARGE, export, page
    from workbench.files import write_whole
    from workbench.notebooks import execute, paths
    from workbench.progress import Progress

    (notebook,) = paths([arguments.notebook])
    # A shipped notebook lies where nothing should be written: its page goes to where the reader is.
    target = Path(arguments.output or Path(notebook.name).with_suffix(".html"))
    if arguments.output is None and Path(arguments.notebook).is_file():
        target = notebook.with_suffix(".html")
    if target.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"the page is HTML and {target.name!r} does not say so; end the name in .html")
    if arguments.fresh:
        with Progress(f"Running {notebook.name}"):
            book = execute(notebook)
        written = write_whole(target, page(book, notebook.name, code=arguments.code))
    else:
        written = export(notebook, target, code=arguments.code)
    size = written.stat().st_size
    print(f"{written} ({size / 1e6:.2f} MB)")
    if size > LARGE:
        print(
            f"note: larger than {LARGE / 1e6:g} MB; the pictures and panels of this notebook are many", file=sys.stderr
        )
