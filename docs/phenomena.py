"""Make ``docs/phenomena.md`` and its figure from ``data/phenomena/results.json``: ``python docs/phenomena.py``."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from workbench import figures  # noqa: E402
from workbench.files import write_whole  # noqa: E402
from workbench.phenomena.page import overview, page  # noqa: E402

if __name__ == "__main__":
    write_whole(HERE / "phenomena.md", page())
    figures.save(overview(), HERE / "pictures" / "phenomena.png")
