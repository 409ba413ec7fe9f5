"""The solver against scipy, linear programming and linear regression."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import least_squares, linprog

import workbench
from tests.fits.conftest import chinchilla_frame, power_frame


def scipy_chinchilla(frame, delta=1e-3, start=(0.6, 6.0, 6.0, 0.34, 0.3)):
    """The same objective minimised by scipy, with derivatives written by hand."""
    log_n, log_d = np.log(frame["params"].to_numpy()), np.log(frame["tokens"].to_numpy())
    target = np.log(frame["loss"].to_numpy())

    def terms(p):
        return np.exp(p[0]), np.exp(p[1] - p[3] * log_n), np.exp(p[2] - p[4] * log_d)

    def residuals(p):
        return np.log(sum(terms(p))) - target

    def jacobian(p):
        e, a, b = terms(p)
        return np.stack([e + 0 * a, a, b, -log_n * a, -log_d * b], axis=1) / (e + a + b)[:, None]

    return least_squares(
        residuals,
        start,
        jacobian,
        loss="huber",
        f_scale=delta,
        x_scale="jac",
        xtol=1e-15,
        ftol=1e-15,
        gtol=1e-15,
        max_nfev=2000,
    )


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("delta", [1e-2, 1e-3, 1e-4])
def test_reaches_what_scipy_reaches(seed, delta):
    frame = chinchilla_frame(seed)
    ours = workbench.fit(frame, "chinchilla", delta=delta)
    theirs = scipy_chinchilla(frame, delta, (np.log(1.8), 6.0, 7.5, 0.35, 0.37))
    assert ours.diagnostics.converged and ours.diagnostics.agreeing >= 24
    assert ours.value <= theirs.cost * (1 + 1e-8)
    if theirs.cost <= ours.value * (1 + 1e-9):  # scipy got there too: the parameters agree
        np.testing.assert_allclose(ours.params["alpha"], theirs.x[3], rtol=1e-3)
        np.testing.assert_allclose(ours.params["beta"], theirs.x[4], rtol=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_least_squares_of_a_power_law_is_linear_regression(seed):
    frame = power_frame(seed)
    fit = workbench.fit(frame, "power", objective="log-mse")
    slope, intercept = np.polyfit(np.log(frame["flops"]), np.log(frame["loss"]), 1)
    assert fit.params["alpha"] == pytest.approx(-slope, rel=1e-8)
    assert np.log(fit.params["A"]) == pytest.approx(intercept, rel=1e-8)


@pytest.mark.parametrize("seed", range(4))
def test_least_absolute_deviations_of_a_power_law_is_a_linear_program(seed):
    frame = power_frame(seed)
    x, y = np.log(frame["flops"].to_numpy()), np.log(frame["loss"].to_numpy())
    n = x.size
    design = np.stack([np.ones(n), -x], axis=1)
    answer = linprog(
        np.concatenate([np.zeros(2), np.ones(n)]),
        A_ub=np.block([[design, -np.eye(n)], [-design, -np.eye(n)]]),
        b_ub=np.concatenate([y, -y]),
        bounds=[(None, None)] * 2 + [(0, None)] * n,
    )
    fit = workbench.fit(frame, "power", objective="log-mae")
    assert fit.value == pytest.approx(answer.fun, rel=1e-8)
    assert fit.params["alpha"] == pytest.approx(answer.x[1], rel=1e-6)


def test_weights_count_like_copies():
    frame = chinchilla_frame(1, n=60)
    doubled = frame.loc[frame.index.repeat(np.where(frame.index < 20, 2, 1))].reset_index(drop=True)
    weighted = workbench.fit(frame, "chinchilla", weights=np.where(frame.index < 20, 2.0, 1.0))
    # The copies differ in nothing but their id, so that they are no duplicates to be marked.
    copied = workbench.fit(doubled.assign(run=[f"r{i}" for i in doubled.index]), "chinchilla")
    assert weighted.value == pytest.approx(copied.value, rel=1e-9)
    np.testing.assert_allclose(weighted.theta, copied.theta, rtol=1e-5)


def test_a_run_of_weight_zero_is_left_out():
    frame = chinchilla_frame(2, n=50)
    spoilt = frame.assign(loss=frame["loss"].where(frame.index != 7, 99.0))
    weights = np.where(frame.index == 7, 0.0, 1.0)
    np.testing.assert_allclose(
        workbench.fit(spoilt, "chinchilla", weights=weights).theta,
        workbench.fit(frame.drop(index=7), "chinchilla").theta,
        rtol=1e-6,
    )


def test_fixed_parameters_stay_and_tied_ones_agree(frame):
    fixed = workbench.fit(frame, "chinchilla", fixed={"E": 1.69})
    assert fixed.params["E"] == 1.69 and "E" not in fixed.problem.free_symbols
    free = workbench.fit(frame, "chinchilla")
    assert fixed.value > free.value
    tied = workbench.fit(frame, "chinchilla", tied={"beta": "alpha"})
    separate = workbench.fit(frame, "chinchilla_tied")
    assert tied.params["alpha"] == tied.params["beta"]
    assert tied.value == pytest.approx(separate.value, rel=1e-9)
    np.testing.assert_allclose(tied.params["alpha"], separate.params["alpha"], rtol=1e-6)


def test_the_over_training_form_is_the_tied_form_in_other_variables(frame):
    # Gadre et al. 2024, section 2: A = a 6^-eta, alpha = 2 eta.
    tied, other = (workbench.fit(frame, law) for law in ("chinchilla_tied", "over_training"))
    assert other.value == pytest.approx(tied.value, rel=1e-9)
    assert 2 * other.params["eta"] == pytest.approx(tied.params["alpha"], rel=1e-5)
    assert other.params["a"] * 6 ** -other.params["eta"] == pytest.approx(tied.params["A"], rel=1e-4)


def test_refit_without_a_run_equals_a_fresh_fit(frame):
    fit = workbench.fit(frame, "chinchilla")
    run = fit.points.frame["run"].iloc[11]
    fresh = workbench.fit(frame.drop(index=11), "chinchilla")
    assert fit.without(run).value == pytest.approx(fresh.value, rel=1e-9)


def test_same_seed_same_bits(frame):
    first, second = (workbench.fit(frame, "kaplan", seed=5) for _ in range(2))
    np.testing.assert_array_equal(first.theta, second.theta)
    np.testing.assert_array_equal(first.draws(50), second.draws(50))
