"""Intervals against exact linear theory, against scipy on the same resamples, and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import workbench
from tests.fits.conftest import chinchilla_frame, power_frame
from tests.fits.test_solver import scipy_chinchilla
from workbench.fits.intervals import resample


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


def test_levels_nest():
    fit = workbench.fit(chinchilla_frame(9, n=60), "chinchilla")
    for method in ("bootstrap", "profile", "jacobian"):
        narrow, wide = fit.intervals(method, 0.5), fit.intervals(method, 0.95)
        assert (wide["low"] <= narrow["low"]).all() and (wide["high"] >= narrow["high"]).all()
        assert ((narrow["low"] <= narrow["estimate"]) & (narrow["estimate"] <= narrow["high"])).all()


@pytest.mark.parametrize(
    ("call", "fragment"),
    [
        (lambda f: f.intervals("magic"), "choose one of bootstrap"),
        (lambda f: f.intervals(level=95), "between 0 and 1"),
        (lambda f: f.draws(0), "at least 1"),
        (lambda f: f.draws("many"), "whole number"),
        (lambda f: f.profile("gamma"), "profile one of"),
    ],
)
def test_bad_arguments_say_what_is_allowed(call, fragment):
    fit = workbench.fit(power_frame(), "power")
    with pytest.raises(ValueError, match=fragment):
        call(fit)
