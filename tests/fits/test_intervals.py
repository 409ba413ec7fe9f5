"""Intervals against exact linear theory, against scipy on the same resamples, and by simulation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

import workbench
from tests.engine.test_solver import scipy_chinchilla
from tests.fits.conftest import chinchilla_frame, power_frame
from workbench.engine.covariance import sandwich
from workbench.fits.bootstrap import refit, wild_factors
from workbench.fits.intervals import OFFERED, resample


def ordinary_least_squares(frame, level=0.95):
    """Slope and its exact t interval, by the textbook."""
    x, y = np.log(frame["flops"]), np.log(frame["loss"])
    line = stats.linregress(x, y)
    reach = stats.t.ppf(0.5 + level / 2, len(x) - 2) * line.stderr
    return -line.slope - reach, -line.slope + reach


@pytest.mark.parametrize("method", ["profile", "jacobian"])
def test_least_squares_of_a_power_law_has_the_exact_t_interval(method):
    frame = power_frame(3)
    fit = workbench.fit(frame, "power", objective="log-mse")
    low, high = ordinary_least_squares(frame)
    row = fit.intervals(method).loc["alpha"]
    # The solver moves log alpha; the profile does not care, the Jacobian is straight in log alpha.
    assert row.low == pytest.approx(low, rel=1e-3 if method == "profile" else 5e-3)
    assert row.high == pytest.approx(high, rel=1e-3 if method == "profile" else 5e-3)


def test_bootstrap_equals_scipy_on_the_same_resamples():
    frame = chinchilla_frame(4, n=120)
    fit = workbench.fit(frame, "chinchilla")
    draws = fit.draws(12)
    weights = resample(fit.points.cluster, fit.points.weights, 12, np.random.default_rng(fit.seed))
    start = np.log(fit.theta[:3]).tolist() + fit.theta[3:].tolist()
    for theta, w in zip(draws, weights, strict=True):
        copies = frame.loc[frame.index.repeat(w.astype(int))]
        theirs = scipy_chinchilla(copies, start=start)
        ours = fit.problem.values(theta[None], w[None])[0]
        assert ours <= theirs.cost * (1 + 1e-6)
        np.testing.assert_allclose(theta[3:], theirs.x[3:], rtol=0.01)


def test_resampling_keeps_clusters_together():
    cluster = np.repeat(np.arange(5), 4)
    weights = resample(cluster, np.ones(20), 50, np.random.default_rng(0))
    by_cluster = weights.reshape(50, 5, 4)
    assert (by_cluster == by_cluster[:, :, :1]).all()
    assert (by_cluster[:, :, 0].sum(axis=1) == 5).all()


def test_clusters_widen_the_interval_when_checkpoints_share_errors():
    rng = np.random.default_rng(0)
    frame = power_frame(0, n=12, noise=0.0)
    shared = np.exp(rng.normal(0, 0.03, 12))
    rows = frame.loc[frame.index.repeat(10)].reset_index(drop=True)
    rows["loss"] *= np.repeat(shared, 10) * np.exp(rng.normal(0, 0.001, 120))
    rows["family"] = np.repeat(np.arange(12), 10)
    rows["run"] = [f"c{i}" for i in range(120)]
    alone, together = (
        workbench.fit(rows, "power", objective="log-mse", cluster=c).intervals("bootstrap").loc["alpha"]
        for c in (None, "family")
    )
    assert together.high - together.low > 2 * (alone.high - alone.low)


@pytest.mark.parametrize(
    ("method", "objective"), [("profile", "log-mse"), ("profile", "log-huber"), ("jacobian", "log-huber")]
)
def test_ninety_five_percent_intervals_cover(method, objective):
    trials, hits = 200, 0
    for seed in range(trials):
        fit = workbench.fit(power_frame(100 + seed, n=40), "power", objective=objective, delta=0.01, starts=16)
        row = fit.intervals(method).loc["alpha"]
        hits += row.low <= 0.05 <= row.high
    # Binomial(200, 0.95): outside this range with probability below 0.1 %.
    assert stats.binom.ppf(0.0005, trials, 0.95) <= hits <= stats.binom.ppf(0.9995, trials, 0.95)


def test_bootstrap_intervals_cover_the_irreducible_loss():
    trials, hits = 60, 0
    for seed in range(trials):
        fit = workbench.fit(chinchilla_frame(500 + seed, n=100, tails=30), "chinchilla", starts=64)
        row = fit.intervals("bootstrap", n=200).loc["E"]
        hits += row.low <= 1.82 <= row.high
    assert hits >= stats.binom.ppf(0.0005, trials, 0.93)


def textbook(frame):
    """Coefficients, design and residuals of log loss on log compute, by ordinary least squares."""
    design = np.stack([np.ones(len(frame)), np.log(frame["flops"])], axis=1)
    y = np.log(frame["loss"].to_numpy())
    beta = np.linalg.solve(design.T @ design, design.T @ y)
    return design, beta, y - design @ beta


def slope_error(fit):
    """Standard error of the exponent that the sandwich gives; the solver moves log alpha."""
    return np.sqrt(sandwich(fit.problem, fit.theta, fit.points.cluster).covariance[1, 1]) * fit.params["alpha"]


def test_sandwich_of_single_runs_is_the_textbook_hc3():
    frame = power_frame(5, n=14)
    frame["loss"] *= np.exp(np.random.default_rng(1).normal(0, np.linspace(0, 0.1, 14)))
    design, _, e = textbook(frame)
    bread = np.linalg.inv(design.T @ design)
    leverage = np.einsum("ij,jk,ik->i", design, bread, design)
    hc3 = bread @ (design.T * (e / (1 - leverage)) ** 2) @ design @ bread
    fit = workbench.fit(frame, "power", objective="log-mse")
    assert slope_error(fit) == pytest.approx(np.sqrt(hc3[1, 1]), rel=1e-6)
    row = fit.intervals("sandwich").loc["alpha"]
    reach = stats.t.ppf(0.975, 12) * np.sqrt(hc3[1, 1]) / fit.params["alpha"]
    assert np.log(row.high / row.low) == pytest.approx(2 * reach, rel=1e-6)


def test_sandwich_of_clusters_is_the_jackknife_of_ordinary_least_squares():
    frame = power_frame(6, n=24)
    frame["family"] = np.repeat(list("abcdef"), 4)
    _, beta, _ = textbook(frame)
    moved = [textbook(frame[frame["family"] != f])[1][1] - beta[1] for f in "abcdef"]
    cv3 = np.sqrt(5 / 6 * np.sum(np.square(moved)))
    fit = workbench.fit(frame, "power", objective="log-mse", cluster="family")
    assert slope_error(fit) == pytest.approx(cv3, rel=1e-6)
    assert fit.recommended.method == "sandwich"
    row = fit.intervals().loc["alpha"]
    reach = stats.t.ppf(0.975, 5) * cv3 / fit.params["alpha"]
    assert np.log(row.high / row.low) == pytest.approx(2 * reach, rel=1e-6)


def test_sandwich_weights_are_those_of_weighted_least_squares():
    frame = power_frame(7, n=16)
    weights = np.linspace(0.5, 3, 16)
    design = np.stack([np.ones(16), np.log(frame["flops"])], axis=1) * np.sqrt(weights)[:, None]
    y = np.log(frame["loss"].to_numpy()) * np.sqrt(weights)
    bread = np.linalg.inv(design.T @ design)
    e = y - design @ bread @ design.T @ y
    leverage = np.einsum("ij,jk,ik->i", design, bread, design)
    hc3 = bread @ (design.T * (e / (1 - leverage)) ** 2) @ design @ bread
    fit = workbench.fit(frame, "power", objective="log-mse", weights=weights)
    assert slope_error(fit) == pytest.approx(np.sqrt(hc3[1, 1]), rel=1e-6)


def test_jackknife_equals_scipy_refits():
    x = np.geomspace(1e17, 1e21, 15)
    noise = np.random.default_rng(8).normal(0, 0.003, 15)
    frame = pd.DataFrame({"flops": x, "loss": (1.7 + 700 * x**-0.15) * np.exp(noise)})
    fit = workbench.fit(frame, "power_constant", objective="log-mse")
    p = fit.params

    def residual(q, keep):
        # the amplitude at the middle of the range, where it is not tied to the exponent
        curve = np.exp(q[0]) + np.exp(q[1] - np.exp(q[2]) * np.log(x[keep] / 1e19))
        return np.log(curve) - np.log(frame["loss"].to_numpy()[keep])

    def without(i):
        start = np.log([p["E"], p["A"] * 1e19 ** -p["alpha"], p["alpha"]])
        tight = dict.fromkeys(("xtol", "ftol", "gtol"), 1e-14)
        return optimize.least_squares(residual, start, args=(np.arange(15) != i,), **tight).x

    refits = np.array([without(i) for i in range(15)])
    for k, symbol in ((0, "E"), (2, "alpha")):
        error = np.sqrt(14 / 15 * ((refits[:, k] - np.log(fit.params[symbol])) ** 2).sum())
        row = fit.intervals("jackknife").loc[symbol]
        assert np.log(row.high / row.low) == pytest.approx(2 * stats.t.ppf(0.975, 12) * error, rel=1e-3)


def test_a_cluster_that_alone_fixes_a_parameter_leaves_no_interval():
    frame = power_frame(0, n=12).assign(flops=np.repeat([1e18, 1e20], 6), family=np.repeat(["a", "b"], 6))
    row = workbench.fit(frame, "power", objective="log-mse", cluster="family").intervals("sandwich").loc["alpha"]
    assert not row.identified and "without one run or cluster" in row.note


def test_strata_keep_their_counts():
    frame = chinchilla_frame(4, n=60).assign(budget=np.repeat([1, 2, 3], [10, 20, 30]))
    fit = workbench.fit(frame, "chinchilla", strata="budget", starts=64)
    assert not np.array_equal(fit.draws(5), workbench.fit(frame, "chinchilla", starts=64).draws(5))
    cluster = np.repeat(np.arange(30), 2)
    weights = resample(cluster, np.ones(60), 200, np.random.default_rng(0), fit.points.strata)
    for stratum, size in enumerate((10, 20, 30)):
        assert (weights[:, fit.points.strata == stratum].sum(axis=1) == size).all()
    assert len(np.unique(weights, axis=0)) == 200
    assert (weights[:, ::2] == weights[:, 1::2]).all()


def test_strata_follow_a_subset():
    frame = chinchilla_frame(4, n=40).assign(budget=np.repeat([7, 8], 20))
    fit = workbench.fit(frame, "chinchilla", strata="budget", starts=64)
    assert fit.subset(np.arange(40) % 2 == 0).points.strata.tolist() == [0] * 10 + [1] * 10


def test_wild_factors_have_the_moments_that_wu_asks_and_hold_clusters_together():
    for groups, values in ((6, {0.5, 1.0, 1.5}), (30, {1.0})):
        cluster = np.repeat(np.arange(groups), 3)
        factors = wild_factors(cluster, 20_000, np.random.default_rng(0))
        assert (factors[:, ::3] == factors[:, 1::3]).all() and (factors[:, ::3] == factors[:, 2::3]).all()
        assert {round(float(v), 12) for v in np.unique(factors**2)} == values
        own = factors[:, ::3]
        assert abs(own.mean()) < 0.02 and abs((own**2).mean() - 1) < 0.02
        assert np.abs(np.corrcoef(own.T) - np.eye(groups)).max() < 0.04


def test_refits_to_shifted_residuals_are_fits_to_shifted_data():
    frame = power_frame(2, n=20)
    fit = workbench.fit(frame, "power", objective="log-mse")
    shift = np.random.default_rng(3).normal(0, 0.05, (7, 20))
    theta, value = refit(fit.problem, np.repeat(fit.theta[None], 7, axis=0), shift)
    for row, added, objective in zip(theta, shift, value, strict=True):
        # a residual is log prediction minus log observation
        _, beta, e = textbook(frame.assign(loss=frame["loss"] * np.exp(-added)))
        assert row[1] == pytest.approx(-beta[1], rel=1e-5)
        assert objective == pytest.approx(0.5 * (e**2).sum(), rel=1e-6)


def test_wild_bootstrap_of_a_straight_line_has_the_width_of_the_sandwich():
    frame = power_frame(6, n=60)
    frame["family"] = np.repeat(np.arange(20), 3)
    fit = workbench.fit(frame, "power", objective="log-mse", cluster="family")
    wild, robust = (fit.intervals(m, n=4000).loc["alpha"] for m in ("wild", "sandwich"))
    # Refits to residuals (I - H_gg)^-1 e_g have the CR3 variance (without its 19/20) and Student's tails.
    assert (wild.high - wild.low) / (robust.high - robust.low) == pytest.approx(np.sqrt(20 / 19), rel=0.08)


def test_simulated_errors_of_a_straight_line_give_students_t():
    frame = power_frame(4, n=12)
    fit = workbench.fit(frame, "power", objective="log-mse")
    low, high = ordinary_least_squares(frame)
    row = fit.intervals("simulated", n=8000).loc["alpha"]
    assert row.high - row.low == pytest.approx(high - low, rel=0.05)


def test_what_is_recommended_follows_the_data():
    frame = power_frame(1, n=24).assign(family=np.repeat(np.arange(8), 3))
    assert workbench.fit(frame, "power", objective="log-mse").recommended.method == "profile"
    assert workbench.fit(frame, "power", delta=1.0).recommended.method == "profile"
    assert workbench.fit(frame, "power").recommended.method == "simulated"
    assert workbench.fit(power_frame(1, n=200), "power").recommended.method == "profile"
    choice = workbench.fit(frame, "power", cluster="family").recommended
    assert choice.method == "sandwich" and "8 clusters of family" in choice.why
    table = workbench.fit(frame, "power", objective="log-mse").intervals()
    assert table.attrs["method"] == "profile" and table.attrs["why"]


def test_the_card_shows_the_recommended_interval_first_and_says_why():
    frame = power_frame(6, n=24).assign(family=np.repeat(np.arange(8), 3))
    fit = workbench.fit(frame, "power", objective="log-mse", cluster="family")
    card = fit.card()
    assert list(card.parameters.columns[:2]) == ["estimate", "95% sandwich"]
    assert dict(card.sections["Fitting"])["Recommended interval"] == f"sandwich: {fit.recommended.why}"


def test_a_conclusion_is_the_interval_of_what_follows():
    frame = power_frame(3)
    fit = workbench.fit(frame, "power", objective="log-mse")
    low, high = ordinary_least_squares(frame)
    end = fit.conclusion(lambda p: 2 * p["alpha"] + 1)
    assert end["low"] == pytest.approx(2 * low + 1, rel=1e-6) and end["high"] == pytest.approx(2 * high + 1, rel=1e-6)
    assert end["estimate"] == pytest.approx(2 * fit.params["alpha"] + 1)


def test_an_unidentified_parameter_is_named_by_every_method():
    fit = workbench.fit(power_frame(0, n=12).assign(flops=1e18), "power", x="flops")
    for method in OFFERED:
        table = fit.intervals(method, n=50)
        assert not table["identified"].any() and table["note"].str.len().gt(0).all()


def test_levels_nest():
    fit = workbench.fit(chinchilla_frame(9, n=60), "chinchilla")
    for method in OFFERED:
        narrow, wide = fit.intervals(method, 0.5, n=200), fit.intervals(method, 0.95, n=200)
        assert (wide["low"] <= narrow["low"]).all() and (wide["high"] >= narrow["high"]).all()
        if method == "simulated":  # studentised and reflected: the middle need not lie inside a narrow one
            continue
        assert ((narrow["low"] <= narrow["estimate"]) & (narrow["estimate"] <= narrow["high"])).all()


@pytest.mark.parametrize(
    ("call", "fragment"),
    [
        (lambda f: f.intervals("magic"), "choose one of bootstrap"),
        (lambda f: f.intervals(level=95), "between 0 and 1"),
        (lambda f: f.conclusion(lambda p: p["A"], method="magic"), "choose one of recommended"),
        (lambda f: workbench.fit(power_frame(), "power", strata="budget"), "to stratify by"),
        (
            lambda f: workbench.fit(
                power_frame().assign(a=np.arange(30) // 2, b=np.arange(30) % 2), "power", cluster="a", strata="b"
            ),
            "whole clusters",
        ),
        (lambda f: f.draws(0), "at least 1"),
        (lambda f: f.draws("many"), "whole number"),
        (lambda f: f.profile("gamma"), "profile one of"),
    ],
)
def test_bad_arguments_say_what_is_allowed(call, fragment):
    fit = workbench.fit(power_frame(), "power")
    with pytest.raises(ValueError, match=fragment):
        call(fit)
