"""Pictures of black-and-white frames side by side: where something works, over two settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import numpy as np
import pandas as pd

from workbench.figures.style import CATEGORIES, INK, WIDTH, title

__all__ = ["frames"]

#: Most cells along a side; finer frames are thinned, every k-th cell.
MOST = 128


def frames(
    pictures: Mapping[str, np.ndarray],
    *,
    yes: str,
    no: str,
    x: str,
    y: str,
    heading: str = "",
    notes: Sequence[str] = (),
    columns: int = 4,
) -> alt.VConcatChart:
    """Square boolean pictures in rows, each under its name; without ticks, since each has a scale of its own.

    Args:
        pictures: name -> boolean array [rows, columns]; the first row is drawn at the bottom.
        yes, no: what True and False mean, in the legend.
        x, y: what grows to the right and upwards.
        heading: title.
        notes: parts of the subtitle.
        columns: pictures side by side.

    Raises:
        ValueError: there is no picture, or one is not two-dimensional.
    """
    if not pictures:
        raise ValueError("there is no picture to draw; give at least one boolean array.")
    size = (WIDTH - 20 * (columns - 1)) // columns - 12
    scale = alt.Scale(domain=[yes, no], range=[CATEGORIES[0], "#f3e3c3"])
    colour = alt.Color("means:N", scale=scale, legend=alt.Legend(title=None, orient="bottom", symbolType="square"))
    stroke = alt.Stroke("means:N", scale=scale, legend=None)
    charts = []
    for place, (name, picture) in enumerate(pictures.items()):
        if np.ndim(picture) != 2:
            raise ValueError(f"picture {name!r} has {np.ndim(picture)} dimensions; give rows and columns.")
        # the stroke closes the hairlines that smoothing leaves between neighbours
        step = -(-max(np.shape(picture)) // MOST)
        drawn = np.asarray(picture, dtype=bool)[::step, ::step]
        axis_x = alt.X("x:Q", scale=alt.Scale(domain=[0, drawn.shape[1]], nice=False), axis=_axis(x))
        axis_y = alt.Y(
            "y:Q", scale=alt.Scale(domain=[0, drawn.shape[0]], nice=False), axis=_axis("" if place % columns else y)
        )
        charts.append(
            alt.Chart(_runs(drawn, yes, no))
            .mark_rect(strokeWidth=0.5, opacity=1)
            .encode(axis_x, axis_y, alt.X2("x2:Q"), alt.Y2("y2:Q"), colour, stroke)
            .properties(width=size, height=size, title=alt.Title(name, anchor="middle", fontSize=12, color=INK))
        )
    rows = [alt.hconcat(*charts[i : i + columns], spacing=20) for i in range(0, len(charts), columns)]
    return alt.vconcat(*rows, spacing=14).properties(title=title(heading, *notes))


def _axis(name: str) -> alt.Axis:
    return alt.Axis(title=name or None, labels=False, ticks=False, grid=False)


def _runs(picture: np.ndarray, yes: str, no: str) -> pd.DataFrame:
    """One rectangle for each stretch of equal cells in a row: far fewer than cells."""
    rows = []
    for y, line in enumerate(picture):
        ends = np.flatnonzero(np.diff(line)) + 1
        starts, stops = np.r_[0, ends], np.r_[ends, len(line)]
        rows += [(int(a), int(b), y, y + 1, yes if line[a] else no) for a, b in zip(starts, stops, strict=True)]
    return pd.DataFrame(rows, columns=["x", "x2", "y", "y2", "means"])
