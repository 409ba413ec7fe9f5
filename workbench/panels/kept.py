"""The picture of a panel that stays in the notebook: what a reader sees when no kernel runs.

JupyterLab shows a saved widget as "Loading widget…" and never falls back to the picture beside it in the same
output. So a panel is shown as two outputs: the picture, and the live panel, whose style hides the picture while
it is connected. VS Code and Colab do without that style; there one output holds both.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from workbench.figures.render import png, png_beside, size
from workbench.panels.turn import in_turn

if TYPE_CHECKING:
    from workbench.panels.base import Panel

__all__ = ["MEDIA", "VIEW", "Kept"]

VIEW = "application/vnd.jupyter.widget-view+json"
#: What `Panel.embedded` gives, for `workbench export`.
MEDIA = "application/vnd.workbench.panel+json"
#: Seconds of rest after which the picture follows the panel, and seconds between pictures of one that never rests.
REST, GROWING = 2.0, 15.0
#: Most places where one panel's picture is kept up to date: a cell that is run again leaves its old one behind.
_MOST = 4


class Kept:
    """The pictures that notebooks keep of one panel.

    Args:
        panel: the panel.

    Attributes:
        words: what a reader without pictures reads; the panel's state, unless something says more.
    """

    def __init__(self, panel: Panel) -> None:
        self._panel = panel
        self.words: Callable[[], str] = lambda: panel.state.to_json()
        self._ids: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task | None = None  # the newest
        self._tasks: set[asyncio.Task] = set()  # kept, since the loop itself holds tasks weakly
        self._told = ""

    def bundle(self, figure: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """The picture and the words of the panel's state, with the size to show it at."""
        image = png(self._panel.figure() if figure is None else figure)
        return {"image/png": image, "text/plain": self.words(), **self._embedded()}, {"image/png": size(image)}

    def _embedded(self) -> dict[str, Any]:
        live = self._panel.embedded()
        # As one text: a notebook gives every number of a JSON object a line of its own.
        return {} if live is None else {MEDIA: {"panel": json.dumps(live, separators=(",", ":"), allow_nan=False)}}

    @in_turn
    def display(self) -> None:
        """Put the picture into the output of the running cell, and the live panel after it."""
        data, metadata = self.bundle()
        view = self._panel.view()
        if alone():
            _publish({**view, **data}, metadata)
            return
        name = uuid.uuid4().hex
        _publish(data, metadata, {"display_id": name})
        self._ids = [*self._ids, name][-_MOST:]
        self._told = data["text/plain"]
        _publish(view, {})

    def later(self) -> None:
        """Make the picture again when the panel has rested; outside a notebook nothing happens."""
        if not self._ids or (self._panel.grows and self._timer is not None):
            return
        self.stop()
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        self._timer = loop.call_later(GROWING if self._panel.grows else REST, self._begin)

    def stop(self) -> None:
        """Forget a picture that was to be made."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @in_turn
    def now(self) -> None:
        """Make the picture again at once."""
        self.stop()
        self._task = None  # it would draw an older one
        if self._ids:
            self._replace(*self.bundle())

    @in_turn
    def _begin(self) -> None:
        """Draw in a process beside the kernel: a picture takes a second, and the panel goes on meanwhile."""
        self._timer = None
        try:
            words, figure, live = self.words(), self._panel.figure().to_dict(), self._embedded()
        except Exception:  # the panel itself says what is wrong; the picture stays as it was
            return
        if words == self._told and not self._panel.grows:
            return
        self._told = words

        @in_turn
        def done(made: asyncio.Task[bytes]) -> None:
            self._tasks.discard(made)
            if made is self._task and not made.cancelled() and made.exception() is None:
                image = made.result()
                self._replace({"image/png": image, "text/plain": words, **live}, {"image/png": size(image)})

        # An older picture must not come after a newer one; its task may belong to the loop of another thread.
        self._task = asyncio.get_running_loop().create_task(png_beside(figure))
        self._tasks.add(self._task)
        self._task.add_done_callback(done)

    def _replace(self, data: dict[str, Any], metadata: dict[str, Any]) -> None:
        for name in self._ids:
            _publish(data, metadata, {"display_id": name}, update=True)


def alone() -> bool:
    """Whether the front end is one that does not hide a picture beside a live panel."""
    return "google.colab" in sys.modules or "VSCODE_PID" in os.environ


def _publish(data: dict[str, Any], metadata: dict[str, Any], transient: Any = None, *, update: bool = False) -> None:
    from IPython.display import publish_display_data

    publish_display_data(data=data, metadata=metadata, transient=transient or {}, update=update)
