"""The progress bar and the table of runs of a job as markup, everything escaped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from workbench.launch import told
from workbench.probes.spec import Probe
from workbench.units import human, quantity

__all__ = ["progress_html", "run_name", "runs_html"]

#: Sign and colour of a state; the sign says the same without colour.
_SIGNS = {
    "finished": ("✓", "#00795a"), "running": ("▶", "#0072B2"), "created": ("…", "#667085"),
    "cancelled": ("■", "#667085"), "failed": ("✗", "#b84a00"), "diverged": ("▲", "#b84a00"),
}  # fmt: skip
_RIGHT = "text-align:right;font-variant-numeric:tabular-nums"
#: Most settings shown as columns of their own, and most characters of one.
_MOST, _LONG = 5, 24


def progress_html(rows: pd.DataFrame, probes: Sequence[Probe]) -> str:
    """One bar for the whole sweep, the share of its tokens that is trained, with states, speed and time left."""
    part = told.trained(rows, probes)
    percent = math.floor(100 * part + 1e-9)
    rate, left = float(rows["tokens_per_second"].sum()), told.remaining(rows, probes)
    words = [f"{percent}% of {human(float(sum(p.tokens for p in probes)))} tokens"]
    words += [f"{human(rate)} tokens/s"] if rate > 0 else []
    words += [f"about {told.duration(left)} left"] if math.isfinite(left) else []
    colour = "#00795a" if part >= 1 else "#0072B2"
    return (
        "<div style='width:520px;max-width:100%;line-height:1.5;margin-right:16px'>"
        f"<b>{escape(told.headline(rows))}</b>"
        f"<div role='progressbar' aria-valuemin='0' aria-valuemax='100' aria-valuenow='{percent}' "
        "aria-label='Tokens trained' style='height:10px;border-radius:5px;background:#e6e8ec;overflow:hidden'>"
        f"<div style='height:100%;width:{100 * part:.2f}%;background:{colour}'></div></div>"
        f"<span style='font-variant-numeric:tabular-nums'>{escape(' · '.join(words))}</span></div>"
    )


def run_name(id: str, values: Mapping[str, Any]) -> str:
    """A run in words: how its id begins, and up to five settings in which it differs from the others."""
    return " ".join([id[:8], *(f"{name}={_value(value)}" for name, value in list(values.items())[:_MOST])])


def runs_html(rows: pd.DataFrame, probes: Sequence[Probe], settings: Mapping[str, np.ndarray], most: int) -> str:
    """A table of at most `most` runs: what tells them apart, state, progress, loss, speed, time left, verdict."""
    shown = told.chosen(rows, most)
    names = list(settings)[:_MOST]
    heads = [
        "Run",
        *(quantity(name).meaning for name in names),
        "State",
        "Progress",
        "Loss",
        "Tokens/s",
        "Time left",
        "On",
    ]
    left = {"Run", "State", "Progress", "On"}
    head = "".join(f"<th style='{'text-align:left' if h in left else _RIGHT};{_PAD}'>{escape(h)}</th>" for h in heads)
    body = "".join(
        _row(one, [settings[name][place] for name in names])
        for place, one in zip(shown.index, shown.to_dict("records"), strict=True)
    )
    notes = []
    if len(shown) < len(rows):
        others = rows.drop(shown.index)
        notes.append(f"… and {len(others)} more that are not shown: {told.counted(others['state'])}")
    if len(settings) > len(names):
        notes.append(f"the runs differ in {', '.join(list(settings)[_MOST:])}, too")
    note = f"<div style='color:#667085'>{escape('; '.join(notes))}</div>" if notes else ""
    return (
        f"<div style='overflow-x:auto'><table style='border-collapse:collapse;line-height:1.6'><tr>{head}"
        f"<th style='text-align:left;{_PAD}'>Verdict</th></tr>{body}</table>{note}</div>"
    )


_PAD = "padding:0 14px 0 0;white-space:nowrap;vertical-align:top"


def _row(one: Mapping[str, Any], values: Sequence[Any]) -> str:
    sign, colour = _SIGNS.get(one["state"], ("?", "#667085"))
    state = told.SPOKEN.get(one["state"], one["state"])
    part = min(max(one["fraction"], 0.0), 1.0)
    bar = (
        "<div style='display:inline-block;width:80px;height:8px;border-radius:4px;background:#e6e8ec;"
        f"overflow:hidden;margin-right:6px'><div style='height:100%;width:{100 * part:.1f}%;background:{colour}'></div>"
        f"</div>{math.floor(100 * part + 1e-9)}%"
    )
    loss = "–" if math.isnan(one["loss"]) else f"{one['loss']:.4f}" if abs(one["loss"]) < 1e6 else f"{one['loss']:.3g}"
    rate = "–" if math.isnan(one["tokens_per_second"]) else human(one["tokens_per_second"])
    left = "–" if math.isnan(one["eta_seconds"]) else told.duration(one["eta_seconds"])
    cells = [
        f"<td style='{_PAD};font-family:monospace' title='{escape(str(one['id']))}'>{escape(str(one['id'])[:8])}</td>",
        *(f"<td style='{_RIGHT};{_PAD}'>{escape(_value(value))}</td>" for value in values),
        f"<td style='{_PAD};color:{colour}'>{sign} {escape(str(state))}</td>",
        f"<td style='{_PAD};font-variant-numeric:tabular-nums'>{bar}</td>",
        *(f"<td style='{_RIGHT};{_PAD}'>{escape(text)}</td>" for text in (loss, rate, left)),
        f"<td style='text-align:left;{_PAD}'>{escape(told.printable(one['place'] or '–'))}</td>",
        f"<td style='text-align:left;max-width:420px;white-space:normal'>{escape(told.printable(one['verdict'] or ''))}"
        "</td>",
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _value(value: Any) -> str:
    text = human(float(value), 4) if isinstance(value, int | float | np.number) else str(value)
    return text if len(text) <= _LONG else text[: _LONG - 1] + "…"
