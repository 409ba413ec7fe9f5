"""`Slider`: a labelled slider that the keyboard works and a screen reader can name.

The slider of ipywidgets has a handle without an accessible name. This one is the browser's own range input
with a number beside it, so that a value can also be typed.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import anywidget
import traitlets

__all__ = ["Slider"]


class Slider(anywidget.AnyWidget):
    """A number between two bounds, chosen by dragging, arrow keys or typing.

    Attributes:
        value: the number.
        min: the lower bound.
        max: the upper bound.
        step: distance between two positions; of decades where `log` is true.
        log: whether positions are spaced by factors.
        description: the visible label.
        unit: printed behind the number.
        disabled: whether it is greyed out.
    """

    _esm = Path(__file__).with_name("slider.js")
    _css = Path(__file__).with_name("slider.css")
    value = traitlets.Float().tag(sync=True)
    min = traitlets.Float(0.0).tag(sync=True)
    max = traitlets.Float(1.0).tag(sync=True)
    step = traitlets.Float(0.01).tag(sync=True)
    log = traitlets.Bool(False).tag(sync=True)
    description = traitlets.Unicode().tag(sync=True)
    unit = traitlets.Unicode().tag(sync=True)
    disabled = traitlets.Bool(False).tag(sync=True)

    def __init__(
        self, description: str, value: float, min: float, max: float, *, step: float | None = None, **traits: Any
    ) -> None:
        """A slider.

        Args:
            description: the visible label.
            value: where it starts.
            min: the lower bound.
            max: the upper bound.
            step: default a two-hundredth of the range.
            **traits: other attributes.

        Raises:
            ValueError: the bounds are not in order, or a logarithmic slider would begin at zero or below.
        """
        log = traits.get("log", False)
        if not (math.isfinite(min) and math.isfinite(max) and min < max):
            raise ValueError(f"a slider from {min} to {max} has no room; give finite bounds, the lower first.")
        if log and min <= 0:
            raise ValueError(f"a logarithmic slider cannot begin at {min}; give a positive lower bound.")
        if step is None:
            step = (math.log10(max / min) if log else max - min) / 200
        super().__init__(description=description, value=value, min=min, max=max, step=step, **traits)

    @traitlets.validate("value")
    def _inside(self, proposal: dict[str, Any]) -> float:
        value = proposal["value"]
        if not math.isfinite(value):
            raise traitlets.TraitError(f"{self.description}: {value} is no finite number.")
        return min(max(value, self.min), self.max)
