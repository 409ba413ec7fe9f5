"""The words of a figure of many curves: axis titles, and what its subtitle says was left out or done."""

from __future__ import annotations

from workbench.figures.style import spoken
from workbench.runs.table import RunTable
from workbench.units import axis_title, quantity

__all__ = [
    "along_title", "count_runs", "counted", "events_told", "half_life", "made_from_steps", "put_aside", "spaced",
    "spoken_axis",
]  # fmt: skip

#: Axes that are no column of a curve: title, and words in the middle of a sentence.
_MADE = {
    "relative_time": ("Time since the run's first point (s)", "time since the start"),
    "progress": ("Share of the run's own steps", "share of the steps"),
}
_NARROW = "\u202f"


def along_title(x: str) -> str:
    """Title of an axis that curves run along."""
    return _MADE[x][0] if x in _MADE else axis_title(x)


def spoken_axis(x: str) -> str:
    """The axis in the middle of a sentence."""
    return _MADE[x][1] if x in _MADE else quantity(x).meaning.lower()


def half_life(smooth: float) -> str:
    """How a smoothing of `smooth` percent is told; empty for none."""
    return f"smoothed over every logged point, half-life {smooth:g} % of a run's own steps" if smooth > 0 else ""


def count_runs(n: int) -> str:
    """``1 run``, ``2 runs``."""
    return f"{n} run{'s' if n != 1 else ''}"


def spaced(n: int) -> str:
    """An integer with narrow spaces between thousands."""
    return f"{n:_}".replace("_", _NARROW)


def counted(runs: int, with_curve: int, drawn: int, group: str | None, ordered: str) -> str:
    """How many runs there are, have a curve and are drawn."""
    n = f"{spaced(with_curve)} of {spaced(runs)} runs have a curve" if with_curve < runs else f"{spaced(runs)} runs"
    n = "1 run" if n == "1 runs" else n
    if group is not None:
        return f"{n}, mean and range of each group"
    if drawn < with_curve:
        how = f"the first by {ordered}" if ordered else "evenly chosen"
        n += f", {spaced(drawn)} of them drawn ({how})"
    return n


def put_aside(out: set[str], marked: set[str], drawn: list[str], group: str | None) -> str:
    """How many of the runs that are drawn are taken out of fits, and how many are marked."""
    n, bold = sum(run in out for run in drawn), sum(run in marked for run in drawn)
    parts = [f"{n} left out ({'not averaged' if group is not None else 'dashed'})"] if n else []
    parts += [f"{bold} marked (bold)"] if bold and group is None else []
    return ", ".join(parts)


def events_told(spikes: int, runs: int, broken: int) -> str:
    """Spikes and divergences, and how they are marked."""
    parts = [f"{spikes} spike{'s' if spikes != 1 else ''} in {count_runs(runs)} (triangles)"] if spikes else []
    parts += [f"{count_runs(broken)} diverged (crosses)"] if broken else []
    return ", ".join(parts)


def made_from_steps(runs: RunTable, x: str, drawn: list[str]) -> str:
    """Whether positions were computed from the step."""
    if x not in ("tokens", "flops"):
        return ""
    n = sum(x not in runs.curves[run] for run in drawn)
    return f"{spoken(x)} not logged, taken as proportional to the step in {count_runs(n)}" if n else ""
