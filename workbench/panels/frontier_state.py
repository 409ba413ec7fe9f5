"""The state of the frontier panel, where it starts, and its source text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from workbench.panels.controls import metrics
from workbench.panels.fit_state import source
from workbench.panels.state import State
from workbench.runs.table import RunTable

__all__ = ["LAWS", "FrontierState", "arguments", "computes", "first_state", "frontier_source", "sizes"]

#: Laws of size and data that approach 3 may take.
LAWS = ("chinchilla", "chinchilla_tied", "kaplan")
#: The slider goes this far beyond the largest run.
REACH = 100.0


@dataclass(frozen=True)
class FrontierState(State):
    """What the frontier panel shows.

    Attributes:
        budget: FLOP at which the allocations are read off; None starts at ten times the largest run.
        y: metric to minimise.
        size: column that stands for N.
        law: law of approach 3.
        method: model of the isoFLOP curves, approach 2.
        where: only runs that satisfy this expression.
        left_out: runs taken out by hand.
    """

    budget: float | None = None
    y: str = "loss"
    size: str = "params"
    law: str = "chinchilla"
    method: str = "shared"
    where: str | None = None
    left_out: tuple[str, ...] = ()


def first_state(runs: RunTable) -> FrontierState:
    """Where a panel on `runs` starts."""
    ys, ns = metrics(runs), sizes(runs)
    y = "loss" if "loss" in ys or not ys else ys[0]
    return FrontierState(budget=_round(10 * computes(runs)[1]), y=y, size=ns[0] if ns else "params")


def sizes(runs: RunTable) -> list[str]:
    """Columns that may stand for N."""
    frame = runs.frame
    names = ("params", "params_non_embedding", "params_active")
    return [c for c in names if c in frame and np.isfinite(frame[c].to_numpy(float)).any()]


def computes(runs: RunTable) -> tuple[float, float]:
    """Smallest and largest compute of the runs in FLOP, 6ND where it was not logged; 1e18 to 1e20 of no run."""
    frame = runs.frame
    if "flops" in frame:
        flops = frame["flops"].to_numpy(float)
    elif {"params", "tokens"} <= set(frame.columns):
        flops = 6 * frame["params"].to_numpy(float) * frame["tokens"].to_numpy(float)
    else:
        flops = np.empty(0)
    flops = flops[np.isfinite(flops) & (flops > 0)]
    return (float(flops.min()), float(flops.max())) if flops.size else (1e18, 1e20)


def _round(value: float) -> float:
    return float(f"{value:.2g}")


def arguments(state: FrontierState, reach: float, n: int) -> dict:
    """Arguments of `workbench.approaches`."""
    return {
        "y": state.y, "params": state.size, "where": state.where, "law": state.law, "at": reach, "n": n,
        "isoflop_options": {"method": state.method},
    }  # fmt: skip


def frontier_source(
    state: FrontierState, runs: str, reach: float, n: int, taken: list[str], marked: Iterable[str]
) -> str:
    """Source text that leaves the figure of `state` behind as the variable ``figure``."""
    lines = ["import workbench", "from workbench.figures.at_budget import at_budget", ""]
    used, more = runs, ""
    if taken:
        lines += [f"left_out = {source(taken)}", f"kept = {runs}.drop(left_out)"]
        used, more = "kept", f', left_out={runs}.where({runs}["run"].isin(left_out))'
    if marked:
        more += f", marked={source(list(marked))}"
    settings = [f"    {k}={source(v)}," for k, v in arguments(state, reach, n).items()]
    lines += ["found = workbench.approaches(", f"    {used},", *settings, ")"]
    return "\n".join([*lines, f"figure = at_budget(found, {state.budget!r}, n={n}{more})", ""])
