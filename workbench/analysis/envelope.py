"""Approach 1: the lower envelope of loss curves over compute, and which size lies on it."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from workbench.analysis.budgets import gather
from workbench.analysis.trend import Trend, floored_power, line
from workbench.late import late
from workbench.runs.load import load
from workbench.runs.table import RunTable
from workbench.units import human

__all__ = ["POINTS", "Envelope", "envelope"]

#: What the curves are made of: checkpoints within runs, or the last points of runs of several lengths.
POINTS = ("auto", "curves", "final")
_UNFINISHED = (
    "checkpoints before the end of a learning-rate schedule have not had its decay, so their losses are above "
    "those of runs planned to end there"
)


@dataclass(frozen=True, repr=False)
class Envelope:
    """The lower envelope of loss over compute.

    Attributes:
        frame: one row a compute level: ``flops``, ``params`` and ``tokens`` and ``run`` of the lowest curve, its
            ``loss``, ``n_sizes`` (sizes whose curves reach the level), ``used`` (whether it enters the
            exponents) and ``note``.
        curves: the interpolated curves: ``curve`` (index), ``run``, ``params``, ``flops``, ``loss``.
        left_out: run id -> why it did not enter.
        points: ``curves`` or ``final``.
        n_runs: runs that entered.
        target: column of the metric.
        level: nominal coverage.
        trend: lines through the levels used, None where there are none.
        notes: what to keep in mind when reading it.
    """

    frame: pd.DataFrame
    curves: pd.DataFrame
    left_out: dict[str, str]
    points: str
    n_runs: int
    target: str
    level: float
    trend: Trend | None
    notes: tuple[str, ...] = ()

    plot = late("workbench.figures.envelope:envelope", "Loss curves over compute with their lower envelope.")

    @property
    def title(self) -> str:
        """Name of the approach."""
        return f"Approach 1, envelope ({'loss curves' if self.points == 'curves' else 'final losses'})"

    @property
    def flagged(self) -> pd.DataFrame:
        """The levels that do not enter the exponents, with the reason."""
        return self.frame.loc[~self.frame["used"], ["flops", "n_sizes", "note"]]

    def exponents(self) -> pd.DataFrame:
        """``params`` (a) and ``tokens`` (b) of the optimum against compute; see `Frontier.exponents`."""
        from workbench.analysis.frontier import trend_exponents

        return trend_exponents(self.trend, self.level, "every level is at an edge of the sizes")

    def frontier(self, flops: Any = None, **options: Any):
        """Optimal size and data at budgets `flops`, by the line through the envelope; see `frontier.frontier`."""
        from workbench.analysis.frontier import frontier

        return frontier(self, self.frame["flops"].to_numpy() if flops is None else flops, **options)

    def table(self, digits: int = 3) -> pd.DataFrame:
        """Stretches of compute on which one size is best: ``flops`` from and to, size, loss at their ends, note."""
        frame = self.frame
        stretch = (frame["params"].ne(frame["params"].shift()) | frame["note"].ne(frame["note"].shift())).cumsum()
        rows = []
        for _, part in frame.groupby(stretch):
            first, last = part.iloc[0], part.iloc[-1]
            rows.append(
                {
                    "flops": f"{first['flops']:.3g} – {last['flops']:.3g}",
                    "params": human(first["params"], digits),
                    "tokens": f"{human(first['tokens'], digits)} – {human(last['tokens'], digits)}",
                    self.target: f"{first['loss']:.4g} – {last['loss']:.4g}",
                    "note": first["note"],
                }
            )
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        found = self.exponents().loc["params"]
        slope = f"N_opt ~ C^{found['exponent']:.3g} ({found['low']:.3g} to {found['high']:.3g})"
        words = [
            f"{self.title}: {self.n_runs} runs, {len(self.frame)} levels of compute, "
            f"{int(self.frame['used'].sum())} used",
            f"{len(self.left_out)} runs left out",
            slope if np.isfinite(found["exponent"]) else found["note"],
            *self.notes,
        ]
        return "; ".join(words)

    def _repr_html_(self) -> str:
        table = self.table().to_html(index=False, escape=True, border=0)
        return f"<figure><figcaption>{escape(repr(self))}</figcaption>{table}</figure>"


def envelope(
    runs: Any,
    *,
    y: str = "loss",
    params: str = "params",
    tokens: str = "tokens",
    flops: str = "flops",
    where: str | None = None,
    points: str = "auto",
    levels: int = 200,
    smooth: int = 1,
    level: float = 0.95,
    n: int = 1000,
    seed: int = 0,
) -> Envelope:
    """The lowest loss at each compute, and the size that reaches it (Hoffmann et al. 2022, section 3.1, approach 1).

    Every curve is interpolated, log loss linearly in log C, to common levels of compute, from its own first
    to its own last point and no further. At each level the lowest curve gives N and D. A level counts only
    if both a smaller and a larger size than the best reach it: elsewhere a size that was not trained might
    have been better. The exponents are least squares on log N and log D over the levels that count;
    the optimum moves in steps from one trained size to the next, so few sizes give rough exponents.

    Intervals resample whole curves with replacement; each resample makes its own envelope and edges.

    Args:
        runs: a `RunTable` with curves or with runs of several lengths, or anything `workbench.load` takes.
        y: column to minimise.
        params, tokens, flops: the columns; missing compute is counted as 6ND.
        where: only runs that satisfy this expression.
        points: ``curves``: the curves that runs logged; ``final``: last losses of the runs of one size (and
            seed), each length one point; ``auto``: final where sizes were trained to at least three
            lengths, else curves.
        levels: number of compute levels, evenly spaced in log C.
        smooth: points of a curve averaged (in log loss) around each, odd; 1 for none.
        level: nominal coverage.
        n: bootstrap resamples.
        seed: seed of the resampling.

    Returns:
        An `Envelope`; its notes warn where checkpoints stand in for finished runs.

    Raises:
        ValueError: a column or the curves are missing, or an argument is not allowed.
    """
    _check(points, levels, smooth, level, n)
    found, left_out = gather(runs, y, params, tokens, flops, where, keep=_seeds(runs))
    curves, chosen = _curves(load(runs), found, left_out, y, points, smooth)
    if not curves:
        raise ValueError(
            f"no curve of {y!r} over compute can be made: points={points!r} needs runs with logged curves, or "
            "runs of one size trained to several lengths"
        )
    low, high = min(c["flops"].iloc[0] for c in curves), max(c["flops"].iloc[-1] for c in curves)
    grid = np.geomspace(low, high, levels)
    loss = np.stack([_interpolated(c, grid) for c in curves])
    size = np.array([c["params"].iloc[0] for c in curves])
    per_token = np.array([np.median(c["flops"] / c["tokens"]) for c in curves])
    best, used, reach = _lowest(loss, size, np.ones((1, len(curves)), dtype=bool))
    frame = _frame(grid, curves, loss, size, per_token, best[0], used[0], reach[0])
    rng = np.random.default_rng(seed)
    # Whether a curve was drawn at all is what its envelope depends on, not how often.
    drawn = rng.integers(len(curves), size=(n, len(curves)))
    present = np.zeros((n, len(curves)), dtype=bool)
    np.put_along_axis(present, drawn, True, axis=1)
    trend = _trend(grid, loss, size, per_token, np.concatenate([np.ones((1, len(curves)), dtype=bool), present]))
    notes = [_UNFINISHED] if chosen == "curves" else []
    if frame["used"].any() and frame.loc[frame["used"], "params"].nunique() < 4:
        notes.append(
            f"only {frame.loc[frame['used'], 'params'].nunique()} sizes lie on the envelope away from its edges"
        )
    shown = pd.concat(
        [c.assign(curve=i)[["curve", "run", "params", "flops", "loss"]] for i, c in enumerate(curves)],
        ignore_index=True,
    )
    ids = {run for c in curves for run in c["run"]}
    return Envelope(frame, shown, left_out, chosen, len(ids), y, level, trend, tuple(notes))


def _check(points: str, levels: Any, smooth: Any, level: Any, n: Any) -> None:
    if points not in POINTS:
        raise ValueError(f"points is {points!r}; choose one of {', '.join(POINTS)}")
    if not (isinstance(level, int | float) and 0 < level < 1):
        raise ValueError(f"level is {level!r}; a nominal coverage lies between 0 and 1, such as 0.95")
    for name, value, least in (("levels", levels, 2), ("smooth", smooth, 1), ("n", n, 1)):
        if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name} is {value!r}; it must be a whole number of at least {least}")
    if smooth % 2 == 0:
        raise ValueError(f"smooth is {smooth}; an odd number of points lies evenly around one")


def _seeds(runs: Any) -> tuple[str, ...]:
    return ("seed",) if "seed" in load(runs).frame else ()


def _curves(table: RunTable, found: pd.DataFrame, left_out, y: str, points: str, smooth: int):
    """Curves over compute as frames ``run, params, tokens, flops, loss`` with rising flops, and of what they are."""
    by = ["params", *(["seed"] if "seed" in found and found["seed"].notna().all() else [])]
    lengths = found.groupby(by)["flops"].nunique()
    logged = [run for run in found["run"] if run in table.curves]
    if points == "auto":
        points = "final" if (lengths >= 3).sum() >= 3 or not logged else "curves"
    if points == "final":
        chains = []
        for _, part in found.groupby(by):
            part = part.sort_values("flops")
            # Runs of one size and length without a seed to tell them apart are averaged.
            mean = part.groupby("flops", as_index=False).agg(
                {"run": "first", "params": "first", "tokens": "mean", "loss": "mean"}
            )
            if len(mean) > 1:
                chains.append(mean)
            else:
                left_out.update(dict.fromkeys(part["run"], "the only length of its size, which makes no curve"))
        return chains, points
    chains = []
    for row in found.to_dict("records"):
        curve = _logged(table, row, y, smooth)
        if isinstance(curve, str):
            left_out[row["run"]] = curve
        else:
            chains.append(curve)
    return chains, points


def _logged(table: RunTable, row: dict, y: str, smooth: int) -> pd.DataFrame | str:
    """The curve one run logged, or why it has none."""
    if row["run"] not in table.curves:
        return "no curve"
    raw = table.curves[row["run"]]
    if y not in raw:
        return f"its curve has no {y}"
    step = raw["step"].to_numpy(float)
    per_token = row["flops"] / row["tokens"]
    if "tokens" in raw:
        tokens = raw["tokens"].to_numpy(float)
    elif "flops" in raw:
        tokens = raw["flops"].to_numpy(float) / per_token
    else:
        tokens = row["tokens"] * step / step[-1] if step.size and step[-1] > 0 else np.full(step.size, np.nan)
    loss = raw[y].to_numpy(float)
    # Compute as the table counts it, so that curves agree with their runs' last points.
    out = pd.DataFrame(
        {"run": row["run"], "params": row["params"], "tokens": tokens, "flops": tokens * per_token, "loss": loss}
    )
    good = np.isfinite(out["flops"]) & (out["flops"] > 0) & np.isfinite(loss) & (loss > 0)
    out = out[good].drop_duplicates("flops").sort_values("flops", ignore_index=True)
    if len(out) < 2:
        return f"its curve has {len(out)} usable points"
    if smooth > 1:
        half = smooth // 2
        logs = np.log(out["loss"].to_numpy())
        # A window that shrinks towards the ends stays centred, so that a falling curve is not bent there.
        widths = np.minimum(np.minimum(np.arange(logs.size), np.arange(logs.size)[::-1]), half)
        out["loss"] = [float(np.exp(logs[i - w : i + w + 1].mean())) for i, w in enumerate(widths)]
    return out


def _interpolated(curve: pd.DataFrame, grid: np.ndarray) -> np.ndarray:
    x, y = np.log(curve["flops"].to_numpy()), np.log(curve["loss"].to_numpy())
    at = np.log(grid)
    inside = (at >= x[0] - 1e-9) & (at <= x[-1] + 1e-9)
    return np.where(inside, np.exp(np.interp(at, x, y)), np.inf)


def _lowest(loss: np.ndarray, size: np.ndarray, present: np.ndarray):
    """Index of the lowest curve ``[B, G]``, whether sizes on both sides reach the level, how many sizes do.

    Args:
        loss: ``[R, G]`` interpolated losses, infinite where a curve does not reach.
        size: ``[R]``.
        present: ``[B, R]`` curves of each resample.
    """
    kinds, index = np.unique(size, return_inverse=True)
    best = np.zeros((len(present), loss.shape[1]), dtype=int)
    used = np.zeros(best.shape, dtype=bool)
    reach = np.zeros(best.shape, dtype=int)
    member = np.eye(kinds.size, dtype=bool)[index]
    reaches = np.isfinite(loss)
    for g in range(loss.shape[1]):
        there = present & reaches[:, g]
        best[:, g] = np.argmin(np.where(there, loss[:, g], np.inf), axis=1)
        covered = there.astype(float) @ member > 0
        mine = index[best[:, g]][:, None]
        order = np.arange(kinds.size)
        used[:, g] = (covered & (order < mine)).any(axis=1) & (covered & (order > mine)).any(axis=1)
        reach[:, g] = covered.sum(axis=1)
    return best, used, reach


def _frame(grid, curves, loss, size, per_token, best, used, reach) -> pd.DataFrame:
    levels = np.arange(grid.size)
    note = np.where(used, "", "the best size is the largest or smallest that reaches this compute")
    note = np.where(reach < 3, "fewer than three sizes reach this compute", note)
    runs = [_nearest_run(curves[b], c) for b, c in zip(best, grid, strict=True)]
    frame = pd.DataFrame(
        {
            "flops": grid,
            "params": size[best],
            "tokens": grid / per_token[best],
            "loss": loss[best, levels],
            "run": runs,
            "n_sizes": reach,
            "used": used & (reach >= 3),
            "note": note,
        }
    )
    return frame[reach > 0].reset_index(drop=True)


def _nearest_run(curve: pd.DataFrame, flops: float) -> str:
    return str(curve["run"].iloc[int(np.abs(np.log(curve["flops"] / flops)).argmin())])


def _trend(grid, loss, size, per_token, present) -> Trend | None:
    best, used, _ = _lowest(loss, size, present)
    if used[0].sum() < 2:
        return None
    levels = np.arange(grid.size)
    centre = float(np.exp(np.log(grid[used[0]]).mean()))
    x = np.log(grid / centre)
    slopes = {name: np.full(len(present), np.nan) for name in ("params", "tokens")}
    middle = {name: np.full(len(present), np.nan) for name in slopes}
    floor = np.full((len(present), 3), np.nan)
    for b in range(len(present)):
        mine = used[b]
        if mine.sum() < 2:
            continue
        chosen = best[b, mine]
        log_n = np.log(size[chosen])
        log_d = np.log(grid[mine] / per_token[chosen])
        for name, value in (("params", log_n), ("tokens", log_d)):
            middle[name][b], slopes[name][b] = line(x[mine], value)
        # A dozen levels say as much about a smooth curve as all of them.
        some = np.flatnonzero(mine)[:: max(int(mine.sum()) // 12, 1)]
        floor[b] = floored_power(x[some], loss[best[b, some], levels[some]][None])[0]
    return Trend(slopes, middle, floor, centre, float(grid[used[0]].max()))
