"""Comparisons: criteria by the textbook, hold-outs that select what they say, rankings that find the truth."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
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


def replicated(seed: int, cells: int = 12, seeds: int = 4) -> pd.DataFrame:
    """A power law with a deviation shared by the seeds of one cell, ten times that of the seeds."""
    rng = np.random.default_rng(seed)
    flops = np.repeat(np.geomspace(1e17, 1e21, cells), seeds)
    shared = np.repeat(rng.normal(0, 0.03, cells), seeds)
    return pd.DataFrame({"flops": flops, "loss": 20 * flops**-0.05 * np.exp(shared + rng.normal(0, 0.003, flops.size))})


def test_seeds_of_one_cell_are_left_out_together():
    frame = replicated(0)
    fit = workbench.fit(frame, "power", objective="log-mse")
    x, y = np.log(frame["flops"].to_numpy()), np.log(frame["loss"].to_numpy())
    errors = []
    for value in np.unique(x):  # 12 folds of 12 cells: one cell each
        keep = x != value
        line = np.polyfit(x[keep], y[keep], 1)
        errors.append(np.exp(np.polyval(line, x[~keep]) - y[~keep]) - 1)
    assert cross_validate(fit, folds=12) == pytest.approx(np.sqrt(np.mean(np.square(errors))), rel=1e-6)


def test_a_column_says_what_is_left_out_together():
    frame = replicated(1).assign(cell=np.repeat(np.arange(12), 4))
    alone = frame.assign(flops=frame["flops"] * np.linspace(1, 1 + 1e-9, 48))  # no two inputs are the same
    fit = workbench.fit(alone, "power", objective="log-mse")
    together = workbench.fit(frame, "power", objective="log-mse")
    assert cross_validate(fit, cluster="cell") == pytest.approx(cross_validate(together), rel=1e-4)
    clustered = workbench.fit(alone, "power", objective="log-mse", cluster="cell")
    assert cross_validate(clustered) == pytest.approx(cross_validate(together), rel=1e-4)
    with pytest.raises(ValueError, match="no column 'family' to group by"):
        cross_validate(fit, cluster="family")


def test_options_reach_the_laws_they_are_for():
    frame = chinchilla_frame(0, n=60).assign(size=lambda f: f["params"] / 2, family=np.arange(60) // 3)
    c = workbench.compare(
        frame,
        ["chinchilla", "power_constant", "constant"],
        x="tokens",
        inputs={"N": "size"},
        fixed={"chinchilla": {"E": 1.8}, "alpha": 0.4},
        cluster="family",
    )
    chinchilla, power = c.fits["chinchilla"], c.fits["power_constant"]
    assert chinchilla.points.columns == {"N": "size", "D": "tokens"}
    assert chinchilla.problem.fixed == {"E": 1.8, "alpha": 0.4} and power.problem.fixed == {"alpha": 0.4}
    assert c.fits["constant"].problem.fixed == {}
    assert {f.points.grouped_by for f in c.fits.values()} == {"family"}
    assert c.frame.set_index("law")["parameters"].to_dict() == {"chinchilla": 3, "power_constant": 2, "constant": 1}
    by_hand = workbench.fit(frame, "chinchilla", inputs={"N": "size"}, fixed={"E": 1.8, "alpha": 0.4}, cluster="family")
    assert chinchilla.params == pytest.approx(by_hand.params)


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ({"fixed": {"gamma": 1.0}}, "fixed names 'gamma', which no law here has"),
        ({"fixed": {"power": {"A": 1.0}}}, "names the law 'power', which is not among chinchilla"),
        ({"inputs": {"Q": "params"}}, "inputs names 'Q'"),
        ({"cluster": "family"}, "no column 'family'"),
    ],
)
def test_options_for_nobody_are_refused(arguments, fragment):
    with pytest.raises(ValueError, match=fragment):
        workbench.compare(chinchilla_frame(0, n=40), ["chinchilla"], **arguments)
