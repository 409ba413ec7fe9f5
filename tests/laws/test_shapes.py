"""Shapes that are no single power law: the contract, closed forms, theory and published numbers."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize_scalar

import workbench
from workbench.laws import get
from workbench.laws.shapes.broken import broken_law
from workbench.testing.laws import LawContract

X = {"x": np.geomspace(1e17, 1e22, 60)}


class TestConstant(LawContract):
    law, truth, grid = "constant", {"E": 2.5}, X


class TestExponential(LawContract):
    law, truth, grid = "exponential", {"E": 1.7, "A": 1.5, "x_0": 2e21}, {"x": np.linspace(1e20, 1e22, 60)}


class TestStretchedExponential(LawContract):
    law, truth, grid = "stretched_exponential", {"E": 1.7, "A": 4.0, "x_0": 1e18, "beta": 0.3}, X


class TestLogarithmic(LawContract):
    law, truth, grid = "logarithmic", {"a": 12.0, "b": 0.2}, X


class TestTwoPower(LawContract):
    law, grid = "two_power", {"x": np.geomspace(1e2, 1e9, 80)}
    truth = {"E": 1.5, "A": 60.0, "B": 8.0, "beta": 0.25, "delta": 0.5}
    noise = 0.001


class TestBroken(LawContract):
    law, grid = "broken", {"x": np.geomspace(1e3, 1e12, 90)}
    truth = {"a": 0.3, "b": 6.0, "c_0": 0.05, "c_1": 0.4, "d_1": 3e6, "f_1": 0.4}


class TestBroken2(LawContract):
    law, grid = "broken_2", {"x": np.geomspace(1e2, 1e14, 150)}
    truth = {"a": 0.1, "b": 6.0, "c_0": 0.05, "c_1": 0.3, "d_1": 3e5, "f_1": 0.4, "c_2": -0.25, "r_2": 1e4, "f_2": 0.5}
    noise = 0.001


class TestUShape(LawContract):
    law, grid = "u_shape", {"x": np.geomspace(1e-4, 1.0, 60)}
    truth = {"E": 2.5, "A": 0.02, "B": 3.0, "alpha": 0.4, "beta": 0.9}


class TestLogParabola(LawContract):
    law, truth, grid = "log_parabola", {"m": 2.5, "q": 0.05, "x_0": 2e9}, {"x": np.geomspace(1e8, 3e10, 20)}


class TestRiseAndFall(LawContract):
    law, grid = "rise_and_fall", {"x": np.geomspace(16, 65536, 40)}
    truth = {"A": 0.02, "x_0": 1000.0, "p": 0.5, "q": 1.1}


class TestDoubleDescentPole(LawContract):
    law, grid = "double_descent_pole", {"x": np.geomspace(10, 2000, 60)}
    truth = {"E": 0.25, "sigma": 0.5, "r": 1.2, "x_p": 103.0}


class TestInterpolationPole(LawContract):
    law, grid = "interpolation_pole", {"x": np.geomspace(10, 2000, 60)}
    truth = {"E": 0.4, "b": 0.3, "x_p": 103.0}


class TestThreshold(LawContract):
    law, grid = "threshold", {"x": np.geomspace(10, 1e5, 60)}
    truth = {"a": 5.0, "b": 0.2, "x_0": 1500.0, "w": 0.3}


class TestGrokTime(LawContract):
    law, grid = "grok_time", {"x": np.linspace(0.35, 0.9, 30)}
    truth = {"t_0": 300.0, "A": 60.0, "x_c": 0.3, "nu": 1.4}


def slope(law, params, x):
    """d log(y - floor) / d log x at x, by central differences."""
    h = 1e-4
    y = law.predict(params, {"x": np.array([x * np.exp(-h), x * np.exp(h)])}) - params["a"]
    return float(np.log(y[1] / y[0]) / (2 * h))


def test_broken_has_the_slopes_of_its_segments():
    p = {"a": 0.0, "b": 6.0, "c_0": 0.1, "c_1": 0.4, "d_1": 1e6, "f_1": 0.3, "c_2": -0.35, "r_2": 1e10, "f_2": 0.2}
    law = get("broken_2")
    assert law.breaks(p) == pytest.approx([1e6, 1e16])
    assert [slope(law, p, x) for x in (1e0, 1e11, 1e22)] == pytest.approx([-0.1, -0.5, -0.15], abs=1e-6)
    # Half of the change at the break itself.
    assert slope(law, p, 1e6) == pytest.approx(-0.3, abs=1e-6)


def test_broken_without_a_change_of_exponent_is_a_power_law():
    x = {"x": np.geomspace(1e3, 1e12, 40)}
    p = {"a": 1.7, "b": 300.0, "c_0": 0.3, "c_1": 0.0, "d_1": 1e7, "f_1": 0.4}
    power = get("power_constant").predict({"E": 1.7, "A": 300.0, "alpha": 0.3}, x)
    np.testing.assert_allclose(get("broken").predict(p, x), power, rtol=1e-12)


def test_broken_with_three_breaks_is_the_published_example():
    """Constants of figure 1 of Caballero et al. 2022, from the authors' code, against eq. 1 written out."""
    law = broken_law(3)()
    p = {"a": 1e-3, "b": 4.66e3, "c_0": 0.05, "c_1": 0.49, "d_1": 3e6, "f_1": 1.1}
    p |= {"c_2": -0.811, "r_2": 1e14 / 3e6, "f_2": 1.425, "c_3": 2.1, "r_3": 2e20 / 1e14, "f_3": 0.05}
    x = np.geomspace(0.1, 1e23, 200)
    y = 1e-3 + 4.66e3 * x**-0.05 * (1 + (x / 3e6) ** (1 / 1.1)) ** (-0.49 * 1.1) * (1 + (x / 1e14) ** (1 / 1.425)) ** (
        0.811 * 1.425
    ) * (1 + (x / 2e20) ** 20) ** (-2.1 * 0.05)
    np.testing.assert_allclose(law.predict(p, {"x": x}), y, rtol=1e-9)
    assert law.breaks(p) == pytest.approx([3e6, 1e14, 2e20])
    assert get("broken_3").name == "broken_3" and broken_law(3) is type(law)
    assert type(pickle.loads(pickle.dumps(law))) is type(law)


@pytest.mark.parametrize("n", [0, 10, 1.0, True, "2"])
def test_a_senseless_number_of_breaks_is_refused(n):
    with pytest.raises(ValueError, match="whole number from 1 to 9"):
        broken_law(n)


#: Parameters that Caballero et al. 2022 use for four-digit addition (figure 4, right; the authors' code).
ADDITION = {"a": 0.41388453073, "b": 2.27727228977, "c_0": 0.0550773484, "c_1": 5.66290381603}
ADDITION |= {"d_1": 612.5836172918, "f_1": 0.05919303639}


def test_broken_sees_the_published_break_before_reaching_it():
    """Without noise, points that end at 550 determine the steep fall that has its middle at 613."""
    law, x = get("broken"), np.arange(1, 551.0)
    table = pd.DataFrame({"tokens": x, "loss": law.predict(ADDITION, {"x": x})})
    fitted = workbench.fit(table, "broken", objective="log-mse")
    assert fitted.params == pytest.approx(ADDITION, rel=1e-4)


def test_u_shape_and_rise_and_fall_turn_where_they_say():
    u, p = get("u_shape"), TestUShape.truth
    x, y = u.minimum(p)
    found = minimize_scalar(lambda s: float(u.predict(p, {"x": np.exp([s])})[0]), bounds=(-12, 3), method="bounded")
    assert (np.log(x), y) == pytest.approx((found.x, found.fun), abs=1e-4)
    law, p = get("rise_and_fall"), TestRiseAndFall.truth
    x, y = law.peak(p)
    found = minimize_scalar(
        lambda s: -law.predict(p, {"x": np.array([np.exp(s)])})[0], bounds=(0, 14), method="bounded"
    )
    assert (np.log(x), y) == pytest.approx((found.x, -found.fun), abs=1e-4)
    with pytest.raises(ValueError, match="no peak"):
        law.peak(p | {"q": 0.5})


def test_rise_and_fall_is_the_surge_of_adam():
    """eta_max / ((sqrt(B/B_n) + sqrt(B_n/B)) / 2): Li et al. 2024."""
    b = np.geomspace(1, 1e6, 50)
    surge = 3e-3 / (0.5 * (np.sqrt(b / 500) + np.sqrt(500 / b)))
    p = {"A": 6e-3, "x_0": 500.0, "p": 0.5, "q": 1.0}
    np.testing.assert_allclose(get("rise_and_fall").predict(p, {"x": b}), surge, rtol=1e-12)
    assert get("rise_and_fall").peak(p) == pytest.approx((500.0, 3e-3))


@pytest.mark.parametrize("features", [40, 120, 320, 800])
def test_double_descent_is_that_of_least_squares_on_random_numbers(features):
    """Least squares of least norm on 200 samples, on both sides of the pole."""
    rng = np.random.default_rng(features)
    samples, r, sigma, risks = 200, 1.3, 0.6, []
    for _ in range(6000 // features):
        signal = rng.normal(size=features)
        signal *= r / np.linalg.norm(signal)
        design = rng.normal(size=(samples, features))
        y = design @ signal + sigma * rng.normal(size=samples)
        found = np.linalg.lstsq(design, y, rcond=None)[0]
        risks.append(((found - signal) ** 2).sum())  # isotropic features: the excess risk is the squared error
    p = {"E": 0.0, "sigma": sigma, "r": r, "x_p": samples}
    said = get("double_descent_pole").predict(p, {"x": np.array([float(features)])})[0]
    error = np.std(risks) / np.sqrt(len(risks))
    assert error < 0.03 * said
    # At finite size the variance is larger by a factor of |n - p| / (|n - p| - 1), here at most 1.3 %.
    assert abs(np.mean(risks) - said) < 3 * error + 0.015 * said


def test_a_pole_between_or_on_the_points_is_no_accident():
    """Test errors of least squares at widths that include the number of samples itself, where the risk diverges."""
    x = np.array([10, 20, 40, 60, 80, 90, 95, 100, 105, 110, 130, 160, 200, 400, 800.0])
    for law, p in [
        ("double_descent_pole", TestDoubleDescentPole.truth),
        ("interpolation_pole", TestInterpolationPole.truth),
    ]:
        on = get(law).predict(p | {"x_p": 100.0}, {"x": x})
        assert np.isfinite(on).all() and on[7] > 1e100 and (np.delete(on, 7) < 1e3).all()
        y = get(law).predict(p | {"x_p": 101.0}, {"x": x})
        fitted = workbench.fit(pd.DataFrame({"width": x, "error": y}), law, x="width", y="error")
        assert fitted.params["x_p"] == pytest.approx(101, rel=1e-5)


def test_a_threshold_is_half_way_at_its_middle_and_as_wide_as_said():
    p = {"a": 5.0, "b": 1.0, "x_0": 1500.0, "w": 0.3}
    quarter = 1500 * 3**-0.3
    y = get("threshold").predict(p, {"x": np.array([1e-3, quarter, 1500, quarter * 9**0.3, 1e9])})
    assert y == pytest.approx([5.0, 4.0, 3.0, 2.0, 1.0], rel=1e-9)


def test_a_threshold_may_rise():
    x = np.geomspace(10, 1e5, 40)
    p = {"a": 0.05, "b": 0.98, "x_0": 800.0, "w": 0.2}
    table = pd.DataFrame({"steps": x, "accuracy": get("threshold").predict(p, {"x": x})})
    assert workbench.fit(table, "threshold", y="accuracy").params == pytest.approx(p, rel=1e-5)


def test_below_the_critical_fraction_it_never_groks():
    p = TestGrokTime.truth
    t = get("grok_time").predict(p, {"x": np.array([0.1, 0.3, 0.301, 0.8, 1e6])})
    assert np.isinf(t[:2]).all() and t[2] > 1e5 and t[4] == pytest.approx(300.0, rel=1e-4)
    assert t[3] == pytest.approx(300 + 60 * 0.5**-1.4)


def test_a_straight_line_is_the_least_squares_line_and_may_rise():
    rng = np.random.default_rng(0)
    x = np.geomspace(1e6, 1e9, 15)
    y = -2.0 + 0.15 * np.log(x) + rng.normal(0, 0.01, 15)
    fitted = workbench.fit(pd.DataFrame({"params": x, "accuracy": y}), "logarithmic", y="accuracy", objective="mse")
    slope, level = np.polyfit(np.log(x), y, 1)
    assert (fitted.params["a"], fitted.params["b"]) == pytest.approx((level, -slope), rel=1e-6)


def test_stretching_by_one_is_the_exponential_and_two_powers_have_two_slopes():
    x = {"x": np.linspace(1e20, 1e22, 10)}
    p = TestExponential.truth
    stretched = get("stretched_exponential").predict(p | {"beta": 1.0}, x)
    np.testing.assert_allclose(stretched, get("exponential").predict(p, x), rtol=1e-14)
    p = TestTwoPower.truth | {"E": 0.0, "a": 0.0}
    assert slope(get("two_power"), p, 1e-20) == pytest.approx(-0.75, abs=1e-6)
    assert slope(get("two_power"), p, 1e25) == pytest.approx(-0.25, abs=1e-6)
