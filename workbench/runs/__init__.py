"""Runs: from the logs people have to one tidy table with canonical names and units.

`load` takes files, folders, globs, frames or lists of them; a reader per format (`runs.readers`) hands
over raw cells, `runs.columns` names them, `runs.checks` marks what is wrong with a row and derives what
was not logged. The result is a `RunTable`. `runs.store` writes our own append-only run folders.
"""

from workbench.runs.load import load
from workbench.runs.table import RunTable

__all__ = ["RunTable", "load"]
