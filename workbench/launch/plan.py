"""From probes to stacks: as large as memory allows, as many as keep every slot at work."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

from workbench.probes.spec import Probe

__all__ = ["plan", "stack_memory"]

Item = TypeVar("Item")

#: Part of a slot's memory that a stack may be planned to fill; estimates err.
FILL = 0.85


def plan(
    items: Sequence[Item],
    *,
    group: Callable[[Item], Hashable],
    cost: Callable[[Item], float],
    slots: int,
    fits: Callable[[Sequence[Item]], bool],
) -> list[list[Item]]:
    """Divide `items` into stacks.

    Items of one group make one stack. One that does not fit is halved until it does, or is a single item.
    Then the costliest stacks are halved until none holds more than its slot's share of the whole cost, so
    that every slot has work; a group is not divided further than that, as a stack trains faster than its
    parts.

    Args:
        items: what is to be trained.
        group: equal for items that can be stacked.
        cost: work of one item, in any unit.
        slots: workers that can run at once.
        fits: whether the items fit into a slot's memory together.

    Returns:
        The stacks, costliest first; items keep their order within each.
    """
    groups: dict[Hashable, list[Item]] = {}
    for item in items:
        groups.setdefault(group(item), []).append(item)
    share = sum(map(cost, items)) / max(1, slots)
    ready: list[list[Item]] = []
    todo = list(groups.values())
    while todo:
        stack = todo.pop()
        # the tolerance keeps equal halves from being halved again by a rounding error
        if len(stack) > 1 and (not fits(stack) or sum(map(cost, stack)) > share * (1 + 1e-9)):
            middle = (len(stack) + 1) // 2
            todo += [stack[:middle], stack[middle:]]
        else:
            ready.append(stack)
    return sorted(ready, key=lambda stack: -sum(map(cost, stack)))


def stack_memory(probes: Sequence[Probe]) -> float:
    """Bytes that training these probes as one stack takes, roughly: within a factor of two or three.

    It asks no more than the weights' shapes, and needs no torch: a queue plans before it spends. 20 bytes a
    parameter are weights, gradient, two moments and what an update needs in between. For the backward pass a
    matrix product keeps what it read or made, whichever is larger, and half as much again by the nonlinearities and
    norms around it; copies of a matrix (experts, taps of a convolution) count each. To that come the scores of
    attention and three copies of the outputs. `workbench.probes.cost` counts every operation instead.
    """
    first = probes[0]
    task, model = first.task_settings, first.model_settings
    weights = model.weights(task)
    # how often an input passes through the weights, each position for itself
    rows = first.batch_tokens * model.flops_per_token(task) / (6.0 * model.active_params(task))
    kept = 0.0
    for name, weight in weights.items():
        if len(weight.shape) > 1 and name != "head":
            *copies, inputs, outputs = weight.shape
            # the data are there anyway, and of an embedding only some rows are looked up
            given = weight.role == "input" and not copies
            kept += math.prod(copies) * (outputs if given else max(inputs, outputs))
    if "heads" in first.to_dict():
        kept += 2.0 * first.depth * first.heads * task.inputs.context
    scored = first.batch * (len(task.scored) if task.scored is not None else task.positions)
    each = 20.0 * sum(weight.size for weight in weights.values()) + 6.0 * rows * kept + 12.0 * scored * task.outputs
    return len(probes) * each
