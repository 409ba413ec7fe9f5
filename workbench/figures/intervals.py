"""How well each parameter is known: three interval methods side by side, and the truth where there is one."""

from __future__ import annotations

from collections.abc import Mapping

import altair as alt
import numpy as np
import pandas as pd

from workbench.figures.axes import scaled
from workbench.figures.data import embed
from workbench.figures.style import CATEGORIES, GREY, INK, WIDTH, title
from workbench.fits.result import METHODS, RESAMPLES, Fit
from workbench.units import human, quantity

__all__ = ["intervals"]

_SHAPES = ["circle", "square", "triangle-up"]
_COLUMNS = 3


def intervals(
    fit: Fit, truth: Mapping[str, float] | None = None, *, level: float = 0.95, n: int = RESAMPLES
) -> alt.VConcatChart:
    """One small panel a free parameter, with the estimate and its interval by bootstrap, profile and Jacobian.

    Where the three disagree, the reader should trust none of them blindly. An interval without an end
    (the profile stays flat) is left out and the method says so.

    Args:
        fit: the fit.
        truth: symbol -> known value, drawn as a dotted line.
        level: nominal coverage.
        n: bootstrap resamples.

    Raises:
        ValueError: `truth` names a parameter the law does not have, or every parameter is fixed.
    """
    unknown = set(truth or {}) - set(fit.law.symbols)
    if unknown:
        raise ValueError(f"truth names {sorted(unknown)[0]!r}; {fit.law.name} has {', '.join(fit.law.symbols)}")
    free = list(fit.problem.free_symbols)
    if not free:
        raise ValueError("every parameter of this fit is fixed, so there is no interval to draw")
    tables = {method: fit.intervals(method, level, n) for method in METHODS}
    panels = [_panel(fit, s, tables, (truth or {}).get(s)) for s in free]
    rows = [alt.hconcat(*panels[i : i + _COLUMNS], spacing=26) for i in range(0, len(panels), _COLUMNS)]
    open_ends = fit.diagnostics.unidentified
    return alt.vconcat(*rows, spacing=18).properties(
        title=title(
            f"{fit.law.title}: parameters and {level:.0%} intervals",
            f"{fit.n_runs} runs",
            f"bootstrap of {n} resamples over runs",
            "dotted: known value" if truth else "",
            f"not identified: {', '.join(open_ends)}" if open_ends else "",
        )
    )


def _panel(fit: Fit, symbol: str, tables: dict[str, pd.DataFrame], known: float | None) -> alt.LayerChart:
    parameter = fit.law.parameters[fit.law.symbols.index(symbol)]
    rows = pd.DataFrame([{"method": m, **t.loc[symbol, ["estimate", "low", "high"]]} for m, t in tables.items()])
    # An end beyond a factor of 1000 says "unknown" as well as a number would, and would flatten the rest.
    centre = abs(float(rows["estimate"].iloc[0])) or 1.0
    clipped = rows[["low", "high"]].clip(centre * 1e-3 if parameter.log else -1e3 * centre, 1e3 * centre)
    rows[["low", "high"]] = clipped
    ends = np.append(rows[["estimate", "low", "high"]].to_numpy(float).ravel(), [] if known is None else [known])
    ends = ends[np.isfinite(ends)]
    log = bool(parameter.log and ends.min() > 0 and ends.max() / ends.min() > 20)
    rows["text"] = [f"{human(a, 4)} – {human(b, 4)}" for a, b in zip(rows["low"], rows["high"], strict=True)]
    unit = quantity(fit.points.target).unit if parameter.unit == "loss" else ""
    heading = f"{symbol} = {rows['estimate'].iloc[0]:.4g}" + (f" {unit}" if unit else "")
    x = scaled(alt.X, "estimate", ends, None, log=log, count=3, pad=0.08)
    y = alt.Y("method:N", sort=list(METHODS), axis=alt.Axis(title=None, ticks=False, domain=False, grid=False))
    scale = alt.Scale(domain=list(METHODS), range=list(CATEGORIES[:3]))
    colour = alt.Color("method:N", scale=scale, legend=None)
    shape = alt.Shape("method:N", scale=alt.Scale(domain=list(METHODS), range=_SHAPES), legend=None)
    base = alt.Chart(embed(rows))
    low = alt.X("low:Q", scale=x["scale"], axis=x["axis"])
    tips = [alt.Tooltip("method:N", title="Method"), alt.Tooltip("text:N", title="Interval")]
    layers = [
        base.mark_rule(strokeWidth=2.5).encode(low, alt.X2("high:Q"), y, colour),
        base.mark_point(filled=True, size=85, opacity=1).encode(x, y, colour, shape, tooltip=tips),
    ]
    if known is not None:
        truth = alt.Chart(embed(pd.DataFrame({"estimate": [known]}))).mark_rule(
            strokeDash=[2, 3], strokeWidth=1.8, color=INK, clip=True
        )
        layers.insert(0, truth.encode(x))
    head = alt.Title(
        heading, subtitle=[parameter.meaning], fontSize=13, subtitleFontSize=11, subtitleColor=GREY, offset=6
    )
    return alt.layer(*layers).properties(width=(WIDTH - 300) // _COLUMNS, height=84, title=head)
