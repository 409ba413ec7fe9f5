"""`ParameterControl`: one parameter of a law, free, held at a value, or kept equal to another."""

from __future__ import annotations

from collections.abc import Sequence

import ipywidgets as widgets
import numpy as np

from workbench.laws.base import Parameter
from workbench.panels.slider import Slider

__all__ = ["FIXED", "FREE", "ParameterControl"]

FREE, FIXED = "free", "fixed"
#: A slider reaches this factor to both sides of the estimate, farther for prefactors, which move together.
_NEAR, _FAR = 4.0, 10.0


class ParameterControl:
    """A choice of how a parameter is treated, and a slider that shows its value and fixes it when moved."""

    def __init__(self, parameter: Parameter, symbols: Sequence[str]) -> None:
        symbol = parameter.symbol
        self.parameter = parameter
        ties = [(f"= {other}", other) for other in symbols if other != symbol]
        self.mode = widgets.Dropdown(
            description=f"{symbol} is", options=[("free", FREE), ("fixed", FIXED), *ties], layout={"width": "150px"},
            style={"description_width": "auto"}, tooltip=parameter.meaning,
        )  # fmt: skip
        self.value = Slider(symbol, 0.0, 0.0, 1.0)
        self._placed = False
        self.box = widgets.HBox([self.value, self.mode], layout=widgets.Layout(margin="0 14px 0 0"))

    def show(self, value: float, mode: str, keep_value: bool) -> None:
        """Set the widgets.

        Args:
            value: the estimate, or where it is held.
            mode: `FREE`, `FIXED` or the symbol it is tied to.
            keep_value: leave the slider where it is: a value that was refused is its owner's to mend.
        """
        if self.mode.value != mode:
            self.mode.value = mode
        self.value.disabled = mode not in (FREE, FIXED)
        if keep_value or not np.isfinite(value):
            return
        if not self._placed or not self.value.min <= value <= self.value.max:
            self._place(value)
        # A slider in somebody's hand would jitter if its own value came back rounded.
        if not np.isclose(self.value.value, value, rtol=5e-4, atol=1e-12):
            self.value.value = float(f"{value:.5g}")

    def _place(self, value: float) -> None:
        """A range of the slider around `value`, within the bounds."""
        p = self.parameter
        if p.log and value > 1e-12:
            factor = _FAR if value > 10 else _NEAR
            low, high, log = max(value / factor, p.low), min(value * factor, p.high), True
        else:
            reach = max(2 * abs(value), 1.0)
            low, high, log = max(value - reach, p.low), min(value + reach, p.high), False
        log = log and low > 0
        if not low < high:
            return
        with self.value.hold_sync():
            # Wide enough for the old value and the new one while the bounds move one after the other.
            self.value.min, self.value.max = min(low, self.value.min), max(high, self.value.max)
            self.value.value = float(f"{value:.5g}")
            self.value.min, self.value.max, self.value.log = low, high, log
            self.value.step = (np.log10(high / low) if log else high - low) / 200
        self._placed = True
