"""What a saved notebook keeps of a panel, so that its sliders go on without a kernel.

A panel's output holds, besides the picture, a JSON object under the media type `MEDIA`: the drawing, its rows,
and the law as a list of operations (`workbench.laws.expression.Tape`). `workbench export` draws that and moves the
lines when a slider moves. It holds data only; no page has to trust code from a notebook.

::

    {"version": 1, "title": ..., "formula": LaTeX, "spec": Vega-Lite with empty named datasets, "data": {name: rows},
     "steps": tape, "log": whether values at or below 0 have no place,
     "sliders": [{"symbol", "label", "meaning", "value", "min", "max", "log"}, ...],
     "curves": [{"dataset", "rows", "inputs": {symbol: [...]}, "out": [index of the step for each block of rows]}],
     "points": {"inputs": {symbol: [...]}, "y": [...]} or null,
     "reveal": {"params": {symbol: value}, "rms": ...} or null}

The rows of a curve come in as many equal blocks as `out` has entries; each block has the y of its step at `inputs`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from workbench.analysis.guess import misfit
from workbench.figures.explorer import SUM, Scene
from workbench.figures.groups import group
from workbench.figures.lines import lines
from workbench.figures.plane import fitted
from workbench.fits.points import Points
from workbench.fits.result import Fit
from workbench.laws.base import Law
from workbench.laws.examples import Range, ranges
from workbench.laws.expression import Tape, Untraceable, symbol_text, trace
from workbench.panels.kept import MEDIA
from workbench.panels.live_chart import specification, split

__all__ = ["MEDIA", "explorer_embedded", "fit_embedded"]

VERSION = 1
#: Digits kept of what is computed: enough for the eye, few enough to come out the same on another machine.
_DIGITS = 5
#: Most runs the page measures its misfit on.
_MOST_POINTS = 2000


def explorer_embedded(panel: Any) -> dict[str, Any] | None:
    """What a page needs to go on with an `ExplorerPanel`; None where the formula cannot be written down."""
    scene: Scene = panel.scene
    if scene.tape is None:
        return None
    spec, data = split(specification(panel.figure()))
    terms = panel.state.terms and len(scene.labels) > 1
    curves = [_curve(SUM, [{"part": SUM}], scene.grid, scene.x, scene.tape.out[:1])]
    if terms:
        parts = [{"part": label} for label in scene.labels]
        curves.append(_curve("terms", parts, scene.grid, scene.x, scene.tape.out[1:]))
    reach = {s: over.holding(panel.params[s]) for s, over in panel._reach.items()}
    out = _common(scene.law, spec, data, scene.tape, panel.params, reach, curves, panel._points)
    out["log"] = panel.state.log
    if panel.fit is not None:
        out["reveal"] = _reveal(panel.fit)
    return out


def fit_embedded(fit: Fit | None, figure: Any) -> dict[str, Any] | None:
    """What a page needs to move the curves of a fit; None without a fit or a formula that can be written down.

    Args:
        fit: the fit.
        figure: its drawing as `figures.curve` makes it.
    """
    if fit is None:
        return None
    layout = lines(fit)
    spec, data = split(specification(figure))
    name = next((n for n, r in data.items() if r and set(r[0]) == {"group", "x", "y"}), None)
    if name is None:
        return None
    rows = data[name]
    at = {} if layout.by is None else group(fitted(fit, layout)["by"]).centres
    if layout.by is not None and not {row["group"] for row in rows} <= set(at):
        return None
    x = np.array([row["x"] for row in rows], dtype=float)
    of = np.array([row["group"] for row in rows])
    grid = {s: np.empty(x.size) for s in fit.points.columns}
    for label in np.unique(of):
        mine = of == label
        columns = layout.inputs_at(x[mine], None if layout.by is None else at[label])
        for symbol, column in fit.points.columns.items():
            grid[symbol][mine] = columns[column]
    try:
        tape = Tape([trace(fit.law)])
    except Untraceable:
        return None
    curve = {
        "dataset": name,
        "rows": [{"group": row["group"], "x": row["x"]} for row in rows],
        "inputs": {s: _short(v) for s, v in grid.items()},
        "out": tape.out,
    }
    params = {s: float(v) for s, v in fit.params.items()}
    out = _common(fit.law, spec, data, tape, params, _around(fit.law, params), [curve], fit.points)
    out["log"] = bool((fit.points.y > 0).all())
    out["start"] = "the fit"
    return out


def _around(law: Law, params: Mapping[str, float]) -> dict[str, Range]:
    """Slider ranges close about a fit, where the reader wants to see what small changes do."""
    near = {}
    for symbol, over in ranges(law, params).items():
        value = params[symbol]
        if over.log and value > 0:
            over = Range(max(over.low, value / 10), min(over.high, value * 10), True)
        near[symbol] = over.holding(value)
    return near


def _common(
    law: Law,
    spec: dict[str, Any],
    data: dict[str, list],
    tape: Tape,
    params: Mapping[str, float],
    reach: Mapping[str, Range],
    curves: list[dict[str, Any]],
    points: Points | None,
) -> dict[str, Any]:
    sliders = [
        {
            "symbol": p.symbol,
            "label": symbol_text(p.symbol),
            "meaning": p.meaning,
            "value": _number(params[p.symbol]),
            "min": _number(reach[p.symbol].low),
            "max": _number(reach[p.symbol].high),
            "log": reach[p.symbol].log,
        }
        for p in law.parameters
    ]
    return {
        "version": VERSION,
        "title": law.title,
        "formula": law.latex,
        "spec": spec,
        "data": {name: [_row(row) for row in rows] for name, rows in data.items()},
        "steps": tape.steps,
        "sliders": sliders,
        "curves": curves,
        "points": _points(points, tape),
        "reveal": None,
    }


def _points(points: Points | None, tape: Tape) -> dict[str, Any] | None:
    arrays = any(step[0] == "constant" and isinstance(step[1], list) for step in tape.steps)
    if points is None or arrays or len(points) > _MOST_POINTS:
        return None
    good = points.y > 0
    return {"inputs": {s: _short(v[good]) for s, v in points.x.items()}, "y": _short(points.y[good])}


def _reveal(fit: Fit) -> dict[str, Any]:
    return {
        "params": {s: _number(v) for s, v in fit.params.items()},
        "rms": _number(misfit(fit.law, fit.params, fit.points)),
        "runs": len(fit.points),
    }


def _curve(name: str, blocks: list[dict], grid: Mapping[str, np.ndarray], x: str, out: list[int]) -> dict[str, Any]:
    at = _short(grid[x])
    return {
        "dataset": name,
        "rows": [{**block, "x": v} for block in blocks for v in at],
        "inputs": {s: _short(v) for s, v in grid.items()},
        "out": out,
    }


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _number(v) if isinstance(v, float) else v for k, v in row.items()}


def _number(value: float) -> float | None:
    return float(f"{value:.{_DIGITS}g}") if np.isfinite(value) else None


def _short(values: np.ndarray) -> list[float | None]:
    return [_number(float(v)) for v in values]
