"""A trend and its theory: points with intervals, lines through them or beside them, panels side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from workbench.figures.axes import scaled
from workbench.figures.data import embed
from workbench.figures.style import CATEGORIES, HEIGHT, WIDTH, sequence, shapes, title

__all__ = ["trend"]

_FIELDS = ("x", "y", "low", "high", "group", "panel")


def trend(
    points: pd.DataFrame | None,
    x: str,
    y: str,
    *,
    theory: pd.DataFrame | None = None,
    joined: bool = True,
    log_x: bool = True,
    log_y: bool = True,
    group: str | None = None,
    heading: str = "",
    notes: Sequence[str] = (),
    columns: int = 2,
    height: int | None = None,
) -> alt.TopLevelMixin:
    """Points and theory lines over one pair of axes, or over a pair of axes a panel.

    Args:
        points: columns ``x`` and ``y``; optional ``low`` and ``high`` (interval, drawn as a bar), ``group`` (colour
            and shape) and ``panel``. What is not finite, or not positive on a logarithmic axis, is left out and
            counted in the subtitle. None if there is only theory.
        x, y: axis titles with units.
        theory: columns ``x`` and ``y``, optional ``group`` and ``panel`` as in `points`: dashed lines.
        joined: join the points of a group.
        log_x, log_y: logarithmic axes.
        group: heading of the legend.
        heading: title.
        notes: parts of the subtitle.
        columns: panels side by side.
        height: of one panel in pixels.

    Raises:
        ValueError: nothing can be drawn.
    """
    kept, left = _usable(points, log_x, log_y)
    lines, _ = _usable(theory, log_x, log_y)
    if kept.empty and lines.empty:
        raise ValueError("nothing to draw: no point is finite, or positive where an axis is logarithmic.")
    both = pd.concat([f for f in (kept, lines) if len(f)], ignore_index=True)
    names = list(dict.fromkeys(both["group"]))
    panels = list(dict.fromkeys(both["panel"]))
    columns = min(columns, len(panels))
    legend = alt.Legend(title=group, symbolOpacity=1) if len(names) > 1 else None
    width = (WIDTH - (150 if legend else 0) - 60 * (columns - 1)) // columns if len(panels) > 1 else WIDTH
    height = height or (HEIGHT if len(panels) == 1 else 250)
    values_y = np.concatenate([both["y"], both["low"], both["high"]])
    axis_x = scaled(alt.X, "x", both["x"], x, log=log_x, count=6 if columns == 1 else 4)
    axis_y = scaled(alt.Y, "y", values_y, y, log=log_y)
    colours = list(CATEGORIES[: len(names)]) if len(names) <= len(CATEGORIES) else sequence(len(names))
    scale = alt.Scale(domain=names, range=colours)
    colour = alt.Color("group:N", scale=scale, legend=legend, sort=None)
    shape = alt.Shape("group:N", scale=alt.Scale(domain=names, range=shapes(len(names))), legend=legend, sort=None)
    tips = [
        alt.Tooltip("group:N", title=group or "Series"),
        alt.Tooltip("x:Q", title=x, format=".4g"),
        alt.Tooltip("y:Q", title=y, format=".4g"),
    ]
    drawn = []
    for panel in panels:
        layers: list[Any] = []
        own = lines[lines["panel"] == panel]
        if len(own):
            layers.append(
                alt.Chart(embed(own[["x", "y", "group"]]))
                .mark_line(strokeDash=[6, 4], strokeWidth=2, opacity=0.9, clip=True)
                .encode(axis_x, axis_y, colour, order="x:Q")
            )
        own = kept[kept["panel"] == panel]
        if len(own):
            chart = alt.Chart(embed(own[["x", "y", "low", "high", "group"]]))
            if joined:
                layers.append(chart.mark_line(strokeWidth=2, opacity=0.8).encode(axis_x, axis_y, colour, order="x:Q"))
            if np.isfinite(own["low"]).any():
                bar = chart.mark_rule(strokeWidth=2, opacity=0.55)
                layers.append(bar.encode(axis_x, alt.Y("low:Q", scale=axis_y["scale"]), alt.Y2("high:Q"), colour))
            mark = chart.mark_point(filled=True, size=60, opacity=1)
            layers.append(mark.encode(axis_x, axis_y, colour, shape, tooltip=tips))
        said = {"title": alt.Title(panel, anchor="middle", fontSize=13)} if len(panels) > 1 else {}
        drawn.append(alt.layer(*layers).properties(width=width, height=height, **said))
    dropped = f"{left} of {left + len(kept)} points left out: not finite or not positive" if left else ""
    words = title(heading, *notes, "dashed: theory" if len(lines) else "", dropped)
    if len(drawn) == 1:
        return drawn[0].properties(title=words)
    rows = [alt.hconcat(*drawn[i : i + columns], spacing=24) for i in range(0, len(drawn), columns)]
    return alt.vconcat(*rows, spacing=18).properties(title=words)


def _usable(frame: pd.DataFrame | None, log_x: bool, log_y: bool) -> tuple[pd.DataFrame, int]:
    """The drawable rows with all of `_FIELDS`, and how many are left out."""
    if frame is None or frame.empty:
        return pd.DataFrame(columns=list(_FIELDS)), 0
    rows = frame.copy()
    for name in ("low", "high"):
        rows[name] = rows[name].astype(float) if name in rows else np.nan
    for name in ("group", "panel"):
        rows[name] = rows[name].astype(str) if name in rows else ""
    good = np.isfinite(rows["x"]) & np.isfinite(rows["y"])
    good &= (rows["x"] > 0) | (not log_x)
    good &= (rows["y"] > 0) | (not log_y)
    kept = rows.loc[good, list(_FIELDS)].reset_index(drop=True)
    return kept, int((~good).sum())
