"""What the form of the probe panel says: the state that its fields describe, and what is wrong in each of them."""

from __future__ import annotations

from typing import Any

from workbench.panels.probes_controls import ProbeControls
from workbench.panels.probes_fields import declared, numbers, read
from workbench.panels.probes_state import ProbeState

__all__ = ["typed"]

#: Fields of the sweep that hold one number: whether it is whole, and what an empty field means.
_SINGLE = {"draws": (True, 16), "draw_seed": (True, 0), "aspect": (False, None), "head_width": (True, None)}


def typed(c: ProbeControls, state: ProbeState) -> tuple[ProbeState, dict[str, str]]:
    """The state that the form describes, and a sentence for each field that cannot be read.

    Args:
        c: the form.
        state: keeps what has no field; no job is shown in the state returned.
    """
    settings, axes, faults = _settings(c)
    single: dict[str, Any] = {}
    for name, (whole, default) in _SINGLE.items():
        text = c.own[name].text.value.strip()
        try:
            found = numbers(name, text, whole) if text else [default]
            if not isinstance(found, list) or len(found) != 1:
                raise ValueError(f"{name} takes one number, not {text!r}.")
            single[name] = found[0]
        except ValueError as error:
            faults[name] = str(error)
            single[name] = default
    described = state.replace(
        task=c.task.value, model=c.model.value, optimizer=c.optimizer.value, settings=settings, axes=axes,
        combine=c.combine.value, sizes=c.sizes.text.value.strip(), horizons=c.horizons.text.value.strip(),
        horizons_in=c.horizons_in.value, count=c.count.value, seeds=c.seeds.text.value.strip() or "1",
        launched=None, job={}, **single,
    )  # fmt: skip
    return described, faults


def _settings(c: ProbeControls) -> tuple[dict[str, Any], dict[str, str], dict[str, str]]:
    """Settings of one value that differ from their defaults, those of several as typed, and faults, by name."""
    settings: dict[str, Any] = {}
    axes: dict[str, str] = {}
    faults: dict[str, str] = {}
    for name, (_, one) in declared(*c.parts).items():
        text = c.texts.get(name, "").strip()
        if not text:
            continue
        try:
            kind, value = read(one, text, c.combine.value != "grid")
        except (ValueError, TypeError) as error:
            faults[name] = str(error)
            continue
        if kind != "one":
            axes[name] = text
        elif value != (list(one.default) if isinstance(one.default, tuple) else one.default):
            settings[name] = value
    return settings, axes, faults
