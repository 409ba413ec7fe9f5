"""`LiveChart`: a chart on the screen that takes new data in milliseconds and tells what the reader selects.

The Vega library travels to the browser once a kernel, not once a chart, and never from the internet. A chart
whose drawing stays the same gets only the rows that changed; Vega-Lite is compiled again only for another
drawing. A box that the reader has drawn stays as long as the axes mean the same. Text is drawn as text; no markup
of a run's name is ever parsed.
"""

from __future__ import annotations

import copy
import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import altair as alt
import anywidget
import numpy as np
import pandas as pd
import traitlets
import vl_convert
from altair.utils import schemapi
from ipywidgets import widget_serialization

from workbench.figures.render import text

__all__ = ["LiveChart", "rows", "split"]

_VEGA_LITE = ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])
_LIBRARY = "globalThis.workbenchVega = {vegaEmbed};"


class _Library(anywidget.AnyWidget):
    """vega-embed, with Vega and Vega-Lite in it, as text, held once for all charts of a kernel."""

    _esm = "export default {}"
    source = traitlets.Unicode().tag(sync=True)


@functools.cache
def _library() -> _Library:
    return _Library(source=vl_convert.javascript_bundle(_LIBRARY, vl_version=_VEGA_LITE))


class LiveChart(anywidget.AnyWidget):
    """An Altair chart that can be changed while it is looked at.

    Attributes:
        spec: the drawing: a Vega-Lite specification whose datasets are named and empty.
        data: the rows of each dataset, by name. A dataset of a view that has a name is called like the view.
        fresh: the rows that changed last, under ``rows``, and how often rows have changed, ``version``.
        title: what a screen reader says.
        selections: names of the selections that the browser reports.
        selected: value of each selection, as the browser reports it; empty once a new drawing has done away with it.
        file: name of the files the reader downloads, without suffix.

    In the browser, the element of a view counts its drawings in ``data-drawn``; the last was finished at
    ``data-drawn-at`` on the clock of ``performance.now()`` and took ``data-drawn-in`` milliseconds.
    """

    _esm = Path(__file__).with_name("live_chart.js")
    _css = Path(__file__).with_name("live_chart.css")
    spec = traitlets.Dict()
    data = traitlets.Dict()
    title = traitlets.Unicode()
    selections = traitlets.List(traitlets.Unicode())
    #: All four at once, numbered: a browser that holds the same rows from another time must still draw anew.
    _drawing = traitlets.Dict({"spec": {}, "data": {}, "title": "", "selections": [], "version": 0}).tag(sync=True)
    fresh = traitlets.Dict({"version": 0}).tag(sync=True)
    selected = traitlets.Dict().tag(sync=True)
    file = traitlets.Unicode("figure").tag(sync=True)
    _library = traitlets.Instance(_Library).tag(sync=True, **widget_serialization)

    def __init__(self, table: Callable[[], pd.DataFrame] | None = None, name: str = "figure") -> None:
        """A chart without a drawing yet.

        Args:
            table: called when the reader asks for the numbers as CSV.
            name: of the files the reader downloads.
        """
        self._table, self._known = table, False
        super().__init__(_library=_library(), file=name)
        self.on_msg(self._asked)

    def show(self, chart: alt.TopLevelMixin | Mapping[str, Any], selections: Sequence[str] = ()) -> bool:
        """Draw `chart` and report these of its selections; whether the browser must compile a new drawing."""
        spec, data = split(specification(chart))
        new = spec != self.spec
        if new:
            self.spec, self.data, self.selections, self.title = spec, data, list(selections), text(spec)
            self._drawing = {**self._told(), "version": self._drawing["version"] + 1}
        else:
            self._feed({name: values for name, values in data.items() if self.data.get(name) != values})
        return new

    def patch(self, **changed: pd.DataFrame | list[dict[str, Any]]) -> bool:
        """Replace the rows of some datasets and leave the rest of the drawing; False if one is not drawn.

        What the next `show` brings replaces it. Axes stay where they are while a hand moves.
        """
        if not set(changed) <= set(self.data):
            return False
        self._feed({name: rows(of) if isinstance(of, pd.DataFrame) else of for name, of in changed.items()})
        return True

    def _told(self) -> dict[str, Any]:
        return {"spec": self.spec, "data": self.data, "title": self.title, "selections": self.selections}

    def _feed(self, changed: dict[str, list]) -> None:
        """Send these rows and no others; a browser that asks later is given all of them."""
        if not changed:
            return
        self._known = True
        try:
            self.data = {**self.data, **changed}
            self._drawing = {**self._drawing, "data": self.data}
        finally:
            self._known = False
        self.fresh = {"version": self.fresh["version"] + 1, "rows": changed}

    def _should_send_property(self, key: str, value: Any) -> bool:
        return not (key == "_drawing" and self._known) and super()._should_send_property(key, value)

    def _asked(self, _: Any, message: dict[str, Any], __: Any) -> None:
        if message.get("ask") == "csv" and self._table is not None:
            self.send({"csv": self._table().to_csv(lineterminator="\n")})


def specification(chart: alt.TopLevelMixin | Mapping[str, Any]) -> dict[str, Any]:
    """`chart` as a specification, without Altair's validation, which takes longer than everything else together."""
    if isinstance(chart, Mapping):
        return copy.deepcopy(dict(chart))
    with schemapi.debug_mode(False):
        return chart.to_dict(validate=False)


def split(spec: dict[str, Any]) -> tuple[dict[str, Any], dict[str, list]]:
    """A specification as a drawing with empty named datasets, and their rows.

    Altair names datasets by a hash of their rows; here they take the name of their view, or ``data 0``,
    ``data 1``, ... in the order of the drawing, so that the same drawing of other rows stays the same.
    """
    spec = copy.deepcopy(spec)
    hashed, names, data = spec.pop("datasets", {}), {}, {}

    def walk(node: Any, view: str | None) -> None:
        if isinstance(node, list):
            for item in node:
                walk(item, view)
        elif isinstance(node, dict):
            view = node.get("name", view) if "mark" in node or "layer" in node else view
            held = node.get("data")
            if isinstance(held, dict) and ("values" in held or held.get("name") in hashed):
                key = held.get("name") or json.dumps(held["values"])
                if key not in names:
                    own = node.get("name")
                    names[key] = own if own and own not in data else f"data {len(data)}"
                    data[names[key]] = held["values"] if "values" in held else hashed[held["name"]]
                node["data"] = {"name": names[key], "values": []}
            for name, child in node.items():
                if name != "data":
                    walk(child, view)

    walk(spec, None)
    return spec, data


def rows(frame: pd.DataFrame, digits: int = 6) -> list[dict[str, Any]]:
    """`frame` as JSON rows: floats to `digits` significant digits, what is not finite as None."""
    columns = {}
    for name, column in frame.items():
        if pd.api.types.is_float_dtype(column):
            columns[name] = [float(f"{v:.{digits}g}") if math.isfinite(v) else None for v in column.to_numpy(float)]
        elif pd.api.types.is_numeric_dtype(column):
            columns[name] = column.to_numpy().tolist()
        elif len(column) and isinstance(column.iloc[0], np.ndarray):
            columns[name] = [[float(f"{v:.{digits}g}") if math.isfinite(v) else None for v in a] for a in column]
        else:
            columns[name] = column.astype(str).tolist()
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
