"""The state of the law explorer, and its source text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from workbench.panels.fit_state import source
from workbench.panels.state import State

__all__ = ["STARTS", "ExplorerState", "explorer_source"]

#: Starting points of the fit that is revealed.
STARTS = 64


@dataclass(frozen=True)
class ExplorerState(State):
    """What the law explorer shows.

    Attributes:
        law: name of the law.
        params: parameter symbol -> slider; those that are not named stand where the panel starts them.
        x: input on the x axis; None chooses.
        held: the other inputs -> value; those that are not named are held in the middle.
        y: column of the runs.
        inputs: input symbol -> column of the runs, where it is not the usual one.
        terms: whether the terms are drawn.
        log: whether the y axis is logarithmic.
        guess: the sliders as they stood when the fit was revealed; None while it is hidden.
    """

    law: str = "chinchilla"
    params: dict[str, float] = field(default_factory=dict)
    x: str | None = None
    held: dict[str, float] = field(default_factory=dict)
    y: str = "loss"
    inputs: dict[str, str] = field(default_factory=dict)
    terms: bool = True
    log: bool = True
    guess: dict[str, float] | None = None


def explorer_source(
    state: ExplorerState, params: Mapping[str, float], x: str, held: Mapping[str, float], runs: str | None, fitted: bool
) -> str:
    """Source text that leaves the figure behind as the variable ``figure``.

    Args:
        state: the state.
        params: every parameter.
        x: the input on the x axis.
        held: every other input.
        runs: name of the variable that holds the runs; None without runs.
        fitted: whether the fit is drawn.
    """
    s = state
    lines = ["from workbench.figures.explorer import explorer", ""]
    given = f"y={source(s.y)}, " + (f"inputs={source(s.inputs)}, " if s.inputs else "")
    if fitted:
        lines = ["import workbench", *lines, f"fit = workbench.fit({runs}, {source(s.law)}, {given}starts={STARTS})"]
    lines += ["figure = explorer(", f"    {source(s.law)},", f"    {source(dict(params))},", f"    x={source(x)},"]
    if held:
        lines.append(f"    held={source(dict(held))},")
    if runs is not None:
        lines.append(f"    runs={runs},\n    {given.strip()}")
    if fitted:
        lines.append("    fit=fit,")
    lines += [f"    terms={s.terms},", f"    log={s.log},", ")", ""]
    return "\n".join(lines)
