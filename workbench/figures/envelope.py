"""Loss curves over compute with their lower envelope."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from workbench.analysis.envelope import Envelope
from workbench.figures.axes import scaled
from workbench.figures.data import embed
from workbench.figures.groups import group
from workbench.figures.style import HEIGHT, INK, WIDTH, title
from workbench.units import axis_title, human

__all__ = ["envelope"]

#: Most points drawn of all curves together.
_MOST = 6000


def envelope(chosen: Envelope) -> alt.LayerChart:
    """Every curve coloured by size, the envelope in black; dashed where it lies at an edge of the sizes.

    Args:
        chosen: an `Envelope`.
    """
    curves = chosen.curves
    groups = group(curves["params"])
    data = pd.DataFrame(
        {"x": curves["flops"], "y": curves["loss"], "curve": curves["curve"], "group": groups.of, "run": curves["run"]}
    )
    data["n"] = [human(v, 4) for v in curves["params"]]
    every = int(np.ceil(len(data) / _MOST))
    if every > 1:
        last = ~data["curve"].duplicated(keep="last")
        data = data[(np.arange(len(data)) % every == 0) | last]
    line = pd.DataFrame({"x": chosen.frame["flops"], "y": chosen.frame["loss"], "why": chosen.frame["note"]})
    line["n"] = [human(v, 4) for v in chosen.frame["params"]]
    line["kind"] = np.where(chosen.frame["used"], "used", "edge")
    line["stretch"] = line["kind"].ne(line["kind"].shift()).cumsum()
    axes = (
        scaled(alt.X, "x", data["x"], axis_title("flops")),
        scaled(alt.Y, "y", data["y"], axis_title(chosen.target)),
    )
    colour = groups.colour(axis_title("params"))
    dash = alt.StrokeDash("kind:N", scale=alt.Scale(domain=["used", "edge"], range=[[1, 0], [3, 3]]), legend=None)
    tips = [
        alt.Tooltip("x:Q", title="Compute (FLOP)", format=".3g"),
        alt.Tooltip("y:Q", title=axis_title(chosen.target), format=".4g"),
        alt.Tooltip("n:N", title="Parameters"),
    ]
    layers = [
        alt.Chart(embed(data), name="curves")
        .mark_line(strokeWidth=1, opacity=0.55, point=alt.OverlayMarkDef(size=8, opacity=0.55))
        .encode(*axes, colour, alt.Detail("curve:N"), tooltip=[alt.Tooltip("run:N", title="Run"), *tips]),
        alt.Chart(embed(line), name="envelope")
        .mark_line(strokeWidth=2.4, color=INK)
        .encode(*axes, dash, alt.Detail("stretch:N"), tooltip=[*tips, alt.Tooltip("why:N", title="Flag")]),
    ]
    slope = chosen.exponents().loc["params"]
    used = int(chosen.frame["used"].sum())
    parts = [
        f"{chosen.n_runs} runs, {'curves they logged' if chosen.points == 'curves' else 'final losses joined by size'}",
        f"{used} of {len(chosen.frame)} levels used; dashed: at an edge of the sizes, not used",
        f"{len(chosen.left_out)} runs left out (not drawn)" if chosen.left_out else "",
        f"one point in {every} drawn" if every > 1 else "",
        f"{chosen.level:.0%} interval: N_opt ~ C^{slope['exponent']:.3f} ({slope['low']:.3f} to {slope['high']:.3f})"
        if np.isfinite(slope["exponent"])
        else f"no exponent: {slope['note']}",
        *chosen.notes,
    ]
    return alt.layer(*layers).properties(
        width=WIDTH, height=HEIGHT, title=title("Loss over compute and its lower envelope", *parts)
    )
