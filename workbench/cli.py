"""The command line: ``workbench COMMAND``, from ``demo`` to ``export``; ``workbench --help`` lists them.

Results go to standard output (``--json``: one strict JSON object), progress and errors to standard
error. Exit status 0 is success, 2 bad input (one sentence says what to change), 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from workbench import __version__

__all__ = ["main"]

BAD_INPUT, INTERRUPTED = 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the console script."""
    # The arrays of a fit are small: a second BLAS thread costs more than it gives, and a variable set
    # by the user wins.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    if hasattr(sys.stdout, "reconfigure"):  # a run's name may hold what the terminal's encoding lacks
        sys.stdout.reconfigure(errors="backslashreplace")
    parser = _parser()
    arguments = parser.parse_args(argv)
    if not hasattr(arguments, "run"):
        parser.print_help()
        return 0
    try:
        status = arguments.run(arguments) or 0
        sys.stdout.flush()  # here, where a closed pipe is expected, and not as the interpreter ends
        return status
    except KeyboardInterrupt:
        print("\nworkbench: stopped by Ctrl-C", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe has gone, as in `workbench laws | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, TypeError, KeyError, OSError, MemoryError, RuntimeError) as error:
        print(f"workbench: {_sentence(error)}", file=sys.stderr)
        return BAD_INPUT


def _sentence(error: Exception) -> str:
    """What went wrong, on one line; a failing notebook keeps the lines of its traceback."""
    if isinstance(error, RuntimeError):
        return str(error)
    message: Any = error
    if isinstance(error, KeyError) and error.args:  # str() of it would be a repr, quotes and all
        message = error.args[0]
    elif isinstance(error, OSError) and error.strerror and error.filename is not None:
        message = f"cannot use {os.fspath(error.filename)!r}: {error.strerror[0].lower()}{error.strerror[1:]}"
    return " ".join(str(message).split()) or type(error).__name__


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line, like every other one of this program."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"workbench: {' '.join(message.split())}; see {self.prog} --help\n")


#: In the order of ``workbench --help``.
COMMANDS = ("demo", "load", "fit", "compare", "multiverse", "laws", "probe", "runs", "lab", "notebooks", "export")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="workbench", description="Load run logs, fit and compare scaling laws, plan, and teach with them."
    )
    parser.add_argument("--version", action="version", version=f"workbench {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND")
    for name in COMMANDS:
        importlib.import_module(f"workbench.commands.{name}").add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
