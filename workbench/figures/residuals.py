"""What the curve leaves unexplained: the error of each run, in percent, against scale."""

from __future__ import annotations

import altair as alt

from workbench.figures.axes import scaled
from workbench.figures.data import embed
from workbench.figures.groups import group
from workbench.figures.lines import lines
from workbench.figures.plane import fitted
from workbench.figures.style import CATEGORIES, HEIGHT, INK, WIDTH, spoken, title
from workbench.figures.tooltip import run_tips, with_words
from workbench.fits.result import Fit
from workbench.units import axis_title

__all__ = ["residuals"]


def residuals(fit: Fit, *, x: str | None = None) -> alt.LayerChart:
    """Relative error of every fitted run against scale; points without pattern around zero are a good sign.

    Args:
        fit: the fit.
        x: column on the x axis, as in `figures.curve`.

    Raises:
        ValueError: the law cannot be drawn against `x`.
    """
    layout = lines(fit, x)
    runs = fitted(fit, layout)
    groups = group(runs["by"]) if layout.by else None
    runs["group"] = groups.of if groups else "runs"
    axes = (
        scaled(alt.X, "x", runs["x"], layout.title),
        scaled(alt.Y, "error", [*runs["error"], 0.0], "Predicted − measured (% of measured)", log=False),
    )
    heading = axis_title(layout.by) if layout.by else None
    marks = [groups.colour(heading), groups.shape(heading)] if groups else [alt.ColorValue(CATEGORIES[0])]
    zero = alt.Chart(alt.InlineData(values=[{"error": 0}])).mark_rule(color=INK, strokeWidth=1.2).encode(axes[1])
    points = alt.Chart(embed(with_words(runs, layout)), name="runs").mark_point(filled=True, size=46, opacity=0.85)
    rms, worst = float((runs["error"] ** 2).mean() ** 0.5), runs.loc[runs["error"].abs().idxmax()]
    return alt.layer(zero, points.encode(*axes, *marks, tooltip=run_tips(fit, layout))).properties(
        width=WIDTH,
        height=round(HEIGHT * 0.75),
        title=title(
            f"{fit.law.title}: error of {spoken(fit.points.target)}",
            f"{fit.n_runs} runs",
            f"root mean square {rms:.2g} %",
            f"largest {worst['error']:+.2g} % ({str(worst['run'])[:40]})",
        ),
    )
