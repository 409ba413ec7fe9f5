"""Residuals, comparison, runs, loss curves, plan and intervals."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

import workbench
from tests.figures.conftest import layers, rows
from workbench import figures
from workbench.figures.data import thin
from workbench.runs.load import load


def test_residuals_are_percent_errors(fit):
    drawn = pd.DataFrame(rows(figures.residuals(fit), "runs"))
    expected = 100 * np.expm1(fit.residuals)  # the fit's residuals are differences of logarithms
    assert sorted(drawn["error"]) == pytest.approx(sorted(expected), abs=1e-3)


@pytest.fixture(scope="module")
def compared(runs):
    return workbench.compare(runs, ["chinchilla", "power_constant", "constant"], holdout="flops > 1e18", n=40)


def test_comparison_separates_fitted_from_held_out(compared, runs):
    spec = figures.comparison(compared).to_dict()
    points = max(spec["datasets"].values(), key=len)
    frame = pd.DataFrame(points)
    held = set(runs.where("flops > 1e18").frame["run"])
    for _, law in frame.groupby("law"):
        assert set(law["run"][law["kind"] == "held out"]) == held
        assert set(law["run"][law["kind"] == "fitted"]) == set(runs.frame["run"]) - held
    best = frame[(frame["law"] == "Chinchilla") & (frame["kind"] == "held out")]
    assert best["error"].abs().mean() == pytest.approx(100 * compared.frame["heldout_error"][0], rel=1e-3)
    assert f"{len(held)} held out" in figures.text(spec) and "flops > 1e18" in figures.text(spec)
    assert "Chinchilla predicts the held-out runs best" in figures.text(spec)


def test_comparison_without_hold_out_does_not_claim_to_extrapolate(runs):
    chart = figures.comparison(workbench.compare(runs, ["chinchilla", "constant"], n=20))
    assert "says nothing about larger scales" in figures.text(chart)
    assert "AICc above the best" in json.dumps(chart.to_dict())


def test_scatter_draws_every_run_and_marks_problems(runs):
    frame = runs.frame.drop(columns="problem").copy()
    frame.loc[0, "loss"] = np.nan
    frame.loc[1, "loss"] = -2.0
    chart = figures.scatter(load(frame), x="flops", color="params")
    assert "36 runs" in figures.text(chart) and "1 lack a coordinate" in figures.text(chart)
    drawn = rows(chart, "runs")
    assert len(drawn) == 35
    assert any(r["problem"] for r in drawn if r["run"] == "run 1")
    with pytest.raises(ValueError, match="no column 'recipe'"):
        figures.scatter(runs, x="recipe")
    nothing = figures.scatter(load(frame.assign(loss=np.nan)))
    assert "No run to draw" in figures.text(nothing)


@pytest.fixture(scope="module")
def with_curves(runs):
    step = np.arange(1, 20_001, dtype=float)
    curve = 2 + 5 * step**-0.3
    spiked = curve.copy()
    spiked[13_337] = 50.0
    few = runs.where(np.arange(len(runs)) < 4)
    curves = {
        "run 0": pd.DataFrame({"step": step, "loss": spiked}),
        "run 1": pd.DataFrame({"step": step, "loss": curve}),
    }
    return dataclasses.replace(few, curves=curves)


def test_loss_curves_keep_spikes_and_say_they_are_thinned(with_curves):
    chart = figures.curves(with_curves)
    drawn = {r["run"]: r for r in rows(chart, "curves")}
    assert set(drawn) == {"run 0", "run 1"}
    assert max(drawn["run 0"]["y"]) == 50.0
    assert all(len(r["x"]) == len(r["y"]) <= 2000 for r in drawn.values())
    assert drawn["run 1"]["x"][0] == 1 and drawn["run 1"]["x"][-1] == 20_000
    assert "2 of 4 runs have a curve" in figures.text(chart) and "minima and maxima kept" in figures.text(chart)
    with pytest.raises(ValueError, match="the curves hold loss, step"):
        figures.curves(with_curves, y="accuracy")


def test_tokens_of_a_curve_follow_from_the_run(with_curves):
    table = with_curves.derive(steps="20000")
    drawn = rows(figures.curves(table, x="tokens"), "curves")[0]
    assert drawn["x"][-1] == pytest.approx(table.frame["tokens"][0], rel=1e-5)


@pytest.mark.parametrize("most", [4, 10, 101])
def test_thinning_keeps_ends_and_extremes(most):
    y = np.random.default_rng(0).standard_normal(1000).cumsum()
    keep = thin(y, most)
    assert len(keep) <= most
    assert keep[0] == 0 and keep[-1] == 999
    assert {int(np.argmin(y)), int(np.argmax(y))} <= set(keep.tolist())


def test_plan_draws_its_own_numbers(fit):
    planned = fit.plan([1e19, 1e20, 1e21], n=40)
    chart = figures.plan(planned)
    drawn = pd.DataFrame(layers(chart, "point")[0])
    tokens = drawn[drawn["group"].str.contains("token")]
    assert tokens["y"].tolist() == pytest.approx(planned.frame["tokens"].tolist(), rel=1e-5)
    assert (drawn["low"] <= drawn["y"]).all() and (drawn["y"] <= drawn["high"]).all()
    assert "times the largest run" in figures.text(chart)
    assert figures.plan(fit, flops=[1e20]).to_dict()
    with pytest.raises(ValueError, match="budgets"):
        figures.plan(fit)


def test_intervals_show_three_methods_and_the_truth(fit):
    chart = figures.intervals(fit, truth={"E": 1.7}, n=40)
    assert "dotted: known value" in figures.text(chart)
    text = json.dumps(chart.to_dict())
    for method in ("bootstrap", "profile", "jacobian"):
        table = fit.intervals(method, n=40)
        assert f"{table['low']['alpha']:.6g}" in text
    with pytest.raises(ValueError, match="truth names 'gamma'"):
        figures.intervals(fit, truth={"gamma": 1.0}, n=40)


def test_laws_along_one_scale_are_compared_along_it():
    tokens = np.geomspace(1e8, 1e11, 24)
    frame = pd.DataFrame({"flops": 6e8 * tokens, "params": 1e8, "tokens": tokens, "loss": 2 + 40 * tokens**-0.2})
    compared = workbench.compare(frame, ["power", "power_constant"], x="tokens", n=50)
    spec = json.dumps(figures.comparison(compared).to_dict())
    assert "Training tokens D" in spec and "Training compute" not in spec
