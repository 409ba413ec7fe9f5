"""How sharply the data determine each parameter: the objective along it, everything else refitted."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd
from scipy.stats import f as f_distribution

from workbench.figures.axes import scaled
from workbench.figures.data import embed
from workbench.figures.style import CATEGORIES, GREY, INK, WIDTH, title
from workbench.fits.intervals import Profile, profile_interval
from workbench.fits.result import Fit
from workbench.units import human

__all__ = ["profiles"]

_COLUMNS = 3
#: Profiles are drawn up to this many times the threshold of the interval.
_HIGHEST = 2.2
_HEADING = "Rise of the objective"


def profiles(fit: Fit, *, level: float = 0.95) -> alt.VConcatChart:
    """One small panel a free parameter: how far the objective rises as the parameter is held elsewhere.

    The rise is in units of the noise, a likelihood-ratio statistic; where it passes the dashed line, the
    F(1, n - P) quantile of `level`, the interval ends (Bates and Watts 1988, chapter 6). A curve that stays
    below the line on one side sets no limit there.

    Args:
        fit: the fit.
        level: nominal coverage.

    Raises:
        ValueError: every parameter is fixed, there are no degrees of freedom, or `level` is outside 0 to 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level!r}; a nominal coverage lies between 0 and 1, such as 0.95")
    free = list(fit.problem.free_symbols)
    if not free:
        raise ValueError("every parameter of this fit is fixed, so there is no profile to draw")
    if fit.degrees < 1:
        raise ValueError(f"{fit.n_runs} runs and {len(free)} free parameters leave no noise to compare with; add runs")
    threshold = float(f_distribution.ppf(level, 1, fit.degrees))
    columns = min(_COLUMNS, len(free))
    panels = [_panel(fit, s, threshold, level, columns, k % columns == 0) for k, s in enumerate(free)]
    rows = [alt.hconcat(*panels[i : i + columns], spacing=22) for i in range(0, len(panels), columns)]
    held = [f"{s} = {v:g} (fixed)" for s, v in fit.problem.fixed.items()]
    held += [f"{s} = {other} (tied)" for s, other in fit.problem.tied.items()]
    return alt.vconcat(*rows, spacing=20).properties(
        title=title(
            f"{fit.law.title}: profile of each parameter",
            f"{fit.n_runs} runs",
            f"shaded: {level:.0%} interval, where the rise stays below F(1, {fit.degrees}) = {threshold:.3g} (dashed)",
            ", ".join(held),
        )
    )


def _panel(fit: Fit, symbol: str, threshold: float, level: float, columns: int, first: bool) -> alt.LayerChart:
    parameter = fit.law.parameters[fit.law.symbols.index(symbol)]
    curve, estimate = fit.profile(symbol), fit.params[symbol]
    low, high = profile_interval(curve, level, fit.degrees, parameter.log)
    rows = _dense(curve, parameter.log, _HIGHEST * threshold)
    log = bool(parameter.log and rows["x"].min() > 0 and rows["x"].max() / rows["x"].min() > 20)
    x = scaled(alt.X, "x", rows["x"], f"{symbol} ({parameter.unit})" if _shown(parameter.unit) else symbol,
               log=log, count=4, pad=0.0)  # fmt: skip
    y = scaled(alt.Y, "y", [0.0, _HIGHEST * threshold], _HEADING if first else None, log=False, count=4, pad=0.0)
    ends = [low if np.isfinite(low) else rows["x"].min(), high if np.isfinite(high) else rows["x"].max()]
    axis = {"scale": x["scale"], "axis": x["axis"]}
    line = alt.Chart(embed(rows)).mark_line(strokeWidth=2, color=CATEGORIES[0], clip=True)
    shade = alt.Chart(embed(pd.DataFrame({"low": [ends[0]], "high": [ends[1]]})))
    at = alt.Chart(embed(pd.DataFrame({"x": [estimate]}))).mark_rule(color=INK, strokeWidth=1.2, clip=True)
    limit = alt.Chart(embed(pd.DataFrame({"y": [threshold]}))).mark_rule(strokeDash=[5, 4], color=GREY)
    text = " – ".join(human(v, 4) if np.isfinite(v) else "no limit" for v in (low, high))
    head = alt.Title(
        f"{symbol} = {human(estimate, 4)}", subtitle=[f"{text}", parameter.meaning], fontSize=13, subtitleFontSize=11,
        subtitleColor=GREY, offset=6,
    )  # fmt: skip
    return alt.layer(
        shade.mark_rect(color=CATEGORIES[0], opacity=0.12, clip=True).encode(alt.X("low:Q", **axis), alt.X2("high:Q")),
        limit.encode(y),
        at.encode(x),
        line.encode(x, y),
    ).properties(width=(WIDTH - 70 - 50 * columns) // columns, height=150, title=head)


def _shown(unit: str) -> bool:
    return bool(unit) and unit not in ("loss", "x")


def _dense(curve: Profile, log: bool, highest: float) -> pd.DataFrame:
    """The profile on an even grid as far as `highest`; its signed root is nearly straight, so it is interpolated."""
    z = np.log(curve.values) if log else curve.values
    bottom = int(np.argmin(curve.rise))
    root = np.sqrt(curve.rise) * np.where(np.arange(z.size) < bottom, -1.0, 1.0)
    reach = 1.05 * np.sqrt(highest)
    inside = [np.interp(np.clip(v, root.min(), root.max()), root, z) for v in (-reach, reach)]
    if not np.all(np.diff(root) > 0):  # flat, or not monotone: as far as it was looked at
        near = np.flatnonzero(np.abs(root) <= reach)
        inside = [z[max(near[0] - 1, 0)], z[min(near[-1] + 1, z.size - 1)]]
    at = np.linspace(inside[0], inside[1], 60)
    rise = np.interp(at, z, root) ** 2
    return pd.DataFrame({"x": np.exp(at) if log else at, "y": rise})
