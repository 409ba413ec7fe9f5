"""Approach 2: the best size at each compute budget, from runs of several sizes at the same compute."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm
from scipy.stats import t as student

from workbench.analysis.budgets import gather, grouped, mark_spikes
from workbench.analysis.slices import METHODS, MINIMUM_SIZES, Design, Slices, solve
from workbench.analysis.trend import Trend, trend
from workbench.late import late
from workbench.units import human

__all__ = ["IsoFLOP", "isoflop"]

#: A minimum that more than this share of the resamples lose is not resolved.
LOST = 0.05


@dataclass(frozen=True, repr=False)
class IsoFLOP:
    """IsoFLOP curves and their minima.

    Attributes:
        frame: one row a budget: ``flops``, ``n_runs``, ``n_sizes``; ``params``, ``tokens``, ``loss`` at the
            minimum, each with ``_low`` and ``_high``; ``used`` (whether it enters the exponents) and ``note``.
        points: one row a run that entered: ``run``, ``flops``, ``params``, ``tokens``, the metric, ``budget``
            (index into `frame`).
        left_out: run id -> why it did not enter.
        curves: fitted curves: ``budget``, ``params``, ``loss``.
        method: model of the curves.
        grouping: how budgets were found, in words.
        target: column of the metric.
        level: nominal coverage.
        trend: lines through the minima used, None where there are none.
        shared: shared exponents of size and data, and their draws ``[1 + B, 2]``; None for other methods.
    """

    frame: pd.DataFrame
    points: pd.DataFrame
    left_out: dict[str, str]
    curves: pd.DataFrame
    method: str
    grouping: str
    target: str
    level: float
    trend: Trend | None
    shared: np.ndarray | None = field(default=None)

    plot = late("workbench.figures.isoflop:isoflop", "Loss against size at each budget, with the minima.")

    @property
    def title(self) -> str:
        """Name of the approach."""
        return f"Approach 2, isoFLOP ({self.method})"

    @property
    def flagged(self) -> pd.DataFrame:
        """The budgets that do not enter the exponents, with the reason."""
        return self.frame.loc[~self.frame["used"], ["flops", "n_runs", "n_sizes", "note"]]

    def exponents(self) -> pd.DataFrame:
        """``params`` (a) and ``tokens`` (b) of the optimum against compute; see `Frontier.exponents`."""
        from workbench.analysis.frontier import trend_exponents

        return trend_exponents(self.trend, self.level)

    def frontier(self, flops: Any = None, **options: Any):
        """Optimal size and data at budgets `flops`, by the line through the minima; see `frontier.frontier`."""
        from workbench.analysis.frontier import frontier

        return frontier(self, self.frame["flops"].to_numpy() if flops is None else flops, **options)

    def table(self, digits: int = 3) -> pd.DataFrame:
        """One row a budget, in people's numbers."""
        out = pd.DataFrame({"flops": [f"{v:.3g}" for v in self.frame["flops"]]})
        out["runs"], out["sizes"] = self.frame["n_runs"], self.frame["n_sizes"]
        for name in ("params", "tokens", "loss"):
            low, high = (self.frame[f"{name}_{end}"] for end in ("low", "high"))
            out[name if name != "loss" else self.target] = [
                "—" if not np.isfinite(v) else f"{human(v, digits)} ({human(a, digits)}–{human(b, digits)})"
                for v, a, b in zip(self.frame[name], low, high, strict=True)
            ]
        return out.assign(note=self.frame["note"])

    def __repr__(self) -> str:
        used = int(self.frame["used"].sum())
        found = self.exponents().loc["params"]
        slope = f"N_opt ~ C^{found['exponent']:.3g} ({found['low']:.3g} to {found['high']:.3g})"
        return (
            f"{self.title}: {len(self.points)} runs in {len(self.frame)} budgets ({self.grouping}), {used} used, "
            f"{len(self.left_out)} runs left out; {slope if np.isfinite(found['exponent']) else found['note']}"
        )

    def _repr_html_(self) -> str:
        table = self.table().to_html(index=False, escape=True, border=0)
        return f"<figure><figcaption>{escape(repr(self))}</figcaption>{table}</figure>"


def isoflop(
    runs: Any,
    *,
    y: str = "loss",
    params: str = "params",
    tokens: str = "tokens",
    flops: str = "flops",
    budget: str | None = None,
    budgets: Any = None,
    tolerance: float | None = None,
    where: str | None = None,
    method: str = "shared",
    level: float = 0.95,
    n: int = 1000,
    seed: int = 0,
) -> IsoFLOP:
    """Minimum of the loss over size at each compute budget (Hoffmann et al. 2022, section 3.2, approach 2).

    The usual parabola in log N is biased where parameters and data have different exponents, since the
    curve is then not symmetric about its minimum. The default ``shared`` fits E_i + A_i N^-alpha + B_i D^-beta
    with floor and prefactors of each budget's own and exponents common to all: two parameters more than the
    parabolas together, exact for an additive law, a parabola in the limit of small exponents, and, since it
    takes each run's own tokens, indifferent to runs that miss their budget by a little. ``cubic`` assumes
    less and is about twice as uncertain.

    Intervals resample residuals (scaled up for the fit's leverage, relative to the loss) over the runs of
    all budgets, keeping every budget's sizes as they are: drawing the six runs of a budget with
    replacement would leave about four sizes. `trend.trend` then treats budgets as clusters.

    Args:
        runs: a `RunTable`, or anything `workbench.load` takes.
        y: column to minimise.
        params, tokens, flops: the columns; compute that is missing is counted as 6ND, tokens as C/6N.
        budget: column whose equal values are one budget; its compute is the mean of its runs'.
        budgets: budgets in FLOP; each run goes to the nearest within `tolerance`. Default: runs are grouped
            by compute so that no group spans more than (1 + tolerance)^2.
        tolerance: largest relative distance of a run from its budget, default 0.1. Where that leaves most
            runs in groups of too few sizes, as in a grid of sizes and lengths, and the method is
            ``shared``, which does not need equal compute, bands of a factor of two are taken instead.
        where: only runs that satisfy this expression.
        method: ``shared``, ``cubic`` or ``parabola``.
        level: nominal coverage.
        n: bootstrap resamples.
        seed: seed of the resampling.

    Returns:
        An `IsoFLOP`. A budget is flagged, and left out of the exponents, if it has too few sizes, its curve
        opens downwards, its minimum is not between the smallest and the largest size, or more than five
        percent of the resamples have none there.

    Raises:
        ValueError: a column is missing, an argument is not allowed, or no budget has enough sizes.
    """
    if method not in METHODS:
        raise ValueError(f"no isoFLOP model is called {method!r}; choose one of {', '.join(METHODS)}")
    if not (isinstance(level, int | float) and 0 < level < 1):
        raise ValueError(f"level is {level!r}; a nominal coverage lies between 0 and 1, such as 0.95")
    if not isinstance(n, int | np.integer) or isinstance(n, bool) or n < 1:
        raise ValueError(f"n is {n!r}; the number of bootstrap resamples must be a whole number of at least 1")
    if tolerance is not None and not (isinstance(tolerance, int | float) and 0 < tolerance < 10):
        raise ValueError(f"tolerance is {tolerance!r}; give a relative distance such as 0.1 for ten percent")
    points, left_out = gather(runs, y, params, tokens, flops, where, keep=(budget,) if budget else ())
    points, grouping = grouped(points, left_out, budget, budgets, tolerance, method)
    mark_spikes(points, left_out)
    points = points[~points["run"].isin(left_out)].reset_index(drop=True)
    frame = _budgets(points, budget, budgets)
    enough = frame["n_sizes"] >= MINIMUM_SIZES[method]
    points = points.assign(budget=points["group"].map(dict(zip(frame.pop("group"), frame.index, strict=True))))
    points = points.drop(columns="group").sort_values(["budget", "params"], kind="stable").reset_index(drop=True)
    if not enough.any():
        raise ValueError(
            f"{len(points)} runs fall into {len(frame)} budgets ({grouping}), none with {MINIMUM_SIZES[method]} sizes, "
            f"which method={method!r} needs (the largest has {frame['n_sizes'].max()}): raise tolerance=, give "
            "budgets=, or use the envelope or a law of parameters and tokens"
        )
    return _analyse(frame, points, enough.to_numpy(), left_out, method, grouping, y, level, n, seed)


def _budgets(points: pd.DataFrame, budget: str | None, budgets: Any) -> pd.DataFrame:
    rows = []
    wanted = None if budgets is None else np.unique(np.atleast_1d(np.asarray(budgets, dtype=float)))
    for group, part in points.groupby("group"):
        compute = np.exp(np.log(part["flops"]).mean()) if budget or wanted is None else wanted[group]
        rows.append((group, float(compute), len(part), part["params"].nunique()))
    frame = pd.DataFrame(rows, columns=["group", "flops", "n_runs", "n_sizes"])
    return frame.sort_values("flops", ignore_index=True)


def _analyse(frame, points, enough, left_out, method, grouping, y, level, n, seed) -> IsoFLOP:
    entering = points[enough[points["budget"].to_numpy()]].reset_index(drop=True)
    index = np.flatnonzero(enough)
    design = _design(entering, frame["flops"].to_numpy()[index])
    loss = entering["loss"].to_numpy()
    degrees = (
        loss.size - design.slope.size * {"shared": 3, "parabola": 3, "cubic": 4}[method] - 2 * (method == "shared")
    )
    if degrees < 1:
        raise ValueError(
            f"method='shared' has {loss.size - degrees} parameters for {loss.size} runs in {index.size} budgets; "
            "take method='parabola', or add runs"
        )
    first = solve(method, design, loss[None])
    draws = _resampled(method, design, first, loss, n, seed)
    stretch = student.ppf(0.5 + level / 2, degrees) / norm.ppf(0.5 + level / 2)
    size = np.concatenate([first.size, draws.size])
    data = design.offset - design.slope * size
    low, high = (np.minimum.reduceat(design.size, design.starts), np.maximum.reduceat(design.size, design.starts))
    inside = (size > low) & (size < high)
    lost = 1 - inside[1:].mean(axis=0)
    out = frame.assign(**{f"{c}{end}": np.nan for c in ("params", "tokens", "loss") for end in ("", "_low", "_high")})
    notes = [f"{k} sizes; {method} needs {MINIMUM_SIZES[method]}" for k in frame["n_sizes"]]
    used = np.zeros(len(frame), dtype=bool)
    tails = [50 * (1 - level), 50 * (1 + level)]
    for i, row in enumerate(index):
        notes[row] = _note(first, design, i, inside, low, high, lost[i])
        used[row] = not notes[row]
        if not np.isfinite(size[0, i]):
            continue
        lowest = np.r_[first.loss[0, i], draws.loss[:, i]]
        for name, v, back in (("params", size[:, i], np.exp), ("tokens", data[:, i], np.exp), ("loss", lowest, float)):
            ends = np.nanpercentile(v[1:], tails) if np.isfinite(v[1:]).any() else (np.nan, np.nan)
            out.loc[row, name] = back(v[0])
            for end, value in zip(("low", "high"), ends, strict=True):
                out.loc[row, f"{name}_{end}"] = back(v[0] + stretch * (value - v[0]))
    out["used"], out["note"] = used, notes
    chosen = used[index]
    line = None
    if chosen.any():
        losses = np.concatenate([first.loss, draws.loss])[:, chosen]
        line = trend(out["flops"].to_numpy()[used], size[:, chosen], data[:, chosen], losses, degrees, seed, level)
    shared = np.concatenate([first.exponents, draws.exponents]) if method == "shared" else None
    points = points.rename(columns={"loss": y} if y != "loss" else {})
    return IsoFLOP(out, points, left_out, _drawn(first, design, index), method, grouping, y, level, line, shared)


def _design(points: pd.DataFrame, flops: np.ndarray) -> Design:
    """Where the runs lie, and log D = offset - slope log N along each budget as its own runs count compute."""
    group = np.unique(points["budget"], return_inverse=True)[1]
    size, data, compute = (np.log(points[c].to_numpy()) for c in ("params", "tokens", "flops"))
    each = compute - data  # FLOP per token, a function of size alone
    slope, offset = np.empty(flops.size), np.empty(flops.size)
    for i in range(flops.size):
        rows = group == i
        slope[i] = np.polyfit(size[rows] - size[rows].mean(), each[rows], 1)[0]
        offset[i] = np.log(flops[i]) - each[rows].mean() + slope[i] * size[rows].mean()
    return Design(group, size, data, np.maximum(slope, 0.05), offset)


def _resampled(method: str, design: Design, first: Slices, loss: np.ndarray, n: int, seed: int) -> Slices:
    fitted = first.fitted[0]
    residual = (loss - fitted) / np.sqrt(np.maximum(1 - first.leverage, 0.05)) / fitted
    drawn = np.random.default_rng(seed).choice(residual - residual.mean(), size=(n, loss.size))
    start = first.exponents[0] if method == "shared" else None
    return solve(method, design, fitted * (1 + drawn), start)


def _note(first: Slices, design: Design, i: int, inside, low, high, lost: float) -> str:
    if not np.isfinite(first.size[0, i]):
        return "the curve has no minimum: it opens downwards or only falls or rises"
    if not inside[0, i]:
        side = "below the smallest" if first.size[0, i] <= low[i] else "above the largest"
        return f"the minimum lies {side} size"
    if lost > LOST:
        return f"{lost:.0%} of the resamples have no minimum between the smallest and the largest size"
    return ""


def _drawn(first: Slices, design: Design, index: np.ndarray, count: int = 40) -> pd.DataFrame:
    parts = []
    for i, row in enumerate(index):
        sizes = design.size[design.group == i]
        grid = np.linspace(sizes.min(), sizes.max(), count)
        parts.append(pd.DataFrame({"budget": row, "params": np.exp(grid), "loss": first.curve(design, i, grid)}))
    return pd.concat(parts, ignore_index=True)
