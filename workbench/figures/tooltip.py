"""What a reader sees on pointing at a run: its name, where it lies, measured, predicted and the error."""

from __future__ import annotations

import altair as alt
import pandas as pd

from workbench.figures.data import thin_rows
from workbench.figures.lines import Lines
from workbench.fits.result import Fit
from workbench.units import human, quantity

__all__ = ["run_tips", "with_words"]


def with_words(frame: pd.DataFrame, layout: Lines) -> pd.DataFrame:
    """Rows to draw, with scale in words for the tooltip."""
    frame = thin_rows(frame, "y")
    words = {"x_text": [human(v, 4) for v in frame["x"]]}
    if layout.by:
        words["by_text"] = [human(v, 4) for v in frame["by"]]
    return frame.drop(columns="by").assign(**words)


def run_tips(fit: Fit, layout: Lines) -> list[alt.Tooltip]:
    """Tooltip of a run: its name, where it lies, measured, predicted and the error."""
    target = quantity(fit.points.target).meaning
    tips = [alt.Tooltip("run:N", title="Run"), alt.Tooltip("x_text:N", title=quantity(layout.x).meaning)]
    if layout.by:
        tips.append(alt.Tooltip("by_text:N", title=quantity(layout.by).meaning))
    return [
        *tips,
        alt.Tooltip("y:Q", title=f"{target}, measured", format=".4g"),
        alt.Tooltip("predicted:Q", title=f"{target}, predicted", format=".4g"),
        alt.Tooltip("error:Q", title="Error, % of measured", format="+.2f"),
    ]
