"""The figure of loss curves under schedules draws its own numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from workbench import figures
from workbench.analysis.schedule_curves import fit_curves
from workbench.figures.schedule_ends import decay_shares, ends
from workbench.figures.schedules import curves, logged
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
    for panel in spec.get("vconcat", [spec]):
        for layer in panel.get("layer", [panel]):
            if layer.get("name", "").startswith(name):  # Altair numbers the layers of a panel
                data = layer.get("data") or spec["data"]  # one layer alone hands its data up
                return pd.DataFrame(spec["datasets"][data["name"]])
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


def test_what_is_only_logged_needs_no_law(result):
    chart = logged({"wsd": result.curves["wsd"]}, {name: result.schedules[name] for name in ("wsd", "constant")})
    dots, rates = drawn(chart, "logged"), drawn(chart, "rates")
    loss = result.curves["wsd"].set_index("step")["loss"]
    np.testing.assert_allclose(dots["y"], loss[dots["x"]], rtol=1e-5)
    assert set(dots["name"]) == {"wsd"} and set(rates["name"]) == {"wsd", "constant"}
    assert "of constant only the rate" in figures.text(chart) and figures.png(chart)[:4] == b"\x89PNG"
    assert "No curve" in figures.text(logged({}, {}))
    with pytest.raises(ValueError, match="'wsd' has no schedule"):
        logged({"wsd": result.curves["wsd"]}, {})


def test_the_band_of_another_schedule_is_said_and_as_wide(result):
    three = result.refit(list(result.curves))
    chart = three.plot(["wsd"], kind="schedule")
    assert "leaving out each fitted curve" in figures.text(chart)
    band = next(layer for layer in chart.to_dict()["vconcat"][0]["layer"] if layer["mark"]["type"] == "area")
    rows = pd.DataFrame(chart.to_dict()["datasets"][band["data"]["name"]])
    assert np.allclose(np.log(rows["high"] / rows["low"]), np.log(rows["high"] / rows["low"]).iloc[0], atol=1e-4)


def test_ends_are_the_last_losses_and_their_predictions(result):
    three = result.refit(list(result.curves))
    chart = ends({"two": result, "three": three}, ["wsd", "<b>cosine</b>"], kind="curve", n=20)
    dots = drawn(chart, "ends").set_index(["by", "name"])["x"]
    for name in ("wsd", "<b>cosine</b>"):
        assert dots["measured", name] == pytest.approx(result.curves[name]["loss"].iloc[-1], rel=1e-5)
        for label, law in (("two", result), ("three", three)):
            assert dots[label, name] == pytest.approx(law.predict(name, [800], n=0)["prediction"].iloc[0], rel=1e-5)
    said = figures.text(chart)
    assert "two: fitted on constant, wsd" in said and "parameters, without the law's own error" in said
    assert set(drawn(ends({"two": result}, n=0), "ends")["name"]) == {"<b>cosine</b>"}
    assert "No curve to draw" in figures.text(ends({"three": three}))
    assert "No fit" in figures.text(ends({}))
    with pytest.raises(ValueError, match="no curve 'x' in 'two'"):
        ends({"two": result}, ["x"])


def test_decay_shares_are_those_of_the_schedules_and_runs(result):
    trained = pd.DataFrame({"share": [0.2, 1.0], "loss": [2.5, 2.6]})
    chart = decay_shares({"law": result}, 800, trained, end=1e-4, n=0)
    lines, runs, best = drawn(chart, "shares"), drawn(chart, "trained"), drawn(chart, "best")
    for share in (0.1, 0.5, 1.0):
        schedule = Schedule.wsd(800, 2e-3, round(800 * share), 1e-4)
        expected = result.predict(schedule, [800], n=0)["prediction"].iloc[0]
        assert lines.set_index("x")["y"][share] == pytest.approx(expected, rel=1e-5)
    assert runs[["x", "y"]].to_numpy().tolist() == [[0.2, 2.5], [1.0, 2.6]]
    assert best["y"].tolist() == [lines["y"].min()] and figures.png(chart)[:4] == b"\x89PNG"
    with pytest.raises(ValueError, match="no fit to draw"):
        decay_shares({}, 800, trained)
