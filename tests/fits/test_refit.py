"""Refitting from an optimum, and holding runs out, agree with fits made from nothing."""

import numpy as np
import pytest

import workbench
from workbench.testing.panels import example_runs


@pytest.fixture(scope="module")
def runs():
    return example_runs()


@pytest.fixture(scope="module")
def fit(runs):
    return workbench.fit(runs, "chinchilla", starts=64)


@pytest.mark.parametrize(
    "change",
    [
        {"delta": 1e-5},
        {"delta": 1.0},
        {"objective": "log-mse"},
        {"objective": "log-mae"},
        {"fixed": {"E": 1.6}},
        {"tied": {"beta": "alpha"}},
        {"fixed": {"E": 1.6}, "tied": {"beta": "alpha"}, "delta": 0.1},
    ],
)
def test_refit_finds_what_a_search_from_nothing_finds(fit, runs, change):
    near, full = fit.refit(**change), workbench.fit(runs, "chinchilla", **change)
    assert near.value == pytest.approx(full.value, rel=1e-6)
    assert near.params == pytest.approx(full.params, rel=1e-3)
    assert near.diagnostics.converged and near.points is fit.points


def test_refit_keeps_what_is_not_given_and_refuses_what_needs_other_runs(fit):
    held = fit.refit(fixed={"E": 1.6})
    assert held.refit(delta=0.1).params["E"] == 1.6
    assert held.refit(fixed={}).params == pytest.approx(fit.params, rel=1e-4)
    with pytest.raises(ValueError, match=r"workbench\.fit"):
        fit.refit(objective="mse")
    with pytest.raises(ValueError, match="no parameter 'gamma'"):
        fit.refit(fixed={"gamma": 1.0})


def test_hold_out_is_the_fit_of_the_others_and_its_errors_on_these(fit, runs):
    held = fit.hold_out(0.2, ["run 3"])
    ids = held.runs.ids
    by_size = runs.frame.sort_values("flops", ascending=False)["run"].tolist()
    assert set(ids) == {*by_size[: len(ids) - 1], "run 3"} and len(ids) - 1 >= 0.2 * len(runs) - 0.5
    rest = workbench.fit(runs.where(~runs.frame["run"].isin(ids)), "chinchilla")
    assert held.fit.params == pytest.approx(rest.params, rel=1e-4)
    frame = held.runs.frame
    error = rest.predict(frame)["prediction"].to_numpy() / frame["loss"].to_numpy() - 1
    assert held.errors == pytest.approx(error, abs=1e-6)
    assert held.error == pytest.approx(np.sqrt((error**2).mean()), rel=1e-3)
    assert {why for run, why in held.fit.points.left_out.items() if run in ids} == {"held out"}


@pytest.mark.parametrize("arguments", [(0.0,), (1.0,), (-0.1,), (0.2, ["no such run"]), (0.99,)])
def test_hold_out_says_what_it_takes(fit, arguments):
    with pytest.raises(ValueError, match=r"hold|held|no run called"):
        fit.hold_out(*arguments)
