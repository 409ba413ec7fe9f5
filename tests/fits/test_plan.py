"""Plans against the closed form of Hoffmann et al. 2022, equation 4."""

from __future__ import annotations

import numpy as np
import pytest

import workbench
from tests.fits.conftest import chinchilla_frame, power_frame


def closed_form(p, flops):
    """N_opt = G (C/6)^a, D_opt = (C/6)^b / G, with G = (alpha A / beta B)^(1 / (alpha + beta))."""
    total = p["alpha"] + p["beta"]
    g = (p["alpha"] * p["A"] / (p["beta"] * p["B"])) ** (1 / total)
    return g * (flops / 6) ** (p["beta"] / total), (flops / 6) ** (p["alpha"] / total) / g


@pytest.mark.parametrize("flops", [1e18, 5.88e23, 1e28])
def test_chinchilla_optimum_is_the_closed_form(flops):
    fit = workbench.fit(chinchilla_frame(0), "chinchilla")
    row = fit.plan(flops).frame.iloc[0]
    n, d = closed_form(fit.params, flops)
    assert row["params"] == pytest.approx(n, rel=1e-4)
    assert row["tokens"] == pytest.approx(d, rel=1e-4)
    assert 6 * row["params"] * row["tokens"] == pytest.approx(flops, rel=1e-9)
    assert row["params_low"] < row["params"] < row["params_high"]


def test_intervals_are_those_of_the_closed_form_on_every_draw():
    fit = workbench.fit(chinchilla_frame(0), "chinchilla")
    draws = [dict(zip(fit.law.symbols, t, strict=True)) for t in fit.draws(200)]
    sizes = np.array([closed_form(p, 1e22)[0] for p in draws])
    row = fit.plan(1e22, n=200).frame.iloc[0]
    np.testing.assert_allclose([row["params_low"], row["params_high"]], np.percentile(sizes, [2.5, 97.5]), rtol=1e-4)


def test_one_exponent_keeps_tokens_per_parameter_constant():
    fit = workbench.fit(chinchilla_frame(1), "chinchilla_tied")
    ratio = fit.plan([1e20, 1e22, 1e24]).frame["tokens_per_param"]
    np.testing.assert_allclose(ratio, (fit.params["B"] / fit.params["A"]) ** (1 / fit.params["alpha"]), rtol=1e-3)


def test_the_over_training_form_plans_like_the_tied_form():
    frame = chinchilla_frame(1)
    one, other = (workbench.fit(frame, law).plan(1e23).frame.iloc[0] for law in ("chinchilla_tied", "over_training"))
    assert other["params"] == pytest.approx(one["params"], rel=1e-3)


def test_extrapolation_is_the_budget_over_the_largest_run():
    frame = chinchilla_frame(0)
    fit = workbench.fit(frame, "chinchilla")
    largest = (6 * frame["params"] * frame["tokens"]).max()
    assert fit.plan(7 * largest).frame["extrapolation"].iloc[0] == pytest.approx(7, rel=1e-6)


def test_a_law_that_only_wants_data_says_it_has_no_optimum():
    fit = workbench.fit(chinchilla_frame(0), "chinchilla", fixed={"A": 1e-20})
    assert "no compute optimum" in fit.plan(1e22).frame["note"].iloc[0]


@pytest.mark.parametrize("flops", [0, -1e20, float("nan"), float("inf"), "lots", []])
def test_bad_budgets_say_what_is_allowed(flops):
    fit = workbench.fit(chinchilla_frame(0, n=40), "chinchilla")
    with pytest.raises(ValueError, match="FLOP"):
        fit.plan(flops)


def test_a_law_of_one_scale_cannot_plan():
    with pytest.raises(ValueError, match="no trade-off"):
        workbench.fit(power_frame(), "power").plan(1e22)
