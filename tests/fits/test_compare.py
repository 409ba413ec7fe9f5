"""Comparisons: criteria by the textbook, hold-outs that select what they say, rankings that find the truth."""

from __future__ import annotations

import json

import numpy as np
import pytest

import workbench
from tests.fits.conftest import chinchilla_frame, power_frame
from workbench.fits.holdout import cross_validate, split


def test_criteria_are_the_textbooks():
    frame = power_frame(0)
    row = workbench.compare(frame, ["power"], objective="log-mse").frame.iloc[0]
    residuals = np.log(frame["loss"]) - np.polyval(
        np.polyfit(np.log(frame["flops"]), np.log(frame["loss"]), 1), np.log(frame["flops"])
    )
    n, k = 30, 3  # prefactor, exponent, variance
    ll = -n / 2 * (np.log(2 * np.pi * np.mean(residuals**2)) + 1)
    assert row["aicc"] == pytest.approx(2 * k - 2 * ll + 2 * k * (k + 1) / (n - k - 1), rel=1e-8)
    assert row["bic"] == pytest.approx(k * np.log(n) - 2 * ll, rel=1e-8)


def test_cross_validation_is_refitting_by_hand():
    frame = power_frame(1, n=12)
    fit = workbench.fit(frame, "power", objective="log-mse")
    x, y = np.log(frame["flops"].to_numpy()), np.log(frame["loss"].to_numpy())
    errors = []
    for i in range(12):  # 12 folds of 12 runs leave out one run each, in whatever order
        keep = np.arange(12) != i
        line = np.polyfit(x[keep], y[keep], 1)
        errors.append(np.exp(np.polyval(line, x[i]) - y[i]) - 1)
    assert cross_validate(fit, folds=12) == pytest.approx(np.sqrt(np.mean(np.square(errors))), rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_the_true_law_wins(seed):
    frame = chinchilla_frame(seed, n=150, tails=30)
    comparison = workbench.compare(frame, ["power_constant", "chinchilla", "kaplan", "constant"], holdout=0.2, n=100)
    assert comparison.frame["law"].iloc[0] == "chinchilla"
    assert comparison.frame["law"].iloc[-1] == "constant"
    assert comparison.frame.set_index("law")["delta_aicc"]["chinchilla"] == 0


def test_a_share_holds_out_the_largest_runs_with_their_ties():
    frame = power_frame(0, n=10)
    doubled = frame.loc[frame.index.repeat(2)].reset_index(drop=True)
    doubled["loss"] *= np.linspace(1, 1.01, 20)
    fitted, held_out, description = split(workbench.load(doubled), 0.15)
    # 15 % of 20 runs is 3; the fourth shares its compute with the third
    assert len(held_out) == 4 and len(fitted) == 16 and description.startswith("flops >=")
    assert held_out.frame["flops"].min() > fitted.frame["flops"].max()


def test_an_expression_holds_out_what_it_selects():
    frame = chinchilla_frame(0)
    comparison = workbench.compare(frame, ["chinchilla"], holdout="params > 1e10", n=50)
    assert len(comparison.predictions["chinchilla"]) == (frame["params"] > 1e10).sum()
    assert comparison.n_runs == (frame["params"] <= 1e10).sum()
    rows = comparison.predictions["chinchilla"]
    np.testing.assert_allclose(rows["error"], rows["prediction"] / rows["measured"] - 1)
    assert comparison.frame["heldout_error"].iloc[0] == pytest.approx(rows["error"].abs().mean())


def test_a_law_that_cannot_be_fitted_is_listed_and_does_not_stop_the_rest():
    frame = power_frame(0)
    comparison = workbench.compare(frame, ["power", "chinchilla"])
    assert list(comparison.fits) == ["power"] and "params" in comparison.failed["chinchilla"]


def test_json_is_strict():
    comparison = workbench.compare(chinchilla_frame(0, n=40), ["chinchilla", "constant"], holdout=0.2, n=50)
    again = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
    assert [row["law"] for row in again["laws"]] == list(comparison.frame["law"])


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ({"laws": []}, "no laws to compare"),
        ({"laws": ["chinchila"]}, "did you mean 'chinchilla'"),
        ({"laws": ["power", "power"]}, "named twice"),
        ({"laws": ["chinchilla"], "holdout": "params > 1e30"}, "holds out none"),
        ({"laws": ["chinchilla"], "holdout": "params > 0"}, "holds out all"),
        ({"laws": ["chinchilla"], "holdout": 1.5}, "give an expression"),
        ({"laws": ["chinchilla"], "holdout": "nonsense > 3"}, "nonsense"),
        ({"laws": ["chinchilla"], "where": "params > 1e30"}, "selects none"),
        ({"laws": ["chinchilla"], "y": "accuracy"}, "no numeric column 'accuracy'"),
    ],
)
def test_bad_arguments_say_what_is_allowed(arguments, fragment):
    with pytest.raises(ValueError, match=fragment):
        workbench.compare(chinchilla_frame(0, n=40), **arguments)
