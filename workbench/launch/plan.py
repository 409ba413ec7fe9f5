"""From probes to stacks: as large as memory allows, as many as keep every slot at work."""

from __future__ import annotations

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


def stack_memory(probes: Sequence[Probe]) -> float | None:
    """Bytes that training these probes as one stack takes, or None if nothing is known about them.

    `workbench.probes.cost` is asked where it offers ``memory(probes)``. Otherwise this is a rough count for
    transformers in float32: weights, gradients and two moments (16 bytes a parameter), for each token and
    layer 68 bytes a channel kept for the backward pass (twice the 34 of 16-bit training in Korthikanti et al.
    2022, arXiv 2205.05198; as commonly quoted, not checked against the paper), and three copies of the logits.
    """
    try:
        from workbench.probes.cost import memory
    except ImportError:
        pass
    else:
        return memory(probes)
    try:
        first = probes[0]
        weights = 16.0 * first.params
        kept = 68.0 * first.width * first.depth + 12.0 * first.vocab
        return len(probes) * (weights + first.batch_tokens * kept)
    except AttributeError:
        return None
