"""A plan in one figure: the loss that a budget buys, the sizes near the best, and the probes that teach most."""

from __future__ import annotations

from collections.abc import Mapping

import altair as alt
import numpy as np
import pandas as pd

from workbench.analysis.costs import SIX_ND, Cost
from workbench.analysis.frontier import Frontier, frontier
from workbench.analysis.next_runs import NextRuns
from workbench.analysis.planning import along_sizes
from workbench.figures.axes import scaled
from workbench.figures.data import embed, thin_rows
from workbench.figures.style import ACCENT, CATEGORIES, GREY, INK, title
from workbench.fits.result import Fit
from workbench.units import axis_title, human

__all__ = ["planner", "rows_at"]

_WIDTH, _HEIGHT = 292, 230
#: Budgets that the line of the best loss is drawn through, and sizes along one budget.
_POINTS, _SIZES = 21, 61


def planner(
    fit: Fit,
    flops: float,
    *,
    cost: Cost = SIX_ND,
    held: Mapping[str, float] | None = None,
    span: tuple[float, float] | None = None,
    probes: NextRuns | None = None,
    level: float = 0.95,
    n: int = 1000,
) -> alt.VConcatChart:
    """Best loss against the budget (left), loss against size at the budget (right), and next probes (below).

    Args:
        fit: a fit of a law of size and data.
        flops: budget in FLOP as `cost` counts it.
        cost: cost model.
        held: further inputs of the law -> value.
        span: budgets that the left part spans; default from the smallest run to ten times `flops`.
        probes: candidates for the next probes, of `analysis.planning.next_probes`.
        level: nominal coverage.
        n: bootstrap resamples.
    """
    held = dict(held or {})
    data = rows_at(fit, flops, cost=cost, held=held, level=level, n=n)
    runs = _runs(fit, cost)
    low, high = span or (float(runs["x"].min()), 10 * flops)
    line = frontier(fit, np.geomspace(low, high, _POINTS), cost=cost, held=held, level=level, n=n)
    parts = [_budget_panel(line, data, runs, fit), _size_panel(data, fit, level)]
    chart = alt.hconcat(*parts, spacing=28)
    below = [] if probes is None else [_probe_panel(probes)]
    spot = line.cost.label
    far = data["far"]["far"].iloc[0]
    # the colours are those of the lowest panel, and their legend stands beside it
    return (
        alt.vconcat(chart, *below, spacing=18)
        .resolve_scale(color="independent")
        .properties(
            title=title(
                f"What a budget buys: {fit.law.title}",
                f"{fit.n_runs} runs" + (f", {len(fit.points.left_out)} left out" if fit.points.left_out else ""),
                spot,
                *(f"{human(v)} {k.replace('_', ' ')}" for k, v in held.items()),
                f"bands and bars: {level:.0%} intervals, bootstrap over runs; of the point: of one new run",
                f"the rule marks the largest run; the plan lies {far} beyond it"
                if far
                else "the rule marks the largest run",
            )
        )
    )


def rows_at(
    fit: Fit,
    flops: float,
    *,
    cost: Cost = SIX_ND,
    held: Mapping[str, float] | None = None,
    level: float = 0.95,
    n: int = 1000,
    plan: Frontier | None = None,
) -> dict[str, pd.DataFrame]:
    """The rows of the figure that depend on the budget, by name of their layer; `plan` where it is known already."""
    plan = plan or frontier(fit, [flops], cost=cost, held=held, level=level, n=n)
    best, target = plan.frame.iloc[0], plan.target
    spot = {"x": best["flops"], "y": best[target], "low": best[f"{target}_low"], "high": best[f"{target}_high"]}
    spot["text"] = f"{best[target]:.4g} ({best[f'{target}_low']:.4g} – {best[f'{target}_high']:.4g})"
    around = best["params"] * np.geomspace(1 / 20, 20, _SIZES)
    along = along_sizes(fit, flops, around, cost=cost, held=held, level=level, n=n)
    along = along.rename(columns={"params": "x", "loss": "y"})
    least = {"x": best["params"], "y": best[target], "low": best["params_low"], "high": best["params_high"]}
    limited = bool(held) and least["high"] - least["low"] <= 1e-6 * least["high"]  # every draw meets the limit
    interval = "set by the data limit" if limited else f"{human(least['low'])} – {human(least['high'])}"
    least["text"] = f"{human(best['params'])} ({interval})"
    beyond = best["extrapolation"]
    return {
        "spot": embed(pd.DataFrame([spot])),
        "along": embed(along[["x", "y", "low", "high"]]),
        "least": embed(pd.DataFrame([least])),
        "far": pd.DataFrame({"far": [f"{human(beyond, 2)} times" if beyond > 1.05 else ""]}),
    }


def _runs(fit: Fit, cost: Cost) -> pd.DataFrame:
    x = fit.points.frame
    size = next(c for c in fit.points.columns.values() if c.startswith("params"))
    flops = cost.training(x[size].to_numpy(float), x["tokens"].to_numpy(float))
    return pd.DataFrame({"run": x["run"].astype(str), "x": flops, "y": x[fit.points.target]})


def _budget_panel(line: Frontier, data: dict[str, pd.DataFrame], runs: pd.DataFrame, fit: Fit) -> alt.LayerChart:
    target = line.target
    drawn = line.frame[["flops", target, f"{target}_low", f"{target}_high"]].set_axis(["x", "y", "low", "high"], axis=1)
    x = scaled(alt.X, "x", [*runs["x"], *drawn["x"]], "Budget (FLOP)", count=5)
    # The smallest budgets may buy next to nothing, where a model is to be served; the axis is that of the runs.
    shown = drawn[drawn["y"] < 1.02 * runs["y"].max()]
    y = scaled(alt.Y, "y", [*runs["y"], *shown["y"], *shown["low"]], axis_title(target), count=5)
    ends = alt.Y("low:Q", scale=y["scale"], axis=y["axis"]), alt.Y2("high:Q")
    colour = alt.value(CATEGORIES[0])
    edge = alt.Chart(embed(pd.DataFrame({"x": [runs["x"].max()]})))
    tips = [alt.Tooltip("run:N", title="Run"), alt.Tooltip("x:Q", title="Training compute (FLOP)", format=".3g")]
    tips += [alt.Tooltip("y:Q", title=axis_title(target), format=".4g")]
    spot = alt.Chart(data["spot"])
    best = [alt.Tooltip("x:Q", title="Budget (FLOP)", format=".3g"), alt.Tooltip("text:N", title=axis_title(target))]
    return alt.layer(
        alt.Chart(embed(drawn)).mark_area(opacity=0.16, clip=True).encode(x, *ends, color=colour),
        alt.Chart(embed(drawn)).mark_line(strokeWidth=2, clip=True).encode(x, y, color=colour),
        edge.mark_rule(strokeDash=[3, 3], color=INK).encode(x),
        alt.Chart(embed(thin_rows(runs, "y")), name="runs")
        .mark_point(filled=True, size=20, opacity=0.6, color=GREY)
        .encode(x, y, tooltip=tips),
        spot.mark_rule(strokeWidth=2.5, color=ACCENT, clip=True).encode(x, *ends).properties(name="spot"),
        spot.mark_point(filled=True, size=90, color=ACCENT, stroke=INK, strokeWidth=1, opacity=1, clip=True).encode(
            x, y, tooltip=best
        ),
    ).properties(width=_WIDTH, height=_HEIGHT)


def _probe_panel(probes: NextRuns) -> alt.LayerChart:
    """What one run of each candidate would narrow, against its compute; the chosen ones numbered."""
    frame = probes.frame
    size = next(c for c in frame.columns if c.startswith("params"))
    rows = pd.DataFrame({"x": frame["flops"], "y": 100 * frame["narrowing"], "n": frame[size]})
    rows["n_text"], rows["d_text"] = ([human(v) for v in frame[c]] for c in (size, "tokens"))
    rows["fades"] = np.where(frame["flops"] <= probes.budget, 0.85, 0.15)
    rows["label"] = [f"×{t}" if t > 1 else str(o) for o, t in zip(frame["order"], frame["times"], strict=True)]
    chosen = rows[frame["order"] > 0]
    x = scaled(alt.X, "x", rows["x"], "Training compute of one probe (FLOP)", count=8)
    y = scaled(alt.Y, "y", [0, *rows["y"]], "Narrowing by one run (%)", log=False, count=4)
    legend = alt.Legend(
        title="Parameters N", orient="right", gradientLength=110, gradientThickness=9, tickCount=3,
        labelExpr="replace(format(datum.value, '.2~s'), 'G', 'B')",
    )  # fmt: skip
    domain = [float(rows["n"].min()), float(rows["n"].max())]
    colour = alt.Color("n:Q", scale=alt.Scale(type="log", scheme="viridis", domain=domain, nice=False), legend=legend)
    tips = [
        alt.Tooltip("n_text:N", title="Parameters"),
        alt.Tooltip("d_text:N", title="Training tokens"),
        alt.Tooltip("x:Q", title="Compute (FLOP)", format=".3g"),
        alt.Tooltip("y:Q", title="Narrowing (%)", format=".2f"),
    ]
    fade = alt.Opacity("fades:Q", scale=None, legend=None)
    marks = alt.Chart(embed(chosen))
    budget = human(probes.budget).replace("e+", "e")
    picked = " then ".join(
        (f"{t} × " if t > 1 else "") + f"{n} on {d} tokens"
        for _, t, n, d in sorted(zip(frame["order"], frame["times"], rows["n_text"], rows["d_text"], strict=True))
        if t
    )
    return alt.layer(
        alt.Chart(embed(rows), name="candidates").mark_point(filled=True, size=36).encode(
            x, y, colour, fade, tooltip=tips
        ),
        marks.mark_point(filled=True, size=230, shape="square", color=ACCENT, stroke=INK, opacity=1).encode(
            x, y, tooltip=tips
        ),
        marks.mark_text(color=INK, fontSize=12, fontWeight="bold", align="left", dx=12).encode(
            x, y, alt.Text("label:N")
        ),
    ).properties(
        width=2 * _WIDTH - 90,
        height=170,
        title=alt.Title(
            f"Next probes for {probes.question}".replace("e+", "e"),
            subtitle=[f"chosen: {picked}", f"faint: beyond {budget} FLOP for all of them together"],
            fontSize=13,
        ),
    )  # fmt: skip


def _size_panel(data: dict[str, pd.DataFrame], fit: Fit, level: float) -> alt.LayerChart:
    along, least = data["along"], data["least"]
    target = fit.points.target
    x = scaled(alt.X, "x", along["x"], "Parameters N, the budget used up", count=5)
    # At the ends of the sizes the loss is far up; the reader chooses among those near the best.
    best = float(least["y"].iloc[0])
    near = along[along["y"] < best * 1.35]
    y = scaled(alt.Y, "y", [*near["y"], *near["low"], *near["high"], best], axis_title(target), count=5)
    ends = alt.Y("low:Q", scale=y["scale"], axis=y["axis"]), alt.Y2("high:Q")
    colour = alt.value(CATEGORIES[0])
    flat = [alt.Tooltip("text:N", title=f"Best size ({level:.0%} interval)")]
    sides = alt.X("low:Q", scale=x["scale"], axis=x["axis"]), alt.X2("high:Q")
    return alt.layer(
        alt.Chart(along, name="along").mark_area(opacity=0.16, clip=True).encode(x, *ends, color=colour),
        alt.Chart(along).mark_line(strokeWidth=2, clip=True).encode(x, y, color=colour),
        alt.Chart(least, name="least").mark_rule(strokeWidth=2.5, color=ACCENT, clip=True).encode(*sides, y),
        alt.Chart(least)
        .mark_point(
            filled=True, shape="diamond", size=110, color=ACCENT, stroke=INK, strokeWidth=1, opacity=1, clip=True
        )
        .encode(x, y, tooltip=flat),
    ).properties(width=_WIDTH, height=_HEIGHT)
