"""`rolling_origin`: fit on everything up to a scale, forecast what is larger, move up, repeat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from workbench.analysis.outcome import Outcome, percent, rounded, strict
from workbench.engine.solver import solve
from workbench.fits.compare import check_per_law, for_law
from workbench.fits.fit import Fit, fit
from workbench.fits.intervals import resample
from workbench.late import late
from workbench.laws.base import Law, get
from workbench.runs.load import load
from workbench.units import SCALES

__all__ = ["BINS", "RollingOrigin", "rolling_origin"]

#: Upper ends of the ranges of extrapolation in `RollingOrigin.summary`.
BINS = (2.0, 5.0, 20.0, 100.0, np.inf)
#: Starts drawn in every window, and the best of them that are walked besides the optimum on all runs.
_STARTS, _CHALLENGERS = 128, 6


@dataclass(frozen=True, repr=False)
class RollingOrigin(Outcome):
    """Forecasts of larger runs from smaller ones, made again and again.

    Attributes:
        frame: one row a forecast: ``law``, ``title``, ``edge`` (largest fitted scale), ``n_fitted``, ``run``,
            ``scale``, ``extrapolation`` = scale / edge, ``measured``, ``prediction``, ``low``, ``high``,
            ``error`` = prediction / measured - 1, ``inside``.
        summary: one row a law and range of extrapolation: ``law``, ``title``, ``range``, ``forecasts``,
            ``error`` (root mean square), ``bias`` (mean), ``coverage`` of the interval.
        failed: law -> why it could not be fitted.
        along: column of the scale.
        edges: largest fitted scale of each window.
        target: the forecast column.
        level: nominal coverage.
        n: bootstrap resamples of each window.
    """

    frame: pd.DataFrame
    summary: pd.DataFrame
    failed: dict[str, str]
    along: str
    edges: tuple[float, ...]
    target: str
    level: float
    n: int

    plot = late("workbench.figures.rolling:rolling", "Error of every forecast against how far it extrapolates.")

    @property
    def best(self) -> str:
        """Law with the smallest root mean square error over all forecasts."""
        size = self.frame.assign(square=self.frame["error"] ** 2).groupby("law", sort=False)["square"].mean()
        return str(size.idxmin())

    @property
    def verdict(self) -> str:
        """One sentence: the best law, its error and bias at the farthest reach, and whether its intervals hold."""
        rows = self.summary[self.summary["law"] == self.best]
        far = rows.iloc[-1]
        near = "" if len(rows) < 2 else f", against {percent(rows.iloc[0]['error'])} at {rows.iloc[0]['range']}"
        count = self.frame["law"].nunique()
        lead = f"{far['title']} forecasts best of {count} laws" if count > 1 else far["title"]
        inside = percent(far["coverage"])
        return (
            f"{lead}: {far['range']} beyond the fitted runs it is off by {percent(far['error'])} (bias "
            f"{_signed(far['bias'])}){near}, and {inside} of runs lie inside the {self.level:.0%} interval."
        )

    def table(self, digits: int = 2) -> pd.DataFrame:
        """`summary` for reading."""
        s = self.summary
        out = pd.DataFrame({"law": s["title"], "extrapolation": s["range"], "forecasts": s["forecasts"]})
        out["error"] = [percent(v, digits) for v in s["error"]]
        out["bias"] = [_signed(v, digits) for v in s["bias"]]
        out[f"inside {self.level:.0%}"] = [percent(v, digits) for v in s["coverage"]]
        return out

    def to_dict(self) -> dict:
        """The answer as strict JSON types."""
        return strict(
            {
                "along": self.along,
                "target": self.target,
                "edges": self.edges,
                "level": self.level,
                "n": self.n,
                "best": self.best,
                "verdict": self.verdict,
                "summary": self.summary,
                "forecasts": self.frame,
                "failed": self.failed,
            }
        )


def rolling_origin(
    runs: Any,
    laws: str | Law | Sequence[str | Law] = ("chinchilla", "power_constant"),
    *,
    along: str | None = None,
    windows: int = 10,
    ahead: int | None = None,
    smallest: int | None = None,
    x: str | None = None,
    fixed: Mapping[str, Any] | None = None,
    level: float = 0.95,
    n: int = 200,
    seed: int = 0,
    **options: Any,
) -> RollingOrigin:
    """Judge laws by what they would have forecast at every stage of a study.

    Each window holds the runs up to one scale; the law is fitted to them alone and forecasts the larger runs
    (evaluation on a rolling origin: Tashman 2000, doi 10.1016/S0169-2070(00)00065-0). Forecasts of one window
    share their fit, and one run is forecast by several windows, so neighbouring errors are not independent.

    Args:
        runs: a table of runs, or anything `workbench.load` takes.
        laws: a law or several.
        along: column of scale that the windows grow along; default the first of flops, tokens, params, steps
            that varies.
        windows: how many; edges are chosen evenly among the distinct scales where there are more.
        ahead: forecast only the next so many distinct scales; default all larger ones.
        smallest: fewest runs in a window; default two more than a law has free parameters, and at least 5.
        x: column for laws of one input; default `along`.
        fixed: parameters held, ``{"E": 1.7}`` for every law that has them, or by law ``{"power_constant": {...}}``.
        level: nominal coverage of the interval of one run.
        n: bootstrap resamples of each window.
        seed: seed of starts, bootstrap and noise.
        options: further arguments of `workbench.fit` (`y`, `where`, `objective`, `cluster`, ...).

    Returns:
        A `RollingOrigin`.

    Raises:
        ValueError: no scale varies, no window leaves something to forecast, or no law could be fitted.
    """
    laws = [laws] if isinstance(laws, str | Law) else list(laws)
    chosen = [get(law) for law in laws]
    if not chosen or len({law.name for law in chosen}) < len(chosen):
        raise ValueError("give at least one law, and each once; `workbench laws` lists the names")
    for name, value in (("windows", windows), ("n", n), ("ahead", ahead or 1), ("smallest", smallest or 1)):
        if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} is {value!r}; it must be a whole number of at least 1")
    if not (isinstance(level, int | float) and 0 < level < 1):
        raise ValueError(f"level is {level!r}; a nominal coverage lies between 0 and 1, such as 0.95")
    check_per_law(fixed, chosen, "fixed")
    table = load(runs)
    if along is None:
        along = next((c for c in SCALES if c in table and table.frame[c].nunique() > 1), None)
        if along is None:
            raise ValueError(f"none of {', '.join(SCALES)} varies, so no run is larger; name a column with along=")
    if along not in table or not pd.api.types.is_numeric_dtype(table.frame[along]):
        raise ValueError(f"there is no numeric column {along!r}; this table has {', '.join(table.units)}")
    parts, failed, edges, target = [], {}, set(), options.get("y", "loss")
    for law in chosen:
        try:
            held = for_law(law, fixed, law.symbols)
            own = {"x": x or along} if len(law.inputs) == 1 else {}
            everything = fit(table, law, fixed=held, seed=seed, **own, **options)
            rows = _forecasts(everything, along, windows, ahead, smallest, level, n)
        except ValueError as reason:
            failed[law.name] = str(reason)
            continue
        parts.append(rows)
        edges |= set(rows["edge"])
    if not parts:
        raise ValueError("no law could be judged: " + "; ".join(f"{k}: {v}" for k, v in failed.items()))
    frame = pd.concat(parts, ignore_index=True)
    return RollingOrigin(frame, _summary(frame), failed, along, tuple(sorted(edges)), target, float(level), n)


def _forecasts(
    whole: Fit, along: str, windows: int, ahead: int | None, smallest: int | None, level: float, n: int
) -> pd.DataFrame:
    """Every forecast of one law: all windows, and all their resamples, walk in one batch each."""
    problem, points, law = whole.problem, whole.points, whole.law
    scale = points.frame[along].to_numpy(float)
    if not np.isfinite(scale).all() or not (scale > 0).all():
        raise ValueError(f"{along} is missing or not positive in some of the runs; choose them with where=")
    distinct = _distinct(scale)
    free = len(problem.free)
    fewest = max(free + 2, 5) if smallest is None else max(smallest, free + 1)
    able = [d for d in distinct[:-1] if (scale <= d).sum() >= fewest]
    if not able:
        raise ValueError(
            f"a window needs {fewest} runs and something larger to forecast; {len(scale)} runs at {len(distinct)} "
            f"scales of {along} leave none"
        )
    edges = np.array(able)[np.unique(np.round(np.linspace(0, len(able) - 1, min(windows, len(able)))).astype(int))]
    masks = scale[None, :] <= edges[:, None]
    weights = masks * points.weights
    rng = np.random.default_rng([whole.seed, 41])
    theta = _optima(whole, weights, rng)
    drawn = _resampled(whole, theta, masks, n, rng)
    tail, rows = 50 * (1 - level), []
    for w, edge in enumerate(edges):
        larger = distinct[distinct > edge]
        last = larger[min(ahead or len(larger), len(larger)) - 1]
        out = (scale > edge) & (scale <= last)
        x = {s: v[out] for s, v in points.x.items()}
        measured, said = points.y[out], law.predict(theta[w], x)
        residuals = problem.residuals(theta[w][None])[0][masks[w]] * np.sqrt(masks[w].sum() / (masks[w].sum() - free))
        spread = law.predict(drawn[w], x)
        noise = rng.choice(residuals, size=spread.shape, p=weights[w][masks[w]] / weights[w].sum())
        spread = spread * np.exp(-noise) if problem.objective.in_logs else spread - noise
        low, high = np.nanpercentile(spread, [tail, 100 - tail], axis=0)
        rows.append(
            pd.DataFrame(
                {
                    "law": law.name,
                    "title": law.title,
                    "edge": edge,
                    "n_fitted": int(masks[w].sum()),
                    "run": points.frame["run"].to_numpy()[out],
                    "scale": scale[out],
                    "extrapolation": scale[out] / edge,
                    "measured": measured,
                    "prediction": said,
                    "low": low,
                    "high": high,
                    "error": said / measured - 1,
                    "inside": (measured >= low) & (measured <= high),
                }
            )
        )
    return pd.concat(rows, ignore_index=True)


def _distinct(scale: np.ndarray) -> np.ndarray:
    """Distinct scales, ascending; values within a billionth are one, each standing for its largest."""
    values = np.unique(scale)
    return values[np.append(np.diff(values) > 1e-9 * values[1:], True)]


def _optima(whole: Fit, weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Best parameters ``[W, P]`` under each row of weights ``[W, m]``.

    Every window walks from its own best starts, drawn for the runs it holds, and from the optimum on all
    runs, which is a start and nothing more: the larger runs have weight 0.
    """
    problem, size = whole.problem, len(weights)
    starts = np.repeat(whole.theta[None, None], size, axis=0)
    best = []
    for w in weights:
        mine = w > 0
        x = {s: v[mine] for s, v in problem.x.items()}
        drawn = problem.complete(problem.law.guess(x, problem.y[mine], _STARTS, rng))
        order = np.argsort(problem.values(drawn, np.broadcast_to(w, (_STARTS, w.size))), kind="stable")
        best.append(drawn[order[:_CHALLENGERS]])
    starts = np.concatenate([starts, np.stack(best)], axis=1)
    each = starts.shape[1]
    solution = solve(problem, starts.reshape(size * each, -1), np.repeat(weights, each, axis=0))
    found = np.argmin(solution.value.reshape(size, each), axis=1)
    return solution.theta.reshape(size, each, -1)[np.arange(size), found]


def _resampled(whole: Fit, theta: np.ndarray, masks: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Bootstrap draws ``[W, n, P]``, each window resampling the clusters it holds."""
    weights = np.zeros((len(masks), n, masks.shape[1]))
    for w, mask in enumerate(masks):
        cluster = np.unique(whole.points.cluster[mask], return_inverse=True)[1]
        weights[w][:, mask] = resample(cluster, whole.points.weights[mask], n, rng)
    starts = np.repeat(theta, n, axis=0)
    solution = solve(whole.problem, starts, weights.reshape(len(starts), -1), warm=True, tolerance=1e-9)
    return solution.theta.reshape(len(masks), n, -1)


def _summary(frame: pd.DataFrame) -> pd.DataFrame:
    edges = np.array([1.0, *BINS])
    which = np.clip(np.searchsorted(edges, frame["extrapolation"], side="left") - 1, 0, len(BINS) - 1)
    rows = []
    for (law, name), part in frame.groupby(["law", "title"], sort=False):
        for k in range(len(BINS)):
            own = part[which[part.index] == k]
            if not len(own):
                continue
            words = f"over {edges[k]:g}×" if np.isinf(BINS[k]) else f"{edges[k]:g} to {BINS[k]:g}×"
            size = float(np.sqrt((own["error"] ** 2).mean()))
            row = (law, name, words, len(own), size, float(own["error"].mean()), float(own["inside"].mean()))
            rows.append(row)
    return pd.DataFrame(rows, columns=["law", "title", "range", "forecasts", "error", "bias", "coverage"])


def _signed(share: float, digits: int = 2) -> str:
    return "—" if not np.isfinite(share) else f"{'+' if share > 0 else ''}{rounded(100 * share, digits)} %"
