"""Which phenomena there are, found by importing the modules of every theme."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil

import pandas as pd

from workbench.phenomena.base import THEMES, Phenomenon
from workbench.runs.strict_json import loads

__all__ = ["find", "listing", "phenomena", "results"]


@functools.cache
def phenomena() -> dict[str, Phenomenon]:
    """Every phenomenon by name, in the order of the themes.

    Raises:
        ValueError: two of them share a name.
    """
    found: dict[str, Phenomenon] = {}
    for theme in THEMES:
        room = importlib.import_module(f"workbench.phenomena.{theme}")
        for module in sorted(one.name for one in pkgutil.iter_modules(room.__path__)):
            members = vars(importlib.import_module(f"{room.__name__}.{module}")).values()
            for one in members:
                ours = inspect.isclass(one) and one.__module__ == f"{room.__name__}.{module}"
                if ours and issubclass(one, Phenomenon) and not inspect.isabstract(one):
                    if one.name in found:
                        raise ValueError(
                            f"{one.__module__} and {type(found[one.name]).__module__} are both {one.name!r}"
                        )
                    found[one.name] = one()
    return found


def find(name: str) -> Phenomenon:
    """The phenomenon of that name.

    Raises:
        ValueError: there is none; the sentence lists the names.
    """
    if name not in phenomena():
        raise ValueError(f"phenomenon {name!r} is not known; choose one of {', '.join(phenomena())}.")
    return phenomena()[name]


def results() -> list[dict]:
    """What ``data/phenomena/make.py`` found: one entry a phenomenon, budget and seed; empty where none is shipped."""
    from workbench.shipped import folder

    path = folder("data") / "phenomena" / "results.json"
    return loads(path.read_text(encoding="utf-8"))["results"] if path.is_file() else []


def listing() -> pd.DataFrame:
    """One row a phenomenon: theme, title, what is asked, claims, and how many shipped experiments showed it."""
    stored = results()
    rows = []
    for name, one in phenomena().items():
        own = [r for r in stored if r["phenomenon"] == name]
        rows.append(
            {
                "name": name,
                "theme": one.theme,
                "title": one.title,
                "question": one.question,
                "claims": len(one.claims),
                "state": f"shown by {sum(r['holds'] for r in own)} of {len(own)} experiments" if own else "not yet run",
            }
        )
    return pd.DataFrame(rows, columns=["name", "theme", "title", "question", "claims", "state"]).set_index("name")
