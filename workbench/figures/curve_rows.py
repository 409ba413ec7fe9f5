"""The rows that `figures.curve` draws, by layer: numbers only, so that a panel can renew them in milliseconds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from workbench.figures.groups import Groups, group
from workbench.figures.lines import Lines, lines
from workbench.figures.plane import fitted, left_out, unseen
from workbench.figures.style import CATEGORIES
from workbench.figures.tooltip import with_words
from workbench.fits.intervals import interval_of
from workbench.fits.result import RESAMPLES, Fit
from workbench.runs.table import RunTable
from workbench.units import axis_title, human

__all__ = ["CurveRows", "curve_rows"]

_GRID = 48  # points along each fitted line: smooth at figure width, small in the notebook
_SAME = np.log(1.2)  # unseen runs this near a line's value of `by` belong to the line


@dataclass(frozen=True)
class CurveRows:
    """What is drawn of one fit.

    Attributes:
        layout: what runs along the axis, what is constant along a line.
        line: one fitted line a group: ``group``, ``x``, ``y``, ``low``, ``high`` (NaN without a band).
        runs, left, fresh: runs fitted, left out, and not seen; see `figures.plane`.
        groups: colours and shapes of the fitted runs.
        along: groups of the lines.
        heading: title of the legend.
        floor: the irreducible value, None where it is not drawn.
        marked: ids of runs to ring; None for no such layer.
        symbol: the parameter that `floor` is.
        inputs: the law's inputs along `line`, by symbol.
        level: nominal coverage of the band; None for none.
    """

    layout: Lines
    line: pd.DataFrame
    runs: pd.DataFrame
    left: pd.DataFrame
    fresh: pd.DataFrame
    groups: Groups
    along: Groups
    heading: str | None
    floor: float | None
    marked: Sequence[str] | None
    symbol: str | None
    inputs: dict[str, np.ndarray]
    level: float | None

    @property
    def has_band(self) -> bool:
        """Whether the line has an interval."""
        return bool(self.line["low"].notna().any())

    def layers(self) -> dict[str, pd.DataFrame]:
        """Rows by name of the layer; the layers there are."""
        out = {"line": self.line[["group", "x", "y"]]}
        if self.has_band:
            out["band"] = self.line
        if self.floor is not None:
            out["floor"] = pd.DataFrame({"y": [self.floor], "label": [f"{self.symbol} = {human(self.floor, 4)}"]})
        out["runs"] = with_words(self.runs, self.layout)
        if len(self.left):
            out["left_out"] = with_words(self.left, self.layout)
        if len(self.fresh):
            out["held_out"] = with_words(self.fresh, self.layout)
        if self.marked is not None:
            everything = pd.concat([f[["run", "x", "y"]] for f in (self.runs, self.left, self.fresh)])
            out["marked"] = everything[everything["run"].isin(set(self.marked))]
        return out

    def moved(self, fit: Fit) -> dict[str, list[dict]]:
        """The lines, band and floor of another fit to the same runs, at the places where they are drawn here.

        Takes a few milliseconds: the band is propagated through the Jacobian, and no run is looked at.

        Args:
            fit: same law and runs, other settings.
        """
        logs = fit.problem.objective.in_logs

        def of(theta: np.ndarray) -> np.ndarray:
            value = fit.law.predict(theta, self.inputs)
            return np.log(value) if logs else value

        numbers = {"x": self.line["x"].to_numpy(), "y": fit.law.predict(fit.theta, self.inputs)}
        out = {"line": _records(self.line["group"], numbers)}
        if self.has_band and fit.degrees >= 1:
            ends = interval_of(fit, of, self.level or 0.95, "jacobian", RESAMPLES)
            numbers |= {name: np.exp(end) if logs else end for name, end in zip(("low", "high"), ends, strict=True)}
            out["band"] = _records(self.line["group"], numbers)
        floor = _floor(fit, float(self.runs["y"].min()))
        if floor is not None:
            out["floor"] = [{"y": float(f"{floor:.6g}"), "label": f"{self.symbol} = {human(floor, 4)}"}]
        return out


def _records(group: pd.Series, numbers: dict[str, np.ndarray]) -> list[dict]:
    columns = [
        [float(f"{v:.6g}") if math.isfinite(v) else None for v in values.tolist()] for values in numbers.values()
    ]
    names = ("group", *numbers)
    return [dict(zip(names, row, strict=True)) for row in zip(group, *columns, strict=True)]


def curve_rows(
    fit: Fit,
    *,
    x: str | None = None,
    color: str | None = None,
    level: float | None = 0.95,
    extend: float | None = None,
    extra: RunTable | pd.DataFrame | None = None,
    marked: Sequence[str] | None = None,
    n: int = RESAMPLES,
    method: str = "recommended",
) -> CurveRows:
    """The rows of `figures.curve`, which documents the arguments.

    Args:
        level: nominal coverage of the band; None for no band.
        method: of the band and the intervals of unseen runs, see `Fit.predict`; ``jacobian`` takes milliseconds.

    Raises:
        ValueError: as `figures.curve`.
    """
    layout = lines(fit, x)
    runs, left, fresh = fitted(fit, layout), left_out(fit, layout), unseen(fit, layout, extra, level or 0.95, n, method)
    left = left[~left["run"].isin(fresh["run"])]  # held out by hand: drawn once
    groups, heading = _grouping(fit, layout, runs, color)
    along = groups if color in (None, layout.by) or layout.by is None else group(runs["by"])
    line, inputs = _curves(fit, layout, along, runs, fresh, extend, level, n, method)
    runs["group"] = groups.of
    floor = _floor(fit, runs["y"].min())
    return CurveRows(
        layout, line, runs, left, fresh, groups, along, heading, floor, marked, fit.law.floor, inputs, level
    )


def _grouping(fit: Fit, layout: Lines, runs: pd.DataFrame, color: str | None) -> tuple[Groups, str | None]:
    color = color or layout.by
    if color is None:
        return Groups(np.full(len(runs), "runs"), ["runs"], [CATEGORIES[0]], {"runs": 1.0}, False), None
    if color == layout.by:
        return group(runs["by"]), axis_title(color)
    if color not in fit.points.frame:
        raise ValueError(
            f"there is no column {color!r} to colour by; this table has {', '.join(fit.points.frame.columns)}"
        )
    return group(fit.points.frame[color]), axis_title(color)


def _curves(
    fit: Fit,
    layout: Lines,
    along: Groups,
    runs: pd.DataFrame,
    fresh: pd.DataFrame,
    extend: float | None,
    level: float | None,
    n: int,
    method: str,
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """One fitted line for each label of `along`, over the x of its runs, and the law's inputs along it.

    With a band if `level` is given.
    """
    single = layout.by is None
    parts = []
    for label, value in ({"runs": None} if single else along.centres).items():
        mine = runs["x"] if single else runs["x"][along.of == label]
        near = fresh["x"] if single else fresh["x"][np.abs(np.log(fresh["by"] / value)) < _SAME]
        start, stop = mine.min(), max([mine.max(), *near, *([extend] if extend else [])])
        grid = np.geomspace(min(start, stop / 1.2), stop, _GRID)
        parts.append(pd.DataFrame({"group": label, "x": grid, **_safe(layout.inputs_at(grid, value), fit)}))
    line = pd.concat(parts, ignore_index=True)
    inputs = {s: line[f"input {s}"].to_numpy(float) for s in fit.points.columns}
    out = line[["group", "x"]].assign(y=fit.law.predict(fit.theta, inputs), low=np.nan, high=np.nan)
    if level is not None and fit.degrees >= 1:
        places = {c: inputs[s] for s, c in fit.points.columns.items()}
        interval = fit.predict(places, level=level, kind="curve", n=n, method=method)
        out["low"], out["high"] = interval["low"], interval["high"]
    return out, inputs


def _safe(inputs: dict[str, np.ndarray], fit: Fit) -> dict[str, np.ndarray]:
    """Inputs under names that cannot collide with x and group."""
    return {f"input {s}": inputs[c] for s, c in fit.points.columns.items()}


def _floor(fit: Fit, lowest: float) -> float | None:
    """The irreducible value, if the law has one, the data determine it and it is near enough to be drawn."""
    symbol = fit.law.floor
    if symbol is None or symbol in fit.diagnostics.unidentified or len(fit.law.symbols) == 1:
        return None
    return fit.params[symbol] if fit.params[symbol] > lowest / 3 > 0 else None
