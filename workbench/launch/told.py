"""How a sweep stands, in words: one line, a bar, and a table for terminals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from workbench.probes.spec import Probe
from workbench.units import human

__all__ = [
    "OVER", "SPOKEN", "as_records", "as_text", "bar", "chosen", "counted", "duration", "headline", "printable",
    "remaining", "summary", "trained",
]  # fmt: skip

#: States in which nothing more happens unless the probe is submitted again.
OVER = ("finished", "diverged", "cancelled", "failed")
#: States in the order of a reader's concern: what went wrong, what is in work, what waits, what is done.
CONCERN = ("failed", "diverged", "running", "cancelled", "created", "finished")
#: States in the words of a headline.
SPOKEN = {"finished": "done", "created": "waiting"}


def trained(rows: pd.DataFrame, probes: Iterable[Probe] | None = None) -> float:
    """Which part of the sweep's tokens is trained; without `probes` every run counts the same.

    A diverged run counts as whole: there is nothing left to train. What failed or was cancelled counts as far
    as it got.
    """
    tokens = np.ones(len(rows)) if probes is None else np.array([float(probe.tokens) for probe in probes])
    done = rows["fraction"].to_numpy(float).copy()
    done[rows["state"].isin(["finished", "diverged"]).to_numpy()] = 1.0
    return float((done * tokens).sum() / tokens.sum()) if len(rows) else 0.0


def summary(rows: pd.DataFrame, probes: Iterable[Probe]) -> tuple[float, str]:
    """Which part of all tokens is trained, and the states counted in words."""
    rate = rows["tokens_per_second"].sum()
    speed = f", {human(float(rate))} tokens/s" if rate > 0 else ""
    return trained(rows, probes), counted(rows["state"]) + speed


def remaining(rows: pd.DataFrame, probes: Sequence[Probe] | None = None) -> float:
    """Seconds until nothing runs or waits any more, at the present speed; NaN if nothing runs.

    The longer of what the slowest running run needs and of all tokens left over all tokens a second.
    """
    open_ = ~rows["state"].isin(OVER).to_numpy()
    rate = rows["tokens_per_second"].sum()
    slowest = rows["eta_seconds"].max()
    if not rate > 0 or probes is None:
        return float(slowest)
    tokens = np.array([float(probe.tokens) for probe in probes])
    left = ((1.0 - rows["fraction"].to_numpy(float)) * tokens)[open_].sum()
    return float(max(slowest, left / rate))


def chosen(rows: pd.DataFrame, most: int) -> pd.DataFrame:
    """At most `most` rows, those that need a look first; all of them, in the sweep's order, if they are few."""
    if len(rows) <= most:
        return rows
    rank = rows["state"].map({state: i for i, state in enumerate(CONCERN)}).fillna(0)
    return rows.loc[rank.sort_values(kind="stable").index[:most]]


def as_text(rows: pd.DataFrame, probes: Iterable[Probe] | None = None, *, most: int = 24, width: int = 160) -> str:
    """The table for a terminal: a headline, a bar, and aligned rows.

    Args:
        rows: as `table` or `Job.table` gives them.
        probes: those of the rows, so that the bar counts tokens; without them every run counts the same.
        most: rows shown; of more, those that failed or run come first and the last line counts the others.
        width: characters a line; longer verdicts are cut.
    """
    probes = None if probes is None else list(probes)
    lines = [headline(rows), bar(rows, probes)]
    shown = chosen(rows, most)
    heads = ("id", "state", "step", "loss", "tokens/s", "ETA", "verdict")
    cells = [heads, *(_cells(one) for one in shown.to_dict("records"))]
    widths = [max(len(line[i]) for line in cells) for i in range(len(heads) - 1)]
    for line in cells if len(shown) else ():
        pairs = list(zip(line, widths, strict=False))
        left = [text.ljust(size) for text, size in pairs[:2]] + [text.rjust(size) for text, size in pairs[2:]]
        text = "  ".join([*left, line[-1]]).rstrip()
        lines.append(text if len(text) <= width else text[: width - 1] + "…")
    if len(shown) < len(rows):
        others = rows.drop(shown.index)["state"]
        lines.append(f"… and {len(others)} more that are not shown: {counted(others)}")
    return "\n".join(lines)


def as_records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """The table as JSON values, one object a row; what is not known is null."""
    records = rows.to_dict("records")
    return [{k: None if isinstance(v, float) and math.isnan(v) else v for k, v in one.items()} for one in records]


def headline(rows: pd.DataFrame) -> str:
    """How many runs there are, in which states."""
    return f"{len(rows)} run{'' if len(rows) == 1 else 's'}: {counted(rows['state']) or 'none'}"


def bar(rows: pd.DataFrame, probes: Sequence[Probe] | None = None, size: int = 28) -> str:
    """Progress of the sweep on one line, with speed and time left where something runs."""
    part = trained(rows, probes)
    text = f"[{'#' * int(size * part + 1e-9)}".ljust(size + 1, ".") + f"] {math.floor(100 * part + 1e-9)}%"
    total = "" if probes is None else f" of {human(float(sum(probe.tokens for probe in probes)))} tokens"
    rate, left = rows["tokens_per_second"].sum(), remaining(rows, probes)
    speed = f", {human(float(rate))} tokens/s" if rate > 0 else ""
    return text + total + speed + (f", about {duration(left)} left" if math.isfinite(left) else "")


def duration(seconds: float) -> str:
    """``under 1 s``, ``8 s``, ``3 min 20 s``, ``2 h 05 min``, ``4 d 3 h``; a dash where it is not known."""
    if not math.isfinite(seconds):
        return "-"
    if seconds < 1:
        return "under 1 s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def counted(states: pd.Series) -> str:
    """``3 done, 2 running``."""
    counts = states.value_counts()
    order = ("finished", "running", "created", "failed", "diverged", "cancelled")
    return ", ".join(f"{counts[state]} {SPOKEN.get(state, state)}" for state in order if counts.get(state))


def _cells(one: Mapping[str, Any]) -> tuple[str, ...]:
    def number(name: str, text: str) -> str:
        return "-" if one[name] is None or math.isnan(one[name]) else text.format(one[name])

    return (
        printable(one["id"]), SPOKEN.get(one["state"], one["state"]), f"{one['step']}/{one['steps']}",
        number("loss", "{:.4f}") if abs(one["loss"] or 0.0) < 1e6 else number("loss", "{:.3g}"),
        "-" if math.isnan(one["tokens_per_second"]) else human(one["tokens_per_second"]),
        duration(one["eta_seconds"]), printable(one["verdict"] or ""),
    )  # fmt: skip


def printable(text: Any) -> str:
    """`text` on one line, without what would steer a terminal."""
    return "".join(c if c.isprintable() else " " for c in " ".join(str(text).split()))
