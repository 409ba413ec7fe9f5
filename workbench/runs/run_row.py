"""One row for a run out of its settings and its final measurements, without two columns for one quantity.

Trackers keep both: ``learning_rate`` among the settings, and ``lr`` logged with every step, small at the end of
its schedule. Which is the run's learning rate is decided here, once for all trackers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from workbench.runs.columns import claimed
from workbench.runs.curves import is_step
from workbench.runs.headers import read_header
from workbench.units import parse_number

__all__ = ["COUNTED", "run_row"]

#: Quantities that a run counts or measures while it trains, so that a final measurement is right about them. For
#: all others the setting is: its learning rate is the peak, a measurement's is the current one.
COUNTED = frozenset({"tokens", "unique_tokens", "flops", "epochs", "steps", "seconds", "loss"})


def run_row(own: Mapping[str, Any], settings: Mapping[str, Any], measured: Mapping[str, Any]) -> dict[str, Any]:
    """A row with all three, as cells: numbers, text, truth values, None; lists as JSON text.

    Args:
        own: what the tracker says about the run: its id, state and the like; never overwritten.
        settings: flat, by dotted keys. One whose name is taken, or whose quantity was measured and is counted
            (`COUNTED`), is kept as ``config.NAME``.
        measured: final values by their logged names. Steps are left out, as the curve's last step is said in
            `own`; so is what a setting states with a number and a run does not count, such as a learning rate.
    """
    quantities = {header: _quantity(header) for header in (*settings, *measured)}
    stated = {quantities[header] for header, value in settings.items() if _is_number(value)} - COUNTED - {None}
    final = {}
    for header, value in measured.items():
        reading = read_header(header)
        if is_step(header) or (reading is not None and reading.name in stated):
            continue
        if header in settings and quantities[header] not in COUNTED:
            continue
        final[header if header not in {*own, "problem", "run"} else f"metric.{header}"] = value
    counted = {name for name in (_quantity(header) for header in (*own, *final)) if name in COUNTED}
    row = dict(own)
    for header, value in settings.items():
        reading = read_header(header)
        taken = header in row or header in final or header in ("problem", "run")
        row[f"config.{header}" if taken or (reading is not None and reading.name in counted) else header] = cell(value)
    return row | {header: cell(value) for header, value in final.items()}


def cell(value: Any) -> Any:
    """A value as a cell of a table: lists and objects as JSON text, the rest as it is."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return json.dumps(value, default=str)


def _quantity(header: str) -> str | None:
    reading = claimed(header)
    return None if reading is None else reading.name


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or value is None:
        return False
    try:
        parse_number(value)
    except ValueError:
        return False
    return True
