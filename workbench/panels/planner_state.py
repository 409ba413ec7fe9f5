"""The state of the planner, where it starts, and its source text."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.analysis.costs import Cost
from workbench.analysis.planning import Hardware, served
from workbench.fits.fit import fit as fit_law
from workbench.fits.result import Fit
from workbench.laws.data.repeated import PUBLISHED
from workbench.panels.controls import metrics
from workbench.panels.fit_state import source
from workbench.panels.frontier_state import computes, sizes
from workbench.panels.state import State
from workbench.runs.table import RunTable

__all__ = ["DATA", "PlannerState", "budget_of", "cost_of", "first_state", "fitted", "held_of", "planner_source"]

#: What may be done with limited data.
DATA = {
    "unlimited": "unlimited",
    "once": "limited, each token once",
    "assumed": "limited, repeated (R_D assumed)",
    "fitted": "limited, repeated (R_D fitted)",
}
#: Repetitions after which a token is worth nothing: none.
_NONE = 1e-6


@dataclass(frozen=True)
class PlannerState(State):
    """What the planner shows.

    Attributes:
        budget: FLOP, where it is not given as money.
        in_money: whether `money` is the budget.
        money, price: the budget, and one GPU for an hour, in one currency.
        peak, utilisation: FLOP/s of a GPU at its peak, and the share of it that training reaches.
        gpus: GPUs that work at the same time.
        served: tokens that the model will read and write in use; paid from the budget. 0 for none.
        serve_utilisation: share of the peak that serving reaches.
        data: key of `DATA`.
        unique: different tokens there are.
        R_D: repetitions after which a token has lost 63 % of its value; Muennighoff et al. 2023 found 15.4.
        y, size: metric, and column that stands for N.
        where: only runs that satisfy this expression.
        left_out: runs taken out by hand.
        asked: what next probes should narrow: ``loss``, ``size`` or ``ratio``.
        probe_budget: FLOP for all probes together.
        probes: how many at most.
    """

    budget: float = 1e21
    in_money: bool = False
    money: float = 1e5
    price: float = 2.0
    peak: float = 989e12
    utilisation: float = 0.4
    gpus: int = 64
    served: float = 0.0
    serve_utilisation: float = 0.2
    data: str = "unlimited"
    unique: float = 1e12
    R_D: float = round(PUBLISHED["R_D"], 1)
    y: str = "loss"
    size: str = "params"
    where: str | None = None
    left_out: tuple[str, ...] = ()
    asked: str = "loss"
    probe_budget: float = 1e19
    probes: int = 3


def first_state(runs: RunTable) -> PlannerState:
    """Where a planner on `runs` starts: ten times the largest run, probes for a tenth of the largest."""
    ys, ns, largest = metrics(runs), sizes(runs), computes(runs)[1]
    frame = runs.frame
    tokens = frame["tokens"].max() if "tokens" in frame and frame["tokens"].notna().any() else 1e12
    return PlannerState(
        budget=_round(10 * largest), probe_budget=_round(largest), unique=_round(10 * float(tokens)),
        y="loss" if "loss" in ys or not ys else ys[0], size=ns[0] if ns else "params",
    )  # fmt: skip


def _round(value: float) -> float:
    return float(f"{value:.2g}")


def hardware_of(state: PlannerState) -> Hardware:
    """What compute costs."""
    return Hardware(state.price, state.peak, state.utilisation)


def budget_of(state: PlannerState) -> float:
    """The budget in FLOP."""
    return hardware_of(state).flops(state.money) if state.in_money else state.budget


def cost_of(state: PlannerState) -> Cost:
    """Training, and what is served."""
    return served(state.served, hardware_of(state), state.serve_utilisation)


def held_of(state: PlannerState) -> dict[str, float]:
    """The data limit as an input of the law."""
    return {} if state.data == "unlimited" else {"unique_tokens": state.unique}


def _law(state: PlannerState) -> tuple[str, dict[str, float] | None]:
    if state.data == "unlimited":
        return "chinchilla", None
    fixed = {"once": {"R_D": _NONE}, "assumed": {"R_D": state.R_D}, "fitted": None}
    if state.data not in fixed:
        raise ValueError(f"data is {state.data!r}; choose one of {', '.join(DATA)}")
    return "repeated_tokens", fixed[state.data]


def fitted(runs: RunTable, state: PlannerState, taken: list[str]) -> Fit:
    """The fit that plans; `planner_source` writes the same.

    Raises:
        ValueError: R_D is to be fitted to runs that repeat nothing, or as `workbench.fit`.
    """
    law, fixed = _law(state)
    if state.data == "fitted" and not _repeats(runs):
        raise ValueError(
            "R_D can be fitted only to runs that repeat tokens: this table has no column unique_tokens below its "
            "tokens; assume R_D instead"
        )
    runs = runs.drop(taken) if taken else runs
    if law == "repeated_tokens" and "unique_tokens" not in runs:
        runs = runs.derive(unique_tokens="tokens")
    return fit_law(runs, law, y=state.y, inputs={"N": state.size}, where=state.where, fixed=fixed)


def _repeats(runs: RunTable) -> bool:
    frame = runs.frame
    return "unique_tokens" in frame and bool((frame["tokens"] > 1.05 * frame["unique_tokens"]).any())


def planner_source(
    state: PlannerState, runs: str, derive: bool, taken: list[str], span: tuple[float, float], n: int, probing: bool
) -> str:
    """Source text that leaves the figure of `state` behind as the variable ``figure``.

    Args:
        state: the state.
        runs: name of the variable that holds the runs.
        derive: whether the runs lack the column unique_tokens that the law takes.
        taken: runs to leave out.
        span: budgets of the figure.
        n: bootstrap resamples.
        probing: whether probes were chosen.
    """
    law, fixed = _law(state)
    used = runs + (f".drop({source(taken)})" if taken else "")
    used += '.derive(unique_tokens="tokens")' if derive and law == "repeated_tokens" else ""
    arguments = {"y": state.y, "inputs": {"N": state.size}, "where": state.where, "fixed": fixed}
    lines = ["import workbench", "from workbench.analysis.planning import Hardware, next_probes, served"]
    lines += ["from workbench.figures.planner import planner", "", "fit = workbench.fit(", f"    {used},"]
    lines += [f"    {source(law)},", *(f"    {k}={source(v)}," for k, v in arguments.items()), ")"]
    hardware = f"price={state.price!r}, peak={state.peak!r}, utilisation={state.utilisation!r}"
    lines += [f"hardware = Hardware({hardware})"]
    lines += [f"budget = hardware.flops({state.money!r})" if state.in_money else f"budget = {state.budget!r}"]
    lines += [f"cost = served({state.served!r}, hardware, {state.serve_utilisation!r})"]
    lines += [f"held = {source(held_of(state))}"]
    if probing:
        lines += [
            f"probes = next_probes(fit, budget, {source(state.asked)}, budget={state.probe_budget!r}, "
            f"n={state.probes!r}, cost=cost, held=held)"
        ]
    else:
        lines += ["probes = None"]
    lines += [f"figure = planner(fit, budget, cost=cost, held=held, span={span!r}, probes=probes, n={n})", ""]
    return "\n".join(lines)
