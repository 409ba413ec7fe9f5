"""The plane of data and target complexity with its regimes of compute-optimal scaling, and two sliders."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from workbench.figures.data import embed
from workbench.figures.style import CATEGORIES, INK, title

__all__ = ["phase_plane"]

#: Name of a part of the loss -> exponents p of the steps and q of the size, as Vega expressions of alpha and beta.
_SLOW = "max(0, 1 - 2 * alpha)"
_BIAS = "((2 * alpha + 2 * beta - 1) / (2 * alpha))"
_NOISE = "(2 - 1 / (2 * alpha))"
_TERMS = {
    "bias": (_BIAS, f"-{_SLOW} * {_BIAS}", "alpha + beta > 0.5"),
    "capacity": ("0", "2 * alpha - max(0, 1 - 2 * beta)", "alpha + beta > 0.5"),
    "distortion": ("1 - 1 / (2 * alpha)", "1", "alpha > 0.5 && beta > 0.5"),
    "noise": (_NOISE, f"{_SLOW} * (1 - {_NOISE})", "alpha > 0.25"),
}


def phase_plane(plane: pd.DataFrame, alpha: float, beta: float, step: float) -> alt.TopLevelMixin:
    """Left the regimes, with a cross that sliders move; right the parts of the loss at the cross.

    Right, each part of the loss is a line: how fast it falls with compute f, if models have f^x parameters and are
    trained for f^(1 - x) steps. The slowest part counts, so the best x is where the lowest line is highest.

    Args:
        plane: one row a cell: columns ``alpha``, ``beta`` (centres), ``regime``, and ``loss`` and ``size``, the
            exponents there.
        alpha, beta: where the sliders stand at first.
        step: of the sliders and of the cells.
    """
    sliders = [
        alt.param(
            name=name,
            value=value,
            bind=alt.binding_range(
                min=float(plane[name].min()), max=float(plane[name].max()), step=step, name=f"{name} "
            ),
        )
        for name, value in (("alpha", alpha), ("beta", beta))
    ]
    names = sorted(set(plane["regime"]) - {""})
    cells = plane[plane["regime"] != ""].assign(
        left=lambda t: t["alpha"] - step / 2,
        right=lambda t: t["alpha"] + step / 2,
        bottom=lambda t: t["beta"] - step / 2,
        top=lambda t: t["beta"] + step / 2,
    )
    x = alt.X("left:Q", title="alpha: how fast the data's spectrum falls", scale=alt.Scale(nice=False, zero=False))
    y = alt.Y("bottom:Q", title="beta: how fast the target's falls", scale=alt.Scale(nice=False, zero=False))
    colour = alt.Color(
        "regime:N",
        scale=alt.Scale(domain=names, range=list(CATEGORIES[: len(names)])),
        legend=alt.Legend(title="Regime", orient="left", symbolType="square"),
    )
    tips = [
        alt.Tooltip("regime:N", title="Regime"),
        alt.Tooltip("loss:Q", title="loss falls as f to minus", format=".3f"),
        alt.Tooltip("size:Q", title="best size grows as f to", format=".3f"),
    ]
    every = alt.Chart(embed(cells[["alpha", "beta", "left", "right", "bottom", "top", "regime", "loss", "size"]]))
    drawn = every.mark_rect(opacity=0.55, strokeWidth=0).encode(
        x, y, x2="right:Q", y2="top:Q", color=colour, tooltip=tips
    )
    here = every.transform_filter("abs(datum.alpha - alpha) < 1e-6 && abs(datum.beta - beta) < 1e-6")
    cross = here.mark_point(shape="cross", size=220, filled=True, color=INK, opacity=1).encode(
        alt.X("alpha:Q"), alt.Y("beta:Q"), tooltip=tips
    )
    share = np.linspace(0, 1, 41)
    grid = pd.DataFrame([(name, one) for name in _TERMS for one in share], columns=["part", "x"])
    p, q, valid = (_chosen(i) for i in range(3))
    lines = (
        alt.Chart(embed(grid))
        .transform_filter(valid)
        .transform_calculate(y=f"({p}) * (1 - datum.x) + ({q}) * datum.x")
        .mark_line(strokeWidth=2.5, clip=True)
        .encode(
            alt.X("x:Q", title="x: models have f^x parameters", scale=alt.Scale(domain=[0, 1])),
            alt.Y("y:Q", title="loss falls as f to minus this", scale=alt.Scale(domain=[0, 2])),
            alt.Color("part:N", scale=alt.Scale(domain=list(_TERMS), range=list(CATEGORIES[:4])),
                      legend=alt.Legend(title="Part of the loss")),
        )
    )  # fmt: skip
    best = here.mark_point(shape="cross", size=220, filled=True, color=INK, opacity=1).encode(
        alt.X("size:Q"), alt.Y("loss:Q"), tooltip=tips
    )
    said = (
        here.transform_calculate(
            text="'regime ' + datum.regime + ': loss f^−' + format(datum.loss, '.3f')"
            " + ', size f^' + format(datum.size, '.3f')"
        )
        .mark_text(align="left", baseline="top", fontSize=12, color=INK)
        .encode(x=alt.value(0), y=alt.value(-18), text="text:N")
    )
    left = alt.layer(drawn, cross).properties(width=250, height=260)
    right = (lines + best + said).properties(width=250, height=260)
    heading = title(
        "Regimes of compute-optimal scaling", "move the sliders below the figure; no power law where it is white"
    )
    return alt.hconcat(left, right, spacing=24).resolve_scale(color="independent").add_params(*sliders).properties(
        title=heading
    )  # fmt: skip


def _chosen(which: int) -> str:
    """A Vega expression that is the `which`-th entry of `_TERMS` for the row's part."""
    found = "0"
    for name, entries in _TERMS.items():
        found = f"(datum.part == '{name}' ? ({entries[which]}) : {found})"
    return found
