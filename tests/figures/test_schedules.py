"""The figure of loss curves under schedules draws its own numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from workbench import figures
from workbench.analysis.schedule_curves import fit_curves
from workbench.figures.schedules import curves
from workbench.laws import get
from workbench.laws.schedules.schedule import Schedule

SCHEDULES = [
    Schedule.constant(800, 2e-3, name="constant"),
    Schedule.wsd(800, 2e-3, 200, 1e-4, name="wsd"),
    Schedule.cosine(800, 2e-3, 1e-4, name="<b>cosine</b>"),
]


@pytest.fixture(scope="module")
def result():
    law = get("annealing").bind(SCHEDULES)
    truth = {"L_0": 2.0, "A": 0.8, "alpha": 0.5, "C": 2.0, "tau": 60.0}
    step, rng = np.arange(20, 801, 4), np.random.default_rng(0)
    given = {}
    for j, schedule in enumerate(SCHEDULES, 1):
        loss = law.predict(truth, {"t": step.astype(float), "j": np.full(step.size, float(j))})
        given[schedule.name] = schedule.frame(step).assign(loss=loss * np.exp(rng.normal(0, 1e-3, step.size)))
    return fit_curves(given, "annealing", train=["constant", "wsd"], starts=32)


def drawn(chart, name):
    spec = chart.to_dict()
    for panel in spec["vconcat"]:
        for layer in panel.get("layer", [panel]):
            if layer.get("name", "").startswith(name):  # Altair numbers the layers of a panel
                return pd.DataFrame(spec["datasets"][layer["data"]["name"]])
    raise AssertionError(f"nothing called {name}")


def test_lines_are_the_predictions_and_dots_the_log(result):
    chart = result.plot(n=20)
    lines, dots = drawn(chart, "predicted"), drawn(chart, "logged")
    assert lines.groupby("name")["kind"].unique().map(list).to_dict() == {
        "constant": ["fitted"], "wsd": ["fitted"], "<b>cosine</b>": ["predicted"]
    }  # fmt: skip
    for name, mine in lines.groupby("name"):
        expected = result.predict(name, mine["x"], n=0)["prediction"]
        np.testing.assert_allclose(mine["y"], expected, rtol=1e-5)
    for name, mine in dots.groupby("name"):
        loss = result.curves[name].set_index("step")["loss"]
        np.testing.assert_allclose(mine["y"], loss[mine["x"]], rtol=1e-5)
        assert mine["x"].max() == 800
    assert "2 fitted (solid), 1 predicted (dashed)" in figures.text(chart)
    assert "are not drawn" in figures.text(chart) and "without the law's own error" in figures.text(chart)


def test_rates_are_the_schedules(result):
    rates = drawn(result.plot(n=0), "rates")
    for schedule in SCHEDULES:
        mine = rates[rates["name"] == schedule.name]
        np.testing.assert_allclose(mine["y"], schedule.rates[mine["x"].astype(int) - 1], rtol=2e-2)
        assert mine["x"].iloc[[0, -1]].tolist() == [1, 800]


def test_axes_have_units_and_further_schedules_are_drawn(result):
    new = Schedule.linear(1000, 1e-3, name="linear")
    chart = curves(result, ["wsd"], schedules=[new], n=0)
    assert "1 fitted (solid), 1 predicted (dashed)" in figures.text(chart)
    assert set(drawn(chart, "logged")["name"]) == {"wsd"} and drawn(chart, "rates")["x"].max() == 1000
    text = chart.to_json()
    assert "nats/token" in text and "Learning rate" in text and "Step" in text
    assert figures.png(chart)[:4] == b"\x89PNG"


def test_bad_names_are_told(result):
    with pytest.raises(ValueError, match="no curve 'x'"):
        curves(result, ["x"])
    with pytest.raises(ValueError, match="same name"):
        curves(result, ["wsd"], schedules=[SCHEDULES[1]])
    assert "No curve" in figures.text(curves(result, []))
