"""Where the runs and notebooks that come with the workbench lie: beside a checkout, inside a wheel."""

from __future__ import annotations

from pathlib import Path

__all__ = ["folder", "sweep"]


def folder(kind: str) -> Path:
    """The shipped folder ``data`` or ``notebooks``.

    Raises:
        FileNotFoundError: this installation carries neither a checkout's folder nor a wheel's.
    """
    here = Path(__file__).resolve().parent
    for candidate in (here.parent / kind, here / "_shipped" / kind):
        if candidate.is_dir() and any(candidate.iterdir()):
            return candidate
    raise FileNotFoundError(f"this installation has no {kind} folder; install from a checkout with pip install -e .")


def sweep(name: str) -> Path:
    """Folder of one shipped sweep, e.g. ``bigram``.

    Raises:
        ValueError: no sweep of this name is shipped; the sentence lists those that are.
    """
    root = folder("data")
    path = root / name
    if not (path / "sweep.json").is_file():
        known = sorted(p.parent.name for p in root.glob("*/sweep.json"))
        raise ValueError(f"no sweep called {name!r} is shipped; there are {', '.join(known) or 'none'}")
    return path
