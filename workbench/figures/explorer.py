"""A law on its own: its sum and its additive terms as lines, runs around them, and a fit to compare with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from workbench.figures.axes import scaled
from workbench.figures.data import MOST_ROWS, embed, thin_rows
from workbench.figures.style import ACCENT, CATEGORIES, GREY, HEIGHT, INK, WIDTH, spoken, title
from workbench.fits.points import Points, gather
from workbench.fits.result import Fit
from workbench.laws.base import Law, get
from workbench.laws.examples import spans, typical
from workbench.laws.expression import Tape, Untraceable, parts, trace
from workbench.runs.load import load
from workbench.units import axis_title, human, quantity

__all__ = ["FIT", "SUM", "Scene", "drawable", "explorer", "input_name", "scene"]

#: Points along each line.
GRID = 60
#: Runs whose other inputs lie within this factor of those of the curve are drawn filled.
NEAR = 1.1
#: Decades below the highest point that a logarithmic axis shows.
_DEPTH = 3.0
SUM, FIT = "sum", "fit"
_DASHES = ([6, 3], [2, 2], [8, 3, 2, 3], [1, 3], [12, 4])


@dataclass(frozen=True)
class Scene:
    """Where a law is evaluated for its picture; everything that does not depend on the parameters.

    Attributes:
        law: the law.
        x: symbol of the input on the x axis.
        held: the other inputs -> the value they are held at.
        grid: input symbol -> values along the curve ``[GRID]``.
        points: runs to draw around it, or None.
        tape: the terms and the law, traced; None where the formula cannot be written down.
        labels: how each term reads.
    """

    law: Law
    x: str
    held: dict[str, float]
    grid: dict[str, np.ndarray]
    points: Points | None
    tape: Tape | None
    labels: list[str]

    def lines(self, params: Mapping[str, float]) -> pd.DataFrame:
        """The sum and, of a law of several, its terms: columns ``part``, ``x`` and ``y``, `GRID` rows each."""
        with np.errstate(all="ignore"):
            if self.tape is not None:
                pieces = self.tape.run({**self.grid, **params})
            else:
                pieces = [self.law.predict(params, self.grid), *self.law.parts(params, self.grid).values()]
        x = self.grid[self.x]
        if len(self.labels) < 2:
            pieces = pieces[:1]
        y = np.concatenate([np.broadcast_to(piece, x.shape) for piece in pieces])
        names = [SUM, *self.labels][: len(pieces)]
        return pd.DataFrame({"part": np.repeat(names, x.size), "x": np.tile(x, len(pieces)), "y": y})

    def near(self) -> np.ndarray:
        """Which of the points have the inputs of the curve, to a tenth; all of them for a law of one input."""
        near = np.ones(len(self.points), dtype=bool)
        with np.errstate(all="ignore"):
            for symbol, value in self.held.items():
                near &= np.abs(np.log(self.points.x[symbol] / value)) <= np.log(NEAR)
        return near

    def rows(self) -> pd.DataFrame:
        """The points: ``run``, ``x``, ``y`` and ``near`` (``yes`` or ``no``)."""
        frame = pd.DataFrame(
            {
                "run": self.points.frame["run"].astype(str),
                "x": self.points.x[self.x],
                "y": self.points.y,
                "near": np.where(self.near(), "yes", "no"),
            }
        )
        return thin_rows(frame, "y")

    def column(self, symbol: str) -> str | None:
        """The column, or canonical quantity, behind an input; None for an input that is just x."""
        if self.points is not None:
            return self.points.columns[symbol]
        return next(i.quantity for i in self.law.inputs if i.symbol == symbol)

    def axis(self, symbol: str) -> str:
        """Axis title of an input."""
        column = self.column(symbol)
        return axis_title(column) if column else f"{symbol} (any scale)"


def scene(
    law: str | Law,
    *,
    x: str | None = None,
    held: Mapping[str, float] | None = None,
    runs: Any = None,
    y: str = "loss",
    inputs: Mapping[str, str] | None = None,
    points: Points | None = None,
) -> Scene:
    """Where to evaluate `law`; the arguments are those of `explorer`.

    Raises:
        ValueError: no such law, input or column, or a held value that is not positive.
    """
    law = get(law)
    if points is None and runs is not None:
        points = gather(law, load(runs), y, None, inputs)
    symbols = [i.symbol for i in law.inputs]
    for symbol in [*([x] if x else []), *(held or {})]:
        if symbol not in symbols:
            raise ValueError(f"{law.name} has no input {symbol!r}; its inputs are {', '.join(symbols)}")
    between = spans(law)
    if points is not None:
        for s in symbols:
            good = points.x[s][points.x[s] > 0]
            if good.size:
                between[s] = (float(good.min()), float(good.max()))
    if x is None:
        varied = [s for s in symbols if between[s][1] > between[s][0]] or symbols
        x = next((i.symbol for i in law.inputs if i.quantity == "tokens" and i.symbol in varied), varied[0])
    at = {s: typical(between[s]) if points is None else _middle(points.x[s]) for s in symbols if s != x}
    at |= {s: float(v) for s, v in (held or {}).items() if s != x}
    for symbol, value in at.items():
        if not (np.isfinite(value) and (value > 0 or any(i.zero and i.symbol == symbol for i in law.inputs))):
            raise ValueError(f"{symbol} is held at {value!r}; give a positive number")
    low, high = between[x]
    if not high > low:
        low, high = low / 10, high * 10
    margin = (high / low) ** (0.03 if points is not None else 0.0)
    grid = {x: np.geomspace(low / margin, high * margin, GRID), **{s: np.full(GRID, v) for s, v in at.items()}}
    grid = {s: grid[s] for s in symbols}
    tape, labels = _traced(law, grid)
    return Scene(law, x, at, grid, points, tape, labels)


def _middle(values: np.ndarray) -> float:
    """A value that some run has, near the middle."""
    ordered = np.sort(values)
    return float(ordered[ordered.size // 2]) if ordered.size else 1.0


def _traced(law: Law, grid: Mapping[str, np.ndarray]) -> tuple[Tape | None, list[str]]:
    for columns in (None, grid):
        try:
            node = trace(law, columns)
            named = parts(law, node)
            return Tape([node, *named.values()]), list(named)
        except Untraceable:
            continue
    middle = {p.symbol: min(max(1.0, p.low), p.high) for p in law.parameters}
    with np.errstate(all="ignore"):
        return None, list(law.parts(middle, grid))


def explorer(
    law: str | Law,
    params: Mapping[str, float],
    *,
    x: str | None = None,
    held: Mapping[str, float] | None = None,
    runs: Any = None,
    y: str = "loss",
    inputs: Mapping[str, str] | None = None,
    fit: Fit | None = None,
    terms: bool = True,
    log: bool = True,
    _scene: Scene | None = None,
) -> alt.LayerChart:
    """A law at given parameters: the sum and each additive term as lines, against one input.

    Args:
        law: name of a law, or a `Law`.
        params: parameter symbol -> value.
        x: symbol of the input on the x axis; default the tokens, or the first input that varies.
        held: the other inputs -> the value they are held at; default the middle of the runs, or of ordinary values.
        runs: runs to draw around the curve; those with other values of the held inputs are drawn hollow.
        y: column of `runs` on the y axis.
        inputs: input symbol -> column of `runs`.
        fit: a fit of the same law, drawn beside the sum.
        terms: draw the terms.
        log: logarithmic y axis, on which a term at or below 0 cannot be drawn.

    Raises:
        ValueError: no such law, input, parameter or column.
    """
    stage = _scene or scene(law, x=x, held=held, runs=runs, y=y, inputs=inputs)
    missing = [s for s in stage.law.symbols if s not in params]
    if missing:
        raise ValueError(f"params= lacks {', '.join(missing)}; {stage.law.name} takes {', '.join(stage.law.symbols)}")
    drawn = drawable(stage.lines(params), log)
    labels = [SUM, *([] if len(stage.labels) < 2 or not terms else stage.labels)]
    drawn = drawn[drawn["part"].isin(labels)]
    fitted = None if fit is None else drawable(stage.lines(fit.params).query("part == @SUM").assign(part=FIT), log)
    points = None if stage.points is None else stage.rows()
    target = stage.points.target if stage.points is not None else y
    axes = (
        scaled(alt.X, "x", stage.grid[stage.x], stage.axis(stage.x), pad=0.02),
        scaled(alt.Y, "y", _up(drawn, fitted, points, log), _y_title(stage, target), log=log),
    )
    look = _look(labels, fitted is not None)
    layers = [_line(drawn[drawn["part"] != SUM], "terms", axes, look, 1.8)] if len(labels) > 1 else []
    if points is not None:
        layers.append(_points(points, axes))
    if fitted is not None:
        layers.append(_line(fitted, FIT, axes, look, 2.5))
    layers.append(_line(drawn[drawn["part"] == SUM], SUM, axes, look, 3))
    alone = {}
    if len(layers) == 1:  # Altair then moves the rows to the top of the drawing, and their name must go along
        layers[0].name, alone = alt.Undefined, {"name": SUM}
    return alt.layer(*layers).properties(
        **alone, width=WIDTH, height=HEIGHT, title=_title(stage, target, drawn, points, fit, log)
    )


def drawable(lines: pd.DataFrame, log: bool) -> pd.DataFrame:
    """`lines` with NaN where a logarithmic axis has no place."""
    return lines.assign(y=lines["y"].where(lines["y"] > 0)) if log else lines


def _up(drawn: pd.DataFrame, fitted: pd.DataFrame | None, points: pd.DataFrame | None, log: bool) -> np.ndarray:
    """What must be visible on the y axis: not all of a term that sinks below everything else."""
    main = [drawn["y"][drawn["part"] == SUM], *(f["y"] for f in (fitted, points) if f is not None)]
    values = np.concatenate([v.to_numpy(float) for v in main])
    values = values[np.isfinite(values)]
    rest = drawn["y"].to_numpy(float)
    rest = rest[np.isfinite(rest)]
    if not log:
        return np.concatenate([values, rest, [0.0]])
    positive = values[values > 0]
    if not positive.size:
        return rest[rest > 0]
    return np.concatenate([positive, rest[(rest > positive.max() / 10**_DEPTH) & (rest < 10 * positive.max())]])


def _y_title(stage: Scene, target: str) -> str:
    if stage.points is not None or stage.law.trend == "falls":
        return axis_title(target)
    return f"Value of the law ({stage.law.title})"


def _look(labels: list[str], fitted: bool) -> dict[str, Any]:
    names = [SUM, *([FIT] if fitted else []), *labels[1:]]
    colours = {SUM: INK, FIT: ACCENT}
    dashes = {SUM: [1, 0], FIT: [10, 3]}
    palette = [c for c in CATEGORIES if c != "#000000"]
    for i, label in enumerate(labels[1:]):
        colours[label], dashes[label] = palette[i % len(palette)], _DASHES[i % len(_DASHES)]
    legend = alt.Legend(title=None, symbolType="stroke", symbolSize=500, symbolStrokeWidth=2.5, labelLimit=260)
    legend = legend if len(names) > 1 else None
    return {
        "color": alt.Color(
            "part:N", scale=alt.Scale(domain=names, range=[colours[n] for n in names]), legend=legend, sort=None
        ),
        "strokeDash": alt.StrokeDash(
            "part:N", scale=alt.Scale(domain=names, range=[dashes[n] for n in names]), legend=legend, sort=None
        ),
    }


def _line(frame: pd.DataFrame, name: str, axes: tuple, look: dict[str, Any], width: float) -> alt.Chart:
    base = alt.Chart(embed(frame), name=name).mark_line(strokeWidth=width, clip=True)
    return base.encode(*axes, **look, tooltip=[alt.Tooltip("part:N", title="Line"), alt.Tooltip("y:Q", format=".4g")])


def _points(points: pd.DataFrame, axes: tuple) -> alt.Chart:
    near = "datum.near == 'yes'"
    base = alt.Chart(embed(points), name="runs").mark_point(size=40, strokeWidth=1.2, clip=True)
    return base.encode(
        *axes,
        fill=alt.condition(near, alt.value(CATEGORIES[0]), alt.value("transparent")),
        stroke=alt.condition(near, alt.value(CATEGORIES[0]), alt.value(GREY)),
        opacity=alt.condition(near, alt.value(0.9), alt.value(0.45)),
        tooltip=[alt.Tooltip("run:N", title="Run"), alt.Tooltip("y:Q", title="Measured", format=".4g")],
    )


def _title(
    stage: Scene, target: str, drawn: pd.DataFrame, points: pd.DataFrame | None, fit: Fit | None, log: bool
) -> alt.Title:
    said = []
    at = ", ".join(f"{s} = {human(v)}" for s, v in stage.held.items())
    if at:
        said.append(f"curve at {at}")
    if points is not None:
        n, out = len(stage.points), len(stage.points.left_out)
        said.append(f"{n} run{'s' if n != 1 else ''}" + (f", {out} left out" if out else ""))
        if at:
            said.append(f"{int(stage.near().sum())} filled: within {NEAR - 1:.0%} of {at}")
        if n > MOST_ROWS:
            said.append(f"{MOST_ROWS} drawn, lowest and highest kept")
    if fit is not None:
        said.append(f"fit: {fit.n_runs} runs, {fit.problem.objective.name}")
    sunk = drawn[drawn["part"] != SUM].groupby("part", sort=False)["y"].max()
    sunk = [label for label, top in sunk.items() if log and not top > 0]
    if sunk:
        verb = "is" if len(sunk) == 1 else "are"
        said.append(f"{', '.join(sunk)} {verb} not positive and not on a logarithmic axis")
    column = stage.column(stage.x)
    against = spoken(column) if column else stage.x
    of = spoken(target) if stage.points is not None or stage.law.trend == "falls" else "value"
    return title(f"{stage.law.title}: {of} against {against}, term by term", *said)


def input_name(stage: Scene, symbol: str) -> str:
    """What an input is called in a control."""
    column = stage.column(symbol)
    return f"{quantity(column).meaning} {symbol}" if column else symbol
