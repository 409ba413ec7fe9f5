"""Compute-optimal size and data from several sources overlaid: do the three approaches agree?"""

from __future__ import annotations

from collections.abc import Mapping

import altair as alt
import numpy as np
import pandas as pd

from workbench.analysis.approaches import Approaches
from workbench.analysis.frontier import Frontier
from workbench.figures.axes import scaled
from workbench.figures.data import embed
from workbench.figures.style import CATEGORIES, GREY, WIDTH, empty, title
from workbench.units import axis_title, human

__all__ = ["frontier"]

_PANELS = {"params": "Optimal parameters N", "tokens": "Optimal training tokens D"}
_DASHES = ([1, 0], [7, 4], [2, 3], [9, 3, 2, 3], [5, 2])


def frontier(chosen: Approaches | Frontier | Mapping[str, Frontier]) -> alt.HConcatChart | alt.Chart:
    """Optimal parameters (left) and tokens (right) against compute, one line with its band a source.

    IsoFLOP minima are drawn as points where they are known, hollow where flagged; their tooltips say why.

    Args:
        chosen: `Approaches`, one `Frontier`, or a mapping from names to frontiers, up to seven.

    Raises:
        ValueError: a mapping that is empty, or longer than can be told apart.
    """
    if isinstance(chosen, Approaches):
        frontiers = chosen.frontiers
        if not frontiers:
            return empty("No frontier to draw", [f"{r.approach}: {r.note}" for r in chosen.frame.itertuples()])
    else:
        frontiers = {chosen.law: chosen} if isinstance(chosen, Frontier) else dict(chosen)
    if not 1 <= len(frontiers) <= len(CATEGORIES):
        raise ValueError(f"{len(frontiers)} frontiers cannot be drawn together; give 1 to {len(CATEGORIES)}")
    names = list(frontiers)
    minima = _minima(chosen) if isinstance(chosen, Approaches) else None
    panels = [_panel(frontiers, names, column, minima) for column in _PANELS]
    level = next(iter(frontiers.values())).level
    if isinstance(chosen, Approaches):
        heading, parts = "Three approaches, one answer?", _verdict(chosen)
    else:
        costs = {f.cost.label for f in frontiers.values()}
        heading, parts = "Compute-optimal size and data", sorted(costs)
    return alt.hconcat(*panels, spacing=28).properties(title=title(heading, *parts, f"bands: {level:.0%} intervals"))


def _panel(frontiers: Mapping[str, Frontier], names: list[str], column: str, minima: pd.DataFrame | None):
    parts = []
    for name, each in frontiers.items():
        part = each.frame[["flops", column, f"{column}_low", f"{column}_high"]].set_axis(
            ["x", "y", "low", "high"], axis=1
        )
        part = part.assign(group=name, extrapolation=each.frame["extrapolation"]).sort_values("x")
        part["text"] = [
            f"{human(v)} ({human(a)} – {human(b)})"
            for v, a, b in zip(part["y"], part["low"], part["high"], strict=True)
        ]
        parts.append(part)
    data = pd.concat(parts, ignore_index=True)
    shown = [data["y"], data["low"], data["high"]]
    if minima is not None:
        shown.append(minima[column])
    x = scaled(alt.X, "x", data["x"], axis_title("flops"), count=5)
    y = scaled(alt.Y, "y", np.concatenate([np.asarray(s, float) for s in shown]), _PANELS[column])
    # One legend for both panels, below them and in the order of the approaches.
    legend = alt.Legend(
        title=None,
        orient="bottom",
        symbolType="stroke",
        symbolSize=500,
        symbolStrokeWidth=2.5,
        columns=3,
        labelLimit=260,
    )
    colours = alt.Scale(domain=names, range=list(CATEGORIES[: len(names)]))
    colour = alt.Color("group:N", scale=colours, legend=legend)
    dash = alt.StrokeDash(
        "group:N",
        scale=alt.Scale(domain=names, range=[_DASHES[i % len(_DASHES)] for i in range(len(names))]),
        legend=legend,
    )
    base = alt.Chart(embed(data))
    low = alt.Y("low:Q", scale=y["scale"], axis=y["axis"])
    tips = [
        alt.Tooltip("group:N", title="From"),
        alt.Tooltip("x:Q", title="Compute (FLOP)", format=".3g"),
        alt.Tooltip("text:N", title=_PANELS[column]),
        alt.Tooltip("extrapolation:Q", title="Times the largest compute behind it", format=".3g"),
    ]
    layers = []
    if data["low"].notna().any():
        layers.append(base.mark_area(fillOpacity=0.15, opacity=1).encode(x, low, alt.Y2("high:Q"), colour))
    layers.append(base.mark_line(strokeWidth=2.2).encode(x, y, colour, dash))
    # Wide invisible points carry the tooltips: a line two pixels wide is hard to hit.
    layers.append(base.mark_point(size=120, opacity=0).encode(x, y, tooltip=tips))
    if minima is not None and len(minima):
        layers += _minimum_layers(minima, column, x, y, colours, legend)
    return alt.layer(*layers).properties(width=(WIDTH - 120) // 2, height=300)


def _minima(chosen: Approaches) -> pd.DataFrame | None:
    """IsoFLOP minima with the approach they belong to, or None."""
    if chosen.isoflop is None:
        return None
    name = next((n for n in chosen.frontiers if n.startswith("2")), None)
    frame = chosen.isoflop.frame
    frame = frame[np.isfinite(frame["params"])]
    if name is None or not len(frame):
        return None
    return frame.assign(group=name, why=np.where(frame["used"], "enters the exponent", "flagged: " + frame["note"]))


def _minimum_layers(minima: pd.DataFrame, column: str, x: alt.X, y: alt.Y, colours: alt.Scale, legend: alt.Legend):
    layers = []
    for used in (True, False):
        part = minima[minima["used"] == used]
        if not len(part):
            continue
        part = pd.DataFrame({"x": part["flops"], "y": part[column], "group": part["group"], "why": part["why"]})
        colour = alt.Color("group:N", scale=colours, legend=legend)
        mark = alt.Chart(embed(part), name=f"{'minima' if used else 'flagged'} {column}")
        tips = [
            alt.Tooltip("x:Q", title="Budget (FLOP)", format=".3g"),
            alt.Tooltip("y:Q", title=_PANELS[column], format=".3g"),
            alt.Tooltip("why:N", title="IsoFLOP minimum"),
        ]
        style = {"filled": used, "size": 42, "strokeWidth": 1.5, "opacity": 1}
        if used:
            layers.append(mark.mark_point(**style).encode(x, y, colour, tooltip=tips))
        else:
            layers.append(mark.mark_point(**style, color=GREY).encode(x, y, tooltip=tips))
    return layers


def _verdict(chosen: Approaches) -> list[str]:
    rows = chosen.frame.to_dict("records")
    known = [r for r in rows if np.isfinite(r["a_low"]) and np.isfinite(r["a_high"])]
    parts = []
    if len(known) > 1:
        overlap = max(r["a_low"] for r in known) <= min(r["a_high"] for r in known)
        parts.append(
            f"the intervals of the exponent of N {'share a value' if overlap else 'have no value in common'}: "
            + ", ".join(f"a = {r['a']:.3f} ({r['approach'].split()[1]})" for r in known)
        )
    parts += [f"{r['approach'].split()[1]}: {r['rests_on']}" for r in rows if np.isfinite(r["a"])]
    if chosen.isoflop is not None and not chosen.isoflop.frame["used"].all():
        parts.append("grey hollow points: flagged minima")
    parts += [f"{r['approach'].split()[1]}: none ({r['note'][:80]})" for r in rows if not np.isfinite(r["a"])]
    return parts
