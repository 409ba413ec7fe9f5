"""A panel as small as one can be, for what all panels have in common."""

from __future__ import annotations

from dataclasses import dataclass

import altair as alt
import ipywidgets as widgets
import pandas as pd

from workbench import figures
from workbench.figures.style import title
from workbench.panels.base import Panel, guarded
from workbench.panels.slider import Slider
from workbench.panels.state import State
from workbench.runs.load import load

NOTHING = ("Nothing to draw", "Two runs with a positive loss and tokens are needed; load runs that were trained.")


def scatter(runs, power: float = 0.3, left_out: tuple[str, ...] = ()) -> alt.TopLevelMixin:
    """Loss against tokens, with a power law through nothing in particular; runs that are left out are hollow."""
    frame = measured(runs)
    if frame.empty:
        return figures.empty(*NOTHING)
    frame = frame.assign(kept=~frame["run"].isin(left_out)).head(2000)
    said = f"{len(frame)} runs, {int((~frame['kept']).sum())} left out (hollow)"
    points = (
        alt.Chart(frame, name="runs")
        .mark_point(size=90, filled=False)
        .encode(
            alt.X("tokens:Q", title="Training tokens D").scale(type="log"),
            alt.Y("loss:Q", title="Loss L (nats/token)").scale(type="log"),
            fillOpacity=alt.condition("datum.kept", alt.value(1), alt.value(0)),
            fill=alt.value("#0072B2"),
            tooltip=["run:N", "loss:Q"],
        )
    )
    line = alt.Chart(curve(frame, power), name="line").mark_line().encode(x="tokens:Q", y="loss:Q")
    return alt.layer(points, line).properties(title=title("Loss against tokens", said), width=520, height=300)


def measured(runs) -> pd.DataFrame:
    """Runs that can be drawn."""
    frame = runs.frame
    if not {"run", "tokens", "loss"} <= set(frame.columns):
        return pd.DataFrame(columns=["run", "tokens", "loss"])
    return frame.loc[(frame["loss"] > 0) & (frame["tokens"] > 0), ["run", "tokens", "loss"]].reset_index(drop=True)


def curve(frame: pd.DataFrame, power: float) -> pd.DataFrame:
    """The line, at every number of tokens."""
    tokens = pd.Series(sorted(frame["tokens"].unique()))
    return pd.DataFrame({"tokens": tokens, "loss": frame["loss"].max() * (tokens / tokens[0]) ** -power})


@dataclass(frozen=True)
class DemoState(State):
    power: float = 0.3
    left_out: tuple[str, ...] = ()


class DemoPanel(Panel):
    """A slider, a name to type, a brush, and a shared selection."""

    State = DemoState

    def __init__(self, runs, state: DemoState | None = None) -> None:
        self.runs = load(runs)
        super().__init__(state or DemoState())
        self.heard: list[dict] = []
        self.slider = Slider("Power", self._state.power, 0.0, 1.0)
        self.named = widgets.Text(description="Leave out", continuous_update=False)
        self.children = (self.slider, self.named, self.message, self.report, self.chart, self.copy)
        if len(measured(self.runs)) < 2:
            self.tell(NOTHING[1])
        self.share(self.runs)
        self.slider.observe(self._slid, "value")
        self.named.observe(self._typed, "value")
        self.redraw(self._full)

    @property
    def state(self) -> DemoState:
        return self._state

    @state.setter
    def state(self, state: DemoState) -> None:
        self._state = state
        self.slider.value = state.power
        self.shared.change(self, left_out=state.left_out)
        self.tell(None)
        self.redraw(self._full, self._quick)

    def figure(self):
        return scatter(self.runs, self._state.power, self._state.left_out)

    def table(self) -> pd.DataFrame:
        return measured(self.runs)

    def code(self) -> str:
        s = self._state
        return f"figure = scatter(runs, power={s.power!r}, left_out={s.left_out!r})\n"

    def brushed(self, name, box) -> None:
        self.heard.append(box)

    def follow(self, selection) -> None:
        self._state = self._state.replace(left_out=selection.left_out)
        self.redraw(self._full, self._quick)

    @guarded
    def _slid(self, _) -> None:
        if self.slider.value != self._state.power:
            self.state = self._state.replace(power=self.slider.value)

    @guarded
    def _typed(self, change) -> None:
        name = change["new"]
        if not name:
            return
        if name not in set(self.runs.ids):
            raise ValueError(f"no run is called {name!r}; type a run's name")
        self.state = self._state.replace(left_out=(*self._state.left_out, name))
        self.named.value = ""

    def _quick(self) -> None:
        if not measured(self.runs).empty:
            self.chart.patch(line=curve(measured(self.runs), self._state.power))

    def _full(self) -> None:
        chart = self.figure()
        if not measured(self.runs).empty:
            interval = alt.IntervalSelectionConfig(type="interval")
            chart.params = [alt.TopLevelSelectionParameter(name="brush", select=interval, views=["runs"])]
        self.show(chart, ["brush"])
