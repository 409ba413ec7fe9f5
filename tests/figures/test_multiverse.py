"""The specification curve and the picture of influence draw the numbers of their objects."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import workbench
from tests.fits.conftest import chinchilla_frame
from workbench.analysis.choices import Choice
from workbench.analysis.multiverse import multiverse
from workbench.figures import render
from workbench.figures.influence import influence as draw_influence
from workbench.runs.load import load


@pytest.fixture(scope="module")
def found():
    return multiverse(chinchilla_frame(n=60), flops=1e22)


def named(spec: dict, name: str) -> pd.DataFrame:
    for part in spec["vconcat"]:
        for layer in part.get("layer", []):
            if str(layer.get("name")).rsplit("_", 1)[0] == name:
                return pd.DataFrame(spec["datasets"][layer["data"]["name"]])
    raise AssertionError(f"no layer called {name}")


def test_curve_is_sorted_and_complete(found):
    spec = found.plot().to_dict()
    drawn = named(spec, "estimates")["estimate"].to_numpy()
    own = named(spec, "default")
    assert (np.diff(drawn) >= 0).all()
    assert sorted([*drawn, *own["estimate"]]) == pytest.approx(sorted(found.estimates), rel=1e-5)
    assert own["estimate"][0] == pytest.approx(found.default["estimate"], rel=1e-5)
    assert f"{len(found.estimates)} analyses" in render.text(spec)


def test_matrix_marks_each_analysis_once_in_every_dimension(found):
    spec = found.plot().to_dict()
    matrices = spec["vconcat"][1:]
    assert len(matrices) == len(found.varied)
    for part in matrices:
        marks = pd.concat([pd.DataFrame(spec["datasets"][layer["data"]["name"]]) for layer in part["layer"]])
        assert sorted(marks["at"]) == list(range(len(found.estimates)))
    # the same column below and above is the same analysis
    estimates = pd.concat([named(spec, "estimates"), named(spec, "default")]).set_index("at")["estimate"]
    objective = next(p for p in matrices if p["title"]["text"].startswith("Objective"))
    marks = pd.concat([pd.DataFrame(spec["datasets"][layer["data"]["name"]]) for layer in objective["layer"]])
    for option, part in marks.groupby("option"):
        frame = found.frame[found.frame["counted"] & (found.frame["objective"] == option)]
        assert sorted(estimates[part["at"]]) == pytest.approx(sorted(frame["estimate"]), rel=1e-5)


def test_curve_fits_a_page_and_can_be_rendered(found):
    assert render.size(render.png(found.plot()))["width"] <= 900


def test_no_answer_is_a_picture_that_says_so():
    few = [Choice("subset", o, keep=lambda f, k=k: np.arange(len(f)) < k) for o, k in (("two", 2), ("three", 3))]
    found = multiverse(chinchilla_frame(n=40), choices=few, drop=["outliers", "exponents", "objective"])
    assert "No analysis answers" in render.text(found.plot())


def test_influence_draws_its_ranking_and_all_runs():
    frame = chinchilla_frame(n=40)
    frame["run"] = [f"<i>{k}</i>" for k in range(40)]
    fitted = workbench.fit(load(frame), "chinchilla", objective="log-mse")
    found = fitted.influence(flops=1e22)
    spec = draw_influence(found, rows=5).to_dict()
    assert len(named(spec, "runs")) == 40
    changes = named(spec, "runs").set_index("run")["change"]
    expected = 100 * np.expm1(found.frame.set_index("run")["change"])
    assert changes[expected.index].to_numpy() == pytest.approx(expected.to_numpy(), rel=1e-4)
    assert json.dumps(found.frame["run"][0]) in json.dumps(spec["vconcat"][0]) or found.frame["run"][0] in str(
        spec["datasets"]
    )
    with pytest.raises(ValueError, match="at least one run"):
        draw_influence(found, rows=0)
