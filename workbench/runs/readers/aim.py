"""Aim repositories: recognised, not read, as their store is RocksDB; the error says how to export from one.

The whole script, to be run where Aim is installed::

    import json
    from aim import Repo

    with open("aim.jsonl", "w") as file:
        for metric in Repo("PATH").query_metrics("metric.name != ''").iter():
            for step, value in zip(*metric.values.sparse_numpy()):
                line = {"run": metric.run.hash, "step": int(step), metric.name: float(value)}
                file.write(json.dumps(line) + "\\n")

Calls as Aim's guide *Query runs and objects* shows them; not run against an installed Aim.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from workbench.runs.readers.base import LoadError, Log, Reader

__all__ = ["Aim"]


class Aim(Reader):
    """A folder with ``.aim/meta/chunks`` or ``.aim/seqs/chunks`` in it, or that ``.aim`` folder itself."""

    name = "Aim repository"
    folders = True
    nested: ClassVar[bool] = True  # other logs may lie beside .aim
    general = True  # a folder that another reader knows is that reader's

    def sniff(self, path: Path, head: bytes) -> bool:
        store = path if path.name == ".aim" else path / ".aim"
        return store.is_dir() and ((store / "meta" / "chunks").is_dir() or (store / "seqs" / "chunks").is_dir())

    def owns(self, path: Path) -> bool:
        return path.name == ".aim" or (path.parent.name == ".aim" and path.parent.is_dir())

    def read(self, path: Path) -> Log:
        raise LoadError(
            "it is an Aim repository, and its RocksDB store can be read by Aim only; where Aim is installed, write "
            "its metrics to JSON Lines and load those: "
            "for m in aim.Repo(path).query_metrics(\"metric.name != ''\").iter(), "
            'for step, value in zip(*m.values.sparse_numpy()), a line {"run": m.run.hash, "step": step, m.name: value} '
            "(whole script: help(workbench.runs.readers.aim))"
        )
