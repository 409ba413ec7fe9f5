"""``workbench probe phenomenon``: run the experiment of one phenomenon and judge its claims, or list them all.

Exit status 0: every claim came out as stated, and the control did not show it; 1: not so; 2: bad input.
"""

from __future__ import annotations

import argparse
from typing import Any

from workbench.commands.options import emit, seed

__all__ = ["options", "run"]


def options(parser: argparse.ArgumentParser) -> None:
    """Declare what only phenomena understand."""
    group = parser.add_argument_group("phenomena", "workbench probe phenomenon [NAME]; without a name it lists them")
    group.add_argument("name", nargs="?", help="which phenomenon")
    group.add_argument("--budget", choices=("cpu", "gpu"), default="cpu", help="seconds on a core, or minutes on a GPU")
    group.add_argument("--seed", type=seed, default=0, help="seed of the experiment (default %(default)s)")
    group.add_argument("--table", metavar="CSV", help="write what was observed, one row an observation")


def run(arguments: argparse.Namespace) -> int:
    """Run the phenomenon `arguments.name`, or list all."""
    from workbench.phenomena import find, listing

    if arguments.name is None:
        return _list(listing(), arguments.json)
    phenomenon = find(arguments.name)
    runs = phenomenon.run(arguments.budget, arguments.seed)
    report = phenomenon.report(runs)
    if arguments.table:
        from workbench.files import write_whole

        write_whole(arguments.table, runs.to_csv(index=False))
    if arguments.json:
        emit({**report.to_dict(), "budget": arguments.budget, "seed": arguments.seed})
    else:
        print(f"{report}\n\ncontrol: {phenomenon.control}")
        print("\n".join(f"source: {paper}" for paper in phenomenon.papers))
    return 0 if report.holds else 1


def _list(frame: Any, json: bool) -> int:
    if json:
        emit({"phenomena": frame.reset_index().to_dict(orient="records")})
        return 0
    for theme, rows in frame.groupby("theme", sort=False):
        print(f"{theme.upper()}\n")
        for row in rows.itertuples():
            print(f"{row.Index:24} {row.title}\n{'':24} {row.question}\n{'':24} {row.claims} claims, {row.state}\n")
    return 0
