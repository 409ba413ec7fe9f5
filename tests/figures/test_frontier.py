"""Figures of the compute-optimal analysis show the numbers they were given, and what was flagged."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from tests.analysis.designs import BALANCED, LEANING, isoflop_frame, loss
from tests.figures.conftest import rows
from workbench.analysis.approaches import approaches
from workbench.analysis.envelope import envelope
from workbench.analysis.frontier import frontier
from workbench.analysis.isoflop import isoflop
from workbench.figures.frontier import frontier as frontier_figure
from workbench.figures.render import png, text


@pytest.fixture(scope="module")
def flagged():
    frame = isoflop_frame(LEANING, (1e19, 1e20, 1e21, 1e22), sizes=9)
    turned = frame["flops"] == 1e20
    frame.loc[turned, "loss"] = 6 - frame.loc[turned, "loss"]
    last = (frame["flops"] == 1e22) & (frame["params"] < frame["params"].max() / 4)
    return isoflop(frame[~last], budgets=[1e19, 1e20, 1e21, 1e22], n=40)


@pytest.fixture(scope="module")
def three():
    n, d = (g.ravel() for g in np.meshgrid(np.geomspace(1e7, 1e11, 11), np.geomspace(3e8, 3e12, 11)))
    noise = np.exp(0.003 * np.random.default_rng(0).standard_normal(n.size))
    return approaches(pd.DataFrame({"params": n, "tokens": d, "loss": loss(BALANCED, n, d) * noise}), n=40)


def test_isoflop_minima_are_filled_and_flagged_ones_hollow_with_the_reason(flagged):
    chart = flagged.plot()
    filled, hollow = (pd.DataFrame(rows(chart, name)) for name in ("minima", "flagged"))
    used = flagged.frame[flagged.frame["used"]]
    np.testing.assert_allclose(filled["x"], used["params"], rtol=1e-5)
    np.testing.assert_allclose(filled["low"], used["params_low"], rtol=1e-5)
    assert len(hollow) == 1 and "below the smallest size" in hollow["why"][0]
    assert "2 budgets flagged (1 hollow, 1 without a minimum" in text(chart)
    assert len(rows(chart, "runs")) == len(flagged.points)
    marks = {layer.get("name"): layer["mark"] for layer in chart.to_dict()["layer"]}
    assert marks["minima"]["filled"] and not marks["flagged"]["filled"]
    assert png(chart)[:4] == b"\x89PNG"


def test_approaches_are_overlaid_with_their_bands(three):
    spec = three.plot().to_dict()
    assert len(spec["hconcat"]) == 2
    for panel, column in zip(spec["hconcat"], ("params", "tokens"), strict=True):
        lines = next(layer for layer in panel["layer"] if layer["mark"]["type"] == "line")
        data = pd.DataFrame(spec["datasets"][lines["data"]["name"]])
        for name, each in three.frontiers.items():
            mine = data[data["group"] == name]
            np.testing.assert_allclose(mine["y"], each.frame[column], rtol=1e-5)
            np.testing.assert_allclose(mine["high"], each.frame[f"{column}_high"], rtol=1e-5)
    words = text(spec)
    assert "Three approaches, one answer?" in words and "121 runs" in words
    low, high = three.frame["a_low"].max(), three.frame["a_high"].min()
    assert ("share a value" in words) == (low <= high)


def test_frontiers_of_laws_are_overlaid_by_name():
    names = {"Hoffmann": {**BALANCED, "beta": 0.28}, "Besiroglu": BALANCED}
    made = {name: frontier(("chinchilla", p), [1e20, 1e24]) for name, p in names.items()}
    spec = json.dumps(frontier_figure(made).to_dict())
    assert all(name in spec for name in names) and "C = 6ND" in spec
    assert frontier_figure(made["Hoffmann"]).to_dict()
    with pytest.raises(ValueError, match="1 to 7"):
        frontier_figure({})


def test_envelope_draws_itself_over_its_curves():
    n, d = (g.ravel() for g in np.meshgrid(np.geomspace(1e7, 1e11, 9), np.geomspace(3e8, 3e12, 9)))
    found = envelope(pd.DataFrame({"params": n, "tokens": d, "loss": loss(BALANCED, n, d)}), n=20)
    chart = found.plot()
    drawn = pd.DataFrame(rows(chart, "envelope"))
    np.testing.assert_allclose(drawn["y"], found.frame["loss"], rtol=1e-5)
    assert (drawn["kind"] == "used").to_numpy().tolist() == found.frame["used"].tolist()
    assert f"{found.frame['used'].sum()} of {len(found.frame)} levels used" in text(chart)


def test_names_from_logs_stay_text():
    frame = isoflop_frame(BALANCED).assign(run=lambda f: [f"<script>{i}" for i in range(len(f))])
    found = isoflop(frame, n=20)
    assert found.points["run"].str.startswith("<script>").all()
    assert "<script" not in found._repr_html_()
