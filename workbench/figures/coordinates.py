"""The coordinate check: sizes of activations, or of their changes, against width, a panel a parametrization."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from workbench.figures.axes import label, log_ticks, scaled
from workbench.figures.data import embed
from workbench.figures.style import CATEGORIES, WIDTH, sequence, shapes, title
from workbench.probes.coordinates import QUANTITIES, width_exponents
from workbench.units import axis_title

__all__ = ["coordinates"]

_MOST = 12  # activations drawn; more cannot be told apart
_WORDS = {
    "size": ("Size of activations", "Size of the activation (root mean square)"),
    "change": ("What training adds to activations", "Change since the start (root mean square)"),
}


def coordinates(frame: pd.DataFrame, quantity: str = "change", step: int | None = None) -> alt.FacetChart:
    """A logarithmic panel a parametrization, with one line an activation: the median over seeds against width.

    Above each panel stands the range of the fitted exponents of its lines: near 0 throughout where a
    parametrization keeps activations of the same size at every width.

    Args:
        frame: from `workbench.probes.coordinates.coordinate_check`; frames of several parametrizations stacked by
            ``pd.concat`` are drawn side by side, in order.
        quantity: ``change`` or ``size``.
        step: optimizer steps after which is looked; the last ones unless given.

    Raises:
        ValueError: a quantity or a step that the frame does not have, or nothing positive to draw.
    """
    if quantity not in QUANTITIES:
        raise ValueError(f"quantity={quantity!r} is not known; choose one of {', '.join(QUANTITIES)}.")
    steps = sorted(set(frame["step"]))
    step = steps[-1] if step is None else step
    if step not in steps:
        raise ValueError(f"step={step!r} is not in the frame, which has steps {', '.join(map(str, steps))}.")
    rows = frame[frame["step"] == step]
    usable = rows[np.isfinite(rows[quantity]) & (rows[quantity] > 0)]
    if usable.empty:
        raise ValueError(f"nothing to draw: {quantity} is zero or not finite everywhere at step {step}.")
    names = list(dict.fromkeys(frame["activation"]))
    drawn = names if len(names) <= _MOST else [names[round(i)] for i in np.linspace(0, len(names) - 1, _MOST)]
    headers = _headers(usable, quantity)
    keys = ["parametrization", "activation", "width"]
    points = usable[usable["activation"].isin(drawn)].groupby(keys, sort=False)[quantity].median().reset_index(name="y")
    points["panel"] = points["parametrization"].map(headers)
    points = points.rename(columns={"width": "x", "activation": "group"})[["panel", "group", "x", "y"]]
    seeds = rows["seed"].nunique()
    return _panels(points, list(headers.values()), drawn, _WORDS[quantity][1]).properties(
        title=title(
            f"{_WORDS[quantity][0]} against width, after {step} step{'s' if step != 1 else ''}",
            f"median of {seeds} seeds" if seeds > 1 else "one seed",
            f"{len(drawn)} of {len(names)} activations drawn" if len(drawn) < len(names) else "",
            f"{len(rows) - len(usable)} of {len(rows)} values left out: zero or not finite"
            if len(usable) < len(rows)
            else "",
        )
    )


def _headers(rows: pd.DataFrame, quantity: str) -> dict[str, str]:
    """Parametrization -> the words above its panel."""
    fitted = width_exponents(rows)
    fitted = fitted[fitted["quantity"] == quantity]
    headers = {}
    for kind in dict.fromkeys(rows["parametrization"]):
        p = fitted.loc[fitted["parametrization"] == kind, "exponent"]
        words = f"exponents {p.min():.2f} to {p.max():.2f}" if len(p) else "one width"
        headers[kind] = f"{kind}: {words}".replace("-", "−")
    return headers


def _panels(points: pd.DataFrame, panels: list[str], names: list[str], y_title: str) -> alt.FacetChart:
    columns = 2 if len(panels) == 4 else min(len(panels), 3)
    width = (WIDTH - 190 - 24 * (columns - 1)) // columns
    x = scaled(alt.X, "x", points["x"], axis_title("width"), count=4)
    # the widths that were trained are the ticks, as long as they fit
    widths = sorted(set(points["x"]))
    x["axis"]["values"] = widths if len(widths) <= 6 else log_ticks(widths[0], widths[-1], 4)
    x["axis"]["labelExpr"] = label(widths[-1])
    y = scaled(alt.Y, "y", points["y"], y_title)
    colours = list(CATEGORIES[: len(names)]) if len(names) <= len(CATEGORIES) else sequence(len(names))
    legend = alt.Legend(title="Activation", symbolOpacity=1)
    colour = alt.Color("group:N", scale=alt.Scale(domain=names, range=colours), legend=legend)
    shape = alt.Shape("group:N", scale=alt.Scale(domain=names, range=shapes(len(names))), legend=legend)
    tips = [
        alt.Tooltip("group:N", title="Activation"),
        alt.Tooltip("x:Q", title="Width"),
        alt.Tooltip("y:Q", title=y_title, format=".4g"),
    ]
    lines = alt.Chart().mark_line(strokeWidth=2).encode(x, y, colour)
    marks = alt.Chart().mark_point(filled=True, size=55, opacity=1).encode(x, y, colour, shape, tooltip=tips)
    return (
        alt.layer(lines, marks, data=embed(points))
        .properties(width=width, height=280)
        .facet(alt.Facet("panel:N", sort=panels, title=None), columns=columns, spacing=24)
    )
