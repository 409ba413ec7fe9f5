"""IsoFLOP curves: loss against size at each compute budget, with the minima and their intervals."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from workbench.analysis.isoflop import IsoFLOP
from workbench.figures.axes import scaled
from workbench.figures.data import embed, thin_rows
from workbench.figures.groups import group
from workbench.figures.style import HEIGHT, INK, WIDTH, title
from workbench.units import axis_title, human

__all__ = ["isoflop"]


def isoflop(chosen: IsoFLOP) -> alt.LayerChart:
    """Runs, fitted curves and minima.

    Diamonds are minima with their intervals in size; hollow ones are flagged and enter no exponent, and
    their tooltip says why. Budgets with too few sizes show their runs only.

    Args:
        chosen: an `IsoFLOP`.
    """
    frame, points, y = chosen.frame, chosen.points, chosen.target
    groups = group(frame["flops"])
    label = dict(zip(frame.index, groups.of, strict=True))
    heading = axis_title("flops")
    runs = pd.DataFrame(
        {
            "run": points["run"],
            "x": points["params"],
            "y": points[y],
            "group": points["budget"].map(label),
            "x_text": [human(v, 4) for v in points["params"]],
            "d_text": [human(v, 4) for v in points["tokens"]],
            "c_text": [f"{v:.3g}" for v in points["flops"]],
        }
    )
    drawn = chosen.curves.rename(columns={"params": "x", "loss": "y"})
    drawn["group"] = drawn["budget"].map(label)
    least = _minima(frame, label)
    axes = (
        scaled(alt.X, "x", [*runs["x"], *least["x"]], axis_title("params")),
        scaled(alt.Y, "y", [*runs["y"], *least["y"]], axis_title(y)),
    )
    colour = groups.colour(heading)
    layers = [
        alt.Chart(embed(drawn))
        .mark_line(strokeWidth=1.8, clip=True)
        .encode(*axes, colour, alt.Detail("budget:N"), order=alt.Order("x:Q")),
        alt.Chart(embed(thin_rows(runs, "y")), name="runs")
        .mark_point(filled=True, size=34, opacity=0.75)
        .encode(
            *axes,
            colour,
            tooltip=[
                alt.Tooltip("run:N", title="Run"),
                alt.Tooltip("x_text:N", title="Parameters"),
                alt.Tooltip("d_text:N", title="Training tokens"),
                alt.Tooltip("c_text:N", title="Compute (FLOP)"),
                alt.Tooltip("y:Q", title=axis_title(y), format=".4g"),
            ],
        ),
    ]
    if len(least):
        layers += _minimum_layers(least, axes, chosen.level)
    return alt.layer(*layers).properties(width=WIDTH, height=HEIGHT, title=_title(chosen))


def _minima(frame: pd.DataFrame, label: dict) -> pd.DataFrame:
    found = frame[np.isfinite(frame["params"])]
    # The interval of an unresolved minimum may reach absurd sizes; the mark stays, the rule is for resolved ones.
    return pd.DataFrame(
        {
            "x": found["params"],
            "y": found["loss"],
            "low": found["params_low"].where(found["used"]),
            "high": found["params_high"].where(found["used"]),
            "group": [label[i] for i in found.index],
            "used": found["used"],
            "why": np.where(found["used"], "enters the exponent", "flagged: " + found["note"]),
            "size": [
                f"{human(v)} ({human(a)} – {human(b)})"
                for v, a, b in zip(found["params"], found["params_low"], found["params_high"], strict=True)
            ],
            "budget": [f"{v:.3g}" for v in found["flops"]],
        }
    )


def _minimum_layers(least: pd.DataFrame, axes: tuple, level: float) -> list[alt.Chart]:
    x, y = axes
    tips = [
        alt.Tooltip("budget:N", title="Budget (FLOP)"),
        alt.Tooltip("size:N", title=f"Best size ({level:.0%} interval)"),
        alt.Tooltip("y:Q", title="Loss there", format=".4g"),
        alt.Tooltip("why:N", title="Status"),
    ]
    layers = []
    for used, name in ((True, "minima"), (False, "flagged")):
        part = least[least["used"] == used]
        if not len(part):
            continue
        base = alt.Chart(embed(part.drop(columns="used")))
        if used:
            ends = alt.X("low:Q", scale=x["scale"], axis=x["axis"])
            layers.append(base.mark_rule(color=INK, strokeWidth=2).encode(ends, alt.X2("high:Q"), y))
        look = {"filled": True} if used else {"filled": False, "fill": "white"}
        mark = alt.Chart(embed(part.drop(columns="used")), name=name).mark_point(
            shape="diamond", size=110, color=INK, strokeWidth=1.6, opacity=1, **look
        )
        layers.append(mark.encode(x, y, tooltip=tips))
    return layers


def _title(chosen: IsoFLOP) -> alt.Title:
    frame = chosen.frame
    used, slope = int(frame["used"].sum()), chosen.exponents().loc["params"]
    parts = [
        f"{len(chosen.points)} runs in {len(frame)} budgets ({chosen.grouping})",
        f"model of a curve: {chosen.method}",
    ]
    flagged = len(frame) - used
    if flagged:
        drawn = int((np.isfinite(frame["params"]) & ~frame["used"]).sum())
        parts.append(
            f"{flagged} budget{'s' if flagged > 1 else ''} flagged ({drawn} hollow, "
            f"{flagged - drawn} without a minimum to draw)"
        )
    if chosen.left_out:
        parts.append(f"{len(chosen.left_out)} runs left out (not drawn)")
    if np.isfinite(slope["exponent"]):
        parts.append(
            f"{chosen.level:.0%} intervals: N_opt ~ C^{slope['exponent']:.3f} "
            f"({slope['low']:.3f} to {slope['high']:.3f})"
        )
    else:
        parts.append(f"no exponent: {slope['note']}")
    return title("IsoFLOP curves and their minima", *parts)
