"""The price of a sweep beside its form: asked for when the hand rests, found beside the event loop, told as a table."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from html import escape
from typing import TYPE_CHECKING, Any

from workbench.launch.queue import Queue
from workbench.launch.slots import cores, find_gpus
from workbench.launch.told import duration
from workbench.panels.turn import in_turn
from workbench.probes.sweep import Sweep
from workbench.units import human

if TYPE_CHECKING:
    from workbench.probes.cost import Cost

__all__ = ["Pricer", "place", "price_html", "sentence"]

#: Seconds without a change after which the price is asked for.
REST = 0.4
#: Rows of the table; the dearest buckets come first.
_MOST = 12
#: What binds a step, in words.
_BINDS = {
    "host": "issuing operations", "launch": "starting kernels", "bytes": "memory traffic", "FLOPs": "arithmetic",
}  # fmt: skip
#: One at a time, for all forms: two calibrations side by side would time each other.
_THREAD = ThreadPoolExecutor(max_workers=1, thread_name_prefix="price")


class Pricer:
    """Prices the last sweep it was asked for, and nothing between.

    Args:
        done: called in the event loop's thread with the sweep and its `Cost`, or what went wrong.
    """

    def __init__(self, done: Callable[[Sweep, Any], None]) -> None:
        self._done = done
        self._timer: asyncio.TimerHandle | None = None
        self._busy = False
        self._wanted: tuple[Sweep, Queue | None] | None = None

    def ask(self, sweep: Sweep, queue: Queue | None) -> bool:
        """Price this sweep when the hand has rested; False where there is no event loop to wait in."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return False
        self.forget()
        self._wanted = (sweep, queue)
        self._timer = loop.call_later(REST, self._begin)
        return True

    def forget(self) -> None:
        """Price nothing, unless asked again."""
        self._wanted = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @in_turn
    def _begin(self) -> None:
        self._timer = None
        if self._busy or self._wanted is None:
            return
        self._busy, asked = True, self._wanted
        future = asyncio.get_running_loop().run_in_executor(_THREAD, _found, *asked)
        future.add_done_callback(lambda done: self._end(asked, done))

    @in_turn
    def _end(self, asked: tuple[Sweep, Queue | None], done: asyncio.Future) -> None:
        self._busy = False
        if done.cancelled():
            return
        if self._wanted is asked:
            self._wanted = None
            self._done(asked[0], done.result())
        elif self._timer is None:
            self._begin()


def _found(sweep: Sweep, queue: Queue | None) -> Any:
    try:
        device, slots, _ = place(queue)
        return sweep.cost(device, slots=slots)
    except Exception as error:  # what cannot be priced can still be launched
        return error


def place(queue: Queue | None) -> tuple[str, int, str]:
    """What a sweep in `queue` is priced for: a device of this machine, stacks side by side, and a remark or nothing."""
    slots = getattr(queue, "slots", None)
    if slots is not None:
        return slots.device, max(1, len(slots)), ""
    gpus = find_gpus()
    device = "cuda" if gpus else "cpu"
    if queue is None:
        return device, len(gpus) or max(1, len(cores())), ""
    return device, 1, "priced for one device of this machine, not for the cluster"


def sentence(cost: Cost, remark: str = "") -> str:
    """``24 runs, 3 stacks, about 40 s on this machine (2 side by side), at most 0.9 GB of memory, 3.3e12 FLOP.``"""
    runs, stacks = int(cost.buckets["runs"].sum()), int(cost.buckets["stacks"].sum())
    device = "this machine" if not cost.machine.is_cuda else cost.machine.device
    beside = min(cost.slots, stacks)
    words = [
        f"{runs} run{'' if runs == 1 else 's'}",
        f"{stacks} stack{'' if stacks == 1 else 's'}",
        f"about {duration(cost.seconds)} on {device}" + (f" ({beside} side by side)" if beside > 1 else ""),
        f"{size(cost.memory) if cost.memory < 1e6 else f'at most {size(cost.memory)}'} of memory a stack",
        f"{flop(cost.flops)} FLOP",
    ]
    return ", ".join(words) + (f"; {remark}." if remark else ".")


def price_html(cost: Cost) -> str:
    """The price as a table, a row a bucket of equal shape, the dearest first."""
    frame = cost.buckets.sort_values("seconds", ascending=False, kind="stable")
    shown = frame.head(_MOST)
    heads = ("Model", "Parameters N", "Tokens each", "Runs", "Stacks", "Time", "Memory", "FLOP", "What binds")
    words = {"Model", "What binds"}
    head = "".join(f"<th style='{_PAD};text-align:{'left' if h in words else 'right'}'>{h}</th>" for h in heads)
    rows = ""
    for one in shown.to_dict("records"):
        cells = (
            one["model"], human(float(one["params"])), human(float(one["tokens"])), str(one["runs"]),
            str(one["stacks"]), duration(one["seconds"]), size(one["memory_gib"] * 2**30), flop(one["flops"]),
            _BINDS.get(one["binding"], one["binding"]),
        )  # fmt: skip
        rows += "<tr>" + "".join(
            f"<td style='{_PAD};text-align:{'left' if h in words else 'right'};font-variant-numeric:tabular-nums'>"
            f"{escape(str(cell))}</td>"
            for h, cell in zip(heads, cells, strict=True)
        )
        rows += "</tr>"
    rest = frame.iloc[_MOST:]
    note = ""
    if len(rest):
        runs, time = int(rest["runs"].sum()), duration(float(rest["seconds"].sum()))
        note = f"… and {len(rest)} more buckets of {runs} runs, {time} together"
    return (
        f"<div style='overflow-x:auto'><table style='border-collapse:collapse;line-height:1.5'><tr>{head}</tr>{rows}"
        f"</table><div>{escape(note)}</div></div>"
    )


_PAD = "padding:0 14px 0 0;white-space:nowrap"


def size(value: float) -> str:
    """Bytes as people write them: ``12 MB``, ``0.9 GB``."""
    return f"{value / 1e9:.2g} GB" if value >= 5e8 else f"{value / 1e6:.3g} MB" if value >= 1e6 else "under 1 MB"


def flop(value: float) -> str:
    """FLOPs as budgets are written: ``3.3e12``."""
    digits, _, power = f"{float(value):.1e}".partition("e")
    return f"{digits.removesuffix('.0')}e{int(power)}"
