"""Figures: pure functions from runs, fits and comparisons to Altair charts.

Importing this package gives notebooks the workbench's theme and a renderer that sends PNG, unless the
reader has already chosen a theme or renderer of their own.
"""

import altair as _alt

from workbench.figures.comparison import comparison
from workbench.figures.curve import curve
from workbench.figures.intervals import intervals
from workbench.figures.plan import plan
from workbench.figures.plane import inside
from workbench.figures.render import png, save, text
from workbench.figures.residuals import residuals
from workbench.figures.runs import curves, scatter
from workbench.figures.style import empty

__all__ = [
    "comparison",
    "curve",
    "curves",
    "empty",
    "inside",
    "intervals",
    "plan",
    "png",
    "residuals",
    "save",
    "scatter",
    "text",
]

if _alt.renderers.active == "default":
    _alt.renderers.enable("workbench")
if _alt.theme.active == "default":
    _alt.theme.enable("workbench")
