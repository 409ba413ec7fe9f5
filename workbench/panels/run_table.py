"""`RunTableView`: some rows of a table of runs, with sortable headers and check boxes to mark and to leave out.

Only the rows of one page travel to the browser; sorting, filtering and paging happen in Python. Every text is set as
text, never as markup.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anywidget
import traitlets

__all__ = ["RunTableView"]


class RunTableView(anywidget.AnyWidget):
    """A page of runs.

    Attributes:
        content: what is shown: ``columns`` (each ``key``, ``label``, ``unit``, ``number``), ``rows`` (each ``run``,
            ``cells``, ``marked``, ``used``, ``colour``), ``sort`` (key of a column, or empty), ``descending``,
            ``page`` (from 0), ``pages``, and ``count``, a sentence.
        description: the table's name.
    """

    _esm = Path(__file__).with_name("run_table.js")
    _css = Path(__file__).with_name("run_table.css")
    content = traitlets.Dict().tag(sync=True)
    description = traitlets.Unicode("Runs").tag(sync=True)

    def __init__(self, act: Callable[[dict[str, Any]], None], description: str = "Runs") -> None:
        """An empty table.

        Args:
            act: called with what the reader does: ``{"act": "sort", "key": ...}``, ``{"act": "page", "to": ...}``,
                ``{"act": "mark" or "use", "runs": [...], "on": bool}``.
            description: the table's name.
        """
        super().__init__(description=description)
        self._act = act
        self.on_msg(self._told)

    def show(self, columns: Sequence[dict[str, Any]], rows: Sequence[dict[str, Any]], **more: Any) -> None:
        """Show these rows; what has not changed is not sent again."""
        content = {"columns": list(columns), "rows": list(rows), **more}
        if content != self.content:
            self.content = content

    def _told(self, _: Any, message: Any, __: Any) -> None:
        if isinstance(message, dict) and message.get("act") in ("sort", "page", "mark", "use"):
            self._act(message)
