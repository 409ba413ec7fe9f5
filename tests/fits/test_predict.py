"""Predictions: shapes, coverage of new runs, extrapolation, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import workbench
from tests.fits.conftest import TRUTH, chinchilla_frame, power_frame


def test_prediction_is_the_formula_at_the_estimate():
    fit = workbench.fit(chinchilla_frame(0), "chinchilla")
    p = fit.params
    row = fit.predict(params=7e10, tokens=1.4e12).iloc[0]
    assert row["prediction"] == pytest.approx(p["E"] + p["A"] * 7e10 ** -p["alpha"] + p["B"] * 1.4e12 ** -p["beta"])


def test_numbers_broadcast_against_arrays():
    fit = workbench.fit(chinchilla_frame(0), "chinchilla")
    assert len(fit.predict(params=1e9, tokens=[1e9, 1e10, 1e11])) == 3


def test_intervals_for_one_run_cover_new_runs_and_are_wider_than_the_curve():
    inside, n = 0, 0
    for seed in range(10):
        fit = workbench.fit(chinchilla_frame(seed, tails=30), "chinchilla", starts=64)
        new = chinchilla_frame(1000 + seed, tails=30)
        run = fit.predict(new, n=200)
        curve = fit.predict(new, kind="curve", n=200)
        assert ((run["high"] - run["low"]) > (curve["high"] - curve["low"])).mean() > 0.99
        inside += ((new["loss"] >= run["low"]) & (new["loss"] <= run["high"])).sum()
        n += len(new)
    assert 0.92 < inside / n < 0.975


@pytest.mark.long
def test_the_curve_is_covered_where_runs_are():
    hits = []
    for seed in range(40):
        fit = workbench.fit(chinchilla_frame(seed, n=100, tails=30), "chinchilla", starts=64)
        row = fit.predict(params=1e9, tokens=2e10, kind="curve", n=200).iloc[0]
        truth = TRUTH["E"] + TRUTH["A"] * 1e9 ** -TRUTH["alpha"] + TRUTH["B"] * 2e10 ** -TRUTH["beta"]
        hits.append(row["low"] <= truth <= row["high"])
    assert np.mean(hits) > 0.85  # 34 of 40; binomial(40, 0.95) is below with probability 0.3 %


def test_extrapolation_is_the_ratio_of_compute():
    frame = power_frame()
    fit = workbench.fit(frame, "power")
    assert fit.predict(flops=[1e21, 1e23])["extrapolation"].tolist() == pytest.approx([1.0, 100.0])


def test_over_training_inputs_are_derived_from_params_and_tokens():
    fit = workbench.fit(chinchilla_frame(0), "over_training")
    given = fit.predict(params=1e9, tokens=2e10)["prediction"].iloc[0]
    assert given == pytest.approx(fit.predict(flops=6e19 * 2, tokens_per_param=20)["prediction"].iloc[0])


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ({"params": 1e9}, "'tokens' is missing"),
        ({"params": "big", "tokens": 1e9}, "give a number"),
        ({"params": -1e9, "tokens": 1e9}, "must be positive"),
        ({"params": 1e9, "tokens": 1e9, "kind": "both"}, "'run' or 'curve'"),
        ({"params": 1e9, "tokens": 1e9, "level": 2}, "between 0 and 1"),
    ],
)
def test_bad_arguments_say_what_is_allowed(arguments, fragment):
    fit = workbench.fit(chinchilla_frame(0, n=40), "chinchilla")
    with pytest.raises(ValueError, match=fragment):
        fit.predict(**arguments)
