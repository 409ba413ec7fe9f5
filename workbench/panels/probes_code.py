"""The sweep of a probe panel as source text: before its launch with the price, afterwards with job, runs and fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.launch.queue import Queue
from workbench.panels.job import JobPanel
from workbench.panels.probes_price import place
from workbench.panels.probes_state import Recipe

if TYPE_CHECKING:
    from workbench.probes.cost import Cost

__all__ = ["described", "launched"]


def described(recipe: Recipe, cost: Cost | None, queue: Queue | None, name: str, root: str | None) -> str:
    """Source text that leaves the sweep and its ``figure`` behind; the launch follows as a comment.

    Args:
        recipe: the sweep.
        cost: its price, where it is known.
        queue: where it is priced for; None for the default queue, which is not made yet.
        name: the variable that holds the queue.
        root: folder of a default queue that the text makes; None where `name` is there already.
    """
    body = [recipe.source().rstrip()]
    if cost is None:
        body.append("figure = sweep_map(sweep)")
    else:
        device, slots, _ = place(queue)
        body += [f'cost = sweep.cost("{device}", slots={slots})', "figure = sweep_map(sweep, cost)"]
    comment = "\n".join(f"# {line}" for line in [*_made(root), f"job = {name}.submit(sweep)"])
    head = [_imported(recipe, root), "from workbench.figures.sweep import sweep_map"]
    return "\n".join([*head, "", *body]) + f"\n\n# To train it:\n{comment}\n"


def launched(recipe: Recipe, shown: JobPanel, name: str, root: str | None) -> str:
    """Source text that leaves the job, its runs and the job panel's ``figure`` behind; with a fit, that too.

    Args:
        recipe: the sweep.
        shown: the panel of its job.
        name, root: as for `described`.
    """
    used = shown.code()
    imports = [line for line in used.splitlines() if line.startswith("from ")]
    rest = [line for line in used.splitlines() if line and not line.startswith("from ")]
    runs = [] if shown.fit is not None else [f"runs = {shown._finished}"]
    submit = f"job = {name}.submit(sweep)  # what is trained already stays"
    body = [recipe.source().rstrip(), *_made(root), submit, *rest, *runs]
    return "\n".join([_imported(recipe, root), *imports, "", *body]) + "\n" + _fitted(shown)


def _imported(recipe: Recipe, root: str | None) -> str:
    names = sorted([*recipe.needs, *([] if root is None else ["LocalQueue"])])
    return f"from workbench import {', '.join(names)}"


def _made(root: str | None) -> list[str]:
    """The line that makes the default queue, where it is used."""
    return [] if root is None else [f'queue = LocalQueue("{root}")']


def _fitted(shown: JobPanel) -> str:
    """The fit of the fit panel, without its figure."""
    fit = shown.fit
    if fit is None or fit.fit is None:
        return ""
    return fit.code().rpartition("figure =")[0].replace(shown._finished, "runs")
